# SPDX-License-Identifier: Apache-2.0
"""A few rates on this machine, in seconds rather than with the care of `make bench`."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from ssad_kernels import gaussian_fit, gaussian_score, make_keys, use_backend
from ssad_kernels.transforms import CutPaste, CutPaste3Way, CutPasteScar
from ssad_models.data.loader import training_loader

SIZE, BATCH, FEATURES = 256, 16, 512
CUTPASTE, THREE_WAY = CutPaste(), CutPaste3Way()
_TRIALS = 5


@dataclass(frozen=True)
class Rate:
    """How fast something runs.

    Attributes:
        what: What runs.
        where: Backend, or number of loader workers.
        per_second: Images per second, median of a few trials.
    """

    what: str
    where: str
    per_second: float


def rates(device: str, workers: Sequence[int] = (0, 1, 2), seconds: float = 0.3) -> Iterator[Rate]:
    """Measure, one rate after another.

    Args:
        device: "cpu" or "cuda".
        workers: Numbers of loader workers to try.
        seconds: Time per trial; there are 5 trials of each case, fewer where one takes longer.
    """
    images = torch.randint(0, 256, (BATCH, 3, SIZE, SIZE), dtype=torch.uint8).to(device)
    keys = make_keys(0, 0, torch.arange(BATCH), device=device)
    features = torch.randn(BATCH, FEATURES, device=device)
    fit = gaussian_fit(torch.randn(200, FEATURES, device=device))
    for what, task in (
        ("CutPaste", CUTPASTE),
        ("CutPaste-Scar", CutPasteScar()),
        ("three-way task", THREE_WAY),
    ):
        for count in (1, BATCH):
            run = functools.partial(task, images[:count], keys[:count])
            for backend in _backends(device):
                with use_backend(backend):
                    rate = count * calls_per_second(run, device, seconds)
                yield Rate(f"{what}, {count} at a time", backend, rate)
    density = functools.partial(gaussian_score, features, fit)
    rate = BATCH * calls_per_second(density, device, seconds)
    yield Rate(f"density of {FEATURES} features, {BATCH} at a time", "torch", rate)
    if device == "cpu":
        for number in workers:
            yield Rate("loader, three-way task", f"{number} workers", _loader_rate(number, seconds))


def _backends(device: str) -> Iterator[str]:
    """Those that can run everything here, best first."""
    for backend in ("cpu", "cuda", "triton", "reference"):
        try:
            with use_backend(backend):
                CUTPASTE(torch.zeros(1, 3, 64, 64, dtype=torch.uint8, device=device))
        except RuntimeError:
            continue
        yield backend


def calls_per_second(run: Callable[[], object], device: str, seconds: float) -> float:
    """How often something can be run: median of a few trials, after two runs to warm up.

    Args:
        run: What is timed.
        device: "cuda" waits for the GPU at the end of a trial.
        seconds: Time per trial, of which there are 5, fewer where one takes longer.
    """

    def trial(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            run()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    once = min(trial(1), trial(1))  # the first may compile or load something
    calls = max(1, int(seconds / once))
    trials = max(1, min(_TRIALS, int(_TRIALS * seconds / once)))
    return calls / statistics.median(trial(calls) for _ in range(trials))


def _loader_rate(workers: int, seconds: float) -> float:
    """Images per second that workers deliver to a consumer who only takes them."""
    images = torch.randint(0, 256, (64, 3, SIZE, SIZE), dtype=torch.uint8).share_memory_()
    loader = training_loader(
        images, THREE_WAY, batch_size=BATCH, steps_per_epoch=100_000, seed=0, workers=workers
    )
    batches = iter(loader)
    for _ in range(2 * workers + 1):  # starting workers takes a while
        next(batches)
    taken, start = 0, time.perf_counter()
    while time.perf_counter() - start < _TRIALS * seconds:
        next(batches)
        taken += 1
    return BATCH * taken / (time.perf_counter() - start)
