# SPDX-License-Identifier: Apache-2.0
"""CutPaste and CutPaste-Scar: a patch of an image, recoloured and turned, pasted elsewhere.

Li, Sohn, Yoon and Pfister, "CutPaste: Self-Supervised Learning for Anomaly Detection and
Localization", CVPR 2021.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ssad_kernels import _backend, reference
from ssad_kernels._errors import (
    check_device,
    check_dtype,
    check_images,
    check_shape,
    check_tensor,
    wording,
)
from ssad_kernels._op import define_op
from ssad_kernels._status import raise_for_status

# Dtype and shape after N of each field of CutPasteParams: those that are always there, and those
# that may be None.
PARAM_ROWS = (
    ("source_index", torch.int64, ()),
    ("source_box", torch.int64, (4,)),
    ("target", torch.int64, (2,)),
    ("angle", torch.float32, ()),
    ("jitter", torch.float32, (4,)),
    ("order", torch.int64, (4,)),
    ("apply", torch.bool, ()),
)
_MOVE_ROWS = (("turns", torch.int64, ()), ("shift", torch.int64, (2,)))
_ROWS = (*PARAM_ROWS, *_MOVE_ROWS)


class CutPasteParams(NamedTuple):
    """What to do with each sample of a batch; one row per sample, on the images' device.

    Attributes:
        source_index: (N,) int64, the image of the batch that the patch is cut from.
        source_box: (N, 4) int64 ``(y, x, h, w)`` in pixels, half-open. What lies outside of the
            source image, once turned and shifted, is not pasted.
        target: (N, 2) int64 ``(y, x)``, the top-left corner of the rotated patch's canvas. What
            falls outside of the image is not pasted.
        angle: (N,) float32 degrees, counter-clockwise about the patch's centre. The canvas grows to
            hold the turned patch, whose pixels are looked up by nearest neighbour.
        jitter: (N, 4) float32: factors for brightness, contrast and saturation (1 = unchanged), and
            a shift of the hue in turns (0 = unchanged).
        order: (N, 4) int64, the order in which brightness 0, contrast 1, saturation 2 and hue 3 are
            changed. Any other number stands for nothing.
        apply: (N,) bool; a sample with False is left as it is.
        turns: (N,) int64, quarter turns counter-clockwise of the source image before it is cut, any
            integer; None for none. An odd number makes an image of H x W one of W x H.
        shift: (N, 2) int64 ``(y, x)`` pixels, any integers: how far the turned image is shifted
            before it is cut. What leaves it comes back on the other side. None for nothing.
    """

    source_index: Tensor
    source_box: Tensor
    target: Tensor
    angle: Tensor
    jitter: Tensor
    order: Tensor
    apply: Tensor
    turns: Tensor | None = None
    shift: Tensor | None = None

    @classmethod
    def of(
        cls,
        source_box: Any,
        target: Any,
        *,
        source_index: Any = None,
        angle: Any = None,
        jitter: Any = None,
        order: Any = None,
        apply: Any = None,
        turns: Any = None,
        shift: Any = None,
        device: torch.device | str | None = None,
    ) -> CutPasteParams:
        """Parameters by hand, from tensors or nested lists: what is not given changes nothing.

        Args:
            source_box: (N, 4), as above.
            target: (N, 2).
            source_index: (N,), default: every image is its own source.
            angle: (N,), default 0.
            jitter: (N, 4), default (1, 1, 1, 0).
            order: (N, 4), default (0, 1, 2, 3).
            apply: (N,), default True.
            turns: (N,), default None.
            shift: (N, 2), default None.
            device: where the parameters are put; default: that of ``source_box``, or the CPU.

        Raises:
            TypeError: for floats where integers belong.
            ValueError: for a wrong shape.
        """
        box = torch.as_tensor(source_box, device=device)
        n = len(box)
        neutral = torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(n, 1)
        given = (
            torch.arange(n) if source_index is None else source_index,
            box,
            target,
            torch.zeros(n) if angle is None else angle,
            neutral if jitter is None else jitter,
            torch.arange(4).repeat(n, 1) if order is None else order,
            torch.ones(n, dtype=torch.bool) if apply is None else apply,
            turns,
            shift,
        )
        fields: list[Any] = []
        for (name, dtype, tail), value in zip(_ROWS, given, strict=True):
            if value is None:
                fields.append(None)
                continue
            field = torch.as_tensor(value, device=box.device)
            if field.numel() == 0:  # an empty list has no dtype and one dimension
                field = field.reshape(n, *tail).to(dtype)
            if field.is_floating_point() and not dtype.is_floating_point:
                check_dtype("CutPasteParams.of", name, field, [dtype])
            check_shape("CutPasteParams.of", name, field, (n, *tail))
            fields.append(field.to(dtype))
        return cls(*fields)

    def map(self, function: Callable[[Tensor], Tensor]) -> CutPasteParams:
        """Parameters of which each tensor went through a function, such as ``lambda x: x[:5]``.

        Args:
            function: called with each field that is not None.
        """
        fields: list[Any] = [None if field is None else function(field) for field in self]
        return CutPasteParams(*fields)


def cut_paste_(
    images: Tensor, params: CutPasteParams, *, strict: bool = False, return_status: bool = False
) -> tuple[Tensor, ...]:
    """Paste a patch into each image, in place: only the pixels of the patches are written.

    The patch shows the images as they were before the call, even if it overlaps its target or
    comes from another image of the batch. It is recoloured with torchvision's formulas for colour
    jitter, each step clamped to black and white but not rounded; contrast refers to the mean grey
    of the patch. With three or more channels the first three are RGB, otherwise the first is grey;
    further channels are pasted as they are, and one without colour has no saturation or hue.

    A pixel that is NaN or infinite makes the colours of its own jittered patch arbitrary, at most.

    Args:
        images: (N, C, H, W), C = 1...4, H and W below 2²⁴, uint8 in 0...255 or float16, bfloat16,
            float32 or float64 with white = 1; any strides, contiguous and channels-last are fast.
        params: one row per sample, see `CutPasteParams`.
        strict: raise if a sample could not be applied; waits for the device.
        return_status: also return what became of each sample, (N,) int8, see `Status`.

    Returns:
        ``images`` itself and the masks (N, 1, H, W) bool, True where a pixel was pasted; then the
        status if asked for. A sample that is not applied keeps its bits and has an empty mask.

    Raises:
        TypeError: for a dtype or kind that is not listed above.
        ValueError: for a shape, a device, or images that require a gradient.
        RuntimeError: with ``strict``, or if the backend asked for is missing.

    Gradient: none. Determinism: bitwise within a backend and instruction set, in any batch, for any
    number of threads; masks and geometry on every device; pixels within one grey level or 1e-5
    across devices. Numbers: float32 arithmetic, float64 for float64 images; for uint8 on a CPU
    16-bit fixed point, off by less than a tenth of a level before the one rounding.

    Example:
        >>> import torch
        >>> images = torch.arange(16, dtype=torch.uint8).reshape(1, 1, 4, 4)
        >>> images, masks = cut_paste_(images, CutPasteParams.of([[0, 0, 2, 2]], [[2, 2]]))
        >>> images[0, 0, 2:, 2:].tolist(), int(masks.sum())
        ([[0, 1], [4, 5]], 4)
    """
    check_tensors("cut_paste_", images, *_named("cut_paste_", params))
    mask, status = _cut_paste_(images, *params)
    if strict:
        raise_for_status("cut_paste_", status)
    return (images, mask, status) if return_status else (images, mask)


def cut_paste(
    images: Tensor, params: CutPasteParams, *, strict: bool = False, return_status: bool = False
) -> tuple[Tensor, ...]:
    """Like `cut_paste_`, but the images given stay as they are.

    Each image is copied, cut and pasted while it is in the cache, so this costs little more than a
    clone; prefer it to cloning and `cut_paste_`.

    Args:
        images: (N, C, H, W), see `cut_paste_`.
        params: one row per sample, see `CutPasteParams`.
        strict: raise if a sample could not be applied; waits for the device.
        return_status: also return what became of each sample, (N,) int8, see `Status`.

    Returns:
        New images (N, C, H, W) and the masks (N, 1, H, W) bool; then the status if asked for.

    Raises:
        TypeError, ValueError, RuntimeError: as `cut_paste_`.

    Gradient: none. Determinism: the bits of `cut_paste_`.
    """
    check_tensors("cut_paste", images, *_named("cut_paste", params))
    out, mask, status = _cut_paste(images, *params)
    if strict:
        raise_for_status("cut_paste", status)
    return (out, mask, status) if return_status else (out, mask)


def check_tensors(op: str, images: Tensor, *others: tuple[str, Tensor]) -> None:
    """Check what torch's dispatcher would accept, or reject with a text of its own."""
    for name, value in (("images", images), *others):
        check_tensor(op, name, value)
        if value.requires_grad and torch.is_grad_enabled():
            raise ValueError(wording(op, name, "not require a gradient", "True"))


