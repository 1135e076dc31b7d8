# SPDX-License-Identifier: Apache-2.0
"""Masked images for networks that restore what is hidden (SSM, RIAD)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ssad_kernels._arrays import as_batch, takes_cupy
from ssad_kernels._errors import wording
from ssad_kernels.masking import cell_masks, check_cell, mask_images
from ssad_kernels.masking_op import KINDS, MOST_PARTS
from ssad_kernels.random import STREAMS, philox
from ssad_kernels.transforms._base import (
    KeyedTransform,
    Keys,
    as_numbers,
    check_choice,
    check_count,
    check_number,
)


class CellMaskParams(NamedTuple):
    """Masks of a batch.

    Attributes:
        cell: (N,) int64, side of the cells, pixels.
        masks: (N, P, H, W) bool, True = visible.
    """

    cell: Tensor
    masks: Tensor


class CellMasking(KeyedTransform):
    """Hide random square cells of each image several times: what SSM and RIAD learn to restore.

    Huang et al., "Self-Supervised Masking for Unsupervised Anomaly Detection and Localization",
    IEEE Transactions on Multimedia 2022; Zavrtanik et al., "Reconstruction by inpainting for visual
    anomaly detection", Pattern Recognition 2021. Defaults are those of SSM's released code for
    images of 128 pixels; RIAD takes cells of 2, 4, 8 and 16 for 256.

    Args:
        cells: sides of the cells in pixels, one of which is drawn for each image, all equally
            likely; or a number. The released code draws one for a whole batch, so that an image
            depends on its batch; for that pass ``cell`` in the call.
        parts: how many masks each image gets, P = 1...32.
        kind: "split", "bernoulli" or "checkerboard", see `cell_masks`.
        hide: probability that "bernoulli" hides a cell.
        stream: give transforms of one class in one pipeline different numbers, 0...255.

    Raises:
        ValueError: for an option out of range.

    Call: ``transform(images, keys=None, *, params=None, cell=None) -> (inputs, masks, images)``:
        the images behind their masks, (N, P, C, H, W) of the same dtype, 0 where hidden; the masks,
        (N, P, 1, H, W) bool, True = visible; and the images themselves, which are the target. One
        image gives (P, C, H, W) and (P, 1, H, W), a NumPy array (P, H, W, C) and (P, H, W, 1).
        ``cell`` is the side of the cells instead of a drawn one, a number or (N,) int64. Images,
        keys and ``params``, which `make_params` gives, as in `CutPaste`. With
        `composite` the passes of a network become one image again.

    Gradient: with respect to images of a float dtype. Determinism: the same keys give the same
        result in any batch and worker.
    """

    def __init__(
        self,
        cells: int | Sequence[int] = (2, 4, 8),
        parts: int = 3,
        kind: Literal["split", "bernoulli", "checkerboard"] = "split",
        *,
        hide: float = 1 / 3,
        stream: int = 0,
    ) -> None:
        super().__init__("cell_masking", stream)
        op = type(self).__name__
        sides = (cells,) if isinstance(cells, int) else as_numbers(cells)
        if not sides or not all(1 <= side < 1 << 24 and side % 1 == 0 for side in sides):
            must = "be a whole number in 1...16777215, or a sequence of them"
            raise ValueError(wording(op, "cells", must, cells))
        check_choice(op, "kind", kind, KINDS)
        self.cells = tuple(int(side) for side in sides)
        self.parts = check_count(op, "parts", parts, MOST_PARTS)
        if kind == "checkerboard" and parts != 2:
            raise ValueError(wording(op, "parts", "be 2 for a checkerboard", parts))
        self.kind: Literal["split", "bernoulli", "checkerboard"] = kind
        self.hide = check_number(op, "hide", hide, 0.0, 1.0)

    def make_params(
        self, keys: Tensor, images: Tensor, cell: int | Tensor | None = None
    ) -> CellMaskParams:
        """Draw masks for a batch (N, C, H, W), one row per key (N, 3), on its device."""
        size = images.shape[2], images.shape[3]
        if cell is None:
            for side in self.cells:
                check_cell(type(self).__name__, "cells", side, size, self.parts, self.kind)
            cell = self.draw_cells(keys)
        options: dict[str, Any] = {"hide": self.hide, "stream": self.stream}
        masks = cell_masks(keys, size, cell, parts=self.parts, kind=self.kind, **options)
        if not isinstance(cell, Tensor):
            cell = torch.full_like(keys[:, 0], cell)
        return CellMaskParams(cell, masks)

    def draw_cells(self, keys: Tensor) -> Tensor:
        """A side for each image, (N,) int64; drawn so that it moves no cell."""
        sides = torch.full_like(keys[:, 0], self.cells[0])
        if len(self.cells) > 1:
            number = philox(keys, self.stream + STREAMS["coin"], 1)[:, 0] * len(self.cells) >> 32
            for k, side in enumerate(self.cells[1:], start=1):  # a table would wait for the GPU
                sides = sides.masked_fill(number == k, side)
        return sides

    def apply_params(self, images: Tensor, params: CellMaskParams) -> tuple[Tensor, ...]:
        """Put a batch (N, C, H, W) behind its masks."""
        return mask_images(images, params.masks), params.masks.unsqueeze(2), images

    @takes_cupy
    def forward(
        self,
        images: Any,
        keys: Keys = None,
        *,
        params: CellMaskParams | None = None,
        cell: int | Tensor | None = None,
    ) -> tuple[Any, ...]:
        """See the class."""
        batch, restore_images, restore_masks = as_batch(type(self).__name__, images)
        if params is None:
            keys = self.keys_of(batch, keys)
            self.check(batch, keys)
            params = self.make_params(keys, batch, cell)
        else:
            self.check(batch, None)
        inputs, masks, images = self.apply_params(batch, params)
        return restore_images(inputs), restore_masks(masks), restore_images(images)

    def extra_repr(self) -> str:
        """The options, for ``print``."""
        return f"cells={self.cells}, parts={self.parts}, kind={self.kind!r}, hide={self.hide:g}"
