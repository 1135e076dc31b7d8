# SPDX-License-Identifier: Apache-2.0
"""SSM as one of `ssad_models.methods`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from ssad_models.papers import Beside
from ssad_models.pictures import Previews
from ssad_models.ssm.augment import Synthesis, transform
from ssad_models.ssm.inference import SsmDetector
from ssad_models.ssm.network import ConditionalUNet
from ssad_models.ssm.recipe import SsmRecipe

if TYPE_CHECKING:  # importing Lightning takes seconds, and a trained model does without
    from ssad_models.ssm.module import SsmModule
    from ssad_models.trainer import TrainingModule


_NO_MATCH = (
    " The paper's tables are not at hand; its abstract has 98.3 for retinal OCT, and 93.9 for MVTec"
    " AD, most likely image AUROC."
)


class SsmMethod:
    """See `ssad_models.methods.Method`."""

    paper = Path(__file__).with_name("paper.yaml")

    def module(self, recipe: SsmRecipe, seed: int) -> SsmModule:
        """The task of the recipe, on a fresh network."""
        from ssad_models.ssm.module import SsmModule

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = ConditionalUNet(recipe.channels, recipe.network_width)
        return SsmModule(network, Synthesis(recipe), recipe)

    def checked_share(self, recipe: SsmRecipe) -> float:
        """A tenth, to see how normal images score."""
        return 0.1

    def fit(
        self,
        module: TrainingModule,
        images: torch.Tensor,
        learned: torch.Tensor,
        unseen: torch.Tensor,
        recipe: SsmRecipe,
    ) -> SsmDetector:
        """The trained network, and how normal images score."""
        detector = SsmDetector(cast("SsmModule", module).network, recipe).to(module.device)
        detector.learn_normal(images[unseen if len(unseen) else learned], recipe.batch)
        return detector

    def blank(self, recipe: SsmRecipe) -> SsmDetector:
        """The architecture of the recipe."""
        return SsmDetector(ConditionalUNet(recipe.channels, recipe.network_width), recipe)

    def previews(self, recipe: SsmRecipe) -> Previews:
        """What is hidden: the first of the masks of an image."""
        masking = transform(recipe)

        def shown(images: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, ...]:
            hidden, masks, *_ = masking(images, keys)
            return hidden[:, 0], ~masks[:, 0]

        return Previews(Synthesis(recipe), {"CellMasking": shown})

    def beside(self, recipe: SsmRecipe, metric: str) -> Beside:
        """Nothing: see paper.yaml."""
        return Beside((), None, _NO_MATCH)
