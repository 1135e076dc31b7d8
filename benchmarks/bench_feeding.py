# SPDX-License-Identifier: Apache-2.0
"""``pytest benchmarks/bench_feeding.py``: training batches to a model that does nothing.

Two workers should deliver at least 0.8 x 2 x the rate at which one thread synthesises. That is two
claims, which a shared machine can check as well: a delivered batch costs little more CPU time than
its synthesis; and the workers do not wait for each other, that is, in wall time they keep up with
two processes that synthesise and deliver nothing.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from cases import SIZE, make_work
from harness import Case, Row, Target, run, timer
from ssad_kernels import EpochIndex
from ssad_kernels.transforms import CutPaste, CutPaste3Way
from ssad_models.data.loader import Batches, TrainingLoader, training_loader

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

WORKERS = 2
BATCH = 32  # the paper's
STEPS = 8  # per epoch, which is one call

Make = Callable[[list[EpochIndex]], tuple[torch.Tensor, ...]]


class Processes(Dataset[Any]):
    """Whole batches as items, for worker processes."""

    def __init__(self, make: Make) -> None:
        self.make = make

    def __getitem__(self, batch: list[EpochIndex]) -> tuple[torch.Tensor, ...]:
        return self.make(batch)


class Control:
    """Processes that each make a share of the batches and keep them."""

    def __init__(self, make: Make) -> None:
        self._pipes = []
        for worker in range(WORKERS):
            ours, theirs = multiprocessing.Pipe()
            batches = list(Batches(BATCH, BATCH, STEPS, seed=0))[worker::WORKERS]
            arguments = (theirs, make, batches)
            multiprocessing.get_context("fork").Process(
                target=self._work, args=arguments, daemon=True
            ).start()
            self._pipes.append(ours)

    @staticmethod
    def _work(pipe: Any, make: Make, batches: list[list[EpochIndex]]) -> None:
        while pipe.recv():
            for batch in batches:
                make(batch)
            pipe.send(True)

    def __call__(self) -> None:
        """Let every process do its share, and wait for them."""
        for pipe in self._pipes:
            pipe.send(True)
        for pipe in self._pipes:
            pipe.recv()


def drain(batches: Any) -> None:
    """Train a model that does nothing."""
    for _ in batches:
        pass


@cache
def feed(transform: str) -> TrainingLoader:
    """The loader of one epoch's batches."""
    return training_loader(
        make_work(BATCH).images.share_memory_(),
        {"CutPaste": CutPaste, "CutPaste3Way": CutPaste3Way}[transform](),
        batch_size=BATCH,
        steps_per_epoch=STEPS,
        seed=0,
        workers=WORKERS,
    )


def case(transform: str, peer: str) -> Case:
    """Our loader against a peer."""
    ours = feed(transform)
    batches = list(Batches(BATCH, BATCH, STEPS, seed=0))
    name = f"training_loader, {transform}, {WORKERS} workers"
    shape = f"{BATCH}x3x{SIZE}x{SIZE}"
    measured = partial(Case, shape=shape, dtype="uint8", items=BATCH * STEPS)
    if peer == "synthesis":
        return measured(
            op=name,
            ours=lambda: drain(ours),
            peer="synthesis alone, one thread",
            theirs=lambda: drain(map(ours.make, batches)),
            target=Target(0.8, "at most 1/0.8 of the cost of synthesis"),
        )
    wall = partial(measured, op=f"{name}, wall time", timer=time.perf_counter)
    if peer == "control":
        return wall(
            ours=lambda: drain(ours),
            peer=f"synthesis alone, {WORKERS} processes",
            theirs=Control(ours.make),
            target=Target(0.8, "at least 0.8 x the rate of synthesis"),
        )
    loader: DataLoader[Any] = DataLoader(
        Processes(ours.make),
        batch_size=None,
        sampler=Batches(BATCH, BATCH, STEPS, seed=0),
        num_workers=WORKERS,
        persistent_workers=True,
    )
    return wall(
        ours=lambda: drain(ours),
        peer=f"torch DataLoader, {WORKERS} processes",
        theirs=lambda: drain(loader),
    )


def rows(*peers: str) -> list[Row]:
    """A row for each transform and peer."""
    return [
        Row(f"feeding-{transform}-{peer}", partial(case, transform, peer))
        for transform in ("CutPaste", "CutPaste3Way")
        for peer in peers
    ]


@pytest.mark.benchmark(timer=timer)
@pytest.mark.parametrize("row", rows("synthesis"), ids=lambda row: row.name)
def test_cost(benchmark: BenchmarkFixture, row: Row) -> None:
    """Measure the CPU time of one row."""
    run(benchmark, row, rounds=12)


@pytest.mark.benchmark(timer=time.perf_counter)
@pytest.mark.parametrize("row", rows("control", "processes"), ids=lambda row: row.name)
def test_rate(benchmark: BenchmarkFixture, row: Row) -> None:
    """Measure the wall time of one row."""
    run(benchmark, row, rounds=12)
