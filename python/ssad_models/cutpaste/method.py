# SPDX-License-Identifier: Apache-2.0
"""CutPaste as one of `ssad_models.methods`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch

from ssad_kernels import make_keys
from ssad_models.backbones import make_backbone
from ssad_models.cutpaste import inference
from ssad_models.cutpaste.augment import Synthesis
from ssad_models.cutpaste.network import CutPasteNet
from ssad_models.recipe import Recipe, RecipeError

if TYPE_CHECKING:  # importing Lightning takes seconds, and a trained model does without
    from ssad_models.cutpaste.module import CutPasteModule
    from ssad_models.trainer import TrainingModule

LEVEL = 7


class CutPasteMethod:
    """See `ssad_models.methods.Method`."""

    def module(self, recipe: Recipe, seed: int) -> CutPasteModule:
        """The proxy task of the recipe, on a fresh network.

        Raises:
            RecipeError: If the weights, or the features, do not suit the backbone, or there are no
                weights and the head is to learn first, on what knows nothing.
        """
        from ssad_models.cutpaste.module import CutPasteModule

        if recipe.weights is None and recipe.stages[0].train == "head":
            msg = (
                f"`weights` of {recipe.backbone} must be "
                f"{'package' if recipe.backbone == 'lite0' else 'a file of torchvision'}, since "
                "the first stage trains the head alone, or random if that is meant, got null"
            )
            raise RecipeError(msg)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _network(recipe, None if recipe.weights == "random" else recipe.weights)
        return CutPasteModule(
            network,
            recipe.stages,
            synthesis(recipe),
            optimizer=recipe.optimizer,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            freeze_batch_norm=recipe.freeze_batch_norm,
        )

    def checked_share(self, recipe: Recipe) -> float:
        """A quarter, if the score depends on how well the head has learned its task."""
        return 0.25 if recipe.score == "density+head" else 0.0

    @torch.no_grad()
    def fit(
        self,
        module: TrainingModule,
        images: torch.Tensor,
        learned: torch.Tensor,
        unseen: torch.Tensor,
        recipe: Recipe,
    ) -> inference.CutPasteDetector:
        """The density of all images, and the standing of the head on the unseen ones."""
        network = cast("CutPasteModule", module).network.eval()
        device = module.device
        parts = torch.cat([learned, unseen]).split(recipe.batch)
        features = torch.cat([network.look(images[part].to(device))[1] for part in parts])
        shrinkage = cast(inference.Shrinkage, recipe.shrinkage)
        if recipe.score == "density":
            return inference.CutPasteDetector(network, inference.fit_density(features, shrinkage))
        odds, labels = [], []
        for part in torch.arange(len(unseen)).split(recipe.batch):
            inputs, label = module.synthesize(images[unseen[part]], make_keys(0, 0, part))
            odds.append(inference.log_odds(network(inputs.to(device))[1]))
            labels.append(label.to(device))
        proxy = inference.Proxy(torch.cat(odds), torch.cat(labels))
        return inference.CutPasteDetector(
            network, inference.fit(features, proxy, shrinkage=shrinkage)
        )

    def blank(self, recipe: Recipe) -> inference.CutPasteDetector:
        """The architecture of the recipe; the file with its backbone's weights is not needed."""
        return inference.CutPasteDetector(_network(recipe, None))


def synthesis(recipe: Recipe) -> Synthesis:
    """What makes the training batches of a recipe."""
    return Synthesis(recipe.proxy, recipe.crop, recipe.shift, recipe.jitter)


def _network(recipe: Recipe, weights: str | None) -> CutPasteNet:
    level = None
    if recipe.features == "level7":
        if not recipe.backbone.startswith("efficientnet"):
            msg = f"`features` of {recipe.backbone} must be pooled, got level7 of EfficientNets"
            raise RecipeError(msg)
        level = LEVEL
    try:
        backbone = make_backbone(recipe.backbone, weights)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    classes = synthesis(recipe).classes
    return CutPasteNet(backbone, recipe.head, recipe.neck, classes, level)
