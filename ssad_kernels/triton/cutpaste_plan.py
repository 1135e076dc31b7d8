# SPDX-License-Identifier: Apache-2.0
"""What CutPaste is to do with each sample, checked and clipped; and where its pixels come from."""

import triton
import triton.language as tl
from torch import Tensor

from ssad_kernels._status import Status
from ssad_kernels.triton._variants import Variant
from ssad_kernels.triton.rotation import canvas_side, rotation

_APPLIED = tl.constexpr(int(Status.APPLIED))
_GATED = tl.constexpr(int(Status.GATED))
_NO_PLACE = tl.constexpr(int(Status.NO_PLACE))
EMPTY = tl.constexpr(int(Status.EMPTY))
_NOT_FINITE = tl.constexpr(int(Status.NOT_FINITE))
_CLIPPED = tl.constexpr(int(Status.CLIPPED))

# Larger coordinates cannot mean a place in an image, and would overflow the fixed-point products.
_FAR = tl.constexpr(1 << 24)

# What the plan of a sample holds, int64. Tiles without a pixel of the patch read the first four,
# which are a sector of memory.
(
    SEEN_Y, SEEN_X, SEEN_H, SEEN_W, COS, SIN, OFFSET_Y, OFFSET_X,
    CUT_H, CUT_W, FROM_Y, FROM_X, SOURCE, IS_KEPT, _TURNS,
) = (tl.constexpr(column) for column in range(15))  # fmt: skip
COLUMNS = tl.constexpr(16)

_BLOCK = 128


@triton.jit
def _clip(start, size, limit):
    """[start, start + size) cut to [0, limit), as start and size."""
    low = tl.maximum(start, 0)
    return low, tl.maximum(tl.minimum(start + size, limit) - low, 0)


@triton.jit
def _is_near(x):
    return (x > -_FAR) & (x < _FAR)


@triton.jit
def _wrap(x, size):
    """The remainder that is not negative."""
    return (x % size + size) % size


@triton.jit
def _turned_size(turns, height, width):
    """Height and width, int64, of an image that is turned."""
    height, width = tl.cast(height, tl.int64), tl.cast(width, tl.int64)
    is_odd = (turns & 1) == 1
    return tl.where(is_odd, width, height), tl.where(is_odd, height, width)


