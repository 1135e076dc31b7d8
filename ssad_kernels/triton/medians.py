# SPDX-License-Identifier: Apache-2.0
"""Medians of windows, found bit by bit.

A program holds the windows of some pixels, as integers with the order
of the numbers, and counts from the highest bit down how many lie below.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssad_kernels._backend import is_interpreted
from ssad_kernels.triton._variants import Variant

BLOCK = 512  # pixels of a tile
# The same where each pixel brings its window. The interpreter takes its time for each tile.
GPU_MEDIAN_BLOCK = 16
MEDIAN_BLOCK = 512 if is_interpreted() else GPU_MEDIAN_BLOCK
LARGEST = tl.constexpr((1 << 63) - 1)


@triton.jit
def tile_of(height, width, tiles, block: tl.constexpr):
    """The pixels of a program, one of ``tiles`` for each plane.

    Returns:
        The plane, the pixels' numbers in it, how many it has, which of the numbers are pixels, and
        rows and columns; int64.
    """
    tile = tl.program_id(0).to(tl.int64)
    start = tile % tiles * block
    lanes = tl.arange(0, block)
    pixels = tl.cast(height, tl.int64) * width
    x = (start % width).to(tl.int32) + lanes
    width_32 = tl.cast(width, tl.int32)
    y = start // width + x // width_32
    own = start + lanes
    return tile // tiles, own, pixels, own < pixels, y, (x % width_32).to(tl.int64)


@triton.jit
def nearest(at, limit):
    """Clamp to 0...limit - 1."""
    return tl.minimum(tl.maximum(at, 0), limit - 1)


@triton.jit
def order_of(value, is_float: tl.constexpr, bits: tl.constexpr):
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
def value_of(order, is_float: tl.constexpr, bits: tl.constexpr, dtype: tl.constexpr):
    """Undo `order_of`."""
    if is_float:
        sign: tl.constexpr = -(1 << (bits - 1))
        raw = tl.where(order < 0, sign - order, order)
        if bits == 16:
            value = raw.to(tl.int16).to(dtype, bitcast=True)
        elif bits == 32:
            value = raw.to(tl.int32).to(dtype, bitcast=True)
        else:
            value = raw.to(dtype, bitcast=True)
    else:
        value = order.to(dtype)
    return value


@triton.jit
def median_of(order, rank, bits: tl.constexpr):
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
def window(radius: tl.constexpr, is_square: tl.constexpr, columns: tl.constexpr):
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
    plane, at, pixels, mask, y, x = tile_of(height, width, tiles, block)
    sample = plane // channels
    origin = images + sample * stride_n + plane % channels * stride_c
    own = tl.load(origin + y * stride_y + x * stride_x, mask=mask, other=0)
    dy, dx, is_inside = window(radius, is_square, columns)
    near_y = nearest(y[:, None] + dy[None, :], height)
    near_x = nearest(x[:, None] + dx[None, :], width)
    is_read = is_inside[None, :] & mask[:, None]
    values = tl.load(origin + near_y * stride_y + near_x * stride_x, mask=is_read, other=0)
    order = tl.where(is_read, order_of(values, is_float, bits), LARGEST)
    count = tl.sum(is_inside.to(tl.int32), axis=0)
    middle = value_of(median_of(order, count // 2, bits), is_float, bits, out.dtype.element_ty)
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
    tl.store(out + plane * pixels + at, middle, mask=mask)


def columns_of(radius: int) -> int:
    """Places for the pixels of a window, a power of two."""
    return int(triton.next_power_of_2((2 * radius + 1) ** 2))


_BITS = {torch.uint8: 9, torch.int16: 16, torch.int32: 32}


def _numbers(dtype: torch.dtype) -> dict[str, Any]:
    bits = 8 * dtype.itemsize if dtype.is_floating_point else _BITS[dtype]
    return {"is_float": dtype.is_floating_point, "bits": bits}


def as_bytes(tensor: Tensor) -> Tensor:
    """View bool as uint8."""
    return tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor


def launch_median(
    images: Tensor, radius: int, is_square: bool, boxes: Tensor | None, out: Tensor
) -> None:
    """See `ssad_kernels.labels.median_filter`."""
    n, channels, height, width = images.shape
    images, out = as_bytes(images), as_bytes(out)
    tiles = triton.cdiv(height * width, MEDIAN_BLOCK)
    if n == 0:
        return
    with torch.cuda.device_of(images):
        _median_kernel[(n * channels * tiles,)](
            images, images if boxes is None else boxes.contiguous(), out, height, width,
            *images.stride(), tiles, channels, radius, is_square, boxes is not None,
            **_numbers(images.dtype), columns=columns_of(radius), block=MEDIAN_BLOCK,
        )  # fmt: skip


def _variants() -> list[Variant]:
    found = []
    for dtype, pointer in (
        (torch.uint8, "*u8"), (torch.int16, "*i16"), (torch.int32, "*i32"),
        (torch.float16, "*fp16"), (torch.bfloat16, "*bf16"), (torch.float32, "*fp32"),
        (torch.float64, "*fp64"),
    ):  # fmt: skip
        constants = {
            "stride_x": 1, "radius": 5, "is_square": False, "has_boxes": True,
            **_numbers(dtype), "columns": columns_of(5), "block": MEDIAN_BLOCK,
        }  # fmt: skip
        pointers = {"images": pointer, "boxes": "*i64", "out": pointer}
        found.append(Variant(_median_kernel, pointers, constants))
    return found


VARIANTS = tuple(_variants())
