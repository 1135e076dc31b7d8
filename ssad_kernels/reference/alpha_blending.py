# SPDX-License-Identifier: Apache-2.0
"""Blending of a patch by a weight: in float64, whatever the dtype of the images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssad_kernels._status import is_applied
from ssad_kernels.reference.blending import Plan, paste, plan


def weigh(
    target: Tensor,
    source: Tensor,
    mask: Tensor | None,
    top_left: Tensor,
    sizes: Tensor | None,
    source_index: Tensor | None,
    source_box: Tensor | None,
    alpha: Tensor | None,
) -> tuple[Plan, Tensor]:
    """Where the patches go, and the weight of each pixel of the target, (N, 1, H, W) float64.

    The weight is 0 where the target stays, so in samples that are not applied.
    """
    codes = torch.zeros_like(top_left[:, 0])
    places = (top_left, sizes, source_index, source_box)
    # Like a gain, an alpha that is not finite is found after a mask without a pixel.
    where = plan(target, source, mask, *places, codes, alpha, None, "mask")
    weight = where.weight
    if alpha is not None:
        weight = weight * alpha.nan_to_num().clamp(0.0, 1.0)[:, None, None, None]
    applied = is_applied(where.status)[:, None, None, None]
    return where, torch.where(where.unknowns & applied, weight, 0.0)


def alpha_blend_(
    target: Tensor,
    source: Tensor,
    mask: Tensor | None,
    top_left: Tensor,
    sizes: Tensor | None,
    source_index: Tensor | None,
    source_box: Tensor | None,
    alpha: Tensor | None,
    is_reference: bool,
) -> Tensor:
    """See `ssad_kernels.alpha_blend_`."""
    places = (top_left, sizes, source_index, source_box)
    where, weight = weigh(target, source, mask, *places, alpha)
    status = where.status.to(torch.int8)
    if source.shape[0] == 0:  # nothing can be placed, and nothing be looked up
        return status
    pasted = paste(source.double(), where, torch.zeros_like(top_left[:, 0]))
    if is_reference:
        pasted = (pasted + 0.5).floor()
    values = target.double()
    out = torch.where(weight == 1.0, pasted, values + weight * (pasted - values))
    if target.dtype == torch.uint8:
        out = out.floor() if is_reference else (out + 0.5).floor()
    target.copy_(torch.where(weight == 0.0, target, out.to(target.dtype)))
    return status


def alpha_blend(target: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    """See `ssad_kernels.alpha_blend`."""
    out = target.clone()
    return out, alpha_blend_(out, *args)
