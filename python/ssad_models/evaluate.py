# SPDX-License-Identifier: Apache-2.0
"""Image AUROC per kind and strength of defect, and paired comparison of two methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torchmetrics.classification import BinaryAUROC

from ssad_models.data.builtin import TestSet

Cell = tuple[str, float]


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


def cells(test: TestSet) -> list[Cell]:
    """The (kind, strength) pairs of a test set, normal tiles left out, in its order."""
    pairs = zip(test.kinds, test.strengths.tolist(), strict=True)
    return [cell for cell in dict.fromkeys(pairs) if cell[0] != "normal"]


def _rows(test: TestSet) -> dict[Cell, torch.Tensor]:
    """Positions in the test set of each cell's tiles; normal ones are under ("normal", 0.0)."""
    rows: dict[Cell, list[int]] = {}
    for row, cell in enumerate(zip(test.kinds, test.strengths.tolist(), strict=True)):
        rows.setdefault(cell, []).append(row)
    return {cell: torch.tensor(where) for cell, where in rows.items()}


def auroc_table(scores: torch.Tensor, test: TestSet) -> dict[Cell, float]:
    """Image AUROC of every cell of the ladder against all normal tiles.

    Args:
        scores: (N,) floating, one per tile of the test set; higher means more anomalous.
        test: The test set.

    Returns:
        AUROC in 0..1 for each (kind, strength).
    """
    rows = _rows(test)
    normal = rows.pop(("normal", 0.0))
    metric = BinaryAUROC()
    table = {}
    for cell, where in rows.items():
        labels = torch.cat([torch.zeros_like(normal), torch.ones_like(where)])
        # Ranks, because the metric would squash scores outside 0..1 through a sigmoid, which makes
        # ties.
        joined = scores[torch.cat([normal, where])]
        ranks = joined.unique(return_inverse=True)[1]
        table[cell] = float(metric(ranks.double() / len(ranks), labels))
    return table


def place_wins(scores: torch.Tensor, test: TestSet) -> torch.Tensor:
    """How often a defective tile of place q scores above a normal one of place p, over all cells.

    Ties count one half. The mean of the result is the mean of `auroc_table`.

    Args:
        scores: (N,), one per tile of the test set.
        test: The test set; every place must occur equally often in every cell.

    Returns:
        (P, P) float64, rows p, columns q.
    """
    rows = _rows(test)
    normal = rows.pop(("normal", 0.0))
    places = int(test.places.max()) + 1

    def by_place(where: torch.Tensor) -> torch.Tensor:
        return scores[where][test.places[where].argsort(stable=True)].view(places, -1).double()

    defective = torch.cat([by_place(where) for where in rows.values()], dim=1)
    pairs = by_place(normal)[:, None, :, None] - defective[None, :, None, :]
    return ((pairs < 0).double() + 0.5 * (pairs == 0)).mean((2, 3))


def paired_bootstrap(
    method: Sequence[Sequence[torch.Tensor]],
    baseline: Sequence[Sequence[torch.Tensor]],
    *,
    resamples: int = 4000,
    seed: int = 0,
) -> Difference:
    """Difference of mean AUROC, method minus baseline, on the same tiles.

    Places are resampled within each category, the same ones for both methods, because tiles of one
    place are not independent. Seeds of training are resampled too, for each method by itself.

    Args:
        method: For each category, for each seed, the (P, P) result of `place_wins`.
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
    # A place drawn twice is paired with itself, where detection is easier, so the samples lie to
    # one side of the estimate. Only their spread is wanted.
    samples += mean - samples.mean()
    low, high = samples.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Difference(mean, low, high)
