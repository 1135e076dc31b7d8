# SPDX-License-Identifier: Apache-2.0
"""CutPaste, CutPaste-Scar and the three-way task that trains on both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ssad_kernels._arrays import as_batch, takes_cupy
from ssad_kernels._errors import wording
from ssad_kernels._status import is_applied
from ssad_kernels.cutpaste import CutPasteParams, cut_paste, cut_paste_
from ssad_kernels.cutpaste_law import (
    CutPasteLaw,
    cut_paste_keyed,
    cut_paste_keyed_,
    sample_cut_paste,
)
from ssad_kernels.transforms._base import (
    KeyedTransform,
    Keys,
    check_jitter,
    patch_law,
    scar_law,
)


class LawTransform(KeyedTransform):
    """A CutPaste whose parameters come from a law."""

    def __init__(
        self, name: str, law: CutPasteLaw, *, inplace: bool, return_status: bool, stream: int
    ) -> None:
        super().__init__(name, stream)
        self.law = law
        self.inplace = inplace
        self.return_status = return_status

    def check(self, images: Tensor, keys: Tensor | None) -> None:
        """Nothing: the op checks both."""

    def make_params(self, keys: Tensor, images: Tensor) -> CutPasteParams:
        """Draw parameters for a batch (N, C, H, W), one row per key (N, 3), on its device."""
        _, _, height, width = images.shape
        return sample_cut_paste(keys, height, width, self.law, stream=self.stream)

    def apply_params(self, images: Tensor, params: CutPasteParams) -> tuple[Tensor, ...]:
        """Apply parameters to a batch (N, C, H, W)."""
        op = cut_paste_ if self.inplace else cut_paste
        return op(images, params, return_status=self.return_status)

    def apply_keys(self, images: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
        """Draw and apply in one call."""
        op = cut_paste_keyed_ if self.inplace else cut_paste_keyed
        return op(images, keys, self.law, stream=self.stream, return_status=self.return_status)

    def extra_repr(self) -> str:
        """The law, for ``print``."""
        return ", ".join(f"{name}={value}" for name, value in self.law._asdict().items())


class CutPaste(LawTransform):
    """Cut a rectangle of the image, jitter its colours, and paste it elsewhere.

    Defaults are those of the paper (Li et al., CVPR 2021, appendix A.2). It leaves the mixture of
    the two aspect intervals open: here each has probability one half.

    Args:
        area: range of the patch's share of the image.
        aspect: range of height over width; below 1 and above 1 are equally likely.
        jitter: largest change of brightness, contrast, saturation and hue; one number or four.
        rotation: range of the patch's rotation in degrees.
        p: probability with which a sample is changed at all.
        source: "same" image, or "other": another image of the batch, whose draw then depends on it;
            a batch of one has only itself.
        inplace: write into the images given instead of into a copy.
        return_status: also return what became of each sample, (N,) int8, see `Status`.
        stream: give transforms of one class in one pipeline different numbers, 0...255.

    Raises:
        ValueError: for an option out of range.

    Call: ``transform(images, keys=None, *, params=None) -> (images, masks[, status])``. Images are
        tensors (N, C, H, W) or (C, H, W), tv_tensors, NumPy arrays (H, W, C), or CuPy arrays
        (H, W, C) or (N, C, H, W), C = 1...4; uint8, or floats with white = 1. They come back in
        kind, with masks (N, 1, H, W), (1, H, W) or (H, W, 1) bool. ``keys`` are rows from
        `make_keys`, one per image; without them the draws come from torch's generator. ``params``
        replays what `make_params` gave. In a ``v2.Compose`` pass tv_tensors, so that later
        transforms know image and mask; labels go beside it.

    Gradient: none. Determinism: the same keys give the same result in any batch and worker.
    """

    def __init__(
        self,
        area: Sequence[float] = (0.02, 0.15),
        aspect: Sequence[float] = (0.3, 3.3),
        *,
        jitter: float | Sequence[float] = 0.1,
        rotation: Sequence[float] = (0.0, 0.0),
        p: float = 1.0,
        source: Literal["same", "other"] = "same",
        inplace: bool = False,
        return_status: bool = False,
        stream: int = 0,
    ) -> None:
        op = type(self).__name__
        if source not in ("same", "other"):
            raise ValueError(wording(op, "source", 'be "same" or "other"', repr(source)))
        strengths = check_jitter(op, jitter)
        law = patch_law(
            op, area, aspect, p, rotation, jitter=strengths, other_source=source == "other"
        )
        super().__init__(
            "cut_paste", law, inplace=inplace, return_status=return_status, stream=stream
        )


class CutPasteScar(LawTransform):
    """Cut a long thin strip of the image, jitter its colours, turn it, and paste it elsewhere.

    Defaults are those of the paper (Li et al., CVPR 2021, appendix A.2), for images of 256 pixels.
    The strip is placed so that all of it, once turned, lies in the image.

    Args:
        length: range of the strip's height in pixels, before rotation.
        width: range of its width.
        jitter: largest change of brightness, contrast, saturation and hue; one number or four.
        rotation: range of the rotation in degrees.
        p, inplace, return_status, stream: as in `CutPaste`.

    Raises:
        ValueError: for an option out of range.

    Call, gradient and determinism: as in `CutPaste`.
    """

    def __init__(
        self,
        length: Sequence[int] = (10, 25),
        width: Sequence[int] = (2, 16),
        *,
        jitter: float | Sequence[float] = 0.1,
        rotation: Sequence[float] = (-45.0, 45.0),
        p: float = 1.0,
        inplace: bool = False,
        return_status: bool = False,
        stream: int = 0,
    ) -> None:
        op = type(self).__name__
        law = scar_law(op, length, width, p, rotation, check_jitter(op, jitter))
        super().__init__("scar", law, inplace=inplace, return_status=return_status, stream=stream)


class CutPaste3Way(nn.Module):
    """The paper's three-way task: normal images, CutPaste and CutPaste-Scar of the same images.

    Args:
        cutpaste: default `CutPaste` with the paper's values.
        scar: default `CutPasteScar` with the paper's values.
        output: "batch" returns ``(images, labels)``: (3N, C, H, W), first all originals, then all
            CutPaste, then all scars, and (3N,) int64 labels 0, 1, 2; an image in which nothing was
            pasted (p below 1, or a patch that does not fit) has label 0. "triplet" returns the
            three images ``(normal, cutpaste, scar)``, each of the kind of the input.

    Raises:
        ValueError: for another ``output``.

    Call: ``transform(images, keys=None)``; images and keys as in `CutPaste`. With "batch" a NumPy
        array comes back as a tensor.
    """

    def __init__(
        self,
        cutpaste: CutPaste | None = None,
        scar: CutPasteScar | None = None,
        *,
        output: Literal["batch", "triplet"] = "batch",
    ) -> None:
        super().__init__()
        if output not in ("batch", "triplet"):
            must = 'be "batch" or "triplet"'
            raise ValueError(wording("CutPaste3Way", "output", must, repr(output)))
        self.cutpaste = cutpaste if cutpaste is not None else CutPaste()
        self.scar = scar if scar is not None else CutPasteScar()
        self.output = output

    @takes_cupy
    def forward(self, images: Any, keys: Keys = None) -> tuple[Any, ...]:
        """See the class."""
        batch, restore, _ = as_batch(type(self).__name__, images)
        keys = self.cutpaste.keys_of(batch, keys)
        n = batch.shape[0]
        # One block of memory, so that the parts are pasted in place and need no concatenation.
        tripled = torch.cat([batch, batch, batch])
        labels = [torch.zeros(n, dtype=torch.int64, device=batch.device)]
        for label, transform in enumerate((self.cutpaste, self.scar), start=1):
            part = tripled[label * n : (label + 1) * n]
            status = cut_paste_keyed_(
                part, keys, transform.law, stream=transform.stream, return_status=True
            )[2]
            labels.append(label * is_applied(status).long())
        if self.output == "triplet":
            return tuple(restore(part) for part in tripled.split(n)) if n else (images,) * 3
        return tripled, torch.cat(labels)
