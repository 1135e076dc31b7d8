# SPDX-License-Identifier: Apache-2.0
"""The iterations that solve A x = b: one program a plane, which ends when its plane is solved."""

import triton
import triton.language as tl

from ssad_kernels._status import Status
from ssad_kernels.triton._variants import Variant
from ssad_kernels.triton.poisson_cycle import BLACK, RED, count_of, points_of, v_cycle
from ssad_kernels.triton.poisson_mask import (
    BLOCK,
    COLUMNS,
    HEIGHT,
    LEVELS,
    OPTIONS,
    UNKNOWNS,
    WIDTH,
    neighbour_sum,
    place_of,
    plane_size,
    read_sides,
)
from ssad_kernels.triton.poisson_plane import APPLIED, SCALE, TERMS, remove_mean

_NOT_CONVERGED = tl.constexpr(int(Status.NOT_CONVERGED))
_OPEN, _CONVERGED, _STOPPED = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
_DAMPING = tl.constexpr(0.8)


@triton.jit
def _copy(source, to, size, block: tl.constexpr):
    for start in range(0, size, block):
        at = start + tl.arange(0, block)
        tl.store(to + at, tl.load(source + at, mask=at < size, other=0), mask=at < size)
    tl.debug_barrier()


@triton.jit
def _look_at_correction(r, z, size, block: tl.constexpr):
    """The largest of z, and z . r."""
    most = tl.zeros((block,), z.dtype.element_ty)
    product = tl.zeros((block,), z.dtype.element_ty)
    for start in range(0, size, block):
        at = start + tl.arange(0, block)
        value = tl.load(z + at, mask=at < size, other=0)
        most = tl.maximum(most, tl.abs(value))
        product += tl.load(r + at, mask=at < size, other=0) * value
    return tl.max(most, axis=0).to(tl.float64), tl.sum(product.to(tl.float64), axis=0)


@triton.jit
def _turn(z, p, beta, size, block: tl.constexpr):
    """Step to p = z + beta p."""
    for start in range(0, size, block):
        at = start + tl.arange(0, block)
        value = beta * tl.load(p + at, mask=at < size, other=0)
        tl.store(p + at, tl.load(z + at, mask=at < size, other=0) + value, mask=at < size)
    tl.debug_barrier()


@triton.jit
def _apply(degrees, p, q, width, size, block: tl.constexpr):
    """Fill q = A p; returns p . q."""
    product = tl.zeros((block,), q.dtype.element_ty)
    for start in range(0, size, block):
        at = start + tl.arange(0, block)
        degree = tl.load(degrees + at, mask=at < size, other=0)
        own = tl.load(p + at, mask=at < size, other=0)
        value = degree * own - neighbour_sum(p + at, width, degree > 0)
        tl.store(q + at, value, mask=at < size)
        product += own * value
    return tl.sum(product.to(tl.float64), axis=0)


@triton.jit
def _advance(x, r, p, q, alpha, size, block: tl.constexpr):
    """Add alpha p to x, and take alpha q from r."""
    for start in range(0, size, block):
        at = start + tl.arange(0, block)
        mask = at < size
        solution = tl.load(x + at, mask=mask, other=0)
        tl.store(x + at, solution + alpha * tl.load(p + at, mask=mask, other=0), mask=mask)
        rest = tl.load(r + at, mask=mask, other=0)
        tl.store(r + at, rest - alpha * tl.load(q + at, mask=mask, other=0), mask=mask)
    tl.debug_barrier()


@triton.jit
def _finish(status, iterations, state, count):
    tl.store(status, tl.where(state == _CONVERGED, APPLIED, _NOT_CONVERGED).to(tl.int8))
    tl.store(iterations, count)


@triton.jit
def _poisson_multigrid_kernel(
    b, x, p, q, residuals, corrections, inverses, degrees, table, terms, status, iterations,
    pixels, channels, mask_step, room, max_iterations, tol: tl.float64, rtol: tl.float64,
    block: tl.constexpr,
):  # fmt: skip
    """Conjugate gradients, preconditioned by a V-cycle; see csrc/cpu/poisson_iterate.h.

    x and p are zero on entry.
    """
    index = tl.program_id(0).to(tl.int64)
    row = index // channels * mask_step
    known = table + COLUMNS * row
    inverse = inverses + row * room
    degrees += row * room
    b += index * room
    x += index * room
    p += index * room
    q += index * room
    r = residuals + index * room
    z = corrections + index * room
    compute: tl.constexpr = x.dtype.element_ty
    unknowns = tl.load(known + UNKNOWNS)
    h, w = tl.load(known + HEIGHT), tl.load(known + WIDTH)
    levels = tl.load(known + LEVELS).to(tl.int32)
    top, bottom, left, right = read_sides(known)
    size = plane_size(h, w)
    if (unknowns > 0) & (tl.load(status + index) == APPLIED):
        _copy(b, r, size, block)
        limit = tol * tl.load(terms + TERMS * index + SCALE).to(tl.float64)
        product_before = tl.full((), 1.0, tl.float64)
        state = tl.full((), _OPEN, tl.int32)
        count = tl.full((), 0, tl.int32)
        while state == _OPEN:
            if unknowns == pixels:
                remove_mean(r, inverse, size, pixels, block)
            v_cycle(r, z, inverse, h, w, levels, top, bottom, left, right, block)
            if unknowns == pixels:
                remove_mean(z, inverse, size, pixels, block)
            largest, product = _look_at_correction(r, z, size, block)
            limit = tl.where(count == 0, tl.maximum(limit, rtol * largest), limit)
            state = tl.where(count == max_iterations, _STOPPED, state)
            state = tl.where(largest <= limit, _CONVERGED, state)
            if state == _OPEN:
                beta = tl.where(count == 0, 0.0, product / product_before)
                product_before = product
                _turn(z, p, beta.to(compute), size, block)
                curvature = _apply(degrees, p, q, w, size, block)
                is_sound = curvature > 0.0
                alpha = product / tl.where(is_sound, curvature, 1.0)
                alpha = tl.where(is_sound, alpha, 0.0)
                _advance(x, r, p, q, alpha.to(compute), size, block)
                count += is_sound.to(tl.int32)
                state = tl.where(is_sound, _OPEN, _STOPPED)
        _finish(status + index, iterations + index, state, count)