@triton.jit
def _cut_paste_plan_kernel(
    source_index, source_box, target, angle, jitter, apply, turns, shift, plans, status,
    n, height, width, block: tl.constexpr,
):  # fmt: skip
    """One lane a sample: checks and clips everything, so that the other kernels can trust it."""
    row = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    mask = row < n
    is_gated = tl.load(apply + row, mask=mask, other=0) == 0
    degrees = tl.load(angle + row, mask=mask, other=0.0)
    is_finite = tl.abs(degrees) < float("inf")
    for k in tl.static_range(4):
        factor = tl.load(jitter + 4 * row + k, mask=mask, other=0.0)
        is_finite = is_finite & (tl.abs(factor) <= 1e6)
    source = tl.load(source_index + row, mask=mask, other=0)
    box_y = tl.load(source_box + 4 * row, mask=mask, other=0)
    box_x = tl.load(source_box + 4 * row + 1, mask=mask, other=0)
    box_h = tl.load(source_box + 4 * row + 2, mask=mask, other=0)
    box_w = tl.load(source_box + 4 * row + 3, mask=mask, other=0)
    canvas_y = tl.load(target + 2 * row, mask=mask, other=0)
    canvas_x = tl.load(target + 2 * row + 1, mask=mask, other=0)
    is_empty = (box_h <= 0) | (box_w <= 0)

    # A sample that is not applied gets an empty box, of which nothing is cut and nothing pasted.
    is_sound = is_finite & ~is_gated & ~is_empty & (source >= 0) & (source < n)
    is_sound = is_sound & _is_near(box_y) & _is_near(box_x) & _is_near(box_h) & _is_near(box_w)
    is_sound = is_sound & _is_near(canvas_y) & _is_near(canvas_x)
    box_y = tl.where(is_sound, box_y, 0)
    box_x = tl.where(is_sound, box_x, 0)
    box_h = tl.where(is_sound, box_h, 0)
    box_w = tl.where(is_sound, box_w, 0)
    canvas_y = tl.where(is_sound, canvas_y, 0)
    canvas_x = tl.where(is_sound, canvas_x, 0)
    cos, sin = rotation(tl.where(is_sound, degrees, 0.0))
    canvas_h = canvas_side(box_h, box_w, cos, sin)
    canvas_w = canvas_side(box_w, box_h, cos, sin)

    turned_h, turned_w = height, width
    if turns is not None:
        quarters = tl.load(turns + row, mask=mask, other=0) & 3
        turned_h, turned_w = _turned_size(quarters, height, width)
    cut_y, cut_h = _clip(box_y, box_h, turned_h)
    cut_x, cut_w = _clip(box_x, box_w, turned_w)
    from_y, from_x = cut_y, cut_x
    if shift is not None:
        from_y = _wrap(cut_y - tl.load(shift + 2 * row, mask=mask, other=0) % turned_h, turned_h)
        from_x = _wrap(
            cut_x - tl.load(shift + 2 * row + 1, mask=mask, other=0) % turned_w, turned_w
        )
    seen_y, seen_h = _clip(canvas_y, canvas_h, height)
    seen_x, seen_w = _clip(canvas_x, canvas_w, width)
    is_whole = (cut_h == box_h) & (cut_w == box_w) & (seen_h == canvas_h) & (seen_w == canvas_w)
    is_applied = (cut_h * cut_w > 0) & (seen_h * seen_w > 0)

    code = tl.where(is_whole, _APPLIED, _CLIPPED)
    code = tl.where(is_applied, code, _NO_PLACE)
    code = tl.where(is_empty, EMPTY, code)
    code = tl.where(is_finite, code, _NOT_FINITE)
    code = tl.where(is_gated, _GATED, code)
    tl.store(status + row, code.to(tl.int8), mask=mask)

    # Twice the distance from the canvas centre, turned back into the box, counted from the cut.
    dy = 1 - canvas_h - 2 * canvas_y
    dx = 1 - canvas_w - 2 * canvas_x
    offset_y = dy * cos + dx * sin + (box_h << 16) + ((box_y - cut_y) << 17)
    offset_x = dx * cos - dy * sin + (box_w << 16) + ((box_x - cut_x) << 17)
    plan = plans + COLUMNS * row
    tl.store(plan + COS, cos, mask=mask)
    tl.store(plan + SIN, sin, mask=mask)
    tl.store(plan + OFFSET_Y, offset_y, mask=mask)
    tl.store(plan + OFFSET_X, offset_x, mask=mask)
    tl.store(plan + CUT_H, tl.where(is_applied, cut_h, 0), mask=mask)
    tl.store(plan + CUT_W, tl.where(is_applied, cut_w, 0), mask=mask)
    tl.store(plan + FROM_Y, from_y, mask=mask)
    tl.store(plan + FROM_X, from_x, mask=mask)
    tl.store(plan + SOURCE, tl.where(is_sound, source, 0), mask=mask)
    tl.store(plan + SEEN_Y, seen_y, mask=mask)
    tl.store(plan + SEEN_X, seen_x, mask=mask)
    tl.store(plan + SEEN_H, tl.where(is_applied, seen_h, 0), mask=mask)
    tl.store(plan + SEEN_W, tl.where(is_applied, seen_w, 0), mask=mask)
    if turns is not None:
        tl.store(plan + _TURNS, quarters, mask=mask)


@triton.jit
def look_up(plan, y, x):
    """Where in the cut patch a pixel of the image comes from: y, x, and whether there is such."""
    cos = tl.load(plan + COS)
    sin = tl.load(plan + SIN)
    cut_h = tl.load(plan + CUT_H)
    cut_w = tl.load(plan + CUT_W)
    py = (2 * y * cos + 2 * x * sin + tl.load(plan + OFFSET_Y)) >> 17
    px = (2 * x * cos - 2 * y * sin + tl.load(plan + OFFSET_X)) >> 17
    return py, px, (py >= 0) & (py < cut_h) & (px >= 0) & (px < cut_w)


@triton.jit
def _steps(turns, height, width, stride_y, stride_x):
    """Of an image that is turned: the offset of its first pixel, steps to the next row and column.

    A turned image is the image seen with other steps, from another corner.
    """
    down = tl.where(turns == 0, stride_y, tl.where(turns == 2, -stride_y, 0))
    down = tl.where(turns == 1, -stride_x, tl.where(turns == 3, stride_x, down))
    right = tl.where(turns == 0, stride_x, tl.where(turns == 2, -stride_x, 0))
    right = tl.where(turns == 1, stride_y, tl.where(turns == 3, -stride_y, right))
    corner_y = tl.where(turns >= 2, tl.cast(height, tl.int64) - 1, 0)
    corner_x = tl.where((turns == 1) | (turns == 2), tl.cast(width, tl.int64) - 1, 0)
    return corner_y * stride_y + corner_x * stride_x, down, right


