# SPDX-License-Identifier: Apache-2.0
"""NSA from the command line: settings from images, then from training to export and the paper."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lightning")
pytest.importorskip("typer")

import numpy as np
import torch
from fake_data import make_mvtec, save
from made_up import made_up
from typer.testing import CliRunner

from ssad_models.commands import app
from ssad_models.evaluate import evaluate
from ssad_models.nsa import calibrate
from ssad_models.nsa.recipe import NsaRecipe
from ssad_models.recipe import load_recipe
from ssad_models.report import Run
from ssad_models.reproduce import compare

TINY = ("--recipe", "nsa-builtin", "--set", "size=64", "--set", "crop=64", "--set", "epochs=1")


def ssadk(*arguments: object, code: int = 0) -> str:
    """Run a command and return what it printed, on lines as wide as need be."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "1000"})
    assert result.exit_code == code, result.output
    return result.output


def objects(count: int, size: int, height: float, width: float) -> torch.Tensor:
    """Bright noisy rectangles in the middle of a dark background, (count, 3, size, size)."""
    generator = torch.Generator().manual_seed(0)
    images = torch.normal(20.0, 3.0, (count, 3, size, size), generator=generator)
    top, left = round(size * (1 - height) / 2), round(size * (1 - width) / 2)
    inside = images[:, :, top : size - top, left : size - left]
    inside += 130 + torch.normal(0.0, 20.0, inside.shape, generator=generator)
    return images.clamp(0, 255).to(torch.uint8)


def general(*overrides: str) -> NsaRecipe:
    found = load_recipe("nsa-builtin", overrides)
    assert isinstance(found, NsaRecipe)
    return found


def test_objects_are_measured() -> None:
    images = objects(8, 96, height=0.3, width=0.8)
    found = calibrate.find_background(images)
    assert found is not None
    assert found.grey == pytest.approx(20, abs=2)
    assert 20 < found.tolerance < 120
    settings = calibrate.calibrate_patches(images, general("size=96", "crop=96"))
    assert settings["height"] == [0.03, pytest.approx(2 / 3 * 0.3, abs=0.02)]
    assert settings["width"] == [0.03, 0.4]  # no more than that
    assert (settings["patches"], settings["object_share"]) == (3, 0.5)
    assert (settings["background"], settings["gradient"]) == (list(found), "source")
    small = calibrate.calibrate_patches(objects(8, 96, 0.1, 0.1), general("size=96", "crop=96"))
    assert small["height"] == [0.03, 0.125]


def test_textures_have_no_background() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8, 1, 96, 96), generator=generator, dtype=torch.uint8)
    assert calibrate.find_background(images) is None
    settings = calibrate.calibrate_patches(images, general("size=100", "crop=64"))
    assert (settings["background"], settings["crop"], settings["margin"]) == (None, 96, None)
    assert (settings["patches"], settings["gradient"]) == (4, "mixed")
    assert calibrate.find_background(torch.full((2, 3, 64, 64), 7, dtype=torch.uint8)) is None


def test_labels_are_scaled_by_what_patches_change() -> None:
    images = objects(6, 64, 0.6, 0.6)
    settings = calibrate.calibrate(images, general("size=64", "crop=64"))
    steepness, midpoint = settings["steepness"], settings["midpoint"]
    assert 1 / (1 + math.exp(steepness * midpoint)) == pytest.approx(0.1, abs=1e-3)
    change = math.log(99 * 9) / steepness
    assert 1 < change < 255
    assert 1 / (1 + math.exp(-steepness * (change - midpoint))) == pytest.approx(0.99, abs=1e-3)
    with pytest.raises(ValueError, match="patches must change images, got 500 that changed nothi"):
        calibrate.calibrate(torch.full_like(images, 9), general("size=64", "crop=64"))


