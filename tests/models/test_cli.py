# SPDX-License-Identifier: Apache-2.0
"""The command line: help, errors in one line, and a walk from training to export."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("lightning")
pytest.importorskip("typer")

import numpy as np
import torch
from fake_data import make_image, make_mvtec, save
from fake_models import BrightnessMethod, brightness_model
from made_up import made_up
from PIL import Image
from typer.testing import CliRunner

from ssad_kernels import make_keys
from ssad_models import bench, runs
from ssad_models.commands import app
from ssad_models.commands.common import one_line_errors
from ssad_models.cutpaste.augment import AUGMENTS, Synthesis
from ssad_models.cutpaste.recipe import PROXIES
from ssad_models.evaluate import evaluate
from ssad_models.methods import METHODS
from ssad_models.model_file import save as save_model
from ssad_models.pictures import sheet, statistics
from ssad_models.report import Run, gallery

COMMANDS = (
    *("demo", "train", "eval", "predict", "export", "augment"),
    *("calibrate", "reproduce", "compare", "bench"),
)
# A network that learns nothing in no time.
TINY = [
    *("--recipe", "cutpaste", "--set", "size=32", "--set", "head=[8]", "--set", "batch=4"),
    *("--set", "stages=[{train: all, steps: 2, lr: 0.01}]", "--set", "steps_per_epoch=2"),
]
HOSTILE = "a \"b' <script>alert(1) é"


def ssadk(*arguments: object, code: int = 0) -> str:
    """Run a command and return what it printed, on lines as wide as need be."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "1000"})
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str) -> None:
    text = ssadk(command, "--help")
    assert f"Example: ssadk {command}" in text
    assert "--debug" in text


