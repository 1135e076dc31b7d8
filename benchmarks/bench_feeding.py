# SPDX-License-Identifier: Apache-2.0
"""``pytest benchmarks/bench_feeding.py``: training batches to a model that does nothing.

Two workers should deliver at least 0.8 x 2 x the rate at which one thread synthesises: the rows of
wall time against one thread. Where the two cores are shared with others that fails for any loader,
so two further rows take the claim apart: a delivered batch costs little more CPU time than its
synthesis; and in wall time the workers keep up with two processes that deliver nothing.
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
BATCHES = (32, 64)  # the paper's; and one whose three-way form is above 32 MiB
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

    def __init__(self, make: Make, size: int) -> None:
        self._pipes = []
        for worker in range(WORKERS):
            ours, theirs = multiprocessing.Pipe()
            batches = list(Batches(size, size, STEPS, seed=0))[worker::WORKERS]
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
def feed(transform: str, size: int) -> TrainingLoader:
    """The loader of one epoch's batches."""
    return training_loader(
        make_work(size).images.share_memory_(),
        {"CutPaste": CutPaste, "CutPaste3Way": CutPaste3Way}[transform](),
        batch_size=size,
        steps_per_epoch=STEPS,
        seed=0,
        workers=WORKERS,
    )


def case(transform: str, size: int, peer: str) -> Case:
    """Our loader against a peer."""
    ours = feed(transform, size)
    sampler = Batches(size, size, STEPS, seed=0)
    batches = list(sampler)
    name = f"training_loader, {transform}, {WORKERS} workers"
    measured = partial(Case, shape=f"{size}x3x{SIZE}x{SIZE}", dtype="uint8", items=size * STEPS)
    measured = partial(measured, ours=lambda: drain(ours))
    wall = partial(measured, op=f"{name}, wall time", timer=time.perf_counter)

    def one_thread() -> None:
        drain(map(ours.make, batches))

    match peer:
        case "cost":
            return measured(
                op=name,
                peer="synthesis alone, one thread",
                theirs=one_thread,
                target=Target(0.8, "at most 1/0.8 of the cost of synthesis"),
            )
        case "thread":
            return wall(
                peer="synthesis alone, one thread",
                theirs=one_thread,
                target=Target(0.8 * WORKERS, "at least 0.8 x 2 x the rate of one thread"),
            )
        case "control":
            return wall(
                peer=f"synthesis alone, {WORKERS} processes",
                theirs=Control(ours.make, size),
                target=Target(0.8, "at least 0.8 x the rate of synthesis"),
            )
    loader: DataLoader[Any] = DataLoader(
        Processes(ours.make),
        batch_size=None,
        sampler=sampler,
        num_workers=WORKERS,
        persistent_workers=True,
    )
    return wall(peer=f"torch DataLoader, {WORKERS} processes", theirs=lambda: drain(loader))


def rows(*peers: str) -> list[Row]:
    """A row for each transform, size of batch, and peer."""
    return [
        Row(f"feeding-{transform}-{size}-{peer}", partial(case, transform, size, peer))
        for transform in ("CutPaste", "CutPaste3Way")
        for size in BATCHES
        for peer in peers
    ]


@pytest.mark.benchmark(timer=timer)
@pytest.mark.parametrize("row", rows("cost"), ids=lambda row: row.name)
def test_cost(benchmark: BenchmarkFixture, row: Row) -> None:
    """Measure the CPU time of one row."""
    run(benchmark, row, rounds=12)


@pytest.mark.benchmark(timer=time.perf_counter)
@pytest.mark.parametrize("row", rows("thread", "control", "processes"), ids=lambda row: row.name)
def test_rate(benchmark: BenchmarkFixture, row: Row) -> None:
    """Measure the wall time of one row."""
    run(benchmark, row, rounds=12)
