# SPDX-License-Identifier: Apache-2.0
"""Structural similarity: windows along rows, then along columns, in planes of one dtype.

With s = a + b and d = a - b there are four planes to take means of: s, d, s² and d².
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssad_kernels.reference.similarity import C1, C2, compute_type, make_taps
from ssad_kernels.triton._variants import Variant

_C1, _C2 = tl.constexpr(C1), tl.constexpr(C2)


@triton.jit
def _pixels_of(height, width, tiles, block: tl.constexpr):
    plane = (tl.program_id(0) // tiles).to(tl.int64)
    pixel = tl.program_id(0) % tiles * block + tl.arange(0, block)
    return plane, pixel, pixel // width, pixel % width, pixel < height * width


@triton.jit
def _load_pair(
    images, references, at_a, at_b, mask, unit: tl.constexpr, compute: tl.constexpr
):  # fmt: skip
    a = tl.load(images + at_a, mask=mask, other=0).to(compute)
    b = tl.load(references + at_b, mask=mask, other=0).to(compute)
    factor: tl.constexpr = 1 / unit
    scale = tl.full((), factor, compute)
    return (a + b) * scale, (a - b) * scale


@triton.jit
def _place(plane, y, x, channels, stride_n, stride_c, stride_y, stride_x):
    start = plane // channels * stride_n + plane % channels * stride_c
    return start + y.to(tl.int64) * stride_y + x.to(tl.int64) * stride_x


@triton.jit
def _pair_rows_kernel(
    images, references, taps, rows, size, height, width, tiles, channels,
    a_n, a_c, a_y, a_x, b_n, b_c, b_y, b_x,
    window: tl.constexpr, unit: tl.constexpr, compute: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Means of the four planes along rows; `size` pixels each, all of a batch's."""
    plane, pixel, y, x, mask = _pixels_of(height, width, tiles, block)
    s_sum = tl.zeros((block,), compute)
    d_sum = tl.zeros((block,), compute)
    ss_sum = tl.zeros((block,), compute)
    dd_sum = tl.zeros((block,), compute)
    for k in range(window):
        at = x + k - window // 2
        is_read = mask & (at >= 0) & (at < width)
        at_a = _place(plane, y, at, channels, a_n, a_c, a_y, a_x)
        at_b = _place(plane, y, at, channels, b_n, b_c, b_y, b_x)
        s, d = _load_pair(images, references, at_a, at_b, is_read, unit, compute)
        tap = tl.load(taps + k)
        s_sum += tap * s
        d_sum += tap * d
        ss_sum += tap * (s * s)
        dd_sum += tap * (d * d)
    place = rows + plane * height * width + pixel
    tl.store(place, s_sum, mask=mask)
    tl.store(place + size, d_sum, mask=mask)
    tl.store(place + size + size, ss_sum, mask=mask)
    tl.store(place + size + size + size, dd_sum, mask=mask)


