# SPDX-License-Identifier: Apache-2.0
"""The proxy tasks that CutPaste is compared with: rotation, cutout, scar, confetti.

The paper names them without their ranges; the ranges here are CutPaste's own, or stated below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ssad_kernels._arrays import as_batch, takes_cupy
from ssad_kernels._errors import check_images, wording
from ssad_kernels.cutpaste import CutPasteParams, cut_paste
from ssad_kernels.cutpaste_law import sample_cut_paste
from ssad_kernels.random import STREAMS, philox, uniform
from ssad_kernels.reference.random import unit
from ssad_kernels.transforms._base import (
    KeyedTransform,
    Keys,
    check_pixels,
    check_probability,
    patch_law,
    scar_law,
)


class RectangleParams(NamedTuple):
    """Rectangles to be painted in order: K per sample.

    Attributes:
        box: (N, K, 4) int64 ``(y, x, h, w)``; an empty box paints nothing.
        colour: (N, K, C) float64, white = 1.
    """

    box: Tensor
    colour: Tensor


def _paint(images: Tensor, params: RectangleParams) -> tuple[Tensor, Tensor]:
    """Images with rectangles, later ones on top, and masks (N, 1, H, W) of what they cover."""
    n, channels, height, width = images.shape
    top, left, h, w = params.box[..., None].unbind(2)  # (N, K, 1) each
    ys = torch.arange(height, device=images.device)
    xs = torch.arange(width, device=images.device)
    rows = (ys >= top) & (ys < top + h)  # (N, K, H)
    columns = (xs >= left) & (xs < left + w)
    top_most = torch.zeros((n, height, width), dtype=torch.int16, device=images.device)
    for k in range(params.box.shape[1]):
        inside = rows[:, k, :, None] & columns[:, k, None, :]
        top_most.masked_fill_(inside, k + 1)
    mask = (top_most > 0)[:, None]
    palette = _stored(params.colour, images.dtype)
    at = (top_most.long() - 1).clamp(min=0).flatten(1)[:, :, None].expand(-1, -1, channels)
    painted = palette.gather(1, at).transpose(1, 2).reshape(images.shape)
    return torch.where(mask, painted, images), mask


def _stored(colour: Tensor, dtype: torch.dtype) -> Tensor:
    """Colours with white = 1 as pixels of a dtype."""
    return ((colour * 255.0 + 0.5).floor() if dtype == torch.uint8 else colour).to(dtype)


class _RectangleTransform(KeyedTransform):
    """Paints rectangles."""

    def apply_params(self, images: Tensor, params: RectangleParams) -> tuple[Tensor, ...]:
        """Paint the rectangles onto a copy of a batch (N, C, H, W)."""
        return _paint(images, params)


class Cutout(_RectangleTransform):
    """Fill a rectangle with one colour (DeVries and Taylor 2017; table 4 of the CutPaste paper).

    Args:
        area, aspect, p, stream: as in `CutPaste`.
        fill: "grey" (half of white), "mean" (the image's own mean, per channel) or "random" (a
            uniform colour).

    Raises:
        ValueError: for an option out of range.

    Call, gradient and determinism: as in `CutPaste`.
    """

    def __init__(
        self,
        area: Sequence[float] = (0.02, 0.15),
        aspect: Sequence[float] = (0.3, 3.3),
        *,
        fill: Literal["grey", "mean", "random"] = "grey",
        p: float = 1.0,
        stream: int = 0,
    ) -> None:
        super().__init__("cutout", stream)
        if fill not in ("grey", "mean", "random"):
            raise ValueError(wording("Cutout", "fill", 'be "grey", "mean" or "random"', repr(fill)))
        self.fill = fill
        self.law = patch_law("Cutout", area, aspect, p)

    def make_params(self, keys: Tensor, images: Tensor) -> RectangleParams:
        """Draw one rectangle per sample; "mean" looks at the images."""
        n, channels, height, width = images.shape
        drawn = sample_cut_paste(keys, height, width, self.law, stream=self.stream)
        size = drawn.source_box[:, 2:] * drawn.apply[:, None]
        box = torch.cat([drawn.target, size], dim=1)[:, None]
        if self.fill == "random":
            colour = uniform(keys, self.stream + _COLOURS, channels)
        elif self.fill == "mean":
            white = 255.0 if images.dtype == torch.uint8 else 1.0
            colour = images.double().mean((2, 3)) / white
        else:
            colour = torch.full((n, channels), 0.5, dtype=torch.float64, device=images.device)
        return RectangleParams(box, colour[:, None])


class Confetti(_RectangleTransform):
    """Scatter small rectangles of random colours (confetti noise; Liznerski et al., ICLR 2021).

    Args:
        pieces: range of their number, at most 1000.
        side: range of their sides in pixels. The published noise is for another image size; this
            range spans the widths of a CutPaste scar.
        p, stream: as in `CutPaste`.

    Raises:
        ValueError: for an option out of range.

    Call, gradient and determinism: as in `CutPaste`.
    """

    def __init__(
        self,
        pieces: Sequence[int] = (8, 24),
        side: Sequence[int] = (2, 16),
        *,
        p: float = 1.0,
        stream: int = 0,
    ) -> None:
        super().__init__("confetti", stream)
        self.pieces = check_pixels("Confetti", "pieces", pieces, 1000)
        self.side = check_pixels("Confetti", "side", side, 1 << 20)
        self.p = check_probability("Confetti", p)

    def make_params(self, keys: Tensor, images: Tensor) -> RectangleParams:
        """Draw the pieces; those beyond a sample's number, or too large for it, are empty."""
        n, channels, height, width = images.shape
        low, most = self.pieces
        bits = philox(keys, self.stream, 4 * most + 2)
        gate = unit(bits[:, 0]) < self.p
        number = low + ((most - low + 1) * bits[:, 1] >> 32)
        draws = bits[:, 2:].reshape(n, most, 4)
        sides = self.side[0] + ((self.side[1] - self.side[0] + 1) * draws[..., :2] >> 32)
        limit = torch.stack([height - sides[..., 0], width - sides[..., 1]], dim=2)
        corner = (limit + 1).clamp(min=1) * draws[..., 2:] >> 32
        exists = torch.arange(most, device=keys.device) < number[:, None]
        exists = exists & gate[:, None] & (limit >= 0).all(2)
        box = torch.cat([corner, sides * exists[..., None]], dim=2)
        colour = uniform(keys, self.stream + _COLOURS, most * channels)
        return RectangleParams(box, colour.reshape(n, most, channels))


