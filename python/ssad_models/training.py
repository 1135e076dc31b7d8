# SPDX-License-Identifier: Apache-2.0
"""From normal images to a model file: training that can be interrupted, then the threshold."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning import Callback, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ssad_models import model_file
from ssad_models.atomic import replacing
from ssad_models.calibration import calibrate, images_needed
from ssad_models.data.cache import cache_bytes
from ssad_models.data.split import Source, Split
from ssad_models.logs import MetricsFile, WaitingTime, peak_memory
from ssad_models.methods import METHODS
from ssad_models.run_files import CHECKPOINT, CURVES, MODEL, RUN, TENSORBOARD
from ssad_models.settings import Recipe
from ssad_models.trainer import (
    Advance,
    AtomicCheckpointIO,
    Reseed,
    SaveEachEpoch,
    TrainingModule,
    accelerator,
    default_workers,
    loader_of,
    quiet,
)

LEAST_IMAGES = 8

log = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    source: Source,
    out: Path,
    *,
    seed: int = 0,
    workers: int | None = None,
    device: str = "auto",
    devices: int = 1,
    tensorboard: bool = True,
    resume: bool = True,
    save_seconds: float = 30.0,
    progress: Console | None = None,
) -> Path:
    """Train a detector on the normal images of one category.

    An interrupted run, whatever stopped it, goes on from its last checkpoint when called again, and
    ends with the same weights (on a CPU bit for bit). A finished run is not repeated.

    Args:
        recipe: Its settings for this category are used.
        source: The category.
        out: Folder for `model.pt`, `last.ckpt`, `metrics.csv`, `run.json` and TensorBoard's files.
        seed: Of weights, order and augmentation, at least 0.
        workers: Threads that make batches; by default none on a CPU, which the training fills, and
            up to 8 for a GPU.
        device: "cpu", "cuda" or "auto".
        devices: Number of GPUs, or of processes on a CPU; they share the recipe's batch.
        tensorboard: Write logs for TensorBoard, too.
        resume: Go on where an earlier run in `out` stopped; otherwise that run is deleted.
        save_seconds: Least time between two checkpoints.
        progress: Where a progress bar goes; None for no output.

    Returns:
        The path of the model file.

    Raises:
        RecipeError: If the recipe asks for what there is not.
        ValueError: If there are too few images, or `out` holds a run with other settings or of
            other training files, or what it holds is damaged.
        OSError: If the disk is full; the last checkpoint is then as it was.
        SystemExit: After Ctrl-C; Lightning ends the program, the last checkpoint stays.
    """
    recipe = recipe.for_category(source.name)
    identity = {
        "category": source.name,
        "seed": seed,
        "data": source.fingerprint(),
        "recipe": recipe.to_dict(),
    }
    if not resume:
        _delete_run(out)
    if _finished(out, identity):
        return out / MODEL
    done, clock = _resumed(out / CHECKPOINT, identity)
    where = _device(device)
    method = METHODS[recipe.method]
    with _bars(progress) as bars, _clear_errors(out):
        module = method.module(recipe, seed)
        split = _images(source, recipe, bars)
        parts = parts_of(len(split), recipe, method.checked_share(recipe), seed)
        if len(parts.hold) == 0 and recipe.held_out > 0:
            needed = held_out_count(len(split), recipe)
            few = (
                "%s: no threshold, since %d normal images are too few to hold some out: for "
                "false_alarm=%.3g and held_out=%.3g it takes %d of them, which is more than half"
            )
            log.warning(few, source.name, len(split), recipe.false_alarm, recipe.held_out, needed)
        facts = {
            **identity,
            "parts": {name: len(rows) for name, rows in parts._asdict().items()},
            "device": where,
            "devices": devices,
            "versions": model_file.versions(),
        }
        _write_json(out / RUN, {"status": "running", **facts})
        fit = _Fit(out, recipe, identity, where, devices, workers, tensorboard, save_seconds)
        if not fit(module, split.images, parts.learn, done, clock, bars):
            return out / MODEL
        waiting = round(clock.share, 3)  # once, so that screen and file agree
        if progress is not None:
            story = f"{source.name}: {waiting:.1%} of {clock.seconds:.0f} s waiting for data"
            progress.print(story, markup=False, highlight=False)
        bar = bars.add_task("Fitting the detector", total=1)
        detector = method.fit(module.to(where), split.images, parts.learn, parts.check, recipe)
        meta = model_file.Meta(source.name, _native_size(split), seed)
        model = model_file.Model(detector, None, recipe.to_dict(), meta)
        if recipe.loading_size != recipe.size and len(parts.hold):
            split = source.train(recipe.size, recipe.channels)
        model = _calibrated(model, split.images, parts.hold)
        model_file.save(out / MODEL, model)
        bars.advance(bar)
        results = {
            "seconds": round(clock.seconds, 1),
            "waiting_for_data": waiting,
            "peak_memory_mib": peak_memory(where),
            "calibration": None if model.calibration is None else model.calibration.to_dict(),
        }
        _write_json(out / RUN, {"status": "finished", **facts, **results})
    return out / MODEL


class Parts(NamedTuple):
    """Which normal images serve for what: (K,) int64 rows, disjoint.

    Attributes:
        learn: To train on.
        check: For `Method.fit`, which wants images that the network has not seen.
        hold: For the threshold alone; empty if there are too few images.
    """

    learn: torch.Tensor
    check: torch.Tensor
    hold: torch.Tensor


def held_out_count(count: int, recipe: Recipe) -> int:
    """How many of `count` normal images the threshold of a recipe needs."""
    return max(images_needed(recipe.false_alarm), int(recipe.held_out * count))


def parts_of(count: int, recipe: Recipe, checked_share: float, seed: int) -> Parts:
    """Deal out `count` normal images at random.

    None is held out if the threshold would need more than half of them.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    held = held_out_count(count, recipe)
    if recipe.held_out == 0 or held > count // 2:
        held = 0
    checked = int(checked_share * (count - held))
    hold, check, learn = order.split([held, checked, count - held - checked])
    return Parts(learn.sort().values, check.sort().values, hold.sort().values)


