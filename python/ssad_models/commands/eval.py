# SPDX-License-Identifier: Apache-2.0
"""`ssadk eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ssad_models.commands.common import (
    Categories,
    Data,
    Device,
    Folders,
    Layout,
    check_writable,
    console,
    find_sources,
    pick_device,
)

if TYPE_CHECKING:  # importing torch takes seconds, and help does without
    from ssad_models.report import Run

# Of `ssad_models.evaluate.METRICS`: tables that a terminal of 80 columns has room for.
_TABLES = {
    "Images": {
        "auroc": "AUROC",
        "average_precision": "AP",
        "f1_max": "F1",
        "detection_rate": "detected",
        "false_alarm_rate": "false alarms",
    },
    "Pixels": {
        "pixel_auroc": "AUROC",
        "pixel_average_precision": "AP",
        "pixel_f1_max": "F1",
        "iou_max": "best IoU",
        "iou": "IoU",
        "iou_per_image": "IoU/image",
    },
    "Overlap with defects": {
        "aupro_30": "AUPRO 30%",
        "aupro_05": "5%",
        "aupro_01": "1%",
        "spro_30": "sPRO 30%",
        "spro_05": "5%",
    },
}

_FAR = 3
"""How many times the stated false-alarm rate is no longer put down to chance."""


def evaluate(
    data: Data,
    models: Annotated[
        list[Path],
        typer.Argument(help="Model files, or folders to search for them.", metavar="MODEL..."),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for report.html, results.json and results.csv.")
    ] = Path("evaluation"),
    category: Categories = None,
    layout: Layout = "auto",
    folder: Folders = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Also combine all models of a category.")
    ] = False,
    any_category: Annotated[
        bool,
        typer.Option(
            "--any-category",
            help="Test every model, also those trained on a category of another name.",
        ),
    ] = False,
    device: Device = "auto",
) -> None:
    """Test models on the test images of their categories, and write a report.

    Example: ssadk eval mvtec runs --out evaluation

    The report has metrics per category and kind of defect, curves, and pictures of what went wrong.
    """
    check_writable(out)
    place = pick_device(device)
    from ssad_models.runs import evaluate_models, find_model_files, progress_bar, write_results

    sources, files = find_sources(data, layout, category, folder), find_model_files(models)
    with progress_bar(console) as progress:
        runs = evaluate_models(
            files, sources, place, progress, ensemble=ensemble, any_category=any_category
        )
    write_results(out, runs, title="Evaluation")
    for title, headings in _TABLES.items():
        _print_table(title, headings, runs)
    if any(_is_alarming(run) for run in runs):
        console.print(
            "Far more false alarms than stated: the normal test images are not like the training "
            "images (of builtin by design), and the threshold holds only for such as are.",
            soft_wrap=True,
        )
    left_out = len(files) - sum(run.seed is not None for run in runs)
    if left_out > 0:
        console.print(f"Left out: {left_out} models of other categories.")
    wrote = f"Wrote {out / 'report.html'}, results.json and results.csv."
    console.print(wrote, markup=False, soft_wrap=True)


def _print_table(title: str, headings: dict[str, str], runs: list[Run]) -> None:
    names = [name for name in headings if any(name in run.evaluation.metrics for run in runs)]
    if not names:
        return
    from ssad_models.printing import narrow_table

    table = narrow_table(f"{title}, in %, with 95 % intervals")
    for heading in ("category", "model"):  # broken, so that figures are not cut
        table.add_column(heading, overflow="fold")
    for name in names:
        table.add_column(headings[name], justify="right", overflow="fold", no_wrap=True)
    for run in runs:
        cells = []
        for name in names:
            e = run.evaluation.metrics.get(name)
            cell = "" if e is None else f"{_percent(e.value)}\n{_percent(e.low)}-{_percent(e.high)}"
            if e is not None and name == "false_alarm_rate":
                cell += f"\nstated {_stated(run):g}"
            cells.append(cell)
        name = run.method if run.seed is None else f"{run.method}\nseed {run.seed}"
        table.add_row(Text(run.category), Text(name), *cells)
    console.print(table)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}".replace("100.0", "100")


def _stated(run: Run) -> float:
    return 100 * float(run.settings["false_alarm"])  # type: ignore[arg-type]  # a number


def _is_alarming(run: Run) -> bool:
    seen = run.evaluation.metrics.get("false_alarm_rate")
    return seen is not None and 100 * seen.value > _FAR * _stated(run)
