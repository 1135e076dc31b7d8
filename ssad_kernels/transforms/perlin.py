# SPDX-License-Identifier: Apache-2.0
"""Anomalies in the shape of thresholded noise, of a texture or of the image's own parts.

DRAEM: Zavrtanik, Kristan and Skočaj, "A Discriminatively Trained Reconstruction Embedding for
Surface Anomaly Detection", ICCV 2021. MemSeg: Yang, Wu and Feng, "A Semi-Supervised Method for
Image Surface Defect Detection Using Differences and Commonalities", 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ssad_kernels._arrays import as_batch, takes_cupy
from ssad_kernels._errors import (
    check_device,
    check_dtype,
    check_images,
    wording,
)
from ssad_kernels._status import Status, is_applied
from ssad_kernels.alpha_blending import alpha_blend_
from ssad_kernels.cutpaste import CutPasteParams, cut_paste_
from ssad_kernels.cutpaste_law import CutPasteLaw, sample_cut_paste
from ssad_kernels.perlin import perlin_noise
from ssad_kernels.random import STREAMS, check_keys, philox
from ssad_kernels.reference.random import unit
from ssad_kernels.transforms._base import (
    KeyedTransform,
    Keys,
    check_choice,
    check_flag,
    check_jitter,
    check_number,
    check_probability,
    check_range,
)
from ssad_kernels.transforms._patches import bank_batch, mask_batch

_GRID = 8  # cells a side that "structure" shuffles
_LAW_NUMBERS = 16  # what sample_cut_paste takes of a stream; ours come after it
_RESCUE = 0.75


class PerlinParams(NamedTuple):
    """All that is random in a sample of `PerlinAnomaly`; one row per sample.

    Attributes:
        keys: (N, 3) int64, what the noise's vectors are drawn from.
        cells: (N, 2) int64, of the noise.
        angle: (N,) float32 degrees, by which it is turned.
        weight: (N,) float64, of the anomaly.
        source_index: (N,) int64, the image of the bank; without meaning for "structure".
        jitter: (N, 4) float32, as in `CutPasteParams`.
        order: (N, 4) int64, likewise.
        shuffle: (N, 64) int64, the cell that each one shows, for "structure"; clamped to 0...63.
        apply: (N,) bool; a sample with False is left as it is.
    """

    keys: Tensor
    cells: Tensor
    angle: Tensor
    weight: Tensor
    source_index: Tensor
    jitter: Tensor
    order: Tensor
    shuffle: Tensor
    apply: Tensor


class PerlinAnomaly(KeyedTransform):
    """Mix a texture into each image where gradient noise exceeds a threshold.

    Defaults are those of DRAEM, but for ``p`` and ``jitter``; MemSeg takes the same masks. Where
    no pixel exceeds the threshold, it is 75 % of the way from the noise's least to its greatest
    value (ours; the released code then leaves the image as it is), so that no mask is empty.

    Args:
        scale: range of k; there are 2^k cells of noise along an axis, drawn for each axis by
            itself. Not more than half the axis's pixels: noise is 0 on the cells' corners.
        angle: range of degrees by which the noise is turned.
        threshold: noise above it is anomalous, 0...1 (noise lies within ±1).
        blend: range of the anomaly's weight, 0...1. DRAEM's is 1 - U(0, 0.8), MemSeg's U(0.15, 1).
        source: "bank", images of other textures (DRAEM: DTD); or "structure", the image itself with
            an 8 x 8 grid of cells shuffled (MemSeg, which takes each for one half). What remains of
            a side that 8 does not divide stays in place.
        jitter: largest change of the source's brightness, contrast, saturation and hue; one number
            or four. Ours: both papers change textures by three of ten operations of imgaug.
        bank: (M, C, h, w), a tensor of textures of the images' dtype. Those of another size than
            the images are resized, bilinearly, without antialiasing. It stays on its device,
            whatever the module is moved to.
        p: probability with which a sample is changed at all. DRAEM changes one half.
        inplace: write into the images given instead of into a copy.
        return_status: also return what became of each sample, (N,) int8, see `Status`.
        stream: give transforms of one class in one pipeline different numbers, 0...255.

    Raises:
        TypeError, ValueError: for an option out of range, or a bank that does not suit the images.

    Call: ``transform(images, keys=None, *, bank=None, foreground=None, params=None) -> (images,
        masks[, status])``. Images, masks and keys as in `CutPaste`. ``bank`` replaces that of the
        transform. ``foreground``, bool like a mask, is where anomalies may be; where it leaves
        nothing of a sample's (status NO_PLACE) the image comes back as it was, with an empty mask.
        So does one whose noise is all 0 (EMPTY): a single pixel, or at worst a turned single row.
        ``params`` replays what `make_params` gave.

    Gradient: none. Determinism: the same keys give the same result in any batch and worker, and the
        same mask on every device.
    """

    def __init__(
        self,
        scale: Sequence[int] = (0, 5),
        *,
        angle: Sequence[float] = (-90.0, 90.0),
        threshold: float = 0.5,
        blend: Sequence[float] = (0.2, 1.0),
        source: Literal["bank", "structure"] = "bank",
        jitter: float | Sequence[float] = (0.5, 0.5, 0.5, 0.25),
        bank: Tensor | None = None,
        p: float = 1.0,
        inplace: bool = False,
        return_status: bool = False,
        stream: int = 0,
    ) -> None:
        op = type(self).__name__
        super().__init__("perlin", stream)
        low, high = check_range(op, "scale", scale, 0, 7)
        if int(low) != low or int(high) != high:
            raise ValueError(wording(op, "scale", "hold whole numbers", scale))
        check_choice(op, "source", source, ("bank", "structure"))
        self.scale = int(low), int(high)
        self.threshold = check_number(op, "threshold", threshold, 0, 1)
        self.blend = check_range(op, "blend", blend, 0.0, 1.0)
        self.source = source
        self.law = CutPasteLaw(  # of which only what the sample is turned and coloured by is used
            p=check_probability(op, p),
            angle=check_range(op, "angle", angle, -360.0, 360.0),
            jitter=check_jitter(op, jitter),
        )
        self.inplace = check_flag(op, "inplace", inplace)
        self.return_status = check_flag(op, "return_status", return_status)
        self.bank = None if bank is None else bank_batch(op, bank)

    @takes_cupy
    def forward(
        self,
        images: Any,
        keys: Keys = None,
        *,
        bank: Tensor | None = None,
        foreground: Any = None,
        params: PerlinParams | None = None,
    ) -> tuple[Any, ...]:
        """See the class."""
        op = type(self).__name__
        batch, restore_images, restore_masks = as_batch(op, images)
        bank = self._bank_for(batch, bank)
        if params is None:
            keys = self.keys_of(batch, keys)
            check_keys(op, keys)
            params = self._draw(keys, batch, bank)
        image, mask, *status = self._augment(batch, params, bank, foreground)
        return (restore_images(image), restore_masks(mask), *status)

    def make_params(
        self, keys: Tensor, images: Tensor, *, bank: Tensor | None = None
    ) -> PerlinParams:
        """Draw parameters for a batch (N, C, H, W), one row per key (N, 3), on its device."""
        return self._draw(keys, images, self._bank_for(images, bank))

    def apply_params(
        self,
        images: Tensor,
        params: PerlinParams,
        *,
        bank: Tensor | None = None,
        foreground: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Apply parameters to a batch (N, C, H, W); draws nothing."""
        return self._augment(images, params, self._bank_for(images, bank), foreground)

    def _bank_for(self, images: Tensor, bank: Tensor | None) -> Tensor | None:
        """The bank of a call, checked; the transform's as default, None for "structure"."""
        op = type(self).__name__
        check_images(op, images, is_written=self.inplace)
        bank = self.bank if bank is None else bank_batch(op, bank)
        if bank is None and self.source == "bank":
            raise ValueError(wording(op, "bank", 'be given (or source="structure")', None))
        if bank is None:
            return None
        if self.source == "structure":
            raise ValueError(wording(op, "bank", 'be None with source="structure"', "a bank"))
        if not bank.shape[0]:
            raise ValueError(wording(op, "bank", "hold at least one image", tuple(bank.shape)))
        check_dtype(op, "bank", bank, [images.dtype])
        check_device(op, "bank", bank, images.device)
        if bank.shape[1] != images.shape[1]:
            must = f"have images of {images.shape[1]} channels, as those to be changed"
            raise ValueError(wording(op, "bank", must, bank.shape[1]))
        return bank

    def _draw(self, keys: Tensor, images: Tensor, bank: Tensor | None) -> PerlinParams:
        height, width = images.shape[2:]
        drawn = sample_cut_paste(keys, height, width, self.law, stream=self.stream)
        bits = philox(keys, self.stream, _LAW_NUMBERS + 4 + _GRID**2)[:, _LAW_NUMBERS:]
        low, high = self.scale
        cells = 1 << low + ((high - low + 1) * bits[:, :2] >> 32)
        limits = max(height // 2, 1), max(width // 2, 1)
        least, most = self.blend
        return PerlinParams(
            keys=keys,
            cells=torch.stack([cells[:, k].clamp(max=limits[k]) for k in range(2)], dim=1),
            angle=drawn.angle,
            weight=least + (most - least) * unit(bits[:, 2]),
            source_index=(1 if bank is None else bank.shape[0]) * bits[:, 3] >> 32,
            jitter=drawn.jitter,
            order=drawn.order,
            shuffle=bits[:, 4:].argsort(dim=1, stable=True),
            apply=drawn.apply,
        )

    def _augment(
        self, images: Tensor, params: PerlinParams, bank: Tensor | None, foreground: Any
    ) -> tuple[Tensor, ...]:
        height, width = images.shape[2:]
        noise, made = perlin_noise(
            params.keys,
            (height, width),
            params.cells,
            angle=params.angle,
            stream=self.stream + STREAMS["nodes"],
            return_status=True,
        )
        low, high = noise.amin((1, 2, 3), keepdim=True), noise.amax((1, 2, 3), keepdim=True)
        rescued = low + _RESCUE * (high - low)
        mask = noise > torch.where(high > self.threshold, self.threshold, rescued)
        if foreground is not None:
            mask &= mask_batch(type(self).__name__, foreground, images, argument="foreground")
        out = images if self.inplace else images.clone()
        status = self._mix(out, mask, params, bank)
        if foreground is not None:
            status = torch.where(status == Status.EMPTY.value, Status.NO_PLACE.value, status)
        status = torch.where(made == Status.APPLIED.value, status, made)
        status = torch.where(params.apply, status, Status.GATED.value).to(torch.int8)
        mask = mask & is_applied(status)[:, None, None, None]
        return (out, mask, status) if self.return_status else (out, mask)

    def _mix(self, out: Tensor, mask: Tensor, params: PerlinParams, bank: Tensor | None) -> Tensor:
        """Blend the anomaly into ``out``; status of each sample."""
        n, _, height, width = out.shape
        source, source_index = self._source(out, params, bank)
        corner = _rows(n, (0, 0), out.device)
        sizes = box = None
        if source.shape[2:] != out.shape[2:]:
            sizes = _rows(n, (height, width), out.device)
            box = _rows(n, (0, 0, *source.shape[2:]), out.device)
        status: Tensor
        _, status = alpha_blend_(
            out,
            source,
            mask,
            corner,
            sizes=sizes,
            source_index=source_index,
            source_box=box,
            alpha=params.weight * params.apply,
            return_status=True,
        )
        return status

    def _source(
        self, images: Tensor, params: PerlinParams, bank: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What anomalies are made of, and the number in it of each sample."""
        n = images.shape[0]
        own = torch.arange(n, device=images.device)
        is_jittered = any(self.law.jitter)
        if bank is not None:
            if not is_jittered:
                return bank, params.source_index
            known = params.source_index.clamp(0, bank.shape[0] - 1)
            source = bank[known]
            own = torch.where(known == params.source_index, own, -1)  # has no place
        else:
            source = images.clone()
        if is_jittered:
            cut_paste_(source, _colour_changes(source, params))
        if bank is None:
            _shuffle_cells(source, params.shuffle)
        return source, own


def _rows(n: int, numbers: Sequence[int], device: torch.device) -> Tensor:
    """(N, len(numbers)) int64, the same numbers in each row; the device is not waited for."""
    options: dict[str, Any] = {"dtype": torch.int64, "device": device}
    return torch.stack([torch.full((n,), number, **options) for number in numbers], dim=1)


def _colour_changes(images: Tensor, params: PerlinParams) -> CutPasteParams:
    """Paste each image, its colours changed, onto itself."""
    n, _, height, width = images.shape
    return CutPasteParams(
        source_index=torch.arange(n, device=images.device),
        source_box=_rows(n, (0, 0, height, width), images.device),
        target=_rows(n, (0, 0), images.device),
        angle=torch.zeros_like(params.angle),
        jitter=params.jitter,
        order=params.order,
        apply=params.apply,
    )


def _shuffle_cells(images: Tensor, shuffle: Tensor) -> None:
    """Show in cell k of each image's grid what was in cell ``shuffle[:, k]``; in place."""
    n, _, height, width = images.shape
    cell_h, cell_w = height // _GRID, width // _GRID
    grid = images[:, :, : _GRID * cell_h, : _GRID * cell_w]
    grid = grid.unflatten(2, (_GRID, cell_h)).unflatten(4, (_GRID, cell_w))
    cells = grid.permute(0, 2, 4, 1, 3, 5)  # (N, 8, 8, C, h, w)
    first = _GRID**2 * torch.arange(n, device=images.device)[:, None]
    rows = (first + shuffle.clamp(0, _GRID**2 - 1)).flatten()
    cells.copy_(cells.flatten(0, 2).index_select(0, rows).reshape(cells.shape))
