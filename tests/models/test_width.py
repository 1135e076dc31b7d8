# SPDX-License-Identifier: Apache-2.0
"""Networks of other widths than published, and trainings of other lengths."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("lightning")
pytest.importorskip("torchvision")

import torch
import torchvision

from ssad_models.backbones import make_backbone
from ssad_models.cutpaste.recipe import CutPasteRecipe, Stage
from ssad_models.methods import METHODS
from ssad_models.model_file import Meta, Model, load, save
from ssad_models.nsa.network import resnet18_body
from ssad_models.nsa.wide_resnet import wide_resnet_body
from ssad_models.recipe import BUILT_IN, RecipeError, load_recipe
from ssad_models.resnets import Trunk, resnet18
from ssad_models.settings import Recipe, shared_out
from ssad_models.widths import scaled

# Small enough to train nothing in no time; the backbones are random.
OF_SCRATCH = ["cutpaste", "cutpaste-patch", "cutpaste-patch-builtin", "nsa-builtin", "fpi-wrn"]


def of_brick(name: str, *overrides: str) -> Recipe:
    return load_recipe(name, overrides).for_category("brick")


def test_channels_are_multiples_of_eight() -> None:
    assert [scaled(c, 0.25) for c in (16, 32, 64, 88, 512)] == [8, 8, 16, 24, 128]
    assert [scaled(64, w) for w in (0.001, 0.3, 1, 1.05, 2)] == [8, 16, 64, 64, 128]


def test_blocks_are_put_together_as_torchvision_does() -> None:
    theirs, ours = torchvision.models.resnet18(weights=None).eval(), Trunk(1.0).eval()
    state = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    ours.load_state_dict(state, strict=True)
    images = torch.rand(2, 3, 64, 64)
    maps = images
    for child in ours.children():
        maps = child(maps)
    expected = theirs(images)
    torch.testing.assert_close(theirs.fc(maps.mean((2, 3))), expected)
    assert type(resnet18()) is type(theirs)
    drawn = Trunk(0.5).layer2[0].conv1.weight.detach()
    assert drawn.shape == (64, 32, 3, 3)
    assert float(drawn.std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)  # fan-out


def test_bodies_of_nsa() -> None:
    for body, convolutions in ((resnet18_body, 20), (wide_resnet_body, 21)):
        counts, images = [], torch.rand(2, 3, 64, 64)
        for width in (0.25, 1.0):
            network = body(3, width=width)
            layers = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
            assert len(layers) >= convolutions
            counts.append(sum(p.numel() for p in network.parameters()))
            with torch.no_grad():
                assert network.eval()(images).shape == (2, 1, 64, 64)
        assert 14 < counts[1] / counts[0] < 17  # the square of the width, and roundings


@pytest.mark.parametrize("name", ["resnet18", "resnet18-small", "patch-resnet128"])
def test_backbones_of_cutpaste(name: str) -> None:
    narrow, full = make_backbone(name, width=0.25).eval(), make_backbone(name).eval()
    assert narrow.channels == full.channels // 4
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert narrow(images).shape[2:] == full(images).shape[2:]


@pytest.mark.parametrize("name", OF_SCRATCH)
def test_a_narrow_detector_survives_a_file(name: str, tmp_path: Path) -> None:
    recipe = of_brick(name, "network_width=0.25")
    assert recipe.title.endswith(", width 0.25")
    method = METHODS[recipe.method]
    blank = method.blank(recipe)
    path = tmp_path / "model.pt"
    save(path, Model(blank, None, recipe.to_dict(), Meta("brick", (8, 8), 0)))
    state = load(path).detector.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in blank.state_dict().items())
    full = method.module(of_brick(name), 0)
    narrow = method.module(recipe, 0)
    shapes = ({k: v.dim() for k, v in m.state_dict().items()} for m in (full, narrow))
    assert next(shapes) == next(shapes)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("cutpaste-lite0", (), "`network_width` of lite0 must be 1, got 0.5"),
        ("cutpaste", ("backbone=efficientnet_b0",), "of efficientnet_b0 must be 1, got 0.5"),
        ("cutpaste", ("backbone=resnet50",), "`network_width` of resnet50 must be 1"),
        ("cutpaste", ("weights=x.pth",), "of resnet18 with given weights must be 1, got 0.5"),
    ],
)
def test_networks_that_have_one_width(name: str, overrides: tuple[str, ...], message: str) -> None:
    recipe = of_brick(name, *overrides, "network_width=0.5")
    with pytest.raises(RecipeError, match=message):
        METHODS[recipe.method].module(recipe, 0)


@pytest.mark.parametrize("value", ["0", "2.1", "true", "wide"])
def test_widths_there_are_not(value: str) -> None:
    with pytest.raises(RecipeError, match=r"`network_width` must be a number 0\.001 to 2"):
        load_recipe("nsa", [f"network_width={value}"])


def test_files_of_before_there_were_widths(tmp_path: Path) -> None:
    recipe = of_brick("nsa-builtin")
    values = recipe.to_dict()
    assert values.pop("network_width") == 1
    blank = METHODS["nsa"].blank(recipe)
    save(tmp_path / "old.pt", Model(blank, None, values, Meta("brick", (8, 8), 0)))
    assert load(tmp_path / "old.pt").detector.state_dict().keys() == blank.state_dict().keys()


@pytest.mark.parametrize("name", sorted(path.stem for path in BUILT_IN.glob("*.yaml")))
@pytest.mark.parametrize("steps", [2, 37, 1000])
def test_lengths(name: str, steps: int) -> None:
    recipe = load_recipe(name).for_steps(steps, images=40)
    plan = recipe.plan(40)
    # Where passes are counted, each training has one at least.
    names = [field.name for field in dataclasses.fields(recipe)]
    trainings = sum(name.endswith("epochs") and getattr(recipe, name) > 0 for name in names)
    assert steps <= plan.steps < steps + max(1, trainings * plan.steps_per_epoch)
    assert plan.steps_per_epoch <= plan.steps
    assert recipe.for_steps(steps, 40) == recipe


def test_parts_add_up() -> None:
    assert shared_out(20, [60, 30]) == [13, 7]
    assert shared_out(4, [1, 1000, 1]) == [1, 2, 1]
    assert shared_out(1, [5, 5]) == [1, 1]


def test_stages_keep_their_shares() -> None:
    stages = "stages=[{train: head, steps: 20, lr: 1}, {train: all, steps: 60, lr: 2}]"
    recipe = load_recipe("cutpaste", [stages])
    assert isinstance(recipe, CutPasteRecipe)
    assert recipe.for_steps(10, 5).stages == (Stage("head", 2, 1.0), Stage("all", 8, 2.0))
    assert recipe.for_steps(1, 5).stages == (Stage("head", 1, 1.0), Stage("all", 1, 2.0))
