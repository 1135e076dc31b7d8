# SPDX-License-Identifier: Apache-2.0
"""``pytest benchmarks/bench_upsample.py``: receptive-field upsampling, one thread each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from harness import Case, Error, Row, Target, run, timer
from upsample_peers import GEOMETRIES, convolution, products, upsample

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

BATCH = 32


def _relative(ours: Tensor, theirs: Tensor) -> Error:
    return Error(float((ours / theirs - 1).abs().max()), "relative", 1e-5)


def _forward(name: str, peer: str) -> Case:
    geometry = GEOMETRIES[name]
    scores = torch.rand(BATCH, 1, geometry.features, geometry.features)
    if peer == "torch conv_transpose2d":
        theirs = convolution(geometry, scores)
        target = Target(60, "upsampling is 60 times as fast as a transposed convolution")
    else:
        theirs = products(geometry, scores)
        minimum = 1.5 if name == "CutPaste" else 1.0
        target = Target(minimum, f"{minimum} times as fast as dense products, {name}'s geometry")
    return Case(
        f"upsample, {name}",
        f"{BATCH}x1x{geometry.features}x{geometry.features} to {geometry.size}x{geometry.size}",
        "float32",
        BATCH,
        lambda: upsample(geometry, scores),
        peer,
        theirs,
        lambda: _relative(upsample(geometry, scores), theirs()),
        target,
    )


def _gradient(name: str, peer: str) -> Case:
    geometry = GEOMETRIES[name]
    scores = torch.rand(BATCH, 1, geometry.features, geometry.features, requires_grad=True)
    gradient = torch.rand(BATCH, 1, geometry.size, geometry.size)
    build = convolution if peer == "torch conv_transpose2d" else products
    theirs = build(geometry, scores)

    def back(forward: Callable[[], Tensor]) -> Tensor:
        (found,) = torch.autograd.grad(forward(), scores, gradient)
        return found

    def ours() -> Tensor:
        return back(lambda: upsample(geometry, scores))

    return Case(
        f"upsample, {name}, with its gradient",
        f"{BATCH}x1x{geometry.features}x{geometry.features} to {geometry.size}x{geometry.size}",
        "float32",
        BATCH,
        ours,
        peer,
        lambda: back(theirs),
        lambda: _relative(ours(), back(theirs)),
    )


ROWS = [
    Row(f"{build.__name__[1:]}-{name}-{peer.split()[-1]}", partial(build, name, peer))
    for build in (_forward, _gradient)
    for name in GEOMETRIES
    for peer in ("torch conv_transpose2d", "torch, dense products")
]


@pytest.mark.benchmark(timer=timer)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_upsample(benchmark: BenchmarkFixture, row: Row) -> None:
    """Measure one row."""
    run(benchmark, row, rounds=15)
