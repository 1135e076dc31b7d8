# SPDX-License-Identifier: Apache-2.0
"""Similarity of gradient magnitudes and of structure, and their gradients."""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

EPSILON = 2.0**-52  # of the squared slopes: below it they have no direction
C1, C2 = 0.01**2, 0.03**2  # of SSIM, for images in 0...1


def compute_type(images: Tensor) -> torch.dtype:
    """What is computed in, and the dtype of results."""
    return torch.float64 if images.dtype == torch.float64 else torch.float32


def _unit(images: Tensor) -> int:
    return 255 if images.dtype == torch.uint8 else 1


def _greys(images: Tensor, scales: int) -> list[Tensor]:
    """(N, h, w) each. In this order of operations, so that all backends agree on the medians."""
    values = images.to(compute_type(images))
    total = values[:, 0]
    for c in range(1, images.shape[1]):
        total = total + values[:, c]
    greys = [total * (1 / (_unit(images) * images.shape[1]))]
    for _ in range(1, scales):
        fine = greys[-1]
        fine = fine[:, : fine.shape[1] // 2 * 2, : fine.shape[2] // 2 * 2]
        rows = fine[:, 0::2] + fine[:, 1::2]
        greys.append((rows[:, :, 0::2] + rows[:, :, 1::2]) * 0.25)
    return greys


def _windows(grey: Tensor) -> Tensor:
    """(9, N, h, w): the pixels of 3 x 3, row by row, zeros beyond the image."""
    h, w = grey.shape[1:]
    padded = functional.pad(torch.where(grey.isfinite(), grey, math.nan), (1, 1, 1, 1))
    return torch.stack([padded[:, y : y + h, x : x + w] for y, x in product(range(3), repeat=2)])


def _median(windows: Tensor) -> Tensor:
    """Of each window; NaN if one of its pixels is."""
    ordered = windows.sort(0).values  # NaN last
    return torch.where(ordered[-1].isnan(), math.nan, ordered[4])


def _slopes(median: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Prewitt's, and the sum of their squares; (N, h - 2, w - 2) each."""
    columns = (median[:, :-2] + median[:, 1:-1]) + median[:, 2:]
    rows = (median[:, :, :-2] + median[:, :, 1:-1]) + median[:, :, 2:]
    dx = (columns[:, :, 2:] - columns[:, :, :-2]) * (1 / 3)
    dy = (rows[:, 2:] - rows[:, :-2]) * (1 / 3)
    return dx, dy, dx * dx + dy * dy + EPSILON


def _unlikeness(grey: Tensor, other: Tensor, c: float) -> Tensor:
    """What the similarity lacks to 1."""
    a, b = (_slopes(_median(_windows(one)))[2] for one in (grey, other))
    return (a.sqrt() - b.sqrt()).square() / (a + b + c)


def _resizer(size: int, like: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Bilinear interpolation along an axis: (size, inputs) weights, and which of them are taken."""
    inputs = like.shape[dim]
    position = (2 * torch.arange(size, device=like.device) + 1) * inputs - size
    position = position.clamp(min=0)  # in units of 1 / (2 size)
    low = position.div(2 * size, rounding_mode="floor")
    high_weight = (position % (2 * size)).double() / (2 * size)
    columns = torch.arange(inputs, device=like.device)
    is_low, is_high = columns == low[:, None], columns == (low + 1).clamp(max=inputs - 1)[:, None]
    weights = is_low * (1 - high_weight)[:, None] + is_high * high_weight[:, None]
    return weights.to(like.dtype), (is_low | is_high).to(like.dtype)


def gms_map(images: Tensor, references: Tensor, scales: int, c: float) -> Tensor:
    """See `ssad_kernels.gms_map`."""
    n, _, h, w = images.shape
    total = images.new_zeros((n, h, w), dtype=compute_type(images))
    for grey, other in zip(_greys(images, scales), _greys(references, scales), strict=True):
        unlike = _unlikeness(grey, other, c)
        is_good = unlike.isfinite()  # a NaN is to reach its neighbours alone, not whole rows
        rows, takes_row = _resizer(h, unlike, 1)
        columns, takes_column = _resizer(w, unlike, 2)
        total = total + rows @ torch.where(is_good, unlike, 0.0) @ columns.mT
        is_reached = takes_row @ (~is_good).to(unlike.dtype) @ takes_column.mT > 0
        total = torch.where(is_reached, math.nan, total)
    return (1 - total / scales)[:, None]


def gms_loss(images: Tensor, references: Tensor, scales: int, c: float) -> Tensor:
    """See `ssad_kernels.gms_loss`."""
    pairs = zip(_greys(images, scales), _greys(references, scales), strict=True)
    means = [_unlikeness(grey, other, c).double().mean((1, 2)) for grey, other in pairs]
    return torch.stack(means).mean(0).to(compute_type(images))


def gms_loss_backward(
    gradient: Tensor, images: Tensor, references: Tensor, scales: int, c: float
) -> Tensor:
    """(N, 1, H, W): the gradient of `gms_loss` with respect to each channel of the images."""
    greys, others = _greys(images, scales), _greys(references, scales)
    total = torch.zeros_like(greys[-1])
    for s in reversed(range(scales)):
        if s + 1 < scales:
            spread = (0.25 * total).repeat_interleave(2, 1).repeat_interleave(2, 2)
            missing = [a - b for a, b in zip(greys[s].shape[1:], spread.shape[1:], strict=True)]
            total = functional.pad(spread, (0, missing[1], 0, missing[0]))
        total = total + _scale_gradient(greys[s], others[s], c) / scales
    return (total * gradient[:, None, None] / images.shape[1])[:, None]


def _scale_gradient(grey: Tensor, other: Tensor, c: float) -> Tensor:
    """The gradient of the mean unlikeness of a scale."""
    windows = _windows(grey)
    median = _median(windows)
    dx, dy, a_square = _slopes(median)
    b_square = _slopes(_median(_windows(other)))[2]
    a, b = a_square.sqrt(), b_square.sqrt()
    total = a_square + b_square + c
    each = 2 * (a - b) * (b_square + a * b + c) / (total * total * a)
    each = each / (a.shape[1] * a.shape[2])
    gx, gy = (functional.pad(each * slope, (2, 2, 2, 2)) for slope in (dx, dy))
    columns = gx[:, :-2] + gx[:, 1:-1] + gx[:, 2:]
    rows = gy[:, :, 2:] + gy[:, :, 1:-1] + gy[:, :, :-2]
    of_median = (columns[:, :, :-2] - columns[:, :, 2:] + (rows[:, :-2] - rows[:, 2:])) * (1 / 3)
    chosen = (windows == median).byte().argmax(0)  # the first one of equal pixels
    h, w = grey.shape[1:]
    padded = of_median.new_zeros((len(grey), h + 2, w + 2))
    is_median = (windows == median).any(0)  # not of a NaN
    for k, (y, x) in enumerate(product(range(3), repeat=2)):
        padded[:, y : y + h, x : x + w] += torch.where(is_median & (chosen == k), of_median, 0.0)
    return padded[:, 1:-1, 1:-1]


def make_taps(window: int, sigma: float) -> list[float]:
    """A Gaussian of `window` taps that add up to 1."""
    taps = [math.exp(-((k - window // 2) ** 2) / (2 * sigma**2)) for k in range(window)]
    return [tap / sum(taps) for tap in taps]


def _means(planes: Tensor, taps: list[float]) -> Tensor:
    """Windowed means of (N, C, H, W), zeros beyond the image."""
    if not planes.numel():
        return planes
    folded = planes.flatten(0, 1)[None]  # channels of one image, for which torch is fast
    weight, count = planes.new_tensor(taps).expand(folded.shape[1], 1, 1, -1), folded.shape[1]
    folded = functional.conv2d(folded, weight.mT, padding=(len(taps) // 2, 0), groups=count)
    folded = functional.conv2d(folded, weight, padding=(0, len(taps) // 2), groups=count)
    return folded.view(planes.shape)


def _ssim_parts(s: Tensor, d: Tensor, taps: list[float]) -> tuple[Tensor, ...]:
    """Of the images' sum and difference: means, both denominators, luminance and structure."""
    mean_s, mean_d = _means(s, taps), _means(d, taps)
    var_s, var_d = _means(s * s, taps) - mean_s * mean_s, _means(d * d, taps) - mean_d * mean_d
    b1 = (mean_s * mean_s + mean_d * mean_d) / 2 + C1
    b2 = (var_s + var_d) / 2 + C2
    return mean_s, mean_d, b1, b2, 1 - mean_d * mean_d / b1, 1 - var_d / b2


def _sum_and_difference(images: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    a, b = (one.to(compute_type(images)) for one in (images, references))
    factor = 1 / _unit(images)
    return (a + b) * factor, (a - b) * factor


def ssim_map(images: Tensor, references: Tensor, window: int, sigma: float) -> Tensor:
    """See `ssad_kernels.ssim_map`."""
    parts = _ssim_parts(*_sum_and_difference(images, references), make_taps(window, sigma))
    return (parts[4] * parts[5]).contiguous()


def ssim_map_backward(
    gradient: Tensor, images: Tensor, references: Tensor, window: int, sigma: float
) -> Tensor:
    """(N, C, H, W): the gradient of `ssim_map` with respect to the images."""
    taps = make_taps(window, sigma)
    s, d = _sum_and_difference(images, references)
    mean_s, mean_d, b1, b2, luminance, structure = _ssim_parts(s, d, taps)
    by_structure, by_luminance = gradient * luminance / (2 * b2), gradient * structure / b1
    by_ss, by_dd = by_structure * (1 - structure), -by_structure * (1 + structure)
    by_s = mean_s * (by_luminance * (1 - luminance) - 2 * by_ss)
    by_d = -mean_d * (by_luminance * (1 + luminance) + 2 * by_dd)
    squares = s * _means(by_ss, taps) + d * _means(by_dd, taps)
    return (_means(by_s, taps) + _means(by_d, taps) + 2 * squares).contiguous()
