# SPDX-License-Identifier: Apache-2.0
"""Methods beside each other: trained in processes of their own, killed, failing, summed up."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning")
pytest.importorskip("typer")

import torch
from fake_data import Deadly, make_mvtec
from made_up import made_up
from rich.console import Console
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from ssad_models.commands import app
from ssad_models.compare import Budget, job, recipes_of, run
from ssad_models.compare.job import Job
from ssad_models.compare.outcome import Outcomes
from ssad_models.compare.process import do_apart
from ssad_models.compare.publish import publish
from ssad_models.data.sources import find
from ssad_models.evaluate import evaluate
from ssad_models.methods import METHODS, summary
from ssad_models.report import Run
from ssad_models.runs import to_dict
from ssad_models.settings import RecipeError

TINY = ["size=64", "crop=64", "batch=4"]
METRICS = ("auroc", "pixel_auroc", "aupro_30", "iou", "difference", "difference_low", "verdict")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small category, as MVTec AD lays it out."""
    root = tmp_path_factory.mktemp("data")
    return make_mvtec(root, categories=("bottle",), train=12, test=3)


def arguments(data: Path, out: Path, *methods: object) -> list[str]:
    """A comparison in seconds."""
    settings = [part for setting in TINY for part in ("--set", setting)]
    names = ",".join(map(str, methods or ("cutpaste-builtin", "nsa-builtin")))
    options = ["--methods", names, "--steps", "3", "--width", "0.25", "--device", "cpu"]
    return ["compare", str(data), *options, *settings, "--out", str(out)]


def ssadk(arguments: Sequence[str], code: int = 0) -> str:
    """Run a command and return what it printed, on lines as wide as need be."""
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "1000"})
    assert result.exit_code == code, result.output
    return result.output


def results(out: Path) -> Any:
    """The JSON file of a comparison."""
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A comparison of two methods and one that cannot be trained, and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    broken = folder / "broken.yaml"
    broken.write_text("base: cutpaste-builtin\nweights: missing.pth\n", encoding="utf-8")
    out = folder / "out"
    printed = ssadk(arguments(data, out, "cutpaste-builtin", broken, "nsa-builtin"), code=1)
    return out, printed


def test_methods_stand_beside_each_other(finished: tuple[Path, str]) -> None:
    out, printed = finished
    found = results(out)
    assert [(row["method"], row["category"], row["seeds"]) for row in found["rows"]] == [
        ("cutpaste-builtin", "bottle", 1),
        ("nsa-builtin", "bottle", 1),
    ]
    for row in found["rows"]:
        assert row["steps"] == 3
        assert row["seconds"] > 0
        assert row["images_per_second"] > 0
        assert 100 < row["memory_mib"] < 10_000
        assert row["difference_low"] <= row["difference"] <= row["difference_high"]
        assert row["difference"] == pytest.approx(row["auroc"] - row["untrained_auroc"])
    (kind,) = [row for row in found["kinds"] if row["kind"] == "hole"]
    assert set(kind["auroc"]) == {"cutpaste-builtin", "nsa-builtin"}
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["auroc"]) for row in rows] == [row["auroc"] for row in found["rows"]]
    for text in ("Against the untrained network", "What it took", "Image AUROC by kind, in %"):
        assert text in printed
    page = (out / "report.html").read_text(encoding="utf-8")
    for text in ("What it took", "Failed", "train/loss", "Which kinds of defect are found?"):
        assert text in page
    for name in ("cutpaste", "nsa"):
        assert summary(name)[:40] in page
    assert re.search(r"nsa-builtin is .*its untrained network on bottle \(", page)


def test_a_method_that_fails_leaves_the_others_standing(finished: tuple[Path, str]) -> None:
    out, printed = finished
    (failure,) = results(out)["failures"]
    assert (failure["method"], failure["category"], failure["seed"]) == ("broken", "bottle", 0)
    why = "`network_width` of resnet18 with given weights must be 1, got 0.25"
    assert failure["why"] == why
    assert f"failed: broken, bottle, seed 0: {why}" in printed
    assert "broken could not be trained." in printed
    assert printed.count("bottle: no threshold, since 12 normal images are too few") == 2
    assert "Traceback" in Path(failure["log"]).read_text(encoding="utf-8")


