# SPDX-License-Identifier: Apache-2.0
"""Sample arguments of counts and of connected components; maps with masks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssad_kernels._errors import dtype_name
from ssad_kernels.testing.images import LAYOUTS, make_images, with_layout
from ssad_kernels.testing.masks import MASKS, make_mask

Arguments = tuple[Any, ...]

_ODD = (0.0, -0.0, float("inf"), -float("inf"), float("nan"))


def make_maps(
    n: int,
    h: int,
    w: int,
    *,
    dtype: torch.dtype = torch.float32,
    levels: int | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Maps in 0...1 that see something of their masks; every third image is normal.

    Args:
        n: images.
        h: rows.
        w: columns.
        dtype: of the maps.
        levels: round the maps to so many, for ties.
        device: of both.

    Returns:
        (N, 1, H, W) maps and (N, 1, H, W) bool masks.
    """
    kinds = [kind for kind in MASKS if kind not in ("full", "empty", "one hole")]
    masks = torch.stack([make_mask(kinds[i % len(kinds)], h, w, seed=i) for i in range(n)])[:, None]
    masks &= (torch.arange(n) % 3 > 0)[:, None, None, None]
    noise = make_images(n, 1, h, w).double() + make_images(n, 1, h, w, seed=1).double() / 256
    maps = (noise + 80 * masks) / 336
    if levels is not None:
        maps = (maps * levels).round() / levels
    return maps.to(device, dtype), masks.to(device)


def _values(count: int, dtype: torch.dtype, seed: int, device: torch.device | str) -> Tensor:
    """Floats of both signs and many sizes, half of them with ties, some of them odd."""
    pixels = make_images(4, 1, 1, max(count, 8), seed=seed).double().reshape(4, -1)[:, :count]
    sizes = torch.exp((pixels[0] - 128) / 20) * (pixels[1] - 128.5)
    values = torch.where(pixels[2] < 128, sizes, pixels[3] - 128).to(dtype)
    for i, odd in enumerate(_ODD):
        values[i : i + 1] = odd
    return values.to(device)


def count_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``count_above``: both dtypes, ties, odd values, nothing to count."""
    found: dict[str, Arguments] = {}
    for dtype in (torch.float32, torch.float64):
        scores, among = _values(60, dtype, 0, device), _values(900, dtype, 5, device)
        ignored = _values(900, dtype, 9, device) > 3
        name = dtype_name(dtype)
        found[name] = (scores, among, None, None)
        found[f"ignored-{name}"] = (scores, among, ignored, None)
        for most in (1, 17, 250, 5000):
            found[f"most-{most}-{name}"] = (scores, among, ignored, most)
    scores, among = _values(60, torch.float32, 0, device), _values(900, torch.float32, 5, device)
    every = torch.ones(900, dtype=torch.bool, device=device)
    found["all-ignored"] = (scores, among, every, 3)
    found["nothing"] = (scores, among[:0], every[:0], None)
    found["nothing-most"] = (scores, among[:0], None, 1)
    found["one-score"] = (scores[7:8], among, None, None)
    found["no-score"] = (scores[:0], among, None, 3)
    found["one-value"] = (scores[:1].expand(9), scores[:1].expand(5), None, 2)
    found["strided"] = (scores[::2], among[1::3], every[::3] & (among[::3] > 0), None)
    return found


def component_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``connected_components``: every family of masks, noise, spirals, layouts."""

    def noise(n: int, h: int, w: int, level: int) -> Tensor:
        return make_images(n, 1, h, w, seed=h, device=device) < level

    families = torch.stack([make_mask(kind, 23, 30) for kind in MASKS])[:, None].to(device)
    found: dict[str, Arguments] = {"families": (families,)}
    for level in (20, 100, 128, 200):
        found[f"noise-{level}"] = (noise(3, 19, 26, level),)
    found["spiral"] = (make_spiral(21).to(device)[None, None],)
    found["row"] = (noise(2, 1, 70, 140),)
    found["column"] = (noise(2, 40, 1, 140),)
    found["pixel"] = (noise(4, 1, 1, 128),)
    for layout in LAYOUTS[1:]:
        found[layout] = (with_layout(noise(3, 12, 17, 120), layout),)
    found["turned"] = (noise(2, 16, 24, 120).mT,)
    found["one-sample"] = (noise(1, 33, 47, 120),)
    found["empty-batch"] = (noise(0, 9, 8, 120),)
    return found


def make_spiral(side: int) -> Tensor:
    """(side, side) bool: one line from the corner to the middle that never touches itself."""
    mask = torch.zeros(side, side, dtype=torch.bool)
    y, x, dy, dx = 0, 0, 0, 1
    mask[0, 0] = True
    for length in [side - 1, *[k for k in range(side - 1, 0, -2) for _ in range(2)]]:
        for _ in range(length):
            y, x = y + dy, x + dx
            mask[y, x] = True
        dy, dx = dx, -dy
    return mask
