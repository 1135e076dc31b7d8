# SPDX-License-Identifier: Apache-2.0
"""One symmetric V(1,1) cycle from zero for a plane, by one program.

The arithmetic of csrc/cpu/poisson_multigrid.h, point by point, with a barrier wherever a thread
reads what another one wrote.
"""

import triton
import triton.language as tl

from ssad_kernels.triton.poisson_mask import neighbour_sum, place_of, plane_size

RED, BLACK = tl.constexpr(0), tl.constexpr(1)


@triton.jit
def points_of(start, colour: tl.constexpr, height, width, block: tl.constexpr):
    """Rows, columns and whether they are points: those of a colour from ``start`` on.

    Red are those whose row and column have an even sum, and along a single row the odd ones, so
    that coarse points are red, always.
    """
    half = (width + 1) // 2
    at = start + tl.arange(0, block)
    y = at // half
    parity = (y + (height == 1).to(tl.int32) + colour) % 2
    x = 2 * (at % half) + parity
    return y, x, (y < height) & (x < width)


@triton.jit
def count_of(height, width):
    """How many points of a colour there may be."""
    return height * ((width + 1) // 2)


@triton.jit
def _first_black(f, u, inverse, height, width, block: tl.constexpr):
    """Half a sweep for red points from zero, not stored, and one for black points after it."""
    for start in range(0, count_of(height, width), block):
        y, x, mask = points_of(start, BLACK, height, width, block)
        at = place_of(y, x, width)
        total = tl.load(f + at, mask=mask, other=0)
        for k in tl.static_range(4):
            near = at + (1 if k % 2 == 0 else width + 1) * (1 if k < 2 else -1)
            red = tl.load(f + near, mask=mask, other=0)
            total += red * tl.load(inverse + near, mask=mask, other=0)
        tl.store(u + at, total * tl.load(inverse + at, mask=mask, other=0), mask=mask)


@triton.jit
def _relax(f, u, inverse, colour: tl.constexpr, height, width, block: tl.constexpr):
    """Solve for the points of one colour, given the other one."""
    for start in range(0, count_of(height, width), block):
        y, x, mask = points_of(start, colour, height, width, block)
        at = place_of(y, x, width)
        total = tl.load(f + at, mask=mask, other=0)
        total += neighbour_sum(u + at, width, mask)
        tl.store(u + at, total * tl.load(inverse + at, mask=mask, other=0), mask=mask)


@triton.jit
def _border_factor(y, x, height, width, top, bottom, left, right, compute: tl.constexpr):
    """2 for a red point on a natural border, 4 for one on two, 1 elsewhere.

    Interpolation at such a border repeats the last coarse point instead of fading to zero.
    """
    on_row = ((y == 0) & (top > 0)) | ((y == height - 1) & (bottom > 0))
    on_column = ((x == 0) & (left > 0)) | ((x == width - 1) & (right > 0))
    factor = tl.where(on_row, 2.0, 1.0) * tl.where(on_column, 2.0, 1.0)
    return tl.where((y % 2 == 0) & (height > 1), factor, 1.0).to(compute)


@triton.jit
def _leave_residual(
    u, inverse, height, width, top, bottom, left, right, block: tl.constexpr
):  # fmt: skip
    """Put the residual in the place of the red points' values, which can be had again.

    After a red and then a black half sweep from zero the black points have none, and the red ones
    that of the black update: the sum of their neighbours.
    """
    compute: tl.constexpr = u.dtype.element_ty
    for start in range(0, count_of(height, width), block):
        y, x, mask = points_of(start, RED, height, width, block)
        at = place_of(y, x, width)
        is_unknown = tl.load(inverse + at, mask=mask, other=0) > 0
        total = neighbour_sum(u + at, width, mask)
        if top + bottom + left + right > 0:
            total *= _border_factor(y, x, height, width, top, bottom, left, right, compute)
        tl.store(u + at, tl.where(is_unknown, total, 0.0), mask=mask)


@triton.jit
def _restrict(u, coarse_f, height, width, coarse_h, coarse_w, block: tl.constexpr):
    """The transpose of interpolation, from the red points: the next level's right-hand side."""
    count = coarse_h * coarse_w
    for start in range(0, count, block):
        at = start + tl.arange(0, block)
        mask = at < count
        y, x = at // coarse_w, at % coarse_w
        fine = u + place_of(tl.where(height > 1, 2 * y + 1, 0), 2 * x + 1, width)
        value = tl.load(fine, mask=mask, other=0)
        if height > 1:
            upper, lower = fine - (width + 1), fine + (width + 1)
            corners = tl.load(upper - 1, mask=mask, other=0)
            corners += tl.load(upper + 1, mask=mask, other=0)
            others = tl.load(lower - 1, mask=mask, other=0)
            others += tl.load(lower + 1, mask=mask, other=0)
            value += 0.25 * (corners + others)
        else:  # edges of a coarse row weigh half as much, so its equations are multiplied by two
            value *= 2.0
        tl.store(coarse_f + place_of(y, x, coarse_w), value, mask=mask)


@triton.jit
def _correct(
    f, u, inverse, coarse_u, height, width, coarse_w, top, bottom, left, right,
    block: tl.constexpr,
):  # fmt: skip
    """The red points' values again, with the coarse correction."""
    compute: tl.constexpr = u.dtype.element_ty
    for start in range(0, count_of(height, width), block):
        y, x, mask = points_of(start, RED, height, width, block)
        at = place_of(y, x, width)
        near = coarse_u + place_of(y // 2, x // 2, coarse_w)
        correction = tl.load(near, mask=mask, other=0)
        if height > 1:
            is_between = mask & (y % 2 == 0)
            upper = near - (coarse_w + 1)
            around = tl.load(upper - 1, mask=is_between, other=0)
            around += tl.load(upper, mask=is_between, other=0)
            around += correction + tl.load(near - 1, mask=is_between, other=0)
            around *= 0.25
            if top + bottom + left + right > 0:
                around *= _border_factor(y, x, height, width, top, bottom, left, right, compute)
            correction = tl.where(is_between, around, correction)
        own_inverse = tl.load(inverse + at, mask=mask, other=0)
        value = tl.load(f + at, mask=mask, other=0) * own_inverse + correction
        tl.store(u + at, tl.where(own_inverse > 0, value, 0.0), mask=mask)


@triton.jit
def v_cycle(
    f, u, inverse, height, width, levels, top, bottom, left, right, block: tl.constexpr
):  # fmt: skip
    """From f of the finest level to u, about inverse(A) f; the coarser planes lie behind them.

    As an operator it is symmetric and positive whatever the coarse masks are: the smoothing is, and
    the transfers are transposes of one another.
    """
    h, w = height, width
    for _ in range(levels - 1):
        coarse_h, coarse_w = tl.maximum(h // 2, 1), w // 2
        _first_black(f, u, inverse, h, w, block)
        tl.debug_barrier()
        _leave_residual(u, inverse, h, w, top, bottom, left, right, block)
        tl.debug_barrier()
        size = plane_size(h, w)
        _restrict(u, f + size, h, w, coarse_h, coarse_w, block)
        tl.debug_barrier()
        f += size
        u += size
        inverse += size
        h, w = coarse_h, coarse_w
    _first_black(f, u, inverse, h, w, block)
    tl.debug_barrier()
    _relax(f, u, inverse, RED, h, w, block)
    tl.debug_barrier()
    for k in range(1, levels):
        level = levels - 1 - k
        fine_h, fine_w = tl.maximum(height >> level, 1), width >> level
        size = plane_size(fine_h, fine_w)
        coarse_u = u
        f -= size
        u -= size
        inverse -= size
        _correct(
            f, u, inverse, coarse_u, fine_h, fine_w, w, top, bottom, left, right, block
        )  # fmt: skip
        tl.debug_barrier()
        _relax(f, u, inverse, BLACK, fine_h, fine_w, block)
        tl.debug_barrier()
        _relax(f, u, inverse, RED, fine_h, fine_w, block)
        tl.debug_barrier()
        h, w = fine_h, fine_w
