# SPDX-License-Identifier: Apache-2.0
"""`make gpu` without a GPU: its commands, its page, its benchmarks at small size on a CPU."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from scripts_of_the_tree import SCRIPTS, script

from ssad_kernels import testing


@pytest.fixture(name="day")
def _day() -> ModuleType:
    return script("gpu_day")


WHERE = {
    "date": "2030-01-02", "commit": "abc", "dirty": False, "cpu": "a CPU", "python": "3.11",
    "torch": "2.6", "cuda": "13.0", "threads": 4,
}  # fmt: skip
ROW = {
    "op": "poisson_solve, sine", "shape": "2x3x8x8", "items": 2, "peer": "CuPy, cuFFT",
    "difference": 0.001234, "tolerance": 1.0, "ours_us": [1.0, 2.0, 3.0],
    "peer_us": [10.0, 2000.0, 30000.0], "speed_up": [9.5, 10.25, 11.0],
}  # fmt: skip


def results(*rows: dict[str, Any]) -> dict[str, Any]:
    parts = {"suite": "passed", "memcheck": "skipped: no tool"}
    return {"gpu": "A GPU (80 GB)", "environment": WHERE, "parts": parts, "rows": list(rows)}


def test_the_page_has_a_line_for_each_row_and_reason(day, tmp_path):
    unlike = {"op": "a", "shape": "b", "peer": "c", "skipped": "results differ by 3"}
    page = day.write(results(ROW, unlike, {"skipped": "kornia is not installed"}), tmp_path)
    assert page.name == "a-gpu-80-gb.md"
    lines = page.read_text().splitlines()
    assert lines[0] == "# A GPU (80 GB)"
    assert (
        "| poisson_solve, sine | 2x3x8x8 | 2 (1 to 3) | CuPy, cuFFT | 2e+03 (10 to 3e+04) "
        "| 10.2 (9.5 to 11) | 0.0012 |"
    ) in lines
    ends = ["- a, b, against c: results differ by 3", "- kornia is not installed"]
    assert lines[-4:] == [*ends, "- suite: passed", "- memcheck: skipped: no tool"]
    assert json.loads(page.with_suffix(".json").read_text())["rows"][0] == ROW


@pytest.mark.parametrize(
    ("gpu", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "nvidia-h100-80gb-hbm3"),
        ("Quadro/RTX", "quadro-rtx"),
        ("-", "gpu"),
    ],
)
def test_names_of_gpus_become_names_of_files(day, gpu, name):
    assert day.file_name(gpu) == name


def test_sanitizers_run_tests_that_there_are(day):
    command = day.sanitizer_command("memcheck", "/opt/compute-sanitizer")
    assert command[:5] == ["/opt/compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "9"]
    words = set(re.findall(r"\w+", day.CHOSEN)) - {"and", "or", "cuda"}
    registration = SCRIPTS.parent / command[command.index("-k") - 1]
    assert "def test_kernel_equals_reference(" in registration.read_text()
    words.remove("test_kernel_equals_reference")
    assert len(words) >= 6
    assert all(any(word in op for op in testing._SAMPLES) for word in words)


def test_a_missing_sanitizer_is_named_and_a_failure_is_one(day, monkeypatch):
    commands = []

    def run(command: list[str], **options: Any) -> Any:
        commands.append((command, options["env"]))
        return subprocess.CompletedProcess(command, 9)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(day.shutil, "which", lambda name: None)
    outcomes = day.run_tests()
    assert outcomes.pop("suite") == "FAILED with exit status 9"
    assert set(outcomes) == set(day.SANITIZERS)
    assert all(outcome.startswith("skipped: compute-sanitizer") for outcome in outcomes.values())
    monkeypatch.setattr(day.shutil, "which", lambda name: "/opt/compute-sanitizer")
    assert set(day.run_tests().values()) == {"FAILED with exit status 9"}
    assert [command[2] for command, _ in commands[2:]] == list(day.SANITIZERS)
    assert all(variables["SSAD_TEST_DEVICE"] == "cuda" for _, variables in commands)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line_tells_it(day):
    done = subprocess.run(
        [sys.executable, SCRIPTS / "gpu_day.py"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (77, "")
    assert done.stdout.startswith("skipped: make gpu needs a GPU, and ")
    assert done.stdout.count("\n") == 1


def test_asking_for_the_gpu_in_vain_is_an_error(day):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = subprocess.run(
        day.pytest_command("tests/test_import.py"), cwd=SCRIPTS.parent, env=day.environment(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "SSAD_TEST_DEVICE is cuda, but torch finds no GPU" in done.stdout + done.stderr


def test_all_benchmarks_run_on_a_cpu(day, monkeypatch, tmp_path):
    pytest.importorskip("pytest_benchmark")
    sys.path.append(str(SCRIPTS.parent / "benchmarks"))
    import gpu_cases

    measure = gpu_cases.measure
    monkeypatch.setattr(gpu_cases, "_ROUND_SECONDS", 0.0)
    monkeypatch.setattr(gpu_cases, "measure", lambda case, device: measure(case, device, 2))
    found = day.benchmark("no GPU", "cpu", {}, n=2, side=32)
    rows = {(row["op"], row["peer"]): row for row in found["rows"] if "op" in row}
    assert len(rows) >= 11
    for row in rows.values():
        assert "skipped" not in row, row
        assert row["ours_us"][0] > 0
    assert ("poisson_solve, sine", "NumPy") in rows
    assert [row["skipped"] for row in found["rows"] if "op" not in row] in (
        [], ["kornia is not installed"],
    )  # fmt: skip
    assert len(day.write(found, tmp_path).read_text().splitlines()) > 15
