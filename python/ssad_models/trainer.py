# SPDX-License-Identifier: Apache-2.0
"""What `train` and the demonstration add to Lightning's trainer."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch.utils.data import DataLoader

from ssad_models.atomic import save_tensors
from ssad_models.data.loader import Synthesize, TrainingLoader, training_loader
from ssad_models.settings import Recipe


class TrainingModule(LightningModule):
    """What `ssad_models.training.train` trains.

    Attributes:
        synthesize: (N, C, S, S) uint8 images and (N, 3) int64 keys -> the tensors of a training
            batch. The workers of the loader call it.
        steps_per_epoch: Of the recipe's plan; `train` sets it before it trains.
        first_step: Steps that earlier runs have done; 0 unless a checkpoint was loaded.
    """

    synthesize: Synthesize
    steps_per_epoch = 1
    first_step = 0

    @property
    def step(self) -> int:
        """Number of this step, over all runs. All that varies in training is a function of it."""
        return self.first_step + self.global_step

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the number of steps done."""
        checkpoint["step"] = self.step

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting."""
        self.first_step = checkpoint["step"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints whole or not at all, and executes nothing when it reads them.

    Lightning's own goes through a temporary folder, from where a file cannot be moved atomically to
    another file system. And the state of Lightning's loops is left out, so that a resumed run
    begins with an epoch of its own: what they make of their state depends on the hook in which it
    was saved, on how often a run was resumed, and on the version. `TrainingModule.step` is enough.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """See Lightning."""
        lasting = {key: value for key, value in checkpoint.items() if key != "loops"}
        save_tensors(Path(path), lasting)

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """See Lightning.

        Raises:
            ValueError: If the file is damaged; the message names it.
        """
        try:
            loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception as error:  # whatever the unpickler stumbles over
            msg = (
                f"{path}: the checkpoint must be whole, got a damaged file; delete it to start anew"
            )
            raise ValueError(msg) from error
        return loaded


class SaveEachEpoch(Checkpoint):
    """Saves a checkpoint at the end of an epoch, unless the last one is quite new.

    Args:
        path: The file, replaced each time.
        seconds: Least time between two checkpoints; the end of the training is always saved.
        more: Gives what the checkpoint is to hold besides, in plain types.
    """

    def __init__(self, path: Path, seconds: float, more: Callable[[], dict[str, Any]]) -> None:
        self.path, self.seconds, self.more = path, seconds, more
        self._saved = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if it is time."""
        last = trainer.global_step >= trainer.max_steps
        if trainer.strategy.broadcast(last or time.monotonic() - self._saved >= self.seconds):
            trainer.save_checkpoint(self.path)
            self._saved = time.monotonic()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what is to be there besides."""
        checkpoint.update(self.more())


class Reseed(Callback):
    """Makes what a network draws, such as dropout, a function of seed and step.

    So a resumed run draws what an uninterrupted one would have drawn.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed torch's generators."""
        place = (self.seed, cast(TrainingModule, pl_module).step, trainer.global_rank)
        # Tuples of integers have the same hash in every process.
        torch.manual_seed(hash(place))


class Advance(Callback):
    """Calls a function after every step, for a progress bar."""

    def __init__(self, advance: Callable[[], None]) -> None:
        self.advance = advance

    def on_train_batch_end(self, *args: Any) -> None:
        """Call it."""
        self.advance()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's chatter off the screen."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Lightning asks for loader workers, which only cost where data are tensors in memory,
            # doubts that a frozen backbone is meant, and calls what newer torch deprecates.
            warnings.simplefilter("ignore", PossibleUserWarning)
            warnings.filterwarnings("ignore", r".*LeafSpec", FutureWarning)
            yield
    finally:
        log.setLevel(level)


def default_workers(device: str, devices: int = 1) -> int:
    """Loader threads for one device: none for a CPU, which the training fills by itself."""
    if device == "cpu":
        return 0
    return max(1, min(8, (os.cpu_count() or 1) // devices))


def loader_of(
    module: TrainingModule,
    recipe: Recipe,
    images: torch.Tensor,
    rows: torch.Tensor,
    *,
    seed: int,
    workers: int,
    done: int = 0,
) -> tuple[TrainingLoader, int]:
    """The batches that a recipe wants for its module, which is told how long an epoch is.

    Args:
        module: What is to be trained.
        recipe: By what.
        images: (N, C, S, S) uint8.
        rows: (K,) int64, which of them to train on.
        seed: Of order and augmentation.
        workers: See `training_loader`.
        done: Steps that earlier runs have done.

    Returns:
        The loader, and the number of steps of the whole training.
    """
    plan = recipe.plan(len(rows))
    module.steps_per_epoch = plan.steps_per_epoch
    loader = training_loader(
        images,
        module.synthesize,
        batch_size=recipe.batch,
        steps_per_epoch=None if plan.whole_passes else plan.steps_per_epoch,
        seed=seed,
        workers=workers,
        rows=rows,
        first_epoch=done // plan.steps_per_epoch,
    )
    return loader, plan.steps


def fit_quietly(
    module: LightningModule,
    loader: DataLoader[Any] | TrainingLoader,
    steps: int,
    device: str,
    advance: Callable[[], None],
    precision: str = "32-true",
) -> None:
    """Train for a number of steps, without logger or checkpoints.

    Args:
        module: What to train, in place.
        loader: Repeated until the steps are done.
        steps: Number of updates.
        device: "cpu" or "cuda".
        advance: Called after every step, for a progress bar.
        precision: Lightning's flag.
    """
    with quiet():
        trainer = Trainer(
            accelerator=accelerator(device),
            devices=1,
            precision=precision,  # type: ignore[arg-type]  # checked by the recipe
            max_steps=steps,
            callbacks=[Advance(advance)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, loader)


def accelerator(device: str) -> str:
    """Lightning's name of "cpu" or "cuda"."""
    return "gpu" if device == "cuda" else "cpu"
