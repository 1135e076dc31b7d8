# SPDX-License-Identifier: Apache-2.0
"""Draws of NSA's patches: patch after patch, all proposals of a batch at once.

No host synchronisation and no shape that depends on values, so that it can stand in on any device.
Decisions are integers, or float64 + - x / in one order, and so the same everywhere.

Of the random numbers of a sample, block b is the four words 4 b ... 4 b + 3. A place is never used
twice, and none moves when a law has more patches or proposals:

- block 0: gate, source image, factor, unused.
- block 4096 j + 1, of patch j: height (or area), width (or aspect), scale, whether attempted.
- block 4096 j + 2: the half of the aspects, three unused.
- blocks 4096 j + 4 + 2 e, and the next, of ellipse e: centre y, x, semi-axis y, x; angle, three
  unused.
- block 4096 j + 16 + k, of proposal k: source y, x, target y, x.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ssad_kernels._status import Status
from ssad_kernels.reference.nsa_masks import MIN_PIXELS, is_large, patch_masks, spread
from ssad_kernels.reference.quantiles import gamma2, normal
from ssad_kernels.reference.random import philox, unit

ELLIPSES = 5
AREA, ASPECT = (0.02, 0.15), (0.3, 3.3)  # of CutPaste
_CHUNK = 1 << 22  # pixels of proposals that are looked at together


class Axis(NamedTuple):
    """Bounds along one axis of the images, pixels.

    Attributes:
        size: of the image.
        half: of a window in the source, its half size.
        full: of a patch after resizing, its whole size.
        centre: of a window, from and below.
    """

    size: int
    half: tuple[int, int]
    full: tuple[int, int]
    centre: tuple[int, int]


def _below(count: Tensor | int, words: Tensor) -> Tensor:
    return count * words >> 32


def _half_sizes(law: Any, axes: tuple[Axis, Axis], words: Tensor) -> tuple[Tensor, ...]:
    """Half sizes (N,) for "gamma", "uniform" and "square"."""
    found = []
    for k, (size, (low, high), _, _) in enumerate(axes):
        if law.size == "gamma":
            share = law.offset + law.scale * gamma2(words[:, k])
            found.append((share * float(size)).clamp(low, high).floor().long())
        else:
            word = words[:, 0 if law.size == "square" else k]
            found.append(low + _below(max(high - low, 1), word))
    return tuple(found)


def _cutpaste_sizes(axes: tuple[Axis, Axis], words: Tensor, side: Tensor) -> tuple[Tensor, ...]:
    """Whole sizes (N,) of CutPaste's patches."""
    pixels = AREA[0] + (AREA[1] - AREA[0]) * unit(words[:, 0])
    pixels = pixels * (float(axes[0].size) * float(axes[1].size))
    is_flat = side < 1 << 31
    one = torch.ones_like(pixels)
    low = torch.where(is_flat, ASPECT[0], one)
    aspect = low + (torch.where(is_flat, one, ASPECT[1]) - low) * unit(words[:, 1])
    sides = (pixels * aspect).sqrt(), (pixels / aspect).sqrt()
    return tuple((side + 0.5).floor().long().clamp(min=1) for side in sides)


def _first(is_valid: Tensor) -> tuple[Tensor, Tensor]:
    """The number of the first True of each row (N, K), 0 if there is none; and if there is one."""
    count = is_valid.shape[1]
    number = torch.arange(count, device=is_valid.device)
    first = torch.where(is_valid, number, count).amin(1)
    return torch.where(first < count, first, 0), first < count


def _summed(mask: Tensor) -> Tensor:
    """Summed-area table (N, H + 1, W + 1) of a mask."""
    total = mask.long().cumsum(1).cumsum(2)
    return torch.nn.functional.pad(total, (1, 0, 1, 0))


def _count(summed: Tensor, boxes: Tensor) -> Tensor:
    """How many pixels of the mask are in boxes (N, K, 4), (N, K)."""
    y, x, h, w = boxes.unbind(2)
    flat, stride = summed.flatten(1), summed.shape[2]

    def at(row: Tensor, column: Tensor) -> Tensor:
        return flat.gather(1, (row * stride + column).clamp(0, flat.shape[1] - 1))

    return at(y + h, x + w) - at(y, x + w) - at(y + h, x) + at(y, x)


