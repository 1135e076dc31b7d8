# SPDX-License-Identifier: Apache-2.0
"""Object masks and labels."""

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
    sample, pixel, pixels, mask, y, x = tile_of(height, width, tiles, block)
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
    tl.store(out + sample * pixels + pixel, found, mask=mask)


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
    sample, pixel, pixels, mask, y, x = tile_of(height, width, tiles, block)
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
    at = sample * pixels + pixel
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
    sample, pixel, pixels, mask, y, x = tile_of(height, width, tiles, block)
    plane = marks + sample * pixels
    side: tl.constexpr = 2 * radius + 1
    count = tl.zeros((block,), tl.int32)
    for j in range(side * side):
        near_y = nearest(y + j // side - radius, height)
        near_x = nearest(x + j % side - radius, width)
        count += tl.load(plane + near_y * width + near_x, mask=mask, other=0).to(tl.int32)
    is_set = count > side * side // 2
    at = sample * pixels + pixel
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


def launch_mask(
    images: Tensor, low: float, high: float, is_otsu: bool, size: int, out: Tensor
) -> None:
    """See `ssad_kernels.labels.object_mask`."""
    n, channels, height, width = images.shape
    if n == 0:
        return
    tiles = triton.cdiv(height * width, BLOCK)
    marks = torch.empty(out.shape, dtype=torch.uint8, device=out.device)
    # A number by itself would arrive as float32.
    dtype = torch.float64 if images.dtype == torch.float64 else torch.float32
    bounds = torch.cat([images.new_full((1,), bound, dtype=dtype) for bound in (low, high)])
    with torch.cuda.device_of(images):
        _objects_kernel[(n * tiles,)](
            images, bounds, marks, height, width, *images.stride(), tiles,
            channels, is_otsu, _compute(images.dtype), BLOCK, **_UNFUSED,
        )  # fmt: skip
        if is_otsu:
            _otsu_kernel[(n,)](marks, height, width, _OTSU_BLOCK, **_UNFUSED)
        _majority_kernel[(n * tiles,)](
            marks, as_bytes(out), marks, marks, marks, height, width, tiles,
            size // 2, False, False, BLOCK,
        )  # fmt: skip


def launch_label(before: Tensor, after: Tensor, region: Tensor, *rest: Any) -> None:
    """See `ssad_kernels.labels.difference_label`."""
    kind, steepness, midpoint, factor, threshold, size, radius, label = rest
    n, channels, height, width = before.shape
    if n == 0:
        return
    tiles = triton.cdiv(height * width, BLOCK)
    dtype = torch.float64 if before.dtype == torch.float64 else torch.float32
    bound = before.new_full((1,), threshold, dtype=dtype)
    changed, marks = torch.empty((2, *label.shape), dtype=torch.uint8, device=label.device)
    values = torch.empty_like(label)
    region = counted(region, steepness, midpoint, factor)
    region_n, _, region_y, region_x = region.stride()
    with torch.cuda.device_of(before):
        _changes_kernel[(n * tiles,)](
            before, after, as_bytes(region), bound, changed, values, height, width,
            *before.stride(), *after.stride(), region_n, region_y, region_x, tiles,
            channels, _compute(before.dtype), BLOCK, **_UNFUSED,
        )  # fmt: skip
        _majority_kernel[(n * tiles,)](
            changed, marks, values, label, label if factor is None else factor.contiguous(),
            height, width, tiles, size // 2, True, factor is not None, BLOCK,
        )  # fmt: skip
        if kind in ("intensity", "logistic"):
            tiles = triton.cdiv(height * width, MEDIAN_BLOCK)
            rows = [label if row is None else row.contiguous() for row in (steepness, midpoint)]
            _label_kernel[(n * tiles,)](
                values, marks, *rows, label, height, width, tiles,
                float(channels) if before.dtype == torch.uint8 else 1.0, _KINDS[kind],
                radius, columns_of(radius), MEDIAN_BLOCK,
            )  # fmt: skip


_OTSU_BLOCK = 32
# What is compared must not depend on contraction.
_UNFUSED = {"enable_fp_fusion": False}


def _variants() -> list[Variant]:
    found = []
    for dtype, pointer, bound in (
        (torch.uint8, "*u8", "*fp32"), (torch.float32, "*fp32", "*fp32"),
        (torch.float64, "*fp64", "*fp64"),
    ):  # fmt: skip
        shared = {"channels": 3, "compute": _compute(dtype), "block": BLOCK}
        pointers = {"images": pointer, "bounds": bound, "out": "*u8"}
        constants = {**shared, "stride_x": 1, "is_otsu": True}
        found.append(Variant(_objects_kernel, pointers, constants, _UNFUSED))
        pointers = {
            "before": pointer, "after": pointer, "region": "*u8", "threshold": bound,
            "changed": "*u8", "values": "*fp32",
        }  # fmt: skip
        found.append(Variant(_changes_kernel, pointers, shared, _UNFUSED))
    found.append(Variant(_otsu_kernel, {"levels": "*u8"}, {"block": _OTSU_BLOCK}, _UNFUSED))
    marks = {"marks": "*u8", "out": "*u8", "values": "*fp32", "label": "*fp32", "factor": "*fp32"}
    constants = {"radius": 2, "is_label": True, "has_factor": True, "block": BLOCK}
    found.append(Variant(_majority_kernel, marks, constants))
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
