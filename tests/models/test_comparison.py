# SPDX-License-Identifier: Apache-2.0
"""The paired bootstrap."""

from __future__ import annotations

import pytest
import torch
from made_up import made_up
from sklearn.metrics import roc_auc_score

from ssad_models.comparison import group_wins, paired_bootstrap


def test_mean_of_wins_is_auroc() -> None:
    kinds = ["good"] * 12 + ["hole"] * 6 + ["blur"] * 6
    groups = [p for p in range(6) for _ in range(2)] + list(range(6)) * 2
    test, scores = made_up(kinds, groups=groups), torch.randn(24).round(decimals=1)
    wins = group_wins(scores, test)
    assert wins.shape == (6, 6)
    assert float(wins.mean()) == pytest.approx(roc_auc_score(test.labels, scores))


def test_groups_of_unequal_size_are_refused() -> None:
    test = made_up(["good", "good", "good", "hole", "hole"], groups=[0, 1, 1, 0, 1])
    with pytest.raises(ValueError, match=r"must be of one size, got \[1, 2\]"):
        group_wins(torch.zeros(5), test)


def test_bootstrap_of_a_method_against_itself_is_zero() -> None:
    wins = [[torch.rand(6, 6, dtype=torch.float64)] for _ in range(3)]
    assert paired_bootstrap(wins, wins)[:3] == pytest.approx((0, 0, 0), abs=1e-12)


def test_bootstrap_sees_a_clear_difference_and_no_other() -> None:
    generator = torch.Generator().manual_seed(1)

    def noise() -> torch.Tensor:
        return torch.rand(12, 12, generator=generator, dtype=torch.float64) * 0.2

    base = [[0.4 + noise()] for _ in range(4)]
    better = [[0.6 + noise() for _ in range(3)] for _ in range(4)]
    difference = paired_bootstrap(better, base)
    assert difference.verdict == "above"
    assert difference.low < difference.mean < difference.high
    assert difference.mean == pytest.approx(0.2, abs=0.02)
    assert paired_bootstrap(base, better).verdict == "below"
    alike = [[0.4 + noise() for _ in range(3)] for _ in range(4)]
    assert paired_bootstrap(alike, base).verdict == "unclear"
    assert paired_bootstrap(alike, base) == paired_bootstrap(alike, base)


def test_bootstrap_interval_covers_the_truth() -> None:
    """Rows and columns with random effects: some 95 % of intervals hold the true difference."""
    generator = torch.Generator().manual_seed(2)
    hits = 0
    for _ in range(60):
        effect = torch.randn(2, 20, generator=generator, dtype=torch.float64) * 0.1
        method = 0.6 + effect[0][:, None] + effect[1][None, :]
        base = torch.full((20, 20), 0.6, dtype=torch.float64)
        difference = paired_bootstrap([[method]], [[base]], resamples=400)
        hits += difference.low <= 0 <= difference.high
    assert 50 <= hits <= 60
