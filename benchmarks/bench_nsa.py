# SPDX-License-Identifier: Apache-2.0
"""``pytest benchmarks/bench_nsa.py``: natural synthetic anomalies against the released pipeline.

Both sides draw their own patches, so that images cannot be compared one by one; where both follow
the same distribution, the share of labelled pixels is. Parts of the pipeline are compared with the
whole of it: a speed-up of 3 means a third of the time.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

import nsa_peers as peers
from harness import Case, Error, Row, Target, run, timer
from ssad_kernels import difference_label, make_keys
from ssad_kernels.transforms import NSA

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

BATCH = 64
FEW = 16  # images, where the size of a batch matters less than that the peer is slow
_TEXTURE = {
    "height": (0.03, 0.40),
    "width": (0.03, 0.40),
    "patches": 4,
    "resize": (0.5, 2.0),
    "gradient": "mixed",
    "steepness": 1 / 6,
    "midpoint": 15,
}
_OBJECT = {
    "height": (0.03, 0.35),
    "width": (0.03, 0.35),
    "patches": 3,
    "resize": (0.7, 1.3),
    "gradient": "source",
    "background": (20, 20),
    "object_share": 0.7,
    "overlap": 0.25,
    "steepness": 1 / 12,
    "midpoint": 24,
}
_INTERPOLATED = {**_TEXTURE, "resize": None, "shift": False, "label": "factor"}
_FPI = {**_INTERPOLATED, "gradient": "uniform"}


class Work(NamedTuple):
    """A batch, and the same for the peer, whose source is the image before."""

    images: Tensor  # (N, 3, side, side) uint8
    keys: Tensor
    arrays: list[Any]  # (side, side, 3)


@cache
def make_work(kind: str, side: int, n: int = BATCH) -> Work:
    """Smooth colours with some noise; of kind "object" on a disc, dark around it."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, 3, 12, 12, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    images += 0.02 * torch.randn(images.shape, generator=generator)
    images = (255 * images).clamp_(0, 255)
    if kind == "object":
        line = torch.linspace(-1, 1, side)
        is_disc = line[:, None] ** 2 + line**2 < 0.76**2
        images = torch.where(is_disc, images.clamp(min=70), 20.0)
    images = images.to(torch.uint8)
    arrays = list(images.permute(0, 2, 3, 1).contiguous().numpy())
    return Work(images, make_keys(0, 0, torch.arange(n)), arrays)


def _reference(work: Work, settings: peers.Settings) -> list[tuple[Any, Any]]:
    """Every call draws the same."""
    rng = np.random.default_rng(0)
    return [
        peers.reference_nsa(image, work.arrays[i - 1], rng, settings)
        for i, image in enumerate(work.arrays)
    ]


def _label_share(ours: Callable[[], Any], theirs: Callable[[], Any]) -> Error:
    shares = [
        100 * float(np.mean([(np.asarray(label) > 0).mean() for label in labels]))
        for labels in (ours()[1], [label for _, label in theirs()])
    ]
    note = f"of the pixels are labelled more or less, theirs {shares[1]:.1f} %"
    return Error(abs(shares[0] - shares[1]), "%", 2.5, note)


def _whole(
    kind: str,
    side: int,
    options: dict[str, Any],
    settings: peers.Settings,
    compat: str | None,
    minimum: float | None = None,
    n: int = BATCH,
) -> Case:
    peers.prepare()
    work = make_work(kind, side, n)
    ours = partial(NSA(**options, compat=compat), work.images, work.keys)
    theirs = partial(_reference, work, settings)
    name = "NSA" if compat is None else f"NSA, compat={compat}"
    return Case(
        f"{name}, {options['gradient']}, {kind}s",
        f"{n} x {side}²",
        "uint8",
        n,
        ours,
        "OpenCV + scikit-image, per image",
        theirs,
        partial(_label_share, ours, theirs) if compat else None,
        Target(minimum, f"{minimum:g} x the released pipeline") if minimum else None,
    )


def _singly(kind: str, side: int, options: dict[str, Any], settings: peers.Settings) -> Case:
    """As a data loader calls it: an image, its key, and a bank to take patches from."""
    peers.prepare()
    work = make_work(kind, side, FEW)
    transform = NSA(**options, bank=work.images)
    items = list(zip(work.images.split(1), work.keys.split(1), strict=True))

    def ours() -> None:
        for image, key in items:
            transform(image, key)

    return Case(
        "NSA, one image a call",
        f"{side}²",
        "uint8",
        FEW,
        ours,
        "OpenCV + scikit-image, per image",
        partial(_reference, work, settings),
        target=Target(25, "25 x the released pipeline"),
    )


def _label_in_the_sample(kind: str, side: int, options: dict[str, Any]) -> Case:
    work = make_work(kind, side)
    transform = NSA(**options)
    out, _ = transform(work.images, work.keys)
    region = (out != work.images).any(1, keepdim=True)
    curve = {name: options[name] for name in ("steepness", "midpoint")}
    return Case(
        "difference_label",
        f"{BATCH} x {side}²",
        "uint8",
        BATCH,
        partial(difference_label, work.images, out, region, kind="logistic", **curve),
        "all of NSA",
        partial(transform, work.images, work.keys),
    )


_WOOD, _HAZELNUT = peers.CLASSES["wood"], peers.CLASSES["hazelnut"]
ROWS = [
    *(
        Row(f"{kind}-{compat or 'default'}", partial(_whole, kind, side, options, settings, compat))
        for kind, side, options, settings in (
            ("texture", 256, _TEXTURE, _WOOD),
            ("object", 224, _OBJECT, _HAZELNUT),
        )
        for compat in (None, "reference")
    ),
    Row("fpi", partial(_whole, "texture", 256, _FPI, peers.fpi(_WOOD), None, n=FEW)),
    Row("texture-one", partial(_singly, "texture", 256, _TEXTURE, _WOOD)),
    Row("object-one", partial(_singly, "object", 224, _OBJECT, _HAZELNUT)),
    Row("texture-label", partial(_label_in_the_sample, "texture", 256, _TEXTURE)),
    Row("object-label", partial(_label_in_the_sample, "object", 224, _OBJECT)),
]


@pytest.mark.benchmark(timer=timer)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_nsa(benchmark: BenchmarkFixture, row: Row) -> None:
    """Measure one row; the peer takes seconds a batch, so there are few rounds."""
    run(benchmark, row, rounds=3)