@triton.jit
def _plane_rows_kernel(
    planes, taps, rows, height, width, tiles,
    window: tl.constexpr, compute: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Means along rows of planes as they are."""
    plane, pixel, _, x, mask = _pixels_of(height, width, tiles, block)
    place = plane * height * width + pixel
    total = tl.zeros((block,), compute)
    for k in range(window):
        at = k - window // 2
        is_read = mask & (x + at >= 0) & (x + at < width)
        total += tl.load(taps + k) * tl.load(planes + place + at, mask=is_read, other=0)
    tl.store(rows + place, total, mask=mask)


@triton.jit
def _column_mean(
    plane, taps, y, width, height, mask,
    window: tl.constexpr, compute: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    total = tl.zeros((block,), compute)
    for k in range(window):
        at = k - window // 2
        is_read = mask & (y + at >= 0) & (y + at < height)
        total += tl.load(taps + k) * tl.load(plane + at * width, mask=is_read, other=0)
    return total


@triton.jit
def _parts(
    rows, taps, size, y, width, height, mask,
    window: tl.constexpr, compute: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Both means, both denominators, luminance and structure."""
    s = _column_mean(rows, taps, y, width, height, mask, window, compute, block)
    rows += size  # its multiples may need 64 bits
    d = _column_mean(rows, taps, y, width, height, mask, window, compute, block)
    rows += size
    ss = _column_mean(rows, taps, y, width, height, mask, window, compute, block)
    rows += size
    dd = _column_mean(rows, taps, y, width, height, mask, window, compute, block)
    var_s, var_d = ss - s * s, dd - d * d
    b1 = (s * s + d * d) * 0.5 + tl.full((), _C1, compute)
    b2 = (var_s + var_d) * 0.5 + tl.full((), _C2, compute)
    return s, d, b1, b2, 1 - d * d / b1, 1 - var_d / b2


@triton.jit
def _ssim_kernel(
    rows, taps, out, size, height, width, tiles,
    window: tl.constexpr, compute: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    plane, pixel, y, _, mask = _pixels_of(height, width, tiles, block)
    place = plane * height * width + pixel
    _, _, _, _, luminance, structure = _parts(
        rows + place, taps, size, y, width, height, mask, window, compute, block
    )
    tl.store(out + place, luminance * structure, mask=mask)


@triton.jit
def _ssim_gradient_kernel(
    rows, taps, gradient, planes, size, height, width, tiles,
    window: tl.constexpr, compute: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Of the four means; those of s and d, which one plane's gradient adds up, in the first."""
    plane, pixel, y, _, mask = _pixels_of(height, width, tiles, block)
    place = plane * height * width + pixel
    s, d, b1, b2, luminance, structure = _parts(
        rows + place, taps, size, y, width, height, mask, window, compute, block
    )
    own = tl.load(gradient + place, mask=mask, other=0)
    by_structure, by_luminance = own * luminance / (2 * b2), own * structure / b1
    by_ss, by_dd = by_structure * (1 - structure), -by_structure * (1 + structure)
    by_s = s * (by_luminance * (1 - luminance) - 2 * by_ss)
    by_d = -d * (by_luminance * (1 + luminance) + 2 * by_dd)
    tl.store(planes + place, by_s + by_d, mask=mask)
    tl.store(planes + place + size, by_ss, mask=mask)
    tl.store(planes + place + size + size, by_dd, mask=mask)


@triton.jit
def _pair_gradient_kernel(
    rows, taps, images, references, out, size, height, width, tiles, channels,
    a_n, a_c, a_y, a_x, b_n, b_c, b_y, b_x,
    window: tl.constexpr, compute: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    plane, pixel, y, x, mask = _pixels_of(height, width, tiles, block)
    place = plane * height * width + pixel
    at_a = _place(plane, y, x, channels, a_n, a_c, a_y, a_x)
    at_b = _place(plane, y, x, channels, b_n, b_c, b_y, b_x)
    s, d = _load_pair(images, references, at_a, at_b, mask, 1, compute)
    rows += place
    mean = _column_mean(rows, taps, y, width, height, mask, window, compute, block)
    by_ss = _column_mean(rows + size, taps, y, width, height, mask, window, compute, block)
    by_dd = _column_mean(rows + size + size, taps, y, width, height, mask, window, compute, block)
    tl.store(out + place, mean + 2 * (s * by_ss + d * by_dd), mask=mask)


def launch(
    gradient: Tensor | None,
    images: Tensor,
    references: Tensor,
    window: int,
    sigma: float,
    out: Tensor,
) -> None:
    """See `ssad_kernels.ssim_map`; with a gradient, that of the images."""
    n, channels, height, width = images.shape
    if n == 0:
        return
    dtype = compute_type(images)
    compute, size = _COMPUTE[dtype], out.numel()
    taps = _taps(make_taps(window, sigma), out)
    tiles = triton.cdiv(height * width, _BLOCK)
    grid, sides = (n * channels * tiles,), (height, width, tiles)
    strides = *images.stride(), *references.stride()
    rows = out.new_empty(4 * size)
    with torch.cuda.device_of(images):
        _pair_rows_kernel[grid](
            images, references, taps, rows, size, *sides, channels, *strides,
            window, 255 if images.dtype == torch.uint8 else 1, compute, _BLOCK,
        )  # fmt: skip
        if gradient is None:
            _ssim_kernel[grid](rows, taps, out, size, *sides, window, compute, _BLOCK)
            return
        planes = out.new_empty(3 * size)
        gradient = gradient.contiguous()
        _ssim_gradient_kernel[grid](
            rows, taps, gradient, planes, size, *sides, window, compute, _BLOCK
        )
        _plane_rows_kernel[(3 * grid[0],)](planes, taps, rows, *sides, window, compute, _BLOCK)
        _pair_gradient_kernel[grid](
            rows, taps, images, references, out, size, *sides, channels, *strides,
            window, compute, _BLOCK,
        )  # fmt: skip


def _taps(taps: list[float], like: Tensor) -> Tensor:
    """On the device, without waiting for it."""
    return torch.stack([like.new_full((), tap) for tap in taps])


_BLOCK = 512
_COMPUTE = {torch.float32: tl.float32, torch.float64: tl.float64}


def _variants() -> list[Variant]:
    found = []
    for pointer, unit in (("*u8", 255), ("*fp16", 1), ("*bf16", 1), ("*fp32", 1), ("*fp64", 1)):
        compute = tl.float64 if pointer == "*fp64" else tl.float32
        other = "*fp64" if pointer == "*fp64" else "*fp32"
        shared = {"window": 11, "compute": compute, "block": _BLOCK}
        pair = {"images": pointer, "references": pointer, "taps": other, "rows": other}
        constants = {**shared, "a_x": 1, "b_x": 1}
        found.append(Variant(_pair_rows_kernel, pair, {**constants, "unit": unit}))
        if unit == 1:
            pointers = {**pair, "out": other}
            found.append(Variant(_pair_gradient_kernel, pointers, constants))
        if pointer == other:
            pointers = dict.fromkeys(("rows", "taps", "out"), other)
            found.append(Variant(_ssim_kernel, pointers, shared))
            pointers = dict.fromkeys(("rows", "taps", "gradient", "planes"), other)
            found.append(Variant(_ssim_gradient_kernel, pointers, shared))
            pointers = dict.fromkeys(("planes", "taps", "rows"), other)
            found.append(Variant(_plane_rows_kernel, pointers, shared))
    return found


VARIANTS: tuple[Any, ...] = tuple(_variants())