@dataclass(frozen=True)
class _Fit:
    """The part of `train` that takes long; its arguments are those of `train`."""

    out: Path
    recipe: Recipe
    identity: dict[str, Any]
    device: str
    devices: int
    workers: int | None
    tensorboard: bool
    save_seconds: float

    def __call__(
        self,
        module: TrainingModule,
        images: torch.Tensor,
        rows: torch.Tensor,
        done: int,
        clock: WaitingTime,
        bars: Progress,
    ) -> bool:
        """Train to the end, from the last checkpoint if any steps are done.

        Returns:
            Whether this is the process that has to do what comes next.
        """
        workers = self.workers
        if workers is None:
            workers = default_workers(self.device, self.devices)
        loader, steps = loader_of(
            module,
            self.recipe,
            images,
            rows,
            seed=self.identity["seed"],
            workers=workers,
            done=done,
        )
        bar = bars.add_task("Training", total=steps, completed=done)
        with quiet():
            trainer = self._trainer(steps, done, clock, Advance(lambda: bars.advance(bar)))
            trainer.fit(module, loader, ckpt_path=self.out / CHECKPOINT if done else None)
        return trainer.is_global_zero

    def _trainer(self, steps: int, done: int, clock: WaitingTime, advance: Callback) -> Trainer:
        loggers: list[Logger] = [MetricsFile(self.out / CURVES, done)]
        if self.tensorboard:
            loggers.append(
                TensorBoardLogger(self.out, name=TENSORBOARD, version="", purge_step=done)
            )

        def more() -> dict[str, Any]:
            return {"identity": self.identity, "clock": [clock.seconds, clock.waiting]}

        uneven = self.devices > 1 and self.recipe.idle_parameters
        return Trainer(
            accelerator=accelerator(self.device),
            devices=self.devices,
            strategy="ddp_find_unused_parameters_true" if uneven else "auto",
            precision=self.recipe.precision,  # type: ignore[arg-type]  # checked by the recipe
            max_steps=steps - done,
            logger=loggers,
            log_every_n_steps=max(1, min(50, steps // 200)),
            callbacks=[
                advance,
                Reseed(self.identity["seed"]),
                SaveEachEpoch(self.out / CHECKPOINT, self.save_seconds, more),
            ],
            plugins=[AtomicCheckpointIO()],
            profiler=clock,
            use_distributed_sampler=False,  # the loader deals out its batches itself
            enable_progress_bar=False,
            enable_model_summary=False,
        )


def _images(source: Source, recipe: Recipe, bars: Progress) -> Split:
    count = source.counts()[0]
    memory = cache_bytes(count, recipe.loading_size, recipe.channels) / 2**20
    bar = bars.add_task(f"{source.name}: reading images ({memory:.0f} MiB)", total=count)
    split = source.train(recipe.loading_size, recipe.channels, lambda n: bars.advance(bar, n))
    if len(split) < LEAST_IMAGES:
        msg = (
            f"train: category {source.name!r} must have at least {LEAST_IMAGES} normal training "
            f"images, got {len(split)}; add images"
        )
        raise ValueError(msg)
    return split


def _native_size(split: Split) -> tuple[int, int]:
    height, width = split.sizes.median(0).values.tolist()
    return height, width


def _calibrated(
    model: model_file.Model, images: torch.Tensor, rows: torch.Tensor
) -> model_file.Model:
    """The model with what the images at held-out rows say about its scores and maps."""
    if len(rows) == 0:
        return model
    seen = [model.predict(images[part]) for part in rows.split(64)]
    scores = torch.cat([part.score for part in seen])
    maps = torch.cat([part.map for part in seen if part.map is not None])
    calibration = calibrate(scores, model.recipe["false_alarm"], maps)
    return dataclasses.replace(model, calibration=calibration)


def _device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        msg = f"train: `device` must be cpu, cuda or auto, got {device!r}"
        raise ValueError(msg)
    return device


def _finished(out: Path, identity: dict[str, Any]) -> bool:
    """Whether `out` holds this run, done; an error if it holds another one."""
    path = out / RUN
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except ValueError:  # no JSON, or no text
        found = None
    if not isinstance(found, dict):
        msg = (
            f"{path}: must be the settings of a run, got a damaged file; delete it to go on from "
            "the checkpoint, or start anew with --no-resume"
        )
        raise ValueError(msg)
    _must_match(path, found, identity)
    return found.get("status") == "finished" and (out / MODEL).is_file()


def _resumed(path: Path, identity: dict[str, Any]) -> tuple[int, WaitingTime]:
    """Steps that are done, and the time they took; an error if they are another run's."""
    if not path.exists():
        return 0, WaitingTime()
    found = AtomicCheckpointIO().load_checkpoint(path)
    _must_match(path, found.get("identity", {}), identity)
    return found["step"], WaitingTime(*found["clock"])


def _must_match(path: Path, found: dict[str, Any], identity: dict[str, Any]) -> None:
    for key, wanted in identity.items():
        other = found.get(key)
        if other != wanted:
            which = f"`{key}`"
            if key == "data":
                which += " (training files were added, removed or changed)"
            if key == "recipe" and isinstance(other, dict):
                which += f" ({', '.join(k for k, v in wanted.items() if other.get(k) != v)})"
            msg = (
                f"{path}: must be of a run of the same settings, got one with another {which}; "
                "choose another folder, or start anew with --no-resume"
            )
            raise ValueError(msg)


@rank_zero_only
def _delete_run(out: Path) -> None:
    shutil.rmtree(out / TENSORBOARD, ignore_errors=True)
    # The settings last, so that whatever is left is known to be of this run.
    for name in (CHECKPOINT, MODEL, CURVES, RUN):
        (out / name).unlink(missing_ok=True)


@rank_zero_only
def _write_json(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as file:
        file.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


@contextmanager
def _bars(console: Console | None) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=console is None
    ) as bars:
        yield bars


@contextmanager
def _clear_errors(out: Path) -> Iterator[None]:
    """Say in one sentence that the disk is full or the run was interrupted, and what is left."""
    try:
        yield
    except SystemExit:  # Lightning's answer to Ctrl-C
        log.warning("%s: interrupted; run the same command again to go on (%s)", out, _left(out))
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        msg = (
            f"{out}: there must be room for the run's files, got: {os.strerror(error.errno)}; "
            f"make room and run the same command again ({_left(out)})"
        )
        raise OSError(msg) from error


def _left(out: Path) -> str:
    return "the last checkpoint is whole" if (out / CHECKPOINT).exists() else "nothing is saved yet"
