# SPDX-License-Identifier: Apache-2.0
"""What a training writes down as it goes: curves, and the time spent waiting for data."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.utilities import rank_zero_only

from ssad_models.atomic import replacing

COLUMNS = ("step", "train/loss", "train/accuracy", "train/lr")


def peak_memory(device: str) -> dict[str, int]:
    """What this process has held at most so far, in MiB, by where.

    Args:
        device: "cpu" or "cuda".
    """
    # Not `getrusage`: what it gives begins with what the parent held when it started the process.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (held,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    found = {"cpu": int(held.split()[1]) >> 10}
    if device == "cuda":
        found["cuda"] = torch.cuda.max_memory_allocated() >> 20
    return found


class MetricsFile(Logger):
    """Training curves as CSV, one row per logged step, columns `COLUMNS`.

    Lightning's own CSV logger starts the file anew when a run is resumed; this one goes on.

    Args:
        path: The file.
        start: The step that training goes on with. Rows from there on, which a killed run has left,
            are dropped.
    """

    name = "csv"
    version = 0

    def __init__(self, path: Path, start: int) -> None:
        super().__init__()
        self.path = path
        self._rewind(start)

    @rank_zero_only
    def _rewind(self, start: int) -> None:
        lines = [",".join(COLUMNS)]
        if self.path.exists():
            rows = self.path.read_text(encoding="utf-8").splitlines()[1:]
            lines += [row for row in rows if int(row.partition(",")[0]) < start]
        with replacing(self.path) as file:
            file.write(("\n".join(lines) + "\n").encode())

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a row."""
        row = {**metrics, "step": step}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(",".join(str(row.get(name, "")) for name in COLUMNS) + "\n")

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: settings are in run.json."""


class WaitingTime(Profiler):
    """How much of the training is spent waiting for the next batch.

    This is the time of the process that trains. On a CPU nothing else happens meanwhile. A GPU may
    still be busy with earlier steps, which are queued, so there it is the most that a faster loader
    could save.

    Attributes:
        seconds: Spent in epochs so far.
        waiting: Of these, in the loader's `next`.
    """

    def __init__(self, seconds: float = 0.0, waiting: float = 0.0) -> None:
        super().__init__()
        self.seconds, self.waiting = seconds, waiting
        self._started: dict[str, float] = {}

    @property
    def share(self) -> float:
        """Waiting over training time, 0..1."""
        return self.waiting / self.seconds if self.seconds else 0.0

    def start(self, action_name: str) -> None:
        """Lightning calls this before an action."""
        self._started[action_name] = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """Lightning calls this after an action."""
        taken = time.perf_counter() - self._started.pop(action_name, time.perf_counter())
        if action_name == "run_training_epoch":
            self.seconds += taken
        elif action_name.endswith("train_dataloader_next"):
            self.waiting += taken
