# SPDX-License-Identifier: Apache-2.0
"""From an image to the right-hand side of A x = b on the rectangle around a mask, and back."""

import triton
import triton.language as tl

from ssad_kernels._status import Status
from ssad_kernels.triton._variants import Variant
from ssad_kernels.triton.poisson_mask import (
    BLOCK,
    COLUMNS,
    HEIGHT,
    OPEN_EDGES,
    OPTIONS,
    START,
    STEP_X,
    STEP_Y,
    UNKNOWNS,
    WIDTH,
    inverse_of,
    neighbour_sum,
    place_of,
    plane_size,
    read_sides,
)

APPLIED = tl.constexpr(int(Status.APPLIED))
_NOT_FINITE = tl.constexpr(int(Status.NOT_FINITE))

# What a plane keeps from loading to storing.
_OFFSET, SCALE = tl.constexpr(0), tl.constexpr(1)
TERMS = tl.constexpr(2)


@triton.jit
def sum_of(plane, size, block: tl.constexpr):
    """The sum of a plane, float64."""
    part = tl.zeros((block,), plane.dtype.element_ty)
    for start in range(0, size, block):
        at = start + tl.arange(0, block)
        part += tl.load(plane + at, mask=at < size, other=0)
    return tl.sum(part.to(tl.float64), axis=0)


@triton.jit
def remove_mean(plane, inverse, size, pixels, block: tl.constexpr):
    """For a full mask: neither b nor x have a mean, and rounding shall not give them one."""
    mean = (sum_of(plane, size, block) / tl.cast(pixels, tl.float64)).to(plane.dtype.element_ty)
    for start in range(0, size, block):
        at = start + tl.arange(0, block)
        own = tl.where(tl.load(inverse + at, mask=at < size, other=0) > 0, mean, 0.0)
        tl.store(plane + at, tl.load(plane + at, mask=at < size, other=0) - own, mask=at < size)
    tl.debug_barrier()


@triton.jit
def _edge_sum(mask, boundary, known, y, x, inside, offset):
    """Sum of (boundary - offset) over the neighbours of unknowns that are no unknowns."""
    start, step_y, step_x = tl.load(known + START), tl.load(known + STEP_Y), tl.load(known + STEP_X)
    h, w = tl.load(known + HEIGHT), tl.load(known + WIDTH)
    top, bottom, left, right = read_sides(known)
    total = tl.zeros(y.shape, boundary.dtype.element_ty)
    for k in tl.static_range(4):
        near_y = y + (k - 1 if k % 2 == 0 else 0)
        near_x = x + (k - 2 if k % 2 == 1 else 0)
        exists = inside & ((near_y >= 0) | (top == 0)) & ((near_y < h) | (bottom == 0))
        exists = exists & ((near_x >= 0) | (left == 0)) & ((near_x < w) | (right == 0))
        at = start + near_y * step_y + near_x * step_x
        is_known = exists & (tl.load(mask + at, mask=exists, other=0) == 0)
        value = tl.load(boundary + at, mask=is_known, other=0) - offset
        total += tl.where(is_known, value, 0.0)
    return total


@triton.jit
def _power_of(largest):
    """A power of two near 1 / a size.

    As a factor it rounds nothing, and it keeps the squares in sums from overflowing and gradients
    from getting lost.
    """
    if largest.dtype == tl.float32:
        exponent = ((largest.to(tl.int32, bitcast=True) >> 23) & 0xFF) - 126
        exponent = tl.minimum(tl.maximum(exponent, -120), 120)
        power = ((127 - exponent) << 23).to(tl.float32, bitcast=True)
    else:
        exponent = ((largest.to(tl.int64, bitcast=True) >> 52) & 0x7FF) - 1022
        exponent = tl.minimum(tl.maximum(exponent, -1000), 1000)
        power = ((1023 - exponent) << 52).to(tl.float64, bitcast=True)
    return tl.where(largest > 0, power, 1.0)


