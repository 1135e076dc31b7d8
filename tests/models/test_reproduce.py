# SPDX-License-Identifier: Apache-2.0
"""All categories and seeds, interrupted and resumed, beside the paper's figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning")
pytest.importorskip("typer")

import yaml
from fake_data import make_mvtec
from typer.testing import CliRunner

from ssad_models import reproduce
from ssad_models.commands import app
from ssad_models.recipe import load_recipe
from ssad_models.reproduce import PAPERS, Figure, Paper

TINY = [
    *("--set", "size=32", "--set", "head=[8]", "--set", "batch=4", "--set", "steps_per_epoch=2"),
    *("--set", "stages=[{train: all, steps: 2, lr: 0.01}]", "--seeds", "0,1"),
]


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
    assert not (tmp_path / "o/report.html").exists()

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


def test_transcribed_figures_give_the_printed_averages() -> None:
    """A typing error in a cell would show in a mean over textures or objects."""
    content = yaml.safe_load(PAPERS["cutpaste"].read_text(encoding="utf-8"))
    paper = Paper.read(PAPERS["cutpaste"])
    categories = list(content["rows"])
    assert len(categories) == 15
    groups = {
        "texture": list(paper.textures),
        "object": [c for c in categories if c not in paper.textures],
        "all": categories,
    }
    for group, members in groups.items():
        for key, printed in zip(paper.columns, content["averages"][group], strict=True):
            mean = paper.mean(key, members)
            assert mean is not None
            assert mean.mean == pytest.approx(printed, abs=0.11), (group, key)


@pytest.mark.parametrize(
    ("recipe", "overrides", "column"),
    [
        ("cutpaste", [], "3way"),
        ("cutpaste", ["proxy=scar"], "scar"),
        ("cutpaste", ["proxy=confetti"], None),
        ("cutpaste-b4", [], "b4_level7"),
        ("cutpaste-b4", ["features=pooled"], "b4_pooled"),
    ],
)
def test_column_of_a_recipe(recipe: str, overrides: list[str], column: str | None) -> None:
    assert Paper.read(PAPERS["cutpaste"]).column_of(load_recipe(recipe, overrides)) == column


def test_figures() -> None:
    assert str(Figure.over([90.0])) == "90.0"
    assert str(Figure.over([90.0, 92.0])) == "91.0±1.0"
    paper = Paper.read(PAPERS["cutpaste"])
    assert str(paper.mean("3way", ["screw"])) == "86.3±1.0"
    assert paper.mean("3way", ["screw", "my own"]) is None
