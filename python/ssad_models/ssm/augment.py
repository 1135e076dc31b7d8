# SPDX-License-Identifier: Apache-2.0
"""How training batches are made: images, and masks that hide each part of them once."""

from __future__ import annotations

import torch

from ssad_kernels.transforms import CellMasking
from ssad_models.ssm.recipe import SsmRecipe


class Synthesis:
    """Makes training batches. Holds no network, so it can run in the workers of a loader.

    Args:
        recipe: Its settings of masks.
    """

    def __init__(self, recipe: SsmRecipe) -> None:
        self.masking = transform(recipe)

    def __call__(
        self, images: torch.Tensor, keys: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw masks.

        Args:
            images: (N, C, S, S) uint8.
            keys: (N, 3) int64, see `ssad_kernels.make_keys`.

        Returns:
            The images as they are, and masks (N, P, S, S) bool, True where they are visible.
        """
        return images, self.masking.make_params(keys, images).masks

    def plain(self, images: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """The normal inputs: the images."""
        return images


def transform(recipe: SsmRecipe) -> CellMasking:
    """What hides cells, by the settings of a recipe."""
    return CellMasking(recipe.cells, parts=recipe.parts)
