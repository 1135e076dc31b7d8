# SPDX-License-Identifier: Apache-2.0
"""All categories and seeds of a recipe, and the result beside the paper's."""

from __future__ import annotations

import functools
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import rich.box
import rich.table
import yaml
from rich.console import Console
from rich.text import Text

from ssad_models.atomic import replacing
from ssad_models.data.split import Source, Split
from ssad_models.evaluate import Evaluation
from ssad_models.model_file import load
from ssad_models.recipe import Recipe
from ssad_models.report import Run, Table, read_curves
from ssad_models.runs import (
    CURVES,
    evaluate_model,
    load_test,
    progress_bar,
    run_folder,
    to_dict,
    write_results,
)
from ssad_models.training import train

EVALUATION = "evaluation.json"
PIXELS = "patches"
PAPERS = {"cutpaste": Path(__file__).parent / "cutpaste/paper.yaml"}
"""By method. Each file explains itself."""


class Figure(NamedTuple):
    """A figure in % and its standard error, None if there is but one seed or the paper gives none.

    Attributes:
        mean: Over seeds.
        error: Standard error of that mean.
    """

    mean: float
    error: float | None = None

    def __str__(self) -> str:
        return f"{self.mean:.1f}" + ("" if self.error is None else f"±{self.error:.1f}")

    @staticmethod
    def over(values: Sequence[float]) -> Figure:
        """Mean and standard error of one value per seed."""
        n = len(values)
        error = statistics.stdev(values) / math.sqrt(n) if n > 1 else None
        return Figure(statistics.fmean(values), error)


@dataclass(frozen=True)
class Paper:
    """What a paper reports, as in the files of `PAPERS`.

    Attributes:
        textures: Categories that its averages call textures; the others are objects.
        titles: Titles of the columns by key.
        columns: By key, then category, image AUROC; pixel AUROC under "patches".
    """

    textures: tuple[str, ...]
    titles: dict[str, str]
    columns: dict[str, dict[str, Figure]]

    @staticmethod
    def read(path: Path) -> Paper:
        """Read a file of `PAPERS`."""
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        columns: dict[str, dict[str, Figure]] = {key: {} for key in content["columns"]}
        for category, cells in content["rows"].items():
            for key, cell in zip(columns, cells, strict=True):
                mean, _, error = str(cell).partition("±")
                columns[key][category] = Figure(float(mean), float(error) if error else None)
        return Paper(tuple(content["textures"]), content["columns"], columns)

    def mean(self, key: str, categories: Sequence[str]) -> Figure | None:
        """Of a column over categories; None unless the paper has them all.

        A single category keeps its standard error.
        """
        column = self.columns[key]
        if any(category not in column for category in categories):
            return None
        if len(categories) == 1:
            return column[categories[0]]
        return Figure(statistics.fmean(column[category].mean for category in categories))

    def column_of(self, recipe: Recipe) -> str | None:
        """The key of the column that a recipe is to be compared with, None if there is none."""
        key = f"b4_{recipe.features}" if recipe.backbone == "efficientnet_b4" else recipe.proxy
        return key if key in self.columns else None


def reproduce(
    recipe: Recipe,
    sources: Sequence[Source],
    seeds: Sequence[int],
    out: Path,
    *,
    workers: int | None,
    device: str,
    console: Console,
) -> list[Run]:
    """Train and evaluate every category with every seed, unless it has been done already.

    Interrupted, it goes on where it stopped when called again. Each run has its own report.html,
    with pictures; the one in `out` is about all.

    Args:
        recipe: What to train.
        sources: Categories.
        seeds: Seeds.
        out: Folder for all runs, report.html and results.json.
        workers: See `train`.
        device: "cpu" or "cuda".
        console: Where progress and tables go.

    Returns:
        One run for each category and seed, without pictures.

    Raises:
        DataError: If data are damaged, or a category has no test images.
        ValueError: If `out` holds runs with other settings.
        OSError: If `out` cannot be written.
    """
    runs = []
    for source in sources:
        load_once = functools.cache(functools.partial(_load_test, source, console))
        for seed in seeds:
            folder = run_folder(out, source.name, seed)
            model = train(
                recipe, source, folder, seed=seed, workers=workers, device=device, progress=console
            )
            path = folder / EVALUATION
            if not path.exists() or path.stat().st_mtime < model.stat().st_mtime:
                _evaluate(model, device, load_once, path)
            runs.append(_read(path))
    tables = compare(runs, recipe)
    for table in tables:
        print_table(table, console)
    write_results(out, runs, f"{runs[0].method}: all categories and seeds", tables)
    return runs


