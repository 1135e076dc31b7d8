# SPDX-License-Identifier: Apache-2.0
"""Gradient magnitude similarity: planes of all scales lie one after the other in a row per image.

But for the greys, each of which is made of the one before, a kernel takes all scales in one launch:
a program finds its own by its number.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssad_kernels.reference.similarity import EPSILON, compute_type
from ssad_kernels.triton._variants import Variant

_EPSILON = tl.constexpr(EPSILON)
THIRD = tl.constexpr(1 / 3)


@triton.jit
def pixels_of(height, width, tiles, total, scales: tl.constexpr, block: tl.constexpr):
    """A program's scale: its sides, where its plane is, and the pixels that are the program's."""
    tile = tl.program_id(0) % tiles
    h, w, start, s = height, width, tl.zeros((), tl.int64), 0
    for next_s in tl.static_range(1, scales):
        own = tl.cdiv(h * w, block)
        is_later = (s == next_s - 1) & (tile >= own)
        start = tl.where(is_later, start + h * w, start)
        tile = tl.where(is_later, tile - own, tile)
        h = tl.where(is_later, height >> next_s, h)
        w = tl.where(is_later, width >> next_s, w)
        s = tl.where(is_later, next_s, s)
    pixel = tile * block + tl.arange(0, block)
    sample = (tl.program_id(0) // tiles).to(tl.int64)
    return h, w, sample * total + start, pixel // w, pixel % w


@triton.jit
def _grey_kernel(
    images, greys, height, width, tiles, total, stride_n, stride_c, stride_y, stride_x,
    channels: tl.constexpr, unit: tl.constexpr, compute: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """The mean of the channels, in the order of the reference; what is not finite becomes NaN."""
    _, _, start, y, x = pixels_of(height, width, tiles, total, 1, block)
    sample = (tl.program_id(0) // tiles).to(tl.int64)
    place = images + sample * stride_n + y.to(tl.int64) * stride_y + x.to(tl.int64) * stride_x
    value = tl.load(place, mask=y < height, other=0).to(compute)
    for c in tl.static_range(1, channels):
        channel = place + c * tl.cast(stride_c, tl.int64)
        value += tl.load(channel, mask=y < height, other=0).to(compute)
    factor: tl.constexpr = 1 / (unit * channels)
    value *= tl.full((), factor, compute)
    value = tl.where(value - value == 0, value, float("nan"))
    tl.store(greys + start + y * width + x, value, mask=y < height)


@triton.jit
def _halve_kernel(greys, height, width, fine, coarse, tiles, total, block: tl.constexpr):
    """A scale, `height` x `width`, of the one before it; planes begin at `fine` and `coarse`."""
    sample = (tl.program_id(0) // tiles).to(tl.int64)
    pixel = tl.program_id(0) % tiles * block + tl.arange(0, block)
    y, x, mask = pixel // (width // 2), pixel % (width // 2), pixel < (height // 2) * (width // 2)
    place = greys + sample * total + fine + 2 * y * width + 2 * x
    left = tl.load(place, mask=mask) + tl.load(place + width, mask=mask)
    right = tl.load(place + 1, mask=mask) + tl.load(place + width + 1, mask=mask)
    tl.store(greys + sample * total + coarse + pixel, (left + right) * 0.25, mask=mask)


@triton.jit
def at(plane, h, w, y, x):
    """Pixels of a plane, zeros beyond it."""
    return tl.load(plane + y * w + x, mask=(y >= 0) & (y < h) & (x >= 0) & (x < w), other=0)


@triton.jit
def _sort3(a, b, c):
    least, most = tl.minimum(a, b), tl.maximum(a, b)
    return tl.minimum(least, c), tl.maximum(least, tl.minimum(most, c)), tl.maximum(most, c)


@triton.jit
def _first(found, median, value, k: tl.constexpr):
    return tl.where((found < 0) & (value == median), k, found)


@triton.jit
def _gms_median_kernel(
    greys, medians, choices, height, width, tiles, total,
    scales: tl.constexpr, has_choices: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Medians of 3 x 3, and which of the nine they are, row by row; of equal ones the first."""
    h, w, start, y, x = pixels_of(height, width, tiles, total, scales, block)
    plane = greys + start
    a, b, c = (
        at(plane, h, w, y - 1, x - 1),
        at(plane, h, w, y - 1, x),
        at(plane, h, w, y - 1, x + 1),
    )
    d, e, f = at(plane, h, w, y, x - 1), at(plane, h, w, y, x), at(plane, h, w, y, x + 1)
    g, i, j = (
        at(plane, h, w, y + 1, x - 1),
        at(plane, h, w, y + 1, x),
        at(plane, h, w, y + 1, x + 1),
    )
    low0, mid0, high0 = _sort3(a, d, g)
    low1, mid1, high1 = _sort3(b, e, i)
    low2, mid2, high2 = _sort3(c, f, j)
    low = tl.maximum(tl.maximum(low0, low1), low2)
    high = tl.minimum(tl.minimum(high0, high1), high2)
    _, mid, _ = _sort3(mid0, mid1, mid2)
    _, median, _ = _sort3(low, mid, high)
    every = a + b + c + d + e + f + g + i + j
    median = tl.where(every == every, median, every)  # NaN if one is
    tl.store(medians + start + y * w + x, median, mask=y < h)
    if has_choices:
        found = tl.full((block,), -1, tl.int32)
        found = _first(_first(_first(found, median, a, 0), median, b, 1), median, c, 2)
        found = _first(_first(_first(found, median, d, 3), median, e, 4), median, f, 5)
        found = _first(_first(_first(found, median, g, 6), median, i, 7), median, j, 8)
        tl.store(choices + start + y * w + x, found.to(tl.int8), mask=y < h)


