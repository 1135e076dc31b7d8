# SPDX-License-Identifier: Apache-2.0
"""A detector that needs no training: brighter is more anomalous."""

from __future__ import annotations

import torch
from torch import nn

from ssad_models.calibration import Calibration, calibrate
from ssad_models.model_file import Meta, Model
from ssad_models.recipe import Recipe, load_recipe


class Brightness(nn.Module):
    """Scores 100 x the mean of the image; the map is the image."""

    gain: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gain", torch.tensor(100.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, S, S) -> (N,)."""
        if images.dtype == torch.uint8:
            images = images.float() / 255
        scores: torch.Tensor = images.mean((1, 2, 3)) * self.gain
        return scores

    def score_and_heat(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, C, S, S) uint8 -> (N,) and (N, 1, S, S)."""
        return self(images), images.float().mean(1, keepdim=True) / 255


class BrightnessMethod:
    """Takes the place of a method in `ssad_models.methods.METHODS`."""

    def blank(self, recipe: Recipe) -> nn.Module:
        """See `Method`."""
        return Brightness()


def brightness_model(
    *,
    calibrated: bool = True,
    size: int = 32,
    channels: int = 3,
    native: tuple[int, int] = (64, 64),
) -> Model:
    """Calibrated, it calls an image of more than 50 % white anomalous."""
    calibration: Calibration | None = None
    if calibrated:
        calibration = calibrate(torch.linspace(31, 50, 20))
    recipe = load_recipe("cutpaste", [f"size={size}", f"channels={channels}"])
    return Model(Brightness(), calibration, recipe.to_dict(), Meta("a b", native, seed=3))
