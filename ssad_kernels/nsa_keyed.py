# SPDX-License-Identifier: Apache-2.0
"""Natural synthetic anomalies in one op, from keys to labels; see `nsa_steps` for its steps."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ssad_kernels import _backend
from ssad_kernels._errors import (
    check_device,
    check_dtype,
    check_images,
    check_shape,
    check_tensor,
    wording,
)
from ssad_kernels._op import define_op
from ssad_kernels.blending import stop_of
from ssad_kernels.blending_op import REGIONS
from ssad_kernels.labels import (
    background_bounds,
    check_background,
    is_otsu,
    object_mask,
    threshold_of,
)
from ssad_kernels.labels_op import KINDS, check_size, native_bounds
from ssad_kernels.nsa import check_masks, dense
from ssad_kernels.nsa_law import NsaLaw, native_law, native_quantiles, pack_law, unpacked_law
from ssad_kernels.nsa_steps import LABEL_RADIUS, NsaStyle, apply_nsa, draw_nsa
from ssad_kernels.poisson import MAX_ITERATIONS
from ssad_kernels.random import STREAMS, check_keys, check_stream

# The numbers are those of csrc/include/ssad/nsa_keyed.h.
GRADIENTS: dict[str, int] = {
    "source": 0,
    "mixed": 1,
    "average": 2,
    "monochrome": 3,
    "mix": 4,
    "scaled": 5,
    "swap": 6,
    "uniform": 7,
}


def nsa_keyed(
    images: Tensor,
    keys: Tensor,
    law: NsaLaw,
    style: NsaStyle,
    *,
    stream: int,
    bank: Tensor | None = None,
    masks: Tensor | None = None,
    bank_masks: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Images with patches of others, and their labels, in one call.

    The same as `object_mask`, `sample_nsa`, `nsa_regions`, `poisson_blend_` or `alpha_blend_` for
    one patch after another, and `difference_label`, for when the parameters are not needed. A law
    with ``is_reference`` also blends as the released code: seams as of ``cv2.seamlessClone``, odd
    widths one pixel to the right, mixtures rounded down.

    Args:
        images: (N, C, H, W), C = 1...4, uint8 in 0...255, or float16, bfloat16, float32 or float64
            with white = 1; uint8 alone with ``law.is_reference``.
        keys: (N, 3) int64, see `make_keys`, on the images' device.
        law: what to draw from.
        style: how to blend, and to label.
        stream: 0...65535, as in `sample_nsa`; to 65471 with "mix", whose coin is 64 further.
        bank: (M, C, H, W) like the images, to cut patches from. Default: the other images of the
            batch; then the draw depends on the batch.
        masks: (N, 1, H, W) bool, where the images show an object, instead of ``style.background``.
        bank_masks: (M, 1, H, W) bool, likewise of the bank; by default found by
            ``style.background``.

    Returns:
        New images; labels (N, 1, H, W) float32; and what became of each sample, (N,) int8, see
        `Status`: APPLIED if one of its patches was, else GATED, NO_PLACE, or what kept its first
        patch from being blended. A sample that is not applied keeps its bits and has a label of
        zeros.

    Raises:
        TypeError: for a dtype or kind that is not listed above.
        ValueError: for a shape, a device or options that do not fit, or a law that is no
            distribution.

    Gradient: none. Determinism: the bits of the steps, in any batch if there is a bank, and for any
    number of threads.

    Example:
        >>> import torch
        >>> from ssad_kernels import make_keys
        >>> images = torch.rand(4, 3, 64, 64)
        >>> keys = make_keys(0, 0, torch.arange(4))
        >>> out, label, status = nsa_keyed(images, keys, NsaLaw(), NsaStyle(), stream=7)
        >>> label.shape, status.tolist()
        (torch.Size([4, 1, 64, 64]), [0, 0, 0, 0])
    """
    op = "nsa_keyed"
    given = {"bank": bank, "masks": masks, "bank_masks": bank_masks}
    for name, value in (("images", images), ("keys", keys), *given.items()):
        if value is not None or name not in given:
            check_tensor(op, name, value)
    background = style.background
    if bank is not None and bank_masks is None and background is not None:
        bank_masks = object_mask(bank, background)
    out, label, status = _nsa_keyed(
        images.detach(),
        keys,
        None if bank is None else bank.detach(),
        masks,
        bank_masks,
        stream,
        *pack_style(law, style, finds_objects=masks is None),
    )
    return out, label, status


def pack_style(law: NsaLaw, style: NsaStyle, *, finds_objects: bool = True) -> tuple[Any, ...]:
    """A law and a style as the op takes them."""
    background: Any = style.background if finds_objects else None
    if background is not None:  # none of two numbers for "otsu"
        background = [] if is_otsu("nsa_keyed", background) else [float(x) for x in background]
    return (
        pack_law("nsa_keyed", law),
        style.gradient,
        style.region,
        style.label,
        [style.steepness, style.midpoint, style.tolerance],
        style.size,
        background,
    )