def test_walk_from_images_to_export(tmp_path: Path) -> None:
    data = make_mvtec(tmp_path / "data", categories=("a b",), train=44, test=3)
    text = ssadk("train", data, "--recipe", "nsa", "--out", tmp_path / "runs", code=1)
    assert "must be one of bottle, hazelnut" in text
    assert "ssadk calibrate DATA --category NAME" in text
    assert not (tmp_path / "runs").exists()
    mine = tmp_path / "my.yaml"
    assert "patches 4" in ssadk("calibrate", data, "--out", mine, *TINY[:-2])
    own = load_recipe(mine).for_category("a b")
    assert isinstance(own, NsaRecipe)
    assert (own.patches, own.batch) == (4, 16)
    assert "44 images of 'a b'" in mine.read_text(encoding="utf-8")
    before = mine.read_bytes()
    text = ssadk("calibrate", data, "--out", mine, *TINY[:-2], "--seed", "1", code=1)
    assert "my.yaml: there is one already; choose another --out, or replace it with" in text
    assert mine.read_bytes() == before
    ssadk("calibrate", data, "--out", mine, *TINY[:-2], "--force")
    assert mine.read_bytes() == before
    text = ssadk("calibrate", data, "--recipe", "cutpaste", "--out", mine, "--force", code=1)
    assert "cutpaste: must be a recipe of nsa, fpi or pii, got one of cutpaste" in text

    trained, out = tmp_path / "runs", tmp_path / "out"
    ssadk("train", data, "--recipe", mine, *TINY[2:], "--out", trained)
    text = ssadk("eval", data, trained, "--out", out)
    assert "Pixels, in %" in text
    (result,) = json.loads((out / "results.json").read_text())
    assert result["method"] == "nsa logistic"
    assert 0 <= result["evaluation"]["metrics"]["pixel_auroc"]["value"] <= 1
    save(tmp_path / "photo.png", np.full((64, 64, 3), 99, np.uint8))
    ssadk("predict", tmp_path / "photo.png", "--model", trained, "--out", out)
    assert (out / "overlays/photo.png").is_file()
    assert "agree with the model's" in ssadk("export", trained, "--out", out / "model.pt2")
    text = ssadk("augment", data, *TINY, "--draws", "20", "--count", "2", "--out", out)
    assert "NSA" in text
    assert "applied" in text


def test_the_table_of_the_paper_beside_ours() -> None:
    test = made_up(["good"] * 4 + ["hole"] * 4)
    assert test.masks is not None
    perfect = evaluate(test, test.labels.float(), test.masks.float(), resamples=2)
    runs = [Run("m", c, perfect, seed) for c in ("bottle", "carpet") for seed in (0, 1)]
    for name, override, title in [
        ("nsa", "label=logistic", "NSA log."),
        ("nsa", "label=intensity", "NSA cont."),
        ("fpi", "label=factor", "FPI"),
        ("pii", "label=factor", "PII"),
    ]:
        image, pixel = compare(runs, load_recipe(name, [override]))
        assert f"After ±: sample standard deviation. Difference to {title}" in image.note
        assert image.note.endswith(".")
        assert ".." not in image.note
        assert image.headings[:3] == pixel.headings[:3] == ("category", "ours", "diff.")
    image, pixel = compare(runs, load_recipe("nsa"))
    assert image.rows[0] == [
        *("bottle", "100.0±0.0", "+2.3"),
        *("100.0", "90.2", "97.6", "97.6±0.2", "97.5±0.2", "97.7±0.3"),
    ]
    assert pixel.rows[0][2:] == ["+1.7", "97.7", "91.8", "93.1", "98.4±0.2", "97.3±0.5", "98.3±0.1"]
    for name, override in [("fpi-wrn", "lr=0.001"), ("nsa", "epochs=5"), ("nsa", "patches=2")]:
        image, _ = compare(runs, load_recipe(name, [override]))
        assert "diff." not in image.headings
    assert "as the paper has no such model" in image.note


def test_images_without_room_for_patches(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Black ones, on which there is no object."""
    for i in range(12):
        save(tmp_path / f"data/nut/train/good/{i}.png", np.zeros((64, 64, 3), np.uint8))
    save(tmp_path / "data/nut/test/good/0.png", np.zeros((64, 64, 3), np.uint8))
    options = (*TINY, "--set", "background=[0, 20]")
    text = ssadk("augment", tmp_path / "data", *options, "--draws", "9", "--out", tmp_path)
    assert "nan" not in text
    assert "9 no place" in text
    with caplog.at_level(logging.WARNING, "ssad_models.nsa.module"):
        ssadk("train", tmp_path / "data", *options, "--set", "epochs=2", "--out", tmp_path / "runs")
    assert caplog.text.count("no patch has changed an image in the first epoch") == 1


def test_the_command_line_as_a_module() -> None:
    command = [sys.executable, "-m", "ssad_models.cli", "reproduce", "--help"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    for name in ("fpi-wrn", "pii-wrn", "nsa-cxr"):
        assert name in found.stdout
