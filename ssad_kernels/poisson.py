# SPDX-License-Identifier: Apache-2.0
"""Poisson's equation on pixel masks: the solver behind seamless blending.

Pérez, Gangnet and Blake, "Poisson Image Editing", SIGGRAPH 2003.
"""

from __future__ import annotations

import math
import operator
from typing import Any, Final, Literal, NamedTuple

import torch
from torch import Tensor

from ssad_kernels import _backend, reference
from ssad_kernels._arrays import has_memory
from ssad_kernels._errors import check_device, check_dtype, check_shape, check_tensor, wording
from ssad_kernels._op import Limits, define_op

Solver = Literal["auto", "multigrid", "sor", "jacobi", "sine"]

SOLVERS = {"multigrid": 0, "sor": 1, "jacobi": 2, "sine": 3}
# Safety stops. Multigrid needs few iterations for any mask, over-relaxation about as many as a side
# has pixels, Jacobi the square of that.
MAX_ITERATIONS = {"multigrid": 40, "sor": 2000, "jacobi": 20000}
# Where to stop, (tol, rtol): a fiftieth of a grey level, as far as float32 can tell; for float64
# nine digits.
TOLERANCES = {torch.float32: (0.02 / 255, 1e-6), torch.float64: (0.0, 1e-9)}
# A gradient has no scale of its own.
BACKWARD_RTOL = {torch.float32: 1e-5, torch.float64: 1e-9}
# The shorter side up to which "auto" takes a sine transform, whose time per pixel grows with it.
# Squares, one thread: multigrid took 4 to 5 times as long at 128 to 256 pixels, 2.5 at 1024, 1.5 at
# 2048 with AVX-512; the product is half as fast with AVX2.
_LARGEST_SINE: Final = 1024
# Of csrc/cuda/poisson.h: what a block takes; what it takes of any GPU, since larger planes ask for
# much shared memory; and all sides of a plane being the image's.
_CUDA_SIDES: Final = {"multigrid": 128, "jacobi": 64, "sor": 32, "sine": 128}
_ANY_GPU_SIDE: Final = 64
_ALL_SIDES: Final = 15


class PoissonInfo(NamedTuple):
    """How the planes of a batch were solved.

    Attributes:
        status: (N, C) int8, see `Status`: APPLIED; NOT_CONVERGED, stopped by ``max_iterations``;
            NOT_FINITE, the unknowns are NaN because a value that they depend on is not finite.
        iterations: (N, C) int32, cycles of multigrid or sweeps of the other solvers.
        residual: (N, C), the largest |Laplace(u) - rhs| over the mask.
    """

    status: Tensor
    iterations: Tensor
    residual: Tensor