@triton.jit
def slopes(medians, w, y, x, mask, compute: tl.constexpr):
    """Prewitt's of the window from (y, x) on, and the sum of their squares."""
    place = medians + y * w + x
    a, b, c = (
        tl.load(place, mask=mask, other=0), tl.load(place + 1, mask=mask, other=0),
        tl.load(place + 2, mask=mask, other=0),
    )  # fmt: skip
    place += w
    d, f = tl.load(place, mask=mask, other=0), tl.load(place + 2, mask=mask, other=0)
    place += w
    g, i, j = (
        tl.load(place, mask=mask, other=0), tl.load(place + 1, mask=mask, other=0),
        tl.load(place + 2, mask=mask, other=0),
    )  # fmt: skip
    third = tl.full((), THIRD, compute)
    dx = (((c + f) + j) - ((a + d) + g)) * third
    dy = (((g + i) + j) - ((a + b) + c)) * third
    return dx, dy, dx * dx + dy * dy + tl.full((), _EPSILON, compute)


@triton.jit
def _unlike_kernel(
    medians, others, unlike, sums, height, width, tiles, total,
    scales: tl.constexpr, is_sum: tl.constexpr, constant: tl.constexpr, compute: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    """What the similarity lacks to 1; or the part of the loss that is the program's."""
    h, w, start, y, x = pixels_of(height, width, tiles, total, scales, block)
    mask = (y < h - 2) & (x < w - 2)
    _, _, a = slopes(medians + start, w, y, x, mask, compute)
    _, _, b = slopes(others + start, w, y, x, mask, compute)
    difference = tl.sqrt(a) - tl.sqrt(b)
    value = difference * difference / (a + b + tl.full((), constant, compute))
    if is_sum:
        value = tl.where(mask, value, 0)
        count = (tl.cast(h - 2, tl.int64) * (w - 2) * scales).to(compute)
        tl.store(sums + tl.program_id(0), tl.sum(value, axis=0) / count)
    else:
        tl.store(unlike + start + y * w + x, value, mask=mask)


@triton.jit
def _between(at, size, inputs, integer: tl.constexpr, compute: tl.constexpr):
    """Where a pixel of a resized axis lies: two places, and the weight of the second."""
    size = tl.cast(size, integer)
    position = tl.maximum((2 * at.to(integer) + 1) * inputs - size, 0)
    low = position // (2 * size)
    weight = (position - low * (2 * size)).to(compute) / (2 * size).to(compute)
    return low, tl.minimum(low + 1, inputs - 1), weight


@triton.jit
def _resize_kernel(
    unlike, out, height, width, tiles, total,
    scales: tl.constexpr, integer: tl.constexpr, compute: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """1 minus the mean of all scales, bilinearly resized."""
    sample = (tl.program_id(0) // tiles).to(tl.int64)
    pixel = tl.program_id(0) % tiles * block + tl.arange(0, block)
    mask = pixel < height * width
    y, x = pixel // width, pixel % width
    plane = unlike + sample * total
    sum_of_scales = tl.zeros((block,), compute)
    for s in tl.static_range(scales):
        h, w = height >> s, width >> s
        top, bottom, weight_y = _between(y, height, h - 2, integer, compute)
        left, right, weight_x = _between(x, width, w - 2, integer, compute)
        up = tl.load(plane + top * w + left, mask=mask, other=0) * (1 - weight_x)
        up += tl.load(plane + top * w + right, mask=mask, other=0) * weight_x
        down = tl.load(plane + bottom * w + left, mask=mask, other=0) * (1 - weight_x)
        down += tl.load(plane + bottom * w + right, mask=mask, other=0) * weight_x
        sum_of_scales += up * (1 - weight_y) + down * weight_y
        plane += h * w
    place = out + sample * height * width + pixel
    tl.store(place, 1 - sum_of_scales / scales, mask=mask)


class Planes:
    """All scales of a batch of pairs, and the launches of one program per tile of theirs."""

    def __init__(self, images: Tensor, references: Tensor, scales: int) -> None:
        self.n, self.channels, self.h, self.w = images.shape
        self.sides = [(self.h >> s, self.w >> s) for s in range(scales)]
        self.compute = compute_type(images)
        self.total = sum(h * w for h, w in self.sides)
        self.options = {"scales": scales, "block": BLOCK}
        self.greys = self.new(2 * self.n, images)
        for i, one in enumerate((images, references)):
            self._make_greys(one, self.greys[i * self.n :])
        fine = 0
        for h, w in self.sides[:-1]:
            tiles = triton.cdiv((h // 2) * (w // 2), BLOCK)
            _halve_kernel[(2 * self.n * tiles,)](
                self.greys, h, w, fine, fine + h * w, tiles, self.total, BLOCK
            )
            fine += h * w

    def new(self, n: int, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Planes of all scales for n images."""
        return like.new_empty((n, self.total), dtype=dtype or self.compute)

    def _make_greys(self, images: Tensor, greys: Tensor) -> None:
        tiles = triton.cdiv(self.h * self.w, BLOCK)
        _grey_kernel[(self.n * tiles,)](
            images, greys, self.h, self.w, tiles, self.total, *images.stride(), self.channels,
            255 if images.dtype == torch.uint8 else 1, COMPUTE[self.compute], BLOCK,
        )  # fmt: skip

    def launch(self, kernel: Any, n: int, *tensors: Tensor, **constants: Any) -> None:
        """A kernel of all scales of n rows of planes."""
        tiles = self.tiles()
        kernel[(n * tiles,)](
            *tensors, self.h, self.w, tiles, self.total, **self.options, **constants
        )

    def tiles(self) -> int:
        """How many programs an image takes."""
        return sum(triton.cdiv(h * w, BLOCK) for h, w in self.sides)

    def medians(self, choices: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Of the images, with their choices if there is room for them, and of the references."""
        found = torch.empty_like(self.greys)
        if choices is None:
            self.launch(_gms_median_kernel, 2 * self.n, self.greys, found, found, has_choices=False)
        else:
            images, references = self.greys[: self.n], self.greys[self.n :]
            self.launch(_gms_median_kernel, self.n, images, found, choices, has_choices=True)
            others = found[self.n :]
            self.launch(_gms_median_kernel, self.n, references, others, others, has_choices=False)
        return found[: self.n], found[self.n :]


def launch_map(images: Tensor, references: Tensor, scales: int, c: float, out: Tensor) -> None:
    """See `ssad_kernels.gms_map`."""
    if len(images) == 0:
        return
    with torch.cuda.device_of(images):
        planes = Planes(images, references, scales)
        unlike = planes.new(planes.n, images)
        options = {"constant": c, "compute": COMPUTE[planes.compute]}
        planes.launch(
            _unlike_kernel, planes.n, *planes.medians(), unlike, unlike, is_sum=False, **options
        )
        tiles = triton.cdiv(planes.h * planes.w, _RESIZED)
        integer = tl.int32 if max(planes.h, planes.w) <= _NARROW else tl.int64
        _resize_kernel[(planes.n * tiles,)](
            unlike, out, planes.h, planes.w, tiles, planes.total,
            scales, integer, options["compute"], _RESIZED,
        )  # fmt: skip


def launch_loss(images: Tensor, references: Tensor, scales: int, c: float, out: Tensor) -> None:
    """See `ssad_kernels.gms_loss`."""
    if len(images) == 0:
        return
    with torch.cuda.device_of(images):
        planes = Planes(images, references, scales)
        sums = out.new_empty((planes.n, planes.tiles()))
        planes.launch(
            _unlike_kernel, planes.n, *planes.medians(), sums, sums, is_sum=True, constant=c,
            compute=COMPUTE[planes.compute],
        )  # fmt: skip
        torch.sum(sums, 1, out=out)


BLOCK = 512
_RESIZED = 128  # each of sixteen pixels or more
_NARROW = 1 << 15  # the square of which, twice, fits 32 bits
COMPUTE = {torch.float32: tl.float32, torch.float64: tl.float64}


def _variants() -> list[Variant]:
    found = []
    shared = {"scales": 4, "block": BLOCK}
    for pointer, unit in (("*u8", 255), ("*fp16", 1), ("*bf16", 1), ("*fp32", 1), ("*fp64", 1)):
        compute = tl.float64 if pointer == "*fp64" else tl.float32
        of_greys = "*fp64" if pointer == "*fp64" else "*fp32"
        constants = {
            "channels": 3, "unit": unit, "compute": compute, "block": BLOCK, "stride_x": 1
        }  # fmt: skip
        pointers = {"images": pointer, "greys": of_greys}
        found.append(Variant(_grey_kernel, pointers, constants))
    for pointer, compute in (("*fp32", tl.float32), ("*fp64", tl.float64)):
        found.append(Variant(_halve_kernel, {"greys": pointer}, {"block": BLOCK}))
        numbers = {**shared, "constant": 0.0026, "compute": compute}
        for has_choices in (False, True):
            pointers = {"greys": pointer, "medians": pointer}
            pointers["choices"] = "*i8" if has_choices else pointer
            constants = {**shared, "has_choices": has_choices}
            found.append(Variant(_gms_median_kernel, pointers, constants))
        pointers = dict.fromkeys(("medians", "others", "unlike", "sums"), pointer)
        for is_sum in (False, True):
            found.append(Variant(_unlike_kernel, pointers, {**numbers, "is_sum": is_sum}))
        plain = {**shared, "compute": compute}
        pointers = dict.fromkeys(("unlike", "out"), pointer)
        resized = {**plain, "integer": tl.int32, "block": _RESIZED}
        found.append(Variant(_resize_kernel, pointers, resized))
    return found


VARIANTS: tuple[Any, ...] = tuple(_variants())
