# SPDX-License-Identifier: Apache-2.0
"""Similarity maps in plain torch, differentiable: as their papers' code has them, and at best."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SCALES, C = 4, 0.0026
WINDOW, SIGMA = 11, 1.5
_EPSILON = 2.220446049250313e-16
_C1, _C2 = 0.01**2, 0.03**2


def _straight_slopes(grey: Tensor) -> Tensor:
    """Medians by sorting windows, Prewitt by a convolution."""
    n, _, h, w = grey.shape
    median = functional.unfold(grey, 3, padding=1).median(1).values.view(n, 1, h, w)
    prewitt = grey.new_tensor([[1.0, 0.0, -1.0]] * 3) / 3
    slopes = functional.conv2d(median, torch.stack([prewitt, prewitt.T])[:, None])
    return (slopes.square().sum(1, keepdim=True) + _EPSILON).sqrt()


def _middle(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))


def _best_slopes(grey: Tensor) -> Tensor:
    """Medians by a network of minima and maxima, Prewitt by sums of rows and columns."""
    padded = functional.pad(grey, (1, 1, 1, 1))
    a, b, c = padded[..., :-2, :], padded[..., 1:-1, :], padded[..., 2:, :]
    least, most = torch.minimum(a, b), torch.maximum(a, b)
    low, high = torch.minimum(least, c), torch.maximum(most, c)
    mid = torch.maximum(least, torch.minimum(most, c))
    low = torch.maximum(torch.maximum(low[..., :-2], low[..., 1:-1]), low[..., 2:])
    high = torch.minimum(torch.minimum(high[..., :-2], high[..., 1:-1]), high[..., 2:])
    median = _middle(low, _middle(mid[..., :-2], mid[..., 1:-1], mid[..., 2:]), high)
    columns = median[..., :-2, :] + median[..., 1:-1, :] + median[..., 2:, :]
    rows = median[..., :-2] + median[..., 1:-1] + median[..., 2:]
    dx, dy = columns[..., 2:] - columns[..., :-2], rows[..., 2:, :] - rows[..., :-2, :]
    return ((dx * dx + dy * dy) / 9 + _EPSILON).sqrt()


FORMS = ("as released", "at best")
SLOPES = dict(zip(FORMS, (_straight_slopes, _best_slopes), strict=True))


def _scales(images: Tensor, references: Tensor, form: str) -> list[Tensor]:
    found = []
    for s in range(SCALES):
        if s:
            images, references = (functional.avg_pool2d(i, 2) for i in (images, references))
        greys = [i.mean(1, keepdim=True) for i in (images, references)]
        if form == "at best":  # both at once
            a, b = SLOPES[form](torch.cat(greys)).chunk(2)
        else:
            a, b = (SLOPES[form](grey) for grey in greys)
        found.append((2 * a * b + C) / (a * a + b * b + C))
    return found


def gms_map(images: Tensor, references: Tensor, form: str) -> Tensor:
    """The mean of the scales' maps, resized."""
    total = 0
    for one in _scales(images, references, form):
        total = total + functional.interpolate(one, images.shape[2:], mode="bilinear")
    return total / SCALES


def gms_loss(images: Tensor, references: Tensor, form: str) -> Tensor:
    """The mean of what the scales' maps lack to 1, of each image."""
    maps = _scales(images, references, form)
    return torch.stack([1 - one.mean((1, 2, 3)) for one in maps]).mean(0)


def _taps(like: Tensor) -> Tensor:
    at = torch.arange(WINDOW, dtype=torch.float64, device=like.device) - WINDOW // 2
    taps = torch.exp(-at * at / (2 * SIGMA**2))
    return (taps / taps.sum()).to(like.dtype)


def _square_means(planes: Tensor) -> Tensor:
    taps, channels = _taps(planes), planes.shape[1]
    weight = (taps[:, None] * taps).expand(channels, 1, WINDOW, WINDOW)
    return functional.conv2d(planes, weight, padding=WINDOW // 2, groups=channels)


def _separable_means(planes: Tensor) -> Tensor:
    """Of all planes as the channels of one image, which is much faster than as images."""
    taps, folded = _taps(planes), planes.flatten(0, 1)[None]
    weight, options = taps.expand(folded.shape[1], 1, 1, WINDOW), {"groups": folded.shape[1]}
    folded = functional.conv2d(folded, weight.mT, padding=(WINDOW // 2, 0), **options)
    return functional.conv2d(folded, weight, padding=(0, WINDOW // 2), **options).view(planes.shape)


MEANS = dict(zip(FORMS, (_square_means, _separable_means), strict=True))


def ssim_map(images: Tensor, references: Tensor, form: str) -> Tensor:
    """Of each channel."""
    products = images * images, references * references, images * references
    planes = [images, references, *products]
    if form == "at best":  # all at once
        means = MEANS[form](torch.cat(planes)).chunk(5)
    else:
        means = tuple(MEANS[form](plane) for plane in planes)
    a, b, aa, bb, ab = means
    top = (2 * a * b + _C1) * (2 * (ab - a * b) + _C2)
    return top / ((a * a + b * b + _C1) * (aa - a * a + bb - b * b + _C2))
