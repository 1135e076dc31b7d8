# SPDX-License-Identifier: Apache-2.0
"""Sample arguments of similarity maps and of their gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssad_kernels._errors import FLOATS, IMAGE_DTYPES, dtype_name
from ssad_kernels.reference.similarity import compute_type
from ssad_kernels.testing.images import LAYOUTS, make_images

Arguments = tuple[Any, ...]


def _pairs(device: torch.device | str, dtypes: tuple[torch.dtype, ...]) -> dict[str, Any]:
    """Images, references alike to some, and the number of scales."""
    found: dict[str, Any] = {}

    def add(
        name: str,
        n: int,
        c: int,
        h: int,
        w: int,
        scales: int,
        dtype: torch.dtype = torch.float32,
        layout: str = "contiguous",
    ) -> None:
        # Levels of both add up to 240 at most: pixels are often equal, and medians not unique.
        images, other = (
            make_images(n, c, h, w, dtype=dtype, layout=layout, seed=seed, device=device)
            for seed in (0, 1)
        )
        references = images.clone()
        references[..., h // 3 :, : w // 2] = other[..., h // 3 :, : w // 2]
        found[name] = images, references, scales

    add("four-scales", 2, 3, 37, 50, 4)
    add("three-scales", 1, 2, 17, 40, 3)
    add("one-scale", 2, 4, 19, 23, 1)
    add("smallest", 1, 1, 3, 3, 1)
    add("smallest-of-two", 1, 3, 6, 7, 2)
    add("empty-batch", 0, 3, 16, 18, 2)
    for dtype in dtypes:
        add(dtype_name(dtype), 2, 3, 13, 31, 2, dtype)
    for layout in LAYOUTS[1:]:
        add(layout, 2, 3, 18, 27, 2, layout=layout)
    add("flat", 1, 3, 20, 20, 2)
    found["flat"][0][..., 5:, :] = 0.5
    found["flat"][1][..., :15, 3:] = 0.25
    return found


def _gradient(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    values = torch.rand(shape, generator=torch.Generator().manual_seed(2)) - 0.3
    return values.to(images.device, compute_type(images))


def gms_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``gms_map`` and ``gms_loss``, by name."""
    found: dict[str, Arguments] = {
        name: (images, references, scales, 0.0026)
        for name, (images, references, scales) in _pairs(device, IMAGE_DTYPES).items()
    }
    found["larger-constant"] = (*found["three-scales"][:3], 0.3)
    return found


def gms_gradient_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``gms_loss_backward``, by name."""
    return {
        name: (_gradient(images, (len(images),)), images, references, scales, 0.0026)
        for name, (images, references, scales) in _pairs(device, FLOATS).items()
    }


def ssim_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``ssim_map``, by name."""
    found: dict[str, Arguments] = {
        name: (images, references, 11, 1.5)
        for name, (images, references, _) in _pairs(device, IMAGE_DTYPES).items()
    }
    found["one-tap"] = *found["four-scales"][:2], 1, 1.5
    found["wide"] = *found["four-scales"][:2], 63, 9.0
    return found


def ssim_gradient_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``ssim_map_backward``, by name."""
    found: dict[str, Arguments] = {
        name: (_gradient(images, images.shape), images, references, 11, 1.5)
        for name, (images, references, _) in _pairs(device, FLOATS).items()
    }
    found["wide"] = *found["four-scales"][:3], 63, 9.0
    return found
