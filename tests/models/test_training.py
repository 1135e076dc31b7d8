# SPDX-License-Identifier: Apache-2.0
"""Runs that end well, and runs that are killed, starved or interrupted."""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
import re
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from rich.console import Console

pytest.importorskip("lightning")
pytest.importorskip("tensorboard")
pytest.importorskip("torchvision")

import training_child
from fake_data import make_mvtec

from ssad_models import model_file
from ssad_models.data.sources import find
from ssad_models.data.split import Source
from ssad_models.logs import COLUMNS, MetricsFile, WaitingTime
from ssad_models.recipe import Recipe, load_recipe
from ssad_models.run_files import CHECKPOINT, CURVES, MODEL, RUN
from ssad_models.trainer import AtomicCheckpointIO
from ssad_models.training import parts_of, train

TWO_STAGES = "stages=[{train: head, steps: 7, lr: 0.03}, {train: all, steps: 6, lr: 0.01}]"


def tiny(*overrides: str) -> Recipe:
    """Thirteen steps, in epochs of two, on a network without weights."""
    settings = ["size=64", "weights=random", "head=[8, 4]", "batch=4", "steps_per_epoch=2"]
    return load_recipe("cutpaste-lite0", [*settings, TWO_STAGES, *overrides])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return find(make_mvtec(tmp_path_factory.mktemp("data"), ("a <b>",), train=48))[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, source: Source) -> Path:
    """A run that nobody interrupted."""
    out = tmp_path_factory.mktemp("finished")
    train(tiny(), source, out, save_seconds=0)
    return out


def assert_same_run(out: Path, finished: Path) -> None:
    """Same weights, threshold and curves, to the last bit."""
    one, other = (torch.load(path / MODEL, weights_only=True) for path in (out, finished))
    assert one["state"].keys() == other["state"].keys()
    for name, tensor in one["state"].items():
        assert torch.equal(tensor, other["state"][name]), name
    assert one["calibration"] == other["calibration"]
    assert (out / CURVES).read_text() == (finished / CURVES).read_text()


def test_a_run_leaves_a_model_and_its_story(finished: Path, source: Source) -> None:
    model = model_file.load(finished / MODEL)
    assert model.calibration is not None
    assert model.calibration.count == 20
    assert model.meta.category == "a <b>"
    assert model.meta.native_size == (64, 64)
    test = source.test(64, 3)
    assert test is not None
    assert model.predict(test.images).score.isfinite().all()
    story = json.loads((finished / RUN).read_text())
    assert story["status"] == "finished"
    assert story["parts"] == {"learn": 21, "check": 7, "hold": 20}
    assert story["recipe"] == tiny().to_dict()
    assert story["data"] == source.fingerprint()
    assert 0 <= story["waiting_for_data"] <= 1
    rows = (finished / CURVES).read_text().splitlines()
    assert rows[0] == ",".join(COLUMNS)
    assert [int(row.split(",")[0]) for row in rows[1:]] == list(range(13))
    assert all(float(cell) >= 0 for row in rows[1:] for cell in row.split(","))
    assert list((finished / "tensorboard").glob("events*"))


def test_a_finished_run_is_left_alone(finished: Path, source: Source) -> None:
    before = (finished / MODEL).stat().st_mtime_ns
    assert train(tiny(), source, finished) == finished / MODEL
    assert (finished / MODEL).stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"got one with another `recipe` \(batch\); choose"):
        train(tiny("batch=8"), source, finished)
    with pytest.raises(ValueError, match="got one with another `seed`; choose another"):
        train(tiny(), source, finished, seed=1)