@pytest.mark.parametrize("command", ["train", "eval", "augment"])
def test_an_output_folder_that_cannot_be_written_is_found_out_first(
    command: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    models = ["runs"] if command == "eval" else []
    text = ssadk(command, "nowhere", *models, "--out", tmp_path / "file/out", code=1)
    assert "cannot be written to (Not a directory); choose another --out" in text


def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys\n"
        "from ssad_models.commands import app\n"
        "from typer.testing import CliRunner\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "assert not {'torch', 'lightning'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_walk_from_training_to_export(tmp_path: Path) -> None:
    data = make_mvtec(tmp_path / "data", categories=("bottle", HOSTILE), train=44, test=3)
    before = set(tmp_path.rglob("*"))
    trained, out = tmp_path / "runs", tmp_path / "out"
    ssadk("train", data, *TINY, "--out", trained)
    models = sorted(trained.rglob("model.pt"))
    assert len(models) == 2
    assert models[1] == trained / "bottle/seed0/model.pt"
    again = {model: model.stat().st_mtime_ns for model in models}
    ssadk("train", data, *TINY, "--out", trained)
    assert {model: model.stat().st_mtime_ns for model in models} == again

    text = ssadk("eval", data, trained, "--out", out / "eval")
    assert "bottle" in text
    assert HOSTILE in text
    results = json.loads((out / "eval/results.json").read_text())
    with (out / "eval/results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["category"] for row in rows} == {"bottle", HOSTILE}
    assert list(rows[0]) == ["method", "category", "seed", "metric", "value", "low", "high"]
    assert rows[0]["metric"] == "auroc"
    assert float(rows[0]["value"]) == results[0]["evaluation"]["metrics"]["auroc"]["value"]
    assert {one["category"] for one in results} == {"bottle", HOSTILE}
    assert 0 <= results[0]["evaluation"]["metrics"]["auroc"]["value"] <= 1
    text = ssadk("eval", data, trained, "--category", "bottle", "--out", out / "one")
    assert "Left out: 1 models of other categories" in text
    page = (out / "eval/report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page

    save(tmp_path / "photos" / "large <b>.png", make_image(1, 150, "hole")[0])
    text = ssadk("predict", tmp_path / "photos", "--model", models[1], "--out", out / "predict")
    assert "of 1 images are anomalous" in text
    (row,) = json.loads((out / "predict/scores.json").read_text())["images"]
    assert row["tiles"] == 9
    with Image.open(out / "predict" / row["overlay"]) as picture:
        assert picture.size == (150, 150)

    text = ssadk("export", models[1], "--out", out / "model.pt2")
    assert "agree with the model's to" in text
    program = torch.export.load(out / "model.pt2").module()
    assert len(program(torch.zeros(3, 3, 32, 32, dtype=torch.uint8))) == 3
    new = set(tmp_path.rglob("*")) - before - {tmp_path / "photos", *tmp_path.glob("photos/*")}
    assert all({trained, out} & {path, *path.parents} for path in new)


def test_ensemble_of_two_seeds(tmp_path: Path) -> None:
    data = make_mvtec(tmp_path / "data", categories=("bottle",), train=44, test=3)
    for seed in (0, 1):
        ssadk("train", data, *TINY, "--seed", seed, "--out", tmp_path / "runs")
    text = ssadk("eval", data, tmp_path / "runs", "--ensemble", "--out", tmp_path / "out")
    assert "ensemble of 2" in text
    assert "trained on" not in text
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert [one["seed"] for one in results] == [0, 1, None]

    data = (data / "bottle").rename(data / "renamed")
    arguments = ("eval", data, tmp_path / "runs", "--out", tmp_path / "renamed")
    text = ssadk(*arguments, code=1)
    assert "must be of renamed, got models of bottle; if a folder has been renamed" in text
    assert not (tmp_path / "renamed").exists()
    text = ssadk(*arguments, "--any-category")
    assert "trained on bottle" in text
    results = json.loads((tmp_path / "renamed/results.json").read_text())
    assert [one["category"] for one in results] == ["renamed", "renamed"]


def test_eval_tells_false_alarms_beside_the_stated_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "cutpaste", BrightnessMethod())  # type: ignore[arg-type]
    data = make_mvtec(tmp_path / "data", categories=("bottle",), train=1, test=3)
    for name, level in (("like", 10), ("unlike", 250)):  # brightness counts; 50 % is the threshold
        for i in range(3):
            save(tmp_path / name / f"test/good/{i}.png", np.full((64, 64, 3), level, np.uint8))
        for part in ("train", "test/hole", "ground_truth/hole"):
            shutil.copytree(data / "bottle" / part, tmp_path / name / part)
        model = brightness_model()
        save_model(tmp_path / f"{name}.pt", replace(model, meta=replace(model.meta, category=name)))
        text = ssadk("eval", tmp_path / name, tmp_path / f"{name}.pt", "--out", tmp_path / "out")
        assert "stated 5" in text
        assert ("Far more false alarms than stated" in text) == (name == "unlike")


def test_report_of_many_runs_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test = made_up(["good"] * 8 + ["hole"] * 8)
    scores = torch.rand(16)
    run = Run("m", "c", evaluate(test, scores, resamples=5), pictures=gallery(test, scores))
    size = sum(len(p.image) + len(p.mask or "") for p in run.pictures)
    monkeypatch.setattr(runs, "PICTURE_BYTES", size + 10)
    for count in (1, 2, 4):
        runs.write_results(tmp_path / str(count), [run] * count, "Many")
        page = (tmp_path / str(count) / "report.html").read_text(encoding="utf-8")
        assert page.count("<figcaption>image<") == count * (len(run.pictures) // count)
        assert ("only the worst" in page) == (count > 1)


def test_file_that_cannot_be_read_gives_exit_code_1(tmp_path: Path) -> None:
    data = make_mvtec(tmp_path / "data", categories=("bottle",), train=12)
    ssadk("train", data, *TINY, "--out", tmp_path / "runs")
    (tmp_path / "bad.png").write_bytes(b"no image")
    text = ssadk(
        *("predict", tmp_path / "bad.png", data / "bottle/test/good", "--no-overlays"),
        *("--model", tmp_path / "runs", "--out", tmp_path / "out"),
        code=1,
    )
    assert "not scored" in text
    assert "bad.png" in text
    assert "no threshold" in text
    assert len(json.loads((tmp_path / "out/scores.json").read_text())["images"]) == 5


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["train", "nowhere"], ["nowhere"]),
        (["train", "builtin", "--set", "lrr=1"], ["`lrr` is not a setting"]),
        (["train", "builtin", "--recipe", "nsaa"], ["a recipe must be", "nsaa"]),
        (["predict", "x.png", "--model", "nowhere"], ["nowhere", "model.pt"]),
        (["export", "nowhere"], ["nowhere", "train one"]),
        (["eval", "builtin", "nowhere"], ["nowhere", "train one"]),
        (["reproduce", "cutpaste", "--data", "nowhere"], ["nowhere"]),
    ],
)
def test_mistakes_are_one_line_with_the_remedy(arguments: list[str], messages: list[str]) -> None:
    text = ssadk(*arguments, code=1)
    assert len(text.strip().splitlines()) == 1, text
    assert text.startswith(f"ssadk {arguments[0]}: ")
    assert all(message in text for message in messages)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "builtin", "--device", "tpu"], "must be cpu, cuda or auto"),
        (["train", "builtin", "--folder", "good"], "must be like normal=NAME"),
        (["reproduce", "cutpaste", "--data", "x", "--seeds", "0,0"], "different numbers"),
        (["predict", "x.png", "--model", "m", "--tile", "no"], "must be auto or never"),
    ],
)
def test_wrong_options_are_usage_errors(arguments: list[str], message: str) -> None:
    assert message in ssadk(*arguments, code=2)


