# SPDX-License-Identifier: Apache-2.0
"""Annotations of single defects, and how sPRO of an evaluation follows from them."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("torchmetrics")

from fake_data import save
from fake_models import BrightnessMethod, brightness_model
from test_cli import ssadk

from ssad_kernels import spro
from ssad_models.data.images import DataError
from ssad_models.data.loco import Saturation, read_config
from ssad_models.data.sources import find
from ssad_models.data.split import Split
from ssad_models.defect_metrics import defect_metrics
from ssad_models.evaluate import evaluate
from ssad_models.methods import METHODS
from ssad_models.model_file import save as save_model

H, W = 8, 8
CONFIG: list[dict[str, Any]] = [
    {"defect_name": "missing", "pixel_value": 255, "saturation_threshold": 4},
    {"defect_name": "scratch", "pixel_value": 254, "saturation_threshold": 0.5},
    {"defect_name": "extra", "pixel_value": 253, "saturation_threshold": 1.0},
]
BOXES = {  # value, rows and columns, for an image of 8 x 8
    "logical_anomalies/000/000": (255, slice(0, 2), slice(0, 4)),  # 8 pixels, of which 4 are enough
    "structural_anomalies/000/000": (254, slice(2, 4), slice(0, 5)),  # 10, of which 5
    "structural_anomalies/000/001": (253, slice(6, 8), slice(6, 8)),  # 4, all of them
}


def make_loco(root: Path, scale: int = 1) -> Path:
    """Two normal training images, a normal test image and two with defects; one category."""
    folder = root / "box"
    grey = np.full((H * scale, W * scale, 3), 90, np.uint8)
    for name in ("train/good/000", "train/good/001", "validation/good/000", "test/good/000"):
        save(folder / f"{name}.png", grey)
    for name, (value, rows, columns) in BOXES.items():
        save(folder / f"test/{name.rpartition('/')[0]}.png", grey)
        mask = np.zeros((H, W), np.uint8)
        mask[rows, columns] = value
        save(folder / f"ground_truth/{name}.png", mask.repeat(scale, 0).repeat(scale, 1))
    write_config(folder, CONFIG)
    return folder


def write_config(folder: Path, entries: list[dict[str, Any]]) -> None:
    full = [
        {"relative_saturation": entry["saturation_threshold"] <= 1, **entry} for entry in entries
    ]
    (folder / "defects_config.json").write_text(json.dumps(full))


def load(folder: Path, size: int = 8) -> Split:
    [source] = find(folder)
    test = source.test(size, 3)
    assert test is not None
    return test


def test_the_masks_of_an_image_are_united_and_told_apart(tmp_path: Path) -> None:
    test = load(make_loco(tmp_path))
    assert test.names == (
        "good/000.png",
        "logical_anomalies/000.png",
        "structural_anomalies/000.png",
    )
    assert test.masks is not None
    assert test.masks.flatten(1).sum(1).tolist() == [0, 8, 14]
    assert test.annotations is not None
    for _ in range(2):
        good, logical, structural = test.annotations
        assert good.masks.shape == (0, 1, 8, 8)
        assert logical.masks.shape == (1, 1, 8, 8)
        assert structural.masks.flatten(1).sum(1).tolist() == [10, 4]
        assert torch.equal(structural.masks.any(0), test.masks[2])
        assert logical.saturation.tolist() == [4.0]
        assert structural.saturation.tolist() == [5.0, 4.0]


def test_spro_by_hand(tmp_path: Path) -> None:
    test = load(make_loco(tmp_path))
    maps = torch.zeros(3, 1, 8, 8)
    maps[1, 0, 0] = torch.tensor([1.0] * 4 + [0.0] * 4)  # as much as is enough
    maps[2, 0, 2, :2] = 1  # two of five
    found = evaluate(test, maps.amax((1, 2, 3)), maps, resamples=20).metrics
    start = (1 + 2 / 5 + 0) / 3  # without a false alarm; all other pixels are alike
    for name, limit in (("spro_05", 0.05), ("spro_30", 0.3)):
        assert found[name].value == pytest.approx(start + (1 - start) * limit / 2, abs=1e-12)
        assert found[name].low <= found[name].value <= found[name].high
    plain = evaluate(replace(test, annotations=None), maps.amax((1, 2, 3)), maps, resamples=20)
    assert plain.metrics == {k: v for k, v in found.items() if not k.startswith("spro")}


def by_thresholds(maps: list[np.ndarray], test: Split, limit: float) -> float:
    """Every threshold in turn; the area by trapezoids."""
    assert test.annotations is not None
    annotations = [(d.masks[:, 0].numpy(), d.saturation.tolist()) for d in test.annotations]
    normals = sum(int((~masks.any(0)).sum()) for masks, _ in annotations)
    rates, overlaps = [0.0], [0.0]
    for level in np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]:
        alarms, shares = 0, []
        for pixels, (masks, saturation) in zip(maps, annotations, strict=True):
            above = pixels >= level
            alarms += int((above & ~masks.any(0)).sum())
            for mask, enough in zip(masks, saturation, strict=True):
                shares.append(min((above & mask).sum() / min(enough, mask.sum()), 1))
        rates.append(alarms / normals)
        overlaps.append(float(np.mean(shares)))
    inside = [r for r in rates if r < limit]
    ends = [*overlaps[: len(inside)], float(np.interp(limit, rates, overlaps))]
    return float(np.trapezoid(ends, [*inside, limit]) / limit)


def test_maps_are_brought_to_the_size_of_the_files(tmp_path: Path) -> None:
    test = load(make_loco(tmp_path, scale=3))
    maps = torch.rand(3, 1, 8, 8) + 0.3 * test.masks  # type: ignore[operator]
    found = evaluate(test, maps.amax((1, 2, 3)), maps, resamples=20).metrics
    large = torch.nn.functional.interpolate(maps, size=(24, 24), mode="bilinear")
    for name, limit in (("spro_05", 0.05), ("spro_30", 0.3)):
        expected = by_thresholds(list(large[:, 0].numpy()), test, limit)
        assert found[name].value == pytest.approx(expected, abs=1e-9)


def test_bootstrap_samples_are_near_the_metric_of_the_images_drawn(tmp_path: Path) -> None:
    test = load(make_loco(tmp_path, scale=4), size=32)
    maps = torch.rand(3, 1, 32, 32) + 0.3 * test.masks  # type: ignore[operator]
    times = torch.tensor([[1.0, 1, 1], [2, 1, 1], [1, 0, 2], [0, 2, 1]]).double()
    assert test.annotations is not None
    each = list(test.annotations)
    found = defect_metrics(maps, each, times)
    for i, row in enumerate(times.long()):
        rows = torch.arange(3).repeat_interleave(row)
        alone = defect_metrics(
            maps[rows], [each[j] for j in rows.tolist()], torch.ones(1, len(rows)).double()
        )
        for name, values in found.items():
            assert float(values[i]) == pytest.approx(float(alone[name]), abs=5e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("levels", [2, 3, 50, 10**6])
def test_the_value_is_that_of_all_scores(tmp_path: Path, levels: int, dtype: torch.dtype) -> None:
    test = load(make_loco(tmp_path, scale=4), size=32)
    maps = ((torch.rand(3, 1, 32, 32, dtype=dtype) + 0.3 * test.masks) * levels).round()  # type: ignore[operator]
    assert test.annotations is not None
    each = list(test.annotations)
    found = defect_metrics(maps, each, torch.ones(1, 3).double())
    image = torch.arange(3).repeat_interleave(torch.tensor([len(d.masks) for d in each]))
    masks, saturation = (torch.cat(column) for column in zip(*each, strict=True))
    whole = spro(maps, masks, image, saturation, (0.3, 0.05))
    assert [float(value) for value in found.values()] == pytest.approx(whole.tolist(), abs=1e-12)


def test_without_annotations_all_else_works(tmp_path: Path) -> None:
    folder = make_loco(tmp_path)
    [source] = find(folder)
    before = source.test_fingerprint()
    write_config(folder, [{**CONFIG[0], "saturation_threshold": 3}, *CONFIG[1:]])
    changed = find(folder)[0].test_fingerprint()
    (folder / "defects_config.json").unlink()
    test = load(folder)
    assert test.annotations is None
    assert test.masks is not None
    assert test.masks.flatten(1).sum(1).tolist() == [0, 8, 14]
    (folder / "ground_truth/structural_anomalies/000/001.png").unlink()
    assert len({before, changed, find(folder)[0].test_fingerprint()}) == 3
    write_config(folder, CONFIG)
    shutil.rmtree(folder / "ground_truth")
    test = load(folder)
    assert test.masks is test.annotations is None


def test_a_file_without_a_marked_pixel_is_no_defect(tmp_path: Path) -> None:
    folder = make_loco(tmp_path)
    blank = np.zeros((H, W), np.uint8)
    save(folder / "ground_truth/logical_anomalies/000/001.png", blank)
    annotations = load(folder).annotations
    assert annotations is not None
    assert [len(image.masks) for image in annotations] == [0, 1, 2]
    for name in BOXES:
        save(folder / f"ground_truth/{name}.png", blank)
    test, maps = load(folder), torch.rand(3, 1, 8, 8)
    assert not {"spro_05", "spro_30"} & set(evaluate(test, maps.amax((1, 2, 3)), maps).metrics)


def value_is(value: int, size: tuple[int, int] = (H, W)) -> Any:
    mask = np.zeros(size, np.uint8)
    mask[:2, :2] = value
    return lambda folder: save(folder / "ground_truth/logical_anomalies/000/000.png", mask)


def two_values(folder: Path) -> None:
    mask = np.zeros((H, W), np.uint8)
    mask[0, 0], mask[0, 1] = 255, 254
    save(folder / "ground_truth/logical_anomalies/000/000.png", mask)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (value_is(7), "its grey value must be a pixel_value of defects_config.json, got 7, "
         "where there are 253, 254, 255; add it there"),
        (two_values, "must mark one defect with one grey value, got 2 (254, 255); draw each "
         "defect into a file of its own"),
        (value_is(255, (H, W + 1)), "a mask must have the size of its image "),
        (lambda folder: (folder / "ground_truth/logical_anomalies/000/000.png").write_bytes(b"x"),
         "000.png: must be an image that can be read, got: "),
        (lambda folder: shutil.rmtree(folder / "ground_truth/logical_anomalies/000"),
         "000.png: must have a mask 000_mask.png, or a folder 000 of masks, in "),
    ],
)  # fmt: skip
def test_errors_of_masks(tmp_path: Path, damage: Any, text: str) -> None:
    folder = make_loco(tmp_path)
    damage(folder)
    with pytest.raises(DataError, match=re.escape(text)):
        load(folder)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[", "Expecting value"),
        ("3", "'int' object is not iterable"),
        ("[3]", "'int' object is not subscriptable"),
        ('[{"pixel_value": 255, "saturation_threshold": 1}]', "no 'relative_saturation'"),
        ('[{"pixel_value": 255, "saturation_threshold": 0, "relative_saturation": true}]',
         "saturation_threshold must be above 0, got 0"),
        ('[{"pixel_value": 255, "saturation_threshold": 1, "relative_saturation": 1}]',
         "relative_saturation must be true or false, got 1"),
        (json.dumps([{**CONFIG[0], "relative_saturation": False}] * 2),
         "a pixel value must be named once, got 255 again"),
    ],
)  # fmt: skip
def test_errors_of_the_configuration(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "defects_config.json"
    path.write_text(text)
    must = "must list objects with pixel_value, saturation_threshold and relative_saturation, got: "
    with pytest.raises(DataError, match=re.escape(must + error)):
        read_config(path)


def test_configuration(tmp_path: Path) -> None:
    write_config(tmp_path, CONFIG)
    assert read_config(tmp_path / "defects_config.json") == {
        255: Saturation(4, False),
        254: Saturation(0.5, True),
        253: Saturation(1, True),
    }


def test_the_command_prints_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "cutpaste", BrightnessMethod())  # type: ignore[arg-type]
    folder, model = make_loco(tmp_path), brightness_model()
    save_model(tmp_path / "model.pt", replace(model, meta=replace(model.meta, category="box")))
    text = ssadk("eval", folder, tmp_path / "model.pt", "--out", tmp_path / "out")
    rows = (tmp_path / "out/results.csv").read_text()
    assert "sPRO" in text
    assert ",spro_30," in rows
    assert ",spro_05," in rows
