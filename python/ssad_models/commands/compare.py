# SPDX-License-Identifier: Apache-2.0
"""`ssadk compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssad_models.commands.common import (
    Categories,
    Data,
    Device,
    Folders,
    Layout,
    Seeds,
    Settings,
    Workers,
    check_writable,
    console,
    find_sources,
    parse_seeds,
    pick_device,
)


def compare(
    data: Data,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Recipes, names or YAML files, with commas between; by default one of each "
            "method. For builtin a name means NAME-builtin where there is one."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Updates of each training; by default 200.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.001, help="Instead: time of each training.")
    ] = None,
    width: Annotated[
        float | None,
        typer.Option(help="Channels of all networks, in parts of the published ones, as 0.25."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for all runs and the report.")] = Path(
        "compare"
    ),
    seeds: Seeds = "0",
    category: Categories = None,
    layout: Layout = "auto",
    folder: Folders = None,
    settings: Settings = None,
    workers: Workers = None,
    device: Device = "auto",
) -> None:
    """Train several methods with the same budget, and write one page about them.

    Example: ssadk compare builtin --methods cutpaste,nsa --steps 200 --width 0.25 --category brick

    Each method stands beside its own untrained network, with its time, memory and speed.

    It may be interrupted at any time: the same command goes on where it stopped. A method that
    fails leaves the others standing.
    """
    check_writable(out)
    if steps is not None and minutes is not None:
        msg = "--steps and --minutes exclude each other"
        raise typer.BadParameter(msg)
    numbers, place = parse_seeds(seeds), pick_device(device)
    from ssad_models.compare import Budget, Comparison, recipes_of
    from ssad_models.compare import compare as run
    from ssad_models.recipe import METHODS

    names = list(METHODS) if methods is None else [name.strip() for name in methods.split(",")]
    builtin = "builtin" in (data, layout)
    recipes = recipes_of(names, settings or (), width=width, builtin=builtin)
    sources = find_sources(data, layout, category, folder)
    budget = Budget(minutes=minutes) if minutes else Budget(steps or 200)
    comparison = Comparison(recipes, sources, numbers, budget, out, workers, place)
    outcomes = run(comparison, console)
    if outcomes.runs:
        wrote = f"Wrote {out / 'report.html'}, results.json and results.csv."
        console.print(wrote, markup=False, soft_wrap=True)
    if outcomes.failures:
        raise typer.Exit(1)
