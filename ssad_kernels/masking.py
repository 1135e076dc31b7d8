# SPDX-License-Identifier: Apache-2.0
"""Masks of square cells, for networks that restore what is hidden.

Huang, Xu, Wang, Wang and Zhang, "Self-Supervised Masking for Unsupervised Anomaly Detection and
Localization", IEEE Transactions on Multimedia 2022; Zavrtanik, Kristan and Skočaj,
"Reconstruction by inpainting for visual anomaly detection", Pattern Recognition 2021.

A mask is bool: True is visible, False hidden.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ssad_kernels import masking_op, reference
from ssad_kernels._errors import FLOATS, check_dtype, check_pair, check_tensor, wording
from ssad_kernels.random import STREAMS, check_keys


def cell_masks(
    keys: Tensor,
    size: int | tuple[int, int],
    cell: int | Tensor,
    *,
    parts: int = 3,
    kind: Literal["split", "bernoulli", "checkerboard"] = "split",
    hide: float = 1 / 3,
    stream: int = STREAMS["cell_masking"],
) -> Tensor:
    """Masks that hide random square cells of an image.

    Cells are counted row by row from the top-left corner. Where the size is no multiple of the
    cell, the last ones at the right and the bottom are cut, so that each pixel has a cell.

    Args:
        keys: (N, 3) int64, see `make_keys`.
        size: (H, W) of the images in pixels, or a number for both; 1...16777215.
        cell: side of the cells in pixels; a number, or (N,) int64, one for each image. An image
            has at most 262,144 cells, fewer by the factor P with "bernoulli": a number that is
            smaller than that asks for is an error, and in a tensor it is raised to it. A cell that
            is larger than the image is the whole image.
        parts: how many masks each image gets, P = 1...32.
        kind: "split": the cells in random order, all orders equally likely, are dealt into P sets
            of ⌈cells / P⌉ (the last ones are short or empty if that does not go), and mask i hides
            set i: together they hide each pixel once. "bernoulli": each mask hides each cell with
            the probability ``hide``, all of them independently. "checkerboard": mask 0 hides the
            fields of a chessboard that have the colour of the top-left one, mask 1 all others;
            ``parts`` is 2, and nothing is drawn.
        hide: 0...1; for "bernoulli" only.
        stream: 0...65535, separates operations that draw for the same sample.

    Returns:
        (N, P, H, W) bool, True = visible, on the device of ``keys``. Row i depends on ``keys[i]``
        (and ``cell[i]``) alone.

    Raises:
        TypeError: ``keys`` that are no int64 tensor, or another kind of ``cell`` or ``size``.
        ValueError: for shapes that do not fit, or a number out of its range.

    Gradient: none. Determinism: identical on every backend, without host synchronisation. The
    random order is that of a 32-bit number for each cell, at a tie of the cells.

    Source: "split" is the released code of SSM, "checkerboard" the pair of its paper.

    Example:
        >>> import torch
        >>> from ssad_kernels import make_keys
        >>> masks = cell_masks(make_keys(0, 0, torch.arange(8)), 128, 4)
        >>> masks.shape, (~masks).sum(1).unique().tolist()
        (torch.Size([8, 3, 128, 128]), [1])
    """
    op = "cell_masks"
    check_tensor(op, "keys", keys)
    check_keys(op, keys)
    height, width = check_pair(op, "size", size, int)
    if not isinstance(cell, Tensor):
        cell = check_cell(op, "cell", cell, (height, width), parts, kind)
    rows = _row(cell, keys.shape[0], torch.int64, keys)
    masks: Tensor = masking_op.cell_masks(keys, stream, height, width, rows, parts, kind, hide)
    return masks


def mask_images(images: Tensor, masks: Tensor) -> Tensor:
    """Images behind masks: what is hidden becomes 0.

    Args:
        images: (N, C, H, W), C = 1...4, uint8 or a float dtype.
        masks: (N, P, H, W) bool, P = 1...32, True = visible.

    Returns:
        (N, P, C, H, W) of the dtype of ``images``: visible pixels keep their bits, hidden ones are
        0, a NaN too. Memory is laid out as theirs is, planar or channels-last.

    Raises:
        TypeError: for a dtype or kind that is not listed above.
        ValueError: for a shape or a device that does not fit.

    Gradient: with respect to images of a float dtype; higher ones too. Determinism: bitwise, on
    every backend.

    Example:
        >>> import torch
        >>> masks = torch.tensor([[[[True, False, True]], [[False, True, False]]]])
        >>> mask_images(torch.tensor([[[[5, 6, 7]]]], dtype=torch.uint8), masks)[0, :, 0].tolist()
        [[[5, 0, 7]], [[0, 6, 0]]]
    """
    for name, value in (("images", images), ("masks", masks)):
        check_tensor("mask_images", name, value)
    masked: Tensor = masking_op.mask_images(images, masks)
    return masked


def composite(outputs: Tensor, masks: Tensor, images: Tensor) -> Tensor:
    """Put an image together from what passes of a network made of hidden pixels.

    A pixel that one pass did not see is that pass's output; if several did not, the mean of theirs;
    if all did, the image's own. What a pass made of pixels that it saw does not matter, a NaN
    neither.

    Args:
        outputs: (N, P, C, H, W), one for each mask, C = 1...4, of a float dtype.
        masks: (N, P, H, W) bool, P = 1...32, True = visible.
        images: (N, C, H, W) of the dtype of ``outputs``.

    Returns:
        (N, C, H, W), contiguous, of the same dtype.

    Raises:
        TypeError: for a dtype or kind that is not listed above.
        ValueError: for a shape or a device that does not fit.

    Gradient: with respect to ``outputs`` and ``images``; higher ones too. Determinism: bitwise
    within a backend and instruction set, in any batch; where no pixel is hidden twice, the same
    values on every backend. Numbers: float32 arithmetic, float64 for float64; a zero has any sign.

    Source: SSM's released code, whose masks hide every pixel at most once.

    Example:
        >>> import torch
        >>> outputs = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1, 1).expand(1, 2, 1, 1, 4)
        >>> masks = torch.tensor([[[[True, False, True, False]], [[True, True, False, False]]]])
        >>> composite(outputs, masks, torch.full((1, 1, 1, 4), 9.0))[0, 0].tolist()
        [[9.0, 1.0, 2.0, 1.5]]
    """
    for name, value in (("outputs", outputs), ("masks", masks), ("images", images)):
        check_tensor("composite", name, value)
    composed: Tensor = masking_op.composite(outputs, masks, images)
    return composed


def refine_cells(
    scores: Tensor,
    masks: Tensor,
    cell: int | Tensor,
    *,
    threshold: float | Tensor,
    share: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Uncover the cells that look normal, in all masks of an image.

    Args:
        scores: (N, 1, H, W) of a float dtype, low = normal.
        masks: (N, P, H, W) bool, P = 1...32, True = visible. Masks that have scores of their own,
            as in the loop of SSM's paper, are images of their own: (N · P, 1, H, W).
        cell: side of the cells that are judged, a number >= 1 or (N,) int64 (those below 1 count as
            1). It need not be that of the masks; cells lie as in `cell_masks`.
        threshold: a number, or (N,) of any float dtype.
        share: None: a cell looks normal if the mean of its scores is below ``threshold``. Or
            0...1: if more than this share of its pixels is.

    Returns:
        masks (N, P, H, W) bool, contiguous: True where they were, and in cells that look normal;
        and (N,) int64, in how many cells of each image some mask still hides a pixel.

    Raises:
        TypeError: for a dtype or kind that is not listed above.
        ValueError: for a shape or a device that does not fit, or a number out of its range.

    A cell with a score that is NaN does not look normal by its mean; by the share of its pixels a
    NaN is one that does not. Gradient: none. Determinism: identical on every backend but the
    reference on a GPU, without host synchronisation; scores are added in float64, by columns
    of the cell and then across.

    Source: SSM's released code has ``cell=8, threshold=-0.96 / 255, share=0.8`` for images of 128
    pixels; its paper the mean, and the cells of the masks.

    Example:
        >>> import torch
        >>> scores = torch.tensor([[[[0.1, 0.2, 0.9, 0.1]]]])
        >>> refined, hidden = refine_cells(scores, torch.zeros(1, 1, 1, 4).bool(), 2, threshold=0.3)
        >>> refined[0, 0].tolist(), hidden.tolist()
        ([[True, True, False, False]], [1])
    """
    op = "refine_cells"
    for name, value in (("scores", scores), ("masks", masks)):
        check_tensor(op, name, value)
    n = scores.shape[0] if scores.dim() else 0
    if not isinstance(cell, Tensor):
        cell = check_cell(op, "cell", cell)
    if isinstance(threshold, Tensor):
        check_dtype(op, "threshold", threshold, FLOATS)
    elif not isinstance(threshold, (int, float)):
        must = "be a number or a tensor"
        raise TypeError(wording(op, "threshold", must, type(threshold).__name__))
    cells = _row(cell, n, torch.int64, scores)
    limits = _row(threshold, n, torch.float64, scores)
    refined: Tensor
    hidden: Tensor
    refined, hidden = masking_op.refine_cells(scores, masks, cells, limits, share)
    return refined, hidden


def check_cell(
    op: str,
    name: str,
    cell: int,
    size: tuple[int, int] = (1, 1),
    parts: int = 1,
    kind: str = "split",
) -> int:
    """A number of pixels: large enough for images, at most what a side of them can have."""
    if isinstance(cell, bool) or not isinstance(cell, (int, torch.SymInt)):
        must = "be a whole number or a tensor"
        raise TypeError(wording(op, name, must, type(cell).__name__))
    if cell < 1:
        raise ValueError(wording(op, name, "be at least 1", cell))
    draws = reference.masking.count_draws(kind, parts)
    if reference.masking.count_numbers(*size, cell, draws) > reference.masking.NUMBERS:
        least = reference.masking.smallest_cell(*size, draws)
        must = f"be at least {least} for images of {size[0]} x {size[1]} pixels"
        raise ValueError(wording(op, name, must, cell))
    return min(cell, 1 << 24)


def _row(value: float | Tensor, n: int, dtype: torch.dtype, like: Tensor) -> Tensor:
    """A number as one for each image; tensors of numbers with a point in float64."""
    if isinstance(value, Tensor):
        return value.to(dtype) if dtype.is_floating_point else value
    return torch.full((n,), value, dtype=dtype, device=like.device)
