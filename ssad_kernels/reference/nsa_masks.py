# SPDX-License-Identifier: Apache-2.0
"""Masks of NSA's patches, in patches' pixels: (N, side, side) with the patch in the corner.

Everything here is decided by integers, or by float64 + - x / in one order.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ssad_kernels.reference.cutpaste import rotation

MIN_PIXELS = 50  # a patch with fewer to blend is left out


class Masks(NamedTuple):
    """Of a patch, each (N, side, side) bool.

    Attributes:
        shape: P, the rectangle or the ellipses.
        label: what is to be labelled.
        blend: Q, what is to be blended.
        source: M_s, the object in the source; everything without object masks.
    """

    shape: Tensor
    label: Tensor
    blend: Tensor
    source: Tensor


def _grid(values: Tensor) -> Tensor:
    """(N,) -> (N, 1, 1)."""
    return values[:, None, None]


def rectangle(box: Tensor, side: int, inset: int = 0) -> Tensor:
    """The box (N, 4) without its outermost ``inset`` pixels."""
    at = torch.arange(side, device=box.device)
    h, w = box[:, 2], box[:, 3]
    rows = (at >= inset) & (at < h[:, None] - inset)
    columns = (at >= inset) & (at < w[:, None] - inset)
    return rows[:, :, None] & columns[:, None, :]


def ellipses(rows: Tensor, side: int, is_reference: bool) -> Tensor:
    """The union of ellipses (N, E, 5): centre y, x, semi-axis y, x, angle in degrees.

    The released code adds where the second rotated coordinate has a difference: ``is_reference``.
    """
    at = torch.arange(side, device=rows.device).double() + 0.5
    union = torch.zeros((len(rows), side, side), dtype=torch.bool, device=rows.device)
    for cy, cx, semi_y, semi_x, angle in rows.permute(1, 2, 0):
        cos, sin = (_grid(value.double() * 2.0**-16) for value in rotation(angle.float()))
        dy, dx = at[:, None] - _grid(cy), at - _grid(cx)
        along = (dy * cos + dx * sin) / _grid(semi_y)
        turned = dy * sin
        across = (dx * cos + (turned if is_reference else -turned)) / _grid(semi_x)
        within = along * along + across * across <= 1.0
        union |= within & _grid((semi_y > 0) & (semi_x > 0) & angle.float().isfinite())
    return union


def _gather(mask: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """``mask[n, y, x]`` of (N, H, W) at rows y (N, h) and columns x (N, w), clamped."""
    _, height, width = mask.shape
    at = y.clamp(0, height - 1)[:, :, None] * width + x.clamp(0, width - 1)[:, None, :]
    return mask.flatten(1).gather(1, at.flatten(1)).reshape(at.shape)


def window(mask: Tensor, box: Tensor, side: int) -> Tensor:
    """The pixels of (N, H, W) from the boxes' corners on; beyond the boxes, any."""
    at = torch.arange(side, device=box.device)
    return _gather(mask, box[:, :1] + at, box[:, 1:2] + at)


def resized(mask: Tensor, box: Tensor, target_box: Tensor, side: int) -> Tensor:
    """The boxes (N, 4) of (N, H, W), resized bilinearly to ``target_box``, where above one half.

    Half-pixel centres, edges repeated; in integers, so that the half is met exactly.
    """
    at = 2 * torch.arange(side, device=box.device) + 1

    def taps(length: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of an axis: the two neighbours, the weight of the second, and the sum of weights."""
        length, size = length[:, None].clamp(min=1), size[:, None].clamp(min=1)
        unit = 2 * size
        place = torch.minimum((at * length - size).clamp(min=0), unit * (length - 1))
        low = place // unit
        return low, torch.minimum(low + 1, length - 1), place - low * unit, unit

    y0, y1, fy, unit_y = taps(box[:, 2], target_box[:, 2])
    x0, x1, fx, unit_x = taps(box[:, 3], target_box[:, 3])
    top, left = box[:, :1], box[:, 1:2]
    total = torch.zeros((), dtype=torch.int64, device=box.device)
    for y, weight_y in ((y0, unit_y - fy), (y1, fy)):
        for x, weight_x in ((x0, unit_x - fx), (x1, fx)):
            weight = weight_y[:, :, None] * weight_x[:, None, :]
            total = total + weight * _gather(mask, top + y, left + x)
    return 2 * total > (unit_y * unit_x)[:, :, None]


def spread(patch: Tensor, box: Tensor, height: int, width: int) -> Tensor:
    """(N, side, side) back into (N, height, width), False beyond the boxes."""
    side = patch.shape[1]
    y = torch.arange(height, device=box.device) - box[:, :1]
    x = torch.arange(width, device=box.device) - box[:, 1:2]
    rows = (y >= 0) & (y < box[:, 2:3].clamp(max=side))
    columns = (x >= 0) & (x < box[:, 3:4].clamp(max=side))
    return _gather(patch, y, x) & rows[:, :, None] & columns[:, None, :]


def patch_masks(
    source_box: Tensor,
    target_box: Tensor,
    ellipse: Tensor,
    side: int,
    source: Tensor | None,
    target: Tensor | None,
    is_reference: bool,
) -> Masks:
    """The masks of one patch of each sample; ``source``, ``target``: object masks (N, H, W)."""
    box = rectangle(target_box, side)
    shape = box & ellipses(ellipse, side, is_reference) if ellipse.shape[1] else box
    if source is None or target is None:
        own, objects = box, box
    else:
        own = resized(source, source_box, target_box, side) & box
        objects = own | window(target, target_box, side)
    label = shape & objects
    blend = (label | ~objects) & rectangle(target_box, side, inset=1)
    return Masks(shape, label, blend, own)


def is_large(masks: Masks) -> Tensor:
    """Whether enough pixels are to be blended, (N,) bool."""
    return masks.blend.sum((1, 2)) >= MIN_PIXELS
