# SPDX-License-Identifier: Apache-2.0
"""The losses of AnoSeg and of its detector. Maps are 1 where an image is normal."""

from __future__ import annotations

import torch
from torch import nn


def segmentation_loss(found: torch.Tensor, maps: torch.Tensor, kind: str) -> torch.Tensor:
    """Mean distance ("l1") or cross-entropy ("bce") of maps (N, 1, H, W) in 0..1."""
    if kind == "l1":
        return nn.functional.l1_loss(found, maps)
    share = found.float().clamp(1e-6, 1 - 1e-6)  # torch's own loss refuses mixed precision
    return -(maps * share.log() + (1 - maps) * (1 - share).log()).mean()


def reconstruction_loss(
    found: torch.Tensor, images: torch.Tensor, maps: torch.Tensor
) -> torch.Tensor:
    """Mean distance of images (N, C, H, W) on normal pixels, those of maps (N, 1, H, W).

    The target is what the network is shown, not the image before something was pasted into it.
    """
    distance = ((found - images) * maps).abs().mean()
    return distance / maps.mean().clamp_min(1e-6)  # all maps may be 0 in a tiny batch


def judged(logits: torch.Tensor, real: bool) -> torch.Tensor:
    """Cross-entropy of logits (N,) that should all say real, or all say not; () for any N."""
    target = torch.full_like(logits, float(real))
    total = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    return total / max(1, logits.numel())
