# SPDX-License-Identifier: Apache-2.0
"""Scores, overlays and tables of image files."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_data import save
from fake_models import brightness_model
from PIL import Image

from ssad_models.data.images import DataError
from ssad_models.model_file import Model, Prediction
from ssad_models.overlay import overlay
from ssad_models.predict import find_images, look, predict_files

HOSTILE = ["a b.png", "a'\"b.png", "<script>.png", "Größe 图.png", "...a.png", "new\nline.png"]


def grey(path: Path, value: int, size: tuple[int, int] = (64, 64)) -> Path:
    return save(path, np.full((*size, 3), value, np.uint8))


def test_rows_tables_and_overlays(tmp_path: Path) -> None:
    grey(tmp_path / "in/dark.png", 10)
    grey(tmp_path / "in/sub/bright.png", 250, (50, 70))
    (tmp_path / "in/notes.txt").write_text("not an image")
    done: list[int] = []
    results = predict_files(
        brightness_model(), [tmp_path / "in"], tmp_path / "out", advance=done.append
    )
    assert [Path(r.path).name for r in results] == ["dark.png", "bright.png"]
    assert [r.anomalous for r in results] == [False, True]
    assert results[1].score == pytest.approx(100 * 250 / 255, rel=1e-5)
    assert done == [1, 1]
    with (tmp_path / "out/scores.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["path"] for row in rows] == [r.path for r in results]
    assert float(rows[0]["score"]) == results[0].score
    content = json.loads((tmp_path / "out/scores.json").read_text())
    assert content["images"][1]["anomalous"] is True
    assert content["calibration"]["threshold"] == 50
    with Image.open(tmp_path / "out" / str(results[1].overlay)) as picture:
        assert picture.size == (70, 50)
        assert picture.mode == "RGB"


def test_without_calibration_there_is_a_score_and_no_verdict(tmp_path: Path) -> None:
    model = brightness_model(calibrated=False)
    (result,) = predict_files(
        model, [grey(tmp_path / "a.png", 9)], tmp_path / "out", overlays=False
    )
    assert result.score is not None
    assert (result.normalized, result.anomalous, result.overlay) == (None, None, None)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["scores.csv", "scores.json"]


def test_hostile_names_are_right_and_stay_inside(tmp_path: Path) -> None:
    names = [*HOSTILE, os.fsdecode(b"\xff.png")]
    for number, name in enumerate(names):
        grey(tmp_path / "in" / name, 20 * number)
        grey(tmp_path / "in/<b>" / name, 20 * number)
    before = set(tmp_path.rglob("*"))
    hidden = [tmp_path / "in/...a.png", tmp_path / "in/<b>/...a.png"]  # must be asked for
    results = predict_files(brightness_model(), [tmp_path / "in", *hidden], tmp_path / "out")
    assert len(results) == 2 * len(names)
    assert {Path(r.path).name for r in results} == {*HOSTILE, "\\xff.png"}
    new = set(tmp_path.rglob("*")) - before
    assert all(tmp_path / "out" in (path, *path.parents) for path in new)
    overlays = {str(r.overlay) for r in results}
    assert len(overlays) == len(results)
    for where in overlays:
        assert (tmp_path / "out" / where).resolve().parent == (tmp_path / "out/overlays").resolve()
    with (tmp_path / "out/scores.csv").open(newline="", encoding="utf-8") as lines:
        assert {Path(row["path"]).name for row in csv.DictReader(lines)} == {*HOSTILE, "\\xff.png"}


def test_same_name_in_two_folders_gives_two_overlays(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        grey(tmp_path / folder / "a.png", 9)
    results = predict_files(brightness_model(), [tmp_path / "x", tmp_path / "y"], tmp_path / "out")
    assert [r.overlay for r in results] == ["overlays/a.png", "overlays/a-2.png"]


def test_damaged_file_has_a_reason_and_the_others_a_score(tmp_path: Path) -> None:
    good = grey(tmp_path / "a.png", 9)
    bad = tmp_path / "b.png"
    bad.write_bytes(good.read_bytes()[:40])
    first, second = predict_files(brightness_model(), [bad, good], tmp_path / "out")
    assert first.error is not None
    assert "b.png" in first.error
    assert first.score is None
    assert second.score is not None


def test_own_output_is_not_taken_for_input(tmp_path: Path) -> None:
    grey(tmp_path / "a.png", 9)
    for _ in range(2):
        assert len(predict_files(brightness_model(), [tmp_path], tmp_path / "out")) == 1


def test_hidden_and_linked_folders_are_left_out(tmp_path: Path) -> None:
    seen = grey(tmp_path / "in/sub/a.png", 9)
    for name in ("in/.b.png", "in/._a.png", "in/.thumbnails/a.png", "in/sub/.cache/x/a.png"):
        grey(tmp_path / name, 9)
    (tmp_path / "in/sub/back").symlink_to(tmp_path / "in")
    assert find_images([tmp_path / "in"]) == [(seen, "sub/a.png")]


def test_names_are_no_formulas_in_a_spreadsheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["=1+1.png", "+1.png", "-1.png", "@a.png", "\ta.png"]
    for name in names:
        grey(tmp_path / name, 9)
    (tmp_path / "=bad.png").write_bytes(b"no image")
    predict_files(
        brightness_model(), [Path(name) for name in (*names, "=bad.png")], tmp_path / "out"
    )
    with (tmp_path / "out/scores.csv").open(newline="", encoding="utf-8") as lines:
        *rows, bad = csv.DictReader(lines)
    assert [row["path"] for row in rows] == [f"./{name}" for name in names]
    assert bad["path"] == "./=bad.png"
    assert bad["error"].startswith("./=bad.png: must be an image")
    content = json.loads((tmp_path / "out/scores.json").read_text())
    assert [row["path"] for row in content["images"]] == [*names, "=bad.png"]


def test_paths_that_give_nothing_are_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing: must be an image or a folder"):
        find_images([tmp_path / "missing"])
    with pytest.raises(DataError, match="must contain images"):
        find_images([tmp_path])


def test_file_given_twice_is_scored_once(tmp_path: Path) -> None:
    path = grey(tmp_path / "a.png", 9)
    assert find_images([path, tmp_path, path]) == [(path, "a.png")]


def test_large_image_is_tiled_and_the_brightest_tile_counts() -> None:
    image = torch.zeros(3, 64, 300, dtype=torch.uint8)
    image[:, 10:20, 280:290] = 255
    model = brightness_model()
    tiled, whole = look(model, image), look(model, image, tile="never")
    assert (tiled.tiles, whole.tiles) == (6, 1)
    assert float(tiled.score) == pytest.approx(100 * 100 / 64**2, rel=0.03)
    assert float(whole.score) == pytest.approx(100 * 100 / (64 * 300), rel=0.03)
    assert tiled.heat is not None
    assert tiled.heat.shape == (1, 64, 300)
    hottest = int(tiled.heat.argmax())
    assert 10 <= hottest // 300 < 20
    assert 280 <= hottest % 300 < 290


def test_tiles_are_looked_at_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.randint(0, 256, (3, 300, 300), dtype=torch.uint8)
    model, most = brightness_model(), list[int]()
    expected = look(model, image)
    predict = type(model).predict

    def counting(self: Model, images: torch.Tensor, **options: Any) -> Prediction:
        most.append(len(images))
        return predict(self, images, **options)

    monkeypatch.setattr(type(model), "predict", counting)
    monkeypatch.setattr("ssad_models.predict._TILES_AT_A_TIME", 5)
    seen = look(model, image)
    assert most == [5] * 7 + [1]
    assert (seen.tiles, seen.score) == (expected.tiles, expected.score)
    assert seen.heat is not None
    torch.testing.assert_close(seen.heat, expected.heat)


def test_overlay_leaves_cold_places_alone_and_brightens_hot_ones() -> None:
    image = torch.full((1, 4, 4), 100, dtype=torch.uint8)
    heat = torch.zeros(1, 4, 4)
    heat[0, 0, 0], heat[0, 0, 1], heat[0, 0, 2] = 5.0, 2.5, float("nan")
    shown = overlay(image, heat)
    assert shown.shape == (3, 4, 4)
    assert (shown[:, 1:] == 100).all()
    assert shown[:, 0, 2].tolist() == [100, 100, 100]
    assert shown[:, 0, 0].tolist() == [214, 216, 148]
    assert overlay(image, heat, high=1e9).float().sub(100).abs().max() <= 1
    assert (overlay(image, torch.zeros(1, 4, 4)) == 100).all()
