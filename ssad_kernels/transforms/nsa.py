# SPDX-License-Identifier: Apache-2.0
"""Natural synthetic anomalies (NSA): patches of another image, blended in without a seam.

Schlüter, Tan, Hou and Kainz, "Natural Synthetic Anomalies for Self-Supervised Anomaly Detection
and Localization", ECCV 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ssad_kernels._arrays import as_batch, as_tensor, plain, takes_cupy
from ssad_kernels._errors import (
    check_dtype,
    check_images,
    check_tensor,
    wording,
)
from ssad_kernels.labels import Kind, object_mask
from ssad_kernels.nsa_keyed import GRADIENTS, check_bank, nsa_keyed
from ssad_kernels.nsa_law import MAX_PATCHES, MAX_PROPOSALS, NsaLaw
from ssad_kernels.nsa_steps import Draw, Gradient, NsaStyle, apply_nsa, draw_nsa
from ssad_kernels.transforms._base import (
    KeyedTransform,
    Keys,
    check_choice,
    check_count,
    check_flag,
    check_number,
    check_probability,
    check_range,
)
from ssad_kernels.transforms._patches import bank_batch, check_background, mask_batch


class NSA(KeyedTransform):
    """Blend patches of another image into each image, and label what changed.

    Defaults are those of the released code for most classes of MVTec AD, with its slips mended (see
    ``compat``); ``ssad_models`` has its table of all classes as a recipe.

    Args:
        height, width: bounds of a patch's half height and half width, in parts of the image's side.
        size: law of the half sizes: "gamma", ``offset`` + Gamma(2, ``scale``) of the side, clipped
            to the bounds; "uniform" between the bounds; "square", one uniform number for both; or
            "cutpaste", `CutPaste`'s areas and aspects.
        offset, scale: of the gamma law.
        patches: largest number of patches; the first is always tried, each other with probability
            one half.
        resize: bounds of the factor by which a patch is resized, drawn from a normal distribution
            about 1; None to keep it as it is.
        spread: standard deviation of that factor.
        shape: "rectangle", or "ellipses", the union of five.
        shift: False to paste where it was cut.
        core: what is cut has its centre in this part of each axis; not with "cutpaste".
        source: "other" image, or the "same".
        gradient: how a patch is blended: by `poisson_blend` with "source", "mixed", "average" or
            "monochrome" gradients; with "mix", one of the first two by the toss of a coin; with
            "scaled", mixed gradients, those of the patch times f and those of the image times
            1 - f (PII). "uniform" takes f of the patch and 1 - f of the image (FPI); "swap" copies.
        factor: range of f, one per sample.
        background: what is no object: ``(grey, tolerance)`` in grey levels, or "otsu", see
            `object_mask`. None: no objects, unless masks are given in the call.
        object_share: with objects, the part of the patch that must be object, 0...1.
        overlap: the part of the patch's object that must meet object where it goes, 0...1.
        proposals: places that are tried for a patch before it is left out.
        label: "logistic" of the change's intensity, "binary", "intensity" in grey levels, or
            "factor", f where something changed; see `difference_label`.
        steepness, midpoint: of the logistic label, per grey level and in grey levels.
        tolerance: changes of at most so many grey levels are none.
        bank: (M, C, H, W), a tensor of images to cut patches from, of the size and dtype of the
            images; by default the other images of the batch. A batch of one has only itself, and a
            single image needs a bank. It stays on its device, whatever the module is moved to.
        region: of `poisson_blend`.
        compat: "reference" gives back the released code's behaviour: patches resized within the
            bounds of half sizes, seams as of ``cv2.seamlessClone``, odd widths one pixel to the
            right, later patches overwriting the labels of earlier ones, mixtures rounded down. For
            uint8 images.
        p: probability with which a sample is changed at all.
        inplace: write into the images given instead of into a copy.
        return_status: also return what became of each sample, (N,) int8, see `Status`.
        stream: give transforms of one class in one pipeline different numbers, 0...255.

    Raises:
        TypeError, ValueError: for an option out of range, or a bank that does not suit the images.

    Call: ``transform(images, keys=None, *, bank=None, masks=None, bank_masks=None, params=None) ->
        (images, labels[, status])``. Images and keys as in `CutPaste`; labels (N, 1, H, W),
        (1, H, W) or (H, W, 1) float32. ``bank`` replaces that of the transform. ``masks``,
        bool like a label, say what is object, instead of ``background``; with a bank,
        ``bank_masks`` (M, 1, H, W) bool, too. ``params`` replays what `make_params` gave. Where no
        patch fits (status NO_PLACE), or the solver meets a value that is not finite, the image
        comes back as it was, with a label of zeros.

    Gradient: none. Determinism: the same keys give the same result in any batch and worker, if
        there is a bank; without one the source depends on the batch.
    """

    _STREAM = "nsa"
    _LABEL_SIZE = 5  # of the median that cleans the label

    def __init__(
        self,
        height: Sequence[float] = (0.03, 0.40),
        width: Sequence[float] = (0.03, 0.40),
        *,
        size: Literal["gamma", "uniform", "square", "cutpaste"] = "gamma",
        offset: float = 0.03,
        scale: float = 0.05,
        patches: int = 3,
        resize: Sequence[float] | None = (0.7, 1.3),
        spread: float = 0.5,
        shape: Literal["rectangle", "ellipses"] = "rectangle",
        shift: bool = True,
        core: float = 1.0,
        source: Literal["other", "same"] = "other",
        gradient: Gradient = "source",
        factor: Sequence[float] = (0.05, 0.95),
        background: Sequence[float] | Literal["otsu"] | None = None,
        object_share: float = 0.7,
        overlap: float = 0.25,
        proposals: int = 64,
        label: Kind = "logistic",
        steepness: float = 1 / 6,
        midpoint: float = 15.0,
        tolerance: float = 1.0,
        bank: Tensor | None = None,
        region: Literal["mask", "rect"] = "mask",
        compat: Literal["reference"] | None = None,
        p: float = 1.0,
        inplace: bool = False,
        return_status: bool = False,
        stream: int = 0,
    ) -> None:
        op = type(self).__name__
        super().__init__(self._STREAM, stream)
        check_choice(op, "size", size, ("gamma", "uniform", "square", "cutpaste"))
        check_choice(op, "shape", shape, ("rectangle", "ellipses"))
        check_choice(op, "source", source, ("other", "same"))
        check_choice(op, "gradient", gradient, GRADIENTS)
        check_choice(op, "label", label, ("logistic", "binary", "intensity", "factor"))
        check_choice(op, "region", region, ("mask", "rect"))
        check_choice(op, "compat", compat, (None, "reference"))
        if compat is not None and gradient == "average":
            raise ValueError(wording(op, "gradient", "not be average with compat", repr(gradient)))
        self.law = NsaLaw(
            p=check_probability(op, p),
            height=check_range(op, "height", height, 0.0, 0.5),
            width=check_range(op, "width", width, 0.0, 0.5),
            size=size,
            offset=check_number(op, "offset", offset, 0, 1),
            scale=check_number(op, "scale", scale, 0, 1),
            resize=None if resize is None else check_range(op, "resize", resize, 0.01, 100.0),
            spread=check_number(op, "spread", spread, 0, 100),
            patches=check_count(op, "patches", patches, MAX_PATCHES),
            object_share=check_number(op, "object_share", object_share, 0, 1),
            overlap=check_number(op, "overlap", overlap, 0, 1),
            shift=check_flag(op, "shift", shift),
            same_source=source == "same",
            core=check_number(op, "core", core, 0.01, 1),
            shape=shape,
            proposals=check_count(op, "proposals", proposals, MAX_PROPOSALS),
            factor=check_range(op, "factor", factor, 0.0, 1.0),
            is_reference=compat == "reference",
        )
        self.style = NsaStyle(
            gradient=gradient,
            region=region,
            background=check_background(op, background),
            label=label,
            steepness=check_number(op, "steepness", steepness, 0, 1e6),
            midpoint=check_number(op, "midpoint", midpoint, -1e6, 1e6),
            tolerance=check_number(op, "tolerance", tolerance, 0, 255),
            size=self._LABEL_SIZE,
        )
        self.compat = compat
        self.inplace = check_flag(op, "inplace", inplace)
        self.return_status = check_flag(op, "return_status", return_status)
        self.bank = self.bank_masks = None
        if bank is not None:
            self.bank = bank_batch(op, bank)
            self.bank_masks = self._objects(self.bank)

    @takes_cupy
    def forward(
        self,
        images: Any,
        keys: Keys = None,
        *,
        bank: Tensor | None = None,
        masks: Any = None,
        bank_masks: Tensor | None = None,
        params: Draw | None = None,
    ) -> tuple[Any, ...]:
        """See the class."""
        op = type(self).__name__
        batch, restore_images, restore_masks = as_batch(op, images)
        has_bank = bank is not None or self.bank is not None or params is not None
        if images.ndim == 3 and not has_bank and not self.law.same_source:
            must = 'be given for a single image, which has no other one (or source="same")'
            raise ValueError(wording(op, "bank", must, None))
        given = self._given(batch, bank, masks, bank_masks)
        if params is not None:
            results = self._augment(batch, params, *given)
        elif batch.device.type == "cpu":
            results = self._keyed(batch, self.keys_of(batch, keys), *given)
        else:
            given = self._with_objects(batch, *given)
            params = self._draw(self.keys_of(batch, keys), batch, *given)
            results = self._augment(batch, params, *given)
        image, label, *status = results
        return (restore_images(image), restore_masks(label), *status)

    def make_params(
        self,
        keys: Tensor,
        images: Tensor,
        *,
        bank: Tensor | None = None,
        masks: Tensor | None = None,
        bank_masks: Tensor | None = None,
    ) -> Draw:
        """Draw parameters for a batch (N, C, H, W), one row per key (N, 3), on its device."""
        given = self._given(images, bank, masks, bank_masks)
        return self._draw(keys, images, *self._with_objects(images, *given))

    def apply_params(
        self,
        images: Tensor,
        params: Draw,
        *,
        bank: Tensor | None = None,
        masks: Tensor | None = None,
        bank_masks: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Apply parameters to a batch (N, C, H, W); draws nothing."""
        return self._augment(images, params, *self._given(images, bank, masks, bank_masks))

    def _keyed(
        self,
        images: Tensor,
        keys: Tensor,
        bank: Tensor | None,
        masks: Tensor | None,
        bank_masks: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """Draw and apply in one call: of a single image the calls take longer than the work."""
        out, label, status = nsa_keyed(
            images,
            keys,
            self.law,
            self.style,
            stream=self.stream,
            bank=bank,
            masks=masks,
            bank_masks=bank_masks,
        )
        out = images.copy_(out) if self.inplace else out
        return (out, label, status) if self.return_status else (out, label)

    def _draw(
        self,
        keys: Tensor,
        images: Tensor,
        bank: Tensor | None,
        masks: Tensor | None,
        bank_masks: Tensor | None,
    ) -> Draw:
        return draw_nsa(
            keys,
            images.shape[2],
            images.shape[3],
            self.law,
            self.style.gradient,
            stream=self.stream,
            sources=None if bank is None else bank.shape[0],
            masks=masks,
            source_masks=bank_masks,
        )

    def _augment(
        self,
        images: Tensor,
        params: Draw,
        bank: Tensor | None,
        masks: Tensor | None,
        bank_masks: Tensor | None,
    ) -> tuple[Tensor, ...]:
        bank, masks, bank_masks = self._with_objects(images, bank, masks, bank_masks)
        options: dict[str, Any] = {"bank": bank, "masks": masks, "source_masks": bank_masks}
        out, label, status = apply_nsa(
            images, params, self.law, self.style, is_written=self.inplace, **options
        )
        return (out, label, status) if self.return_status else (out, label)

    def _given(
        self, images: Tensor, bank: Tensor | None, masks: Any, bank_masks: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Bank, objects and the bank's objects of a call, checked; the transform's as defaults."""
        op = type(self).__name__
        check_images(op, images, is_written=self.inplace)
        if self.compat is not None:
            check_dtype(op, "images", images, [torch.uint8])
        masks = None if masks is None else mask_batch(op, masks, images)
        bank, bank_masks = as_tensor(bank), as_tensor(bank_masks)
        if bank is None:
            bank = self.bank
        elif bank is not self.bank:
            check_tensor(op, "bank", bank)
            bank = plain(bank)
        if bank is None:
            if bank_masks is not None:
                raise ValueError(wording(op, "bank_masks", "be given with a bank", "no bank"))
            return None, masks, None
        check_bank(op, images, bank, self.law)
        if bank_masks is None and bank is self.bank:
            bank_masks = self.bank_masks
        if bank_masks is None and masks is not None:
            raise ValueError(wording(op, "bank_masks", "be given with masks and a bank", None))
        return bank, masks, bank_masks

    def _with_objects(
        self,
        images: Tensor,
        bank: Tensor | None,
        masks: Tensor | None,
        bank_masks: Tensor | None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The same with the objects that are to be found."""
        if masks is None:
            masks = self._objects(images)
        if bank is None:
            return None, masks, masks
        return bank, masks, self._objects(bank) if bank_masks is None else bank_masks

    def _objects(self, images: Tensor) -> Tensor | None:
        background = self.style.background
        return None if background is None else object_mask(images, background)
