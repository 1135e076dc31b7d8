# SPDX-License-Identifier: Apache-2.0
"""Gaussian smoothing of maps, as SciPy's `gaussian_filter` does it."""

from __future__ import annotations

import torch
from torch import nn

_TRUNCATED = 4.0  # deviations


def smooth(maps: torch.Tensor, sigma: float, *, rows_only: bool = False) -> torch.Tensor:
    """Smooth, mirrored at the borders with the outermost pixel twice.

    Args:
        maps: (N, 1, H, W) float.
        sigma: Standard deviation in pixels, above 0.
        rows_only: Along rows alone, not along columns.
    """
    radius = int(_TRUNCATED * sigma + 0.5)
    place = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    kernel = (-0.5 * (place / sigma).square()).exp()
    kernel = kernel / kernel.sum()
    if not rows_only:
        maps = _along(maps.mT, kernel, radius).mT
    return _along(maps, kernel, radius)


def _along(maps: torch.Tensor, kernel: torch.Tensor, radius: int) -> torch.Tensor:
    width = maps.shape[-1]
    place = torch.arange(-radius, width + radius, device=maps.device) % (2 * width)
    mirrored = maps[..., torch.minimum(place, 2 * width - 1 - place)]
    return nn.functional.conv2d(mirrored, kernel.view(1, 1, 1, -1))
