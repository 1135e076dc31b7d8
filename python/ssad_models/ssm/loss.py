# SPDX-License-Identifier: Apache-2.0
"""What restored images and masks are measured by."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from ssad_kernels import gms_loss, ssim_map


class Weights(NamedTuple):
    """Weights of the parts of the loss; as published all are 1.

    Attributes:
        pixels: Of the squared error.
        gms: Of the dissimilarity of gradients.
        ssim: Of the structural dissimilarity.
        masks: Of the squared error of the masks, added up over the masks of an image.
    """

    pixels: float = 1.0
    gms: float = 1.0
    ssim: float = 1.0
    masks: float = 1.0


def restoration_loss(
    images: torch.Tensor,
    restored: torch.Tensor,
    masks: torch.Tensor,
    found_masks: torch.Tensor,
    weights: Weights,
) -> torch.Tensor:
    """The loss of a batch.

    Args:
        images: (N, C, H, W) float 0..1.
        restored: Likewise, each pixel from the pass that did not see it.
        masks: (N, P, H, W) float, 1 where the image was visible.
        found_masks: Likewise, what the network takes them for.
        weights: Of the parts.

    Returns:
        () float.
    """
    loss = weights.pixels * nn.functional.mse_loss(restored, images)
    loss = loss + weights.gms * gms_loss(restored, images).mean()
    loss = loss + weights.ssim * (1 - ssim_map(restored, images).mean())
    found = nn.functional.mse_loss(found_masks, masks) * masks.shape[1]
    total: torch.Tensor = loss + weights.masks * found
    return total
