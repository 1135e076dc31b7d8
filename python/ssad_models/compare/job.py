# SPDX-License-Identifier: Apache-2.0
"""One training of a comparison, and what is found out about it: the work of one process.

What is done already is not done again, so that it may be killed at any time.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ssad_models import model_file
from ssad_models.atomic import replacing
from ssad_models.bench import calls_per_second
from ssad_models.data.split import Source, Split
from ssad_models.evaluate import evaluate
from ssad_models.methods import METHODS
from ssad_models.model_file import Meta, Model
from ssad_models.run_files import RUN
from ssad_models.runs import (
    file_name,
    load_test,
    make_run,
    progress_bar,
    run_folder,
    to_dict,
    write_results,
)
from ssad_models.settings import Recipe
from ssad_models.trainer import default_workers, fit_quietly, loader_of
from ssad_models.training import parts_of, train

PLAN, RESULT, LOG = "plan.json", "comparison.json", "log.txt"
BATCH = 16
_TIMED = 6  # steps, of which the first does not count
_SECONDS = 0.3  # per trial of inference


@dataclass(frozen=True)
class Budget:
    """How long each method trains: so many updates, or as many as fit into so many minutes."""

    steps: int | None = None
    minutes: float | None = None

    def __str__(self) -> str:
        return f"{self.minutes:g} minutes" if self.steps is None else f"{self.steps} steps"


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        name: What the comparison calls the method.
        recipe: For the category; its length is replaced by the budget's.
        source: The category.
        seed: Of the training.
        budget: Of the training.
        out: Folder of the comparison.
        workers: See `train`.
        device: "cpu" or "cuda".
    """

    name: str
    recipe: Recipe
    source: Source
    seed: int
    budget: Budget
    out: Path
    workers: int | None
    device: str

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return run_folder(self.out / "runs" / file_name(self.name), self.source.name, self.seed)

    @property
    def plan(self) -> Path:
        """The file with the number of steps, which all seeds share."""
        return self.folder.parent / PLAN

    @property
    def log(self) -> Path:
        """The file with what the process of the training said to stderr."""
        return self.folder / LOG

    @cached_property
    def asked(self) -> dict[str, Any]:
        """What the number of steps belongs to."""
        return {
            "recipe": self.recipe.to_dict(),
            "budget": {"steps": self.budget.steps, "minutes": self.budget.minutes},
            "data": self.source.fingerprint(),
            "device": self.device,
        }

    @cached_property
    def tested_on(self) -> str:
        """What the test images are known by."""
        return self.source.test_fingerprint()


def check(job: Job) -> None:
    """Look whether the folder is that of the same comparison.

    Raises:
        ValueError: If it was begun with other settings.
    """
    found = _read(job.plan)
    for key, wanted in job.asked.items():
        if found is not None and found["asked"].get(key) != wanted:
            msg = (
                f"{job.plan}: must be of a comparison with the same settings, got one with another "
                f"`{key}`; choose another --out"
            )
            raise ValueError(msg)


def result_of(job: Job) -> dict[str, Any] | None:
    """What `do` found out, if it did so for these settings and test images."""
    found = _read(job.folder / RESULT)
    if found is None or (found["asked"], found["tested_on"]) != (job.asked, job.tested_on):
        return None
    return found


