# SPDX-License-Identifier: Apache-2.0
"""Sample arguments of medians, object masks and labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssad_kernels._errors import IMAGE_DTYPES, dtype_name
from ssad_kernels.testing.images import LAYOUTS, make_images, with_layout
from ssad_kernels.testing.masks import MASKS, make_mask

Arguments = tuple[Any, ...]

_FAR = (1 << 63) - 1


def median_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``median_filter``: every dtype, radius, layout, and boxes of any kind."""

    def images(dtype: torch.dtype, n: int = 2, h: int = 13, w: int = 21, **more: Any) -> Tensor:
        if dtype in IMAGE_DTYPES:
            return make_images(n, 2, h, w, dtype=dtype, device=device, **more)
        levels = make_images(n, 2, h, w, device=device, **more)
        if dtype == torch.bool:
            return levels > 120
        scale = 257 if dtype == torch.int16 else 16_843_009  # up to the ends of the dtype
        return ((levels.long() - 128) * scale).clamp(min=torch.iinfo(dtype).min).to(dtype)

    found: dict[str, Arguments] = {}
    for dtype in (torch.bool, torch.int16, torch.int32, *IMAGE_DTYPES):
        found[dtype_name(dtype)] = (images(dtype), 3, False, None)
    for radius in (1, 2, 4, 5, 6, 7):
        found[f"radius-{radius}"] = (images(torch.float32), radius, False, None)
    for radius in range(1, 8):
        found[f"square-{2 * radius + 1}"] = (images(torch.bool), radius, True, None)
    rows = [
        (2, 3, 5, 6),
        (0, 0, 13, 21),
        (-3, 19, 9, 9),
        (4, 4, 0, 3),
        (12, 20, 1, 1),
        (20, 0, 3, 3),
    ]
    rows += [(-_FAR, -_FAR, _FAR, _FAR), (3, 5, _FAR, _FAR), (_FAR, 1, _FAR, 4), (1, 1, -_FAR, 5)]
    rows += [(-2, 6, _FAR, 2)]
    boxes = torch.tensor(rows, device=device)
    for dtype in (torch.bool, torch.uint8, torch.float16, torch.float32, torch.float64):
        many = images(dtype, n=len(rows))
        found[f"boxes-{dtype_name(dtype)}"] = (many, 2, False, boxes)
    found["boxes-square"] = (images(torch.bool, n=len(rows)), 2, True, boxes)
    for layout in LAYOUTS[1:]:
        found[layout] = (images(torch.float32, layout=layout), 2, False, None)
        found[f"{layout}-bool"] = (with_layout(images(torch.bool), layout), 2, True, None)
    found["strided-boxes"] = (images(torch.uint8, n=4), 1, False, boxes[:4].mT.contiguous().mT)
    found["column"] = (images(torch.float32, h=40, w=1), 5, False, None)
    found["row"] = (images(torch.uint8, h=1, w=70), 7, False, None)
    found["one-sample"] = (images(torch.float32, n=1, h=30, w=70), 5, False, None)
    found["empty-batch"] = (images(torch.float32, n=0), 5, False, None)
    return found


def _scenes(
    n: int, c: int, h: int, w: int, dtype: torch.dtype, device: torch.device | str, **more: Any
) -> Tensor:
    """Objects on a plain background with some noise, dark and bright ones in turn."""
    noise = make_images(n, c, h, w, seed=1, device=device).long() // 16
    masks = (
        torch.stack([make_mask("ellipses", h, w, seed=i) for i in range(n)]) if n else noise[:, 0]
    )
    is_dark = torch.arange(n, device=device)[:, None, None, None] % 2 > 0
    levels = noise + 200 * (masks.to(device)[:, None].bool() ^ is_dark)
    images = levels.to(torch.uint8) if dtype == torch.uint8 else (levels.double() / 255).to(dtype)
    return with_layout(images, more.get("layout", "contiguous"))


