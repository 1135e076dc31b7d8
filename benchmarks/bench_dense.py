# SPDX-License-Identifier: Apache-2.0
"""``pytest benchmarks/bench_dense.py``: all windows of an image at once against one by one.

One by one would take minutes, so a strip of the image is evaluated that way, and its time is scaled
by the number of windows. What is claimed follows from the operations that both take.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

import pytest
import torch

from harness import Case, Error, Row, Target, require, run, timer
from ssad_kernels import flop_ratio, patch_features

try:
    from ssad_models.patch_networks import PatchResNet, StudentNet
except ImportError:
    PatchResNet = StudentNet = None  # type: ignore[assignment,misc]

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture
    from torch import Tensor, nn

SIZE = 256
_PART = 0.6  # of the ratio of operations is claimed as the ratio of times
_STRIP = (4, 32)  # windows that are evaluated one by one


@torch.no_grad()
def _features(
    network: nn.Module, images: Tensor, window: int, stride: int, mode: Literal["dense", "windowed"]
) -> Tensor:
    return patch_features(network, images, window=window, stride=stride, mode=mode, batch=64)


def _build(name: str, stride: int) -> Case:
    require(StudentNet, "ssad-kernels[models]")
    torch.manual_seed(0)
    network = (PatchResNet() if name == "PatchResNet" else StudentNet(33)).eval()
    window = 32 if name == "PatchResNet" else 33
    images = torch.rand(1, 3, SIZE, SIZE)
    count = (SIZE - window) // stride + 1
    height, width = (window + stride * (n - 1) for n in _STRIP)
    strip = images[:, :, :height, :width]
    ratio = flop_ratio(network, window, stride, SIZE)

    def error() -> Error:
        one_by_one = _features(network, strip, window, stride, "windowed")
        at_once = _features(network, images, window, stride, "dense")
        difference = (at_once[:, :, : _STRIP[0], : _STRIP[1]] - one_by_one).abs().max()
        return Error(float(difference / one_by_one.abs().max()), "of the largest", 1e-4)

    return Case(
        f"patch_features, {name}, stride {stride}",
        f"1x3x{SIZE}x{SIZE}, {count}x{count} windows",
        "float32",
        1,
        lambda: _features(network, images, window, stride, "dense"),
        f"window by window ({_STRIP[0] * _STRIP[1]} of {count**2}, scaled)",
        lambda: _features(network, strip, window, stride, "windowed"),
        error,
        Target(_PART * ratio, f"{_PART} of the ratio of operations, {ratio:.1f}"),
        peer_share=_STRIP[0] * _STRIP[1] / count**2,
    )


ROWS = [
    Row(f"{name}-stride{stride}", partial(_build, name, stride))
    for name in ("StudentNet33", "PatchResNet")
    for stride in (4, 1)
]


@pytest.mark.benchmark(timer=timer)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_dense(benchmark: BenchmarkFixture, row: Row) -> None:
    """Measure one row."""
    run(benchmark, row, rounds=3)
