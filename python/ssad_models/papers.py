# SPDX-License-Identifier: Apache-2.0
"""Figures that papers report, to stand beside ours."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

SPREADS = {"error": "standard error", "deviation": "sample standard deviation"}
"""What stands after ±, by its name in the files."""


class Figure(NamedTuple):
    """A figure in % and its spread, None if there is but one seed or the paper gives none.

    Attributes:
        mean: Over seeds.
        spread: Standard error of that mean, or standard deviation, see `Paper.spread`.
    """

    mean: float
    spread: float | None = None

    def __str__(self) -> str:
        return f"{self.mean:.1f}" + ("" if self.spread is None else f"±{self.spread:.1f}")

    @staticmethod
    def over(values: Sequence[float], spread: str = "error") -> Figure:
        """Mean and spread, a key of `SPREADS`, of one value per seed."""
        n = len(values)
        if n < 2:
            return Figure(values[0])
        deviation = statistics.stdev(values)
        return Figure(
            statistics.fmean(values), deviation / math.sqrt(n) if spread == "error" else deviation
        )

    @staticmethod
    def read(cell: object) -> Figure:
        """Take a cell such as "98.3±0.5" or 98.3."""
        mean, _, spread = str(cell).partition("±")
        return Figure(float(mean), float(spread) if spread else None)


@dataclass(frozen=True)
class PaperTable:
    """What a paper reports of one metric.

    Attributes:
        titles: Titles of the columns by key.
        columns: By key, then category.
        totals: By key, the mean over all categories as printed, where no other figure is.
    """

    titles: dict[str, str]
    columns: dict[str, dict[str, Figure]]
    totals: dict[str, Figure]

    @staticmethod
    def of(content: Mapping[str, Any]) -> PaperTable:
        """A table of a file."""
        columns: dict[str, dict[str, Figure]] = {key: {} for key in content["columns"]}
        for category, cells in content["rows"].items():
            for key, cell in zip(columns, cells, strict=True):
                columns[key][category] = Figure.read(cell)
        totals = content.get("totals", {})
        titles = {**{key: total["title"] for key, total in totals.items()}, **content["columns"]}
        return PaperTable(
            titles, columns, {key: Figure.read(total["all"]) for key, total in totals.items()}
        )

    @property
    def categories(self) -> set[str]:
        """All that it has."""
        return {category for column in self.columns.values() for category in column}

    def mean(self, key: str, categories: Sequence[str]) -> Figure | None:
        """Of a column over categories; None unless the paper has them all.

        A single category keeps its spread.
        """
        if key in self.totals:
            return self.totals[key] if set(categories) == self.categories else None
        column = self.columns[key]
        if any(category not in column for category in categories):
            return None
        if len(categories) == 1:
            return column[categories[0]]
        return Figure(statistics.fmean(column[category].mean for category in categories))


@dataclass(frozen=True)
class Paper:
    """What a paper reports. Each file explains itself.

    Attributes:
        textures: Categories that its averages call textures; the others are objects.
        spread: What stands after ±, a key of `SPREADS`.
        tables: By the metric, a key of `ssad_models.evaluate.METRICS`.
    """

    textures: tuple[str, ...]
    spread: str
    tables: dict[str, PaperTable]

    @staticmethod
    def read(path: Path) -> Paper:
        """Read a file."""
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        tables = {metric: PaperTable.of(table) for metric, table in content["tables"].items()}
        return Paper(tuple(content["textures"]), content["spread"], tables)


class Beside(NamedTuple):
    """What of a paper stands beside a metric of a recipe's models.

    Attributes:
        keys: Of the columns that are shown, in this order.
        match: The key of the one that is the same model; None if the paper has none.
        note: What else there is to say.
    """

    keys: tuple[str, ...]
    match: str | None
    note: str = ""
