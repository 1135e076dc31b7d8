# SPDX-License-Identifier: Apache-2.0
"""`ssadk predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from ssad_models.commands.common import Device, check_writable, console, pick_device

if TYPE_CHECKING:
    from ssad_models.model_file import Model
    from ssad_models.predict import Result

_SHOWN = 10


def predict(
    paths: Annotated[
        list[Path], typer.Argument(help="Images, and folders of images.", metavar="PATH...")
    ],
    model: Annotated[
        Path, typer.Option(help="A model file that ssadk train wrote, or the folder of its run.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for scores and overlays.")] = Path(
        "predictions"
    ),
    tile: Annotated[
        str,
        typer.Option(
            help="auto: images more than a quarter larger than the training files are looked at "
            "in tiles of their size. never: always as a whole."
        ),
    ] = "auto",
    overlays: Annotated[
        bool, typer.Option(help="Write each image with its heat map on top.")
    ] = True,
    device: Device = "auto",
) -> None:
    """Score images: scores.csv, scores.json and heat maps, at the images' own resolution.

    Example: ssadk predict photos --model runs/bottle/seed0/model.pt --out predictions

    Scores above the model's threshold are called anomalous. The threshold was chosen on normal
    images that were kept out of training, for the false-alarm rate in the recipe; in tiles, that
    is the rate of each tile.
    """
    check_writable(out)
    if tile not in ("auto", "never"):
        msg = f"--tile must be auto or never, got {tile!r}"
        raise typer.BadParameter(msg)
    place = pick_device(device)
    from ssad_models.model_file import load
    from ssad_models.predict import find_images, predict_files
    from ssad_models.runs import one_model_file, progress_bar

    loaded = load(one_model_file(model), place)
    with progress_bar(console) as progress:
        task = progress.add_task("Looking at images", total=len(find_images(paths, skip=out)))
        results = predict_files(
            loaded,
            paths,
            out,
            tile=tile,  # type: ignore[arg-type]  # checked above
            overlays=overlays,
            advance=lambda count: progress.advance(task, count),
        )
    _show(results, loaded)
    console.print(f"Wrote {out / 'scores.csv'} and scores.json.", markup=False, soft_wrap=True)
    if any(result.error for result in results):
        raise typer.Exit(1)


def _show(results: list[Result], model: Model) -> None:
    """The most anomalous images and a summary."""
    scored = sorted(
        (r for r in results if r.score is not None), key=lambda r: r.score or 0.0, reverse=True
    )
    table = Table("image", "score", "above normal", "", title="Most anomalous first")
    for result in scored[:_SHOWN]:
        table.add_row(
            Text(result.path, overflow="fold"),
            f"{result.score:.4g}",
            "" if result.normalized is None else f"{result.normalized:+.1f} std",
            Text("anomalous", "red") if result.anomalous else "",
        )
    if scored:
        console.print(table)
    for result in results:
        if result.error:
            console.print(Text(f"not scored: {result.error}", "red"), soft_wrap=True)
    if model.calibration is None:
        verdict = "The model has no threshold: it had too few images to hold any out."
    else:
        number = sum(bool(result.anomalous) for result in results)
        verdict = (
            f"{number} of {len(scored)} images are anomalous (score above "
            f"{model.calibration.threshold:.4g}, {model.calibration.false_alarm:.0%} false alarms)."
        )
    console.print(verdict, soft_wrap=True)
