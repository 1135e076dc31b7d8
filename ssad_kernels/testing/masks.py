# SPDX-License-Identifier: Apache-2.0
"""Masks that solvers find easy or hard."""

from __future__ import annotations

import torch
from torch import Tensor

MASKS = (
    "full",
    "square",
    "disc",
    "ellipses",
    "blobs",
    "noise",
    "holes",
    "horseshoe",
    "scar",
    "checkerboard",
    "row",
    "pixel",
    "one hole",
    "empty",
)


def make_mask(family: str, height: int, width: int, *, seed: int = 0) -> Tensor:
    """A random mask (height, width) bool of a family that solvers find easy or hard.

    Args:
        family: one of `MASKS`; "square", "disc", "horseshoe" and "ellipses" leave a rim, "blobs"
            and "noise" touch the borders, "holes" is a square with pin holes.
        height: in pixels.
        width: in pixels.
        seed: equal seeds give equal masks.

    Raises:
        ValueError: for another family.
    """
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    def pixel() -> tuple[int, int]:
        y, x = random(2).tolist()
        return int(y * height), int(x * width)

    y = (torch.arange(height)[:, None] + 0.5) / height * 2 - 1
    x = (torch.arange(width) + 0.5) / width * 2 - 1
    mask = torch.zeros(height, width, dtype=torch.bool)
    square = (y.abs() < 0.95) & (x.abs() < 0.95)
    if family == "full":
        mask[:] = True
    elif family == "square":
        mask = square
    elif family == "disc":
        mask = y**2 + x**2 < 0.9
    elif family == "ellipses":
        for cy, cx, ry, rx in random(4, 4).tolist():
            distance = ((y - cy + 0.5) / (0.1 + ry / 2)) ** 2 + ((x - cx + 0.5) / (0.1 + rx)) ** 2
            mask |= distance < 1
        mask &= square
    elif family == "blobs":
        coarse = random(1, 1, 6, 6)
        mask = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0, 0] > 0.5
    elif family == "noise":
        mask = random(height, width) < 0.7
    elif family == "holes":
        mask = square
        for _ in range(max(height, width) // 4):
            mask[pixel()] = False
    elif family == "horseshoe":
        radius = y**2 + x**2
        mask = (radius < 0.9) & (radius > 0.3) & ~((x.abs() < 0.3) & (y > 0))
    elif family == "scar":
        mask = (y - x * random(1)).abs() < 5 / height
    elif family == "checkerboard":
        mask = (torch.arange(height)[:, None] + torch.arange(width)) % 2 == 0
    elif family == "row":
        mask[pixel()[0]] = True
    elif family == "pixel":
        mask[pixel()] = True
    elif family == "one hole":
        mask[:] = True
        mask[pixel()] = False
    elif family != "empty":
        msg = f"make_mask: unknown family {family!r}"
        raise ValueError(msg)
    return mask