def poisson_solve(
    rhs: Tensor,
    mask: Tensor | None,
    boundary: Tensor,
    *,
    solver: Solver = "auto",
    tol: float | None = None,
    rtol: float | None = None,
    max_iterations: int | None = None,
    return_info: bool = False,
) -> Any:
    """Solve Laplace(u) = rhs on a mask, with u = boundary around it.

    The Laplacian at a pixel is the sum of (neighbour - pixel) over its neighbours above, below,
    left and right, as far as they lie in the image: where a mask touches the image's border the
    condition is natural. A mask that covers its whole image touches no boundary pixel; then u is
    free up to a constant, and rhs must sum to zero. There u gets the mean of ``boundary``, and the
    mean of ``rhs`` is dropped.

    Args:
        rhs: (N, C, H, W) float32 or float64; read inside the mask only.
        mask: (N, H, W) or (N, 1, H, W) bool, True where u is unknown; None for every pixel but the
            outermost ones.
        boundary: (N, C, H, W) like ``rhs``; read outside the mask only (whole for a full mask).
        solver: "multigrid" (conjugate gradients preconditioned by one V(1,1) red-black cycle; the
            time per pixel hardly depends on the mask), "sor" (red-black over-relaxation), "jacobi"
            (damped, slow: the textbook's baseline), "sine" (exact, without iterations, only where
            ``mask`` is None: sine transform along the shorter side, elimination along the other
            one), or "auto": sine where there is no mask and the shorter side is at most 1024,
            otherwise multigrid.
        tol: stop when the estimated error is at most this, in units of u. Default: 0.02 / 255, a
            fiftieth of a grey level when white is 1, for float32; 0 for float64.
        rtol: or at most this part of the first correction. Default: 0 if ``tol`` is given,
            otherwise 1e-6 for float32, 1e-9 for float64.
        max_iterations: stop there in any case. Default: 40 for multigrid, 2000 for sor, 20000 for
            jacobi.
        return_info: also return a `PoissonInfo`.

    Returns:
        u (N, C, H, W), outside the mask the bits of ``boundary``; then the info if asked for.

    Raises:
        TypeError: for other dtypes or kinds.
        ValueError: for shapes, devices or options that do not fit, "sine" with a mask among them.
        RuntimeError: if the backend asked for is missing.

    Gradient: with respect to ``rhs`` and ``boundary``, by one more solve, to 1e-5 (float32) or 1e-9
    of its size; higher ones too. Determinism: bitwise within a backend and instruction set, in any
    batch, for any number of threads; across them within the tolerance. A plane that is not finite
    leaves the others alone. Numbers: float32 or float64 like the input.

    The reference solves to rounding whatever solver, tolerance and iterations are asked for.

    Example:
        >>> import torch
        >>> mask = torch.zeros(1, 5, 5, dtype=torch.bool)
        >>> mask[:, 1:4, 1:4] = True
        >>> ramp = torch.arange(5.0).expand(1, 1, 5, 5)
        >>> poisson_solve(torch.zeros(1, 1, 5, 5), mask, ramp)[0, 0, 2].round(decimals=3).tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    op = "poisson_solve"
    for name, value in (("rhs", rhs), ("mask", mask), ("boundary", boundary)):
        if value is not None or name != "mask":
            check_tensor(op, name, value)
    if mask is not None and mask.dim() == 4 and mask.shape[1] == 1:
        mask = mask.squeeze(1)
    if solver == "auto":
        is_small = min(rhs.shape[-2:], default=0) <= _LARGEST_SINE
        solver = "sine" if mask is None and is_small else "multigrid"
    default_tol, default_rtol = TOLERANCES.get(rhs.dtype, (0.0, 0.0))
    if rtol is None:
        rtol = default_rtol if tol is None else 0.0
    if tol is None:
        tol = default_tol
    if max_iterations is None:
        max_iterations = MAX_ITERATIONS.get(solver, 1)
    u, *info = _poisson_solve(
        rhs, mask, boundary, solver, float(tol), float(rtol), operator.index(max_iterations)
    )
    return (u, PoissonInfo(*info)) if return_info else u


def _check(
    rhs: Tensor,
    mask: Tensor | None,
    boundary: Tensor,
    solver: str,
    tol: float,
    rtol: float,
    max_iterations: int,
) -> None:
    op = "poisson_solve"
    check_dtype(op, "rhs", rhs, TOLERANCES)
    if mask is not None:
        check_dtype(op, "mask", mask, [torch.bool])
    check_dtype(op, "boundary", boundary, [rhs.dtype])
    check_shape(op, "rhs", rhs, ("N", "C", "H", "W"))
    n, _, h, w = rhs.shape
    if not (1 <= h < 1 << 24 and 1 <= w < 1 << 24):
        must = "have at least one pixel, (N, C, H, W), and sides below 2²⁴"
        raise ValueError(wording(op, "rhs", must, tuple(rhs.shape)))
    if mask is not None:
        check_shape(op, "mask", mask, (n, h, w))
        check_device(op, "mask", mask, rhs.device)
    check_shape(op, "boundary", boundary, rhs.shape)
    check_device(op, "boundary", boundary, rhs.device)
    if solver not in SOLVERS:
        must = "be one of auto, " + ", ".join(SOLVERS)
        raise ValueError(wording(op, "solver", must, solver))
    if solver == "sine" and mask is not None:
        must = "be another one than sine where there is a mask"
        raise ValueError(wording(op, "solver", must, solver))
    check_stop(op, tol, rtol, max_iterations)


def check_stop(op: str, tol: float, rtol: float, max_iterations: int) -> None:
    """Raise ValueError unless a solver can stop there."""
    for name, value in (("tol", tol), ("rtol", rtol)):
        if not 0.0 <= value < math.inf:
            raise ValueError(wording(op, name, "be finite and not negative", value))
    if not 1 <= max_iterations < 1 << 31:
        raise ValueError(wording(op, "max_iterations", "be in 1...2147483647", max_iterations))


def _allocate(rhs: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    planes = rhs.shape[:2]
    return (
        rhs.new_empty(rhs.shape),
        rhs.new_empty(planes, dtype=torch.int8),
        rhs.new_empty(planes, dtype=torch.int32),
        rhs.new_empty(planes),
    )


def _cpu(
    rhs: Tensor,
    mask: Tensor | None,
    boundary: Tensor,
    solver: str,
    tol: float,
    rtol: float,
    max_iterations: int,
    *outputs: Tensor,
) -> None:
    if mask is not None:  # bytes that are 0 or 1, whatever they were before they were bool
        mask = mask.view(torch.uint8) != 0
    inputs = [value if value is None else value.contiguous() for value in (rhs, mask, boundary)]
    _backend.native.poisson_solve(
        [0 if value is None else value.data_ptr() for value in inputs],
        _backend.NATIVE_DTYPES[rhs.dtype],
        rhs.shape,
        SOLVERS[solver],
        tol,
        rtol,
        max_iterations,
        [value.data_ptr() for value in outputs],
        torch.get_num_threads(),
    )


def _triton(*args: Any) -> None:
    from ssad_kernels.triton.poisson import launch  # Triton is slow to import, and optional

    launch(*args)


def _cuda(
    rhs: Tensor,
    mask: Tensor | None,
    boundary: Tensor,
    solver: str,
    tol: float,
    rtol: float,
    max_iterations: int,
    *outputs: Tensor,
) -> None:
    n, _, h, w = rhs.shape
    natural = None
    if solver != "sine":
        natural = torch.full((n,), _ALL_SIDES, dtype=torch.uint8, device=rhs.device)
        if mask is None:
            mask = reference.poisson.all_but_the_ring(rhs)[0].expand(n, h, w)
        mask = (mask.view(torch.uint8) != 0).contiguous()  # as for the CPU
    scratch = rhs.new_empty(_backend.native.cuda_poisson_scratch_size(SOLVERS[solver], rhs.shape))
    inputs = [natural, rhs.contiguous(), mask, boundary.contiguous()]
    with torch.cuda.device_of(rhs):
        _backend.native.cuda_poisson_solve(
            [0 if value is None else value.data_ptr() for value in inputs],
            rhs.shape,
            SOLVERS[solver],
            tol,
            rtol,
            max_iterations,
            [value.data_ptr() for value in outputs],
            scratch.data_ptr(),
            _backend.stream_of(rhs),
        )


def _cuda_serves(rhs: Tensor, mask: Tensor | None, boundary: Tensor, solver: str, *_: Any) -> bool:
    side = max(rhs.shape[2:])
    if rhs.dtype != torch.float32 or side > _CUDA_SIDES[solver]:
        return False
    if solver != "multigrid" or side <= _ANY_GPU_SIDE or not (rhs.is_cuda and has_memory(rhs)):
        return True  # the last: emulated, or traced
    return _gpu_has_room(rhs.device, side)


def _gpu_has_room(gpu: torch.device | int, side: int) -> bool:
    """Whether a GPU has the shared memory that multigrid takes for a plane."""
    return bool(_backend.native.cuda_multigrid_bytes(side) <= _backend.shared_bytes_of(gpu))


def _what_cuda_serves() -> str:
    sides = {solver: str(side) for solver, side in _CUDA_SIDES.items()}
    gpus = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    small = [gpu for gpu in gpus if not _gpu_has_room(gpu, _CUDA_SIDES["multigrid"])]
    if small:
        names = sorted({torch.cuda.get_device_name(gpu) for gpu in small})
        sides["multigrid"] += f" ({_ANY_GPU_SIDE} on {', '.join(names)})"
    return "float32, pixels a side: " + ", ".join(f"{key} to {side}" for key, side in sides.items())


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, mask, _, ctx.solver, _, _, ctx.max_iterations = inputs
    ctx.save_for_backward(mask)


def _backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    """The adjoint: A is symmetric, so the gradient inside the mask is solved for as u was.

    With A = -Laplacian, u = inverse(A) (E boundary - rhs), where E sums the neighbours outside of
    the mask. A full mask adds the mean of the boundary instead.
    """
    (mask,) = ctx.saved_tensors
    rtol = BACKWARD_RTOL[gradient.dtype]
    zeros = torch.zeros_like(gradient)
    adjoint = _poisson_solve(-gradient, mask, zeros, ctx.solver, 0.0, rtol, ctx.max_iterations)[0]
    inside = mask[:, None] if mask is not None else reference.poisson.all_but_the_ring(gradient)
    outside = gradient + reference.poisson.neighbour_sum(adjoint)
    is_full = inside.all(dim=-1, keepdim=True).all(dim=-2, keepdim=True)
    mean = gradient.mean((-2, -1), keepdim=True)
    to_boundary = torch.where(is_full, mean, torch.where(inside, zeros, outside))
    return -adjoint, None, to_boundary, None, None, None, None


_poisson_solve = define_op(
    "poisson_solve(Tensor rhs, Tensor? mask, Tensor boundary, str solver, float tol, float rtol, "
    "int max_iterations) -> (Tensor u, Tensor status, Tensor iterations, Tensor residual)",
    check=_check,
    allocate=_allocate,
    cpu=_cpu,
    cuda=_cuda,
    cuda_limits=Limits(_what_cuda_serves, _cuda_serves),
    triton=_triton,
    reference=reference.poisson.poisson_solve,
    setup_context=_save_for_backward,
    backward=_backward,
)