def _source_boxes(
    law: Any, axes: tuple[Axis, Axis], sizes: tuple[Tensor, ...], words: Tensor
) -> Tensor:
    """The windows (N, K, 4) that proposals cut; a size below one pixel fits nowhere."""
    columns = []
    for k, (axis, size) in enumerate(zip(axes, sizes, strict=True)):
        word, extent = words[:, :, k], size[:, None]
        if law.size == "cutpaste":
            start = _below((axis.size - extent + 1).clamp(min=1), word)
            end = torch.where(extent <= axis.size, start + extent, start)
        else:
            low, high = axis.centre
            centre = low + _below(max(high - low, 1), word)
            start = (centre - extent).clamp(min=0)
            end = (centre + extent).clamp(max=axis.size) if high > low else start
        columns.append((start, end - start))
    (y, h), (x, w) = columns
    return torch.stack([y, x, h, w], dim=2)


def _target_sizes(
    law: Any, axes: tuple[Axis, Axis], box: Tensor, word: Tensor
) -> tuple[Tensor, Tensor]:
    """Sizes (N,) of the windows (N, 4) after resizing."""
    h, w = box[:, 2], box[:, 3]
    if law.resize is None or law.size == "cutpaste" or not law.shift:
        return h, w
    factor = (1.0 + law.spread * normal(word)).clamp(*law.resize)
    height, width = h.clamp(min=1).double(), w.clamp(min=1).double()
    tall = (factor * height).clamp(*axes[0].full)
    wide = (tall * width / height).floor().clamp(*axes[1].full)
    tall = (wide * height / width).floor().clamp(*axes[0].full)
    return tall.long(), wide.long()


