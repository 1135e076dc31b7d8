# SPDX-License-Identifier: Apache-2.0
"""All methods, categories and seeds of a comparison, one process after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ssad_models.compare.job import Budget, Job, check, result_of
from ssad_models.compare.outcome import Outcomes
from ssad_models.compare.process import do_apart, said
from ssad_models.compare.publish import publish
from ssad_models.data.images import DataError
from ssad_models.data.split import Source
from ssad_models.names import printable
from ssad_models.recipe import BUILT_IN, load_recipe
from ssad_models.settings import Recipe, RecipeError


@dataclass(frozen=True)
class Comparison:
    """What is to be compared.

    Attributes:
        recipes: By the names that the tables have, see `recipes_of`.
        sources: Categories.
        seeds: Of the trainings.
        budget: Of each training.
        out: Folder for the runs and the report.
        workers: See `train`.
        device: "cpu" or "cuda".
    """

    recipes: Mapping[str, Recipe]
    sources: Sequence[Source]
    seeds: Sequence[int]
    budget: Budget
    out: Path
    workers: int | None = None
    device: str = "cpu"

    def jobs(self) -> list[Job]:
        """All trainings, those of a category beside each other.

        Raises:
            RecipeError: If a recipe is not for a category.
        """
        return [
            Job(
                name,
                recipe.for_category(source.name),
                source,
                seed,
                self.budget,
                self.out,
                self.workers,
                self.device,
            )
            for source in self.sources
            for name, recipe in self.recipes.items()
            for seed in self.seeds
        ]


def recipes_of(
    methods: Sequence[str],
    overrides: Sequence[str] = (),
    *,
    width: float | None = None,
    builtin: bool = False,
) -> dict[str, Recipe]:
    """Load recipes by the names that tables are to have: without folders and endings.

    Args:
        methods: Names of recipes, or YAML files.
        overrides: Settings for all of them, see `load_recipe`.
        width: Of all networks, in parts of the published one; None for what the recipes say.
        builtin: Take the recipe NAME-builtin where there is one.

    Raises:
        RecipeError: If a recipe cannot be used, or two have one name.
    """
    recipes: dict[str, Recipe] = {}
    settings = [*overrides, *([] if width is None else [f"network_width={width}"])]
    for method in methods:
        own = f"{method}-builtin"
        taken = own if builtin and (BUILT_IN / f"{own}.yaml").is_file() else method
        name = Path(method).stem
        if name in recipes:
            msg = f"methods must have different names, got {name!r} again; rename a file"
            raise RecipeError(msg)
        try:
            recipes[name] = load_recipe(taken, settings)
        except RecipeError as error:
            msg = str(error) if str(error).startswith(("a recipe", taken)) else f"{method}: {error}"
            raise RecipeError(msg) from None
    return recipes


def compare(comparison: Comparison, console: Console) -> Outcomes:
    """Train and evaluate what has not been done yet; print tables; write a page, JSON and CSV.

    Interrupted, it goes on where it stopped when called again. A training that fails leaves the
    others standing, and is tried again by the next call.

    Args:
        comparison: What to compare.
        console: Where progress and tables go.

    Returns:
        What came of it.

    Raises:
        DataError: If a category has no test images.
        RecipeError: If a recipe is not for a category.
        ValueError: If the folder holds a comparison with other settings.
        OSError: If the folder cannot be written.
    """
    untested = [printable(s.name) for s in comparison.sources if s.counts()[1] == 0]
    if untested:
        msg = f"compare: each category must have test images, got none of {', '.join(untested)}"
        raise DataError(msg)
    jobs = comparison.jobs()
    for job in jobs:
        check(job)
    outcomes = Outcomes()
    for number, job in enumerate(jobs, start=1):
        result, why = result_of(job), ""
        if result is None:
            what = f"{number} of {len(jobs)}: {job.name}, {printable(job.source.name)}"
            console.rule(f"{what}, seed {job.seed}", align="left")
            why = do_apart(job)
            result = result_of(job)
            text = f"failed: {why}" if result is None else "\n".join(said(job))
            if text:
                console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
        outcomes.add(job, result, why)
    publish(outcomes, comparison.recipes, comparison.budget, comparison.out, console)
    return outcomes
