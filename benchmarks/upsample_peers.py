# SPDX-License-Identifier: Apache-2.0
"""Receptive-field upsampling, ours and as others formulate it, on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ssad_kernels import receptive_field_upsample

SIGMA = 10.0


class Geometry(NamedTuple):
    """What is upsampled; what a transposed convolution has to crop, and to pad its output by."""

    features: int
    size: int
    kernel: int
    stride: int
    offset: float
    crop: int
    padding: int


GEOMETRIES = {
    "CutPaste": Geometry(57, 256, 32, 4, 15.5, 0, 0),
    "FCDD": Geometry(28, 224, 62, 8, 3.5, 27, 6),
}


def _taps(geometry: Geometry) -> Tensor:
    middle = geometry.kernel // 2 - 1
    positions = torch.arange(geometry.kernel - 1, dtype=torch.float64) - middle
    taps = torch.exp(-(positions**2) / (2 * SIGMA**2))
    return torch.cat([taps[: middle + 1], taps[middle:]]) / 2


def convolution(geometry: Geometry, scores: Tensor) -> Callable[[], Tensor]:
    """FCDD's formulation."""
    taps = _taps(geometry).float()
    kernel = (taps[:, None] * taps)[None, None].to(scores.device)
    crop = slice(geometry.crop, geometry.crop + geometry.size)
    return lambda: torch.nn.functional.conv_transpose2d(
        scores, kernel, stride=geometry.stride, output_padding=geometry.padding
    )[:, :, crop, crop]


def products(geometry: Geometry, scores: Tensor) -> Callable[[], Tensor]:
    """Two products with dense matrices that were made before."""
    taps = _taps(geometry)
    matrix = torch.zeros(geometry.size + 2 * geometry.kernel, geometry.features).double()
    for feature in range(geometry.features):
        start = geometry.kernel - geometry.crop + geometry.stride * feature
        matrix[start : start + geometry.kernel, feature] = taps
    rows = matrix[geometry.kernel : geometry.kernel + geometry.size].float().to(scores.device)
    rows = rows.contiguous()
    columns = rows.mT.contiguous()
    return lambda: rows @ scores @ columns


def upsample(geometry: Geometry, scores: Tensor) -> Tensor:
    """Ours."""
    _, size, kernel, stride, offset, *_ = geometry
    options = {"kernel": kernel, "stride": stride}
    return receptive_field_upsample(scores, size, **options, offset=offset, sigma=SIGMA)
