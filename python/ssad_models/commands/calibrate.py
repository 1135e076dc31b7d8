# SPDX-License-Identifier: Apache-2.0
"""`ssadk calibrate`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ssad_models.commands.common import (
    Categories,
    Data,
    Folders,
    Layout,
    RecipeName,
    Settings,
    check_writable,
    console,
    find_sources,
)


def calibrate(
    data: Data,
    out: Annotated[Path, typer.Option(help="The recipe to write, a YAML file.")] = Path("my.yaml"),
    recipe: RecipeName = "nsa",
    category: Categories = None,
    layout: Layout = "auto",
    folder: Folders = None,
    settings: Settings = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the patches that are tried.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if there is one.")] = False,
) -> None:
    """Find NSA's settings for images of your own, and write them as a recipe.

    Example: ssadk calibrate photos --out my.yaml

    Then: ssadk train photos --recipe my.yaml

    From normal images alone: the background, how large the objects are and so the patches, and how
    much patches change images, which the labels are scaled by.
    """
    check_writable(out.parent)
    if out.exists() and not force:
        msg = f"{out}: there is one already; choose another --out, or replace it with --force"
        raise FileExistsError(msg)
    from ssad_models.nsa.calibrate import calibrate as run
    from ssad_models.nsa.calibrate import write_recipe
    from ssad_models.nsa.recipe import NsaRecipe
    from ssad_models.recipe import RecipeError, load_recipe
    from ssad_models.runs import progress_bar

    plan = load_recipe(recipe, settings or ())
    if not isinstance(plan, NsaRecipe):
        msg = f"{recipe}: must be a recipe of nsa, fpi or pii, got one of {plan.method}"
        raise RecipeError(msg)
    found, counts = {}, {}
    for source in find_sources(data, layout, category, folder):
        with progress_bar(console) as progress:
            task = progress.add_task(f"{source.name}: images", total=source.counts()[0])
            advance = partial(progress.advance, task)
            images = source.train(plan.loading_size, plan.channels, advance).images
        found[source.name], counts[source.name] = run(images, plan, seed), len(images)
        told = ", ".join(f"{name} {value}" for name, value in found[source.name].items())
        console.print(f"{source.name}: {told}", markup=False, highlight=False, soft_wrap=True)
    write_recipe(out, recipe, found, counts)
    load_recipe(out)
    console.print(f"Wrote {out}.", markup=False, soft_wrap=True)
