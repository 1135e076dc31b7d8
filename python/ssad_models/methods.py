# SPDX-License-Identifier: Apache-2.0
"""The methods there are: how each trains a network and makes a detector of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
import yaml
from torch import nn

from ssad_models.anoseg.method import AnosegMethod
from ssad_models.cutpaste.method import CutPasteMethod
from ssad_models.cutpaste.patch_method import CutPastePatchMethod
from ssad_models.nsa.method import NsaMethod
from ssad_models.papers import Beside
from ssad_models.pictures import Previews
from ssad_models.settings import Recipe
from ssad_models.ssm.method import SsmMethod

if TYPE_CHECKING:  # importing Lightning takes seconds, and a trained model does without
    from ssad_models.trainer import TrainingModule


R = TypeVar("R", bound=Recipe, contravariant=True)


class Method(Protocol[R]):
    """What training and prediction need to know of a method.

    Attributes:
        paper: File with what the paper reports, see `ssad_models.papers`.
    """

    paper: Path

    def beside(self, recipe: R, metric: str) -> Beside:
        """What of the paper stands beside a metric of what a recipe trains."""

    def previews(self, recipe: R) -> Previews:
        """What training makes of images, to be looked at."""

    def module(self, recipe: R, seed: int) -> TrainingModule:
        """A Lightning module with fresh weights, a function of recipe and seed.

        Raises:
            RecipeError: If the recipe asks for what the method cannot do.
        """

    def fit(
        self,
        module: TrainingModule,
        images: torch.Tensor,
        learned: torch.Tensor,
        unseen: torch.Tensor,
        recipe: R,
    ) -> nn.Module:
        """Make a detector of a trained module, on its device.

        Args:
            module: What was trained.
            images: (N, C, S, S) uint8 normal images, more than are used; there may be no room for
                a copy.
            learned: (K,) int64 rows of those that it was trained on.
            unseen: (M,) int64 rows of those that it was not trained on; M is 0 where
                `checked_share` is.
            recipe: What it was trained by.

        Returns:
            A module in evaluation mode: (N, C, S, S) uint8 or float 0..1 -> (N,) float32, higher is
            more anomalous; with `score_and_heat`: the same images -> the scores and heat maps
            (N, 1, S, S) float32.
        """

    def blank(self, recipe: R) -> nn.Module:
        """A detector without weights, to load the state of a fitted one into."""

    def checked_share(self, recipe: R) -> float:
        """Share of the training images that `fit` wants to be `unseen`, 0..1."""


METHODS: dict[str, Method[Any]] = {
    "anoseg": AnosegMethod(),
    "cutpaste": CutPasteMethod(),
    "cutpaste-patch": CutPastePatchMethod(),
    "nsa": NsaMethod(),
    "fpi": NsaMethod(),
    "pii": NsaMethod(),
    "ssm": SsmMethod(),
}


def summary(name: str) -> str:
    """What a method is and what it is weak at, from `summary.yaml` beside its paper.

    Args:
        name: A key of `METHODS`.

    Returns:
        A paragraph; nothing if there is none about it.
    """
    path = METHODS[name].paper.with_name("summary.yaml")
    texts = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return str(texts.get(name, "")).strip()
