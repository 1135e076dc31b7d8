# SPDX-License-Identifier: Apache-2.0
"""The hard augmentation of AnoSeg: a patch of a turned, permuted and recoloured copy."""

from __future__ import annotations

from collections.abc import Sequence

from ssad_kernels.transforms._base import check_jitter, check_number, patch_law
from ssad_kernels.transforms.cutpaste import LawTransform


class HardCutPaste(LawTransform):
    """Turn, permute and recolour a copy of the image, and paste a turned rectangle of it.

    Song, Kong, Park, Kim and Kang, "AnoSeg: Anomaly Segmentation Network Using Self-Supervised
    Learning", arXiv 2110.03396, 2021. Each of the three has probability one half, as in the paper,
    which gives neither ranges nor sizes: all other defaults are ours, those of `CutPaste` where it
    has them.

    The copy is turned by 90, 180 or 270 degrees, by 180 alone if the image is not square. Then its
    halves change places: top and bottom, left and right, or both (odd sides are shifted by the half
    rounded down). Only the patch is gathered and recoloured, so that contrast refers to the mean
    grey of the patch, where the paper recolours the whole copy.

    Args:
        area: range of the patch's share of the image.
        aspect: range of height over width; below 1 and above 1 are equally likely.
        rotation: range of the patch's rotation in degrees.
        jitter: largest change of brightness, contrast, saturation and hue; one number or four.
        turn_p: probability with which the copy is turned.
        permute_p: probability with which its halves change places.
        jitter_p: probability with which it is recoloured.
        p: probability with which a sample is changed at all.
        inplace, return_status, stream: as in `CutPaste`.

    Raises:
        ValueError: for an option out of range.

    Call, gradient and determinism: as in `CutPaste`. The masks are exact: a pixel outside of them
        keeps its bits.
    """

    def __init__(
        self,
        area: Sequence[float] = (0.02, 0.15),
        aspect: Sequence[float] = (0.3, 3.3),
        *,
        rotation: Sequence[float] = (-45.0, 45.0),
        jitter: float | Sequence[float] = (0.5, 0.5, 0.5, 0.25),
        turn_p: float = 0.5,
        permute_p: float = 0.5,
        jitter_p: float = 0.5,
        p: float = 1.0,
        inplace: bool = False,
        return_status: bool = False,
        stream: int = 0,
    ) -> None:
        op = type(self).__name__
        law = patch_law(
            op,
            area,
            aspect,
            p,
            rotation,
            jitter=check_jitter(op, jitter),
            turn_p=check_number(op, "turn_p", turn_p, 0.0, 1.0),
            permute_p=check_number(op, "permute_p", permute_p, 0.0, 1.0),
            jitter_p=check_number(op, "jitter_p", jitter_p, 0.0, 1.0),
        )
        super().__init__(
            "hard_cut_paste", law, inplace=inplace, return_status=return_status, stream=stream
        )

    def extra_repr(self) -> str:
        """The options, for ``print``."""
        law = self.law
        patch = (f"{name}={getattr(law, name)}" for name in ("p", "area", "aspect", "jitter"))
        own = (f"{name}={getattr(law, name)}" for name in ("turn_p", "permute_p", "jitter_p"))
        return ", ".join([*patch, f"rotation={law.angle}", *own])
