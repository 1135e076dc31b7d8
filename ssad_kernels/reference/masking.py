# SPDX-License-Identifier: Apache-2.0
"""Masks of cells, images behind them, what passes made of the hidden, and cells uncovered."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssad_kernels.reference.random import philox

NUMBERS = 4 << 16  # that a stream has for a key
_LAST = (1 << 63) - 1


def count_cells(height: int, width: int, cell: int) -> int:
    """How many cells it takes to cover an image; those at its right and bottom may be cut."""
    return -(-height // cell) * -(-width // cell)


def count_draws(kind: str, parts: int) -> int:
    """How many numbers a cell takes."""
    return {"split": 1, "bernoulli": parts}.get(kind, 0)


def count_numbers(height: int, width: int, cell: int, draws: int) -> int:
    """How many numbers the cells take for some draws; each draw begins with a block of four."""
    return draws * -(-count_cells(height, width, cell) // 4) * 4


def smallest_cell(height: int, width: int, draws: int) -> int:
    """The smallest cell for which a stream has numbers enough."""
    cell = max(1, math.isqrt(height * width * draws // NUMBERS))
    while count_numbers(height, width, cell, draws) > NUMBERS:
        cell += 1
    return cell


def hide_below(hide: float) -> int:
    """The 32-bit number below which `unit` of it is below a probability; 0...2³²."""
    return math.ceil(hide * 2.0**32 - 0.5)


def _grid(cell: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and columns of the cells (N, H, 1) and (N, 1, W), and the columns there are, (N,)."""
    row = torch.arange(height, device=cell.device) // cell[:, None]
    column = torch.arange(width, device=cell.device) // cell[:, None]
    return row[:, :, None], column[:, None], (width + cell - 1) // cell


def cell_masks(
    keys: Tensor,
    stream: int,
    height: int,
    width: int,
    cell: Tensor,
    parts: int,
    kind: str,
    hide: float,
) -> Tensor:
    """See `ssad_kernels.cell_masks`."""
    n, draws = keys.shape[0], count_draws(kind, parts)
    least = smallest_cell(height, width, draws)
    cell = cell.clamp(least, max(height, width))
    row, column, columns = _grid(cell, height, width)
    part = torch.arange(parts, device=keys.device)[:, None]
    if kind == "checkerboard":
        return (row + column)[:, None] % 2 != part[:, :, None]
    cells = (height + cell - 1) // cell * columns
    most = count_cells(height, width, least)
    number = torch.arange(most, device=keys.device)
    words = philox(keys, stream, count_numbers(height, width, least, draws))
    if kind == "split":
        exists = number < cells[:, None]
        rank = torch.where(exists, words[:, :most] << 24 | number, _LAST).argsort(1).argsort(1)
        size = (cells + parts - 1) // parts
        hidden = (rank // size[:, None])[:, None] == part
    else:
        at = (cells + 3)[:, None, None] // 4 * 4 * part + number
        hidden = (words.gather(1, at.flatten(1)) < hide_below(hide)).reshape(n, parts, most)
    at = (row * columns[:, None, None] + column).flatten(1)[:, None].expand(n, parts, -1)
    return ~hidden.gather(2, at).reshape(n, parts, height, width)


def is_interleaved(images: Tensor) -> bool:
    """Whether the channels of a pixel, and then the pixels, follow each other in memory."""
    is_planar: bool = images.is_contiguous()
    return not is_planar and images.is_contiguous(memory_format=torch.channels_last)


def allocate_masked(images: Tensor, masks: Tensor) -> Tensor:
    """(N, P, C, H, W) in the layout of the images, where that is one of the usual two."""
    n, channels, height, width = images.shape
    parts = masks.shape[1]
    if is_interleaved(images):
        return images.new_empty((n, parts, height, width, channels)).movedim(4, 2)
    return images.new_empty((n, parts, channels, height, width))


def mask_images(images: Tensor, masks: Tensor) -> Tensor:
    """See `ssad_kernels.mask_images`."""
    masked = torch.where(masks[:, :, None], images[:, None], 0)
    return allocate_masked(images, masks).copy_(masked)


def composite(outputs: Tensor, masks: Tensor, images: Tensor) -> Tensor:
    """See `ssad_kernels.composite`."""
    compute = torch.float64 if outputs.dtype == torch.float64 else torch.float32
    hidden = ~masks[:, :, None]
    count = hidden.sum(1)
    total = torch.where(hidden, outputs, 0).to(compute).sum(1)
    mean = torch.where(count > 0, total / count, images.to(compute))
    return mean.to(images.dtype).contiguous()


def refine_cells(
    scores: Tensor, masks: Tensor, cell: Tensor, threshold: Tensor, share: float | None
) -> tuple[Tensor, Tensor]:
    """See `ssad_kernels.refine_cells`."""
    height, width = masks.shape[2:]
    cell = cell.clamp(1, max(height, width))
    row, column, columns = _grid(cell, height, width)
    at = (row * columns[:, None, None] + column).flatten(1)
    lines = torch.arange(height * width, device=cell.device)
    pieces = row * width + torch.arange(width, device=cell.device)  # of columns, one cell high
    cell_of = (lines // width * columns[:, None]) + lines % width // cell[:, None]
    zeros = torch.zeros(at.shape, dtype=torch.float64, device=at.device)

    def add(values: Tensor) -> Tensor:
        """The sum of each cell, column by column, as it is rounded everywhere."""
        sums = zeros.scatter_add(1, pieces.flatten(1), values.flatten(1).double())
        return zeros.scatter_add(1, cell_of.clamp(max=height * width - 1), sums)

    area, threshold = add(torch.ones_like(zeros)), threshold[:, None, None, None]
    if share is None:
        is_normal = add(scores) < threshold[:, 0, 0] * area
    else:
        is_normal = add(scores.double() < threshold) > share * area
    refined = masks | is_normal.gather(1, at).reshape(scores.shape)
    return refined.contiguous(), (add(~refined.all(1)) > 0).sum(1)
