# SPDX-License-Identifier: Apache-2.0
"""Medians, object masks and labels.

A median is found bit by bit: a program holds the windows of some pixels, as integers with the order
of the numbers, and counts from the highest bit down how many lie below.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssad_kernels._backend import is_interpreted
from ssad_kernels.triton._variants import Variant

_LEVELS = tl.constexpr(256)
_LOGISTIC = tl.constexpr(2)
_KINDS = {"binary": 0, "intensity": 1, "logistic": 2, "factor": 3}

_BLOCK = 512  # pixels of a tile
# The same where each pixel brings its window. The interpreter takes its time for each tile.
_MEDIAN_BLOCK = 512 if is_interpreted() else 16
_LARGEST = tl.constexpr((1 << 63) - 1)


@triton.jit
def _places(start, height, width, lanes):
    """Row and column of the pixels ``start + lanes`` of a plane, int64."""
    x = (start % width).to(tl.int32) + lanes
    width_32 = tl.cast(width, tl.int32)
    return start // width + x // width_32, (x % width_32).to(tl.int64)


@triton.jit
def _nearest(at, limit):
    return tl.minimum(tl.maximum(at, 0), limit - 1)


@triton.jit
def _order(value, is_float: tl.constexpr, bits: tl.constexpr):
    """int64 in the order of the values; -0 becomes 0."""
    if is_float:
        if bits == 16:
            raw = value.to(tl.int16, bitcast=True).to(tl.int64)
        elif bits == 32:
            raw = value.to(tl.int32, bitcast=True).to(tl.int64)
        else:
            raw = value.to(tl.int64, bitcast=True)
        sign: tl.constexpr = -(1 << (bits - 1))
        return tl.where(raw < 0, sign - raw, raw)
    return value.to(tl.int64)


@triton.jit
def _value(order, is_float: tl.constexpr, bits: tl.constexpr, dtype: tl.constexpr):
    if is_float:
        sign: tl.constexpr = -(1 << (bits - 1))
        raw = tl.where(order < 0, sign - order, order)
        if bits == 16:
            return raw.to(tl.int16).to(dtype, bitcast=True)
        if bits == 32:
            return raw.to(tl.int32).to(dtype, bitcast=True)
        return raw.to(dtype, bitcast=True)
    return order.to(dtype)


@triton.jit
def _median(order, rank, bits: tl.constexpr):
    """The largest number of which at most `rank` of each row's are below it."""
    least: tl.constexpr = -(1 << (bits - 1))
    below = tl.sum((order < 0).to(tl.int32), axis=1)
    found = tl.where(below <= rank, 0, least).to(tl.int64)
    for step in range(bits - 1):
        bit = bits - 2 - step
        candidate = found + (tl.full((), 1, tl.int64) << bit)
        below = tl.sum((order < candidate[:, None]).to(tl.int32), axis=1)
        found = tl.where(below <= rank, candidate, found)
    return found


@triton.jit
def _window(radius: tl.constexpr, is_square: tl.constexpr, columns: tl.constexpr):
    """Offsets (y, x) of a window's pixels and whether there is one, in `columns` places."""
    side: tl.constexpr = 2 * radius + 1
    at = tl.arange(0, columns)
    y, x = at // side - radius, at % side - radius
    is_inside = at < side * side
    if not is_square:
        is_inside = is_inside & (y * y + x * x <= radius * radius)
    return y, x, is_inside