@triton.jit
def source_place(image, plan, y, x, height, width, stride_y, stride_x, is_moved: tl.constexpr):
    """Pointers to pixels of the cut in the image that it is cut from."""
    y += tl.load(plan + FROM_Y)
    x += tl.load(plan + FROM_X)
    if is_moved:
        turns = tl.load(plan + _TURNS)
        turned_h, turned_w = _turned_size(turns, height, width)
        # A shift brings what follows to the other side.
        y = tl.where(y < turned_h, y, y - turned_h)
        x = tl.where(x < turned_w, x, x - turned_w)
        corner, stride_y, stride_x = _steps(turns, height, width, stride_y, stride_x)
        image += corner
    return image + y * stride_y + x * stride_x


@triton.jit
def source_rectangle(plan, height, width, is_moved: tl.constexpr):
    """Rows and columns that hold the cut, each as first and end, in the image that is cut from."""
    top, left = tl.load(plan + FROM_Y), tl.load(plan + FROM_X)
    bottom, end = top + tl.load(plan + CUT_H), left + tl.load(plan + CUT_W)
    if is_moved:
        turns = tl.load(plan + _TURNS)
        turned_h, turned_w = _turned_size(turns, height, width)
        # What a seam runs through reaches from side to side.
        is_torn = bottom > turned_h
        top, bottom = tl.where(is_torn, 0, top), tl.where(is_torn, turned_h, bottom)
        is_torn = end > turned_w
        left, end = tl.where(is_torn, 0, left), tl.where(is_torn, turned_w, end)
        corner, down, right = _steps(turns, height, width, 1, 0)  # offsets are rows
        first = corner + top * down + left * right
        last = corner + (bottom - 1) * down + (end - 1) * right
        corner, down, right = _steps(turns, height, width, 0, 1)  # columns
        first_x = corner + top * down + left * right
        last_x = corner + (bottom - 1) * down + (end - 1) * right
        top, bottom = tl.minimum(first, last), tl.maximum(first, last) + 1
        left, end = tl.minimum(first_x, last_x), tl.maximum(first_x, last_x) + 1
    return top, bottom, left, end


def launch_plan(
    source_index: Tensor,
    source_box: Tensor,
    target: Tensor,
    angle: Tensor,
    jitter: Tensor,
    apply: Tensor,
    turns: Tensor | None,
    shift: Tensor | None,
    size: tuple[int, int],
    status: Tensor,
) -> Tensor:
    """Plans (N, COLUMNS) for images of a size; writes the status."""
    n = source_box.shape[0]
    plans = source_box.new_empty((n, COLUMNS.value))
    _cut_paste_plan_kernel[(triton.cdiv(n, _BLOCK),)](
        source_index.contiguous(), source_box.contiguous(), target.contiguous(),
        angle.contiguous(), jitter.contiguous(), apply.contiguous(),
        None if turns is None else turns.contiguous(),
        None if shift is None else shift.contiguous(),
        plans, status, n, *size, **_CONSTANTS, **UNFUSED,
    )  # fmt: skip
    return plans


_CONSTANTS = {"block": _BLOCK}

# Where the compiler contracts multiply-adds differs from one specialisation to the next. Without
# that the geometry comes out as on the other backends, and the pixels as in any other layout.
UNFUSED = {"enable_fp_fusion": False}

_POINTERS = {
    **dict.fromkeys(("source_index", "source_box", "target"), "*i64"),
    "angle": "*fp32",
    "jitter": "*fp32",
    "apply": "*i1",
    "plans": "*i64",
    "status": "*i8",
}
_NOT_MOVED: dict[str, object] = {"turns": None, "shift": None}
VARIANTS = (
    Variant(_cut_paste_plan_kernel, _POINTERS, {**_CONSTANTS, **_NOT_MOVED}, UNFUSED),
    Variant(
        _cut_paste_plan_kernel,
        {**_POINTERS, **dict.fromkeys(_NOT_MOVED, "*i64")},
        _CONSTANTS,
        UNFUSED,
    ),
)
