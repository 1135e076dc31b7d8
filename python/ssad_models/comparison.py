# SPDX-License-Identifier: Apache-2.0
"""Paired comparison of two methods on the same test images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from ssad_models.data.split import Split


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


def group_wins(scores: torch.Tensor, test: Split) -> torch.Tensor:
    """How often an anomalous image of group q scores above a normal one of group p.

    Ties count one half. The mean of the result is the image AUROC.

    Args:
        scores: (N,), one per image of the test set.
        test: The test set. All groups must have the same number of normal images, and of anomalous
            ones.

    Returns:
        (P, P) float64, rows p, columns q.

    Raises:
        ValueError: If groups differ in their numbers of images.
    """
    groups = test.groups.unique(return_inverse=True)[1]
    count = int(groups.max()) + 1

    def by_group(where: torch.Tensor) -> torch.Tensor:
        sizes = groups[where].bincount(minlength=count).tolist()
        if len(set(sizes)) > 1:
            msg = f"group_wins: all groups of `test` must be of one size, got {sizes}"
            raise ValueError(msg)
        return scores[where][groups[where].argsort(stable=True)].view(count, -1).double()

    normal, anomalous = by_group(~test.labels), by_group(test.labels)
    pairs = normal[:, None, :, None] - anomalous[None, :, None, :]
    return ((pairs < 0).double() + 0.5 * (pairs == 0)).mean((2, 3))


def paired_bootstrap(
    method: Sequence[Sequence[torch.Tensor]],
    baseline: Sequence[Sequence[torch.Tensor]],
    *,
    resamples: int = 4000,
    seed: int = 0,
) -> Difference:
    """Difference of mean AUROC, method minus baseline, on the same images.

    Groups are resampled within each category, the same ones for both methods, because images of one
    group are not independent. Seeds of training are resampled too, for each method by itself.

    Args:
        method: For each category, for each seed, the (P, P) result of `group_wins`.
        baseline: The same of the baseline; it may have another number of seeds, such as one if
            nothing is random.
        resamples: Number of bootstrap samples.
        seed: Of the resampling.

    Returns:
        The difference over all categories and seeds, and its 2.5 and 97.5 percentiles.
    """
    generator = torch.Generator().manual_seed(seed)

    def weights(n: int) -> torch.Tensor:
        """How often each of n is drawn in n draws, over n: (resamples, n)."""
        drawn = torch.randint(n, (resamples, n), generator=generator)
        return torch.nn.functional.one_hot(drawn, n).double().mean(1)

    seeds = [weights(len(side[0])) for side in (method, baseline)]
    samples = torch.zeros(resamples, dtype=torch.float64)
    mean = 0.0
    for pair in zip(method, baseline, strict=True):
        drawn = weights(pair[0][0].shape[0])
        for sign, by_seed, seed_weights in zip(
            (1, -1), (torch.stack(list(side)) for side in pair), seeds, strict=True
        ):
            each = torch.einsum("bp,spq,bq->bs", drawn, by_seed, drawn)
            samples += sign * (each * seed_weights).sum(1) / len(method)
            mean += sign * float(by_seed.mean()) / len(method)
    # A group drawn twice is paired with itself, where detection is easier, so the samples lie to
    # one side of the estimate. Only their spread is wanted.
    samples += mean - samples.mean()
    low, high = samples.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Difference(mean, low, high)
