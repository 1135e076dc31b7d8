# SPDX-License-Identifier: Apache-2.0
"""What transforms of blended patches need beside their ops."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ssad_kernels._arrays import as_tensor, is_cupy, plain
from ssad_kernels._errors import check_dtype, check_images, check_shape, check_tensor, wording
from ssad_kernels.transforms._base import as_numbers


def mask_batch(op: str, masks: Any, images: Tensor, *, argument: str = "masks") -> Tensor:
    """Masks of any accepted kind as (N, 1, H, W)."""
    batch = masks
    if isinstance(masks, np.ndarray):
        batch = torch.from_numpy(masks.transpose(2, 0, 1) if masks.ndim == 3 else masks)
    elif is_cupy(masks):
        batch = as_tensor(masks.transpose(2, 0, 1) if masks.ndim == 3 else masks)
    check_tensor(op, argument, batch)
    batch = plain(batch[None] if batch.dim() == 3 else batch)
    check_dtype(op, argument, batch, [torch.bool])
    check_shape(op, argument, batch, (images.shape[0], 1, *images.shape[2:]))
    return batch


def bank_batch(op: str, bank: Any) -> Tensor:
    """Images to take from, of any accepted kind, as (M, C, h, w)."""
    bank = as_tensor(bank)
    check_tensor(op, "bank", bank)
    check_images(op, bank, argument="bank")
    return plain(bank)


def check_background(op: str, value: Any) -> tuple[float, float] | Literal["otsu"] | None:
    """A background grey and a tolerance, "otsu", or None."""
    if value is None:
        return None
    if isinstance(value, str) and value == "otsu":
        return "otsu"
    pair = as_numbers(value)
    if len(pair) != 2 or not pair[1] >= 0:
        must = 'be (grey, tolerance) in grey levels, or "otsu"'
        raise ValueError(wording(op, "background", must, repr(value)))
    return pair[0], pair[1]
