# SPDX-License-Identifier: Apache-2.0
"""Images larger than what a model was trained on, looked at in overlapping tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

TOLERANCE = 1.25
"""How much larger than the training files an image may be before it is tiled."""

OVERLAP = 0.25
"""Least share of a tile that it has in common with its neighbour."""


class Box(NamedTuple):
    """A rectangle in pixels, half-open."""

    y: int
    x: int
    h: int
    w: int


def tile_boxes(size: tuple[int, int], native: tuple[int, int]) -> list[Box]:
    """Tiles that cover an image.

    Args:
        size: Height and width of the image in pixels.
        native: Height and width of a tile: those of the training files.

    Returns:
        The whole image if neither side exceeds `TOLERANCE` times the native one. Else boxes of the
        native size, or of the image's where it is smaller, evenly spaced and overlapping by at
        least `OVERLAP`, row by row.
    """
    if all(side <= TOLERANCE * tile for side, tile in zip(size, native, strict=True)):
        return [Box(0, 0, *size)]
    h, w = (min(side, tile) for side, tile in zip(size, native, strict=True))
    return [Box(y, x, h, w) for y in _starts(size[0], h) for x in _starts(size[1], w)]


def _starts(side: int, tile: int) -> list[int]:
    """Where tiles begin along one axis, the first at 0 and the last flush with the end."""
    steps = math.ceil((side - tile) / (tile * (1 - OVERLAP)))
    return [round(i * (side - tile) / steps) for i in range(steps + 1)] if steps else [0]


class Blend:
    """The map of a whole image out of those of its tiles, cross-faded where they overlap.

    Tiles weigh most in their middle, where they have seen the surroundings of a pixel on all sides.

    Args:
        size: Height and width of the image.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self._total = torch.zeros(1, *size)
        self._weights = torch.zeros(1, *size)

    def add(self, maps: torch.Tensor, boxes: Sequence[Box]) -> None:
        """Lay down the maps of some tiles: (K, 1, S, S) float of any resolution, and K boxes."""
        for tile, (y, x, h, w) in zip(maps, boxes, strict=True):
            resized = torch.nn.functional.interpolate(
                tile[None].float(), size=(h, w), mode="bilinear", align_corners=False
            )
            weight = _ramp(h)[:, None] * _ramp(w)
            self._total[:, y : y + h, x : x + w] += resized[0] * weight
            self._weights[:, y : y + h, x : x + w] += weight

    def blended(self) -> torch.Tensor:
        """(1, height, width) float32, once boxes that cover the image have been added."""
        return self._total / self._weights


def _ramp(n: int) -> torch.Tensor:
    """Rising from near 0 at both ends to 1 in the middle; never 0."""
    rise = torch.arange(1, n + 1, dtype=torch.float32)
    return torch.minimum(rise, rise.flip(0)) / ((n + 1) // 2)
