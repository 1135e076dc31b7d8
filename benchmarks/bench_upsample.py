# SPDX-License-Identifier: Apache-2.0
"""``pytest benchmarks/bench_upsample.py``: receptive-field upsampling, one thread each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import pytest
import torch
from torch import Tensor

from harness import Case, Error, Row, Target, run, timer
from ssad_kernels import receptive_field_upsample

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

BATCH, SIGMA = 32, 10.0


class Geometry(NamedTuple):
    """What is upsampled; what a transposed convolution has to crop, and to pad its output by."""

    features: int
    size: int
    kernel: int
    stride: int
    offset: float
    crop: int
    padding: int


GEOMETRIES = {
    "CutPaste": Geometry(57, 256, 32, 4, 15.5, 0, 0),
    "FCDD": Geometry(28, 224, 62, 8, 3.5, 27, 6),
}


def _taps(geometry: Geometry) -> Tensor:
    middle = geometry.kernel // 2 - 1
    positions = torch.arange(geometry.kernel - 1, dtype=torch.float64) - middle
    taps = torch.exp(-(positions**2) / (2 * SIGMA**2))
    return torch.cat([taps[: middle + 1], taps[middle:]]) / 2


def _convolution(geometry: Geometry, scores: Tensor) -> Callable[[], Tensor]:
    """FCDD's formulation."""
    taps = _taps(geometry).float()
    kernel = (taps[:, None] * taps)[None, None]
    crop = slice(geometry.crop, geometry.crop + geometry.size)
    return lambda: torch.nn.functional.conv_transpose2d(
        scores, kernel, stride=geometry.stride, output_padding=geometry.padding
    )[:, :, crop, crop]


def _products(geometry: Geometry, scores: Tensor) -> Callable[[], Tensor]:
    """Two products with dense matrices that were made before."""
    taps = _taps(geometry)
    matrix = torch.zeros(geometry.size + 2 * geometry.kernel, geometry.features).double()
    for feature in range(geometry.features):
        start = geometry.kernel - geometry.crop + geometry.stride * feature
        matrix[start : start + geometry.kernel, feature] = taps
    rows = matrix[geometry.kernel : geometry.kernel + geometry.size].float().contiguous()
    columns = rows.mT.contiguous()
    return lambda: rows @ scores @ columns


def _ours(geometry: Geometry, scores: Tensor) -> Tensor:
    _, size, kernel, stride, offset, *_ = geometry
    options = {"kernel": kernel, "stride": stride}
    return receptive_field_upsample(scores, size, **options, offset=offset, sigma=SIGMA)


def _relative(ours: Tensor, theirs: Tensor) -> Error:
    return Error(float((ours / theirs - 1).abs().max()), "relative", 1e-5)


def _forward(name: str, peer: str) -> Case:
    geometry = GEOMETRIES[name]
    scores = torch.rand(BATCH, 1, geometry.features, geometry.features)
    if peer == "torch conv_transpose2d":
        theirs = _convolution(geometry, scores)
        target = Target(60, "upsampling is 60 times as fast as a transposed convolution")
    else:
        theirs = _products(geometry, scores)
        minimum = 1.5 if name == "CutPaste" else 1.0
        target = Target(minimum, f"{minimum} times as fast as dense products, {name}'s geometry")
    return Case(
        f"upsample, {name}",
        f"{BATCH}x1x{geometry.features}x{geometry.features} to {geometry.size}x{geometry.size}",
        "float32",
        BATCH,
        lambda: _ours(geometry, scores),
        peer,
        theirs,
        lambda: _relative(_ours(geometry, scores), theirs()),
        target,
    )


def _gradient(name: str, peer: str) -> Case:
    geometry = GEOMETRIES[name]
    scores = torch.rand(BATCH, 1, geometry.features, geometry.features, requires_grad=True)
    gradient = torch.rand(BATCH, 1, geometry.size, geometry.size)
    build = _convolution if peer == "torch conv_transpose2d" else _products
    theirs = build(geometry, scores)

    def back(forward: Callable[[], Tensor]) -> Tensor:
        (found,) = torch.autograd.grad(forward(), scores, gradient)
        return found

    def ours() -> Tensor:
        return back(lambda: _ours(geometry, scores))

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