def _ellipses(
    law: Any, axes: tuple[Axis, Axis], halves: Tensor, box: Tensor, to: Tensor, words: Tensor
) -> Tensor:
    """Ellipses (N, 5, 5) in the target's pixels; ``halves`` (N, 2) bound the semi-axes."""
    words = words.reshape(len(words), ELLIPSES, 8)
    number = unit(words)
    columns = []
    for k in (0, 1):
        columns.append(number[:, :, k] * to[:, 2 + k, None].double())
    for k, axis in enumerate(axes):
        low = axis.half[0]
        count = (halves[:, k] // 2).clamp(min=low + 1) - low
        semi = (low + _below(count[:, None], words[:, :, 2 + k])).double()
        before = box[:, 2 + k, None].clamp(min=1).double()
        columns.append(semi * to[:, 2 + k, None].double() / before)
    columns.append((180.0 * number[:, :, 4]).float().double())
    return torch.stack(columns, dim=2)


def _overlaps(own: Tensor, target: Tensor, corners: Tensor) -> Tensor:
    """How many pixels of ``own`` (N, side, side) meet those of ``target``, (N, K) for K corners."""
    n, count = corners.shape[:2]
    side, width = own.shape[1], target.shape[2]
    at = torch.arange(side, device=own.device)
    flat = target.flatten(1)
    step = max(1, _CHUNK // max(n * side * side, 1))
    found = []
    for some in corners.split(step, dim=1) if n else [corners]:
        rows, columns = some[:, :, :1] + at, some[:, :, 1:] + at  # (N, chunk, side)
        place = rows[:, :, :, None] * width + columns[:, :, None, :]
        place = place.clamp(0, flat.shape[1] - 1)
        meets = flat.gather(1, place.flatten(1)).reshape(place.shape) & own[:, None]
        found.append(meets.sum((2, 3)))
    return torch.cat(found, dim=1).reshape(n, count)


def sample_nsa(
    keys: Tensor,
    stream: int,
    height: int,
    width: int,
    sources: int,
    source_masks: Tensor | None,
    target_masks: Tensor | None,
    law: Any,
    axes: tuple[Axis, Axis],
    side: int,
) -> tuple[Tensor, ...]:
    """See `ssad_kernels.sample_nsa`; ``sources`` is -1 for images of the batch.

    ``axes`` are the bounds of the law for these images, and ``side`` is the largest patch.
    """
    n, device = keys.shape[0], keys.device
    gate, image, factor, _ = philox(keys, stream, 4).unbind(1)
    index = torch.arange(n, device=device)
    if sources >= 0:
        index = _below(sources, image)
    elif n > 1 and not law.same_source:
        index = (index + 1 + _below(n - 1, image)) % n

    is_round = law.shape == "ellipses"
    is_tested = law.object_share is not None or law.overlap is not None
    source = target = summed = None
    if source_masks is not None and target_masks is not None and (is_tested or is_round):
        source, target = source_masks[index, 0], target_masks[:, 0]
        summed = _summed(source) if law.object_share is not None else None
    fits = all(axis.half[0] <= axis.half[1] for axis in axes) or law.size == "cutpaste"
    is_open = (unit(gate) < law.p) & fits
    # Without object masks the first proposal is taken.
    proposals = law.proposals if is_tested and source is not None else 1
    zero = torch.zeros((n,), dtype=torch.int64, device=device)
    rows = []
    for j in range(law.patches):
        block = 4096 * j
        words = philox(keys, stream, 4 * (13 if is_round else 2), block + 1)
        drawn = philox(keys, stream, 4 * proposals, block + 16).reshape(n, proposals, 4)
        is_drawn = is_open if j == 0 else is_open & (words[:, 3] < 1 << 31)
        if law.size == "cutpaste":
            sizes = _cutpaste_sizes(axes, words, words[:, 4])
            halves = torch.stack(sizes, dim=1) // 2
        else:
            sizes = _half_sizes(law, axes, words)
            halves = torch.stack(sizes, dim=1)

        boxes = _source_boxes(law, axes, sizes, drawn)
        h, w = boxes[:, :, 2], boxes[:, :, 3]
        is_valid = (h >= 1) & (w >= 1)
        if summed is not None:
            share = _count(summed, boxes).double() / (h * w).clamp(min=1).double()
            is_valid &= share > law.object_share
        chosen, is_found = _first(is_valid)
        cut = boxes.gather(1, chosen[:, None, None].expand(n, 1, 4))[:, 0]
        is_drawn = is_drawn & is_found

        tall, wide = _target_sizes(law, axes, cut, words[:, 2])
        if law.shift:
            rooms = height - 2 * (tall // 2) - 2, width - 2 * (wide // 2) - 2
            is_drawn = is_drawn & (rooms[0] > 0) & (rooms[1] > 0)
            places = [
                1 + _below(room.clamp(min=1)[:, None], drawn[:, :, 2 + k])
                for k, room in enumerate(rooms)
            ]
            corners = torch.stack(places, dim=2)
        else:
            corners = cut[:, None, :2]
        ellipse = torch.zeros((n, 0, 5), dtype=torch.float64, device=device)
        to = torch.stack([zero, zero, tall, wide], dim=1)
        if is_round:
            ellipse = _ellipses(law, axes, halves, cut, to, words[:, 12:52])
        if is_tested and source is not None and target is not None:
            masks = patch_masks(cut, to, ellipse, side, source, target, law.is_reference)
            whole = masks.source.sum((1, 2))
            is_valid = torch.ones(corners.shape[:2], dtype=torch.bool, device=device)
            if law.object_share is not None:
                share = whole.double() / (tall * wide).clamp(min=1).double()
                is_valid &= (share > law.object_share)[:, None]
            if law.overlap is not None:
                meets = _overlaps(masks.source & masks.shape, target, corners).double()
                is_valid &= meets / whole.clamp(min=1).double()[:, None] > law.overlap
            chosen, is_found = _first(is_valid)
            corners = corners.gather(1, chosen[:, None, None].expand(n, 1, 2))
            is_drawn = is_drawn & is_found
        to = torch.cat([corners[:, 0], to[:, 2:]], dim=1)

        if source is None and not is_round:
            inner = (tall - 2).clamp(min=0) * (wide - 2).clamp(min=0)
            is_drawn = is_drawn & (inner >= MIN_PIXELS)
        else:
            masks = patch_masks(cut, to, ellipse, side, source, target, law.is_reference)
            is_drawn = is_drawn & is_large(masks)
            if target is not None and not law.is_reference:
                label = masks.label & is_drawn[:, None, None]
                target = target | spread(label, to, height, width)
        keep = is_drawn[:, None]
        rows.append(
            (
                torch.where(keep, cut, 0),
                torch.where(keep, to, 0),
                torch.where(keep[:, :, None], ellipse, 0.0),
                is_drawn,
            )
        )
    source_box, target_box, ellipse, apply = (
        torch.stack(column, dim=1) for column in zip(*rows, strict=True)
    )
    status = torch.where(apply.any(1), Status.APPLIED, Status.NO_PLACE)
    status = torch.where(unit(gate) < law.p, status, Status.GATED).to(torch.int8)
    low, high = law.factor
    return index, source_box, target_box, ellipse, apply, low + (high - low) * unit(factor), status
