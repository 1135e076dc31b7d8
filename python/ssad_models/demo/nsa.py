# SPDX-License-Identifier: Apache-2.0
"""NSA in the full demonstration."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import torch

from ssad_models.data.loader import training_loader
from ssad_models.nsa.method import NsaMethod
from ssad_models.nsa.recipe import NsaRecipe
from ssad_models.recipe import load_recipe
from ssad_models.trainer import fit_quietly

RECIPE = "nsa-builtin"


class Found(NamedTuple):
    """What came of a training.

    Attributes:
        scores: (N,) of the test tiles.
        maps: (N, 1, S, S) heat maps of them.
        losses: One per step.
    """

    scores: torch.Tensor
    maps: torch.Tensor
    losses: list[float]


def train_and_score(
    train: torch.Tensor,
    test: torch.Tensor,
    steps: int,
    seed: int,
    device: str,
    advance: Callable[[], None],
) -> Found:
    """Train on normal tiles from scratch, and look at test tiles.

    Args:
        train: (M, C, S, S) uint8.
        test: (N, C, S, S) uint8.
        steps: Updates, rounded up to whole passes.
        seed: Of weights, order and patches.
        device: "cpu" or "cuda".
        advance: Called after every step.
    """
    train, test = (tiles.expand(-1, 3, -1, -1) for tiles in (train, test))
    recipe = cast(NsaRecipe, load_recipe(RECIPE))
    epochs = -(-steps // recipe.plan(len(train)).steps_per_epoch)
    recipe = cast(NsaRecipe, load_recipe(RECIPE, [f"epochs={epochs}"]))
    plan, method = recipe.plan(len(train)), NsaMethod()
    module = method.module(recipe, seed)
    module.steps_per_epoch = plan.steps_per_epoch
    loader = training_loader(
        train.contiguous(),
        module.synthesize,
        batch_size=recipe.batch,
        steps_per_epoch=None,
        seed=seed,
        workers=0,
    )
    losses: list[float] = []

    def step() -> None:
        losses.append(float(module.trainer.callback_metrics["train/loss"]))
        advance()

    fit_quietly(module, loader, plan.steps, device, step)
    rows = torch.arange(len(train))
    detector = method.fit(module.to(device), train, rows, rows[:0], recipe)
    parts = [detector.score_and_heat(part.to(device)) for part in test.split(16)]
    scores, maps = (torch.cat(each).cpu() for each in zip(*parts, strict=True))
    return Found(scores, maps, losses)
