# SPDX-License-Identifier: Apache-2.0
"""What the demonstration found: printed, as JSON, and as a report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from ssad_models.comparison import Difference, GroupWins, group_wins, paired_bootstrap
from ssad_models.data.split import Split
from ssad_models.demo.maps import Cell, MapScore, by_cell, mean_rows
from ssad_models.evaluate import evaluate
from ssad_models.report import Report, Run, gallery, write_report
from ssad_models.report import Table as ReportTable

UNTRAINED, SCRATCH = "ResNet-18 + GDE", "ResNet-18 + CutPaste"
PRETRAINED, TRANSFER = "Lite0 + GDE", "Lite0 + CutPaste"
METHODS = (UNTRAINED, SCRATCH, PRETRAINED, TRANSFER)
NSA, PATCHES = "ResNet-18 + NSA", "Patches + CutPaste"
FULL = (NSA, PATCHES)  # of the full demonstration alone
PAIRS = (
    *((TRANSFER, PRETRAINED), (SCRATCH, UNTRAINED), (TRANSFER, SCRATCH)),
    *((NSA, SCRATCH), (NSA, TRANSFER)),
    *((PATCHES, NSA), (PATCHES, TRANSFER)),
)
_MAPS = "Pixel AUROC / AUPRO to 30 % in %, mean of the categories, first seed; 50 / 15 is chance"
COMPARISON = ("category", "points", "95 % interval", "verdict")
Comparisons = dict[tuple[str, str], dict[str, Difference]]
"""By method and baseline, then by category or "all"."""

NOTES = (
    "ResNet-18: random weights, trained from scratch. Lite0: EfficientNet-Lite0 with ImageNet "
    "weights, frozen, with a head on its levels 4 to 6.",
    "GDE: log-distance to a Gaussian of the pooled features; nothing is trained.",
    "CutPaste: the network (on Lite0, the head alone) is trained to recognise CutPaste and Scar; "
    "the score is the GDE plus the log-odds of the head, both in units of their spread on normal "
    "tiles; the odds count the less, the worse the head does on augmented tiles that it was not "
    "trained on. Its map is GradCAM.",
    "NSA: an encoder and a decoder learn from scratch to map where pieces of other tiles were "
    "blended in; the score is the mean of the map.",
    "Patches: a small residual network without padding learns from scratch to recognise CutPaste "
    "and Scar on crops of 32 pixels; then a Gaussian of all windows' features scores each window, "
    "the scores are spread over their windows, and the image's score is the largest value of the "
    "map.",
    "Comparisons are paired: a bootstrap over places and seeds, on the same tiles.",
    "A strength is in grey levels, or in pixels for blur (sigma) and warp (shift).",
)


@dataclass(frozen=True)
class Data:
    """Tiles of one category."""

    train: torch.Tensor
    test: Split

    def split(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Three quarters of the training tiles to train on, the rest to see how well it went."""
        held_out = torch.arange(len(self.train)) % 4 == 0
        return self.train[~held_out], self.train[held_out]


