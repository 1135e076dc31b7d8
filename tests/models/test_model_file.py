# SPDX-License-Identifier: Apache-2.0
"""Model files keep everything, and say what is wrong with those that are not whole."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_models import BrightnessMethod, brightness_model

from ssad_models import model_file
from ssad_models.atomic import replacing
from ssad_models.methods import METHODS
from ssad_models.model_file import FORMAT, KIND, load, load_meta, save

IMAGES = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)


@pytest.fixture(autouse=True)
def _brightness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "cutpaste", BrightnessMethod())  # type: ignore[arg-type]


@pytest.mark.parametrize("calibrated", [True, False])
def test_round_trip(tmp_path: Path, calibrated: bool) -> None:
    model = brightness_model(calibrated=calibrated)
    model.detector.gain.fill_(50.0)
    save(tmp_path / "new folder/m.pt", model)
    again = load(tmp_path / "new folder/m.pt")
    assert (again.calibration, again.recipe, again.meta) == (
        model.calibration,
        model.recipe,
        model.meta,
    )
    assert again.predict(IMAGES).score.equal(model.predict(IMAGES).score)
    assert not again.detector.training
    assert load_meta(tmp_path / "new folder/m.pt") == model.meta


def test_prediction(tmp_path: Path) -> None:
    model = brightness_model()
    everything = model.predict(IMAGES, batch_size=2)
    assert everything.map is not None
    assert everything.map.shape == (5, 1, 32, 32)
    assert everything.score.shape == (5,)
    assert everything.anomalous is not None
    assert everything.anomalous.dtype == torch.bool
    assert model.predict(IMAGES, maps=False).map is None
    plain = brightness_model(calibrated=False).predict(IMAGES)
    assert plain.normalized is None
    assert plain.anomalous is None
    for wrong in (IMAGES[0], IMAGES[:, :1], IMAGES[:0], IMAGES[..., :16]):
        with pytest.raises(ValueError, match=r"must have shape \(N, 3, 32, 32\)"):
            model.predict(wrong)


def test_nothing_in_the_file_is_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "executed"),)

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil()))
    torch.save(Evil(), tmp_path / "evil2.pt")
    for name in ("evil.pt", "evil2.pt"):
        with pytest.raises(ValueError, match=r"must be a (whole )?model file"):
            load(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_wrong_files_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    save(path, brightness_model())
    whole = path.read_bytes()
    content = torch.load(path, weights_only=True)

    def message() -> str:
        with pytest.raises(ValueError, match=r"model\.pt") as info:
            load(path)
        assert "\n" not in str(info.value)
        return str(info.value)

    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert "cannot be read" in message()
    path.write_bytes(b"a text file\n" * 20)
    assert "cannot be read" in message()
    torch.save({"state_dict": {}}, path)
    assert "got another kind of file" in message()
    torch.save({"kind": KIND, "format": FORMAT + 1}, path)
    assert "update ssad-kernels" in message()
    torch.save({"kind": KIND, "format": 0}, path)
    assert "train the model again" in message()
    torch.save(content | {"recipe": content["recipe"] | {"method": "magic"}}, path)
    assert (
        "must be one of anoseg, cutpaste, cutpaste-patch, nsa, fpi, pii, ssm, got 'magic'"
        in message()
    )
    for part in ("state", "meta"):
        torch.save(content | {part: {}}, path)
        assert "does not fit this version of ssad-kernels" in message()


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"got a folder"):
        load(tmp_path)


def test_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt"
    save(path, brightness_model())
    before = path.read_bytes()

    def fail(*args: Any) -> None:
        args[1].write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_file.torch, "save", fail)
    with pytest.raises(OSError, match="No space"):
        save(path, brightness_model())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_shows_nothing_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a/b.txt"
    with replacing(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    (path.parent / ".b.txt.part").write_bytes(b"left behind by a kill")
    with replacing(path) as file:
        file.write(b"newer")
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]
    assert path.read_bytes() == b"newer"


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([[1]], TypeError, "must be a tensor, got list"),
        (torch.zeros(1, 3, 32, 32).long(), TypeError, "uint8 or float 0..1, got torch.int64"),
        (torch.full((1, 3, 32, 32), 200.0), ValueError, "must lie in 0..1, got 200 to 200"),
        (torch.full((1, 3, 32, 32), float("nan")), ValueError, "must lie in 0..1, got nan"),
        (torch.zeros(1, 1, 32, 32), ValueError, "must have shape"),
    ],
)  # fmt: skip
def test_images_that_a_model_was_not_trained_on(
    images: Any, error: type[Exception], message: str
) -> None:
    model = brightness_model()
    if isinstance(images, torch.Tensor) and "shape" not in message:
        images = images[:, : model.channels, : model.size, : model.size]
    with pytest.raises(error, match=message):
        model.predict(images)
