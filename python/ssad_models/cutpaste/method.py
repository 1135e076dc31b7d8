# SPDX-License-Identifier: Apache-2.0
"""CutPaste as one of `ssad_models.methods`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from ssad_kernels import make_keys
from ssad_models.backbones import make_backbone
from ssad_models.cutpaste import inference
from ssad_models.cutpaste.augment import AUGMENTS, Synthesis
from ssad_models.cutpaste.network import CutPasteNet
from ssad_models.cutpaste.recipe import CutPasteRecipe
from ssad_models.papers import Beside, Paper
from ssad_models.pictures import Previews
from ssad_models.settings import RecipeError

if TYPE_CHECKING:  # importing Lightning takes seconds, and a trained model does without
    from ssad_models.cutpaste.module import CutPasteModule
    from ssad_models.trainer import TrainingModule

LEVEL = 7


_NO_MATCH = (
    " No difference, as the paper has no such model: its own are ResNet-18 from scratch and, with "
    "the 3-way task, EfficientNet-B4 fine-tuned, scored by the density alone."
)
_PIXELS = (
    " Of GradCAM, the paper gives the mean over all categories alone; Patches are of another model."
)


class CutPasteMethod:
    """See `ssad_models.methods.Method`."""

    paper = Path(__file__).with_name("paper.yaml")

    def beside(self, recipe: CutPasteRecipe, metric: str) -> Beside:
        """The columns of the backbone; a difference to the model that a recipe trains."""
        table = Paper.read(self.paper).tables[metric]
        own = column_of(recipe)
        if metric == "pixel_auroc":
            match = "gradcam" if own == "3way" else None
            note = _PIXELS if match else _NO_MATCH + _PIXELS
            return Beside(("gradcam", "patches"), match, note)
        b4 = recipe.backbone == "efficientnet_b4"
        shown = tuple(key for key in table.columns if key.startswith("b4") == b4)
        match = own if own in shown else None
        return Beside(shown, match, "" if match else _NO_MATCH)

    def previews(self, recipe: CutPasteRecipe) -> Previews:
        """The proxy task."""
        return Previews(synthesis(recipe), AUGMENTS.get(recipe.proxy, {}))

    def module(self, recipe: CutPasteRecipe, seed: int) -> CutPasteModule:
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
            network = make_network(recipe, None if recipe.weights == "random" else recipe.weights)
        return CutPasteModule(
            network,
            recipe.stages,
            synthesis(recipe),
            optimizer=recipe.optimizer,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            freeze_batch_norm=recipe.freeze_batch_norm,
        )

    def checked_share(self, recipe: CutPasteRecipe) -> float:
        """A quarter, if the score depends on how well the head has learned its task."""
        return 0.25 if recipe.score == "density+head" else 0.0

    @torch.no_grad()
    def fit(
        self,
        module: TrainingModule,
        images: torch.Tensor,
        learned: torch.Tensor,
        unseen: torch.Tensor,
        recipe: CutPasteRecipe,
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

    def blank(self, recipe: CutPasteRecipe) -> inference.CutPasteDetector:
        """The architecture of the recipe; the file with its backbone's weights is not needed."""
        return inference.CutPasteDetector(make_network(recipe, None))


def column_of(recipe: CutPasteRecipe) -> str | None:
    """The key of the paper's column of image AUROC for a recipe; None if there is none for sure."""
    scratch = recipe.weights in (None, "random")
    learning = [stage.train == "all" for stage in recipe.stages]
    if recipe.score != "density" or recipe.network_width != 1:
        return None
    if recipe.backbone == "resnet18" and scratch and all(learning):
        return recipe.proxy
    if recipe.backbone == "efficientnet_b4" and not scratch and learning[-1]:
        return f"b4_{recipe.features}" if recipe.proxy == "3way" else None
    return None


def synthesis(recipe: CutPasteRecipe) -> Synthesis:
    """What makes the training batches of a recipe."""
    return Synthesis(recipe.proxy, recipe.crop, recipe.shift, recipe.jitter)


def make_network(recipe: CutPasteRecipe, weights: str | None) -> CutPasteNet:
    """A network of a recipe, with weights of that name, or random ones."""
    level = None
    if recipe.features == "level7":
        if not recipe.backbone.startswith("efficientnet"):
            msg = f"`features` of {recipe.backbone} must be pooled, got level7 of EfficientNets"
            raise RecipeError(msg)
        level = LEVEL
    try:
        backbone = make_backbone(recipe.backbone, weights, recipe.network_width)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    classes = synthesis(recipe).classes
    return CutPasteNet(backbone, recipe.head, recipe.neck, classes, level)
