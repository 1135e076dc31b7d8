# SPDX-License-Identifier: Apache-2.0
"""`ssadk train`."""

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
    Proxy,
    RecipeName,
    Settings,
    Workers,
    check_writable,
    console,
    find_sources,
    overrides,
    pick_device,
)


def train(
    data: Data,
    recipe: RecipeName = "cutpaste-lite0",
    out: Annotated[
        Path, typer.Option(help="Folder for the runs: OUT/CATEGORY/seedN/model.pt.")
    ] = Path("runs"),
    category: Categories = None,
    layout: Layout = "auto",
    folder: Folders = None,
    proxy: Proxy = None,
    settings: Settings = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training.")] = 0,
    workers: Workers = None,
    device: Device = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Number of GPUs.")] = 1,
    resume: Annotated[
        bool, typer.Option(help="Go on where an interrupted run stopped, or start again.")
    ] = True,
) -> None:
    """Train one detector per category, on normal images alone.

    Example: ssadk train mvtec --category bottle --out runs

    Without a data set of your own: ssadk train builtin --category brick

    The default recipe takes minutes on a CPU; --recipe cutpaste, --recipe cutpaste-patch (which
    localises) and --recipe nsa are those of the papers, for a GPU; with -builtin, as in
    nsa-builtin, they are for the built-in data.

    A run that was interrupted goes on when the same command is given again.
    """
    check_writable(out)
    place = pick_device(device)
    from ssad_models.recipe import load_recipe
    from ssad_models.runs import run_folder
    from ssad_models.training import train as run

    plan = load_recipe(recipe, overrides(settings, proxy))
    sources = find_sources(data, layout, category, folder)
    for source in sources:
        plan.for_category(source.name)  # a recipe that is not for it says so before any training
    for source in sources:
        written = run(
            plan,
            source,
            run_folder(out, source.name, seed),
            seed=seed,
            workers=workers,
            device=place,
            devices=devices,
            resume=resume,
            progress=console,
        )
        console.print(f"{source.name}: {written}", markup=False, highlight=False, soft_wrap=True)
