# SPDX-License-Identifier: Apache-2.0
"""The op behind `ssad_kernels.poisson_blend`: what it accepts, its kernels and its gradient."""

from __future__ import annotations

import functools
from typing import Any, Final

import torch
from torch import Tensor

from ssad_kernels import _backend, reference
from ssad_kernels._arrays import has_memory, plain
from ssad_kernels._errors import (
    check_device,
    check_dtype,
    check_images,
    check_shape,
    check_tensor,
    wording,
)
from ssad_kernels._op import Limits, define_op
from ssad_kernels._status import is_applied
from ssad_kernels.poisson import BACKWARD_RTOL, SOLVERS, check_stop, poisson_solve

REGIONS = {"mask": 0, "rect": 1, "opencv": 2}
MASK_KINDS = {torch.bool: 1, torch.uint8: 2, torch.float32: 3}
# Of csrc/cuda/blend.h: what a block takes. Rectangles are solved by multigrid, too.
_LARGEST_CUDA_SIDE: Final = 64
_CUDA_SOLVERS = ("multigrid", "sine")
# Dtype and shape after N of the rows of parameters, in the order of the schema.
ROWS: tuple[tuple[str, torch.dtype, tuple[int, ...]], ...] = (
    ("top_left", torch.int64, (2,)),
    ("sizes", torch.int64, (2,)),
    ("source_index", torch.int64, ()),
    ("source_box", torch.int64, (4,)),
    ("gradient", torch.int64, ()),
    ("source_gain", torch.float64, ()),
    ("target_gain", torch.float64, ()),
)


def check_patches(
    op: str,
    target: Tensor,
    source: Tensor,
    mask: Tensor | None,
    *rows: Tensor | None,
) -> None:
    """Check images, mask and the first four of `ROWS`: what every way to blend a patch takes."""
    check_images(op, target, argument="target", is_written=op.endswith("_"))
    n, device = target.shape[0], target.device
    check_images(op, source, argument="source")
    check_dtype(op, "source", source, [target.dtype])
    if source.shape[1] != target.shape[1]:
        check_shape(op, "source", source, ("M", target.shape[1], "h", "w"))
    check_device(op, "source", source, device)
    if rows[2] is None and source.shape[0] < n:
        must = f"hold at least N = {n} images without source_index"
        raise ValueError(wording(op, "source", must, source.shape[0]))
    if mask is not None:
        check_dtype(op, "mask", mask, MASK_KINDS)
        check_shape(op, "mask", mask, (n, "h", "w"))
        if 0 in mask.shape[1:]:
            must = "have at least one pixel, (N, h, w)"
            raise ValueError(wording(op, "mask", must, tuple(mask.shape)))
        check_device(op, "mask", mask, device)
        (mask_h, mask_w), (h, w) = mask.shape[1:], source.shape[2:]
        if rows[1] is None and rows[3] is None and (mask_h < h or mask_w < w):
            must = f"cover the source {(h, w)} where no sizes are given"
            raise ValueError(wording(op, "mask", must, (mask_h, mask_w)))
    for row, value in zip(ROWS, rows, strict=False):
        check_row(op, row, value, target)


def check_row(
    op: str, row: tuple[str, torch.dtype, tuple[int, ...]], value: Tensor | None, target: Tensor
) -> None:
    """Check one row of parameters, given its name, dtype and shape after N."""
    name, dtype, tail = row
    if value is None:
        return
    shape = (target.shape[0], *tail)
    if value.dtype is not dtype:
        check_dtype(op, name, value, [dtype])
    if value.shape != shape:
        check_shape(op, name, value, shape)
    if value.device != target.device:
        check_device(op, name, value, target.device)


def _check(
    op: str,
    target: Tensor,
    source: Tensor,
    mask: Tensor | None,
    *rest: Any,
) -> None:
    rows, (region, solver, tol, rtol, max_iterations) = rest[:7], rest[7:]
    check_patches(op, target, source, mask, *rows[:4])
    for row, value in zip(ROWS[4:], rows[4:], strict=True):
        check_row(op, row, value, target)
    if region == "opencv":
        check_dtype(op, "target", target, [torch.uint8])
        for (name, _, _), gain in zip(ROWS[5:], rows[5:], strict=True):
            if gain is not None:
                raise ValueError(wording(op, name, "be None with compat", "a gain"))
    for name, value, names in (("region", region, REGIONS), ("solver", solver, SOLVERS)):
        if value not in names:
            raise ValueError(wording(op, name, f"be one of {', '.join(names)}", value))
    if solver == "sine" and region == "mask" and mask is not None:
        raise ValueError(wording(op, "solver", "not be sine for a mask of any shape", solver))
    check_stop(op, tol, rtol, max_iterations)


