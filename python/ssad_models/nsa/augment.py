# SPDX-License-Identifier: Apache-2.0
"""How training batches are made: a random view of each image, and pieces of others blended in."""

from __future__ import annotations

from typing import Any

import torch

from ssad_kernels import transforms
from ssad_kernels.transforms._base import KeyedTransform
from ssad_models.nsa.recipe import NsaRecipe
from ssad_models.views import centre_crop, random_crop, random_flip, random_turn


class Synthesis:
    """Makes training batches. Holds no network, so it can run in the workers of a loader.

    Pieces come from the other images of the batch, each in a view of its own. NSA's authors take
    the image that the same worker has read before, which comes to the same.

    Args:
        recipe: Its settings of images, patches and labels.
    """

    def __init__(self, recipe: NsaRecipe) -> None:
        self.recipe = recipe
        self.blend = transform(recipe, inplace=True)

    def __call__(
        self, images: torch.Tensor, keys: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Augment and label.

        Args:
            images: (N, C, S, S) uint8.
            keys: (N, 3) int64, see `ssad_kernels.make_keys`.

        Returns:
            Inputs (N, C, s, s) uint8, s the recipe's `crop`, and labels (N, 1, s, s) float32: in
            0..1, or in grey levels where the label is "intensity".
        """
        inputs, labels = self.blend(self.plain(images, keys), keys)
        return inputs, labels

    def plain(self, images: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """The views alone: turned, cropped and flipped; copied."""
        recipe = self.recipe
        if recipe.rotation:
            images = random_turn(images, keys, recipe.rotation)
        if recipe.margin is not None:
            images = centre_crop(images, recipe.margin)
        images = random_crop(images, keys, recipe.crop)
        return random_flip(images, keys) if recipe.flip else images


def transform(
    recipe: NsaRecipe, *, inplace: bool = False, return_status: bool = False
) -> KeyedTransform:
    """What blends pieces of other images in, and labels them.

    Args:
        recipe: Its settings of patches and labels.
        inplace: Whether it may change the images that it is given.
        return_status: Whether to tell what became of each image, too.
    """
    # Values are checked by the recipe, which has them as plain text.
    options: dict[str, Any] = {
        "gradient": recipe.gradient,
        "factor": recipe.factor,
        "compat": recipe.compat,
        "inplace": inplace,
        "return_status": return_status,
    }
    if recipe.patch_size == "square":
        square = transforms.FPI if recipe.gradient == "uniform" else transforms.PII
        return square(recipe.height, core=recipe.core, **options)
    options |= {
        "size": recipe.patch_size,
        "offset": recipe.offset,
        "scale": recipe.scale,
        "patches": recipe.patches,
        "resize": recipe.resize,
        "shape": recipe.shape,
        "shift": recipe.shift,
        "background": recipe.background,
        "object_share": recipe.object_share,
        "overlap": recipe.overlap,
        "label": recipe.label,
        "steepness": recipe.steepness,
        "midpoint": recipe.midpoint,
    }
    return transforms.NSA(recipe.height, recipe.width, **options)
