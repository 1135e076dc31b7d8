# SPDX-License-Identifier: Apache-2.0
"""Counts by sorting, and components by joining neighbours in rounds.

No host synchronisation, so that it can stand in on any device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def _keys(scores: Tensor) -> Tensor:
    """Integers in the order of the floats: -0 equals 0, NaN is above all numbers."""
    integer = torch.int64 if scores.dtype == torch.float64 else torch.int32
    largest = torch.iinfo(integer).max
    bits = (scores + 0.0).view(integer)  # turns -0 into 0
    keys = torch.where(bits < 0, bits ^ largest, bits)
    return torch.where(scores.isnan(), largest - 1, keys)


def count_above(scores: Tensor, among: Tensor, ignored: Tensor | None, most: int | None) -> Tensor:
    """See `ssad_kernels.count_above`."""
    own, others = _keys(scores), _keys(among)
    left_out = torch.zeros((), dtype=torch.int64, device=scores.device)
    if ignored is not None:
        others = torch.where(ignored, torch.iinfo(others.dtype).max, others)
        left_out = ignored.sum()
    others = others.sort().values
    below = [torch.searchsorted(others, own, right=right) for right in (True, False)]
    counts = len(among) - left_out - torch.stack(below, dim=1)
    return counts if most is None else torch.where(counts[:, :1] >= most, most, counts)


def connected_components(masks: Tensor) -> tuple[Tensor, Tensor]:
    """See `ssad_kernels.connected_components`.

    A pixel points at a smaller one of its component, in the end at the first. In each round every
    component hooks itself to its smallest neighbour if that is smaller, and pointers are then
    followed to their ends. Of a component and its neighbours, one at least hooks; if not to this
    component, then to a smaller one, to which this one hooks in the next round. So two rounds at
    least halve the number of components that are not yet whole, and the number of rounds is known
    beforehand.
    """
    n, _, h, w = masks.shape
    inside = masks.reshape(n, h, w)
    place = torch.arange(h * w, device=masks.device).reshape(1, h, w)
    nowhere = h * w  # also what lies outside of a mask points at
    # At first the components are the runs of the rows.
    begins = inside & ~torch.nn.functional.pad(inside, (1, 0))[..., :-1]
    first = torch.where(begins, place, -1).cummax(dim=2).values
    root = torch.where(inside, first, nowhere).flatten(1)
    root = torch.cat([root, root.new_full((n, 1), nowhere)], dim=1)
    most = h * ((w + 1) // 2)
    while most > 1:
        for _ in range(2):
            grid = root[:, :-1].reshape(n, h, w)
            framed = torch.nn.functional.pad(grid, (1, 1, 1, 1), value=nowhere)
            around = [framed[:, y : y + h, x : x + w] for y in range(3) for x in range(3)]
            smallest = torch.where(inside, torch.stack(around).amin(0), nowhere).flatten(1)
            root = root.scatter_reduce(1, root[:, :-1], smallest, "amin")
            for _ in range(math.ceil(math.log2(most))):
                root = root.gather(1, root)
        most //= 2
    is_first = root[:, :-1] == place.flatten(1)
    number = torch.nn.functional.pad(is_first.cumsum(1), (0, 1))
    labels = number.gather(1, root[:, :-1]).to(torch.int32).reshape(masks.shape)
    return labels, is_first.sum(1)
