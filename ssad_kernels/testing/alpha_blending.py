# SPDX-License-Identifier: Apache-2.0
"""Sample arguments of alpha blending."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssad_kernels._errors import IMAGE_DTYPES, dtype_name
from ssad_kernels._status import Status
from ssad_kernels.testing.blending import blend_outcomes
from ssad_kernels.testing.images import LAYOUTS, make_images

Arguments = tuple[Any, ...]


def alpha_outcomes(
    device: torch.device | str = "cpu",
) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """Masks and rows that reach every status, for images and sources as in `blend_outcomes`.

    Returns:
        Masks (N, 9, 9) bool; top_left, sizes, source_index, source_box and alpha; and the status
        (N,) int8 that each row must get.
    """
    masks, rows, expected = blend_outcomes(device)
    *places, _, source_gain, target_gain = rows
    alpha = torch.where(target_gain.isfinite(), source_gain, target_gain)
    # There is no code here that stands for nothing.
    otherwise = torch.where((places[1] < 1).any(1), Status.EMPTY.value, Status.APPLIED.value)
    expected = torch.where(expected == Status.GATED.value, otherwise.to(torch.int8), expected)
    return masks, (*places, alpha), expected


def alpha_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``alpha_blend`` and ``alpha_blend_``, by name."""
    masks, rows, _ = alpha_outcomes(device)
    n = len(masks)
    found: dict[str, Arguments] = {}

    def images(n: int, c: int, dtype: torch.dtype, layout: str = "contiguous") -> Arguments:
        options: dict[str, Any] = {"dtype": dtype, "layout": layout, "device": device}
        return make_images(n, c, 13, 11, **options), make_images(n, c, 8, 9, seed=3, **options)

    for dtype in IMAGE_DTYPES:
        found[dtype_name(dtype)] = (*images(n, 3, dtype), masks, *rows, False)
    found["reference"] = (*images(n, 3, torch.uint8), masks, *rows, True)

    places = torch.tensor([(2, 1), (-3, 4), (0, 0), (5, -2)], device=device)
    alpha = torch.tensor([0.3, 1.0, 0.0, 0.75], dtype=torch.float64, device=device)
    soft = make_images(4, 1, 8, 9, seed=4, device=device)[:, 0]
    soft[soft < 60], soft[soft > 200] = 0, 255
    plain = (places, None, None, None, alpha, False)
    for channels in (1, 2, 4):
        found[f"channels-{channels}"] = (*images(4, channels, torch.float32), soft > 90, *plain)
    for layout in LAYOUTS[1:]:
        for dtype in (torch.uint8, torch.float32):
            name = f"{layout}-{dtype_name(dtype)}"
            found[name] = (*images(4, 3, dtype, layout), soft > 90, *plain)
    for dtype in (torch.uint8, torch.float32, torch.float64):
        name = dtype_name(dtype)
        found[f"soft-uint8-{name}"] = (*images(4, 3, dtype), soft, *plain)
        found[f"soft-float-{name}"] = (*images(4, 3, dtype), soft.float() / 128 - 0.25, *plain)
    found["strided-mask"] = (*images(4, 3, torch.float32), soft.mT.contiguous().mT, *plain)
    found["no-mask"] = (*images(4, 3, torch.uint8), None, places, *(None,) * 4, False)
    index = torch.tensor([3, 0, 0, 1], device=device)
    box = torch.tensor([(1, 2, 6, 5), (0, 0, 8, 9)] * 2, device=device)
    sizes = torch.tensor([(11, 4), (6, 13), (13, 11), (3, 3)], device=device)
    for dtype in (torch.uint8, torch.float32, torch.float64):
        resized = (places, sizes, index, box, alpha)
        found[f"resize-{dtype_name(dtype)}"] = (*images(4, 3, dtype), None, *resized, False)
    found["resize-reference"] = (*images(4, 3, torch.uint8), None, *resized, True)
    nan_mask = soft.float() / 255
    nan_mask[2, 3, 3] = nan_mask[3, 0, 0] = float("nan")  # the latter beyond the image
    found["nan-mask"] = (*images(4, 3, torch.float32), nan_mask, *plain)
    empty = tuple(row[:0] for row in (soft, places))
    found["empty-batch"] = (*images(0, 3, torch.float32), *empty, *(None,) * 4, False)
    one = (soft[:1], places[:1], None, None, None, alpha[:1], False)
    found["one-sample"] = (*images(1, 3, torch.float32), *one)
    return found