def _check(*args: Any) -> None:
    op = "nsa_keyed"
    images, keys, bank, masks, bank_masks, stream, law, gradient, region, label, *rest = args
    numbers, size, background = rest
    check_images(op, images)
    check_keys(op, keys)
    check_stream(op, stream + (STREAMS["coin"] if gradient == "mix" else 0))
    n, _, height, width = images.shape
    check_shape(op, "keys", keys, (n, 3))
    drawn = unpacked_law(op, *law)
    if drawn.is_reference:
        check_dtype(op, "images", images, [torch.uint8])
    if bank is not None:
        check_bank(op, images, bank, drawn)
    for name, tensor in (("keys", keys), ("masks", masks), ("bank_masks", bank_masks)):
        if tensor is not None:
            check_device(op, name, tensor, images.device)
    has_masks = masks is not None or background is not None
    if (bank_masks is not None) != (has_masks and bank is not None):
        must = "be given for objects in a bank, and for them alone"
        raise ValueError(
            wording(op, "bank_masks", must, "some" if bank_masks is not None else None)
        )
    if masks is not None or bank_masks is not None:
        check_masks(op, bank_masks, masks, (n, height, width))
    if bank_masks is not None:
        check_shape(op, "bank_masks", bank_masks, (bank.shape[0], 1, height, width))
    choices: tuple[tuple[str, str, Any], ...] = (
        ("gradient", gradient, GRADIENTS),
        ("region", region, ("mask", "rect")),
        ("label", label, KINDS),
    )
    for name, word, words in choices:
        if word not in words:
            raise ValueError(wording(op, name, f"be one of {', '.join(words)}", repr(word)))
    if drawn.is_reference and gradient == "average":
        raise ValueError(wording(op, "gradient", "not be average with is_reference", gradient))
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)) or not numbers[2] >= 0:
        must = "hold a finite steepness, midpoint and tolerance >= 0"
        raise ValueError(wording(op, "style", must, numbers))
    check_size(op, size)
    if background:
        check_background(op, *background)


def check_bank(op: str, images: Tensor, bank: Tensor, law: NsaLaw) -> None:
    """Check that a bank suits images that are checked."""
    check_images(op, bank, argument="bank")
    if law.same_source:
        raise ValueError(wording(op, "bank", 'be None with source="same"', "a bank"))
    if not bank.shape[0]:
        raise ValueError(wording(op, "bank", "hold at least one image", tuple(bank.shape)))
    check_dtype(op, "bank", bank, [images.dtype])
    check_device(op, "bank", bank, images.device)
    if bank.shape[1:] != images.shape[1:]:
        must = f"have images like those to be changed, {tuple(images.shape[1:])}"
        raise ValueError(wording(op, "bank", must, tuple(bank.shape[1:])))


def _allocate(images: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    n, _, height, width = images.shape
    return (
        torch.empty_like(images),
        images.new_empty((n, 1, height, width), dtype=torch.float32),
        images.new_empty((n,), dtype=torch.int8),
    )


def _cpu(*args: Any) -> None:
    images, keys, bank, masks, bank_masks, stream, law, gradient, region, kind, *rest = args
    (steepness, midpoint, tolerance), size, background, out, label, status = rest
    out.copy_(images)
    sources = images if bank is None else bank
    _kept, (key_address, *mask_addresses) = dense(keys, masks, bank_masks)
    bounds, side = native_law(images.shape[2], images.shape[3], *law)
    finds_objects, low, high = background is not None and masks is None, 0.0, 0.0
    if background:
        low, high = background_bounds("nsa_keyed", images, *background)
        low, high = native_bounds(images.dtype, low, high)
    region = "opencv" if law[-1] != 0.0 else region  # is_reference
    views = images, sources, out
    _backend.native.nsa_keyed(
        [view.data_ptr() for view in views],
        _backend.NATIVE_DTYPES[images.dtype],
        [view.shape for view in views],
        [view.stride() for view in views],
        bank is not None,
        key_address,
        (stream, stream + STREAMS["coin"]),
        law,
        bounds,
        side,
        native_quantiles().data_ptr(),
        mask_addresses,
        (finds_objects, not background, low, high),
        (
            GRADIENTS[gradient],
            REGIONS[region],
            KINDS[kind],
            size,
            LABEL_RADIUS,
        ),
        (*stop_of(images.dtype), MAX_ITERATIONS["multigrid"]),
        (steepness, midpoint, threshold_of(images, tolerance)),
        (label.data_ptr(), status.data_ptr()),
        torch.get_num_threads(),
    )


def _steps(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The op as its steps, each of which finds its backend."""
    images, keys, bank, masks, bank_masks, stream, law, gradient, region, kind, *rest = args
    (steepness, midpoint, tolerance), size, background = rest
    drawn = unpacked_law("nsa_keyed", *law)
    found: Any = tuple(background) if background else "otsu"
    style = NsaStyle(gradient, region, found, kind, steepness, midpoint, tolerance, size)
    if background is not None and masks is None:
        masks = object_mask(images, found)
    source_masks = masks if bank is None else bank_masks
    draw = draw_nsa(
        keys,
        images.shape[2],
        images.shape[3],
        drawn,
        gradient,
        stream=stream,
        sources=None if bank is None else bank.shape[0],
        masks=masks,
        source_masks=source_masks,
    )
    return apply_nsa(images, draw, drawn, style, bank=bank, masks=masks, source_masks=source_masks)


def _triton(*args_and_outputs: Any) -> None:
    """The steps again: on a GPU they are launched without waiting for one another."""
    args, outputs = args_and_outputs[:-3], args_and_outputs[-3:]
    for output, found in zip(outputs, _steps(*args), strict=True):
        output.copy_(found)


_nsa_keyed = define_op(
    "nsa_keyed(Tensor images, Tensor keys, Tensor? bank, Tensor? masks, Tensor? bank_masks, "
    "int stream, float[] law, str gradient, str region, str label, float[] numbers, int size, "
    "float[]? background) -> (Tensor out, Tensor label, Tensor status)",
    check=_check,
    allocate=_allocate,
    cpu=_cpu,
    triton=_triton,
    reference=_steps,
)