@triton.jit
def _poisson_load_kernel(
    rhs, masks, boundary, inverses, table, terms, status, iterations, b, pixels, channels,
    mask_step, room, block: tl.constexpr,
):  # fmt: skip
    """One program a plane: fills b, scaled, less a constant near the solution."""
    index = tl.program_id(0).to(tl.int64)
    row = index // channels * mask_step
    known = table + COLUMNS * row
    mask = masks + row * pixels
    rhs += index * pixels
    boundary += index * pixels
    b += index * room
    inverse = inverses + row * room
    compute: tl.constexpr = b.dtype.element_ty
    unknowns = tl.load(known + UNKNOWNS)
    first, step_y, step_x = tl.load(known + START), tl.load(known + STEP_Y), tl.load(known + STEP_X)
    h, w = tl.load(known + HEIGHT), tl.load(known + WIDTH)
    size = h * w
    is_full = unknowns == pixels
    lanes = tl.arange(0, block)

    # Constants come out exact, and other solutions lose fewer digits.
    if is_full:
        offset = sum_of(boundary, size, block) / size.to(tl.float64)
    else:
        part = tl.zeros((block,), tl.float64)
        for start in range(0, size, block):
            y, x = (start + lanes) // w, (start + lanes) % w
            place = mask + first + y * step_y + x * step_x
            inside = tl.load(place, mask=start + lanes < size, other=0) != 0
            part += _edge_sum(mask, boundary, known, y, x, inside, 0.0).to(tl.float64)
        edges = tl.maximum(tl.load(known + OPEN_EDGES), 1)
        offset = tl.sum(part, axis=0) / edges.to(tl.float64)
    offset = offset.to(compute)
    bad = tl.zeros((block,), tl.int32)
    most = tl.zeros((block,), compute)
    for start in range(0, size, block):
        at = start + lanes
        y, x = at // w, at % w
        place = first + y * step_y + x * step_x
        inside = tl.load(mask + place, mask=at < size, other=0) != 0
        value = _edge_sum(mask, boundary, known, y, x, inside, offset)
        value = tl.where(inside, value - tl.load(rhs + place, mask=inside, other=0), 0.0)
        is_finite = tl.abs(value) < float("inf")
        bad = bad | (is_finite == 0).to(tl.int32)
        value = tl.where(is_finite, value, 0.0)
        most = tl.maximum(most, tl.abs(value))
        tl.store(b + place_of(y, x, w), value, mask=at < size)
    tl.debug_barrier()
    is_good = (tl.max(bad, axis=0) == 0) & (tl.abs(offset) < float("inf"))
    size = plane_size(h, w)
    if is_full:
        remove_mean(b, inverse, size, pixels, block)
        most = tl.zeros((block,), compute)
        for start in range(0, size, block):
            at = start + lanes
            value = tl.load(b + at, mask=at < size, other=0)
            most = tl.maximum(most, tl.abs(value))
    scale = _power_of(tl.max(most, axis=0))
    for start in range(0, size, block):
        at = start + lanes
        value = tl.load(b + at, mask=at < size, other=0)
        tl.store(b + at, value * scale, mask=at < size)
    tl.store(terms + TERMS * index + _OFFSET, offset)
    tl.store(terms + TERMS * index + SCALE, scale)
    tl.store(status + index, tl.where((unknowns == 0) | is_good, APPLIED, _NOT_FINITE).to(tl.int8))
    tl.store(iterations + index, 0)


@triton.jit
def _poisson_store_kernel(
    masks, inverses, degrees, table, terms, status, b, solved, solution, residual, pixels, channels,
    mask_step, room, block: tl.constexpr,
):  # fmt: skip
    """One program a plane: writes the unknowns, and the largest residual."""
    index = tl.program_id(0).to(tl.int64)
    row = index // channels * mask_step
    known = table + COLUMNS * row
    mask = masks + row * pixels
    inverse = inverses + row * room
    degrees += row * room
    solution += index * pixels
    b += index * room
    solved += index * room
    first, step_y, step_x = tl.load(known + START), tl.load(known + STEP_Y), tl.load(known + STEP_X)
    h, w = tl.load(known + HEIGHT), tl.load(known + WIDTH)
    is_solved = tl.load(status + index) != _NOT_FINITE
    offset = tl.load(terms + TERMS * index + _OFFSET)
    unscale = inverse_of(tl.load(terms + TERMS * index + SCALE))
    size = plane_size(h, w)
    lanes = tl.arange(0, block)
    most = tl.zeros((block,), b.dtype.element_ty)
    for start in range(0, size, block):
        at = start + lanes
        inside = (at < size) & is_solved
        inside = tl.load(inverse + at, mask=inside, other=0) > 0
        value = tl.load(degrees + at, mask=inside, other=0)
        value *= tl.load(solved + at, mask=inside, other=0)
        value -= neighbour_sum(solved + at, w, inside)
        value -= tl.load(b + at, mask=inside, other=0)
        most = tl.maximum(most, tl.where(inside, tl.abs(value), 0.0))
    largest = tl.max(most, axis=0) * unscale
    tl.store(residual + index, tl.where(is_solved, largest, float("nan")))
    tl.debug_barrier()
    if tl.load(known + UNKNOWNS) == pixels:
        remove_mean(solved, inverse, size, pixels, block)  # the constant that was left open
    for start in range(0, h * w, block):
        at = start + lanes
        y, x = at // w, at % w
        place = first + y * step_y + x * step_x
        inside = tl.load(mask + place, mask=at < h * w, other=0) != 0
        value = tl.load(solved + place_of(y, x, w), mask=inside, other=0) * unscale + offset
        tl.store(solution + place, tl.where(is_solved, value, float("nan")), mask=inside)


LOAD, STORE = _poisson_load_kernel, _poisson_store_kernel
LOAD_OPTIONS = {**OPTIONS, "maxnreg": 128}  # of itself the compiler takes 80, and spills on sm_100


def variants() -> list[Variant]:
    """What `ssad_kernels.triton.poisson` launches."""
    found = []
    for pointer in ("*fp32", "*fp64"):
        shared = {"table": "*i32", "status": "*i8"}
        shared.update(dict.fromkeys(("inverses", "degrees", "terms", "b"), pointer))
        load = {"rhs": pointer, "masks": "*u8", "boundary": pointer, "iterations": "*i32", **shared}
        store = {
            "masks": "*u8", "solved": pointer, "solution": pointer, "residual": pointer, **shared,
        }  # fmt: skip
        found.append(Variant(LOAD, load, {"block": BLOCK}, LOAD_OPTIONS))
        found.append(Variant(STORE, store, {"block": BLOCK}, OPTIONS))
    return found