def _load_test(source: Source, console: Console, size: int, channels: int) -> Split:
    with progress_bar(console) as progress:
        return load_test(source, size, channels, progress)


def _evaluate(
    model_file: Path, device: str, load_once: Callable[[int, int], Split], path: Path
) -> None:
    """Evaluate a run, write its own report, and note the result in `path`."""
    model = load(model_file, device)
    run = evaluate_model(model, load_once(model.size, model.channels), path.parent)
    write_results(path.parent, [run], f"{run.category}, seed {run.seed}")
    with replacing(path) as file:
        file.write(json.dumps(to_dict(run)).encode())


def _read(path: Path) -> Run:
    values = json.loads(path.read_text(encoding="utf-8"))
    curves = read_curves(path.parent / CURVES)
    return Run(
        **{**values, "evaluation": Evaluation.from_dict(values["evaluation"])}, curves=curves
    )


def compare(runs: Sequence[Run], recipe: Recipe) -> list[Table]:
    """Our image AUROC beside the paper's columns, and our pixel AUROC if there is any.

    Means are over categories and then over seeds; a paper's mean is shown where the paper has all
    the categories that ours is over.
    """
    paper = Paper.read(PAPERS[recipe.method])
    own = paper.column_of(recipe)
    b4 = own is not None and own.startswith("b4")
    shown = [key for key in paper.columns if key != PIXELS and key.startswith("b4") == b4]
    tables = []
    for metric, what, keys, match in (
        ("auroc", "Image AUROC", shown, own),
        ("pixel_auroc", "Pixel AUROC", [PIXELS], PIXELS),
    ):
        ours: dict[str, list[float]] = {}
        for run in runs:
            if metric in run.evaluation.metrics:
                value = 100 * run.evaluation.metrics[metric].value
                ours.setdefault(run.category, []).append(value)
        if ours:
            tables.append(_table(f"{what} in %", ours, paper, keys, match))
    return tables


def _table(
    title: str,
    ours: Mapping[str, list[float]],
    paper: Paper,
    keys: Sequence[str],
    match: str | None,
) -> Table:
    known = [c for c in ours if c in paper.columns[keys[0]]]
    groups = {
        **{category: [category] for category in ours},
        "textures": [c for c in known if c in paper.textures],
        "objects": [c for c in known if c not in paper.textures],
        "all": list(ours),
    }
    rows = []
    for name, categories in groups.items():
        if not categories:
            continue
        by_seed = zip(*(ours[category] for category in categories), strict=True)
        mine = Figure.over([statistics.fmean(values) for values in by_seed])
        theirs = {key: paper.mean(key, categories) for key in keys}
        reference = None if match is None else theirs[match]
        difference = "" if reference is None else f"{mine.mean - reference.mean:+.1f}"
        cells = ["-" if figure is None else str(figure) for figure in theirs.values()]
        rows.append((name, str(mine), difference, *cells))
    seeds = len(next(iter(ours.values())))
    against = "" if match is None else f" Difference to {paper.titles[match]}."
    return Table(
        title=title,
        headings=("category", "ours", "diff.", *(paper.titles[key] for key in keys)),
        rows=rows,
        note=f"Ours: mean of {seeds} seed{'s' if seeds > 1 else ''}; the paper's of 5. After ±: "
        f"standard error.{against}",
    )


def print_table(table: Table, console: Console) -> None:
    """Print a table of `compare`; without the paper's standard errors, which need a wide page."""
    shown = rich.table.Table(
        title=table.title, box=rich.box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False
    )
    for i, heading in enumerate(table.headings):
        justify: Literal["left", "right"] = "right" if i else "left"
        shown.add_column(Text(heading), justify=justify, overflow="fold", no_wrap=i == 1)
    for name, ours, difference, *paper in table.rows:
        means = [cell.partition("±")[0] for cell in paper]
        shown.add_row(*map(Text, (name, ours, difference, *means)))
    console.print(shown)
    console.print(table.note, markup=False, highlight=False)