@triton.jit
def _over_relax(
    b, x, inverse, omega, colour: tl.constexpr, height, width, block: tl.constexpr
):  # fmt: skip
    """Half a sweep; returns the largest change of each lane."""
    most = tl.zeros((block,), x.dtype.element_ty)
    for start in range(0, count_of(height, width), block):
        py, px, mask = points_of(start, colour, height, width, block)
        at = place_of(py, px, width)
        total = tl.load(b + at, mask=mask, other=0) + neighbour_sum(x + at, width, mask)
        before = tl.load(x + at, mask=mask, other=0)
        change = omega * (total * tl.load(inverse + at, mask=mask, other=0) - before)
        tl.store(x + at, before + change, mask=mask)
        most = tl.maximum(most, tl.where(mask, tl.abs(change), 0.0))
    tl.debug_barrier()
    return most


@triton.jit
def _jacobi(b, x, q, inverse, degrees, width, size, block: tl.constexpr):
    """A damped sweep; returns the largest change of each lane."""
    compute: tl.constexpr = x.dtype.element_ty
    damping = tl.full((), _DAMPING, compute)
    most = tl.zeros((block,), compute)
    for start in range(0, size, block):
        at = start + tl.arange(0, block)
        mask = at < size
        degree = tl.load(degrees + at, mask=mask, other=0)
        rest = tl.load(b + at, mask=mask, other=0) - degree * tl.load(x + at, mask=mask, other=0)
        rest += neighbour_sum(x + at, width, degree > 0)
        change = damping * rest * tl.load(inverse + at, mask=mask, other=0)
        tl.store(q + at, change, mask=mask)
        most = tl.maximum(most, tl.abs(change))
    tl.debug_barrier()
    for start in range(0, size, block):
        at = start + tl.arange(0, block)
        value = tl.load(x + at, mask=at < size, other=0) + tl.load(q + at, mask=at < size, other=0)
        tl.store(x + at, value, mask=at < size)
    tl.debug_barrier()
    return most


@triton.jit
def _poisson_relax_kernel(
    b, x, q, inverses, degrees, gaps, table, terms, status, iterations, channels, mask_step, room,
    max_iterations, tol: tl.float64, rtol: tl.float64, is_sor: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Sweeps of red-black over-relaxation or of Jacobi; see csrc/cpu/poisson_relax.h.

    x is zero on entry.
    """
    index = tl.program_id(0).to(tl.int64)
    row = index // channels * mask_step
    known = table + COLUMNS * row
    inverse = inverses + row * room
    degrees += row * room
    b += index * room
    x += index * room
    q += index * room
    compute: tl.constexpr = x.dtype.element_ty
    h, w = tl.load(known + HEIGHT), tl.load(known + WIDTH)
    if (tl.load(known + UNKNOWNS) > 0) & (tl.load(status + index) == APPLIED):
        gap = tl.load(gaps + row)
        damping = tl.full((), _DAMPING, tl.float64)
        # gap (2 - gap) = 1 - mu², where mu is how much of the slowest mode Jacobi leaves.
        omega = 2.0 / (1.0 + tl.sqrt(gap * (2.0 - gap)))
        # What is left of a change in all later sweeps, twice, since the gap is an estimate.
        per_change = 2.0 / (2.0 - omega) if is_sor else 2.0 / (damping * gap)
        limit = tol * tl.load(terms + TERMS * index + SCALE).to(tl.float64)
        state = tl.full((), _OPEN, tl.int32)
        count = tl.full((), 0, tl.int32)
        while state == _OPEN:
            if is_sor:
                most = _over_relax(b, x, inverse, omega.to(compute), RED, h, w, block)
                other = _over_relax(b, x, inverse, omega.to(compute), BLACK, h, w, block)
                most = tl.maximum(most, other)
            else:
                most = _jacobi(b, x, q, inverse, degrees, w, plane_size(h, w), block)
            left_over = tl.max(most, axis=0).to(tl.float64) * per_change
            limit = tl.where(count == 0, tl.maximum(limit, rtol * left_over), limit)
            count += 1
            state = tl.where(count == max_iterations, _STOPPED, state)
            state = tl.where(left_over <= limit, _CONVERGED, state)
        _finish(status + index, iterations + index, state, count)


MULTIGRID, RELAX = _poisson_multigrid_kernel, _poisson_relax_kernel


def variants() -> list[Variant]:
    """What `ssad_kernels.triton.poisson` launches."""
    found = []
    names = ("b", "x", "p", "q", "residuals", "corrections", "inverses", "degrees", "terms")
    others = {"gaps": "*fp64", "table": "*i32", "status": "*i8", "iterations": "*i32"}
    for pointer, is_sor in (("*fp32", True), ("*fp64", False)):
        pointers = {**dict.fromkeys(names, pointer), **others}
        found.append(Variant(MULTIGRID, pointers, {"block": BLOCK}, OPTIONS))
        found.append(Variant(RELAX, pointers, {"is_sor": is_sor, "block": BLOCK}, OPTIONS))
    return found
