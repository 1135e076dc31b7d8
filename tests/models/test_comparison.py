# SPDX-License-Identifier: Apache-2.0
"""The paired bootstrap."""

from __future__ import annotations

import pytest
import torch
from made_up import made_up
from sklearn.metrics import roc_auc_score

from ssad_models.comparison import GroupWins, group_wins, paired_bootstrap


def balanced(wins: torch.Tensor) -> GroupWins:
    """Of groups with one normal and one anomalous image each."""
    ones = torch.ones(len(wins), dtype=torch.float64)
    return GroupWins(wins, ones, ones)


def test_wins_are_auroc_however_often_groups_come() -> None:
    kinds = ["good"] * 12 + ["hole"] * 6 + ["blur"] * 7
    groups = [p for p in range(6) for _ in range(2)] + [*range(6), 3, *range(6)]  # of unequal sizes
    test, scores = made_up(kinds, groups=groups), torch.randn(25).round(decimals=1)
    wins = group_wins(scores, test.labels, test.groups)
    assert wins.wins.shape == (6, 6)
    weights = torch.cat([torch.ones(1, 6), torch.randint(0, 4, (5, 6))]).double()
    for auroc, times in zip(wins.auroc(weights), weights[:, test.groups], strict=True):
        expected = roc_auc_score(test.labels, scores, sample_weight=times)
        assert float(auroc) == pytest.approx(expected)
    only_anomalous = made_up(["good", "hole", "hole"], groups=[0, 1, 2])
    wins = group_wins(torch.rand(3), only_anomalous.labels, only_anomalous.groups)
    assert wins.auroc(torch.eye(3).double()).isnan().all()


def test_bootstrap_of_a_method_against_itself_is_zero() -> None:
    wins = [[balanced(torch.rand(6, 6, dtype=torch.float64))] for _ in range(3)]
    assert paired_bootstrap(wins, wins)[:3] == pytest.approx((0, 0, 0), abs=1e-12)


def test_bootstrap_sees_a_clear_difference_and_no_other() -> None:
    generator = torch.Generator().manual_seed(1)

    def noisy(mean: float) -> GroupWins:
        return balanced(mean + torch.rand(12, 12, generator=generator).double() * 0.2)

    base = [[noisy(0.4)] for _ in range(4)]
    better = [[noisy(0.6) for _ in range(3)] for _ in range(4)]
    difference = paired_bootstrap(better, base)
    assert difference.verdict == "above"
    assert difference.low < difference.mean < difference.high
    assert difference.mean == pytest.approx(0.2, abs=0.02)
    assert paired_bootstrap(base, better).verdict == "below"
    alike = [[noisy(0.4) for _ in range(3)] for _ in range(4)]
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
        sides = [[balanced(method)]], [[balanced(base)]]
        difference = paired_bootstrap(*sides, resamples=400)
        hits += difference.low <= 0 <= difference.high
    assert 50 <= hits <= 60


def test_bootstrap_over_single_images_covers_the_truth() -> None:
    """Every image a group of its own; both methods see the same images, equally well."""
    generator = torch.Generator().manual_seed(3)
    hits = 0
    for _ in range(60):
        test = made_up(["good"] * 20 + ["hole"] * 30)
        seen = torch.randn(50, generator=generator) + test.labels
        sides = (
            [
                [
                    group_wins(
                        seen + 0.5 * torch.randn(50, generator=generator), test.labels, test.groups
                    )
                ]
            ]
            for _ in range(2)
        )
        difference = paired_bootstrap(*sides, resamples=400)
        hits += difference.low <= 0 <= difference.high
    assert 52 <= hits <= 60