class Results:
    """Scores and evaluations, by (method, category), one per seed."""

    def __init__(self, data: dict[str, Data]) -> None:
        self.data = data
        self.scores: dict[tuple[str, str], list[torch.Tensor]] = {}
        self.runs: dict[tuple[str, str], list[Run]] = {}
        self.maps: dict[str, dict[str, dict[Cell, MapScore]]] = {}  # by method, then category

    def add(
        self,
        method: str,
        category: str,
        scores: torch.Tensor,
        *,
        maps: torch.Tensor | None = None,
        seed: int | None = None,
        losses: Sequence[float] = (),
    ) -> None:
        """Scores of all test tiles of a category, (N,), from one more seed.

        Args:
            method: One of `METHODS` or `FULL`.
            category: One of the data set's.
            scores: (N,), higher means more anomalous.
            maps: (N, 1, 128, 128) heat maps; then some tiles are shown in the report.
            seed: None if nothing is random.
            losses: Of training, one per step.
        """
        test, scores = self.data[category].test, scores.cpu()
        run = Run(
            method,
            category,
            evaluate(test, scores, maps),
            seed,
            curves={"training loss": list(enumerate(losses, 1))} if losses else {},
            pictures=() if maps is None else gallery(test, scores, maps),
        )
        if maps is not None and category not in self.maps.setdefault(method, {}):
            self.maps[method][category] = by_cell(test, maps.cpu())
        self.scores.setdefault((method, category), []).append(scores)
        self.runs.setdefault((method, category), []).append(run)

    @property
    def methods(self) -> tuple[str, ...]:
        """Those that have been run."""
        return tuple(m for m in (*METHODS, *FULL) if any(m == name for name, _ in self.runs))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known of them."""
        absent = {"NSA": NSA, "Patches": PATCHES}.items()
        starts = tuple(f"{start}:" for start, method in absent if method not in self.methods)
        return tuple(note for note in NOTES if not note.startswith(starts))

    def table(self, method: str, category: str) -> dict[tuple[str, float | None], float]:
        """AUROC of each kind and strength, mean over seeds."""
        by_seed = [run.evaluation.cells for run in self.runs[method, category]]
        return {
            (cells[0].kind, cells[0].strength): fmean(cell.auroc.value for cell in cells)
            for cells in zip(*by_seed, strict=True)
        }

    def mean(self, method: str, categories: Sequence[str], kind: str | None = None) -> float:
        """Mean AUROC over categories and cells, or over the cells of one kind."""
        return fmean(
            auroc
            for category in categories
            for cell, auroc in self.table(method, category).items()
            if kind in (None, cell[0])
        )

    def _wins(self, method: str, category: str) -> list[GroupWins]:
        test = self.data[category].test
        return [group_wins(s, test.labels, test.groups) for s in self.scores[method, category]]

    def compare(self, method: str, baseline: str, categories: Sequence[str]) -> Difference:
        """Paired bootstrap, method minus baseline."""
        sides = [
            [self._wins(name, category) for category in categories] for name in (method, baseline)
        ]
        return paired_bootstrap(*sides)


def publish(results: Results, facts: Mapping[str, Any], out: Path, console: Console) -> None:
    """Print the results, and write results.json and report.html.

    Args:
        results: Of all methods on all categories.
        facts: "settings", "seconds" and "versions" of the run.
        out: Where the files go.
        console: Where to print.
    """
    _print_aurocs(results, console)
    if results.maps:
        console.print(_map_table(results))
    console.print("\n".join(results.notes), highlight=False)
    comparisons = _compare(results)
    for pair, by_scope in comparisons.items():
        table = Table(*COMPARISON, title=" against ".join(pair))
        for scope, difference in by_scope.items():
            style = {"below": "red", "above": "green"}.get(difference.verdict, "")
            table.add_row(*_comparison_row(scope, difference), style=style)
        console.print(table)
    verdict = _verdict(results, comparisons[TRANSFER, PRETRAINED]["all"])
    console.print(verdict, style="bold", highlight=False)

    _write_json(results, comparisons, facts, out / "results.json")
    report = Report(
        title=f"CutPaste{' and NSA' if NSA in results.methods else ''} on four photographs",
        runs=[run for c in results.data for m in results.methods for run in results.runs[m, c]],
        lead=f"{len(results.methods)} detectors that saw normal tiles alone, on seven kinds of "
        f"defect from invisible to plain. {verdict}",
        tables=[
            *([ReportTable(_MAPS, *_map_rows(results))] if results.maps else []),
            *(
                ReportTable(
                    " against ".join(pair),
                    COMPARISON,
                    [_comparison_row(*row) for row in by_scope.items()],
                )
                for pair, by_scope in comparisons.items()
            ),
        ],
        settings={**facts["settings"], "seconds": facts["seconds"]},
        versions=facts["versions"],
        notes=results.notes,
    )
    write_report(out / "report.html", report)
    console.print(f"\n{facts['seconds']:.0f} s. Wrote results.json and samples.png. The report:")
    console.print(out / "report.html", soft_wrap=True)


def _print_aurocs(results: Results, console: Console) -> None:
    """A row per category, kind and strength, and the means."""
    table = Table(title="Image AUROC in %, mean of the seeds; 50 is chance")
    for heading in ("category", "kind", "strength"):
        table.add_column(heading)
    for method in results.methods:
        table.add_column(method, justify="right")
    categories = list(results.data)
    for category in categories:
        tables = [results.table(method, category) for method in results.methods]
        for kind, strength in tables[0]:
            values = [f"{100 * t[kind, strength]:.1f}" for t in tables]
            table.add_row(category, kind, f"{strength:g}", *values)
        means = [f"{100 * results.mean(method, [category]):.1f}" for method in results.methods]
        table.add_row(category, "mean", "", *means, style="bold", end_section=True)
    for kind in dict.fromkeys(kind for kind, _ in tables[0]):
        row = [f"{100 * results.mean(method, categories, kind):.1f}" for method in results.methods]
        table.add_row("all", kind, "mean", *row)
    means = [f"{100 * results.mean(method, categories):.1f}" for method in results.methods]
    table.add_row("all", "mean", "", *means, style="bold")
    console.print(table)


def _map_rows(results: Results) -> tuple[list[str], list[list[str]]]:
    """Of the methods whose maps of all categories are known."""
    return mean_rows(
        {
            method: list(results.maps[method].values())
            for method in results.methods
            if len(results.maps.get(method, ())) == len(results.data)
        }
    )


def _map_table(results: Results) -> Table:
    headings, rows = _map_rows(results)
    table = Table(title=_MAPS)
    for heading in headings:
        table.add_column(heading, justify="left" if heading in headings[:2] else "right")
    for row in rows:
        table.add_row(*row, style="bold" if row is rows[-1] else "")
    return table


def _compare(results: Results) -> Comparisons:
    categories = list(results.data)
    scopes = {**{category: [category] for category in categories}, "all": categories}
    return {
        pair: {scope: results.compare(*pair, chosen) for scope, chosen in scopes.items()}
        for pair in PAIRS
        if set(pair) <= set(results.methods)
    }


def _comparison_row(scope: str, difference: Difference) -> tuple[str, ...]:
    mean, low, high = (f"{100 * value:+.1f}" for value in difference)
    return scope, mean, f"{low} to {high}", difference.verdict


def _verdict(results: Results, difference: Difference) -> str:
    _, mean, interval, verdict = _comparison_row("all", difference)
    seeds = len(results.scores[TRANSFER, next(iter(results.data))])
    return (
        f"{TRANSFER} is {'' if verdict == 'below' else 'not '}below {PRETRAINED}: "
        f"{mean} points of AUROC, {interval} ({seeds} seeds)."
    )


def _write_json(
    results: Results, comparisons: Comparisons, facts: Mapping[str, Any], path: Path
) -> None:
    rows = []
    for category in results.data:
        tables = {method: results.table(method, category) for method in results.methods}
        for kind, strength in tables[METHODS[0]]:
            auroc = {method: table[kind, strength] for method, table in tables.items()}
            rows.append({"category": category, "kind": kind, "strength": strength, "auroc": auroc})
    content = {
        **facts,
        "mean_auroc": {m: results.mean(m, list(results.data)) for m in results.methods},
        "rows": rows,
        "maps": [
            {
                "method": method,
                "category": category,
                "kind": kind,
                "strength": strength,
                **score._asdict(),
            }
            for method, by_category in results.maps.items()
            for category, cells in by_category.items()
            for (kind, strength), score in cells.items()
        ],
        "comparisons": {
            f"{method} - {baseline} | {scope}": {
                **difference._asdict(),
                "verdict": difference.verdict,
            }
            for (method, baseline), by_scope in comparisons.items()
            for scope, difference in by_scope.items()
        },
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
