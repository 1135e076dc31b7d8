# SPDX-License-Identifier: Apache-2.0
"""CutPaste in three launches: plan, then look at whole patches, then paste them all.

A patch shows the images as they were before the call, whatever is pasted where. Pasting reads it
from its image and recolours it on the way, unless something is pasted over it there; then the
second launch has kept a copy. Planning has a launch of its own because it needs float64, which most
cards have few units for: one lane a sample there, not every lane of a tile.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssad_kernels._status import Status
from ssad_kernels.triton._variants import Variant
from ssad_kernels.triton.jitter import CONTRAST, HUE, grey, hue_turn, jitter_step, load_jittered
from ssad_kernels.triton.rotation import canvas_side, rotation

_APPLIED = tl.constexpr(int(Status.APPLIED))
_GATED = tl.constexpr(int(Status.GATED))
_NO_PLACE = tl.constexpr(int(Status.NO_PLACE))
_EMPTY = tl.constexpr(int(Status.EMPTY))
_NOT_FINITE = tl.constexpr(int(Status.NOT_FINITE))
_CLIPPED = tl.constexpr(int(Status.CLIPPED))

# Larger coordinates cannot mean a place in an image, and would overflow the fixed-point products.
_FAR = tl.constexpr(1 << 24)

# What the plan of a sample holds, int64. Tiles without a pixel of the patch read the first four,
# which are a sector of memory.
(
    _SEEN_Y, _SEEN_X, _SEEN_H, _SEEN_W, _COS, _SIN, _OFFSET_Y, _OFFSET_X,
    _CUT_H, _CUT_W, _CUT_Y, _CUT_X, _SOURCE, _IS_KEPT,
) = (tl.constexpr(column) for column in range(14))  # fmt: skip
_COLUMNS = tl.constexpr(16)

_BLOCK = 512  # pixels of a patch at a time
_ROWS, _WIDTH = 32, 64  # of a tile to paste into
_PLAN_BLOCK = 128


@triton.jit
def _split(start, width, lanes):
    """Row and column of the pixels ``start + lanes`` of a plane, int64."""
    # Only the start needs 64 bits; a lane's division would be several times slower with them.
    x = (start % width).to(tl.int32) + lanes
    width_32 = tl.cast(width, tl.int32)
    return start // width + x // width_32, (x % width_32).to(tl.int64)


@triton.jit
def _clip(start, size, limit):
    """[start, start + size) cut to [0, limit), as start and size."""
    low = tl.maximum(start, 0)
    return low, tl.maximum(tl.minimum(start + size, limit) - low, 0)


@triton.jit
def _is_near(x):
    return (x > -_FAR) & (x < _FAR)


@triton.jit
def _look_up(plan, y, x):
    """Where in the cut patch a pixel of the image comes from: y, x, and whether there is such."""
    cos = tl.load(plan + _COS)
    sin = tl.load(plan + _SIN)
    cut_h = tl.load(plan + _CUT_H)
    cut_w = tl.load(plan + _CUT_W)
    py = (2 * y * cos + 2 * x * sin + tl.load(plan + _OFFSET_Y)) >> 17
    px = (2 * x * cos - 2 * y * sin + tl.load(plan + _OFFSET_X)) >> 17
    return py, px, (py >= 0) & (py < cut_h) & (px >= 0) & (px < cut_w)


@triton.jit
def _store_rounded(to, value, mask):
    if to.dtype.element_ty == tl.uint8:
        value = tl.floor(value + 0.5)
    tl.store(to, value.to(to.dtype.element_ty), mask=mask)


@triton.jit
def _store_colours(to, stride_c, r, g, b, place, step_c, mask, channels: tl.constexpr):
    """Store colours; channels that are none, as they are at `place`."""
    _store_rounded(to, r, mask)
    if channels >= 3:
        _store_rounded(to + stride_c, g, mask)
        _store_rounded(to + 2 * stride_c, b, mask)
    for c in tl.static_range(3 if channels >= 3 else 1, channels):
        value = tl.load(place + c * step_c, mask=mask, other=0)
        tl.store(to + c * stride_c, value, mask=mask)


@triton.jit
def _hue(jitter, row, is_applied, compute: tl.constexpr):
    """A sample's turn of the hue, which need not be finite if it is not applied."""
    turns = tl.where(is_applied, tl.load(jitter + 4 * row + HUE), 0.0)
    return hue_turn(turns.to(tl.float64), compute)


