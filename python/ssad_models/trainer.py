# SPDX-License-Identifier: Apache-2.0
"""Short runs of a Lightning module without logger, checkpoints or printed chatter."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities.warnings import PossibleUserWarning
from torch.utils.data import DataLoader


class _Advance(Callback):
    def __init__(self, advance: Callable[[], None]) -> None:
        self.advance = advance

    def on_train_batch_end(self, *args: Any) -> None:
        self.advance()


def fit_quietly(
    module: LightningModule,
    loader: DataLoader[Any],
    steps: int,
    device: str,
    advance: Callable[[], None],
) -> None:
    """Train for a number of steps.

    Args:
        module: What to train, in place.
        loader: Repeated until the steps are done.
        steps: Number of updates.
        device: "cpu" or "cuda".
        advance: Called after every step, for a progress bar.
    """
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Lightning asks for loader workers, which only cost where data are tensors in memory,
            # doubts that a frozen backbone is meant, and calls what newer torch deprecates.
            warnings.simplefilter("ignore", PossibleUserWarning)
            warnings.filterwarnings("ignore", r".*LeafSpec", FutureWarning)
            trainer = Trainer(
                accelerator="gpu" if device == "cuda" else "cpu",
                devices=1,
                max_steps=steps,
                callbacks=[_Advance(advance)],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(module, loader)
    finally:
        log.setLevel(level)