def do(job: Job, console: Console) -> None:
    """Train, evaluate, and write down what came of it.

    Args:
        job: See there.
        console: Where progress bars go.

    Raises:
        ValueError: See `train`; also if scores are not finite.
    """
    method = METHODS[job.recipe.method]
    share = method.checked_share(job.recipe)
    learned = len(parts_of(job.source.counts()[0], job.recipe, share, job.seed).learn)
    recipe = job.recipe.for_steps(_steps(job), max(1, learned))
    file = train(
        recipe,
        job.source,
        job.folder,
        seed=job.seed,
        workers=job.workers,
        device=job.device,
        tensorboard=False,
        progress=console,
    )
    trained = model_file.load(file, job.device)
    with progress_bar(console) as progress:
        test = load_test(job.source, trained.size, trained.channels, progress)
        task = progress.add_task(f"{job.source.name}: evaluation", total=3)
        prediction = trained.predict(test.images)
        run = replace(
            make_run(trained, test, job.folder, job.source.name, prediction), method=job.name
        )
        progress.advance(task)
        write_results(job.folder, [run], f"{job.name} on {job.source.name}, seed {job.seed}")
        progress.advance(task)
        before = _untrained(job, recipe).predict(test.images)
        # A few samples, as its intervals are not shown.
        metrics = evaluate(test, before.score, before.map, resamples=50).metrics
        progress.advance(task)
    facts = json.loads((job.folder / RUN).read_text(encoding="utf-8"))
    result = {
        "asked": job.asked,
        "tested_on": job.tested_on,
        "run": to_dict(run),
        "untrained": {name: estimate.value for name, estimate in metrics.items()},
        "scores": {"trained": prediction.score.tolist(), "untrained": before.score.tolist()},
        "labels": test.labels.tolist(),
        "groups": test.groups.tolist(),
        "cost": {
            "steps": recipe.plan(facts["parts"]["learn"]).steps,
            "seconds": facts["seconds"],
            "images_per_second": _images_per_second(trained, test, job.device),
            "parameters": sum(p.numel() for p in trained.detector.parameters()),
            "memory_mib": facts["peak_memory_mib"][job.device],
        },
    }
    _write(job.folder / RESULT, result)


def _steps(job: Job) -> int:
    """Updates that the budget allows; written down, as another day they would be others."""
    check(job)
    found = _read(job.plan)
    if found is None:
        steps = job.budget.steps
        if job.budget.minutes is not None:
            steps = max(1, round(60 * job.budget.minutes / _seconds_per_step(job)))
        found = {"asked": job.asked, "steps": steps}
        _write(job.plan, found)
    return int(found["steps"])


def _seconds_per_step(job: Job) -> float:
    """Median of a few steps of the training itself."""
    recipe, ends = job.recipe, list[float]()
    method = METHODS[recipe.method]
    images = job.source.train(recipe.loading_size, recipe.channels).images
    module = method.module(recipe, job.seed)
    rows = parts_of(len(images), recipe, method.checked_share(recipe), job.seed).learn
    workers = default_workers(job.device) if job.workers is None else job.workers
    loader, _ = loader_of(module, recipe, images, rows, seed=job.seed, workers=workers)

    def step() -> None:
        if job.device == "cuda":
            torch.cuda.synchronize()
        ends.append(time.perf_counter())

    fit_quietly(module, loader, _TIMED, job.device, step, recipe.precision)
    return statistics.median(end - start for start, end in itertools.pairwise(ends))


def _untrained(job: Job, recipe: Recipe) -> Model:
    """The same detector, fitted to the network as it is before the first step."""
    method = METHODS[recipe.method]
    images = job.source.train(recipe.loading_size, recipe.channels).images
    parts = parts_of(len(images), recipe, method.checked_share(recipe), job.seed)
    module = method.module(recipe, job.seed).to(job.device)
    detector = method.fit(module, images, parts.learn, parts.check, recipe)
    meta = Meta(job.source.name, (recipe.size, recipe.size), job.seed)
    return Model(detector, None, recipe.to_dict(), meta)


@torch.no_grad()
def _images_per_second(model: Model, test: Split, device: str) -> float:
    """Scores and maps of `BATCH` images at a time that are on the device already."""
    rows = torch.arange(BATCH) % len(test)
    batch = test.images[rows].to(device)
    look: Any = model.detector.score_and_heat
    return BATCH * calls_per_second(partial(look, batch), device, _SECONDS)


def _read(path: Path) -> dict[str, Any] | None:
    """A file of ours; None if it is not there."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        msg = f"{path}: must be a file of a comparison, got a damaged one; delete it"
        raise ValueError(msg) from None
    return found


def _write(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as file:
        file.write(json.dumps(content).encode())
