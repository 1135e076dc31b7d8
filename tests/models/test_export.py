# SPDX-License-Identifier: Apache-2.0
"""Exported models score as the model does and keep its threshold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fake_models import Brightness, brightness_model

from ssad_models.export import export
from ssad_models.model_file import Model

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
