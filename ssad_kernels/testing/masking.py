# SPDX-License-Identifier: Apache-2.0
"""Sample arguments of masks of cells and what is done with them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssad_kernels._errors import FLOATS, IMAGE_DTYPES, dtype_name
from ssad_kernels.random import make_keys
from ssad_kernels.testing.images import LAYOUTS, make_images, with_layout

Arguments = tuple[Any, ...]

_THIRD = 1 / 3
_FAR = (1 << 63) - 1
# Sides of cells in images of 19 x 23 pixels: cut ones, one that is the image, and any other number.
_CELLS = (1, 2, 3, 5, 8, 19, 20, 23, 40, 0, -7, _FAR, -_FAR)


def make_cell_masks(
    n: int, parts: int, height: int, width: int, *, device: torch.device | str = "cpu"
) -> Tensor:
    """Masks that hide pixels not at all, once, several times and in all parts."""
    levels = make_images(n, parts, height, width, seed=5, device=device)
    masks = levels >= 90
    masks[:, :, : height // 4] = True
    masks[:, :, height // 4 : height // 2] = False
    return masks


def cell_masks_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``cell_masks``: every kind, any cell, several sizes and numbers of parts."""
    n = len(_CELLS)
    keys = make_keys(3, 1, torch.arange(n), device=device)
    cells = torch.tensor(_CELLS, device=device)
    found: dict[str, Arguments] = {}
    for kind, parts in (("split", 3), ("bernoulli", 3), ("checkerboard", 2)):
        found[kind] = (keys, 10, 19, 23, cells, parts, kind, _THIRD)
        turned = keys.mT.contiguous().mT
        doubled = cells.repeat_interleave(2)[::2]
        found[f"strided-{kind}"] = (turned, 7, 31, 9, doubled, parts, kind, 0.7)
        found[f"one-sample-{kind}"] = (keys[:1], 0, 64, 70, cells[1:2], parts, kind, 0.1)
        found[f"empty-batch-{kind}"] = (keys[:0], 0, 8, 8, cells[:0], parts, kind, _THIRD)
        found[f"row-{kind}"] = (keys, 2, 1, 77, cells, parts, kind, _THIRD)
    for parts in (1, 2, 7, 32):
        for kind in ("split", "bernoulli"):
            found[f"parts-{parts}-{kind}"] = (keys, 1, 9, 12, cells, parts, kind, _THIRD)
    for hide in (0.0, 2.0**-33, 1.0):
        found[f"hide-{hide}"] = (keys, 1, 9, 12, cells, 2, "bernoulli", hide)
    return found


