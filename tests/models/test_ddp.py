# SPDX-License-Identifier: Apache-2.0
"""Two processes learn what one learns that adds up the gradients of the same two halves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("torchvision")

from fake_data import make_mvtec
from training_steps import make_module

from ssad_kernels import make_keys
from ssad_models.data.loader import Batches
from ssad_models.data.sources import find
from ssad_models.recipe import Recipe, load_recipe
from ssad_models.run_files import CHECKPOINT

CHILD = Path(__file__).with_name("ddp_child.py")
NSA = ["size=64", "crop=64", "batch=4", "epochs=3", "held_out=0"]
# An adversary makes rounding grow from step to step, so there are few, and small ones.
ANOSEG = [
    *("size=64", "network_width=0.05", "batch=8", "epochs=2", "detector_epochs=0", "held_out=0"),
    *("clip=1.0", "lr=1.0e-5"),
]


def halves(recipe: Recipe, images: torch.Tensor, module: Any, seed: int) -> Any:
    """The training batches of both processes, step by step."""
    plan = recipe.plan(len(images))
    module.steps_per_epoch = plan.steps_per_epoch
    batches = Batches(len(images), recipe.batch, plan.steps_per_epoch, seed)
    for _ in range(plan.steps // plan.steps_per_epoch):
        for entries in batches:
            both = []
            for rank in range(2):
                passes, samples = torch.tensor(entries[rank::2]).unbind(1)
                keys = make_keys(seed, 0, samples)
                keys[:, 1] = passes
                both.append(module.synthesize(images[samples], keys))
            yield both


def accumulate_nsa(recipe: Recipe, images: torch.Tensor) -> dict[str, torch.Tensor]:
    module = make_module(recipe)
    plan = module.configure_optimizers()
    optimizer, schedule = plan["optimizer"], plan["lr_scheduler"]["scheduler"]
    for both in halves(recipe, images, module, 0):
        optimizer.zero_grad()
        for batch in both:
            (module.training_step(batch, 0) / 2).backward()
        optimizer.step()
        schedule.step()
        module.first_step += 1
    return dict(module.named_parameters())


def accumulate_anoseg(recipe: Recipe, images: torch.Tensor) -> dict[str, torch.Tensor]:
    module = make_module(recipe)
    optimizers = dict(zip(module.names, module.configure_optimizers(), strict=True))
    for both in halves(recipe, images, module, 0):
        turns = [module.losses(x.float() / 255, maps.float()) for x, maps in both]
        for (name, one), (_, other) in zip(*turns, strict=True):
            optimizers[name].param_groups[0]["lr"] = module.rate_at(module.step)
            optimizers[name].zero_grad()
            ((one + other) / 2).backward()
            network = getattr(module, name)
            torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)  # type: ignore[attr-defined]
            optimizers[name].step()
        module.first_step += 1
    return dict(module.named_parameters())


@pytest.mark.parametrize(
    ("name", "settings", "accumulate"),
    [
        ("nsa-builtin", NSA, accumulate_nsa),
        ("anoseg-builtin", ANOSEG, accumulate_anoseg),
    ],
)
def test_two_processes(name: str, settings: list[str], accumulate: Any, tmp_path: Path) -> None:
    data, out = make_mvtec(tmp_path / "data", ("nut",), train=16, test=1), tmp_path / "out"
    command = [sys.executable, str(CHILD), str(data), str(out), name, *settings]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    recipe = load_recipe(name, settings)
    images = find(data)[0].train(recipe.size, recipe.channels).images
    alone = accumulate(recipe, images)
    together = torch.load(out / CHECKPOINT, weights_only=True)["state_dict"]
    begun = dict(make_module(recipe).named_parameters())
    for weight, expected in alone.items():
        # What the steps have changed is what is compared; Adam enlarges rounding where gradients
        # are next to nothing.
        moved = (expected - begun[weight]).norm()
        assert moved > 0, weight
        assert (together[weight] - expected).norm() <= 0.05 * moved, weight
