# SPDX-License-Identifier: Apache-2.0
"""Connected components of masks."""

from __future__ import annotations

import torch
from torch import Tensor

from ssad_kernels import ranking_op
from ssad_kernels._errors import check_tensor


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

    Gradient: none. Determinism: the same integers on every backend. On CPUs runs of pixels are
    joined (union-find), elsewhere neighbouring components in a number of rounds that is known
    beforehand, so that the host never waits.

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

    `place`, (P,) int64, is where the pixels are in the flat masks.
    """
    labels, counts = connected_components(masks)
    labels += (counts.cumsum(0) - counts).to(torch.int32)[:, None, None, None]
    number = labels.flatten()[place]
    return number.bincount()[number], counts
