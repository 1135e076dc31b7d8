# SPDX-License-Identifier: Apache-2.0
"""`ssadk reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssad_models.commands.common import (
    Categories,
    Device,
    Folders,
    Layout,
    Proxy,
    Seeds,
    Settings,
    Workers,
    check_writable,
    console,
    find_sources,
    overrides,
    parse_seeds,
    pick_device,
)


def reproduce(
    method: Annotated[
        str,
        typer.Argument(
            help="A recipe: cutpaste, cutpaste-b4, cutpaste-patch, nsa, nsa-cxr, fpi, fpi-wrn, pii "
            "or pii-wrn (of the papers, for a GPU), cutpaste-lite0 (minutes on a CPU), or a YAML "
            "file.",
            metavar="METHOD",
        ),
    ],
    data: Annotated[str, typer.Option(help="Root folder of MVTec AD, or of data laid out so.")],
    out: Annotated[Path, typer.Option(help="Folder for all runs and the report.")] = Path(
        "reproduction"
    ),
    seeds: Seeds = "0,1,2,3,4",
    category: Categories = None,
    layout: Layout = "auto",
    folder: Folders = None,
    proxy: Proxy = None,
    settings: Settings = None,
    workers: Workers = None,
    device: Device = "auto",
) -> None:
    """Train all categories with several seeds and print the results beside the paper's.

    Example: ssadk reproduce cutpaste --data mvtec --seeds 0,1 --out reproduction

    It may be interrupted at any time: the same command goes on where it stopped.

    Like the paper, it trains on all normal images: held_out is 0, and the models have no threshold.
    """
    check_writable(out)
    numbers, place = parse_seeds(seeds), pick_device(device)
    from ssad_models.recipe import load_recipe
    from ssad_models.reproduce import reproduce as run

    plan = load_recipe(method, overrides(settings, proxy))
    sources = find_sources(data, layout, category, folder)
    run(plan, sources, numbers, out, workers=workers, device=place, console=console)
    console.print(f"Wrote {out / 'report.html'} and results.json.", markup=False, soft_wrap=True)
