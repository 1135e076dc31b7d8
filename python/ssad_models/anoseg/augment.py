# SPDX-License-Identifier: Apache-2.0
"""How training batches are made: half of the images as they are, half with something pasted in."""

from __future__ import annotations

import torch

from ssad_kernels.transforms import HardCutPaste
from ssad_models.anoseg.recipe import AnosegRecipe


class Synthesis:
    """Makes training batches. Holds no network, so it can run in the workers of a loader.

    Args:
        recipe: Its settings of the patches.
    """

    def __init__(self, recipe: AnosegRecipe) -> None:
        self.paste = transform(recipe, inplace=True)

    def __call__(
        self, images: torch.Tensor, keys: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Paste into the second half of a batch.

        Args:
            images: (N, C, S, S) uint8; written to.
            keys: (N, 3) int64, see `ssad_kernels.make_keys`.

        Returns:
            Inputs (N, C, S, S) uint8 and maps (N, 1, S, S) bool, True where nothing was pasted. The
            first N // 2 are normal.
        """
        normal = len(images) // 2
        maps = torch.ones_like(images[:, :1], dtype=torch.bool)
        _, masks = self.paste(images[normal:], keys[normal:])
        maps[normal:] = ~masks
        return images, maps

    def plain(self, images: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """The normal inputs: the images."""
        return images


def transform(
    recipe: AnosegRecipe, *, inplace: bool = False, return_status: bool = False
) -> HardCutPaste:
    """What pastes a rotated, permuted and recoloured piece of an image into it.

    Args:
        recipe: Its settings of the patches.
        inplace: Whether it may change the images that it is given.
        return_status: Whether to tell what became of each image, too.
    """
    return HardCutPaste(
        recipe.area,
        recipe.aspect,
        rotation=recipe.rotation,
        jitter=recipe.jitter,
        turn_p=recipe.hard,
        permute_p=recipe.hard,
        jitter_p=recipe.hard,
        inplace=inplace,
        return_status=return_status,
    )