def patch_tensors(
    op: str,
    target: Tensor,
    source: Tensor,
    mask: Tensor | None,
    places: tuple[Tensor | None, ...],
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Target, source and mask as ops on patches take them, once all are known to be tensors."""
    named: list[tuple[str, Any]] = [("target", target), ("source", source), ("mask", mask)]
    named += [(row[0], value) for row, value in zip(ROWS, places, strict=False)]
    for name, value in named:
        if value is not None or name in ("target", "source", "top_left"):
            check_tensor(op, name, value)
    # Kinds of tv_tensors cannot be mixed in an op.
    target, source = plain(target), plain(source)
    if mask is not None:
        mask = plain(mask)
        mask = mask.squeeze(1) if mask.dim() == 4 and mask.shape[1] == 1 else mask
        mask = mask.float() if mask.is_floating_point() else mask
    return target, source, mask


def _allocate(target: Tensor, *_: Any) -> Tensor:
    return target.new_empty((target.shape[0],), dtype=torch.int8)


def _allocate_copy(target: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(target), _allocate(target)


def unshared(target: Tensor, source: Tensor) -> Tensor:
    """The source, or a copy if it may lie in the memory of the target."""
    if not (has_memory(target) and has_memory(source)):
        return source.clone()
    (begin, end), (source_begin, source_end) = _storage(target), _storage(source)
    return source.clone() if begin < source_end and source_begin < end else source


def _storage(tensor: Tensor) -> tuple[int, int]:
    """The addresses between which a tensor's memory lies."""
    storage = tensor.untyped_storage()
    begin = storage.data_ptr()
    return begin, begin + storage.nbytes()


def _run_native(
    kernel: Any, target: Tensor, source: Tensor, mask: Tensor | None, *rest: Any, last: Any
) -> None:
    *rows, region, solver, tol, rtol, max_iterations, status = rest
    source = unshared(target, source)
    mask = None if mask is None else unshared(target, mask)
    given = [None if row is None else row.contiguous() for row in (mask, *rows)]
    address, *addresses = (0 if row is None else row.data_ptr() for row in given)
    kernel(
        [target.data_ptr(), source.data_ptr()],
        _backend.NATIVE_DTYPES[target.dtype],
        target.shape,
        target.stride(),
        source.shape,
        source.stride(),
        address,
        _mask_kind(mask),
        [0, 0] if mask is None else mask.shape[1:],
        addresses,
        REGIONS[region],
        SOLVERS[solver],
        tol,
        rtol,
        max_iterations,
        status.data_ptr(),
        *last,
    )


def _mask_kind(mask: Tensor | None) -> int:
    return 0 if mask is None else MASK_KINDS[mask.dtype]


def _cpu(*args: Any) -> None:
    _run_native(_backend.native.poisson_blend, *args, last=[torch.get_num_threads()])


def _cuda(target: Tensor, *rest: Any) -> None:
    last = [_largest_side(target, *rest), _backend.stream_of(target)]
    with torch.cuda.device_of(target):
        _run_native(_backend.native.cuda_poisson_blend, target, *rest, last=last)


def _largest_side(
    target: Tensor,
    source: Tensor,
    mask: Tensor | None,
    top_left: Tensor,
    sizes: Tensor | None,
    *_: Any,
) -> int:
    """What no side of a patch, as far as it lies in the target, exceeds."""
    limits = [target]
    limits += [mask] if mask is not None else []
    limits += [source] if sizes is None else []
    return max(min(tensor.shape[dim] for tensor in limits) for dim in (-2, -1))


def _cuda_serves(target: Tensor, source: Tensor, mask: Tensor | None, *rest: Any) -> bool:
    solver = rest[8]
    side = _largest_side(target, source, mask, *rest)
    if solver not in _CUDA_SOLVERS or target.dtype == torch.float64 or side > _LARGEST_CUDA_SIDE:
        return False
    if not (target.is_cuda and has_memory(target)):  # emulated, or traced
        return True
    taken = _backend.native.cuda_poisson_blend_bytes(side, target.shape[1], _mask_kind(mask))
    return bool(taken <= _backend.shared_bytes_of(target.device))


def _cpu_copy(target: Tensor, *rest: Any) -> None:
    *arguments, out, status = rest
    _cpu(out.copy_(target), *arguments, status)


def _cuda_copy(target: Tensor, *rest: Any) -> None:
    *arguments, out, status = rest
    _cuda(out.copy_(target), *arguments, status)


def _triton(target: Tensor, source: Tensor, *rest: Any) -> None:
    from ssad_kernels.triton.blending import launch  # Triton is slow to import, and optional

    launch(target, unshared(target, source), *rest)


def _triton_copy(target: Tensor, *rest: Any) -> None:
    *arguments, out, status = rest
    _triton(out.copy_(target), *arguments, status)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.region, _, _, _, _ = inputs
    ctx.save_for_backward(*tensors, output[1])


def _backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    """The adjoint: A is symmetric, so is each map from an image to its part of the guidance.

    With A = -Laplacian, u = inverse(A) (E target - div(a grad source) - div(b grad target)), where
    E sums the neighbours that are not unknown. Unknowns everywhere add the target's mean instead.
    """
    target, source, mask, top_left, sizes, index, box, *rest = ctx.saved_tensors
    codes, source_gain, target_gain, status = rest
    choice = codes, source_gain, target_gain, ctx.region
    op = reference.blending
    compute = torch.float64 if target.dtype == torch.float64 else torch.float32
    gradient = gradient.to(compute)
    where = op.plan(target, source, mask, top_left, sizes, index, box, *choice)
    unknowns = where.unknowns & is_applied(status)[:, None, None, None]
    where = where._replace(unknowns=unknowns)
    zeros = torch.zeros_like(gradient)
    rtol = BACKWARD_RTOL[compute]
    adjoint = poisson_solve(-gradient, unknowns, zeros, tol=0.0, rtol=rtol)

    pasted = op.paste(source.detach().to(compute), where, codes)
    values = target.detach().to(compute)
    factors = op.coefficients(pasted, values, where, *choice)
    of_source, of_target = zip(*factors, strict=True)
    to_target = to_source = None
    if ctx.needs_input_grad[0]:
        outside = gradient + reference.poisson.neighbour_sum(adjoint)
        is_full = unknowns.flatten(1).all(1)[:, None, None, None]
        mean = gradient.mean((-2, -1), keepdim=True)
        to_target = torch.where(is_full, mean, torch.where(unknowns, zeros, outside))
        to_target = (to_target - op.laplacian(adjoint, of_target)).to(target.dtype)
    if ctx.needs_input_grad[1]:
        to_source = -op.laplacian(adjoint, of_source)
        to_source = op.paste_adjoint(to_source, where, codes, source).to(source.dtype)
    return to_target, to_source, *(None,) * 13


_CUDA_LIMITS = Limits(
    f"multigrid and sine, all but float64, patches of at most {_LARGEST_CUDA_SIDE} pixels a side "
    "(going by the shapes), as far as a block's shared memory holds them",
    _cuda_serves,
)
_ARGUMENTS = (
    "Tensor source, Tensor? mask, Tensor top_left, Tensor? sizes, Tensor? source_index, "
    "Tensor? source_box, Tensor gradient, Tensor? source_gain, Tensor? target_gain, str region, "
    "str solver, float tol, float rtol, int max_iterations"
)

poisson_blend_ = define_op(
    f"poisson_blend_(Tensor(a!) target, {_ARGUMENTS}) -> Tensor status",
    check=functools.partial(_check, "poisson_blend_"),
    allocate=_allocate,
    cpu=_cpu,
    cuda=_cuda,
    cuda_limits=_CUDA_LIMITS,
    triton=_triton,
    reference=reference.blending.poisson_blend_,
)

poisson_blend = define_op(
    f"poisson_blend(Tensor target, {_ARGUMENTS}) -> (Tensor out, Tensor status)",
    check=functools.partial(_check, "poisson_blend"),
    allocate=_allocate_copy,
    cpu=_cpu_copy,
    cuda=_cuda_copy,
    cuda_limits=_CUDA_LIMITS,
    triton=_triton_copy,
    reference=reference.blending.poisson_blend,
    setup_context=_save_for_backward,
    backward=_backward,
)
