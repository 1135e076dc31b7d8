# SPDX-License-Identifier: Apache-2.0
"""Methods that map anomalies, in the full demonstration: NSA, and CutPaste on patches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from ssad_models.methods import METHODS
from ssad_models.settings import Recipe
from ssad_models.trainer import fit_quietly, loader_of


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
    recipe: Recipe,
    train: torch.Tensor,
    test: torch.Tensor,
    seed: int,
    device: str,
    advance: Callable[[], None],
) -> Found:
    """Train on normal tiles from scratch, and look at test tiles.

    Args:
        recipe: What, and for how long.
        train: (M, C, S, S) uint8.
        test: (N, C, S, S) uint8.
        seed: Of weights, order and patches.
        device: "cpu" or "cuda".
        advance: Called after every step.
    """
    train, test = (tiles.expand(-1, 3, -1, -1) for tiles in (train, test))
    train, rows = train.contiguous(), torch.arange(len(train))
    method = METHODS[recipe.method]
    module = method.module(recipe, seed)
    loader, steps = loader_of(module, recipe, train, rows, seed=seed, workers=0)
    losses: list[float] = []

    def step() -> None:
        losses.append(float(module.trainer.callback_metrics["train/loss"]))
        advance()

    fit_quietly(module, loader, steps, device, step)
    detector: Any = method.fit(module.to(device), train, rows, rows[:0], recipe)
    parts = [detector.score_and_heat(part.to(device)) for part in test.split(16)]
    scores, maps = (torch.cat(each).cpu() for each in zip(*parts, strict=True))
    return Found(scores, maps, losses)
