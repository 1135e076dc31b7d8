# SPDX-License-Identifier: Apache-2.0
"""Runs on disk: where they lie, and how good their models are."""

from __future__ import annotations

import csv
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ssad_models.atomic import replacing
from ssad_models.data.images import DataError
from ssad_models.data.split import Source, Split
from ssad_models.ensemble import ensemble_score
from ssad_models.evaluate import Evaluation, evaluate
from ssad_models.model_file import Model, Prediction, load, load_meta, versions
from ssad_models.names import printable, safe_file_name
from ssad_models.recipe import recipe_of
from ssad_models.report import Report, Run, Table, gallery, read_curves, write_report
from ssad_models.run_files import CURVES, MODEL

PICTURE_BYTES = 6_000_000
"""Of all pictures in one report; they are nearly all of its size."""


def progress_bar(console: Console) -> Progress:
    """A bar with counts and time, to be used as a context."""
    return Progress(
        TextColumn("{task.description:<32}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def file_name(category: str) -> str:
    """A file name of its own for each category, whatever its name may point to."""
    safe = safe_file_name(category)
    # Other categories may give the same safe name.
    return safe if safe == category else f"{safe}-{zlib.crc32(printable(category).encode()):08x}"


def run_folder(out: Path, category: str, seed: int) -> Path:
    """The folder of one run: `out`/CATEGORY/seedN."""
    return out / file_name(category) / f"seed{seed}"


def find_model_files(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, and each model.pt in folders at any depth, sorted.

    Raises:
        FileNotFoundError: If a path does not exist, or a folder has no model.
    """
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.rglob(MODEL)) if path.is_dir() else [path]
        if not inside or not path.exists():
            msg = (
                f"{printable(path)}: must be a model file or a folder with {MODEL} in it; train one"
            )
            raise FileNotFoundError(msg)
        found += [file for file in inside if file not in found]
    return found


def one_model_file(path: Path) -> Path:
    """`path`, or the one model.pt in that folder.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If there are several.
    """
    found = find_model_files([path])
    if len(found) > 1:
        some = ", ".join(printable(file) for file in found[:3])
        msg = f"{printable(path)}: must hold one model, got {len(found)} ({some}, ...); name one"
        raise ValueError(msg)
    return found[0]


def evaluate_model(model: Model, test: Split, folder: Path, category: str) -> Run:
    """Score a test set.

    Args:
        model: The model.
        test: Test images of the model's size and channels.
        folder: The run's folder, for the training curves in its metrics.csv, if there is one.
        category: What the test images are of.
    """
    return make_run(model, test, folder, category, model.predict(test.images))


def make_run(model: Model, test: Split, folder: Path, category: str, prediction: Prediction) -> Run:
    """What `evaluate_model` returns, of a prediction that is there already."""
    threshold = None if model.calibration is None else model.calibration.threshold
    curves, method = folder / CURVES, recipe_of(model.recipe).title
    if model.meta.category != category:
        method += f", trained on {model.meta.category}"
    return Run(
        method=method,
        category=category,
        evaluation=evaluate(test, prediction.score, prediction.map, threshold=threshold),
        seed=model.meta.seed,
        curves=read_curves(curves) if curves.exists() else {},
        pictures=gallery(test, prediction.score, prediction.map),
        settings=model.recipe,
    )


def evaluate_models(
    files: Sequence[Path],
    sources: Sequence[Source],
    device: str,
    progress: Progress,
    *,
    ensemble: bool = False,
    any_category: bool = False,
) -> list[Run]:
    """Evaluate each model on the category that it was trained on.

    Args:
        files: Model files; those of other categories than the sources' are left out.
        sources: Categories with test images.
        device: Where to compute.
        progress: Gets a bar for each category.
        ensemble: Also evaluate all models of a category together, if there are several.
        any_category: Evaluate every model on every category, whatever it was trained on.

    Returns:
        One run per model, then one of the ensemble, by category in the order of `sources`.

    Raises:
        ValueError: If no model is of a category of the sources, or an ensemble is asked for of
            models that are not calibrated.
        DataError: If a category has no test images.
    """
    trained_on = {file: load_meta(file).category for file in files}
    names = [source.name for source in sources]
    if not any_category and not set(names) & set(trained_on.values()):
        found = ", ".join(map(printable, sorted(set(trained_on.values()))))
        msg = (
            f"the models must be of {' or '.join(map(printable, names))}, got models of {found}; "
            "if a folder has been renamed since the training, add --any-category"
        )
        raise ValueError(msg)
    runs = []
    for source in sources:
        own = [file for file in files if any_category or trained_on[file] == source.name]
        tests: dict[tuple[int, int], Split] = {}
        predictions = []
        for file in own:
            model = load(file, device)
            shape = (model.size, model.channels)
            if shape not in tests:
                tests[shape] = load_test(source, *shape, progress)
            prediction = model.predict(tests[shape].images)
            runs.append(make_run(model, tests[shape], file.parent, source.name, prediction))
            predictions.append(prediction._replace(map=None))
        if ensemble and len(own) > 1:
            evaluation = evaluate(next(iter(tests.values())), ensemble_score(predictions))
            runs.append(Run(f"ensemble of {len(own)}", source.name, evaluation))
    return runs


def load_test(source: Source, size: int, channels: int, progress: Progress) -> Split:
    """The test images of a category, with a progress bar.

    Raises:
        DataError: If it has none.
    """
    task = progress.add_task(f"{source.name}: test images", total=source.counts()[1])
    test = source.test(size, channels, lambda count: progress.advance(task, count))
    if test is None:
        msg = f"{source.name}: must have test images, normal and anomalous ones, got none"
        raise DataError(msg)
    return test


def write_results(
    out: Path,
    runs: Sequence[Run],
    title: str,
    tables: Sequence[Table] = (),
    notes: Sequence[str] = (),
) -> None:
    """Write report.html, results.json and results.csv (a row for each metric of each run).

    Args:
        out: Folder.
        runs: At least one. Of many, the page shows fewer pictures each.
        title: Of the page.
        tables: Further tables for the page.
        notes: Paragraphs for the page.

    Raises:
        OSError: If they cannot be written.
    """
    share = min(1.0, PICTURE_BYTES / max(1, sum(map(_picture_bytes, runs))))
    if share < 1:
        why = "to keep the page small; a report of fewer models has more of each"
        notes = [*notes, f"Of each run only the worst {share:.0%} of the pictures are here, {why}."]
    shown = [replace(run, pictures=run.pictures[: int(share * len(run.pictures))]) for run in runs]
    out.mkdir(parents=True, exist_ok=True)
    report = Report(title, shown, tables=tables, versions=versions(), notes=notes)
    write_report(out / "report.html", report)
    with replacing(out / "results.json") as file:
        file.write((json.dumps([to_dict(run) for run in runs], indent=1) + "\n").encode())
    with replacing(out / "results.csv") as file:
        file.write(_rows_of(runs).encode(errors="backslashreplace"))


def _rows_of(runs: Sequence[Run]) -> str:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["method", "category", "seed", "metric", "value", "low", "high"])
    for run in runs:
        for metric, e in run.evaluation.metrics.items():
            rows.writerow([run.method, run.category, run.seed, metric, e.value, e.low, e.high])
    return text.getvalue()


def _picture_bytes(run: Run) -> int:
    return sum(len(p.image) + len(p.mask or "") + len(p.heat or "") for p in run.pictures)


def from_dict(values: Mapping[str, Any], folder: Path) -> Run:
    """A run that `to_dict` gave, also after a trip through JSON, with the curves in its folder."""
    evaluation = Evaluation.from_dict(values["evaluation"])
    return Run(**{**values, "evaluation": evaluation}, curves=read_curves(folder / CURVES))


def to_dict(run: Run) -> dict[str, Any]:
    """A run in plain types, without curves and pictures."""
    return {
        "method": run.method,
        "category": run.category,
        "seed": run.seed,
        "settings": dict(run.settings),
        "evaluation": run.evaluation.to_dict(),
    }
