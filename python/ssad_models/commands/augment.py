# SPDX-License-Identifier: Apache-2.0
"""`ssadk augment`."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ssad_models.commands.common import (
    Categories,
    Data,
    Folders,
    Layout,
    Proxy,
    RecipeName,
    Settings,
    check_writable,
    console,
    find_sources,
    overrides,
)


def augment(
    data: Data,
    recipe: RecipeName = "cutpaste-lite0",
    out: Annotated[Path, typer.Option(help="Folder for one picture per category.")] = Path(
        "augmented"
    ),
    category: Categories = None,
    layout: Layout = "auto",
    folder: Folders = None,
    proxy: Proxy = None,
    settings: Settings = None,
    count: Annotated[int, typer.Option(min=1, max=64, help="Images to show.")] = 8,
    draws: Annotated[int, typer.Option(min=1, help="Augmentations to count.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the augmentations.")] = 0,
) -> None:
    """Show what training makes of images, with masks, and count how often it changes nothing.

    Example: ssadk augment mvtec --category bottle --proxy scar --out augmented

    In each row of a picture: an image as it is shown to the network as normal, at the recipe's
    size, moved or cropped, and recoloured; then each augmentation of it and the mask of what
    changed.
    """
    check_writable(out)
    from ssad_models.methods import METHODS
    from ssad_models.overlay import write_png
    from ssad_models.pictures import sheet, statistics
    from ssad_models.recipe import load_recipe
    from ssad_models.runs import file_name, progress_bar

    plan = load_recipe(recipe, overrides(settings, proxy))
    table = Table("category", "augmentation", "changed", "of the image", "status")
    for source in find_sources(data, layout, category, folder):
        own = plan.for_category(source.name)
        with progress_bar(console) as progress:
            task = progress.add_task(f"{source.name}: images", total=source.counts()[0])
            advance = partial(progress.advance, task)
            images = source.train(own.loading_size, own.channels, advance).images
        plain, augments = METHODS[own.method].previews(own)
        path = out / f"{file_name(source.name)}.png"
        write_png(path, sheet(images[:count], plain, list(augments.values()), seed))
        for name, each in augments.items():
            found = statistics(images, plain, each, draws, seed)
            changed = found.statuses.get("applied", 0) + found.statuses.get("clipped", 0)
            statuses = ", ".join(f"{n} {status}" for status, n in found.statuses.items())
            table.add_row(
                Text(source.name),
                name,
                f"{changed / draws:.1%}",
                "-" if math.isnan(found.share) else f"{found.share:.1%}",
                Text(statuses, "" if changed >= draws / 2 else "red"),
            )
        console.print(f"Wrote {path}", markup=False, soft_wrap=True)
    if table.row_count:
        console.print(table)
