# SPDX-License-Identifier: Apache-2.0
"""Object masks and labels: a program has a tile with all that its windows reach, read once."""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssad_kernels.reference.labels import counted
from ssad_kernels.triton._variants import Variant
from ssad_kernels.triton.medians import (
    BLOCK,
    LARGEST,
    MEDIAN_BLOCK,
    as_bytes,
    columns_of,
    median_of,
    nearest,
    order_of,
    tile_of,
    value_of,
    window,
)

_LEVELS = tl.constexpr(256)
_LOGISTIC = tl.constexpr(2)
_KINDS = {"binary": 0, "intensity": 1, "logistic": 2, "factor": 3}


@triton.jit
def _load_sum(plane, offsets, stride_c, mask, channels: tl.constexpr, compute: tl.constexpr):
    total = tl.load(plane + offsets, mask=mask, other=0).to(compute)
    for c in tl.static_range(1, channels):
        channel = plane + c * tl.cast(stride_c, tl.int64)
        total += tl.load(channel + offsets, mask=mask, other=0).to(compute)
    return total


@triton.jit
def _levels_kernel(
    images, levels, height, width, stride_n, stride_c, stride_y, stride_x, tiles,
    channels: tl.constexpr, compute: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """The mean of the channels as one of 256 levels."""
    sample, pixel, pixels, mask, y, x = tile_of(height, width, tiles, block)
    offsets = y * stride_y + x * stride_x
    total = _load_sum(images + sample * stride_n, offsets, stride_c, mask, channels, compute)
    if compute == tl.int32:
        level = (2 * total + channels) // (2 * channels)
    else:
        scale: tl.constexpr = 255 / channels
        level = total * tl.full((), scale, compute) + 0.5
        level = tl.where(level > 0, level, 0.0)  # a NaN too
        level = tl.where(level < 255, level, 255.0)
    tl.store(levels + sample * pixels + pixel, level.to(tl.uint8), mask=mask)


@triton.jit
def _otsu_kernel(levels, bounds, height, width, block: tl.constexpr):
    """One program an image: finds the threshold, and so the bounds of the background."""
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
    is_bright_behind = 2 * tl.sum(bright, axis=0) > tl.sum(frame, axis=0)
    has_sides = most > 0.0
    row = bounds + 2 * tl.program_id(0)
    tl.store(row, tl.where(has_sides & is_bright_behind, best + 1, 0).to(tl.float32))
    tl.store(row + 1, tl.where(has_sides & ~is_bright_behind, best, _LEVELS).to(tl.float32))


@triton.jit
def _axis(tile, step, halo, limit, size: tl.constexpr):
    """A tile along an axis: its places, which to read, which are its own, and the first of all."""
    first = (tile * step).to(tl.int32)
    at = first - halo + tl.arange(0, size)
    is_read = (at >= 0) & (at < tl.minimum(first + step + halo, limit))
    return at, is_read, (at >= first) & (at < tl.minimum(first + step, limit)), first - halo


@triton.jit
def _from_first(first_y, first_x, stride_y, stride_x, rows: tl.constexpr, columns: tl.constexpr):
    """Where a tile's first pixel is, and the others from there: these take half the registers."""
    start = tl.cast(first_y, tl.int64) * stride_y + tl.cast(first_x, tl.int64) * stride_x
    y = tl.arange(0, rows) * tl.cast(stride_y, tl.int32)
    x = tl.arange(0, columns) * tl.cast(stride_x, tl.int32)
    return start, y[:, None] + x[None, :]


@triton.jit
def _sum_along(marks, at, first, limit, radius: tl.constexpr, axis: tl.constexpr):
    """The sum within `radius` of each place; beyond the image its nearest pixel."""
    total = tl.zeros(marks.shape, tl.int16)
    for k in range(2 * radius + 1):
        near = nearest(at + k - radius, tl.cast(limit, tl.int32)) - first
        near = tl.expand_dims(nearest(near, marks.shape[axis]), 1 - axis)
        total += tl.gather(marks, tl.broadcast_to(near, marks.shape), axis).to(tl.int16)
    return total


@triton.jit
def _majority(marks, y, x, first_y, first_x, height, width, radius: tl.constexpr):
    """The median of a square over 0 and 1."""
    count = _sum_along(marks.to(tl.int8), x, first_x, width, radius, 1)
    count = _sum_along(count.to(tl.int8), y, first_y, height, radius, 0)
    return count > (2 * radius + 1) * (2 * radius + 1) // 2


@triton.jit
def _objects_kernel(
    images, bounds, out, height, width, step_y, step_x, halo_y, halo_x, tiles_y, tiles_x,
    stride_n, stride_c, stride_y, stride_x, bounds_n,
    channels: tl.constexpr, compute: tl.constexpr, radius: tl.constexpr,
    rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0).to(tl.int64)
    sample = tile // tiles_x // tiles_y
    y, read_y, own_y, first_y = _axis(tile // tiles_x % tiles_y, step_y, halo_y, height, rows)
    x, read_x, own_x, first_x = _axis(tile % tiles_x, step_x, halo_x, width, columns)
    mask = read_y[:, None] & read_x[None, :]
    start, offsets = _from_first(first_y, first_x, stride_y, stride_x, rows, columns)
    place = images + (sample * stride_n + start)
    total = _load_sum(place, offsets, stride_c, mask, channels, compute)
    row = bounds + sample * bounds_n
    is_object = (total < tl.load(row)) | (total > tl.load(row + 1))
    is_set = _majority(is_object, y, x, first_y, first_x, height, width, radius)
    start, offsets = _from_first(first_y, first_x, width, 1, rows, columns)
    to = out + (sample * height * width + start) + offsets
    tl.store(to, is_set.to(tl.uint8), mask=own_y[:, None] & own_x[None, :])


@triton.jit
def _changes_kernel(
    before, after, region, threshold, factor, marks, out,
    height, width, step_y, step_x, halo_y, halo_x, tiles_y, tiles_x,
    before_n, before_c, before_y, before_x, after_n, after_c, after_y, after_x,
    region_n, region_y, region_x,
    channels: tl.constexpr, compute: tl.constexpr, has_values: tl.constexpr,
    has_factor: tl.constexpr, radius: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """What changed, the median of that, and in what is left a constant or the differences."""
    tile = tl.program_id(0).to(tl.int64)
    sample = tile // tiles_x // tiles_y
    y, read_y, own_y, first_y = _axis(tile // tiles_x % tiles_y, step_y, halo_y, height, rows)
    x, read_x, own_x, first_x = _axis(tile % tiles_x, step_x, halo_x, width, columns)
    start, offsets = _from_first(first_y, first_x, region_y, region_x, rows, columns)
    mask = read_y[:, None] & read_x[None, :]
    is_inside = tl.load(region + (sample * region_n + start) + offsets, mask=mask, other=0) != 0
    start, offsets = _from_first(first_y, first_x, before_y, before_x, rows, columns)
    a = before + (sample * before_n + start)
    start, offsets_b = _from_first(first_y, first_x, after_y, after_x, rows, columns)
    b = after + (sample * after_n + start)
    total = tl.zeros((rows, columns), compute)
    for _ in range(channels):
        old = tl.load(a + offsets, mask=is_inside, other=0).to(compute)
        total += tl.abs(tl.load(b + offsets_b, mask=is_inside, other=0).to(compute) - old)
        a += before_c
        b += after_c
    is_inside = is_inside & (total == total)
    is_changed = is_inside & (total > tl.load(threshold))
    total = tl.where(is_inside, total, 0)
    if compute != tl.int32:  # before the median, which leaves no room for a tile in float64
        scale: tl.constexpr = 255 / channels
        total = (total * tl.full((), scale, compute)).to(tl.float32)
    is_set = _majority(is_changed, y, x, first_y, first_x, height, width, radius)
    if has_values:
        value = total.to(tl.float32)
    else:
        constant = tl.load(factor + sample) if has_factor else 1.0
        value = tl.full((rows, columns), 1.0, tl.float32) * constant
    start, offsets = _from_first(first_y, first_x, width, 1, rows, columns)
    start += sample * height * width
    is_own = own_y[:, None] & own_x[None, :]
    tl.store(out + start + offsets, tl.where(is_set, value, 0.0), mask=is_own)
    if has_values:
        tl.store(marks + start + offsets, is_set.to(tl.uint8), mask=is_own)


@triton.jit
def _label_kernel(
    values, marks, steepness, midpoint, label, height, width, tiles,
    unit: tl.constexpr, kind: tl.constexpr, radius: tl.constexpr, columns: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    sample, pixel, pixels, mask, y, x = tile_of(height, width, tiles, block)
    dy, dx, is_inside = window(radius, False, columns)
    near_y = nearest(y[:, None] + dy[None, :], height)
    near_x = nearest(x[:, None] + dx[None, :], width)
    is_read = is_inside[None, :] & mask[:, None]
    plane = values + sample * pixels
    values_of = tl.load(plane + near_y * width + near_x, mask=is_read, other=0.0)
    order = tl.where(is_read, order_of(values_of, True, 32), LARGEST)
    count = tl.sum(is_inside.to(tl.int32), axis=0)
    middle = value_of(median_of(order, count // 2, 32), True, 32, tl.float32)
    level = tl.div_rn(middle, tl.full((block,), unit, tl.float32))
    at = sample * pixels + pixel
    if kind == _LOGISTIC:
        is_set = tl.load(marks + at, mask=mask, other=0) != 0
        exponent = tl.load(steepness + sample) * (level - tl.load(midpoint + sample))
        level = tl.where(is_set, 1.0 / (1.0 + tl.exp(-exponent)), 0.0)
    tl.store(label + at, level, mask=mask)


def _compute(dtype: torch.dtype) -> Any:
    return {torch.uint8: tl.int32, torch.float64: tl.float64}.get(dtype, tl.float32)


def _tiles(size: Sequence[int], halo: int) -> list[int]:
    """How far tiles are apart, how far they reach beyond that, and how many there are; (y, x) each.

    An image that fits into a tile needs no halo. Columns are apart by sectors of memory.
    """
    numbers = []
    for limit, tile, unit in zip(size, (_ROWS, _COLUMNS), (1, 32), strict=True):
        fits = limit <= tile
        step = tile if fits else (tile - 2 * halo) // unit * unit
        numbers.append((step, 0 if fits else halo, triton.cdiv(limit, step)))
    return [number for pair in zip(*numbers, strict=True) for number in pair]


def _within_reach(images: Tensor) -> Tensor:
    """A copy if a stride does not fit 32 bits, or the way across a tile."""
    *_, stride_y, stride_x = images.stride()
    across = _ROWS * stride_y + _COLUMNS * stride_x
    return images.contiguous() if max(across, *images.stride()) >= 1 << 31 else images


def launch_mask(
    images: Tensor, low: float, high: float, is_otsu: bool, size: int, out: Tensor
) -> None:
    """See `ssad_kernels.labels.object_mask`."""
    n, channels, height, width = images.shape
    if n == 0:
        return
    images = _within_reach(images)
    # A number by itself would arrive as float32.
    dtype = torch.float64 if images.dtype == torch.float64 else torch.float32
    bounds = torch.cat([images.new_full((1,), bound, dtype=dtype) for bound in (low, high)])
    tiles = _tiles((height, width), size // 2)
    with torch.cuda.device_of(images):
        if is_otsu:
            levels = torch.empty(out.shape, dtype=torch.uint8, device=out.device)
            bounds = torch.empty((n, 2), device=out.device)
            blocks = triton.cdiv(height * width, BLOCK)
            _levels_kernel[(n * blocks,)](
                images, levels, height, width, *images.stride(), blocks,
                channels, _compute(images.dtype), BLOCK, **_UNFUSED,
            )  # fmt: skip
            _otsu_kernel[(n,)](levels, bounds, height, width, _OTSU_BLOCK, **_UNFUSED)
            images = levels
        _objects_kernel[(n * tiles[4] * tiles[5],)](
            images, bounds, as_bytes(out), height, width, *tiles, *images.stride(),
            2 if is_otsu else 0, images.shape[1], _compute(images.dtype), size // 2,
            _ROWS, _COLUMNS, **_TILE_OPTIONS,
        )  # fmt: skip


def launch_label(before: Tensor, after: Tensor, region: Tensor, *rest: Any) -> None:
    """See `ssad_kernels.labels.difference_label`."""
    kind, steepness, midpoint, factor, threshold, size, radius, label = rest
    n, channels, height, width = before.shape
    if n == 0:
        return
    dtype = torch.float64 if before.dtype == torch.float64 else torch.float32
    bound = before.new_full((1,), threshold, dtype=dtype)
    has_values = kind in ("intensity", "logistic")
    values, marks = label, label
    if has_values:
        values, marks = torch.empty_like(label), torch.empty_like(label, dtype=torch.uint8)
    region = counted(region, steepness, midpoint, factor)
    before, after, region = (_within_reach(images) for images in (before, after, region))
    region_n, _, region_y, region_x = region.stride()
    tiles = _tiles((height, width), size // 2)
    with torch.cuda.device_of(before):
        _changes_kernel[(n * tiles[4] * tiles[5],)](
            before, after, as_bytes(region), bound,
            label if factor is None else factor.contiguous(), marks, values,
            height, width, *tiles,
            *before.stride(), *after.stride(), region_n, region_y, region_x,
            channels, _compute(before.dtype), has_values, factor is not None, size // 2,
            _ROWS, _COLUMNS, **_TILE_OPTIONS,
        )  # fmt: skip
        if has_values:
            blocks = triton.cdiv(height * width, MEDIAN_BLOCK)
            rows = [label if row is None else row.contiguous() for row in (steepness, midpoint)]
            _label_kernel[(n * blocks,)](
                values, marks, *rows, label, height, width, blocks,
                float(channels) if before.dtype == torch.uint8 else 1.0, _KINDS[kind],
                radius, columns_of(radius), MEDIAN_BLOCK,
            )  # fmt: skip


# Of a tile, with its halo: images of up to 256 columns are read whole rows at a time.
_ROWS, _COLUMNS = 32, 256
_OTSU_BLOCK = 32
# What is compared must not depend on contraction.
_UNFUSED = {"enable_fp_fusion": False}
_TILE_OPTIONS = {**_UNFUSED, "num_warps": 16}


def _variants() -> list[Variant]:
    found = [
        Variant(
            _otsu_kernel, {"levels": "*u8", "bounds": "*fp32"}, {"block": _OTSU_BLOCK}, _UNFUSED
        )
    ]
    tile = {"radius": 3, "rows": _ROWS, "columns": _COLUMNS}
    for dtype, pointer, bound in (
        (torch.uint8, "*u8", "*fp32"), (torch.float32, "*fp32", "*fp32"),
        (torch.float64, "*fp64", "*fp64"),
    ):  # fmt: skip
        shared = {"channels": 3, "compute": _compute(dtype)}
        pointers = {"images": pointer, "bounds": bound, "out": "*u8"}
        constants = {**shared, **tile, "stride_x": 1}
        found.append(Variant(_objects_kernel, pointers, constants, _TILE_OPTIONS, is_narrow=True))
        pointers = {"images": pointer, "levels": "*u8"}
        constants = {**shared, "stride_x": 1, "block": BLOCK}
        found.append(Variant(_levels_kernel, pointers, constants, _UNFUSED))
        pointers = {
            "before": pointer, "after": pointer, "region": "*u8", "threshold": bound,
            "factor": "*fp32", "marks": "*u8", "out": "*fp32",
        }  # fmt: skip
        constants = {**shared, **tile, **dict.fromkeys(("before_x", "after_x", "region_x"), 1)}
        for has_values in (False, True):
            constants |= {"has_values": has_values, "has_factor": not has_values}
            found.append(
                Variant(_changes_kernel, pointers, {**constants}, _TILE_OPTIONS, is_narrow=True)
            )
    pointers = {
        "values": "*fp32", "marks": "*u8", "steepness": "*fp32", "midpoint": "*fp32",
        "label": "*fp32",
    }  # fmt: skip
    constants = {
        "unit": 3.0, "kind": _KINDS["logistic"], "radius": 5, "columns": columns_of(5),
        "block": MEDIAN_BLOCK,
    }  # fmt: skip
    found.append(Variant(_label_kernel, pointers, constants))
    return found


VARIANTS = tuple(_variants())
