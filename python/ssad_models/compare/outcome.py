# SPDX-License-Identifier: Apache-2.0
"""What came of the trainings of a comparison: means over seeds, and differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch

from ssad_models.compare.job import Job
from ssad_models.comparison import Difference, GroupWins, group_wins, paired_bootstrap
from ssad_models.report import Run
from ssad_models.runs import from_dict

QUALITY = ("auroc", "pixel_auroc", "aupro_30", "iou")
"""Of `METRICS`: what the table has."""


@dataclass(frozen=True)
class Failure:
    """A training of which nothing came.

    Attributes:
        method: Its name in the comparison.
        category: Of the images.
        seed: Of the training.
        why: In a line.
        log: The file with all that the process said.
    """

    method: str
    category: str
    seed: int
    why: str
    log: str


@dataclass(frozen=True)
class Row:
    """A method on a category, or on all, mean over seeds.

    Attributes:
        method: Its name in the comparison.
        category: None for the mean over all.
        seeds: That have been trained.
        metrics: By the names of `METRICS`, as far as there are any.
        untrained: The same of the network before the training.
        difference: Image AUROC, trained minus untrained.
        cost: "steps", "seconds" of a training, "images_per_second", "parameters", "memory_mib".
    """

    method: str
    category: str | None
    seeds: tuple[int, ...]
    metrics: Mapping[str, float]
    untrained: Mapping[str, float]
    difference: Difference
    cost: Mapping[str, float]


@dataclass(frozen=True)
class _Done:
    """A training that came to its end."""

    run: Run
    result: Mapping[str, Any]

    def wins(self, which: str) -> GroupWins:
        scores, labels, groups = (
            torch.tensor(values)
            for values in (
                self.result["scores"][which],
                self.result["labels"],
                self.result["groups"],
            )
        )
        return group_wins(scores, labels, groups)

    @property
    def metrics(self) -> dict[str, float]:
        return {name: e.value for name, e in self.run.evaluation.metrics.items()}


@dataclass
class Outcomes:
    """Filled training by training.

    Attributes:
        methods: Names, in their order.
        categories: Likewise.
        failures: Trainings of which nothing came.
    """

    methods: list[str] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    _done: dict[tuple[str, str], list[_Done]] = field(default_factory=dict)

    def add(self, job: Job, result: Mapping[str, Any] | None, why: str) -> None:
        """One more training.

        Args:
            job: Which.
            result: What came of it; None if it failed.
            why: It failed, in a line.
        """
        for names, name in ((self.methods, job.name), (self.categories, job.source.name)):
            if name not in names:
                names.append(name)
        if result is None:
            failure = Failure(job.name, job.source.name, job.seed, why, str(job.log))
            self.failures.append(failure)
        else:
            done = _Done(from_dict(result["run"], job.folder), result)
            self._done.setdefault((job.name, job.source.name), []).append(done)

    @property
    def runs(self) -> list[Run]:
        """All that have been trained, by category."""
        return [
            done.run
            for category in self.categories
            for method in self.methods
            for done in self._done.get((method, category), ())
        ]

    def rows(self) -> list[Row]:
        """By category, and then the means of the methods that have them all, if there are more."""
        rows = [
            self._row(method, [category])
            for category in self.categories
            for method in self.methods
            if (method, category) in self._done
        ]
        if len(self.categories) > 1:
            rows += [self._row(method, self.categories) for method in self.complete()]
        return rows

    def complete(self) -> list[str]:
        """The methods that have been trained on all categories."""
        return [m for m in self.methods if all((m, c) in self._done for c in self.categories)]

    def _row(self, method: str, categories: Sequence[str]) -> Row:
        done = [self._done[method, category] for category in categories]
        trained, untrained = (
            [[one.wins(which) for one in by_seed] for by_seed in done]
            for which in ("trained", "untrained")
        )
        return Row(
            method,
            categories[0] if len(categories) == 1 else None,
            tuple(sorted({one.result["run"]["seed"] for by_seed in done for one in by_seed})),
            _mean([[one.metrics for one in by_seed] for by_seed in done]),
            _mean([[one.result["untrained"] for one in by_seed] for by_seed in done]),
            paired_bootstrap(trained, untrained),
            _mean([[one.result["cost"] for one in by_seed] for by_seed in done]),
        )

    def by_kind(self, *, strengths: bool) -> dict[tuple[str, float | None], dict[str, float]]:
        """Image AUROC of kinds of defect, or of kinds and strengths, by method.

        Means over seeds, then over the categories that have the kind.
        """
        found: dict[tuple[str, float | None], dict[str, list[float]]] = {}
        for (method, _), by_seed in self._done.items():
            cells: dict[tuple[str, float | None], list[float]] = {}
            for done in by_seed:
                evaluation = done.run.evaluation
                for group in evaluation.cells if strengths else evaluation.kinds:
                    cells.setdefault((group.kind, group.strength), []).append(group.auroc.value)
            for cell, values in cells.items():
                found.setdefault(cell, {}).setdefault(method, []).append(fmean(values))
        return {
            cell: {
                method: fmean(by_method[method]) for method in self.methods if method in by_method
            }
            for cell, by_method in found.items()
        }


def _mean(values: Sequence[Sequence[Mapping[str, float]]]) -> dict[str, float]:
    """Over seeds and then categories, of what all of them have."""
    every = [one for by_seed in values for one in by_seed]
    names = [name for name in every[0] if all(name in one for one in every)]
    return {name: fmean(fmean(one[name] for one in s) for s in values) for name in names}
