# SPDX-License-Identifier: Apache-2.0
"""Connected components of masks."""

from __future__ import annotations

import torch
from torch import Tensor

from ssad_kernels import ranking_op
from ssad_kernels._errors import check_tensor

# Labels of so many are in memory that the allocator has at hand; pages that the system has to make
# cost several times what the labels do.
_PIXELS = 1 << 21


def connected_components(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Number the connected components of masks; pixels that touch at a corner are connected.

    Args:
        masks: (N, 1, H, W) bool, of below 2³¹ pixels each.

    Returns:
        labels, (N, 1, H, W) int32: 0 outside of the mask, and inside 1, 2, ... in each image, in
        the order in which the first pixels of the components come row by row; and counts, (N,)
        int64: how many components each image has.

    Raises:
        TypeError: `masks` of another dtype or kind.
        ValueError: `masks` of another shape.

    Gradient: none. Determinism: the same integers on every backend. In C++ and in Triton runs of
    pixels are joined (union-find); Triton needs 4 bytes of scratch memory for each pixel. The
    reference joins neighbouring components in a number of rounds that is known beforehand. The host
    never waits.

    Example:
        >>> import torch
        >>> mask = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]]).bool()
        >>> labels, counts = connected_components(mask[None, None])
        >>> labels[0, 0].tolist()
        [[1, 0, 0, 2], [0, 1, 0, 0], [0, 0, 0, 3]]
    """
    check_tensor("connected_components", "masks", masks)
    labels: Tensor
    counts: Tensor
    labels, counts = ranking_op.connected_components(masks)
    return labels, counts


def component_areas(masks: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """The area of the component of every pixel of masks, (P,) int64, and the counts, (N,).

    `place`, (P,) int64, is where the pixels are in the flat masks, rising.
    """
    if masks.device.type != "cpu" or masks.numel() <= _PIXELS:
        return _areas(masks, place)
    size = masks[0].numel()
    parts = masks.split(max(1, _PIXELS // size))
    starts = torch.arange(len(parts)) * len(parts[0]) * size
    places = place.tensor_split(torch.searchsorted(place, starts[1:]))
    found = [_areas(*part) for part in zip(parts, map(torch.sub, places, starts), strict=True)]
    areas, counts = map(torch.cat, zip(*found, strict=True))
    return areas, counts


def _areas(masks: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    labels, counts = connected_components(masks)
    first = counts.cumsum(0) - counts  # of each image
    number = labels.flatten()[place] + first[place // max(1, masks[:1].numel())]
    return number.bincount()[number], counts
