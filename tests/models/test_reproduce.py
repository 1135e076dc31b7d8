# SPDX-License-Identifier: Apache-2.0
"""All categories and seeds, interrupted and resumed, beside the paper's figures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning")
pytest.importorskip("typer")

import torch
import yaml
from fake_data import make_mvtec
from made_up import made_up
from typer.testing import CliRunner

from ssad_models import reproduce
from ssad_models.commands import app
from ssad_models.cutpaste.module import CutPasteModule
from ssad_models.evaluate import evaluate
from ssad_models.methods import METHODS
from ssad_models.papers import Figure, Paper
from ssad_models.recipe import load_recipe
from ssad_models.report import Run
from ssad_models.reproduce import compare

TINY = [
    *("--set", "size=32", "--set", "head=[8]", "--set", "batch=4", "--set", "steps_per_epoch=2"),
    *("--set", "stages=[{train: all, steps: 2, lr: 0.01}]", "--seeds", "0,1"),
]


CUTPASTE = Paper.read(METHODS["cutpaste"].paper).tables["auroc"]


def test_interrupted_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_mvtec(tmp_path / "data", categories=("bottle", "carpet", "a 'b'"), train=12, test=3)
    arguments = ["reproduce", "cutpaste", "--data", str(data), *TINY, "--out", str(tmp_path / "o")]
    train, trained = reproduce.train, list[str]()

    def stopping(*args: Any, **options: Any) -> Path:
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(args[1].name)
        return train(*args, **options)

    monkeypatch.setattr(reproduce, "train", stopping)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 130
    assert "ssadk reproduce: interrupted; the same command takes" in result.output
    models = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model.pt")}
    assert len(models) == 3
    results = json.loads((tmp_path / "o/results.json").read_text())
    assert [one["category"] for one in results] == ["a 'b'", "a 'b'", "bottle"]
    assert "the paper&#39;s 5" in (tmp_path / "o/report.html").read_text(encoding="utf-8")

    monkeypatch.setattr(reproduce, "train", train)
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    assert len(list(tmp_path.rglob("model.pt"))) == 6
    assert {path: path.stat().st_mtime_ns for path in models} == models
    lines = [line.split() for line in result.output.splitlines()]
    assert ["category", "ours", "diff.", "Rot.", "Cutout", "Scar"] in [line[:6] for line in lines]
    (row,) = [line for line in lines if line[:1] == ["bottle"] and len(line) == 10]
    assert row[3:] == ["95.0", "88.7", "98.5", "99.2", "98.0", "98.3", "98.2"]
    results = json.loads((tmp_path / "o/results.json").read_text())
    assert [(one["category"], one["seed"]) for one in results] == [
        (category, seed) for category in ("a 'b'", "bottle", "carpet") for seed in (0, 1)
    ]
    ours = [
        100 * one["evaluation"]["metrics"]["auroc"]["value"]
        for one in results
        if one["category"] == "bottle"
    ]
    assert row[1] == str(Figure.over(ours))
    assert row[2] == f"{sum(ours) / 2 - 98.3:+.1f}"
    assert len(list(tmp_path.rglob("report.html"))) == 7
    page = (tmp_path / "o/report.html").read_text(encoding="utf-8")
    assert "98.3±0.5" in page


def test_other_settings_do_not_mix(tmp_path: Path) -> None:
    data = make_mvtec(tmp_path / "data", categories=("bottle",), train=12, test=3)
    arguments = ["reproduce", "cutpaste", "--data", str(data), *TINY, "--out", str(tmp_path / "o")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    result = CliRunner().invoke(app, [*arguments, "--set", "jitter=0"])
    assert result.exit_code == 1
    assert "jitter" in result.output


def test_interrupted_in_the_middle_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_mvtec(tmp_path / "data", categories=("bottle",), train=12, test=3)
    longer = [*TINY, "--set", "stages=[{train: all, steps: 6, lr: 0.01}]", "--seeds", "0"]
    arguments = ["reproduce", "cutpaste", "--data", str(data), *longer]
    train, step = reproduce.train, CutPasteModule.training_step
    steps: list[int] = []

    def saving(*args: Any, **options: Any) -> Path:
        return train(*args, **options, save_seconds=0)

    def stopping(self: CutPasteModule, batch: Any, index: int) -> torch.Tensor:
        steps.append(self.step)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return step(self, batch, index)

    monkeypatch.setattr(reproduce, "train", saving)
    assert CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "whole")]).exit_code == 0
    monkeypatch.setattr(CutPasteModule, "training_step", stopping)
    for code in (130, 0):
        result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "o")])
        assert result.exit_code == code, result.output
    assert steps == [0, 1, 2, 3, 2, 3, 4, 5]
    one, other = (
        torch.load(tmp_path / out / "bottle/seed0/model.pt", weights_only=True)["state"]
        for out in ("whole", "o")
    )
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_damaged_category_leaves_the_others(tmp_path: Path) -> None:
    data = make_mvtec(tmp_path / "data", categories=("a", "b", "c"), train=12, test=3)
    (data / "a/train/good/003.png").write_bytes(b"no image")
    (data / "b/test/hole/001.png").write_bytes(b"no image")
    arguments = ["reproduce", "cutpaste", "--data", str(data), *TINY, "--out", str(tmp_path / "o")]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "1000"})
    assert result.exit_code == 1
    (message,) = [line for line in result.output.splitlines() if line.startswith("ssadk")]
    assert "2 of 3 categories could not be used" in message
    assert "003.png" in message
    assert "001.png" in message
    results = json.loads((tmp_path / "o/results.json").read_text())
    assert [(one["category"], one["seed"]) for one in results] == [("c", 0), ("c", 1)]


def test_test_images_are_looked_for_before_training(tmp_path: Path) -> None:
    data = make_mvtec(tmp_path / "data", categories=("a", "b"), train=12, test=1)
    shutil.rmtree(data / "b/test")
    arguments = ["reproduce", "cutpaste", "--data", str(data), *TINY, "--out", str(tmp_path / "o")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "each category must have test images, got none of b" in result.output
    assert not (tmp_path / "o").exists()


def test_other_test_images_are_evaluated_and_nothing_is_held_out(tmp_path: Path) -> None:
    data = make_mvtec(tmp_path / "data", categories=("bottle",), train=44, test=3)
    arguments = ["reproduce", "cutpaste", "--data", str(data), *TINY, "--out", str(tmp_path / "o")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    run = tmp_path / "o/bottle/seed0"
    assert json.loads((run / "run.json").read_text())["parts"]["learn"] == 44
    times = [(run / name).stat().st_mtime_ns for name in ("model.pt", "evaluation.json")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert times == [(run / name).stat().st_mtime_ns for name in ("model.pt", "evaluation.json")]
    (data / "bottle/test/good/002.png").unlink()
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert (run / "model.pt").stat().st_mtime_ns == times[0]
    for one in json.loads((tmp_path / "o/results.json").read_text()):
        assert one["evaluation"]["normal"] == 2


@pytest.mark.parametrize("method", ["cutpaste", "nsa"])
def test_transcribed_figures_give_the_printed_averages(method: str) -> None:
    """A typing error in a cell would show in a mean over textures or objects."""
    path = METHODS[method].paper
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    paper = Paper.read(path)
    for metric, table in paper.tables.items():
        categories = list(content["tables"][metric]["rows"])
        assert len(categories) == 15
        groups = {
            "texture": list(paper.textures),
            "object": [c for c in categories if c not in paper.textures],
            "all": categories,
        }
        for group, members in groups.items():
            printed = content["tables"][metric]["averages"][group]
            for key, average in zip(table.columns, printed, strict=True):
                mean = table.mean(key, members)
                assert mean is not None
                assert mean.mean == pytest.approx(average, abs=0.11), (metric, group, key)


ALL = "stages=[{train: all, steps: 1, lr: 0.1}]"
HEAD = "stages=[{train: head, steps: 1, lr: 0.1}]"


@pytest.mark.parametrize(
    ("recipe", "overrides", "column"),
    [
        ("cutpaste", [], "3-way"),
        ("cutpaste", ["proxy=scar"], "Scar"),
        ("cutpaste", ["proxy=cutpaste-scar"], "CP-Scar"),
        ("cutpaste", ["proxy=rotation"], "Rot."),
        ("cutpaste", ["proxy=cutout"], "Cutout"),
        ("cutpaste", ["proxy=cutpaste"], "CutPaste"),
        ("cutpaste", ["proxy=confetti"], None),
        ("cutpaste", ["proxy=union"], None),
        ("cutpaste", ["weights=resnet18.pth"], None),
        ("cutpaste", ["weights=random", HEAD], None),
        ("cutpaste", ["score=density+head"], None),
        ("cutpaste", ["backbone=resnet50"], None),
        ("cutpaste-b4", ["weights=b4.pth"], "B4 level 7"),
        ("cutpaste-b4", ["weights=b4.pth", "features=pooled"], "B4 pooled"),
        ("cutpaste-b4", ["weights=b4.pth", "proxy=scar"], None),
        ("cutpaste-b4", [ALL], None),
        ("cutpaste-lite0", [], None),
    ],
)
def test_column_of_a_recipe(recipe: str, overrides: list[str], column: str | None) -> None:
    method = METHODS["cutpaste"]
    key = method.beside(load_recipe(recipe, overrides), "auroc").match
    titles = Paper.read(method.paper).tables["auroc"].titles
    assert (None if key is None else titles[key]) == column


def runs_of(categories: Sequence[str], seeds: int) -> list[Run]:
    """Runs that get every pixel right, and every image."""
    test = made_up(["good"] * 4 + ["hole"] * 4)
    assert test.masks is not None
    perfect = evaluate(test, test.labels.float(), test.masks.float(), resamples=2)
    return [Run("m", c, perfect, seed) for c in categories for seed in range(seeds)]


def test_a_model_that_the_paper_has_not_is_not_compared() -> None:
    runs = runs_of(["bottle", "carpet"], 2)
    image, pixel = compare(runs, load_recipe("cutpaste-lite0"))
    for table in (image, pixel):
        assert "diff." not in table.headings
        assert "No difference, as the paper has no such model" in table.note
        assert all(len(row) == len(table.headings) for row in table.rows)
    assert image.rows[0] == ["bottle", "100.0±0.0", "95.0±0.7", *image.rows[0][3:]]


def test_pixels_are_compared_with_gradcam() -> None:
    categories = list(CUTPASTE.columns["3way"])
    runs = runs_of(categories, 2)
    _, pixel = compare(runs, load_recipe("cutpaste"))
    assert pixel.headings == ("category", "ours", "diff.", "GradCAM", "Patches")
    by_name = {row[0]: tuple(row[1:]) for row in pixel.rows}
    assert by_name["all"] == ("100.0±0.0", "+11.7", "88.3", "96.0")
    assert by_name["bottle"] == ("100.0±0.0", "", "-", "97.6±0.1")
    _, pixel = compare(runs[:-2], load_recipe("cutpaste"))
    assert pixel.rows[-1][2:4] == ["", "-"]


def test_seeds_that_not_all_categories_have() -> None:
    runs = [*runs_of(["bottle"], 3), *runs_of(["carpet"], 1)]
    image, _ = compare(runs, load_recipe("cutpaste"))
    assert [tuple(row[:2]) for row in image.rows] == [
        *(("bottle", "100.0±0.0"), ("carpet", "100.0"), ("textures", "100.0")),
        *(("objects", "100.0±0.0"), ("all", "100.0")),
    ]
    assert "ours 1 to 3" in image.note


def test_figures() -> None:
    assert str(Figure.over([90.0])) == "90.0"
    assert str(Figure.over([90.0, 92.0])) == "91.0±1.0"
    assert str(Figure.over([90.0, 92.0], "deviation")) == "91.0±1.4"
    assert str(CUTPASTE.mean("3way", ["screw"])) == "86.3±1.0"
    assert CUTPASTE.mean("3way", ["screw", "my own"]) is None