def test_the_untrained_network_is_that_of_the_seed(finished: tuple[Path, str], data: Path) -> None:
    out, _ = finished
    found = json.loads((out / "runs/nsa-builtin/bottle/seed0/comparison.json").read_text())
    recipe = recipes_of(["nsa-builtin"], TINY, width=0.25)["nsa-builtin"].for_category("bottle")
    network = METHODS["nsa"].module(recipe, 0).network.eval()
    (source,) = find(data)
    test = source.test(64, 3)
    assert test is not None
    with torch.no_grad():
        scores = network(test.images).mean((1, 2, 3))
    torch.testing.assert_close(torch.tensor(found["scores"]["untrained"]), scores)
    assert found["cost"]["parameters"] == sum(p.numel() for p in network.parameters())
    (row,) = [row for row in results(out)["rows"] if row["method"] == "nsa-builtin"]
    aurocs = (roc_auc_score(test.labels, found["scores"][s]) for s in ("trained", "untrained"))
    assert row["difference"] == pytest.approx(next(aurocs) - next(aurocs))


def test_what_is_done_is_not_done_again(
    finished: tuple[Path, str], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = finished
    before, tried = results(out)["rows"], []

    def failing(job: Job) -> str:
        tried.append(job.name)
        job.log.write_text("still broken", encoding="utf-8")
        return "still broken"

    monkeypatch.setattr(run, "do_apart", failing)
    methods = "cutpaste-builtin", out.parent / "broken.yaml", "nsa-builtin"
    assert "still broken" in ssadk(arguments(data, out, *methods), code=1)
    assert tried == ["broken"]
    assert results(out)["rows"] == before
    other = arguments(data, out, "nsa-builtin")
    other[other.index("--steps") + 1] = "4"
    message = ssadk(other, code=1)
    assert "got one with another `budget`; choose another --out" in message
    assert len(message.splitlines()) == 1


def _descendants(process: int) -> list[int]:
    found = []
    for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        found += [int(child), *_descendants(int(child))]
    return found


def test_killed_in_the_middle(finished: tuple[Path, str], data: Path, tmp_path: Path) -> None:
    command = arguments(data, tmp_path / "out", "cutpaste-builtin")
    printed = tmp_path / "printed.txt"
    with (
        printed.open("wb") as file,
        subprocess.Popen(
            [sys.executable, "-m", "ssad_models.cli", *command],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,  # not where the source tree lies, which has no extension
        ) as process,
    ):
        model = tmp_path / "out/runs/cutpaste-builtin/bottle/seed0/model.pt"
        deadline = time.monotonic() + 120
        while not model.exists():
            assert process.poll() is None, printed.read_text(encoding="utf-8")
            assert time.monotonic() < deadline
            time.sleep(0.02)
        others = _descendants(process.pid)
        assert others
        process.send_signal(signal.SIGKILL)
    while any(Path(f"/proc/{other}").exists() for other in others):  # no one writes any more
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not (tmp_path / "out/results.json").exists()
    ssadk(command)
    first, again = (
        [{name: row[name] for name in ("method", *METRICS)} for row in results(out)["rows"]]
        for out in (finished[0], tmp_path / "out")
    )
    assert again == first[:1]


def a_job(source: Any, out: Path, budget: Budget, seed: int = 0) -> Job:
    recipe = recipes_of(["nsa-builtin"], TINY, width=0.25)["nsa-builtin"]
    return Job("nsa", recipe.for_category(source.name), source, seed, budget, out, None, "cpu")


def test_a_process_that_is_killed_is_told(tmp_path: Path) -> None:
    why = do_apart(a_job(Deadly(), tmp_path, Budget(steps=3)))
    assert why == "killed by SIGKILL, perhaps for want of memory"


def test_minutes_become_steps_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = find(data)
    first = a_job(source, tmp_path, Budget(minutes=0.1))
    assert 0 < job._seconds_per_step(first) < 60
    monkeypatch.setattr(job, "_seconds_per_step", lambda job: 0.5)
    assert job._steps(first) == 12
    monkeypatch.setattr(job, "_seconds_per_step", lambda job: 0.1)
    assert job._steps(a_job(source, tmp_path, Budget(minutes=0.1), seed=1)) == 12
    with pytest.raises(ValueError, match="another `budget`"):
        job._steps(a_job(source, tmp_path, Budget(minutes=0.2)))
    first.plan.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"plan\.json: .* got a damaged one; delete it"):
        job.check(first)


