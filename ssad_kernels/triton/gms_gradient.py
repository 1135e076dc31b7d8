# SPDX-License-Identifier: Apache-2.0
"""The gradient of the loss of gradient magnitudes, from the slopes back to the image."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssad_kernels.triton._variants import Variant
from ssad_kernels.triton.gms import BLOCK, COMPUTE, THIRD, Planes, at, pixels_of, slopes


@triton.jit
def _slope_gradient_kernel(
    medians, others, by_x, by_y, height, width, tiles, total,
    scales: tl.constexpr, constant: tl.constexpr, compute: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """The gradient of the loss with respect to slopes; zeros where there are none."""
    h, w, start, y, x = pixels_of(height, width, tiles, total, scales, block)
    mask = (y < h - 2) & (x < w - 2)
    dx, dy, a_square = slopes(medians + start, w, y, x, mask, compute)
    _, _, b_square = slopes(others + start, w, y, x, mask, compute)
    a, b, c = tl.sqrt(a_square), tl.sqrt(b_square), tl.full((), constant, compute)
    sum_of_all = a_square + b_square + c
    each = 2 * (a - b) * (b_square + a * b + c) / (sum_of_all * sum_of_all * a)
    count = (tl.cast(h - 2, tl.int64) * (w - 2) * scales).to(compute)
    each = tl.where(mask, each / count, 0)
    tl.store(by_x + start + y * w + x, each * dx, mask=y < h)
    tl.store(by_y + start + y * w + x, each * dy, mask=y < h)


@triton.jit
def _median_gradient_kernel(
    by_x, by_y, by_median, height, width, tiles, total,
    scales: tl.constexpr, compute: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Of the windows that a pixel belongs to: its column counts for x, its row for y."""
    h, w, start, y, x = pixels_of(height, width, tiles, total, scales, block)
    value = tl.zeros((block,), compute)
    for k in tl.static_range(3):
        value += at(by_x + start, h, w, y - k, x - 2) - at(by_x + start, h, w, y - k, x)
        value += at(by_y + start, h, w, y - 2, x - k) - at(by_y + start, h, w, y, x - k)
    value *= tl.full((), THIRD, compute)
    tl.store(by_median + start + y * w + x, value, mask=y < h)


@triton.jit
def _choice_gradient_kernel(
    by_median, choices, by_grey, height, width, tiles, total,
    scales: tl.constexpr, compute: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Of the medians that a pixel is."""
    h, w, start, y, x = pixels_of(height, width, tiles, total, scales, block)
    value = tl.zeros((block,), compute)
    for k in tl.static_range(9):
        other_y, other_x = y + 1 - k // 3, x + 1 - k % 3
        is_chosen = at(choices + start, h, w, other_y, other_x) == k
        value += tl.where(is_chosen, at(by_median + start, h, w, other_y, other_x), 0)
    tl.store(by_grey + start + y * w + x, value, mask=y < h)


@triton.jit
def _pyramid_gradient_kernel(
    by_grey, gradient, out, height, width, tiles, total,
    channels: tl.constexpr, scales: tl.constexpr, compute: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Of the pixels of all scales that a pixel is part of."""
    sample = (tl.program_id(0) // tiles).to(tl.int64)
    pixel = tl.program_id(0) % tiles * block + tl.arange(0, block)
    mask = pixel < height * width
    y, x = pixel // width, pixel % width
    plane = by_grey + sample * total
    value = tl.zeros((block,), compute)
    for s in tl.static_range(scales):
        h, w = height >> s, width >> s
        own = tl.load(
            plane + (y >> s) * w + (x >> s), mask=mask & (y >> s < h) & (x >> s < w), other=0
        )
        value += own * (0.25**s)
        plane += h * w
    value *= tl.load(gradient + sample) / channels
    tl.store(out + sample * height * width + pixel, value, mask=mask)


def launch(
    gradient: Tensor, images: Tensor, references: Tensor, scales: int, c: float, out: Tensor
) -> None:
    """See `ssad_kernels.gms_loss`."""
    if len(images) == 0:
        return
    with torch.cuda.device_of(images):
        planes = Planes(images, references, scales)
        n, compute = planes.n, COMPUTE[planes.compute]
        choices = planes.new(n, images, torch.int8)
        medians, others = planes.medians(choices)
        by_x, by_y, by_median = (planes.new(n, images) for _ in range(3))
        planes.launch(
            _slope_gradient_kernel, n, medians, others, by_x, by_y, constant=c, compute=compute
        )
        planes.launch(_median_gradient_kernel, n, by_x, by_y, by_median, compute=compute)
        by_grey = by_x  # which has been read
        planes.launch(_choice_gradient_kernel, n, by_median, choices, by_grey, compute=compute)
        tiles = triton.cdiv(planes.h * planes.w, BLOCK)
        _pyramid_gradient_kernel[(n * tiles,)](
            by_grey, gradient.contiguous(), out, planes.h, planes.w, tiles, planes.total,
            planes.channels, scales, compute, BLOCK,
        )  # fmt: skip


def _variants() -> list[Variant]:
    found = []
    for pointer, compute in (("*fp32", tl.float32), ("*fp64", tl.float64)):
        plain = {"scales": 4, "block": BLOCK, "compute": compute}
        pointers = dict.fromkeys(("medians", "others", "by_x", "by_y"), pointer)
        constants = {**plain, "constant": 0.0026}
        found.append(Variant(_slope_gradient_kernel, pointers, constants))
        pointers = dict.fromkeys(("by_x", "by_y", "by_median"), pointer)
        found.append(Variant(_median_gradient_kernel, pointers, plain))
        pointers = {"by_median": pointer, "choices": "*i8", "by_grey": pointer}
        found.append(Variant(_choice_gradient_kernel, pointers, plain))
        pointers = dict.fromkeys(("by_grey", "gradient", "out"), pointer)
        found.append(Variant(_pyramid_gradient_kernel, pointers, {**plain, "channels": 3}))
    return found


VARIANTS: tuple[Any, ...] = tuple(_variants())