def test_a_checkpoint_is_of_one_run(finished: Path, source: Source, tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes((finished / CHECKPOINT).read_bytes())
    with pytest.raises(ValueError, match=r"last\.ckpt: .* got one with another `seed`; choose"):
        train(tiny(), source, tmp_path, seed=1)
    with pytest.raises(ValueError, match=r"last\.ckpt: .* another `recipe` \(batch\)"):
        train(tiny("batch=8"), source, tmp_path)
    assert not (tmp_path / RUN).exists()  # what was refused has left no trace
    torch.save({"step": 6}, tmp_path / CHECKPOINT)
    with pytest.raises(ValueError, match=r"last\.ckpt: .* got one with another `category`"):
        train(tiny(), source, tmp_path)


def test_other_training_files_are_another_run(tmp_path: Path) -> None:
    root, out = make_mvtec(tmp_path / "data", ("nut",), train=8, test=1), tmp_path / "out"
    train(tiny(), find(root)[0], out, tensorboard=False)
    os.utime(root / "nut/test/good/000.png", ns=(1, 1))
    train(tiny(), find(root)[0], out)  # tests may change
    os.utime(root / "nut/train/good/000.png", ns=(1, 1))
    with pytest.raises(ValueError, match=r"run\.json: .* another `data` \(training files were add"):
        train(tiny(), find(root)[0], out)


@pytest.mark.parametrize("content", [b'{"category": "a <', b"\xff", b"[]"])
def test_damaged_settings(source: Source, tmp_path: Path, content: bytes) -> None:
    (tmp_path / RUN).write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.json: .* got a damaged file; delete it") as caught:
        train(tiny(), source, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    try:
        root = make_mvtec(tmp_path, (os.fsdecode(b"n\xff"),), train=8, test=1)
    except OSError:
        pytest.skip("this file system wants names in UTF-8")
    train(tiny(), find(root)[0], tmp_path / "out", tensorboard=False)
    assert json.loads((tmp_path / "out" / RUN).read_text())["category"] == "n\\xff"


def test_what_comes_after_training_can_be_repeated(
    finished: Path, source: Source, tmp_path: Path
) -> None:
    for name in (CHECKPOINT, CURVES, RUN):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    with (tmp_path / "screen").open("w") as file:
        console = Console(file=file, width=120)
        train(tiny(), source, tmp_path, tensorboard=False, progress=console)
    assert_same_run(tmp_path, finished)
    shown = (tmp_path / "screen").read_text()
    assert "a <b>: reading images (1 MiB)" in shown
    # All steps were done in another session, and so was all the waiting.
    stories = [json.loads((path / RUN).read_text()) for path in (tmp_path, finished)]
    assert stories[0]["waiting_for_data"] == stories[1]["waiting_for_data"] > 0
    assert stories[0]["seconds"] == stories[1]["seconds"] > 0
    assert f"{stories[0]['waiting_for_data']:.1%} of" in shown


def test_starting_anew(finished: Path, source: Source, tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"half")
    with pytest.raises(ValueError, match=r"last\.ckpt: the checkpoint must be whole"):
        train(tiny(), source, tmp_path, tensorboard=False)
    train(tiny(), source, tmp_path, tensorboard=False, resume=False, workers=2)
    assert_same_run(tmp_path, finished)  # the number of workers does not matter


def written_at(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def start_training(source: Source, out: Path) -> BaseProcess:
    """A child that has read its images and is about to train, for the first time or again."""
    before = written_at(out / RUN)
    process = training_child.start(tiny(), source, out)
    while written_at(out / RUN) == before:
        assert process.is_alive()
        time.sleep(0.01)
    return process


def test_killed_at_ten_random_moments(finished: Path, source: Source, tmp_path: Path) -> None:
    chance, whole = random.Random(0), json.loads((finished / RUN).read_text())["seconds"]
    folders = (tmp_path / str(i) for i in itertools.count())
    kills, out = 0, next(folders)
    while kills < 10:
        process = start_training(source, out)
        process.join(chance.uniform(0, whole))
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
        if (out / CHECKPOINT).exists():
            torch.load(out / CHECKPOINT, weights_only=True)
        if (out / MODEL).exists():
            assert_same_run(out, finished)
            out = next(folders)  # some runs are done before they are killed
    train(tiny(), source, out, tensorboard=False)
    assert_same_run(out, finished)


def test_interrupted_from_the_keyboard(finished: Path, source: Source, tmp_path: Path) -> None:
    process = start_training(source, tmp_path)
    while not (tmp_path / CHECKPOINT).exists():
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode in (0, 1)  # 0 if it was faster
    train(tiny(), source, tmp_path, tensorboard=False)
    assert_same_run(tmp_path, finished)


def test_a_full_disk(finished: Path, source: Source, tmp_path: Path) -> None:
    # In the second stage the optimiser remembers more, so the checkpoint grows out of the limit.
    size = (finished / CHECKPOINT).stat().st_size
    process = training_child.start(tiny(), source, tmp_path, file_size=size - 100_000)
    process.join()
    message = (tmp_path / training_child.ERROR).read_text()
    assert message.startswith(f"{tmp_path}: there must be room for the run's files, got: File too")
    assert message.endswith("run the same command again (the last checkpoint is whole)")
    assert "\n" not in message
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"] == 6
    train(tiny(), source, tmp_path, tensorboard=False)
    assert_same_run(tmp_path, finished)


def test_too_few_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    few, fewer = (
        find(make_mvtec(tmp_path / str(n), ("nut",), train=n, test=1))[0] for n in (24, 7)
    )
    with caplog.at_level(logging.WARNING, "ssad_models.training"):
        path = train(tiny(), few, tmp_path / "few", tensorboard=False)
    assert "nut: no threshold, since 24 normal images are too few" in caplog.text
    assert re.search(
        r"for false_alarm=0\.\d+ and held_out=0\.\d+ it takes \d+ of them", caplog.text
    )
    assert model_file.load(path).calibration is None
    with pytest.raises(ValueError, match=r"'nut' must have at least 8 normal .* got 7"):
        train(tiny(), fewer, tmp_path / "fewer")


def test_devices_there_are_not(source: Source, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`device` must be cpu, cuda or auto, got 'tpu'"):
        train(tiny(), source, tmp_path, device="tpu")


@pytest.mark.parametrize("count", [8, 39, 40, 200, 1000])
@pytest.mark.parametrize("share", [0.0, 0.25])
def test_images_serve_one_purpose(count: int, share: float) -> None:
    parts = parts_of(count, load_recipe("cutpaste"), share, seed=3)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(count))
    assert len(parts.hold) == (0 if count < 40 else max(20, count // 5))
    assert len(parts.check) == int(share * (count - len(parts.hold)))
    assert len(parts_of(count, load_recipe("cutpaste", ["held_out=0"]), share, 3).hold) == 0
    rare = parts_of(count, load_recipe("cutpaste", ["false_alarm=0.01"]), share, 3)
    assert len(rare.hold) == (0 if count < 198 else max(99, count // 5))


def test_curves_are_rewound(tmp_path: Path) -> None:
    path = tmp_path / CURVES
    log = MetricsFile(path, 0)
    for step in range(5):
        log.log_metrics({"train/loss": step / 4, "epoch": 0.0}, step)
    MetricsFile(path, 3).log_metrics({"train/loss": 9.0}, 3)
    rows = path.read_text().splitlines()[1:]
    assert rows == ["0,0.0,,", "1,0.25,,", "2,0.5,,", "3,9.0,,"]


def test_checkpoints_hold_no_code(tmp_path: Path) -> None:
    torch.save({"step": Path}, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match=r"evil\.ckpt: the checkpoint must be whole"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "evil.ckpt")


def test_waiting_is_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter((0.0, 1.0, 4.0, 4.0, 6.0, 6.0))
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    clock = WaitingTime()
    assert clock.share == 0.0
    clock.start("run_training_epoch")
    clock.start("[_TrainingEpochLoop].train_dataloader_next")
    clock.stop("[_TrainingEpochLoop].train_dataloader_next")
    clock.stop("run_training_epoch")
    assert (clock.seconds, clock.waiting, clock.share) == (6.0, 3.0, 0.5)
