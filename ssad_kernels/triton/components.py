# SPDX-License-Identifier: Apache-2.0
"""Connected components by union-find.

A pixel of a mask points at a smaller one of its component, its parent, or at itself: a root.
`_runs_kernel` points the runs of a tile at their first pixels, `_join_kernel` joins runs that touch
until each component has one root, `_flatten_kernel` finds it, and a prefix sum over the roots
numbers the components. How often the loops go round depends on the masks, but the host never waits.

Threads race for the pointers, and yet the labels are deterministic. Call two pixels connected if
pointers and pairs that are still to be joined lead from one to the other. To join (low, high), low
< high, parents[high] becomes the smaller of itself and low, at once (atomic_min), and if high was
no root, what is left to join is (low, its parent before). That keeps what is connected, whatever
others do meanwhile, and the larger pixel of the pair falls, so it ends. Then pointers alone
connect a component, and they fall, so it has one root: its first pixel. A parent that is read while
others write may be an old one. It was connected, so it still is, and joining may go on from there.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssad_kernels.triton._variants import Variant
from ssad_kernels.triton.medians import BLOCK, as_bytes, tile_of


@triton.jit
def _larger(a, b):
    return tl.maximum(a, b)


@triton.jit
def _runs_kernel(
    masks, parents, height, width, stride_n, stride_y, stride_x, tiles, block: tl.constexpr
):
    """Point pixels at the first ones of their runs in the tile; -1 outside of the mask."""
    sample, pixel, pixels, mask, y, x = tile_of(height, width, tiles, block)
    place = masks + sample * stride_n + y * stride_y + x * stride_x
    is_set = tl.load(place, mask=mask, other=0) != 0
    is_after = tl.load(place - stride_x, mask=mask & (x > 0), other=0) != 0
    begins = is_set & (~is_after | (tl.arange(0, block) == 0))
    first = tl.associative_scan(tl.where(begins, pixel.to(tl.int32), -1), 0, _larger)
    tl.store(parents + sample * pixels + pixel, tl.where(is_set, first, -1), mask=mask)


@triton.jit
def _join(parents, a, b, is_open):
    """Join the components of the pixels a and b."""
    is_open = is_open & (a != b)
    while tl.max(is_open.to(tl.int32), axis=0) > 0:
        low, high = tl.minimum(a, b), tl.maximum(a, b)
        parent = tl.load(parents + high, mask=is_open, other=0)
        is_root = is_open & (parent == high)  # others need not be written
        before = tl.atomic_min(parents + high, low, mask=is_root, sem="relaxed")
        parent = tl.where(is_root, before, parent)
        is_open = is_open & (parent != high) & (parent != low)
        a, b = low, parent


@triton.jit
def _join_kernel(parents, height, width, tiles, block: tl.constexpr):
    """Join runs with those above, once for each stretch of columns in which they touch."""
    sample, pixel, pixels, mask, y, x = tile_of(height, width, tiles, block)
    plane = parents + sample * pixels
    place = plane + pixel
    has_left, has_right, has_above = mask & (x > 0), mask & (x < width - 1), mask & (y > 0)
    own = tl.load(place, mask=mask, other=-1)
    left = tl.load(place - 1, mask=has_left, other=-1)
    right = tl.load(place + 1, mask=has_right, other=-1)
    above = tl.load(place - width, mask=has_above, other=-1)
    above_left = tl.load(place - width - 1, mask=has_above & has_left, other=-1)
    above_right = tl.load(place - width + 1, mask=has_above & has_right, other=-1)
    is_set = own >= 0
    # Where the run goes on from another tile.
    _join(plane, own, left, is_set & (left >= 0) & (tl.arange(0, block) == 0))
    # The left neighbour has joined the same two runs if both of them reach as far.
    is_above = is_set & (above >= 0) & ~((left >= 0) & (above_left >= 0))
    is_above_left = is_set & (above < 0) & (above_left >= 0) & (left < 0)
    _join(plane, own, tl.where(above >= 0, above, above_left), is_above | is_above_left)
    # The right neighbour will, if there is one.
    _join(plane, own, above_right, is_set & (above < 0) & (above_right >= 0) & (right < 0))


@triton.jit
def _flatten_kernel(parents, is_first, height, width, tiles, block: tl.constexpr):
    """Point pixels at their roots. Only a pixel's own lane writes, so roots are never lost."""
    sample, pixel, pixels, mask, _, _ = tile_of(height, width, tiles, block)
    plane = parents + sample * pixels
    root = tl.load(plane + pixel, mask=mask, other=-1)
    is_open = root >= 0
    while tl.max(is_open.to(tl.int32), axis=0) > 0:
        parent = tl.load(plane + root, mask=is_open, other=0)
        is_open = is_open & (parent != root)
        root = tl.where(is_open, parent, root)
    tl.store(plane + pixel, root, mask=mask)
    tl.store(is_first + sample * pixels + pixel, (root == pixel).to(tl.int32), mask=mask)


@triton.jit
def _number_kernel(labels, numbers, height, width, tiles, block: tl.constexpr):
    """Turn roots into the numbers of their components."""
    sample, pixel, pixels, mask, _, _ = tile_of(height, width, tiles, block)
    place = labels + sample * pixels + pixel
    root = tl.load(place, mask=mask, other=-1)
    label = tl.load(numbers + sample * pixels + root, mask=root >= 0, other=0)
    tl.store(place, label, mask=mask)


def launch(masks: Tensor, labels: Tensor, counts: Tensor) -> None:
    """See `ssad_kernels.connected_components`."""
    n, _, height, width = masks.shape
    if n == 0:
        return
    stride_n, _, stride_y, stride_x = masks.stride()
    tiles = triton.cdiv(height * width, BLOCK)
    numbers = torch.empty((n, height * width), dtype=torch.int32, device=labels.device)
    grid, shape = (n * tiles,), (height, width, tiles, BLOCK)
    with torch.cuda.device_of(masks):
        _runs_kernel[grid](
            as_bytes(masks), labels, height, width, stride_n, stride_y, stride_x, tiles, BLOCK
        )
        _join_kernel[grid](labels, *shape)
        _flatten_kernel[grid](labels, numbers, *shape)
        numbers.cumsum_(1)
        _number_kernel[grid](labels, numbers, *shape)
    counts.copy_(numbers[:, -1])


def _variants() -> list[Variant]:
    own, masks = {"block": BLOCK}, {"masks": "*u8", "parents": "*i32"}
    return [
        Variant(_runs_kernel, masks, {**own, "stride_x": 1}),
        Variant(_join_kernel, {"parents": "*i32"}, own),
        Variant(_flatten_kernel, {"parents": "*i32", "is_first": "*i32"}, own),
        Variant(_number_kernel, {"labels": "*i32", "numbers": "*i32"}, own),
    ]


VARIANTS = tuple(_variants())
