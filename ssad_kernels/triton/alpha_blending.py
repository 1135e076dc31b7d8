# SPDX-License-Identifier: Apache-2.0
"""Alpha blending in two launches: check and clip each sample, then blend the images' tiles."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssad_kernels._status import Status
from ssad_kernels.triton._variants import Variant

_APPLIED = tl.constexpr(int(Status.APPLIED))
_NO_PLACE = tl.constexpr(int(Status.NO_PLACE))
_EMPTY = tl.constexpr(int(Status.EMPTY))
_NOT_FINITE = tl.constexpr(int(Status.NOT_FINITE))
_CLIPPED = tl.constexpr(int(Status.CLIPPED))

_FAR = tl.constexpr(1 << 24)  # larger coordinates cannot mean a place in an image

# What the plan of a sample holds, int64; sides are 0 where it is not applied.
_SOURCE, _Y, _X, _H, _W, _BOX_Y, _BOX_X, _BOX_H, _BOX_W = (
    tl.constexpr(column) for column in range(9)
)
_COLUMNS = tl.constexpr(16)

_BLOCK = 512  # pixels of a tile


@triton.jit
def _is_near(x):
    return (x > -_FAR) & (x < _FAR)


@triton.jit
def _mask_value(mask, inside, is_uint8: tl.constexpr, compute: tl.constexpr):
    """The mask at pointers, in 0...1; a NaN stays one."""
    value = tl.load(mask, mask=inside, other=0).to(compute)
    if is_uint8:
        value = tl.div_rn(value, 255.0) if compute == tl.float32 else value / 255.0
    value = tl.where(value > 1.0, 1.0, value)
    return tl.where(value < 0.0, 0.0, value)


@triton.jit
def _alpha_blend_plan_kernel(
    mask, top_left, sizes, source_index, source_box, alpha, plans, status, sources, height, width,
    source_height, source_width, mask_height, mask_width, has_mask: tl.constexpr,
    has_sizes: tl.constexpr, has_index: tl.constexpr, has_box: tl.constexpr,
    has_alpha: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """One program a sample: decides everything, so that the other kernel can trust it."""
    row = tl.program_id(0).to(tl.int64)
    box_y = tl.full((), 0, tl.int64)
    box_x = tl.full((), 0, tl.int64)
    h = tl.cast(source_height, tl.int64)
    w = tl.cast(source_width, tl.int64)
    if has_box:
        box_y = tl.load(source_box + 4 * row)
        box_x = tl.load(source_box + 4 * row + 1)
        h = tl.load(source_box + 4 * row + 2)
        w = tl.load(source_box + 4 * row + 3)
    box_h = h
    box_w = w
    if has_sizes:
        h = tl.load(sizes + 2 * row)
        w = tl.load(sizes + 2 * row + 1)
        if not has_box:
            box_h = h
            box_w = w
    source = row
    if has_index:
        source = tl.load(source_index + row)
    y = tl.load(top_left + 2 * row)
    x = tl.load(top_left + 2 * row + 1)

    is_empty = (h < 1) | (w < 1) | (box_h < 1) | (box_w < 1)
    is_sound = _is_near(y) & _is_near(x) & _is_near(h) & _is_near(w) & (source >= 0)
    is_sound = is_sound & (source < sources) & (box_y >= 0) & (box_x >= 0)
    is_sound = is_sound & _is_near(box_y) & _is_near(box_x) & _is_near(box_h) & _is_near(box_w)
    is_sound = is_sound & (box_y + box_h <= source_height) & (box_x + box_w <= source_width)
    if has_mask:
        is_sound = is_sound & (h <= mask_height) & (w <= mask_width)
    is_sound = is_sound & (y < height) & (x < width) & (y + h > 0) & (x + w > 0) & ~is_empty
    is_whole = (y >= 0) & (x >= 0) & (y + h <= height) & (x + w <= width)

    is_set = is_sound
    is_finite = is_sound
    if has_mask:
        # Only what lies in the image counts.
        y0 = tl.where(is_sound, tl.maximum(-y, 0), 0)
        x0 = tl.where(is_sound, tl.maximum(-x, 0), 0)
        seen_h = tl.where(is_sound, tl.minimum(h, height - y) - y0, 0)
        seen_w = tl.where(is_sound, tl.minimum(w, width - x) - x0, 1)
        first = mask + (row * mask_height + y0) * mask_width + x0
        lanes = tl.arange(0, block)
        any_set = tl.zeros((block,), tl.int32)
        any_nan = tl.zeros((block,), tl.int32)
        area = seen_h * seen_w
        for start in range(0, area, block):
            at = start + lanes
            place = first + at // seen_w * mask_width + at % seen_w
            value = tl.load(place, mask=at < area, other=0)
            any_set = any_set | (value > 0).to(tl.int32)
            any_nan = any_nan | (value != value).to(tl.int32)
        is_set = tl.max(any_set) > 0
        is_finite = tl.max(any_nan) == 0
    if has_alpha:
        is_finite = is_finite & (tl.abs(tl.load(alpha + row)) < float("inf"))

    code = tl.where(is_whole, _APPLIED, _CLIPPED)
    code = tl.where(is_finite, code, _NOT_FINITE)
    code = tl.where(is_set, code, _EMPTY)
    code = tl.where(is_sound, code, _NO_PLACE)
    code = tl.where(is_empty, _EMPTY, code)
    tl.store(status + row, code.to(tl.int8))
    is_applied = (code == _APPLIED) | (code == _CLIPPED)
    plan = plans + _COLUMNS * row
    tl.store(plan + _SOURCE, tl.where(is_applied, source, 0))
    tl.store(plan + _Y, y)
    tl.store(plan + _X, x)
    tl.store(plan + _H, tl.where(is_applied, h, 0))
    tl.store(plan + _W, tl.where(is_applied, w, 0))
    tl.store(plan + _BOX_Y, box_y)
    tl.store(plan + _BOX_X, box_x)
    tl.store(plan + _BOX_H, box_h)
    tl.store(plan + _BOX_W, box_w)


@triton.jit
def _tap(at, box, size):
    """The two pixels of a box that a pixel of the resized one lies between, and how far."""
    place = (at.to(tl.float64) + 0.5) * box.to(tl.float64) / size.to(tl.float64) - 0.5
    last = (box - 1).to(tl.float64)
    place = tl.minimum(tl.maximum(place, 0.0), last)
    low = tl.floor(place)
    part = place - low
    high = tl.where(part > 0.0, low + 1.0, low)  # a pixel without weight may be NaN
    return low.to(tl.int64), high.to(tl.int64), part


@triton.jit
def _mix(a, b, part, compute: tl.constexpr):
    return a.to(compute) + part.to(compute) * (b.to(compute) - a.to(compute))


@triton.jit
def _alpha_blend_kernel(
    target, source, mask, alpha, plans, width, pixels, tiles, target_n, target_c, target_y,
    target_x, source_n, source_c, source_y, source_x, mask_height, mask_width,
    channels: tl.constexpr, has_mask: tl.constexpr, has_alpha: tl.constexpr,
    is_resized: tl.constexpr, is_reference: tl.constexpr, compute: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    """One program a tile of an image."""
    tile = tl.program_id(0).to(tl.int64)
    row = tile // tiles
    plan = plans + _COLUMNS * row
    h = tl.load(plan + _H)
    w = tl.load(plan + _W)
    top = tl.load(plan + _Y)
    first = tile % tiles * block
    # Most tiles have no pixel of the patch.
    if (h > 0) & (first // width < top + h) & ((first + block - 1) // width >= top):
        at = first + tl.arange(0, block)
        image_y = at // width
        image_x = at % width
        y = image_y - top
        x = image_x - tl.load(plan + _X)
        inside = (at < pixels) & (y >= 0) & (y < h) & (x >= 0) & (x < w)
        weight = tl.full((block,), 1.0, compute)
        if has_alpha:
            share = tl.load(alpha + row)
            share = tl.minimum(tl.maximum(share, 0.0), 1.0)
            weight = weight * share.to(compute)
        if has_mask:
            place = mask + (row * mask_height + y) * mask_width + x
            is_uint8: tl.constexpr = mask.dtype.element_ty == tl.uint8
            weight = weight * _mask_value(place, inside, is_uint8, compute)
        inside = inside & (weight > 0.0)

        box_y = tl.load(plan + _BOX_Y)
        box_x = tl.load(plan + _BOX_X)
        from_image = source + tl.load(plan + _SOURCE) * source_n
        if is_resized:
            top_y, low_y, down = _tap(y, tl.load(plan + _BOX_H), h)
            left_x, right_x, right = _tap(x, tl.load(plan + _BOX_W), w)
            upper = from_image + (box_y + top_y) * source_y
            lower = from_image + (box_y + low_y) * source_y
            left_x = (box_x + left_x) * source_x
            right_x = (box_x + right_x) * source_x
        else:
            upper = from_image + (box_y + y) * source_y + (box_x + x) * source_x
        to = target + row * target_n + image_y * target_y + image_x * target_x
        is_integer: tl.constexpr = target.dtype.element_ty == tl.uint8
        for _ in tl.static_range(channels):
            if is_resized:
                a = tl.load(upper + left_x, mask=inside, other=0)
                b = tl.load(upper + right_x, mask=inside, other=0)
                above = _mix(a, b, right, compute)
                a = tl.load(lower + left_x, mask=inside, other=0)
                b = tl.load(lower + right_x, mask=inside, other=0)
                pasted = _mix(above, _mix(a, b, right, compute), down, compute)
                lower += source_c
            else:
                pasted = tl.load(upper, mask=inside, other=0).to(compute)
            if is_reference:
                pasted = tl.floor(pasted + 0.5)
            before = tl.load(to, mask=inside, other=0).to(compute)
            value = tl.where(weight == 1.0, pasted, before + weight * (pasted - before))
            if is_integer:
                value = tl.floor(value) if is_reference else tl.floor(value + 0.5)
            tl.store(to, value.to(to.dtype.element_ty), mask=inside)
            upper += source_c
            to += target_c


# So that pixels come out the same in every specialisation.
_UNFUSED = {"enable_fp_fusion": False}


def _compute(dtype: torch.dtype) -> tl.dtype:
    return tl.float64 if dtype == torch.float64 else tl.float32


def launch(
    target: Tensor,
    source: Tensor,
    mask: Tensor | None,
    top_left: Tensor,
    sizes: Tensor | None,
    source_index: Tensor | None,
    source_box: Tensor | None,
    alpha: Tensor | None,
    is_reference: bool,
    status: Tensor,
) -> None:
    """See `ssad_kernels.alpha_blend_`; the source has other memory than the target."""
    n, channels, height, width = target.shape
    if n == 0:
        return
    plans = top_left.new_empty((n, _COLUMNS.value))
    given = [top_left, sizes, source_index, source_box, alpha]
    # A pointer that is not read still has to be one.
    rows = [plans if row is None else row.contiguous() for row in given]
    values = plans if mask is None else mask.contiguous()
    mask_height, mask_width = (0, 0) if mask is None else mask.shape[1:]
    has_mask, has_alpha = mask is not None, alpha is not None
    is_resized = sizes is not None and source_box is not None
    pixels = height * width
    tiles = triton.cdiv(pixels, _BLOCK)
    with torch.cuda.device_of(target):
        _alpha_blend_plan_kernel[(n,)](
            values, *rows, plans, status, source.shape[0], height, width, *source.shape[2:],
            mask_height, mask_width, has_mask, sizes is not None, source_index is not None,
            source_box is not None, has_alpha, _BLOCK,
        )  # fmt: skip
        _alpha_blend_kernel[(n * tiles,)](
            target, source, values, rows[-1], plans, width, pixels, tiles, *target.stride(),
            *source.stride(), mask_height, mask_width, channels, has_mask, has_alpha, is_resized,
            is_reference, _compute(target.dtype), _BLOCK, **_UNFUSED,
        )  # fmt: skip


_ROWS = {
    "top_left": "*i64",
    "sizes": "*i64",
    "source_index": "*i64",
    "source_box": "*i64",
    "alpha": "*fp64",
    "plans": "*i64",
}


def _variants(
    dtype: torch.dtype, pointer: str, mask: str, *, is_resized: bool, layout: dict[str, int]
) -> tuple[Variant, Variant]:
    flags = dict.fromkeys(("has_sizes", "has_index", "has_box"), is_resized)
    shared = {"has_mask": True, "has_alpha": True, "block": _BLOCK}
    constants = {
        **shared,
        "channels": 3,
        "is_resized": is_resized,
        "is_reference": is_resized and dtype == torch.uint8,
        "compute": _compute(dtype),
        **layout,
    }
    pointers = {"target": pointer, "source": pointer, "mask": mask, "alpha": "*fp64"}
    return (
        Variant(
            _alpha_blend_plan_kernel,
            {"mask": mask, **_ROWS, "status": "*i8"},
            {**shared, **flags},
        ),
        Variant(_alpha_blend_kernel, {**pointers, "plans": "*i64"}, constants, _UNFUSED),
    )


_CONTIGUOUS = {"target_x": 1, "source_x": 1}
_CHANNELS_LAST = {"target_c": 1, "source_c": 1}
VARIANTS = (
    *_variants(torch.uint8, "*u8", "*i1", is_resized=False, layout=_CONTIGUOUS),
    *_variants(torch.uint8, "*u8", "*u8", is_resized=True, layout=_CHANNELS_LAST),
    *_variants(torch.float16, "*fp16", "*i1", is_resized=True, layout=_CONTIGUOUS),
    *_variants(torch.bfloat16, "*bf16", "*i1", is_resized=True, layout=_CONTIGUOUS),
    *_variants(torch.float32, "*fp32", "*fp32", is_resized=True, layout=_CONTIGUOUS),
    *_variants(torch.float64, "*fp64", "*fp32", is_resized=True, layout=_CONTIGUOUS),
)
