# SPDX-License-Identifier: Apache-2.0
"""What a report is made of."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssad_models.evaluate import Evaluation
from ssad_models.report.gallery import Picture

Points = Sequence[tuple[float, float]]
"""(x, y) pairs in the order in which they are joined."""


@dataclass(frozen=True)
class Run:
    """One model on one category.

    Attributes:
        method: Runs of one method are compared across categories and averaged over seeds.
        category: Runs of one category share a section.
        evaluation: The result on the test set.
        seed: Of the training; None if nothing is random.
        curves: Training curves by name, (step, value) pairs; see `read_curves`.
        pictures: Test images to show; see `gallery`.
        settings: What this run was trained with. What all runs share is better given once, to the
            report.
    """

    method: str
    category: str
    evaluation: Evaluation
    seed: int | None = None
    curves: Mapping[str, Points] = field(default_factory=dict)
    pictures: Sequence[Picture] = ()
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table of its own after the summary, such as our results beside the paper's.

    Attributes:
        title: Its caption.
        headings: One per column.
        rows: Rows of as many texts; the first of each is the row's heading.
        note: A sentence below.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Report:
    """All that the page shows.

    Attributes:
        title: The heading, and the title of the browser's tab.
        runs: At least one.
        lead: A sentence or two below the heading: what was done and what came of it.
        tables: Shown between the summary and the categories.
        settings: What all runs share.
        versions: Software and machine, by name.
        notes: Paragraphs on how to read the figures.
    """

    title: str
    runs: Sequence[Run]
    lead: str = ""
    tables: Sequence[Table] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


def read_curves(path: Path) -> dict[str, list[tuple[float, float]]]:
    """The training curves in a `metrics.csv`: (step, value) pairs of every column that has values.

    Args:
        path: A file as Lightning's CSV logger writes it, with a column "step".

    Returns:
        The points by column, "step" and "epoch" left out.

    Raises:
        OSError: If the file cannot be read.
    """
    curves: dict[str, list[tuple[float, float]]] = {}
    with path.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            for name, value in row.items():
                if name not in ("step", "epoch") and value:
                    curves.setdefault(name, []).append((float(row["step"]), float(value)))
    return curves
