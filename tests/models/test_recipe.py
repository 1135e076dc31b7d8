# SPDX-License-Identifier: Apache-2.0
"""Recipes: the ones that come along, overrides, bases, and every mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("yaml")

from ssad_models import recipe
from ssad_models.cutpaste.recipe import Stage
from ssad_models.recipe import RecipeError, load_recipe, recipe_of

NAMES = tuple(sorted(path.stem for path in recipe.BUILT_IN.glob("*.yaml")))


@pytest.mark.parametrize("name", NAMES)
def test_recipes_survive_a_checkpoint(name: str) -> None:
    loaded = load_recipe(name)
    assert recipe_of(json.loads(json.dumps(loaded.to_dict()))) == loaded


def test_the_schedule_of_the_paper() -> None:
    paper = load_recipe("cutpaste")
    assert paper.stages == (Stage("all", 65536, 0.03),)
    assert (paper.optimizer, paper.momentum, paper.weight_decay) == ("sgd", 0.9, 3e-5)
    assert (paper.size, paper.batch, paper.steps_per_epoch, paper.proxy) == (256, 32, 256, "3way")
    assert paper.head == (512,) * 8 + (128,)
    transfer = load_recipe("cutpaste-b4")
    assert transfer.stages == (Stage("head", 2560, 0.03), Stage("all", 16384, 1e-4))
    assert transfer.freeze_batch_norm
    assert transfer.steps == 18944
    assert transfer.momentum == paper.momentum  # from its base


def test_overrides_are_yaml() -> None:
    changed = load_recipe(
        "cutpaste", ["size=128", "crop=64", "shift=1e-2", "stages=[{train: all, steps: 2, lr: 1}]"]
    )
    assert (changed.size, changed.crop, changed.shift) == (128, 64, 0.01)
    assert changed.stages == (Stage("all", 2, 1.0),)


def test_categories_have_settings_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: cutpaste\ncategories:\n  'a <b>': {size: 64}\n", encoding="utf-8")
    loaded = load_recipe(path)
    assert loaded.for_category("a <b>").size == 64
    assert loaded.for_category("a <b>").categories == {}
    assert loaded.for_category("screw").size == 256


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sise=3", "`sise` is not a setting; did you mean `size`?"),
        ("zzz=3", "`zzz` is not a setting; there are method, size"),
        ("size=12", "`size` must be a whole number 32 to 4096, got 12"),
        ("size=true", "`size` must be a whole number 32 to 4096, got True"),
        ("channels=true", "`channels` must be one of 1, 3, got True"),
        ("channels=2", "`channels` must be one of 1, 3, got 2"),
        ("proxy=mosaic", "`proxy` must be one of 3way, cutpaste, cutpaste-scar"),
        ("shift=nan", "`shift` must be a number 0 to 0.5, got 'nan'"),
        ("shift=[1]", "`shift` must be a number 0 to 0.5"),
        ("freeze_batch_norm=1", "`freeze_batch_norm` must be true or false, got 1"),
        ("weights=3", "`weights` must be null, package or the name of a file, got 3"),
        ("head=[]", "`head` must be a list of widths, at least one"),
        ("stages=[]", "`stages` must be a list of stages"),
        ("stages=[3]", "`stages` must be a list of stages"),
        ("stages=[{train: all, steps: 0, lr: 1}]", "`steps` must be a whole number"),
        ("stages=[{train: all, lr: 1}]", "`steps` is missing"),
        ("crop=300", "`crop` must be at most `size`, 256, got 300"),
        ("categories=[a]", "`categories` must be a mapping"),
        ("categories={screw: {siz: 64}}", "category 'screw': `siz` is not a setting"),
        ("size", "a setting must have the form key=value, got 'size'"),
        ("size=[", "setting 'size=[', line 1: must be YAML"),
    ],
)
def test_mistakes_are_named(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe("cutpaste", [override])
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"one of .*, cutpaste, cutpaste-b4, .*, got nope"):
        load_recipe("nope")
    with pytest.raises(
        RecipeError, match=r"got cutpaste-pach \(.*\); did you mean `cutpaste-patch`\?"
    ):
        load_recipe("cutpaste-pach")
    path = tmp_path / "r.yaml"
    path.write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"r\.yaml: a recipe must be a mapping.*got list"):
        load_recipe(path)
    path.write_text("size: 64\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"r\.yaml: `method` is missing; set it, or"):
        load_recipe(path)
    path.write_text(f"base: {path}\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="must not lead back"):
        load_recipe(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="not a text file"):
        load_recipe(path)
    path.write_text("size: !!python/object/apply:os.system ['false']\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="must be YAML"):
        load_recipe(path)


def test_every_method_is_there() -> None:
    methods = pytest.importorskip("ssad_models.methods")
    assert set(methods.METHODS) == set(recipe.METHODS)
