# SPDX-License-Identifier: Apache-2.0
"""Exported models score as the model does and keep its threshold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fake_models import Brightness, brightness_model

from ssad_models.calibration import calibrate
from ssad_models.export import Exportable, _apart, _runtimes, export
from ssad_models.methods import METHODS
from ssad_models.model_file import Meta, Model
from ssad_models.recipe import load_recipe

IMAGES = torch.stack([torch.full((3, 32, 32), value, dtype=torch.uint8) for value in (0, 120, 255)])


def test_torch_program_keeps_scores_and_threshold(tmp_path: Path) -> None:
    model = brightness_model()
    differences = export(model, tmp_path / "model.pt2", IMAGES)
    assert differences == {"torch.export": 0.0}
    program = torch.export.load(tmp_path / "model.pt2").module()
    expected = model.predict(IMAGES)
    for count in (1, 2, 3):
        score, normalized, anomalous = program(IMAGES[:count])
        torch.testing.assert_close(score, expected.score[:count])
        torch.testing.assert_close(normalized, expected.normalized[:count])
        assert anomalous.tolist() == [False, False, True][:count]


def test_onnx_keeps_scores_and_threshold(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model = brightness_model()
    differences = export(model, tmp_path / "model.onnx", IMAGES)
    assert differences["ONNX Runtime"] <= 1e-5
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    expected = model.predict(IMAGES)
    for count in (1, 2, 3):
        score, normalized, anomalous = session.run(None, {"images": IMAGES[:count].numpy()})
        torch.testing.assert_close(
            torch.from_numpy(score), expected.score[:count], rtol=1e-5, atol=0
        )
        torch.testing.assert_close(
            torch.from_numpy(normalized), expected.normalized[:count], rtol=1e-4, atol=1e-4
        )
        assert anomalous.tolist() == [False, False, True][:count]


@pytest.mark.parametrize(("suffix", "score"), [(".pt2", "density+head"), (".onnx", "density")])
def test_a_real_detector(tmp_path: Path, suffix: str, score: str) -> None:
    pytest.importorskip("lightning")
    pytest.importorskip("torchvision")
    if suffix == ".onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    recipe = load_recipe("cutpaste", ["size=64", "head=[8, 4]", f"score={score}"])
    normals = torch.randint(0, 256, (24, 3, 64, 64), dtype=torch.uint8)
    method = METHODS["cutpaste"]
    parts = torch.arange(24).split([16, 8])
    detector = method.fit(method.module(recipe, 0), normals, *parts, recipe)
    detector.requires_grad_(False)
    with torch.no_grad():
        calibration = calibrate(detector(torch.cat([normals, 255 - normals])))
    model = Model(detector, calibration, recipe.to_dict(), Meta("c", (64, 64), seed=0))
    path = tmp_path / f"model{suffix}"
    (difference,) = export(model, path, normals[:3]).values()
    assert difference <= 1e-5
    outputs = _runtimes(suffix, path.read_bytes()).popitem()[1](normals)
    expected = model.predict(normals)
    torch.testing.assert_close(outputs[0], expected.score, rtol=1e-4, atol=1e-4)
    assert expected.normalized is not None
    assert expected.anomalous is not None
    torch.testing.assert_close(outputs[1], expected.normalized, rtol=1e-3, atol=1e-3)
    assert torch.equal(outputs[2], expected.anomalous)


def test_every_output_is_compared() -> None:
    model = brightness_model()
    assert model.calibration is not None
    module = Exportable(model.detector, model.calibration)
    score, normalized, anomalous = module(IMAGES)
    for same in ((score, normalized, anomalous), (score + 1e-6, normalized, anomalous)):
        assert _apart(module, (score, normalized, anomalous), same) < 1e-6
    for wrong in (
        (score + 1, normalized, anomalous),
        (score, normalized + 1, anomalous),
        (score, normalized, ~anomalous),
    ):
        assert _apart(module, (score, normalized, anomalous), wrong) > 1e-2
    at = torch.full((1,), model.calibration.threshold)
    one = (at, normalized[:1])
    assert _apart(module, (*one, anomalous[:1]), (*one, ~anomalous[:1])) == 0


def test_description_tells_how_to_use_it(tmp_path: Path) -> None:
    model = brightness_model()
    export(model, tmp_path / "new/model.pt2")
    content = json.loads((tmp_path / "new/model.pt2.json").read_text())
    assert content["input"]["shape"] == ["N", 3, 32, 32]
    assert list(content["outputs"]) == ["score", "normalized", "anomalous"]
    assert model.calibration is not None
    assert content["calibration"]["threshold"] == model.calibration.threshold
    assert content["meta"]["category"] == "a b"
    assert content["recipe"]["method"] == "cutpaste"
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["model.pt2", "model.pt2.json"]


def test_model_without_threshold_exports_its_score(tmp_path: Path) -> None:
    export(brightness_model(calibrated=False, channels=1), tmp_path / "model.pt2")
    outputs = torch.export.load(tmp_path / "model.pt2").module()(IMAGES[:, :1])
    assert [len(part) for part in outputs] == [3]


def test_program_that_disagrees_is_not_kept(tmp_path: Path) -> None:
    class Counting(Brightness):
        """Says something else every time, which a traced program cannot."""

        calls = 0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            Counting.calls += 1
            return super().forward(images) + Counting.calls

    (tmp_path / "model.pt2").write_bytes(b"an older one")
    model = brightness_model()
    wrong = Model(Counting(), model.calibration, model.recipe, model.meta)
    with pytest.raises(RuntimeError, match=r"must agree with the model's to 0.0001, got"):
        export(wrong, tmp_path / "model.pt2")
    assert (tmp_path / "model.pt2").read_bytes() == b"an older one"
    assert len(list(tmp_path.iterdir())) == 1


def test_unknown_ending_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in .pt2 or .onnx, got '.pth'"):
        export(brightness_model(), tmp_path / "model.pth")
