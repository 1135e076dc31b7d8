# SPDX-License-Identifier: Apache-2.0
"""AnoSeg as one of `ssad_models.methods`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from ssad_models.anoseg.augment import Synthesis, transform
from ssad_models.anoseg.inference import AnosegDetector
from ssad_models.anoseg.network import AnosegNet, Discriminator, Restorer
from ssad_models.anoseg.recipe import AnosegRecipe
from ssad_models.papers import Beside
from ssad_models.pictures import Previews

if TYPE_CHECKING:  # importing Lightning takes seconds, and a trained model does without
    from ssad_models.anoseg.module import AnosegModule
    from ssad_models.trainer import TrainingModule


class AnosegMethod:
    """See `ssad_models.methods.Method`."""

    paper = Path(__file__).with_name("paper.yaml")

    def module(self, recipe: AnosegRecipe, seed: int) -> AnosegModule:
        """Fresh networks, those of the detector too if it is asked for."""
        from ssad_models.anoseg.module import AnosegModule

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return AnosegModule(recipe, Synthesis(recipe))

    def checked_share(self, recipe: AnosegRecipe) -> float:
        """None: nothing is fitted after the training."""
        return 0.0

    def fit(
        self,
        module: TrainingModule,
        images: torch.Tensor,
        learned: torch.Tensor,
        unseen: torch.Tensor,
        recipe: AnosegRecipe,
    ) -> AnosegDetector:
        """The trained networks are the detector."""
        trained = cast("AnosegModule", module)
        restorer = None if trained.restorer is None else cast(Restorer, trained.used("restorer"))
        network = cast(AnosegNet, trained.used("network"))
        return AnosegDetector(network, restorer, trained.critic, recipe.alpha, recipe.beta)

    def blank(self, recipe: AnosegRecipe) -> AnosegDetector:
        """The architecture of the recipe."""
        channels, width = recipe.channels, recipe.network_width
        network = AnosegNet(channels, width)
        if not recipe.detector_epochs:
            return AnosegDetector(network)
        critic = Discriminator(recipe.size, channels, width)
        return AnosegDetector(network, Restorer(channels, width), critic, recipe.alpha, recipe.beta)

    def previews(self, recipe: AnosegRecipe) -> Previews:
        """What is pasted in."""
        return Previews(Synthesis(recipe), {"HardCutPaste": transform(recipe, return_status=True)})

    def beside(self, recipe: AnosegRecipe, metric: str) -> Beside:
        """Nothing: see paper.yaml."""
        return Beside((), None, " The tables of the paper are not at hand.")
