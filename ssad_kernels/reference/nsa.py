# SPDX-License-Identifier: Apache-2.0
"""The regions of NSA's patches: patch after patch, on whole batches.

No host synchronisation and no shape that depends on values, so that it can stand in on any device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssad_kernels.reference.nsa_masks import is_large, patch_masks, rectangle, spread


def _is_within(box: Tensor, height: int, width: int, side: int) -> Tensor:
    """Whether boxes (N, 4) have a pixel and lie in the image, (N,) bool; no sum overflows."""
    y, x, h, w = box.unbind(1)
    known = (y >= 0) & (x >= 0) & (h >= 1) & (w >= 1) & (h <= side) & (w <= side)
    return known & (y <= height - h.clamp(0, height)) & (x <= width - w.clamp(0, width))


def has_masks(ellipse: Tensor, source_masks: Tensor | None, pastes_label: bool) -> bool:
    """Whether patches are anything but whole rectangles."""
    return ellipse.shape[2] > 0 or (pastes_label and source_masks is not None)


def nsa_regions(
    source_index: Tensor,
    source_box: Tensor,
    target_box: Tensor,
    ellipse: Tensor,
    apply: Tensor,
    height: int,
    width: int,
    side: int,
    source_masks: Tensor | None,
    target_masks: Tensor | None,
    is_reference: bool,
    pastes_label: bool,
) -> tuple[Tensor, Tensor]:
    """See `ssad_kernels.nsa_regions`."""
    n, patches = apply.shape
    region = torch.zeros((n, height, width), dtype=torch.bool, device=apply.device)
    source = target = None
    is_known = torch.ones((n,), dtype=torch.bool, device=apply.device)
    if source_masks is not None and target_masks is not None:
        target = target_masks[:, 0]
        images = source_masks.shape[0]
        is_known = (source_index >= 0) & (source_index < images)
        source = source_masks[source_index.clamp(0, max(images - 1, 0)), 0]
    pastes = []
    has_pastes = has_masks(ellipse, source_masks, pastes_label)
    for j in range(patches):
        is_drawn = apply[:, j] & is_known & _is_within(target_box[:, j], height, width, side)
        if source is not None:
            is_drawn &= _is_within(source_box[:, j], height, width, max(height, width))
        to = torch.where(is_drawn[:, None], target_box[:, j], 0)
        cut = torch.where(is_drawn[:, None], source_box[:, j], 0)
        masks = patch_masks(cut, to, ellipse[:, j], side, source, target, is_reference)
        is_pasted = (is_drawn & is_large(masks))[:, None, None]
        label = spread(masks.label & is_pasted, to, height, width)
        if is_reference:
            whole = spread(rectangle(to, side) & is_pasted, to, height, width)
            region = torch.where(whole, label, region)
        else:
            region = region | label
            target = None if target is None else target | label
        if has_pastes:
            pastes.append((masks.label if pastes_label else masks.blend) & is_pasted)
    shape = (n, patches, side, side) if has_pastes else (n, patches, 0, 0)
    none = torch.zeros(shape, dtype=torch.bool, device=apply.device)
    return region[:, None], torch.stack(pastes, dim=1) if pastes else none