def test_debug_shows_the_traceback_and_surprises_say_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        {}["x"]

    command = one_line_errors("fail", fail)
    with pytest.raises(KeyError):
        command(debug=True)
    with pytest.raises(RuntimeError):  # typer.Exit
        command(debug=False)
    assert "ssadk fail: unexpected KeyError: 'x'" in capsys.readouterr().err


def test_error_of_the_system_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    data = make_mvtec(tmp_path / "data", categories=("bottle",), train=8)
    text = ssadk("augment", data, "--set", "size=32", "--out", tmp_path / "out", code=1)
    assert "out" in text
    assert "Traceback" not in text


def test_augment_draws_pictures_and_counts(tmp_path: Path) -> None:
    data = make_mvtec(tmp_path / "data", categories=(HOSTILE,), train=8)
    for proxy, columns in (("3way", 5), ("rotation", 4), ("cutout", 3)):
        arguments = ("augment", data, "--set", "size=32", "--proxy", proxy, "--draws", 100)
        text = ssadk(*arguments, "--count", 2, "--out", tmp_path / proxy)
        (path,) = (tmp_path / proxy).iterdir()
        with Image.open(path) as picture:
            assert picture.size == (columns * 36 + 4, 2 * 36 + 4)
        assert ("100 applied" in text) == (proxy != "rotation")


def test_augment_shows_what_a_gate_skips(tmp_path: Path) -> None:
    """Scars of 10 to 25 px, turned, do not always fit into 16 px."""
    images = torch.zeros(2, 3, 24, 24, dtype=torch.uint8)
    (scar,) = AUGMENTS["cutpaste-scar"].values()
    found = statistics(images, Synthesis("cutpaste-scar"), scar, draws=200, seed=0)
    assert sum(found.statuses.values()) == 200
    assert 0 < found.statuses["no place"] < 200
    assert 0 < found.share < 1


def test_augment_shows_what_training_makes(tmp_path: Path) -> None:
    """Cropped, moved and recoloured, and then augmented, as the batches of training are."""
    images = torch.randint(60, 200, (4, 3, 64, 64), dtype=torch.uint8)
    keys = make_keys(7, 0, torch.arange(4))
    for synthesis in (Synthesis("cutout", crop=40), Synthesis("cutout", shift=0.2, jitter=0.2)):
        inputs, _ = synthesis(images.clone(), keys)
        side = inputs.shape[-1]
        shown = sheet(images, synthesis, list(AUGMENTS["cutout"].values()), seed=7)
        for column, expected in enumerate(inputs.split(4)):
            for row in range(4):
                y, x = 4 + row * (side + 4), 4 + column * (side + 4)
                assert torch.equal(shown[:, y : y + side, x : x + side], expected[row])
        found = statistics(images, synthesis, AUGMENTS["cutout"]["Cutout"], draws=10, seed=7)
        assert found.statuses == {"applied": 10}
    # In crops that are too small for it, nothing is pasted: the whole image would not tell.
    scar = AUGMENTS["cutpaste-scar"]["CutPaste-Scar"]
    small = Synthesis("cutpaste-scar", crop=8)
    assert statistics(images, small, scar, draws=10, seed=0).statuses == {"no place": 10}


@pytest.mark.parametrize("proxy", PROXIES)
def test_every_proxy_can_be_drawn(proxy: str) -> None:
    assert (proxy in AUGMENTS) == (proxy != "rotation")


def test_bench_prints_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SIZE", 64)
    monkeypatch.setattr(bench, "BATCH", 2)
    text = ssadk("bench", "--seconds", 0.001, "--out", tmp_path / "bench.json")
    assert "CutPaste, 2 at a time" in text
    content = json.loads((tmp_path / "bench.json").read_text())
    assert all(rate["per_second"] > 0 for rate in content["rates"])
    assert {rate["where"] for rate in content["rates"]} >= {"cpu", "reference", "1 workers"}
