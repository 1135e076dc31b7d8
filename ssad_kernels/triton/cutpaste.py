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

from ssad_kernels.triton._variants import Variant
from ssad_kernels.triton.cutpaste_plan import (
    COLUMNS,
    CUT_H,
    CUT_W,
    EMPTY,
    FROM_X,
    FROM_Y,
    IS_KEPT,
    SEEN_H,
    SEEN_W,
    SEEN_X,
    SEEN_Y,
    SOURCE,
    UNFUSED,
    launch_plan,
    look_up,
    source_place,
    source_rectangle,
)
from ssad_kernels.triton.jitter import CONTRAST, HUE, grey, hue_turn, jitter_step, load_jittered

_BLOCK = 512  # pixels of a patch at a time
_ROWS, _WIDTH = 32, 64  # of a tile to paste into


@triton.jit
def _split(start, width, lanes):
    """Row and column of the pixels ``start + lanes`` of a plane, int64."""
    # Only the start needs 64 bits; a lane's division would be several times slower with them.
    x = (start % width).to(tl.int32) + lanes
    width_32 = tl.cast(width, tl.int32)
    return start // width + x // width_32, (x % width_32).to(tl.int64)


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
def _cut_paste_cut_kernel(
    images, jitter, order, plans, all_means, patches, status,
    stride_n, stride_c, stride_y, stride_x, height, width, pixels, is_moved: tl.constexpr,
    channels: tl.constexpr, white: tl.constexpr, compute: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """One program a sample, so that the mean grey is summed in one order without atomics."""
    row = tl.program_id(0).to(tl.int64)
    plan = plans + COLUMNS * row
    lanes = tl.arange(0, block)
    stride_c = tl.cast(stride_c, tl.int64)  # multiples of it and of pixels may need 64 bits
    pixels = tl.cast(pixels, tl.int64)
    is_rgb: tl.constexpr = channels >= 3

    # Whether the canvas shows any pixel of the patch; almost always its first tile knows.
    seen_y = tl.load(plan + SEEN_Y)
    seen_x = tl.load(plan + SEEN_X)
    seen_w = tl.load(plan + SEEN_W)
    seen_area = tl.load(plan + SEEN_H) * seen_w
    is_seen = tl.full((), 0, tl.int32)
    for start in range(0, seen_area, block):
        if is_seen == 0:
            y, x = _split(start, seen_w, lanes)
            _, _, inside = look_up(plan, seen_y + y, seen_x + x)
            is_seen = tl.max((inside & (start + lanes < seen_area)).to(tl.int32))
    if seen_area > 0 and is_seen == 0:
        tl.store(status + row, EMPTY)

    # Pasting cannot read the patch where it is if what it is cut from is pasted over.
    top, bottom, left, right = source_rectangle(plan, height, width, is_moved)
    source = tl.load(plan + SOURCE)
    over = plans + COLUMNS * source
    over_y = tl.load(over + SEEN_Y)
    over_x = tl.load(over + SEEN_X)
    is_kept = (top < over_y + tl.load(over + SEEN_H)) & (over_y < bottom)
    is_kept = is_kept & (left < over_x + tl.load(over + SEEN_W)) & (over_x < right)
    tl.store(plan + IS_KEPT, is_kept.to(tl.int64))

    # Each contrast needs the mean grey after the steps before it, and so a pass over the patch; the
    # last pass keeps the result. Every pass starts from the image, because rounding to its dtype
    # between the steps is not wanted.
    cut_w = tl.load(plan + CUT_W)
    area = tl.load(plan + CUT_H) * cut_w
    image = images + source * stride_n
    origin = image + tl.load(plan + FROM_Y) * stride_y + tl.load(plan + FROM_X) * stride_x
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
                if is_moved:
                    place = source_place(
                        image, plan, y, x, height, width, stride_y, stride_x, is_moved
                    )
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
    stride_n, stride_c, stride_y, stride_x, tiles_y, tiles_x, is_moved: tl.constexpr,
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
    plan = plans + COLUMNS * row
    seen_y = tl.load(plan + SEEN_Y)
    seen_x = tl.load(plan + SEEN_X)
    is_met = (top < seen_y + tl.load(plan + SEEN_H)) & (seen_y < top + rows)
    is_met = is_met & (left < seen_x + tl.load(plan + SEEN_W)) & (seen_x < left + columns)
    if is_met:
        py, px, inside = look_up(plan, y, x)
        inside = inside & in_image
        patch = patches + row * channels * pixels + py * tl.load(plan + CUT_W) + px
        source = images + tl.load(plan + SOURCE) * stride_n
        source = source_place(source, plan, py, px, height, width, stride_y, stride_x, is_moved)
        is_kept = tl.load(plan + IS_KEPT) != 0
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
    turns: Tensor | None,
    shift: Tensor | None,
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
    means = images.new_empty((n, 4), dtype=_compute(images.dtype))
    # Room for patches as large as the images, so that no size is needed on the host; only what
    # is kept is touched.
    patches = images.new_empty((n, channels, pixels))
    colours = _colours(images.dtype)
    is_moved = turns is not None or shift is not None
    if is_moved and turns is None:
        turns = torch.zeros_like(source_index)
    with torch.cuda.device_of(images):
        plans = launch_plan(
            source_index, source_box, target, angle, jitter, apply, turns, shift,
            (height, width), status,
        )  # fmt: skip
        given = images, jitter, order, plans, means, patches
        _cut_paste_cut_kernel[(n,)](
            *given, status, *images.stride(), height, width, pixels,
            is_moved, channels, **colours, block=_BLOCK, **_CUT_OPTIONS,
        )  # fmt: skip
        _cut_paste_paste_kernel[(n * tiles[0] * tiles[1],)](
            *given, mask, height, width, *images.stride(), *tiles,
            is_moved, channels, **colours, rows=_ROWS, columns=_WIDTH, **_PASTE_OPTIONS,
        )  # fmt: skip


# There are seldom more samples than multiprocessors. Without a limit ptxas spills registers to fit
# several samples into one.
_CUT_OPTIONS = {**UNFUSED, "num_warps": 8, "maxnreg": 128}
_PASTE_OPTIONS = {**UNFUSED, "num_warps": 8}


def _compute(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _colours(dtype: torch.dtype) -> dict[str, object]:
    return {
        "white": 255.0 if dtype == torch.uint8 else 1.0,
        "compute": tl.float64 if dtype == torch.float64 else tl.float32,
    }


def _variants(
    dtype: torch.dtype, pointer: str, layout: dict[str, int], *, is_moved: bool = False
) -> tuple[Variant, Variant]:
    means = "*fp64" if dtype == torch.float64 else "*fp32"
    shared = {"images": pointer, "jitter": "*fp32", "order": "*i64", "plans": "*i64"}
    shared |= {"all_means": means, "patches": pointer}
    sizes = {"is_moved": is_moved, "channels": 3, **layout, **_colours(dtype)}
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
    *_variants(torch.uint8, "*u8", _CONTIGUOUS),
    *_variants(torch.uint8, "*u8", _CHANNELS_LAST),
    *_variants(torch.uint8, "*u8", _CONTIGUOUS, is_moved=True),
    *_variants(torch.float16, "*fp16", _CONTIGUOUS),
    *_variants(torch.bfloat16, "*bf16", _CONTIGUOUS),
    *_variants(torch.float32, "*fp32", _CONTIGUOUS),
    *_variants(torch.float32, "*fp32", _CONTIGUOUS, is_moved=True),
    *_variants(torch.float64, "*fp64", _CONTIGUOUS),
)
