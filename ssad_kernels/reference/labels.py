# SPDX-License-Identifier: Apache-2.0
"""Labels and medians on whole images: every window is gathered and sorted.

No host synchronisation, so that it can stand in on any device.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 256  # of the histogram from which a threshold is chosen


def footprint(radius: int, is_square: bool) -> list[tuple[int, int]]:
    """The (dy, dx) of a window's pixels: a square, or the disk y² + x² <= radius²."""
    side = range(-radius, radius + 1)
    return [(y, x) for y in side for x in side if is_square or y * y + x * x <= radius * radius]


def _windows(images: Tensor, radius: int, is_square: bool) -> Tensor:
    """(A, N, C, H, W): the pixels of each window; beyond the image its nearest pixel."""
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device)[:, None]
    columns = torch.arange(width, device=images.device)
    return torch.stack(
        [
            images[..., (rows + y).clamp(0, height - 1), (columns + x).clamp(0, width - 1)]
            for y, x in footprint(radius, is_square)
        ]
    )


def _median(images: Tensor, radius: int, is_square: bool) -> Tensor:
    # Every dtype fits float64, where adding zero turns -0 into 0.
    values = _windows(images.double() + 0.0, radius, is_square)
    middle = values.sort(dim=0).values[len(values) // 2]
    return torch.where(values.isnan().any(dim=0), torch.nan, middle).to(images.dtype)


def _span(start: Tensor, size: Tensor, limit: int) -> Tensor:
    """(N, limit): which of 0...limit - 1 lie in [start, start + size); no sum may overflow."""
    size = size.clamp(min=0)
    low = start.clamp(0, limit)
    high = torch.where(start < 0, start + size, low + torch.minimum(size, limit - low))
    at = torch.arange(limit, device=start.device)
    return (at >= low[:, None]) & (at < high[:, None])


def median_filter(images: Tensor, radius: int, is_square: bool, boxes: Tensor | None) -> Tensor:
    """See `ssad_kernels.labels.median_filter`."""
    filtered = _median(images, radius, is_square)
    if boxes is None:
        return filtered
    height, width = images.shape[2:]
    y, x, h, w = boxes.unbind(1)
    inside = _span(y, h, height)[:, :, None] & _span(x, w, width)[:, None, :]
    return torch.where(inside[:, None], filtered, images.contiguous())


def channel_sum(images: Tensor) -> Tensor:
    """(N, 1, H, W): the sum over channels, one after another; exact integers for uint8."""
    total = images[:, :1]
    for c in range(1, images.shape[1]):
        total = total + images[:, c : c + 1]
    return total


def _widened(images: Tensor) -> Tensor:
    """In the type in which channels are summed."""
    if images.dtype == torch.uint8:
        return images.int()
    return images if images.dtype == torch.float64 else images.float()


def _otsu(images: Tensor) -> Tensor:
    """(N, 1, H, W): the side of Otsu's threshold that has less of the image's frame."""
    n, channels, height, width = images.shape
    total = channel_sum(_widened(images))
    if images.dtype == torch.uint8:
        level = ((2 * total + channels) // (2 * channels)).long()
    else:
        level = (total * (255 / channels) + 0.5).floor().nan_to_num(0).clamp(0, LEVELS - 1).long()
    ordered = level.reshape(n, height * width).sort(dim=1).values
    thresholds = torch.arange(LEVELS, device=images.device).expand(n, LEVELS).contiguous()
    below = torch.searchsorted(ordered, thresholds, right=True)
    sums = torch.cat([ordered.new_zeros(n, 1), ordered.cumsum(1)], dim=1).gather(1, below)
    all_of_them, whole = below[:, -1:], sums[:, -1:]
    above = all_of_them - below
    means = sums.double() / below.clamp(min=1), (whole - sums).double() / above.clamp(min=1)
    difference = means[0] - means[1]
    spread = below.double() * above.double() * (difference * difference)
    spread = torch.where((below > 0) & (above > 0), spread, 0.0)
    # The first of the largest; argmax may take any.
    is_best = spread == spread.amax(1, keepdim=True)
    best = torch.where(is_best, thresholds, LEVELS).amin(1)[:, None, None, None]
    bright = level > best
    frame = torch.ones(height, width, dtype=torch.bool, device=images.device)
    frame[1:-1, 1:-1] = False
    pixels = height * width - max(height - 2, 0) * max(width - 2, 0)
    is_bright_behind = 2 * (bright & frame).sum((1, 2, 3), keepdim=True) > pixels
    has_sides = spread.amax(1)[:, None, None, None] > 0
    return (bright ^ is_bright_behind) & has_sides


def object_mask(images: Tensor, low: float, high: float, is_otsu: bool, size: int) -> Tensor:
    """See `ssad_kernels.labels.object_mask`; low and high bound a sum of channels."""
    if is_otsu:
        mask = _otsu(images)
    else:
        total = channel_sum(_widened(images))
        mask = (total < low) | (total > high)
    return _median(mask, size // 2, True)


def difference_label(
    before: Tensor,
    after: Tensor,
    region: Tensor,
    kind: str,
    steepness: Tensor | None,
    midpoint: Tensor | None,
    factor: Tensor | None,
    threshold: float,
    size: int,
    radius: int,
) -> Tensor:
    """See `ssad_kernels.labels.difference_label`; threshold is one of a sum over channels."""
    channels = before.shape[1]
    region = counted(region, steepness, midpoint, factor)
    total = channel_sum((_widened(after) - _widened(before)).abs())
    is_changed = region & (total > threshold)
    mask = _median(is_changed, size // 2, True)
    label = mask.float()
    if kind == "binary":
        return label
    if kind == "factor":
        return torch.where(mask, _per_sample(factor), 0.0)
    scale = (1 if before.dtype == torch.uint8 else 255) / channels
    is_counted = mask & region & ~total.isnan()
    if before.dtype == torch.uint8:
        difference = torch.where(is_counted, total, 0).float() / channels
    else:
        difference = torch.where(is_counted, total * scale, 0.0).float()
    middle = _median(difference, radius, False)
    if kind == "intensity":
        return middle
    exponent = _per_sample(steepness) * (middle - _per_sample(midpoint))
    return torch.where(mask, torch.sigmoid(exponent), 0.0)


def counted(region: Tensor, *rows: Tensor | None) -> Tensor:
    """The region of the samples whose numbers are finite; the others have none."""
    for row in rows:
        if row is not None:
            region = region & row.isfinite()[:, None, None, None]
    return region


def _per_sample(row: Tensor | None) -> Tensor:
    assert row is not None  # checked by the op
    return row[:, None, None, None]