def test_names_of_methods(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("base: pii-builtin\n", encoding="utf-8")
    recipes = recipes_of(["cutpaste", "nsa", str(mine)], width=0.5, builtin=True)
    assert [(name, recipe.size) for name, recipe in recipes.items()] == [
        ("cutpaste", 128),
        ("nsa", 128),
        ("mine", 128),
    ]
    assert {recipe.to_dict()["network_width"] for recipe in recipes.values()} == {0.5}
    assert recipes_of(["cutpaste"])["cutpaste"].size == 256
    for names, message in (
        (["cutpast"], r"got cutpast .*; did you mean `cutpaste`\?"),
        (["nsa", "nsa"], "methods must have different names, got 'nsa' again"),
        (["nsa", "lists"], "a recipe must be a YAML file or one of"),
    ):
        with pytest.raises(RecipeError, match=message):
            recipes_of(names)
    with pytest.raises(RecipeError, match="`stages` is not a setting"):
        recipes_of(["cutpaste", "nsa"], ["stages=[{train: all, steps: 2, lr: 0.1}]"])


def test_wrong_options_are_usage_errors(data: Path, tmp_path: Path) -> None:
    command = [*arguments(data, tmp_path / "out"), "--minutes", "1"]
    assert "exclude each other" in ssadk(command, code=2)
    assert not (tmp_path / "out").exists()


def test_methods_say_what_they_are_weak_at() -> None:
    for name in ("cutpaste", "cutpaste-patch", "nsa", "fpi", "pii"):
        assert len(summary(name)) > 200
    assert set(METHODS) >= {"cutpaste", "cutpaste-patch", "nsa", "fpi", "pii"}


def add(
    outcomes: Outcomes, out: Path, method: str, category: str, seed: int, *, helps: float
) -> None:
    """A training that moves the scores of anomalous images by `helps`."""
    kinds = ["good"] * 20 + ["hole"] * 10 + ["blur"] * 10
    test = made_up(kinds, [0.0] * 20 + [4.0, 8.0] * 10)
    before = torch.randn(40, generator=torch.Generator().manual_seed(seed))
    after = before + helps * test.labels
    done = Run(method, category, evaluate(test, after, resamples=20), seed)
    source = type("Named", (), {"name": category})()
    recipe = recipes_of(["nsa-builtin"])["nsa-builtin"]
    cost = {"steps": 3, "seconds": 1.5, "images_per_second": 9, "parameters": 5, "memory_mib": 7}
    result = {
        "run": to_dict(done),
        "untrained": {"auroc": roc_auc_score(test.labels, before)},
        "scores": {"trained": after.tolist(), "untrained": before.tolist()},
        "labels": test.labels.tolist(),
        "groups": test.groups.tolist(),
        "cost": cost,
    }
    job = Job(method, recipe, source, seed, Budget(steps=3), out, None, "cpu")
    outcomes.add(job, result, "")


def test_who_is_worse_than_untrained_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssad_models.compare.outcome.from_dict", _without_curves)
    outcomes = Outcomes()
    for category in ("brick", "grass"):
        for seed in (0, 1):
            add(outcomes, tmp_path, "good", category, seed, helps=2.0)
            add(outcomes, tmp_path, "bad", category, seed, helps=-2.0)
            mixed = 3.0 if category == "brick" else -1.5
            add(outcomes, tmp_path, "mixed", category, seed, helps=mixed)
    recipes = recipes_of(["nsa-builtin"])
    console = Console(record=True, width=80)
    publish(outcomes, recipes, Budget(steps=3), tmp_path, console)
    printed = console.export_text()
    assert re.search(r"good is above its untrained network \(\+", printed)
    assert re.search(r"bad is below its untrained network \(-", printed)
    assert re.search(r"mixed is below its untrained network on grass \(-", printed)
    assert max(map(len, printed.split("Image AUROC by kind")[0].splitlines())) <= 80
    rows = results(tmp_path)["rows"]
    assert [row["method"] for row in rows if row["category"] == "mean"] == ["good", "bad", "mixed"]
    for method in ("good", "bad"):
        brick, grass, mean = (row["auroc"] for row in rows if row["method"] == method)
        assert mean == pytest.approx((brick + grass) / 2)
    cells = results(tmp_path)["cells"]
    assert {(cell["kind"], cell["strength"]) for cell in cells} == {
        (kind, strength) for kind in ("hole", "blur") for strength in (4.0, 8.0)
    }
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "bad is below its untrained network" in page
    assert page.count('class="bar s2"') == 2  # of the third method, for two kinds


def _without_curves(values: Any, folder: Path) -> Run:
    from ssad_models.evaluate import Evaluation

    return Run(**{**values, "evaluation": Evaluation.from_dict(values["evaluation"])})
