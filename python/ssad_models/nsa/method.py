# SPDX-License-Identifier: Apache-2.0
"""NSA, FPI and PII as `ssad_models.methods`: they differ in their recipes alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from ssad_models.nsa.augment import Synthesis, transform
from ssad_models.nsa.inference import NsaDetector
from ssad_models.nsa.network import DenseNet, Pixels, resnet18_body
from ssad_models.nsa.recipe import NsaRecipe
from ssad_models.nsa.wide_resnet import wide_resnet_body
from ssad_models.papers import Beside, Paper
from ssad_models.pictures import Previews
from ssad_models.settings import Recipe

if TYPE_CHECKING:  # importing Lightning takes seconds, and a trained model does without
    from ssad_models.nsa.module import NsaModule
    from ssad_models.trainer import TrainingModule

_NO_MATCH = (
    " No difference, as the paper has no such model: its own have NSA's network, the settings of "
    "their category, and logistic, binary or intensity labels."
)

# The label has a column of its own; the others change how a detector is used, or mend slips.
_FREE = ("label", "compat", "held_out", "false_alarm", "precision")


class NsaMethod:
    """See `ssad_models.methods.Method`."""

    paper = Path(__file__).with_name("paper.yaml")

    def module(self, recipe: NsaRecipe, seed: int) -> NsaModule:
        """The task of the recipe, on a fresh network."""
        from ssad_models.nsa.module import NsaModule

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _network(recipe)
        return NsaModule(
            network,
            Synthesis(recipe),
            epochs=recipe.epochs,
            lr=recipe.lr,
            lr_end=recipe.lr_end,
            intensity=recipe.label == "intensity",
        )

    def checked_share(self, recipe: NsaRecipe) -> float:
        """None: nothing is fitted after the training."""
        return 0.0

    def fit(
        self,
        module: TrainingModule,
        images: torch.Tensor,
        learned: torch.Tensor,
        unseen: torch.Tensor,
        recipe: NsaRecipe,
    ) -> NsaDetector:
        """The trained network is the detector."""
        return NsaDetector(cast("NsaModule", module).network, recipe.crop)

    def blank(self, recipe: NsaRecipe) -> NsaDetector:
        """The architecture of the recipe."""
        return NsaDetector(_network(recipe), recipe.crop)

    def previews(self, recipe: NsaRecipe) -> Previews:
        """Views, and what is blended into them."""
        blend = transform(recipe, return_status=True)
        scale = 255 if recipe.label == "intensity" else 1

        def shown(images: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, ...]:
            changed, labels, *status = blend(images, keys)
            return (changed, (labels / scale).clamp(0, 1), *status)

        return Previews(Synthesis(recipe), {recipe.method.upper(): shown})

    def beside(self, recipe: NsaRecipe, metric: str) -> Beside:
        """All columns; a difference to that of the method, or of NSA's label."""
        from ssad_models.recipe import load_recipe  # which knows the recipes of all methods

        shown = tuple(Paper.read(self.paper).tables[metric].columns)
        own = recipe.label if recipe.method == "nsa" else recipe.method
        published = _settings(recipe) == _settings(load_recipe(recipe.method))
        match = own if own in shown and published else None
        return Beside(shown, match, "" if match else _NO_MATCH)


def _settings(recipe: Recipe) -> dict[str, Any]:
    """What must be as published for a result to be compared with the published one."""

    def chosen(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name not in _FREE}

    values = chosen(recipe.to_dict())
    values["categories"] = {name: chosen(own) for name, own in values["categories"].items()}
    return values


def _network(recipe: NsaRecipe) -> DenseNet:
    pixels = Pixels(recipe.normalize, recipe.channels)
    if recipe.network == "resnet18":
        body = resnet18_body(recipe.channels, recipe.network_width)
    else:
        depth = int(recipe.network.removeprefix("wrn"))
        body = wide_resnet_body(recipe.channels, depth, width=recipe.network_width)
    return DenseNet(pixels, body, recipe.final)
