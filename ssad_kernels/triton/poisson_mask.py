# SPDX-License-Identifier: Apache-2.0
"""Where the unknowns of Poisson's equation lie, and the coarser and coarser masks of multigrid.

A program takes a mask. Its planes are those of the rectangle around the unknowns, turned so that it
is not higher than wide, row by row, with zeros around and between the rows; those of all levels
follow one another. What threads of a program write for others lies in global memory, with a barrier
before it is read. The rules are those of csrc/cpu/poisson_hierarchy.h.
"""

import triton
import triton.language as tl

from ssad_kernels.triton._variants import Variant

BLOCK = 1024
OPTIONS = {"num_warps": 8, "enable_fp_fusion": False}  # equal bits in every specialisation

# What is known of a mask: the number of unknowns, their rectangle in the image (pixel (y, x) of it
# is START + y STEP_Y + x STEP_X), which of its sides are the image's border, the number of levels.
UNKNOWNS, OPEN_EDGES, START, STEP_Y, STEP_X, HEIGHT, WIDTH, LEVELS = (
    tl.constexpr(column) for column in range(8)
)
TOP, BOTTOM, LEFT, RIGHT = (tl.constexpr(column) for column in range(8, 12))
COLUMNS = tl.constexpr(16)

# What a hole that no coarse point sees adds to the degrees around it, see csrc/include/ssad.
_HOLE_LEAK = tl.constexpr(2.0)


@triton.jit
def plane_size(height, width):
    """Elements of a plane: zeros above and below, before each row and at the end."""
    return (height + 2) * (width + 1) + 1


@triton.jit
def place_of(y, x, width):
    """Where a plane has pixel (y, x)."""
    return (y + 1) * (width + 1) + x + 1


@triton.jit
def neighbour_sum(plane, width, mask):
    """Around the pixels that ``plane`` points at."""
    beside = tl.load(plane - 1, mask=mask, other=0) + tl.load(plane + 1, mask=mask, other=0)
    above = tl.load(plane - (width + 1), mask=mask, other=0)
    return beside + (above + tl.load(plane + (width + 1), mask=mask, other=0))


@triton.jit
def read_sides(known):
    """Which sides are the image's border: top, bottom, left, right; 1 or 0."""
    sides = tl.load(known + TOP), tl.load(known + BOTTOM)
    return sides[0], sides[1], tl.load(known + LEFT), tl.load(known + RIGHT)


@triton.jit
def degree_of(y, x, height, width, top, bottom, left, right, across):
    """How much the edges of a pixel weigh; none leads beyond the image."""
    vertical = 2 - ((y == 0) & (top > 0)).to(tl.int32)
    vertical -= ((y == height - 1) & (bottom > 0)).to(tl.int32)
    horizontal = 2 - ((x == 0) & (left > 0)).to(tl.int32)
    horizontal -= ((x == width - 1) & (right > 0)).to(tl.int32)
    return horizontal.to(across.dtype) + across * vertical.to(across.dtype)


@triton.jit
def inverse_of(degree):
    """1 / degree; 1 for a point without edges, which few boundary pixels or none leave alone."""
    one = tl.full(degree.shape, 1.0, degree.dtype)
    safe = tl.where(degree > 0, degree, one)
    return tl.div_rn(one, safe) if degree.dtype == tl.float32 else one / safe


@triton.jit
def _free_at(inverse, y, x, height, width, top, bottom, left, right, mask):
    """Whether nothing holds a pixel to zero: 1 for unknowns, and beyond the image's border."""
    inside = mask & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    unknown = (tl.load(inverse + place_of(y, x, width), mask=inside, other=0) > 0).to(tl.int32)
    beside = tl.where(x < 0, left, tl.where(x >= width, right, unknown))
    return tl.where(y < 0, top, tl.where(y >= height, bottom, beside))