@triton.jit
def _cut_paste_plan_kernel(
    source_index, source_box, target, angle, jitter, apply, plans, status, n, height, width,
    block: tl.constexpr,
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

    cut_y, cut_h = _clip(box_y, box_h, height)
    cut_x, cut_w = _clip(box_x, box_w, width)
    seen_y, seen_h = _clip(canvas_y, canvas_h, height)
    seen_x, seen_w = _clip(canvas_x, canvas_w, width)
    is_whole = (cut_h == box_h) & (cut_w == box_w) & (seen_h == canvas_h) & (seen_w == canvas_w)
    is_applied = (cut_h * cut_w > 0) & (seen_h * seen_w > 0)

    code = tl.where(is_whole, _APPLIED, _CLIPPED)
    code = tl.where(is_applied, code, _NO_PLACE)
    code = tl.where(is_empty, _EMPTY, code)
    code = tl.where(is_finite, code, _NOT_FINITE)
    code = tl.where(is_gated, _GATED, code)
    tl.store(status + row, code.to(tl.int8), mask=mask)

    # Twice the distance from the canvas centre, turned back into the box, counted from the cut.
    dy = 1 - canvas_h - 2 * canvas_y
    dx = 1 - canvas_w - 2 * canvas_x
    offset_y = dy * cos + dx * sin + (box_h << 16) + ((box_y - cut_y) << 17)
    offset_x = dx * cos - dy * sin + (box_w << 16) + ((box_x - cut_x) << 17)
    plan = plans + _COLUMNS * row
    tl.store(plan + _COS, cos, mask=mask)
    tl.store(plan + _SIN, sin, mask=mask)
    tl.store(plan + _OFFSET_Y, offset_y, mask=mask)
    tl.store(plan + _OFFSET_X, offset_x, mask=mask)
    tl.store(plan + _CUT_H, tl.where(is_applied, cut_h, 0), mask=mask)
    tl.store(plan + _CUT_W, tl.where(is_applied, cut_w, 0), mask=mask)
    tl.store(plan + _CUT_Y, cut_y, mask=mask)
    tl.store(plan + _CUT_X, cut_x, mask=mask)
    tl.store(plan + _SOURCE, tl.where(is_sound, source, 0), mask=mask)
    tl.store(plan + _SEEN_Y, seen_y, mask=mask)
    tl.store(plan + _SEEN_X, seen_x, mask=mask)
    tl.store(plan + _SEEN_H, tl.where(is_applied, seen_h, 0), mask=mask)
    tl.store(plan + _SEEN_W, tl.where(is_applied, seen_w, 0), mask=mask)


@triton.jit
def _cut_paste_cut_kernel(
    images, jitter, order, plans, all_means, patches, status,
    stride_n, stride_c, stride_y, stride_x, pixels,
    channels: tl.constexpr, white: tl.constexpr, compute: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """One program a sample, so that the mean grey is summed in one order without atomics."""
    row = tl.program_id(0).to(tl.int64)
    plan = plans + _COLUMNS * row
    lanes = tl.arange(0, block)
    stride_c = tl.cast(stride_c, tl.int64)  # multiples of it and of pixels may need 64 bits
    pixels = tl.cast(pixels, tl.int64)
    is_rgb: tl.constexpr = channels >= 3

    # Whether the canvas shows any pixel of the patch; almost always its first tile knows.
    seen_y = tl.load(plan + _SEEN_Y)
    seen_x = tl.load(plan + _SEEN_X)
    seen_w = tl.load(plan + _SEEN_W)
    seen_area = tl.load(plan + _SEEN_H) * seen_w
    is_seen = tl.full((), 0, tl.int32)
    for start in range(0, seen_area, block):
        if is_seen == 0:
            y, x = _split(start, seen_w, lanes)
            _, _, inside = _look_up(plan, seen_y + y, seen_x + x)
            is_seen = tl.max((inside & (start + lanes < seen_area)).to(tl.int32))
    if seen_area > 0 and is_seen == 0:
        tl.store(status + row, _EMPTY)

    # Pasting cannot read the patch where it is if what it is cut from is pasted over.
    cut_h = tl.load(plan + _CUT_H)
    cut_w = tl.load(plan + _CUT_W)
    cut_y = tl.load(plan + _CUT_Y)
    cut_x = tl.load(plan + _CUT_X)
    source = tl.load(plan + _SOURCE)
    over = plans + _COLUMNS * source
    over_y = tl.load(over + _SEEN_Y)
    over_x = tl.load(over + _SEEN_X)
    is_kept = (cut_y < over_y + tl.load(over + _SEEN_H)) & (over_y < cut_y + cut_h)
    is_kept = is_kept & (cut_x < over_x + tl.load(over + _SEEN_W)) & (over_x < cut_x + cut_w)
    tl.store(plan + _IS_KEPT, is_kept.to(tl.int64))

    # Each contrast needs the mean grey after the steps before it, and so a pass over the patch; the
    # last pass keeps the result. Every pass starts from the image, because rounding to its dtype
    # between the steps is not wanted.
    area = cut_h * cut_w
    origin = images + source * stride_n + cut_y * stride_y + cut_x * stride_x
    patch = patches + row * channels * pixels
    thirds, shift = _hue(jitter, row, area > 0, compute)
    means = tl.zeros((4,), compute)
    for steps in range(5):
        is_last = steps == 4
        op, _ = jitter_step(jitter, order, row, tl.minimum(steps, 3), is_rgb)
        if (is_last & is_kept) | ((op == CONTRAST) & (steps < 4)):
            total = tl.zeros((block,), tl.float64)
            for start in range(0, area, block):
                at = start + lanes
                mask = at < area
                y, x = _split(start, cut_w, lanes)
                place = origin + y * stride_y + x * stride_x
                r, g, b = load_jittered(
                    place, stride_c, mask, jitter, order, row, steps, means, thirds, shift,
                    is_rgb, white, compute,
                )  # fmt: skip
                if is_last:
                    _store_colours(patch + at, pixels, r, g, b, place, stride_c, mask, channels)
                else:
                    own = grey(r, g, b) if is_rgb else r
                    total += tl.where(mask, own, 0.0).to(tl.float64)
            mean = tl.sum(total) / tl.maximum(area, 1).to(tl.float64)
            means = tl.where(tl.arange(0, 4) == steps, mean.to(compute), means)
    tl.store(all_means + 4 * row + tl.arange(0, 4), means)


@triton.jit
def _cut_paste_paste_kernel(
    images, jitter, order, plans, all_means, patches, mask, height, width,
    stride_n, stride_c, stride_y, stride_x, tiles_y, tiles_x,
    channels: tl.constexpr, white: tl.constexpr, compute: tl.constexpr,
    rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """One program a tile of an image: asks of each pixel where in the patch it comes from."""
    tile = tl.program_id(0).to(tl.int64)
    stride_c = tl.cast(stride_c, tl.int64)
    pixels = tl.cast(height, tl.int64) * width
    row = tile // tiles_x // tiles_y
    top = tile // tiles_x % tiles_y * rows
    left = tile % tiles_x * columns
    y = (top + tl.arange(0, rows))[:, None]
    x = (left + tl.arange(0, columns))[None, :]
    in_image = (y < height) & (x < width)
    inside = in_image & False
    plan = plans + _COLUMNS * row
    seen_y = tl.load(plan + _SEEN_Y)
    seen_x = tl.load(plan + _SEEN_X)
    is_met = (top < seen_y + tl.load(plan + _SEEN_H)) & (seen_y < top + rows)
    is_met = is_met & (left < seen_x + tl.load(plan + _SEEN_W)) & (seen_x < left + columns)
    if is_met:
        py, px, inside = _look_up(plan, y, x)
        inside = inside & in_image
        patch = patches + row * channels * pixels + py * tl.load(plan + _CUT_W) + px
        py += tl.load(plan + _CUT_Y)
        px += tl.load(plan + _CUT_X)
        source = images + tl.load(plan + _SOURCE) * stride_n + py * stride_y + px * stride_x
        is_kept = tl.load(plan + _IS_KEPT) != 0
        place = tl.where(is_kept, patch, source)
        step_c = tl.where(is_kept, pixels, stride_c)
        steps = tl.where(is_kept, 0, 4)  # what is kept is recoloured
        thirds, shift = _hue(jitter, row, True, compute)
        means = tl.load(all_means + 4 * row + tl.arange(0, 4))
        r, g, b = load_jittered(
            place, step_c, inside, jitter, order, row, steps, means, thirds, shift,
            channels >= 3, white, compute,
        )  # fmt: skip
        to = images + row * stride_n + y * stride_y + x * stride_x
        _store_colours(to, stride_c, r, g, b, place, step_c, inside, channels)
    tl.store(mask + row * pixels + y * width + x, inside, mask=in_image)


def launch(
    images: Tensor,
    source_index: Tensor,
    source_box: Tensor,
    target: Tensor,
    angle: Tensor,
    jitter: Tensor,
    order: Tensor,
    apply: Tensor,
    mask: Tensor,
    status: Tensor,
) -> None:
    """See `ssad_kernels.cutpaste.cut_paste_`."""
    n, channels, height, width = images.shape
    if n == 0:
        return
    pixels = height * width
    tiles = triton.cdiv(height, _ROWS), triton.cdiv(width, _WIDTH)
    jitter, order = jitter.contiguous(), order.contiguous()
    plans = source_box.new_empty((n, _COLUMNS.value))
    means = images.new_empty((n, 4), dtype=_compute(images.dtype))
    # Room for patches as large as the images, so that no size is needed on the host; only what
    # is kept is touched.
    patches = images.new_empty((n, channels, pixels))
    given, colours = (images, jitter, order, plans, means, patches), _colours(images.dtype)
    with torch.cuda.device_of(images):
        _cut_paste_plan_kernel[(triton.cdiv(n, _PLAN_BLOCK),)](
            source_index.contiguous(), source_box.contiguous(), target.contiguous(),
            angle.contiguous(), jitter, apply.contiguous(), plans, status, n, height, width,
            **_PLAN_CONSTANTS, **_UNFUSED,
        )  # fmt: skip
        _cut_paste_cut_kernel[(n,)](
            *given, status, *images.stride(), pixels,
            channels, **colours, block=_BLOCK, **_CUT_OPTIONS,
        )  # fmt: skip
        _cut_paste_paste_kernel[(n * tiles[0] * tiles[1],)](
            *given, mask, height, width, *images.stride(), *tiles,
            channels, **colours, rows=_ROWS, columns=_WIDTH, **_PASTE_OPTIONS,
        )  # fmt: skip


_PLAN_CONSTANTS = {"block": _PLAN_BLOCK}

# Where the compiler contracts multiply-adds differs from one specialisation to the next. Without
# that the geometry comes out as on the other backends, and the pixels as in any other layout.
_UNFUSED = {"enable_fp_fusion": False}
# There are seldom more samples than multiprocessors. Without a limit ptxas spills registers to fit
# several samples into one.
_CUT_OPTIONS = {**_UNFUSED, "num_warps": 8, "maxnreg": 128}
_PASTE_OPTIONS = {**_UNFUSED, "num_warps": 8}


def _compute(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _colours(dtype: torch.dtype) -> dict[str, object]:
    return {
        "white": 255.0 if dtype == torch.uint8 else 1.0,
        "compute": tl.float64 if dtype == torch.float64 else tl.float32,
    }


_PLAN_VARIANT = Variant(
    _cut_paste_plan_kernel,
    {
        **dict.fromkeys(("source_index", "source_box", "target"), "*i64"),
        "angle": "*fp32",
        "jitter": "*fp32",
        "apply": "*i1",
        "plans": "*i64",
        "status": "*i8",
    },
    _PLAN_CONSTANTS,
    _UNFUSED,
)


def _variants(dtype: torch.dtype, pointer: str, layout: dict[str, int]) -> tuple[Variant, Variant]:
    means = "*fp64" if dtype == torch.float64 else "*fp32"
    shared = {"images": pointer, "jitter": "*fp32", "order": "*i64", "plans": "*i64"}
    shared |= {"all_means": means, "patches": pointer}
    sizes = {"channels": 3, **layout, **_colours(dtype)}
    tile = {"rows": _ROWS, "columns": _WIDTH}
    return (
        Variant(
            _cut_paste_cut_kernel,
            {**shared, "status": "*i8"},
            {**sizes, "block": _BLOCK},
            _CUT_OPTIONS,
        ),
        Variant(
            _cut_paste_paste_kernel, {**shared, "mask": "*i1"}, {**sizes, **tile}, _PASTE_OPTIONS
        ),
    )


_CONTIGUOUS, _CHANNELS_LAST = {"stride_x": 1}, {"stride_c": 1}
VARIANTS = (
    _PLAN_VARIANT,
    *_variants(torch.uint8, "*u8", _CONTIGUOUS),
    *_variants(torch.uint8, "*u8", _CHANNELS_LAST),
    *_variants(torch.float16, "*fp16", _CONTIGUOUS),
    *_variants(torch.bfloat16, "*bf16", _CONTIGUOUS),
    *_variants(torch.float32, "*fp32", _CONTIGUOUS),
    *_variants(torch.float64, "*fp64", _CONTIGUOUS),
)
