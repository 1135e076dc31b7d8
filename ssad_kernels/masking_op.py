# SPDX-License-Identifier: Apache-2.0
"""The ops behind `ssad_kernels.masking`: what they accept, their kernels and gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssad_kernels import _backend, reference
from ssad_kernels._errors import (
    FLOATS,
    check_device,
    check_dtype,
    check_images,
    check_shape,
    wording,
)
from ssad_kernels._op import define_op
from ssad_kernels.random import check_keys, check_stream

# The numbers are those of csrc/include/ssad/masking.h.
KINDS = {"split": 0, "bernoulli": 1, "checkerboard": 2}
MOST_PARTS = 32  # a bit each


def _check_sides(op: str, height: int, width: int) -> None:
    """Raise ValueError unless an image may be so large."""
    for name, side in (("height", height), ("width", width)):
        if not 1 <= side < 1 << 24:
            raise ValueError(wording(op, name, "be in 1...16777215", side))


def _check_row(op: str, name: str, row: Tensor, n: int, dtype: torch.dtype, like: Tensor) -> None:
    """A number for each image, (N,)."""
    check_dtype(op, name, row, [dtype])
    check_shape(op, name, row, (n,))
    check_device(op, name, row, like.device)


def _check_cell_masks(
    keys: Tensor,
    stream: int,
    height: int,
    width: int,
    cell: Tensor,
    parts: int,
    kind: str,
    hide: float,
) -> None:
    op = "cell_masks"
    check_keys(op, keys)
    check_stream(op, stream)
    _check_sides(op, height, width)
    _check_row(op, "cell", cell, keys.shape[0], torch.int64, keys)
    if kind not in KINDS:
        raise ValueError(wording(op, "kind", f"be one of {', '.join(KINDS)}", repr(kind)))
    if kind == "checkerboard" and parts != 2:
        raise ValueError(wording(op, "parts", "be 2 for a checkerboard", parts))
    if not 1 <= parts <= MOST_PARTS:
        raise ValueError(wording(op, "parts", f"be in 1...{MOST_PARTS}", parts))
    if not 0.0 <= hide <= 1.0:
        raise ValueError(wording(op, "hide", "be in 0...1", hide))


def _check_masks(op: str, masks: Tensor, images: Tensor) -> None:
    n, _, height, width = images.shape
    check_dtype(op, "masks", masks, [torch.bool])
    check_shape(op, "masks", masks, (n, "P", height, width))
    if not 1 <= masks.shape[1] <= MOST_PARTS:
        must = f"have 1 to {MOST_PARTS} parts, (N, P, H, W)"
        raise ValueError(wording(op, "masks", must, tuple(masks.shape)))
    check_device(op, "masks", masks, images.device)


def _check_mask_images(images: Tensor, masks: Tensor) -> None:
    check_images("mask_images", images)
    _check_masks("mask_images", masks, images)


def _check_composite(outputs: Tensor, masks: Tensor, images: Tensor) -> None:
    op = "composite"
    check_images(op, images, dtypes=FLOATS)
    _check_masks(op, masks, images)
    check_dtype(op, "outputs", outputs, [images.dtype])
    check_shape(op, "outputs", outputs, (images.shape[0], masks.shape[1], *images.shape[1:]))
    check_device(op, "outputs", outputs, images.device)


def _check_refine(
    scores: Tensor, masks: Tensor, cell: Tensor, threshold: Tensor, share: float | None
) -> None:
    op = "refine_cells"
    check_images(op, scores, argument="scores", dtypes=FLOATS)
    n, channels, height, width = scores.shape
    if channels != 1:
        check_shape(op, "scores", scores, (n, 1, height, width))
    _check_masks(op, masks, scores)
    _check_row(op, "cell", cell, n, torch.int64, scores)
    _check_row(op, "threshold", threshold, n, torch.float64, scores)
    if share is not None and not 0.0 <= share <= 1.0:
        raise ValueError(wording(op, "share", "be None or in 0...1", share))


def _allocate_cell_masks(keys: Tensor, stream: int, height: int, width: int, *rest: Any) -> Tensor:
    return keys.new_empty((keys.shape[0], rest[1], height, width), dtype=torch.bool)


def _allocate_composite(outputs: Tensor, masks: Tensor, images: Tensor) -> Tensor:
    return torch.empty_like(images, memory_format=torch.contiguous_format)


def _allocate_refine(scores: Tensor, masks: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    refined = torch.empty_like(masks, memory_format=torch.contiguous_format)
    return refined, masks.new_empty(masks.shape[:1], dtype=torch.int64)


def _cpu_cell_masks(
    keys: Tensor,
    stream: int,
    height: int,
    width: int,
    cell: Tensor,
    parts: int,
    kind: str,
    hide: float,
    out: Tensor,
) -> None:
    keys, cell = keys.contiguous(), cell.contiguous()
    _backend.native.cell_masks(
        [keys.data_ptr(), cell.data_ptr(), out.data_ptr()],
        [keys.shape[0], stream, height, width, parts],
        reference.masking.smallest_cell(height, width, reference.masking.count_draws(kind, parts)),
        KINDS[kind],
        reference.masking.hide_below(hide),
        torch.get_num_threads(),
    )


def _cpu_mask_images(images: Tensor, masks: Tensor, out: Tensor) -> None:
    is_interleaved = reference.masking.is_interleaved(images)
    if not is_interleaved:
        images = images.contiguous()
    masks = masks.contiguous()
    _backend.native.mask_images(
        [images.data_ptr(), masks.data_ptr(), out.data_ptr()],
        images.element_size(),
        [*masks.shape[:2], *images.shape[1:]],
        is_interleaved,
        torch.get_num_threads(),
    )


def _cpu_composite(outputs: Tensor, masks: Tensor, images: Tensor, out: Tensor) -> None:
    given = [tensor.contiguous() for tensor in (outputs, masks, images)]
    _backend.native.composite(
        [tensor.data_ptr() for tensor in (*given, out)],
        _backend.NATIVE_DTYPES[outputs.dtype],
        outputs.shape,
        torch.get_num_threads(),
    )


def _cpu_refine(scores: Tensor, masks: Tensor, *rest: Any) -> None:
    *rows, share, refined, hidden = rest
    compute = torch.float64 if scores.dtype == torch.float64 else torch.float32
    given = [tensor.contiguous() for tensor in (scores.to(compute), masks, *rows)]
    _backend.native.refine_cells(
        [tensor.data_ptr() for tensor in (*given, refined, hidden)],
        _backend.NATIVE_DTYPES[compute],
        masks.shape,
        -1.0 if share is None else share,
        torch.get_num_threads(),
    )


def _triton(name: str) -> Any:
    def launch(*args: Any) -> None:
        from ssad_kernels.triton import masking  # Triton is slow to import, and optional

        getattr(masking, f"launch_{name}")(*args)

    return launch


def _save_masks(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])


def _backward_mask_images(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    (masks,) = ctx.saved_tensors
    return torch.where(masks[:, :, None], gradient, 0).sum(1), None


def _backward_composite(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    (masks,) = ctx.saved_tensors
    hidden = ~masks
    count = hidden.sum(1, keepdim=True)
    to_outputs = to_images = None
    if ctx.needs_input_grad[0]:
        to_outputs = mask_images(gradient / count.clamp(min=1), hidden)
    if ctx.needs_input_grad[2]:
        to_images = torch.where(count == 0, gradient, 0)
    return to_outputs, None, to_images


cell_masks = define_op(
    "cell_masks(Tensor keys, int stream, SymInt height, SymInt width, Tensor cell, int parts, "
    "str kind, float hide) -> Tensor",
    check=_check_cell_masks,
    allocate=_allocate_cell_masks,
    cpu=_cpu_cell_masks,
    triton=_triton("cell_masks"),
    reference=reference.masking.cell_masks,
)

mask_images = define_op(
    "mask_images(Tensor images, Tensor masks) -> Tensor",
    check=_check_mask_images,
    allocate=reference.masking.allocate_masked,
    cpu=_cpu_mask_images,
    triton=_triton("mask_images"),
    reference=reference.masking.mask_images,
    setup_context=_save_masks,
    backward=_backward_mask_images,
)

composite = define_op(
    "composite(Tensor outputs, Tensor masks, Tensor images) -> Tensor",
    check=_check_composite,
    allocate=_allocate_composite,
    cpu=_cpu_composite,
    triton=_triton("composite"),
    reference=reference.masking.composite,
    setup_context=_save_masks,
    backward=_backward_composite,
)

refine_cells = define_op(
    "refine_cells(Tensor scores, Tensor masks, Tensor cell, Tensor threshold, float? share) "
    "-> (Tensor, Tensor)",
    check=_check_refine,
    allocate=_allocate_refine,
    cpu=_cpu_refine,
    triton=_triton("refine_cells"),
    reference=reference.masking.refine_cells,
)
