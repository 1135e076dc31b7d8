# SPDX-License-Identifier: Apache-2.0
"""Paired comparison of two methods on the same test images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch


class Difference(NamedTuple):
    """Difference of two mean AUROCs and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Say "above" or "below" if the interval excludes 0, else "unclear"."""
        if self.low > 0:
            return "above"
        return "below" if self.high < 0 else "unclear"


class GroupWins(NamedTuple):
    """How often anomalous images score above normal ones, by the groups of both.

    Attributes:
        wins: (P, P) float64: of the pairs of a normal image of group p and an anomalous one of
            group q, in how many the anomalous one scores higher; ties count one half.
        normal: (P,) float64 numbers of normal images.
        anomalous: (P,) float64 numbers of anomalous images.
    """

    wins: torch.Tensor
    normal: torch.Tensor
    anomalous: torch.Tensor

    def auroc(self, weights: torch.Tensor) -> torch.Tensor:
        """Image AUROC of test sets in which groups come more or less often.

        Args:
            weights: (R, P) float64, how often each group comes.

        Returns:
            (R,) float64; NaN where normal or anomalous images are missing.
        """
        won = ((weights @ self.wins) * weights).sum(1)
        return won / ((weights @ self.normal) * (weights @ self.anomalous))


def group_wins(scores: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor) -> GroupWins:
    """Sum up the scores of a test set by its groups, for `paired_bootstrap`.

    Args:
        scores: (N,), one per image of the test set; higher is more anomalous.
        labels: (N,) bool, True for anomalous.
        groups: (N,) int64; images of one group are not independent. Where all are, each is a group
            of its own.
    """
    number = groups.unique(return_inverse=True)[1]
    count = int(number.max()) + 1
    normal, anomalous = number[~labels], number[labels]
    pairs = scores[~labels, None].double() - scores[None, labels].double()
    won = (pairs < 0).double() + 0.5 * (pairs == 0)
    rows = won.new_zeros(count, len(anomalous)).index_add(0, normal, won)
    return GroupWins(
        wins=won.new_zeros(count, count).index_add(1, anomalous, rows),
        normal=normal.bincount(minlength=count).double(),
        anomalous=anomalous.bincount(minlength=count).double(),
    )


def paired_bootstrap(
    method: Sequence[Sequence[GroupWins]],
    baseline: Sequence[Sequence[GroupWins]],
    *,
    resamples: int = 4000,
    seed: int = 0,
) -> Difference:
    """Difference of mean AUROC, method minus baseline, on the same images.

    Groups are resampled within each category, the same ones for both methods, because images of one
    group are not independent. Seeds of training are resampled too, for each method by itself.

    Args:
        method: For each category, for each seed, the result of `group_wins`.
        baseline: The same of the baseline; it may have another number of seeds, such as one if
            nothing is random.
        resamples: Number of bootstrap samples. Those that lack normal or anomalous images of a
            category do not count.
        seed: Of the resampling.

    Returns:
        The difference over all categories and seeds, and its 2.5 and 97.5 percentiles.
    """
    generator = torch.Generator().manual_seed(seed)

    def weights(n: int) -> torch.Tensor:
        """How often each of n is drawn in n draws, over n: (resamples, n)."""
        drawn = torch.randint(n, (resamples, n), generator=generator)
        times = torch.zeros(resamples, n, dtype=torch.float64)
        return times.scatter_add_(1, drawn, torch.ones_like(times)) / n

    seeds = [weights(len(side[0])) for side in (method, baseline)]
    samples = torch.zeros(resamples, dtype=torch.float64)
    mean = 0.0
    for pair in zip(method, baseline, strict=True):
        count = len(pair[0][0].normal)
        drawn, all_alike = weights(count), torch.ones(1, count, dtype=torch.float64)
        for sign, by_seed, seed_weights in zip((1, -1), pair, seeds, strict=True):
            each = torch.stack([one.auroc(drawn) for one in by_seed], dim=1)
            samples += sign * (each * seed_weights).sum(1) / len(method)
            found = torch.cat([one.auroc(all_alike) for one in by_seed])
            mean += sign * float(found.mean()) / len(method)
    samples = samples[samples.isfinite()]
    # A group drawn twice is paired with itself, where detection is easier, so the samples lie to
    # one side of the estimate. Only their spread is wanted.
    samples = (samples + mean - samples.mean()).clamp(-1, 1)
    low, high = samples.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Difference(mean, low, high)