@triton.jit
def _coarse_leak(inverse, leak, y, x, height, width, top, bottom, left, right, mask):
    """What a coarse point gets for holes around its fine point (y, x) that no coarse point sees."""
    total = tl.zeros(y.shape, inverse.dtype.element_ty)
    for k in tl.static_range(9):
        dy, dx = k // 3 - 1, k % 3 - 1
        weight = (1.0 if k // 3 == 1 else 0.5) * (1.0 if k % 3 == 1 else 0.5)
        near_y, near_x = y + dy, x + dx
        counts = mask & (near_y < height) & (near_x < width) & ((dy == 0) | (height > 1))
        at = place_of(near_y, near_x, width)
        own = tl.load(inverse + at, mask=counts, other=0) > 0
        behind = _free_at(
            inverse, near_y + dy, near_x + dx, height, width, top, bottom, left, right, counts
        )
        hole = tl.where(behind > 0, _HOLE_LEAK, 0.0).to(total.dtype)
        handed = tl.load(leak + at, mask=counts, other=0)
        total += tl.where(counts, weight * tl.where(own, handed, hole), 0.0)
    return tl.where(height > 1, total, 2.0 * total)


@triton.jit
def _coarsen(
    inverse, leak, height, width, top, bottom, left, right, across, block: tl.constexpr
):  # fmt: skip
    """The next level's planes, behind these; returns whether it has an unknown."""
    coarse_h, coarse_w = tl.maximum(height // 2, 1), width // 2
    size = plane_size(height, width)
    count = coarse_h * coarse_w
    found = tl.zeros((block,), tl.int32)
    for start in range(0, count, block):
        at = start + tl.arange(0, block)
        mask = at < count
        coarse_y, coarse_x = at // coarse_w, at % coarse_w
        y = tl.where(height > 1, 2 * coarse_y + 1, 0)
        x = 2 * coarse_x + 1
        own = tl.load(inverse + place_of(y, x, width), mask=mask, other=0) > 0
        beside = _free_at(inverse, y, x - 1, height, width, top, bottom, left, right, mask)
        beside += _free_at(inverse, y, x + 1, height, width, top, bottom, left, right, mask)
        above = _free_at(inverse, y - 1, x, height, width, top, bottom, left, right, mask)
        above += _free_at(inverse, y + 1, x, height, width, top, bottom, left, right, mask)
        # Along a single row both neighbours are needed.
        is_unknown = own & (tl.where(height > 1, beside + above, 2 * beside) >= 3)
        extra = _coarse_leak(inverse, leak, y, x, height, width, top, bottom, left, right, mask)
        degree = extra + degree_of(
            coarse_y, coarse_x, coarse_h, coarse_w, top, bottom, left, right, across
        )
        to = size + place_of(coarse_y, coarse_x, coarse_w)
        tl.store(inverse + to, tl.where(is_unknown, inverse_of(degree), 0.0), mask=mask)
        tl.store(leak + to, extra, mask=mask)
        found = found | is_unknown.to(tl.int32)
    return tl.max(found, axis=0)


@triton.jit
def _inscribed_radius(
    inverse, distance, other, height, width, top, bottom, left, right, block: tl.constexpr
):  # fmt: skip
    """About the radius of the largest disc in the mask, by chamfer distances, as on a CPU.

    A step along a row or column is 5, a diagonal one 7; ways are shortened until nothing changes.
    """
    size = height * width
    framed = (height + 2) * (width + 2)
    far = (5 * (height + width)).to(inverse.dtype.element_ty)
    lanes = tl.arange(0, block)
    for start in range(0, framed, block):
        at = start + lanes
        y, x = at // (width + 2) - 1, at % (width + 2) - 1
        mask = at < framed
        own = _free_at(inverse, y, x, height, width, top, bottom, left, right, mask)
        tl.store(distance + at, tl.where(own > 0, far, 0.0), mask=mask)
        tl.store(other + at, tl.where(own > 0, far, 0.0), mask=mask)
    tl.debug_barrier()
    is_open = tl.full((), 1, tl.int32)
    radius = tl.full((), 0.0, tl.float64)
    while is_open > 0:
        changed = tl.zeros((block,), tl.int32)
        most = tl.zeros((block,), far.dtype)
        for start in range(0, size, block):
            mask = start + lanes < size
            y, x = (start + lanes) // width, (start + lanes) % width
            at = (y + 1) * (width + 2) + x + 1
            own = tl.load(distance + at, mask=mask, other=0)
            best = own
            for k in tl.static_range(9):
                if k != 4:
                    near = at + (k // 3 - 1) * (width + 2) + k % 3 - 1
                    way = tl.load(distance + near, mask=mask, other=0)
                    best = tl.minimum(best, way + (7.0 if k % 2 == 0 else 5.0))
            tl.store(other + at, best, mask=mask)
            changed = changed | (best < own).to(tl.int32)
            most = tl.maximum(most, best)
        tl.debug_barrier()
        distance, other = other, distance
        is_open = tl.max(changed, axis=0)
        radius = tl.max(most, axis=0).to(tl.float64) / 5.0
    return radius


@triton.jit
def _find_box(mask, known, height, width, block: tl.constexpr):
    """Writes what is known of the rectangle around the unknowns; returns their number."""
    pixels = height * width
    lanes = tl.arange(0, block)
    zero = pixels * 0
    count = tl.zeros((block,), zero.dtype)
    y0, x0 = count + height, count + width
    y1, x1 = count, count
    for start in range(0, pixels, block):
        at = start + lanes
        is_set = tl.load(mask + at, mask=at < pixels, other=0) != 0
        y, x = at // width, at % width
        count += is_set.to(zero.dtype)
        y0, y1 = tl.where(is_set, tl.minimum(y0, y), y0), tl.where(is_set, y + 1, y1)
        x0 = tl.where(is_set, tl.minimum(x0, x), x0)
        x1 = tl.where(is_set, tl.maximum(x1, x + 1), x1)
    first_y, last_y = tl.min(y0, axis=0), tl.max(y1, axis=0)
    first_x, last_x = tl.min(x0, axis=0), tl.max(x1, axis=0)
    unknowns = tl.sum(count, axis=0)
    h, w = tl.maximum(last_y - first_y, 0), tl.maximum(last_x - first_x, 0)
    is_turned = h > w
    top, bottom = (first_y == 0).to(tl.int32), (last_y == height).to(tl.int32)
    left, right = (first_x == 0).to(tl.int32), (last_x == width).to(tl.int32)
    tl.store(known + UNKNOWNS, unknowns)
    tl.store(known + START, first_y * width + first_x)
    tl.store(known + STEP_Y, tl.where(is_turned, 1, width))
    tl.store(known + STEP_X, tl.where(is_turned, width, 1))
    tl.store(known + HEIGHT, tl.where(is_turned, w, h))
    tl.store(known + WIDTH, tl.where(is_turned, h, w))
    tl.store(known + TOP, tl.where(is_turned, left, top))
    tl.store(known + BOTTOM, tl.where(is_turned, right, bottom))
    tl.store(known + LEFT, tl.where(is_turned, top, left))
    tl.store(known + RIGHT, tl.where(is_turned, bottom, right))
    return unknowns


@triton.jit
def _poisson_mask_kernel(
    masks, table, inverses, degrees, leaks, gaps, height, width, room,
    is_multigrid: tl.constexpr, needs_gap: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    known = table + COLUMNS * row
    index: tl.constexpr = table.dtype.element_ty
    image_h, image_w = tl.cast(height, index), tl.cast(width, index)
    mask = masks + row * height * width
    inverse = inverses + row * room
    leak = leaks + 2 * row * room
    degrees += row * room
    compute: tl.constexpr = inverses.dtype.element_ty
    unknowns = _find_box(mask, known, image_h, image_w, block)
    tl.debug_barrier()
    start_at = tl.load(known + START)
    step_y, step_x = tl.load(known + STEP_Y), tl.load(known + STEP_X)
    h, w = tl.load(known + HEIGHT), tl.load(known + WIDTH)
    top, bottom, left, right = read_sides(known)
    top, bottom = top.to(tl.int32), bottom.to(tl.int32)
    left, right = left.to(tl.int32), right.to(tl.int32)
    size = h * w
    across = tl.full((), 1.0, compute)
    for start in range(0, size, block):
        at = start + tl.arange(0, block)
        inside = at < size
        y, x = at // w, at % w
        own = tl.load(mask + start_at + y * step_y + x * step_x, mask=inside, other=0) != 0
        degree = degree_of(y, x, h, w, top, bottom, left, right, across)
        to = place_of(y, x, w)
        tl.store(inverse + to, tl.where(own, inverse_of(degree), 0.0), mask=inside)
        tl.store(degrees + to, tl.where(own, degree, 0.0), mask=inside)
    tl.debug_barrier()
    # Edges that lead to pixels that are no unknowns.
    edges = tl.zeros((block,), index)
    for start in range(0, size, block):
        inside = start + tl.arange(0, block) < size
        y, x = (start + tl.arange(0, block)) // w, (start + tl.arange(0, block)) % w
        at = place_of(y, x, w)
        own = tl.load(inverse + at, mask=inside, other=0) > 0
        count = tl.load(degrees + at, mask=own, other=0).to(index)
        for k in tl.static_range(4):
            step = (1 if k % 2 == 0 else w + 1) * (1 if k < 2 else -1)
            near = tl.load(inverse + at + step, mask=own, other=0) > 0
            count -= near.to(index)
        edges += count
    tl.store(known + OPEN_EDGES, tl.sum(edges, axis=0))
    if needs_gap:
        radius = tl.cast(w, tl.float64)
        if (unknowns > 0) & (unknowns < image_h * image_w):
            radius = _inscribed_radius(
                inverse, leak, leak + room, h, w, top, bottom, left, right, block
            )
        # The slowest mode of a disc has the eigenvalue (2.405 / radius)², of which a sweep of
        # Jacobi takes a quarter.
        wave_number = tl.full((), 2.405, tl.float64) / (radius + 0.5)
        tl.store(gaps + row, tl.minimum(0.25 * wave_number * wave_number, 1.0))
    levels = 1
    if is_multigrid:
        is_open = (w > 1).to(tl.int32)
        while is_open > 0:
            across = tl.where(h == 1, 4.0 * across, across)
            found = _coarsen(inverse, leak, h, w, top, bottom, left, right, across, block)
            tl.debug_barrier()
            size = plane_size(h, w)
            inverse += size
            leak += size
            h, w = tl.maximum(h // 2, 1), w // 2
            levels += found
            is_open = tl.where(w > 1, found, 0)
    tl.store(known + LEVELS, levels)


MASK = _poisson_mask_kernel


def variants() -> list[Variant]:
    """What `ssad_kernels.triton.poisson` launches."""
    found = []
    for pointer, is_multigrid in (("*fp32", True), ("*fp64", True), ("*fp64", False)):
        pointers = {
            "masks": "*u8", "table": "*i32", "inverses": pointer, "degrees": pointer,
            "leaks": pointer, "gaps": "*fp64",
        }  # fmt: skip
        constants = {
            "is_multigrid": is_multigrid, "needs_gap": not is_multigrid, "block": BLOCK,
        }  # fmt: skip
        found.append(Variant(_poisson_mask_kernel, pointers, constants, OPTIONS))
    return found