def _named(op: str, params: CutPasteParams) -> Iterable[tuple[str, Tensor]]:
    if not isinstance(params, tuple) or len(params) != len(CutPasteParams._fields):
        raise TypeError(wording(op, "params", "be CutPasteParams", type(params).__name__))
    always = len(PARAM_ROWS)
    named: Iterable[tuple[str, Any]] = zip(
        CutPasteParams._fields[:always], params[:always], strict=True
    )
    if params[-2] is None and params[-1] is None:  # nearly always
        return named
    moves = zip(CutPasteParams._fields[always:], params[always:], strict=True)
    return itertools.chain(named, (move for move in moves if move[1] is not None))


def _check(op: str, images: Tensor, *params: Tensor | None) -> None:
    check_images(op, images, is_written=op.endswith("_"))
    n, device = images.shape[0], images.device
    for (name, dtype, tail), value in zip(_ROWS, params, strict=True):
        if value is None:
            continue
        if value.dtype is not dtype:
            check_dtype(op, name, value, [dtype])
        if value.shape != (n, *tail):
            check_shape(op, name, value, (n, *tail))
        if value.device != device:
            check_device(op, name, value, device)


def allocate_masks(images: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    """The mask and status of a batch, uninitialised."""
    n, _, h, w = images.shape
    mask = images.new_empty((n, 1, h, w), dtype=torch.bool)
    return mask, images.new_empty((n,), dtype=torch.int8)


def allocate_copy(images: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """An image batch like the one given, mask and status, uninitialised."""
    return torch.empty_like(images), *allocate_masks(images)


def native_views(images: Tensor, out: Tensor) -> tuple[Any, ...]:
    """Source and result as the C++ functions take them: addresses, dtype, shape, strides.

    C++ copies sample by sample, while the pixels are in the cache; a layout in which samples are
    not blocks of memory is copied here, and pasted in place.
    """
    n, c, h, w = out.shape
    if images is not out:
        strides = out.stride()
        if images.stride() != strides or (n > 1 and strides[0] != c * h * w):
            images = out.copy_(images)
    return (
        images.data_ptr(),
        out.data_ptr(),
        _backend.NATIVE_DTYPES[out.dtype],
        out.shape,
        out.stride(),
    )


def _cpu(images: Tensor, *params_and_outputs: Any) -> None:
    *params, mask, status = params_and_outputs
    _cpu_copy(images, *params, images, mask, status)


def _cpu_copy(images: Tensor, *params_and_outputs: Any) -> None:
    *params, out, mask, status = params_and_outputs
    rows = [None if value is None else value.contiguous() for value in params]
    _backend.native.cut_paste(
        *native_views(images, out),
        [0 if row is None else row.data_ptr() for row in rows],
        mask.data_ptr(),
        status.data_ptr(),
        torch.get_num_threads(),
    )


def launch_triton(*args: Any) -> None:
    """Run the Triton kernels: the arguments of `cut_paste_`, then its outputs."""
    from ssad_kernels.triton.cutpaste import launch  # Triton is slow to import, and optional

    launch(*args)


def _triton_copy(images: Tensor, *params_and_outputs: Any) -> None:
    *params, out, mask, status = params_and_outputs
    launch_triton(out.copy_(images), *params, mask, status)


def _reference_copy(images: Tensor, *params: Any) -> tuple[Tensor, Tensor, Tensor]:
    out = images.clone()
    return out, *reference.cutpaste.cut_paste_(out, *params)


_PARAMS = (
    "Tensor source_index, Tensor source_box, Tensor target, Tensor angle, Tensor jitter, "
    "Tensor order, Tensor apply, Tensor? turns, Tensor? shift"
)

_cut_paste_ = define_op(
    f"cut_paste_(Tensor(a!) images, {_PARAMS}) -> (Tensor mask, Tensor status)",
    check=functools.partial(_check, "cut_paste_"),
    allocate=allocate_masks,
    cpu=_cpu,
    triton=launch_triton,
    reference=reference.cutpaste.cut_paste_,
)

_cut_paste = define_op(
    f"cut_paste(Tensor images, {_PARAMS}) -> (Tensor out, Tensor mask, Tensor status)",
    check=functools.partial(_check, "cut_paste"),
    allocate=allocate_copy,
    cpu=_cpu_copy,
    triton=_triton_copy,
    reference=_reference_copy,
)
