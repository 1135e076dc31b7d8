# SPDX-License-Identifier: Apache-2.0
"""``pytest benchmarks/bench_similarity.py``: similarity maps and losses, one thread each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import similarity_peers
import ssad_kernels
from harness import Case, Error, Row, Target, run, timer

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

SIZE = 256
# Largest differences: of what is near 1, and of SSIM's variances in float32 on both sides.
TOLERANCES = {"gms_map": 1e-5, "gms_loss": 1e-6, "ssim_map": 1e-3}
TARGETS = {
    ("gms_map", "as released"): Target(20, "20 times as fast as the papers' code"),
    ("gms_map", "at best"): Target(5, "5 times as fast as the best of plain torch"),
    ("ssim_map", "as released"): Target(10, "10 times as fast as the papers' code"),
    ("ssim_map", "at best"): Target(3, "3 times as fast as the best of plain torch"),
}


def make_pair(n: int) -> tuple[Tensor, Tensor]:
    """Smooth colour images and noisy reconstructions."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, 3, 12, 12, generator=generator)
    images = functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic").clamp(0, 1)
    return images, images + 0.03 * torch.randn(images.shape, generator=generator)


def _case(op: str, form: str, n: int) -> Case:
    images, references = make_pair(n)
    call, peer = getattr(ssad_kernels, op), getattr(similarity_peers, op)

    def error() -> Error:
        difference = call(images, references) - peer(images, references, form)
        return Error(float(difference.abs().max()), "", TOLERANCES[op])

    return Case(
        op,
        f"{n}x3x{SIZE}x{SIZE}",
        "float32",
        n,
        lambda: call(images, references),
        f"torch, {form}",
        lambda: peer(images, references, form),
        error,
        TARGETS.get((op, form)),
    )


def _training(op: str, form: str, n: int) -> Case:
    """The loss and its gradient with respect to the reconstructions."""
    images, references = make_pair(n)
    images.requires_grad_()
    call, peer = getattr(ssad_kernels, op), getattr(similarity_peers, op)

    def step(forward: Callable[..., Tensor], *options: Any) -> Tensor:
        (found,) = torch.autograd.grad(forward(images, references, *options).mean(), images)
        return found

    return Case(
        f"{op}, with its gradient",
        f"{n}x3x{SIZE}x{SIZE}",
        "float32",
        n,
        lambda: step(call),
        f"torch, {form}",
        lambda: step(peer, form),
        # Compared in float64: a rounding decides which of two nearly equal pixels is a median.
        lambda: _gradient_error(call, peer, form),
        Target(1, "training is not slower"),
    )


def _gradient_error(call: Callable[..., Tensor], peer: Callable[..., Tensor], form: str) -> Error:
    pair = [one[:1, :, :64, :64].double() for one in make_pair(1)]
    pair[0].requires_grad_()
    losses = call(*pair).mean(), peer(*pair, form).mean()
    ours, theirs = (torch.autograd.grad(loss, pair[0])[0] for loss in losses)
    return Error(float((ours - theirs).abs().max() / theirs.abs().max()), "relative", 1e-6)


ROWS = [
    *(
        Row(f"{op}-{form}-{n}".replace(" ", "-"), partial(_case, op, form, n))
        for op in ("gms_map", "gms_loss", "ssim_map")
        for form in similarity_peers.FORMS
        for n in (1, 16)
    ),
    *(
        Row(f"{op}-gradient-{form}".replace(" ", "-"), partial(_training, op, form, 8))
        for op in ("gms_loss", "ssim_map")
        for form in similarity_peers.FORMS
    ),
]


@pytest.mark.benchmark(timer=timer)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_similarity(benchmark: BenchmarkFixture, row: Row) -> None:
    """Measure one row."""
    run(benchmark, row, rounds=10)