@triton.jit
def _median_kernel(
    images, boxes, out, height, width, stride_n, stride_c, stride_y, stride_x, tiles, channels,
    radius: tl.constexpr, is_square: tl.constexpr, has_boxes: tl.constexpr,
    is_float: tl.constexpr, bits: tl.constexpr, columns: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """One program a few pixels of a plane."""
    tile = tl.program_id(0).to(tl.int64)
    plane = tile // tiles
    start = tile % tiles * block
    lanes = tl.arange(0, block)
    pixels = tl.cast(height, tl.int64) * width
    mask = start + lanes < pixels
    y, x = _places(start, height, width, lanes)
    sample = plane // channels
    origin = images + sample * stride_n + plane % channels * stride_c
    own = tl.load(origin + y * stride_y + x * stride_x, mask=mask, other=0)
    dy, dx, is_inside = _window(radius, is_square, columns)
    near_y = _nearest(y[:, None] + dy[None, :], height)
    near_x = _nearest(x[:, None] + dx[None, :], width)
    is_read = is_inside[None, :] & mask[:, None]
    values = tl.load(origin + near_y * stride_y + near_x * stride_x, mask=is_read, other=0)
    order = tl.where(is_read, _order(values, is_float, bits), _LARGEST)
    count = tl.sum(is_inside.to(tl.int32), axis=0)
    middle = _value(_median(order, count // 2, bits), is_float, bits, out.dtype.element_ty)
    if is_float:
        infinity: tl.constexpr = 0x7C00 if out.dtype.element_ty == tl.float16 else 0x7F80
        largest: tl.constexpr = (
            infinity if bits == 16 else (0x7F800000 if bits == 32 else 0x7FF0000000000000)
        )
        is_nan = is_read & ((order > largest) | (order < -largest))
        any_nan = tl.max(is_nan.to(tl.int32), axis=1) > 0
        middle = tl.where(any_nan, float("nan"), middle)
    if has_boxes:
        row = boxes + 4 * sample
        top, left = tl.load(row), tl.load(row + 1)
        h, w = tl.maximum(tl.load(row + 2), 0), tl.maximum(tl.load(row + 3), 0)
        # No sum overflows: h is added to what is negative, and taken from what is not.
        in_rows = tl.where(top < 0, y < tl.minimum(top, 0) + h, (y >= top) & (y - top < h))
        in_columns = tl.where(left < 0, x < tl.minimum(left, 0) + w, (x >= left) & (x - left < w))
        middle = tl.where(in_rows & in_columns, middle, own)
    tl.store(out + plane * pixels + start + lanes, middle, mask=mask)


@triton.jit
def _load_sum(place, stride_c, mask, channels: tl.constexpr, compute: tl.constexpr):
    total = tl.load(place, mask=mask, other=0).to(compute)
    for c in tl.static_range(1, channels):
        total += tl.load(place + c * stride_c, mask=mask, other=0).to(compute)
    return total


@triton.jit
def _objects_kernel(
    images, bounds, out, height, width, stride_n, stride_c, stride_y, stride_x, tiles,
    channels: tl.constexpr, is_otsu: tl.constexpr, compute: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Compare with bounds or, for Otsu's method, store the levels."""
    tile = tl.program_id(0).to(tl.int64)
    sample = tile // tiles
    start = tile % tiles * block
    lanes = tl.arange(0, block)
    pixels = tl.cast(height, tl.int64) * width
    mask = start + lanes < pixels
    y, x = _places(start, height, width, lanes)
    place = images + sample * stride_n + y * stride_y + x * stride_x
    total = _load_sum(place, stride_c, mask, channels, compute)
    if is_otsu:
        if compute == tl.int32:
            level = (2 * total + channels) // (2 * channels)
        else:
            scale: tl.constexpr = 255 / channels
            level = total * tl.full((), scale, compute) + 0.5
            level = tl.where(level > 0, level, 0.0)  # a NaN too
            level = tl.where(level < 255, level, 255.0)
        found = level.to(tl.uint8)
    else:
        found = ((total < tl.load(bounds)) | (total > tl.load(bounds + 1))).to(tl.uint8)
    tl.store(out + sample * pixels + start + lanes, found, mask=mask)


@triton.jit
def _otsu_kernel(levels, height, width, block: tl.constexpr):
    """One program an image: finds the threshold and turns levels into 0 and 1."""
    pixels = tl.cast(height, tl.int64) * width
    plane = levels + tl.program_id(0).to(tl.int64) * pixels
    lanes = tl.arange(0, block)
    thresholds = tl.arange(0, _LEVELS)
    count = tl.zeros((_LEVELS,), tl.int64)
    total = tl.zeros((_LEVELS,), tl.int64)
    for start in range(0, pixels, block):
        own = tl.load(plane + start + lanes, mask=start + lanes < pixels, other=0).to(tl.int32)
        is_below = (own[None, :] <= thresholds[:, None]) & (start + lanes < pixels)[None, :]
        count += tl.sum(is_below.to(tl.int32), axis=1)
        total += tl.sum(tl.where(is_below, own[None, :], 0), axis=1)
    above = pixels - count
    whole = tl.max(total, axis=0)
    dark = total.to(tl.float64) / tl.maximum(count, 1).to(tl.float64)
    light = (whole - total).to(tl.float64) / tl.maximum(above, 1).to(tl.float64)
    spread = count.to(tl.float64) * above.to(tl.float64) * ((dark - light) * (dark - light))
    most = tl.max(spread, axis=0)
    best = tl.min(tl.where(spread == most, thresholds, _LEVELS), axis=0)

    frame = tl.zeros((block,), tl.int32)
    bright = tl.zeros((block,), tl.int32)
    for start in range(0, pixels, block):
        mask = start + lanes < pixels
        y, x = (start + lanes) // width, (start + lanes) % width
        on_frame = mask & ((y == 0) | (y == height - 1) | (x == 0) | (x == width - 1))
        own = tl.load(plane + start + lanes, mask=mask, other=0).to(tl.int32)
        frame += on_frame.to(tl.int32)
        bright += (on_frame & (own > best)).to(tl.int32)
    is_bright_behind = (2 * tl.sum(bright, axis=0) > tl.sum(frame, axis=0)).to(tl.int32)
    has_sides = (most > 0.0).to(tl.int32)
    for start in range(0, pixels, block):
        mask = start + lanes < pixels
        own = tl.load(plane + start + lanes, mask=mask, other=0).to(tl.int32)
        is_object = ((own > best).to(tl.int32) ^ is_bright_behind) * has_sides
        tl.store(plane + start + lanes, is_object.to(tl.uint8), mask=mask)


@triton.jit
def _changes_kernel(
    before, after, region, threshold, changed, values, height, width,
    before_n, before_c, before_y, before_x, after_n, after_c, after_y, after_x,
    region_n, region_y, region_x, tiles,
    channels: tl.constexpr, compute: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0).to(tl.int64)
    sample = tile // tiles
    start = tile % tiles * block
    lanes = tl.arange(0, block)
    pixels = tl.cast(height, tl.int64) * width
    mask = start + lanes < pixels
    y, x = _places(start, height, width, lanes)
    place = region + sample * region_n + y * region_y + x * region_x
    is_inside = tl.load(place, mask=mask, other=0) != 0
    a = before + sample * before_n + y * before_y + x * before_x
    b = after + sample * after_n + y * after_y + x * after_x
    total = tl.zeros((block,), compute)
    for c in tl.static_range(channels):
        old = tl.load(a + c * before_c, mask=mask, other=0).to(compute)
        new = tl.load(b + c * after_c, mask=mask, other=0).to(compute)
        total += tl.abs(new - old)
    is_inside = is_inside & (total == total)
    at = sample * pixels + start + lanes
    is_changed = is_inside & (total > tl.load(threshold))
    if compute == tl.int32:
        level = total.to(tl.float32)
    else:
        scale: tl.constexpr = 255 / channels
        level = (total * tl.full((), scale, compute)).to(tl.float32)
    tl.store(changed + at, is_changed.to(tl.uint8), mask=mask)
    tl.store(values + at, tl.where(is_inside, level, 0.0), mask=mask)


@triton.jit
def _majority_kernel(
    marks, out, values, label, factor, height, width, tiles,
    radius: tl.constexpr, is_label: tl.constexpr, has_factor: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """The median of a square over 0 and 1; then, for a label, what is left of the values."""
    tile = tl.program_id(0).to(tl.int64)
    sample = tile // tiles
    start = tile % tiles * block
    lanes = tl.arange(0, block)
    pixels = tl.cast(height, tl.int64) * width
    mask = start + lanes < pixels
    y, x = _places(start, height, width, lanes)
    plane = marks + sample * pixels
    side: tl.constexpr = 2 * radius + 1
    count = tl.zeros((block,), tl.int32)
    for j in range(side * side):
        near_y = _nearest(y + j // side - radius, height)
        near_x = _nearest(x + j % side - radius, width)
        count += tl.load(plane + near_y * width + near_x, mask=mask, other=0).to(tl.int32)
    is_set = count > side * side // 2
    at = sample * pixels + start + lanes
    tl.store(out + at, is_set.to(tl.uint8), mask=mask)
    if is_label:
        value = tl.load(values + at, mask=mask, other=0.0)
        tl.store(values + at, tl.where(is_set, value, 0.0), mask=mask)
        constant = tl.load(factor + sample) if has_factor else 1.0
        tl.store(label + at, tl.where(is_set, constant, 0.0).to(tl.float32), mask=mask)


@triton.jit
def _label_kernel(
    values, marks, steepness, midpoint, label, height, width, tiles,
    unit: tl.constexpr, kind: tl.constexpr, radius: tl.constexpr, columns: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0).to(tl.int64)
    sample = tile // tiles
    start = tile % tiles * block
    lanes = tl.arange(0, block)
    pixels = tl.cast(height, tl.int64) * width
    mask = start + lanes < pixels
    y, x = _places(start, height, width, lanes)
    dy, dx, is_inside = _window(radius, False, columns)
    near_y = _nearest(y[:, None] + dy[None, :], height)
    near_x = _nearest(x[:, None] + dx[None, :], width)
    is_read = is_inside[None, :] & mask[:, None]
    plane = values + sample * pixels
    window = tl.load(plane + near_y * width + near_x, mask=is_read, other=0.0)
    order = tl.where(is_read, _order(window, True, 32), _LARGEST)
    count = tl.sum(is_inside.to(tl.int32), axis=0)
    middle = _value(_median(order, count // 2, 32), True, 32, tl.float32)
    level = tl.div_rn(middle, tl.full((block,), unit, tl.float32))
    at = sample * pixels + start + lanes
    if kind == _LOGISTIC:
        is_set = tl.load(marks + at, mask=mask, other=0) != 0
        exponent = tl.load(steepness + sample) * (level - tl.load(midpoint + sample))
        level = tl.where(is_set, 1.0 / (1.0 + tl.exp(-exponent)), 0.0)
    tl.store(label + at, level, mask=mask)


def _columns(radius: int) -> int:
    return int(triton.next_power_of_2((2 * radius + 1) ** 2))


_BITS = {torch.uint8: 9, torch.int16: 16, torch.int32: 32}


def _numbers(dtype: torch.dtype) -> dict[str, Any]:
    bits = 8 * dtype.itemsize if dtype.is_floating_point else _BITS[dtype]
    return {"is_float": dtype.is_floating_point, "bits": bits}


def _compute(dtype: torch.dtype) -> Any:
    return {torch.uint8: tl.int32, torch.float64: tl.float64}.get(dtype, tl.float32)


def _as_bytes(tensor: Tensor) -> Tensor:
    return tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor


def launch_median(
    images: Tensor, radius: int, is_square: bool, boxes: Tensor | None, out: Tensor
) -> None:
    """See `ssad_kernels.labels.median_filter`."""
    n, channels, height, width = images.shape
    images, out = _as_bytes(images), _as_bytes(out)
    tiles = triton.cdiv(height * width, _MEDIAN_BLOCK)
    if n == 0:
        return
    with torch.cuda.device_of(images):
        _median_kernel[(n * channels * tiles,)](
            images, images if boxes is None else boxes.contiguous(), out, height, width,
            *images.stride(), tiles, channels, radius, is_square, boxes is not None,
            **_numbers(images.dtype), columns=_columns(radius), block=_MEDIAN_BLOCK,
        )  # fmt: skip


def launch_mask(
    images: Tensor, low: float, high: float, is_otsu: bool, size: int, out: Tensor
) -> None:
    """See `ssad_kernels.labels.object_mask`."""
    n, channels, height, width = images.shape
    if n == 0:
        return
    tiles = triton.cdiv(height * width, _BLOCK)
    marks = torch.empty(out.shape, dtype=torch.uint8, device=out.device)
    # A number by itself would arrive as float32.
    dtype = torch.float64 if images.dtype == torch.float64 else torch.float32
    bounds = torch.cat([images.new_full((1,), bound, dtype=dtype) for bound in (low, high)])
    with torch.cuda.device_of(images):
        _objects_kernel[(n * tiles,)](
            images, bounds, marks, height, width, *images.stride(), tiles,
            channels, is_otsu, _compute(images.dtype), _BLOCK, **_UNFUSED,
        )  # fmt: skip
        if is_otsu:
            _otsu_kernel[(n,)](marks, height, width, _OTSU_BLOCK, **_UNFUSED)
        _majority_kernel[(n * tiles,)](
            marks, _as_bytes(out), marks, marks, marks, height, width, tiles,
            size // 2, False, False, _BLOCK,
        )  # fmt: skip


def launch_label(before: Tensor, after: Tensor, region: Tensor, *rest: Any) -> None:
    """See `ssad_kernels.labels.difference_label`."""
    kind, steepness, midpoint, factor, threshold, size, radius, label = rest
    n, channels, height, width = before.shape
    if n == 0:
        return
    tiles = triton.cdiv(height * width, _BLOCK)
    dtype = torch.float64 if before.dtype == torch.float64 else torch.float32
    bound = before.new_full((1,), threshold, dtype=dtype)
    changed, marks = torch.empty((2, *label.shape), dtype=torch.uint8, device=label.device)
    values = torch.empty_like(label)
    region_n, _, region_y, region_x = region.stride()
    with torch.cuda.device_of(before):
        _changes_kernel[(n * tiles,)](
            before, after, _as_bytes(region), bound, changed, values, height, width,
            *before.stride(), *after.stride(), region_n, region_y, region_x, tiles,
            channels, _compute(before.dtype), _BLOCK, **_UNFUSED,
        )  # fmt: skip
        _majority_kernel[(n * tiles,)](
            changed, marks, values, label, label if factor is None else factor.contiguous(),
            height, width, tiles, size // 2, True, factor is not None, _BLOCK,
        )  # fmt: skip
        if kind in ("intensity", "logistic"):
            tiles = triton.cdiv(height * width, _MEDIAN_BLOCK)
            rows = [label if row is None else row.contiguous() for row in (steepness, midpoint)]
            _label_kernel[(n * tiles,)](
                values, marks, *rows, label, height, width, tiles,
                float(channels) if before.dtype == torch.uint8 else 1.0, _KINDS[kind],
                radius, _columns(radius), _MEDIAN_BLOCK,
            )  # fmt: skip


_OTSU_BLOCK = 32
# What is compared must not depend on contraction.
_UNFUSED = {"enable_fp_fusion": False}
_CONTIGUOUS = {"stride_x": 1}


def _variants() -> list[Variant]:
    found = []
    for dtype, pointer in (
        (torch.uint8, "*u8"), (torch.int16, "*i16"), (torch.int32, "*i32"),
        (torch.float16, "*fp16"), (torch.bfloat16, "*bf16"), (torch.float32, "*fp32"),
        (torch.float64, "*fp64"),
    ):  # fmt: skip
        constants = {
            **_CONTIGUOUS, "radius": 5, "is_square": False, "has_boxes": True,
            **_numbers(dtype), "columns": _columns(5), "block": _MEDIAN_BLOCK,
        }  # fmt: skip
        pointers = {"images": pointer, "boxes": "*i64", "out": pointer}
        found.append(Variant(_median_kernel, pointers, constants))
    for dtype, pointer, bound in (
        (torch.uint8, "*u8", "*fp32"), (torch.float32, "*fp32", "*fp32"),
        (torch.float64, "*fp64", "*fp64"),
    ):  # fmt: skip
        shared = {"channels": 3, "compute": _compute(dtype), "block": _BLOCK}
        pointers = {"images": pointer, "bounds": bound, "out": "*u8"}
        constants = {**shared, **_CONTIGUOUS, "is_otsu": True}
        found.append(Variant(_objects_kernel, pointers, constants, _UNFUSED))
        pointers = {
            "before": pointer, "after": pointer, "region": "*u8", "threshold": bound,
            "changed": "*u8", "values": "*fp32",
        }  # fmt: skip
        found.append(Variant(_changes_kernel, pointers, shared, _UNFUSED))
    found.append(Variant(_otsu_kernel, {"levels": "*u8"}, {"block": _OTSU_BLOCK}, _UNFUSED))
    marks = {"marks": "*u8", "out": "*u8", "values": "*fp32", "label": "*fp32", "factor": "*fp32"}
    constants = {"radius": 2, "is_label": True, "has_factor": True, "block": _BLOCK}
    found.append(Variant(_majority_kernel, marks, constants))
    pointers = {
        "values": "*fp32", "marks": "*u8", "steepness": "*fp32", "midpoint": "*fp32",
        "label": "*fp32",
    }  # fmt: skip
    constants = {
        "unit": 3.0, "kind": _KINDS["logistic"], "radius": 5, "columns": _columns(5),
        "block": _MEDIAN_BLOCK,
    }  # fmt: skip
    found.append(Variant(_label_kernel, pointers, constants))
    return found


VARIANTS = tuple(_variants())