def mask_images_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``mask_images``: every dtype, number of channels and layout."""
    masks = make_cell_masks(3, 3, 11, 29, device=device)
    found: dict[str, Arguments] = {}
    for dtype in IMAGE_DTYPES:
        for layout in LAYOUTS:
            for channels in (1, 3):
                images = make_images(3, channels, 11, 29, dtype=dtype, layout=layout, device=device)
                name = f"{dtype_name(dtype)}-{layout}-{channels}"
                found[name] = (images, masks)
    for channels in (2, 4):
        for layout in LAYOUTS[:2]:
            images = make_images(3, channels, 11, 29, layout=layout, device=device)
            found[f"channels-{channels}-{layout}"] = (images, masks)
    images = make_images(3, 3, 11, 29, dtype=torch.float32, device=device)
    images[1, 1], images[2, 2] = float("inf"), -0.0
    hidden = ~masks.any(1, keepdim=True)
    found["not-finite"] = (images.masked_fill(hidden, float("nan")), masks)
    found["strided-masks"] = (images, with_layout(masks, "transposed"))
    found["shared-masks"] = (images, masks[:1, :1].expand(3, 5, 11, 29))
    many = make_cell_masks(1, 32, 11, 29, device=device)
    found["one-sample-32-parts"] = (images[:1], many)
    found["empty-batch"] = (images[:0], masks[:0])
    return found


def composite_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``composite``: every dtype and layout, pixels hidden never to always."""

    def passes(parts: int, channels: int, dtype: torch.dtype, n: int = 3, **more: Any) -> Tensor:
        outputs = make_images(n * parts, channels, 40, 29, dtype=dtype, device=device, **more)
        return outputs.view(n, parts, *outputs.shape[1:])

    masks = make_cell_masks(3, 3, 40, 29, device=device)
    found: dict[str, Arguments] = {}
    for dtype in FLOATS:
        images = make_images(3, 3, 40, 29, dtype=dtype, seed=2, device=device)
        found[dtype_name(dtype)] = (passes(3, 3, dtype), masks, images)
    images = make_images(3, 3, 40, 29, dtype=torch.float32, seed=2, device=device)
    for layout in LAYOUTS[1:]:
        outputs = passes(3, 3, torch.float32, layout=layout)
        found[layout] = (outputs, with_layout(masks, layout), with_layout(images, layout))
    for channels in (1, 2, 4):
        outputs = passes(3, channels, torch.float32)
        images = make_images(3, channels, 40, 29, dtype=torch.float32, seed=2, device=device)
        found[f"channels-{channels}"] = (outputs, masks, images)
    # What does not count is not a number.
    outputs = passes(3, 4, torch.float32).masked_fill(masks[:, :, None], float("nan"))
    outputs[1, 0], outputs[1, 1] = -0.0, float("inf")
    images = images.masked_fill(~masks.all(1, keepdim=True), float("nan"))
    found["not-finite"] = (outputs, masks, images)
    one = make_images(1, 1, 40, 29, dtype=torch.float32, device=device)
    many = make_cell_masks(1, 32, 40, 29, device=device)
    found["one-sample-32-parts"] = (passes(32, 1, torch.float32, n=1), many, one)
    found["empty-batch"] = (passes(3, 4, torch.float32)[:0], masks[:0], images[:0])
    return found


def refine_cells_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``refine_cells``: both rules, any cell, scores of any kind."""
    n = len(_CELLS)
    cells = torch.tensor(_CELLS, device=device)
    masks = make_cell_masks(n, 3, 19, 23, device=device)
    limits = torch.linspace(0.3, 0.7, n, dtype=torch.float64, device=device)
    found: dict[str, Arguments] = {}

    def scores(dtype: torch.dtype, **more: Any) -> Tensor:
        return make_images(n, 1, 19, 23, dtype=dtype, seed=7, device=device, **more)

    for rule, share in (("mean", None), ("share", 0.5)):
        for dtype in FLOATS:
            name = f"{rule}-{dtype_name(dtype)}"
            found[name] = (scores(dtype), masks, cells, limits, share)
        for layout in LAYOUTS[1:]:
            given = scores(torch.float32, layout=layout), with_layout(masks, layout)
            found[f"{rule}-{layout}"] = (*given, cells, limits, share)
        broken = scores(torch.float32)
        broken[0], broken[1, 0, 3, 3], broken[2, 0, 5:] = float("nan"), float("nan"), -float("inf")
        broken[3, 0, 4], broken[3, 0, 5] = float("inf"), -float("inf")
        found[f"{rule}-not-finite"] = (broken, masks, cells, limits, share)
        odd = limits.clone()
        odd[0], odd[1], odd[2], odd[3] = float("nan"), float("inf"), -float("inf"), 0.0
        found[f"{rule}-thresholds"] = (scores(torch.float32), masks, cells, odd, share)
        first = (scores(torch.float64)[:1], masks[:1, :1], cells[2:3], limits[:1])
        found[f"{rule}-one-sample"] = (*first, share)
        none = (scores(torch.float32)[:0], masks[:0], cells[:0], limits[:0])
        found[f"{rule}-empty-batch"] = (*none, share)
    for share in (0.0, 0.8, 1.0):
        found[f"share-{share}"] = (scores(torch.float32), masks, cells, limits + 0.2, share)
    return found
