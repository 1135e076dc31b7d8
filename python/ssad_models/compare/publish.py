# SPDX-License-Identifier: Apache-2.0
"""The tables of a comparison: printed, as JSON and CSV, and on a page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text

from ssad_models.atomic import replacing
from ssad_models.compare.job import BATCH, Budget
from ssad_models.compare.outcome import QUALITY, Outcomes, Row
from ssad_models.evaluate import METRICS
from ssad_models.methods import summary
from ssad_models.model_file import versions
from ssad_models.printing import print_table
from ssad_models.report import Report, Table, write_report
from ssad_models.settings import Recipe

_COSTS = {
    "steps": "steps",
    "seconds": "seconds",
    "images_per_second": "images/s",
    "parameters": "parameters",
    "memory_mib": "MiB",
}
_NOTES = (
    "Untrained: the same detector, fitted to the network as it is before the first step. A method "
    "that is not above it has learnt nothing from its task that this test can see. The interval is "
    "a bootstrap over groups of test images (places of a photograph, else single images) and over "
    "seeds, paired: the same images for both.",
    "IoU: of images with defects, at the 99.5 % quantile of the pixels of the normal test images. "
    "AUPRO: to a false-positive rate of 30 %; chance is 15 %.",
    "Time: of the training steps alone. Images per second: scores and maps of batches of "
    f"{BATCH} images that are on the device, median of up to 5 trials after 2 to warm up. "
    "Parameters: of the detector. Memory: the most that the process of the training held, from its "
    "start to the end of the fit, or on a GPU the most that torch had allocated there.",
    "Pictures are in the report of each run, runs/METHOD/CATEGORY/seedN/report.html.",
)


def publish(
    outcomes: Outcomes, recipes: Mapping[str, Recipe], budget: Budget, out: Path, console: Console
) -> None:
    """Print the tables, and write results.json, results.csv and report.html.

    Args:
        outcomes: Of all trainings.
        recipes: By method.
        budget: Of each training.
        out: Where the files go.
        console: Where to print.
    """
    rows = outcomes.rows()
    verdicts = _verdicts(rows, outcomes)
    tables = [*_row_tables(rows), *_kind_tables(outcomes)]
    for table in tables:
        print_table(table, console)
    for sentence in verdicts:
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    for failure in outcomes.failures:
        text = f"failed: {failure.method}, {failure.category}, seed {failure.seed}: {failure.why}"
        console.print(Text(text, "red"), soft_wrap=True)
    facts = {
        "budget": asdict(budget),
        "versions": versions(),
        "threads": torch.get_num_threads(),
    }
    content = {
        **facts,
        "rows": [_flat(row) for row in rows],
        "kinds": _cells(outcomes, strengths=False),
        "cells": _cells(outcomes, strengths=True),
        "failures": [asdict(failure) for failure in outcomes.failures],
        "recipes": {name: recipe.to_dict() for name, recipe in recipes.items()},
    }
    with replacing(out / "results.json") as file:
        file.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    with replacing(out / "results.csv") as file:
        file.write(_csv(rows).encode(errors="backslashreplace"))
    if not outcomes.runs:
        return
    notes = [
        f"{name}: {text}" for name, recipe in recipes.items() if (text := summary(recipe.method))
    ]
    report = Report(
        title=f"{len(outcomes.methods)} methods, {budget} each",
        runs=outcomes.runs,
        lead=" ".join(verdicts),
        tables=[*tables, *_failure_table(outcomes)],
        settings={"torch's threads": torch.get_num_threads()},
        versions=versions(),
        notes=[*notes, *_NOTES],
    )
    write_report(out / "report.html", report)


def _verdicts(rows: Sequence[Row], outcomes: Outcomes) -> list[str]:
    """What every method made of its training, in words."""
    sentences = []
    for method in outcomes.methods:
        own = [row for row in rows if row.method == method]
        if not own:
            sentences.append(f"{method} could not be trained.")
            continue
        overall = own[-1]  # the mean, or the only category
        sentences.append(f"{method} {_against_untrained(overall)}.")
        worse = [r for r in own[:-1] if r.difference.verdict == "below"]
        if worse and overall.difference.verdict != "below":
            where = ", ".join(f"{row.category} ({_interval(row)})" for row in worse)
            sentences.append(f"{method} is below its untrained network on {where}.")
    return sentences


def _against_untrained(row: Row) -> str:
    verdict = row.difference.verdict
    found = "is not told apart from" if verdict == "unclear" else f"is {verdict}"
    where = "" if row.category is None else f" on {row.category}"
    return f"{found} its untrained network{where} ({_interval(row)})"


def _interval(row: Row) -> str:
    mean, low, high = (f"{100 * value:+.1f}" for value in row.difference)
    return f"{mean} points of AUROC, 95 % interval {low} to {high}"


def _row_tables(rows: Sequence[Row]) -> list[Table]:
    """How good the methods are, what training had to do with it, and what it took."""
    shown = [name for name in QUALITY if any(name in row.metrics for row in rows)]
    quality, learnt, cost = [], [], []
    for row in rows:
        names = [row.method, row.category or "mean"]
        figures = [f"{100 * row.metrics[m]:.1f}" if m in row.metrics else "-" for m in shown]
        quality.append([*names, *figures])
        sides = [f"{100 * side['auroc']:.1f}" for side in (row.metrics, row.untrained)]
        mean, low, high = (f"{100 * value:+.1f}" for value in row.difference)
        learnt.append([*names, *sides, mean, f"{low} to {high}", row.difference.verdict])
        figures = [f"{row.cost[name]:,.0f}" for name in _COSTS]
        cost.append([*names, *figures])
    names = ["method", "category"]
    headings = ["AUROC", "untrained", "difference", "95 % interval", "verdict"]
    return [
        Table("On the test images, in %", [*names, *(METRICS[m] for m in shown)], quality),
        Table("Against the untrained network, image AUROC in %", [*names, *headings], learnt),
        Table("What it took", [*names, *_COSTS.values()], cost),
    ]


def _kind_tables(outcomes: Outcomes) -> list[Table]:
    """Image AUROC by kind; and by kind and strength, where strengths are known."""
    tables = []
    for strengths, title in ((False, "kind"), (True, "kind and strength")):
        rows = []
        for (kind, strength), by_method in outcomes.by_kind(strengths=strengths).items():
            figures = [
                f"{100 * by_method[m]:.1f}" if m in by_method else "-" for m in outcomes.methods
            ]
            rows.append([kind if strength is None else f"{kind} {strength:g}", *figures])
        if rows:
            tables.append(
                Table(
                    f"Image AUROC by {title}, in %, mean of categories and seeds",
                    ["kind", *outcomes.methods],
                    rows,
                )
            )
    return tables


def _failure_table(outcomes: Outcomes) -> list[Table]:
    rows = [[f.method, f.category, str(f.seed), f.why] for f in outcomes.failures]
    return [Table("Failed", ["method", "category", "seed", "why"], rows)] if rows else []


def _flat(row: Row) -> dict[str, object]:
    """A row of the JSON and CSV files."""
    return {
        "method": row.method,
        "category": row.category or "mean",
        "seeds": len(row.seeds),
        **row.metrics,
        "untrained_auroc": row.untrained["auroc"],
        "untrained_pixel_auroc": row.untrained.get("pixel_auroc"),
        "difference": row.difference.mean,
        "difference_low": row.difference.low,
        "difference_high": row.difference.high,
        "verdict": row.difference.verdict,
        **{name: row.cost[name] for name in _COSTS},
    }


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO(newline="")
    flat = [_flat(row) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _cells(outcomes: Outcomes, *, strengths: bool) -> list[dict[str, object]]:
    return [
        {"kind": kind, **({"strength": strength} if strengths else {}), "auroc": by_method}
        for (kind, strength), by_method in outcomes.by_kind(strengths=strengths).items()
    ]
