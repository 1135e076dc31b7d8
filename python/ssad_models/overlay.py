# SPDX-License-Identifier: Apache-2.0
"""Heat maps laid over images, and pictures written to files."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from ssad_models.atomic import replacing

# Dark purple over red and orange to pale yellow: brighter is hotter, also in grey print and for
# colour-blind eyes.
_STOPS = torch.tensor(
    [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], dtype=torch.float32
)
_OPACITY = 0.75


def overlay(image: torch.Tensor, heat: torch.Tensor, high: float | None = None) -> torch.Tensor:
    """Colour an image by its heat map: untouched where cold, pale yellow where hot.

    Args:
        image: (C, H, W) uint8, C = 1 or 3.
        heat: (1, H, W) float, at least 0 where the map means anything; NaN counts as 0.
        high: The heat that takes the hottest colour; by default the map's own maximum, which makes
            the hottest place of every image look alike.

    Returns:
        (3, H, W) uint8.
    """
    heat = heat.float().nan_to_num(0.0).clamp_min(0)
    high = float(heat.max()) if high is None else high
    level = (heat / max(high, 1e-12)).clamp(0, 1)
    place = level * (len(_STOPS) - 1)
    lower = place.floor().long().clamp_max(len(_STOPS) - 2)
    part = place - lower
    stops = _STOPS.to(heat.device)
    # (1, H, W) indices into (5, 3) give (1, H, W, 3).
    colours = torch.lerp(stops[lower], stops[lower + 1], part[..., None])[0].permute(2, 0, 1)
    mixed = torch.lerp(image.expand(3, -1, -1).float(), colours, _OPACITY * level)
    return mixed.round().to(torch.uint8)


def write_png(path: Path, picture: torch.Tensor) -> None:
    """Write a picture (3, H, W) uint8.

    Raises:
        OSError: If it cannot be written.
    """
    with replacing(path) as file:
        Image.fromarray(picture.permute(1, 2, 0).cpu().numpy()).save(file, format="PNG")
