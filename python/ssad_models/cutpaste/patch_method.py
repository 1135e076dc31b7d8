# SPDX-License-Identifier: Apache-2.0
"""CutPaste on patches as one of `ssad_models.methods`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch

from ssad_models.cutpaste.inference import Shrinkage
from ssad_models.cutpaste.method import CutPasteMethod, make_network
from ssad_models.cutpaste.patch_inference import PatchDetector, Windows, fit_locations, fit_shared
from ssad_models.cutpaste.patch_recipe import CutPastePatchRecipe
from ssad_models.cutpaste.recipe import CutPasteRecipe
from ssad_models.papers import Beside

if TYPE_CHECKING:  # importing Lightning takes seconds, and a trained model does without
    from ssad_models.cutpaste.module import CutPasteModule
    from ssad_models.trainer import TrainingModule

_NO_IMAGES = (
    " No difference: of its model of patches the paper gives pixel AUROC alone; 3-way is its model "
    "of whole images."
)
_NO_MATCH = (
    " No difference, as the paper has no such model: its own is a ResNet-18 from scratch, trained "
    "on the 3-way task of 64 x 64 pixels, and looks at 32 x 32 of 256 x 256, every 4."
)


class CutPastePatchMethod(CutPasteMethod):
    """See `ssad_models.methods.Method`. It trains as the model of whole images does, on crops."""

    def beside(self, recipe: CutPasteRecipe, metric: str) -> Beside:
        """The paper's patch model, and GradCAM on that of whole images."""
        if metric != "pixel_auroc":
            return Beside(("3way",), None, _NO_IMAGES)
        match = "patches" if is_published(cast(CutPastePatchRecipe, recipe)) else None
        return Beside(("patches", "gradcam"), match, "" if match else _NO_MATCH)

    @torch.no_grad()
    def fit(  # type: ignore[override]  # another detector
        self,
        module: TrainingModule,
        images: torch.Tensor,
        learned: torch.Tensor,
        unseen: torch.Tensor,
        recipe: CutPasteRecipe,
    ) -> PatchDetector:
        """The density of all windows, or of each, over all images."""
        assert isinstance(recipe, CutPastePatchRecipe)
        network = cast("CutPasteModule", module).network.eval()
        rows = torch.cat([learned, unseen])
        fit = fit_shared if recipe.density == "shared" else fit_locations
        windows, shrinkage = windows_of(recipe), cast(Shrinkage, recipe.shrinkage)
        density = fit(network, images, rows, windows, shrinkage)
        return PatchDetector(network, windows, density.to(module.device))

    def blank(self, recipe: CutPasteRecipe) -> PatchDetector:  # type: ignore[override]
        """The architecture of the recipe."""
        assert isinstance(recipe, CutPastePatchRecipe)
        return PatchDetector(make_network(recipe, None), windows_of(recipe))


def windows_of(recipe: CutPastePatchRecipe) -> Windows:
    """Where a model of a recipe looks."""
    return Windows(recipe.size, recipe.window, recipe.stride, recipe.sigma, recipe.normalise)


def is_published(recipe: CutPastePatchRecipe) -> bool:
    """Whether the paper has the model, as far as it is known."""
    scratch = recipe.backbone in ("resnet18", "resnet18-small") and recipe.weights in (
        None,
        "random",
    )
    scratch &= recipe.network_width == 1
    looks = (recipe.size, recipe.crop, recipe.window, recipe.stride) == (256, 64, 32, 4)
    learns = all(stage.train == "all" for stage in recipe.stages)
    return scratch and looks and learns and recipe.proxy == "3way"
