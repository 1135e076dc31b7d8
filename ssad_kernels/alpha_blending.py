# SPDX-License-Identifier: Apache-2.0
"""Alpha blending: a patch of one image shines through in another, or takes its place.

The convex mixture of foreign patch interpolation: Tan, Hou, Batten, Qiu and Kainz, "Detecting
Outliers with Foreign Patch Interpolation", MELBA 2022.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import torch
from torch import Tensor

from ssad_kernels import _backend, reference
from ssad_kernels._errors import FLOATS, check_dtype, check_tensor, wording
from ssad_kernels._op import define_op
from ssad_kernels._status import raise_for_status
from ssad_kernels.blending_op import MASK_KINDS, check_patches, check_row, patch_tensors, unshared

_ALPHA: tuple[str, torch.dtype, tuple[int, ...]] = ("alpha", torch.float64, ())


def alpha_blend_(
    target: Tensor,
    source: Tensor,
    mask: Tensor | None,
    top_left: Tensor,
    *,
    sizes: Tensor | None = None,
    source_index: Tensor | None = None,
    source_box: Tensor | None = None,
    alpha: Tensor | float = 1.0,
    compat: Literal["reference"] | None = None,
    strict: bool = False,
    return_status: bool = False,
) -> Any:
    """Mix a patch into each image, in place: (1 - w) target + w patch, w = alpha times the mask.

    Where w is 0 the target keeps its bits; where it is 1 the patch takes its place, bit for bit if
    it is not resized (a NaN as any NaN). Between, a value that is not finite, in either image,
    makes this one pixel so and no other. The source shows as it was before the call even if it
    shares memory with the target; then it is copied.

    Args:
        target: (N, C, H, W), C = 1...4, H and W below 2²⁴, uint8 in 0...255 or float16, bfloat16,
            float32 or float64; any strides.
        source: (M, C, h, w) like ``target``; without ``source_index``, M >= N.
        mask: (N, mh, mw) or (N, 1, mh, mw) in the patch's pixels, from its top-left corner; what
            lies beyond the patch is ignored. bool, uint8 with 255 = inside, or a float in 0...1
            (clamped). None: the whole patch, 1.
        top_left: (N, 2) int64 ``(y, x)`` in the target of the patch's first pixel; what falls
            outside of the image is not blended.
        sizes: (N, 2) int64 ``(height, width)`` of the patch, from the source's corner. Default: the
            box's, or the whole source. Not larger than ``mask``.
        source_index: (N,) int64, the source of each sample; default: its own number.
        source_box: (N, 4) int64 ``(y, x, h, w)`` within the source: the patch is this box, resized
            to ``sizes`` as by ``interpolate(mode="bilinear")``, not rounded, without antialiasing.
        alpha: a number, or (N,) of any float dtype; 0...1 (clamped).
        compat: "reference" rounds a resized patch to whole levels and the result down, as the
            released code of natural synthetic anomalies does. uint8 only.
        strict: raise if a sample could not be applied; waits for the device.
        return_status: also return what became of each sample, (N,) int8, see `Status`.

    Returns:
        ``target`` itself; then the status if asked for: EMPTY for a size or a box below one pixel,
        or if the mask is nowhere above zero; NO_PLACE for a patch outside of the image, larger than
        its mask, or not within a source; NOT_FINITE for an alpha that is not finite, or a mask that
        is NaN; or CLIPPED or APPLIED. A sample that is not applied keeps its bits.

    Raises:
        TypeError: for a dtype or kind that is not listed above.
        ValueError: for a shape, a device or options that do not fit, or tensors that require a
            gradient.
        RuntimeError: with ``strict``, or if the backend asked for is missing.

    Gradient: none; see `alpha_blend`. Determinism: bitwise within a backend and instruction set, in
    any batch, for any number of threads; within one grey level or 1e-5 across them. Numbers:
    float32 arithmetic, float64 for float64 images; uint8 is rounded once.

    Example:
        >>> import torch
        >>> target = torch.full((1, 1, 3, 4), 100, dtype=torch.uint8)
        >>> source = torch.full((1, 1, 2, 2), 50, dtype=torch.uint8)
        >>> _ = alpha_blend_(target, source, None, torch.tensor([[1, 1]]), alpha=0.25)
        >>> target[0, 0].tolist()[1]
        [100, 88, 88, 100]
    """
    op = "alpha_blend_"
    for name, value in (("target", target), ("source", source), ("mask", mask), ("alpha", alpha)):
        if isinstance(value, Tensor) and value.requires_grad and torch.is_grad_enabled():
            must = "not require a gradient (alpha_blend has one)"
            raise ValueError(wording(op, name, must, "True"))
    places = (top_left, sizes, source_index, source_box)
    status = _alpha_blend_(*_arguments(op, target, source, mask, places, alpha, compat))
    if strict:
        raise_for_status(op, status)
    return (target, status) if return_status else target


def alpha_blend(
    target: Tensor,
    source: Tensor,
    mask: Tensor | None,
    top_left: Tensor,
    *,
    sizes: Tensor | None = None,
    source_index: Tensor | None = None,
    source_box: Tensor | None = None,
    alpha: Tensor | float = 1.0,
    compat: Literal["reference"] | None = None,
    strict: bool = False,
    return_status: bool = False,
) -> Any:
    """Like `alpha_blend_`, but the target given stays as it is, and floats have a gradient.

    Args:
        target: (N, C, H, W), see `alpha_blend_` for this and all other arguments.
        source: (M, C, h, w).
        mask: (N, mh, mw), (N, 1, mh, mw) or None.
        top_left: (N, 2) int64.
        sizes: (N, 2) int64.
        source_index: (N,) int64.
        source_box: (N, 4) int64.
        alpha: a number, or (N,).
        compat: None or "reference".
        strict: raise if a sample could not be applied; waits for the device.
        return_status: also return what became of each sample, (N,) int8, see `Status`.

    Returns:
        New images (N, C, H, W); then the status if asked for.

    Raises:
        TypeError, ValueError, RuntimeError: as `alpha_blend_`; tensors may require a gradient.

    Gradient: with respect to ``target`` and ``source`` of a float dtype; higher ones too. None for
    masks and alpha. A sample that is not applied has the gradient of a copy. Determinism: the bits
    of `alpha_blend_`; on GPUs the gradient by ``source`` sums in any order.

    Example:
        >>> import torch
        >>> target = torch.rand(2, 3, 32, 32, requires_grad=True)
        >>> out = alpha_blend(target, torch.rand(2, 3, 8, 8), None, torch.zeros(2, 2).long())
        >>> out.sum().backward()
        >>> out.shape, int(target.grad.sum())
        (torch.Size([2, 3, 32, 32]), 5760)
    """
    op = "alpha_blend"
    places = (top_left, sizes, source_index, source_box)
    out, status = _alpha_blend(*_arguments(op, target, source, mask, places, alpha, compat))
    if strict:
        raise_for_status(op, status)
    return (out, status) if return_status else out


def _arguments(
    op: str,
    target: Tensor,
    source: Tensor,
    mask: Tensor | None,
    places: tuple[Tensor | None, ...],
    alpha: Tensor | float,
    compat: str | None,
) -> tuple[Any, ...]:
    """The arguments of the op: numbers become rows."""
    target, source, mask = patch_tensors(op, target, source, mask, places)
    row: Tensor | None = None
    if not isinstance(alpha, (int, float)):
        check_tensor(op, "alpha", alpha)
        check_dtype(op, "alpha", alpha, FLOATS)
        row = alpha.to(torch.float64)
    elif alpha != 1.0:
        n = target.shape[0] if target.dim() else 0
        row = torch.full((n,), alpha, dtype=torch.float64, device=target.device)
    if compat not in (None, "reference"):
        raise ValueError(wording(op, "compat", "be one of None, reference", compat))
    return target, source, mask, *places, row, compat is not None


def _check(
    op: str,
    target: Tensor,
    source: Tensor,
    mask: Tensor | None,
    *rest: Any,
) -> None:
    *places, alpha, is_reference = rest
    check_patches(op, target, source, mask, *places)
    check_row(op, _ALPHA, alpha, target)
    if is_reference and target.dtype != torch.uint8:
        must = "be None for images that are not uint8"
        raise ValueError(wording(op, "compat", must, "reference"))


def _allocate(target: Tensor, *_: Any) -> Tensor:
    return target.new_empty((target.shape[0],), dtype=torch.int8)


def _allocate_copy(target: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(target), _allocate(target)


def _cpu(target: Tensor, source: Tensor, mask: Tensor | None, *rest: Any) -> None:
    *rows, is_reference, status = rest
    source = unshared(target, source)
    given = [None if row is None else row.contiguous() for row in (mask, *rows)]
    address, *addresses, alpha = (0 if row is None else row.data_ptr() for row in given)
    _backend.native.alpha_blend(
        [target.data_ptr(), source.data_ptr()],
        _backend.NATIVE_DTYPES[target.dtype],
        target.shape,
        target.stride(),
        source.shape,
        source.stride(),
        address,
        0 if mask is None else MASK_KINDS[mask.dtype],
        [0, 0] if mask is None else mask.shape[1:],
        addresses,
        alpha,
        is_reference,
        status.data_ptr(),
        torch.get_num_threads(),
    )


def _cpu_copy(target: Tensor, *rest: Any) -> None:
    *arguments, out, status = rest
    _cpu(out.copy_(target), *arguments, status)


def _triton(target: Tensor, source: Tensor, *rest: Any) -> None:
    from ssad_kernels.triton.alpha_blending import launch  # Triton is slow to import, and optional

    launch(target, unshared(target, source), *rest)


def _triton_copy(target: Tensor, *rest: Any) -> None:
    *arguments, out, status = rest
    _triton(out.copy_(target), *arguments, status)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:-1])


def _backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    target, source, *rest = ctx.saved_tensors
    where, weight = reference.alpha_blending.weigh(target, source, *rest)
    compute = torch.float64 if target.dtype == torch.float64 else torch.float32
    weight, gradient = weight.to(compute), gradient.to(compute)
    to_target = to_source = None
    if ctx.needs_input_grad[0]:
        to_target = ((1.0 - weight) * gradient).to(target.dtype)
    if ctx.needs_input_grad[1]:
        codes = torch.zeros_like(where.image)
        adjoint = reference.blending.paste_adjoint(weight * gradient, where, codes, source)
        to_source = adjoint.to(source.dtype)
    return to_target, to_source, *(None,) * 7


_ARGUMENTS = (
    "Tensor source, Tensor? mask, Tensor top_left, Tensor? sizes, Tensor? source_index, "
    "Tensor? source_box, Tensor? alpha, bool is_reference"
)

_alpha_blend_ = define_op(
    f"alpha_blend_(Tensor(a!) target, {_ARGUMENTS}) -> Tensor status",
    check=functools.partial(_check, "alpha_blend_"),
    allocate=_allocate,
    cpu=_cpu,
    triton=_triton,
    reference=reference.alpha_blending.alpha_blend_,
)

_alpha_blend = define_op(
    f"alpha_blend(Tensor target, {_ARGUMENTS}) -> (Tensor out, Tensor status)",
    check=functools.partial(_check, "alpha_blend"),
    allocate=_allocate_copy,
    cpu=_cpu_copy,
    triton=_triton_copy,
    reference=reference.alpha_blending.alpha_blend,
    setup_context=_save_for_backward,
    backward=_backward,
)