def mask_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``object_mask``: thresholds as sums over channels, then Otsu's."""
    found: dict[str, Arguments] = {}
    for dtype in IMAGE_DTYPES:
        white = 1.0 if dtype == torch.uint8 else 1 / 255
        for name, is_otsu in (("grey", False), ("otsu", True)):
            scenes = _scenes(4, 3, 17, 15, dtype, device)
            low, high = (3 * white * level for level in (5.0, 120.0))
            found[f"{name}-{dtype_name(dtype)}"] = (scenes, low, high, is_otsu, 7)
    for channels in (1, 2, 4):
        scenes = _scenes(3, channels, 12, 19, torch.uint8, device)
        found[f"channels-{channels}"] = (scenes, 0.0, 0.0, True, 3)
        found[f"bounds-{channels}"] = (scenes, 4.0 * channels, 8.5 * channels, False, 15)
    for layout in LAYOUTS[1:]:
        scenes = _scenes(3, 3, 12, 19, torch.float32, device, layout=layout)
        found[layout] = (scenes, 0.0, 0.0, True, 5)
    flat = torch.full((2, 3, 9, 8), 77, dtype=torch.uint8, device=device)
    found["one-level"] = (flat, 0.0, 0.0, True, 5)
    found["no-inside"] = (_scenes(3, 1, 2, 30, torch.uint8, device), 0.0, 0.0, True, 3)
    broken = _scenes(3, 2, 9, 8, torch.float32, device)
    broken[0, 0, 3, 3], broken[1, 1, 0, 0], broken[2, 0, 8, 7] = float("nan"), float("inf"), -7.0
    for name, is_otsu in (("not-finite", False), ("not-finite-otsu", True)):
        found[name] = (broken, 0.1, 1.0, is_otsu, 3)
    found["one-sample"] = (_scenes(1, 3, 40, 70, torch.uint8, device), 0.0, 0.0, True, 7)
    found["empty-batch"] = (_scenes(0, 3, 9, 8, torch.uint8, device), 0.0, 0.0, True, 7)
    return found


def label_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``difference_label``: every kind, dtype, size, layout and family of regions."""

    def pair(
        n: int, c: int, dtype: torch.dtype, h: int = 26, w: int = 23, **more: Any
    ) -> list[Tensor]:
        before = make_images(n, c, h, w, dtype=dtype, device=device, **more)
        after = make_images(n, c, h, w, dtype=dtype, device=device, seed=1, **more)
        masks = [make_mask(MASKS[i % len(MASKS)], h, w, seed=i) for i in range(n)]
        regions = torch.stack(masks) if n else torch.zeros(0, h, w, dtype=torch.bool)
        return [before, after, regions[:, None].to(device)]

    def options(n: int, kind: str, threshold: float, size: int = 5, radius: int = 5) -> Arguments:
        def row(low: float, high: float, kind_of_it: str) -> Tensor | None:
            wanted = torch.linspace(low, high, n, device=device)
            return wanted if kind == kind_of_it else None

        steepness, midpoint = row(0.05, 0.4, "logistic"), row(10.0, 90.0, "logistic")
        return kind, steepness, midpoint, row(0.1, 0.9, "factor"), threshold, size, radius

    n = len(MASKS)
    found: dict[str, Arguments] = {}
    for dtype in IMAGE_DTYPES:
        level = 1.0 if dtype == torch.uint8 else 1 / 255
        for kind in ("logistic", "intensity"):
            found[f"{kind}-{dtype_name(dtype)}"] = (
                *pair(n, 3, dtype),
                *options(n, kind, 3 * level),
            )
    for kind in ("binary", "factor"):
        found[kind] = (*pair(n, 3, torch.uint8), *options(n, kind, 150.0))
    for channels in (1, 2, 4):
        arguments = (*pair(n, channels, torch.uint8), *options(n, "intensity", 20.0, 3, 2))
        found[f"channels-{channels}"] = arguments
    for size, radius in ((3, 1), (7, 3), (15, 7), (9, 4), (11, 6)):
        arguments = (*pair(n, 1, torch.float32), *options(n, "intensity", 0.1, size, radius))
        found[f"sizes-{size}-{radius}"] = arguments
    for layout in LAYOUTS[1:]:
        arguments = (*pair(5, 3, torch.float32, layout=layout), *options(5, "logistic", 0.1))
        found[layout] = arguments
    before, after, region = pair(n, 1, torch.uint8, 23, 23)
    found["strided-region"] = (before, after, region.mT, *options(n, "logistic", 5.0))
    before, after, region = pair(n, 2, torch.float32)
    before[1, 0, 9, 9] = after[4, 1, 3, 4] = float("nan")
    before[2, 0, 12, 12] = after[2, 0, 12, 12] = after[3, 1, 8, 8] = float("inf")
    found["not-finite"] = (before, after, region, *options(n, "intensity", 0.1))
    found["one-sample"] = (*pair(1, 3, torch.uint8, 50, 90), *options(1, "logistic", 30.0))
    found["empty-batch"] = (*pair(0, 3, torch.uint8), *options(0, "logistic", 3.0))
    return found
