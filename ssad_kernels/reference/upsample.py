# SPDX-License-Identifier: Apache-2.0
"""Receptive-field upsampling, one axis after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Band(NamedTuple):
    """An axis as a banded matrix: out[i] = sum over k of weight[i, k] * in[first[i] + k].

    Attributes:
        first: (outputs,) int64; may lie outside of the input.
        weight: (outputs, taps) float64.
        reached: (outputs, taps) bool: whether there is such an input and the kernel reaches it.
    """

    first: Tensor
    weight: Tensor
    reached: Tensor


def make_taps(kernel: int, sigma: float, device: torch.device) -> Tensor:
    """(kernel,) float64: the Gaussian of a field, along an axis."""
    index = torch.arange(kernel, device=device)
    distance = (2 * index - (kernel - 1)).abs() // 2
    taps = torch.exp(-(distance.double() ** 2) / (2.0 * sigma**2))
    return 0.5 * taps if kernel % 2 == 0 else taps


def make_scale(pixels: int, features: int, taps: Tensor, stride: int, start: int) -> Tensor:
    """(pixels,) float64: what makes the weights of a pixel's features add up to 1."""
    total = _features_of(pixels, features, taps, stride, start).weight.sum(1)
    is_enough = total >= torch.finfo(total.dtype).tiny  # 1 / total of a subnormal may be infinite
    return torch.where(is_enough, 1.0 / total, 0.0)


def _features_of(pixels: int, features: int, taps: Tensor, stride: int, start: int) -> Band:
    kernel, device = len(taps), taps.device
    at = torch.arange(pixels, device=device) - start
    first = at.div(stride, rounding_mode="floor") - (kernel - 1) // stride
    feature = first[:, None] + torch.arange((kernel - 1) // stride + 1, device=device)
    index = at[:, None] - stride * feature
    reached = (index >= 0) & (index < kernel) & (feature >= 0) & (feature < features)
    return Band(first, torch.where(reached, taps[index.clamp(0, kernel - 1)], 0.0), reached)


def make_band(
    size: int,
    inputs: int,
    kernel: int,
    stride: int,
    start: int,
    sigma: float,
    normalise: bool,
    is_adjoint: bool,
    device: torch.device,
) -> Band:
    """The matrix of an axis from features to pixels; or, for the adjoint, its transpose."""
    features, pixels = (size, inputs) if is_adjoint else (inputs, size)
    taps = make_taps(kernel, sigma, device)
    scale = (
        make_scale(pixels, features, taps, stride, start) if normalise else taps.new_ones(pixels)
    )
    if not is_adjoint:
        first, weight, reached = _features_of(pixels, features, taps, stride, start)
        return Band(first, weight * scale[:, None], reached)
    first = start + stride * torch.arange(features, device=device)
    pixel = first[:, None] + torch.arange(kernel, device=device)
    reached = (pixel >= 0) & (pixel < pixels)
    weight = taps * scale[pixel.clamp(0, pixels - 1)]
    return Band(first, torch.where(reached, weight, 0.0), reached)


def receptive_field_upsample(
    scores: Tensor,
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    start: Sequence[int],
    sigma: Sequence[float],
    normalise: bool,
    is_adjoint: bool,
) -> Tensor:
    """See `ssad_kernels.receptive_field_upsample`."""
    compute = torch.float64 if scores.dtype == torch.float64 else torch.float32
    values = scores.to(compute)
    for dim in (0, 1) if is_adjoint else (1, 0):  # the plane between is to have few rows
        band = make_band(
            size[dim],
            scores.shape[2 + dim],
            kernel[dim],
            stride[dim],
            start[dim],
            sigma[dim],
            normalise,
            is_adjoint,
            scores.device,
        )
        values = _apply(band, values.transpose(2 + dim, 3)).transpose(2 + dim, 3)
    return values.to(scores.dtype).contiguous()


def _apply(band: Band, values: Tensor) -> Tensor:
    total = values.new_zeros((*values.shape[:3], band.first.shape[0]))
    for k in range(band.weight.shape[1]):
        taken = values[..., (band.first + k).clamp(0, values.shape[3] - 1)]
        product = taken * band.weight[:, k].to(values.dtype)
        total = total + torch.where(band.reached[:, k], product, 0.0)
    return total
