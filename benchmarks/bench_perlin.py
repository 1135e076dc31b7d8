# SPDX-License-Identifier: Apache-2.0
"""``pytest benchmarks/bench_perlin.py``: gradient noise, one thread each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from harness import Case, Error, Row, Target, run, timer
from perlin_peers import LATTICES, Lattice, Separable, corner_dot, our_vectors
from ssad_kernels import make_keys, perlin_noise

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

STREAM = 0
TARGETS = {"anomalib's algorithm, per image": 30.0, "torch, dense products, per image": 1.0}


def _peer(name: str, size: int) -> Callable[..., Tensor]:
    if "anomalib" in name:
        return partial(corner_dot, size, size)
    return Separable(size, size)


def _case(peer: str, size: int, lattices: list[Lattice]) -> Case:
    """One image a call, or one of each pair of powers of two."""
    n = len(lattices)
    keys, cells = make_keys(0, 0, torch.arange(n)), torch.tensor(lattices)
    theirs = _peer(peer, size)

    def ours() -> Tensor:
        noise: Tensor = perlin_noise(keys, size, cells, stream=STREAM)
        return noise

    def difference() -> Error:
        vectors = [our_vectors(k, STREAM, r) for k, r in zip(keys.split(1), lattices, strict=True)]
        planes = torch.stack([theirs(r, v) for r, v in zip(lattices, vectors, strict=True)])
        return Error(float((ours()[:, 0] - planes).abs().max()), "of 1", 2e-5)

    name = f"{lattices[0][0]} x {lattices[0][1]} cells" if n == 1 else "1 to 32 cells a side"
    return Case(
        f"perlin_noise, {name}",
        f"{n}x1x{size}x{size}",
        "float32",
        n,
        ours,
        peer,
        lambda: [theirs(r) for r in lattices],
        difference,
        Target(TARGETS[peer], f"{TARGETS[peer]:g} times as fast as {peer}"),
    )


ROWS = [
    Row(f"{peer.split(',')[0]}-{size}-{len(lattices)}", partial(_case, peer, size, lattices))
    for peer in TARGETS
    for size, lattices in ((256, LATTICES), (256, [(8, 8)]), (256, [(32, 32)]), (512, [(8, 8)]))
]


@pytest.mark.benchmark(timer=timer)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_perlin(benchmark: BenchmarkFixture, row: Row) -> None:
    """Measure one row."""
    run(benchmark, row, rounds=15)