class ScarParams(NamedTuple):
    """One turned rectangle per sample.

    Attributes:
        place: where `CutPasteScar` would paste, and how it is turned; what it cuts does not matter.
        colour: (N, C) float64, white = 1.
    """

    place: CutPasteParams
    colour: Tensor


class Scar(KeyedTransform):
    """Paint a long thin turned rectangle of random colour (section 4.1 of the CutPaste paper).

    The paper calls this baseline "Scar" and gives no ranges; these are those of CutPaste-Scar.

    Args:
        length, width, rotation, p, stream: as in `CutPasteScar`.

    Raises:
        ValueError: for an option out of range.

    Call, gradient and determinism: as in `CutPaste`.
    """

    def __init__(
        self,
        length: Sequence[int] = (10, 25),
        width: Sequence[int] = (2, 16),
        *,
        rotation: Sequence[float] = (-45.0, 45.0),
        p: float = 1.0,
        stream: int = 0,
    ) -> None:
        super().__init__("painted_scar", stream)
        self.law = scar_law("Scar", length, width, p, rotation, jitter=(0.0, 0.0, 0.0, 0.0))

    def make_params(self, keys: Tensor, images: Tensor) -> ScarParams:
        """Draw one rectangle per sample."""
        _, channels, height, width = images.shape
        place = sample_cut_paste(keys, height, width, self.law, stream=self.stream)
        return ScarParams(place, uniform(keys, self.stream + _COLOURS, channels))

    def apply_params(self, images: Tensor, params: ScarParams) -> tuple[Tensor, ...]:
        """Paint the rectangles onto a copy of a batch (N, C, H, W)."""
        pasted, mask = cut_paste(images, params.place)  # for its mask; what it pastes is covered
        colour = _stored(params.colour, images.dtype)[:, :, None, None]
        return torch.where(mask, colour, pasted), mask


# Colours come from streams of their own, so that the number of channels moves no rectangle.
_COLOURS = STREAMS["colours"]


class Rotation(nn.Module):
    """The rotation task (Gidaris et al., ICLR 2018): which of four orientations is it?

    Call: ``transform(images, keys=None) -> (images, labels)`` with square images (N, C, H, H) or
        (C, H, H), or NumPy arrays (H, H, C); returns tensors: (4N, C, H, H), first all upright
        ones, then all turned by 90, 180 and 270 degrees counter-clockwise, and labels (4N,) int64
        0...3. Nothing is random: ``keys`` are accepted so that all proxy tasks are called alike.

    Raises:
        ValueError: for images that are not square.
    """

    @takes_cupy
    def forward(self, images: Any, keys: Keys = None) -> tuple[Any, Any]:
        """See the class."""
        del keys
        batch, _, _ = as_batch("Rotation", images)
        check_images("Rotation", batch)
        if batch.shape[2] != batch.shape[3]:
            must = "be square, (N, C, H, H)"
            raise ValueError(wording("Rotation", "images", must, tuple(batch.shape)))
        turned = torch.cat([torch.rot90(batch, turn, (2, 3)) for turn in range(4)])
        return turned, torch.arange(4, device=batch.device).repeat_interleave(batch.shape[0])
