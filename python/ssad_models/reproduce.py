# SPDX-License-Identifier: Apache-2.0
"""All categories and seeds of a recipe, and the result beside the paper's."""

from __future__ import annotations

import functools
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ssad_models.atomic import replacing
from ssad_models.data.images import DataError
from ssad_models.data.split import Source, Split
from ssad_models.evaluate import METRICS
from ssad_models.methods import METHODS
from ssad_models.model_file import load
from ssad_models.names import printable
from ssad_models.papers import SPREADS, Beside, Figure, Paper
from ssad_models.printing import print_table
from ssad_models.report import Run, Table
from ssad_models.runs import (
    evaluate_model,
    from_dict,
    load_test,
    progress_bar,
    run_folder,
    to_dict,
    write_results,
)
from ssad_models.settings import Recipe
from ssad_models.training import train

EVALUATION = "evaluation.json"
_PICTURES = "Pictures are in the report of each run, CATEGORY/seedN/report.html."


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
    with pictures; the one in `out` is about all that have been done so far.

    Args:
        recipe: What to train, on all normal images: nothing is held out for a threshold.
        sources: Categories.
        seeds: Seeds.
        out: Folder for all runs, report.html and results.json.
        workers: See `train`.
        device: "cpu" or "cuda".
        console: Where progress and tables go.

    Returns:
        One run for each category and seed, without pictures.

    Raises:
        DataError: If a category has no test images, before anything is done; or if images are
            damaged, after all other categories.
        RecipeError: If the recipe is not for a category, before anything is done.
        ValueError: If `out` holds runs with other settings.
        OSError: If `out` cannot be written.
    """
    untested = [printable(source.name) for source in sources if source.counts()[1] == 0]
    if untested:
        msg = f"reproduce: each category must have test images, got none of {', '.join(untested)}"
        raise DataError(msg)
    for source in sources:
        recipe.for_category(source.name)
    recipe = replace(recipe, held_out=0.0)  # the paper trains on all, and sets no threshold
    runs: list[Run] = []
    errors: list[str] = []

    def write() -> list[Table]:
        tables = compare(runs, recipe)
        title = f"{runs[0].method}: all categories and seeds"
        write_results(out, runs, title, tables, [_PICTURES])
        return tables

    for source in sources:
        try:
            for run, new in _runs(recipe, source, seeds, out, workers, device, console):
                runs.append(run)
                if new:
                    write()
        except DataError as error:
            errors.append(str(error))
    for table in write() if runs else ():
        # Without the paper's standard errors, which need a wide page.
        rows = [[*row[:2], *(cell.partition("±")[0] for cell in row[2:])] for row in table.rows]
        print_table(replace(table, rows=rows), console)
    if errors:
        msg = f"{len(errors)} of {len(sources)} categories could not be used: {'; '.join(errors)}"
        raise DataError(msg)
    return runs


def _runs(
    recipe: Recipe,
    source: Source,
    seeds: Sequence[int],
    out: Path,
    workers: int | None,
    device: str,
    console: Console,
) -> Iterator[tuple[Run, bool]]:
    """The runs of one category, each as soon as it is done, and whether that was but now."""
    load_once = functools.cache(functools.partial(_load_test, source, console))
    tested_on = source.test_fingerprint()
    for seed in seeds:
        folder = run_folder(out, source.name, seed)
        model = train(
            recipe, source, folder, seed=seed, workers=workers, device=device, progress=console
        )
        path = folder / EVALUATION
        run = _read(path, tested_on) if path.exists() else None
        new = run is None or path.stat().st_mtime < model.stat().st_mtime
        if run is None or new:
            run = _evaluate(model, device, load_once, source.name)
            with replacing(path) as file:
                file.write(json.dumps({"tested_on": tested_on, **to_dict(run)}).encode())
        yield run, new


def _load_test(source: Source, console: Console, size: int, channels: int) -> Split:
    with progress_bar(console) as progress:
        return load_test(source, size, channels, progress)


def _evaluate(
    model_file: Path, device: str, load_once: Callable[[int, int], Split], category: str
) -> Run:
    """Evaluate a run and write its own report; it is returned without its pictures."""
    model = load(model_file, device)
    test = load_once(model.size, model.channels)
    run = evaluate_model(model, test, model_file.parent, category)
    write_results(model_file.parent, [run], f"{run.category}, seed {run.seed}")
    return replace(run, pictures=())


def _read(path: Path, tested_on: str) -> Run | None:
    """An evaluation of earlier; None if the test images were others."""
    values = json.loads(path.read_text(encoding="utf-8"))
    if values.pop("tested_on", None) != tested_on:
        return None
    return from_dict(values, path.parent)


def compare(runs: Sequence[Run], recipe: Recipe) -> list[Table]:
    """Our image AUROC beside the paper's columns, and our pixel AUROC if there is any.

    Means are over categories and then over the seeds that all of them have; a paper's mean is shown
    where the paper has all the categories that ours is over. A difference is shown where the paper
    has the model of the recipe.
    """
    method = METHODS[recipe.method]
    paper = Paper.read(method.paper)
    tables = []
    for metric in paper.tables:
        ours: dict[str, dict[int | None, float]] = {}
        for run in runs:
            if metric in run.evaluation.metrics:
                value = 100 * run.evaluation.metrics[metric].value
                ours.setdefault(run.category, {})[run.seed] = value
        if ours:
            tables.append(_table(metric, ours, paper, method.beside(recipe, metric)))
    return tables


def _table(
    metric: str,
    ours: Mapping[str, Mapping[int | None, float]],
    paper: Paper,
    beside: Beside,
) -> Table:
    theirs, match = paper.tables[metric], beside.match
    known = [c for c in ours if c in theirs.categories]
    groups = {
        **{category: [category] for category in ours},
        "textures": [c for c in known if c in paper.textures],
        "objects": [c for c in known if c not in paper.textures],
        "all": list(ours),
    }
    rows = []
    for name, categories in groups.items():
        seeds = set.intersection(*(set(ours[c]) for c in categories)) if categories else set()
        if not seeds:
            continue
        by_seed = [statistics.fmean(ours[c][seed] for c in categories) for seed in seeds]
        mine = Figure.over(by_seed, paper.spread)
        figures = {key: theirs.mean(key, categories) for key in beside.keys}
        row = [name, str(mine)]
        if match is not None:
            reference = figures[match]
            row.append("" if reference is None else f"{mine.mean - reference.mean:+.1f}")
        rows.append([*row, *("-" if f is None else str(f) for f in figures.values())])
    numbers = [len(by_seed) for by_seed in ours.values()]
    least, most = min(numbers), max(numbers)
    against = "" if match is None else f" Difference to {theirs.titles[match].removesuffix('.')}."
    return Table(
        title=f"{METRICS[metric]} in %",
        headings=(
            "category",
            "ours",
            *([] if match is None else ["diff."]),
            *(theirs.titles[key] for key in beside.keys),
        ),
        rows=rows,
        note=f"Mean over seeds: ours {most if least == most else f'{least} to {most}'}, the "
        f"paper's 5. After ±: {SPREADS[paper.spread]}.{against}{beside.note}",
    )
