# SPDX-License-Identifier: Apache-2.0
"""Settings of CutPaste on patches."""

from __future__ import annotations

from dataclasses import dataclass

from ssad_models.cutpaste.recipe import BACKBONES, CutPasteRecipe
from ssad_models.settings import RecipeError, boolean, integer, number, one_of, optional, setting

PATCH_BACKBONES = (
    *("resnet18-small", "patch-resnet512", "patch-resnet256", "patch-resnet128", "patch-resnet64"),
    *BACKBONES,
)


@dataclass(frozen=True, kw_only=True)
class CutPastePatchRecipe(CutPasteRecipe):
    """Settings of the patch model; the others are those of the model of whole images.

    Attributes:
        backbone: One of `PATCH_BACKBONES`.
        features: "pooled".
        score: "density".
        crop: Side of the random crop to train on.
        window: Side of the windows that are scored.
        stride: Pixels from one window to the next.
        density: "shared" by all windows, or one of each "location", for objects that are aligned.
        sigma: Of the Gaussian that a window's score is spread by, in pixels; None for FCDD's rule.
        normalise: Whether maps are divided by what the Gaussians add up to.
    """

    backbone: str = setting(one_of(*PATCH_BACKBONES))
    features: str = setting(one_of("pooled"))
    score: str = setting(one_of("density"))
    window: int = setting(integer(8, 4096))
    stride: int = setting(integer(1, 4096))
    density: str = setting(one_of("shared", "location"))
    sigma: float | None = setting(optional(number(0.1, 1e3)))
    normalise: bool = setting(boolean)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop is None:
            msg = "`crop` must be the side of the patches to train on, got null"
            raise RecipeError(msg)
        if self.window > self.size:
            msg = f"`window` must be at most `size`, {self.size}, got {self.window}"
            raise RecipeError(msg)
        if self.stride > self.window or (self.size - self.window) % self.stride:
            must = f"be at most `window`, {self.window}, and divide {self.size - self.window}"
            msg = f"`stride` must {must}, so that windows cover the image, got {self.stride}"
            raise RecipeError(msg)
