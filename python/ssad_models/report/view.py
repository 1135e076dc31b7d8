# SPDX-License-Identifier: Apache-2.0
"""From runs to what the template prints: tables of text, and charts."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import NamedTuple

from ssad_models.evaluate import METRICS, Estimate
from ssad_models.report import charts
from ssad_models.report.gallery import Picture
from ssad_models.report.model import Report, Run


class Key(NamedTuple):
    """What a figure tells: a metric, of one kind of defect or all, at one strength or all."""

    metric: str
    kind: str | None = None
    strength: float | None = None


@dataclass(frozen=True)
class Cell:
    """One figure of a table, in 0..1.

    Attributes:
        value: None if there is none.
        interval: Its low and high end.
        spread: Its standard deviation over seeds.
    """

    value: float | None = None
    interval: tuple[float, float] | None = None
    spread: float | None = None

    @property
    def tint(self) -> int:
        """How strongly a table of AUROCs colours it: 0 up to chance, 100 at 1."""
        return round(100 * max(0.0, 2 * (self.value or 0.0) - 1))


@dataclass(frozen=True)
class Grid:
    """A table: a heading per column, rows of a heading and cells, perhaps a mean as the last."""

    title: str
    headings: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    mean: bool = False


@dataclass(frozen=True)
class Section:
    """All about one category."""

    name: str
    images: str
    metrics: Grid
    kinds: Sequence[Grid]
    ladders: Sequence[tuple[str, Sequence[Grid]]]
    roc: charts.Chart
    histograms: Sequence[charts.Chart]
    curves: Sequence[charts.Chart]
    galleries: Sequence[tuple[str, Sequence[Picture]]]


class View:
    """The report as the template reads it.

    Args:
        report: What to show; at least one run.

    Raises:
        ValueError: If there is no run.
    """

    def __init__(self, report: Report) -> None:
        if not report.runs:
            msg = "write_report: `report` must hold at least one run, got none"
            raise ValueError(msg)
        self.report = report
        self.methods = list(dict.fromkeys(run.method for run in report.runs))
        self.categories = list(dict.fromkeys(run.category for run in report.runs))
        self._cells = {
            (method, category): _cells(self._runs(category, method))
            for method in self.methods
            for category in self.categories
        }
        self.many_seeds = len({run.seed for run in report.runs}) > 1
        self.headlines = [(method, self._headline(method)) for method in self.methods]
        self.summary = self._summary()
        self.ladders = self._ladder_charts()
        self.bars = self._bar_charts()
        self.sections = [self._section(category) for category in self.categories]
        settings = [_flat(run.settings) for run in report.runs]
        shared = {k: v for k, v in settings[0].items() if all(s.get(k) == v for s in settings)}
        self.settings = {**_flat(report.settings), **shared}
        self.runs = [
            (run, ", ".join(f"{k} {v}" for k, v in own.items() if k not in shared))
            for run, own in zip(report.runs, settings, strict=True)
        ]

    def _runs(self, category: str, method: str | None = None) -> list[Run]:
        runs = [run for run in self.report.runs if run.category == category]
        return [run for run in runs if method in (None, run.method)]

    def _headline(self, method: str) -> Cell:
        """Mean AUROC over categories, and the standard deviation over seeds that all of them have.

        Nothing if the method lacks a category: the means would not be comparable.
        """
        aurocs = [
            {
                run.seed: run.evaluation.metrics["auroc"].value
                for run in self._runs(category, method)
            }
            for category in self.categories
        ]
        if not all(aurocs):
            return Cell()
        value = statistics.fmean(statistics.fmean(by_seed.values()) for by_seed in aurocs)
        seeds = set.intersection(*map(set, aurocs))
        means = [statistics.fmean(by_seed[seed] for by_seed in aurocs) for seed in seeds]
        return Cell(value, spread=statistics.stdev(means) if len(means) > 1 else None)

    def _grid(
        self, title: str, category: str, methods: Sequence[str], keys: Mapping[str, Key]
    ) -> Grid:
        """A row per key that has a value, a column per method."""
        rows = [
            (name, [self._cells[method, category].get(key, Cell()) for method in methods])
            for name, key in keys.items()
        ]
        return Grid(
            title, methods, [row for row in rows if any(c.value is not None for c in row[1])]
        )

    def _summary(self) -> Grid:
        rows = [
            (c, [self._cells[m, c].get(Key("auroc"), Cell()) for m in self.methods])
            for c in self.categories
        ]
        several = len(rows) > 1
        if several:
            rows.append(("mean", [cell for _, cell in self.headlines]))
        return Grid("Image AUROC, %", self.methods, rows, mean=several)

    def _ladder_charts(self) -> list[charts.Chart]:
        """AUROC over strength, mean over categories; of kinds that all methods saw alike."""
        found: dict[str, dict[str, dict[float, list[float]]]] = {}
        for (method, _), cells in self._cells.items():
            for (metric, kind, strength), cell in cells.items():
                if metric == "auroc" and kind and strength is not None and cell.value is not None:
                    points = found.setdefault(kind, {}).setdefault(method, {})
                    points.setdefault(strength, []).append(cell.value)
        drawn = []
        for kind, by_method in found.items():
            if len(set(map(tuple, by_method.values()))) == 1:
                lines = [
                    (self.methods.index(m), [(s, statistics.fmean(v)) for s, v in points.items()])
                    for m, points in by_method.items()
                ]
                drawn.append(charts.ladder(kind, lines))
        return drawn

    def _bar_charts(self) -> list[charts.Chart]:
        """AUROC by kind, mean over the categories that have it; of several methods."""
        found: dict[str, dict[int, list[float]]] = {}
        for (method, _), cells in self._cells.items():
            for (metric, kind, strength), cell in cells.items():
                if metric == "auroc" and kind and strength is None and cell.value is not None:
                    by_method = found.setdefault(kind, {})
                    by_method.setdefault(self.methods.index(method), []).append(cell.value)
        if len(self.methods) < 2:
            return []
        return [
            charts.bars(kind, [(series, statistics.fmean(v)) for series, v in by_method.items()])
            for kind, by_method in found.items()
        ]

    def _section(self, category: str) -> Section:
        runs = self._runs(category)
        methods = _names(run.method for run in runs)
        series = {method: self.methods.index(method) for method in methods}
        first = [self._runs(category, method)[0] for method in methods]
        evaluation = runs[0].evaluation
        kinds = {f"{group.kind} ({group.count})": group.kind for group in evaluation.kinds}
        metrics = {title: Key(metric) for metric, title in METRICS.items()}
        stated = {run.settings.get("false_alarm") for run in runs}
        if len(stated) == 1 and isinstance(rate := stated.pop(), float):
            title = METRICS["false_alarm_rate"]
            metrics[f"{title}, stated {100 * rate:g}"] = metrics.pop(title)
        return Section(
            name=category,
            images=f"{evaluation.normal} normal and {evaluation.anomalous} anomalous test images",
            metrics=self._grid("Metrics, %", category, methods, metrics),
            kinds=[
                self._grid(
                    f"{METRICS[metric]} by kind of defect, %",
                    category,
                    methods,
                    {title: Key(metric, kind) for title, kind in kinds.items()},
                )
                for metric in ("auroc", "detection_rate")
            ],
            ladders=[
                (run.method, ladders) for run in first if (ladders := self._ladder_grids(run))
            ],
            roc=charts.roc([(series[run.method], run.evaluation.roc) for run in first]),
            histograms=[
                charts.histogram(_title(run), run.evaluation.histogram, run.evaluation.threshold)
                for run in first
            ],
            curves=[
                charts.curves(
                    name,
                    [(series[run.method], run.curves[name]) for run in runs if name in run.curves],
                )
                for name in _names(name for run in runs for name in run.curves)
            ],
            galleries=[(_title(run), run.pictures) for run in runs if run.pictures],
        )

    def _ladder_grids(self, run: Run) -> list[Grid]:
        """AUROC by kind and strength; kinds that share their strengths share a table."""
        strengths: dict[str, list[float]] = {}
        for cell in run.evaluation.cells:
            strengths.setdefault(cell.kind, []).append(cell.strength or 0.0)
        ladders: dict[tuple[float, ...], list[str]] = {}
        for kind, rungs in strengths.items():
            ladders.setdefault(tuple(rungs), []).append(kind)
        cells = self._cells[run.method, run.category]
        return [
            Grid(
                run.method,
                [f"{strength:g}" for strength in ladder],
                [(kind, [cells[Key("auroc", kind, s)] for s in ladder]) for kind in kinds],
            )
            for ladder, kinds in ladders.items()
        ]


def _cells(runs: Sequence[Run]) -> dict[Key, Cell]:
    """Mean over seeds, and the interval of a single run, also its mean over seeds."""
    found: dict[Key, list[Estimate]] = defaultdict(list)
    for run in runs:
        for metric, estimate in run.evaluation.metrics.items():
            found[Key(metric)].append(estimate)
        for group in (*run.evaluation.kinds, *run.evaluation.cells):
            found[Key("auroc", group.kind, group.strength)].append(group.auroc)
            if group.detection_rate is not None:
                key = Key("detection_rate", group.kind, group.strength)
                found[key].append(group.detection_rate)
    cells = {}
    for key, estimates in found.items():
        value, low, high = map(statistics.fmean, zip(*map(astuple, estimates), strict=True))
        cells[key] = Cell(value, interval=(low, high))
    return cells


def _title(run: Run) -> str:
    return run.method if run.seed is None else f"{run.method}, seed {run.seed}"


def _names(names: Iterable[str]) -> list[str]:
    """Without repeats, in order."""
    return list(dict.fromkeys(names))


def _flat(settings: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Nested settings as "outer.inner" and text."""
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat
