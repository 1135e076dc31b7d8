# SPDX-License-Identifier: Apache-2.0
"""One step of training, as Lightning would take it: images, batch, loss, gradients, new weights."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ssad_kernels import make_keys
from ssad_models.methods import METHODS
from ssad_models.recipe import load_recipe
from ssad_models.settings import Recipe


def make_module(recipe: Recipe) -> Any:
    """A module of a recipe that trains without a trainer, and logs nothing."""
    module = METHODS[recipe.method].module(recipe, 0).train()
    module.log = lambda *args: None
    return module


def make_recipe(name: str, *overrides: str, category: str | None = None) -> Recipe:
    """A built-in recipe with other settings, of a category."""
    recipe = load_recipe(name, list(overrides))
    return recipe if category is None else recipe.for_category(category)


def loss_of(module: Any, images: Tensor, samples: Tensor) -> Tensor:
    """Augment a batch and measure the network by it."""
    loss: Tensor = module.training_step(module.synthesize(images, make_keys(3, 0, samples)), 0)
    return loss


def take_step(module: Any, images: Tensor, samples: Tensor) -> Tensor:
    """The loss before the step."""
    plan = module.configure_optimizers()
    loss = loss_of(module, images, samples)
    loss.backward()
    plan["optimizer"].step()
    return loss.detach()
