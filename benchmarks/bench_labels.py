# SPDX-License-Identifier: Apache-2.0
"""``pytest benchmarks/bench_labels.py``: medians, object masks and labels, one thread each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness import Case, Error, Row, Target, optional, require, run, timer
from ssad_kernels import difference_label, median_filter, object_mask

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

ndimage, filters, cv2 = optional("scipy.ndimage"), optional("skimage.filters"), optional("cv2")
SIZE = 256
_OFFSETS = np.arange(-5, 6)
_DISK = _OFFSETS[:, None] ** 2 + _OFFSETS**2 <= 25


def _patches(n: int) -> Tensor:
    """Regions of three patches of 45 x 45 pixels, as an augmentation draws them."""
    generator = torch.Generator().manual_seed(0)
    region = torch.zeros(n, 1, SIZE, SIZE, dtype=torch.bool)
    for i in range(n):
        for y, x in torch.randint(0, SIZE - 45, (3, 2), generator=generator).tolist():
            region[i, 0, y : y + 45, x : x + 45] = True
    return region


def _maps(is_sparse: bool) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    values = 60 * torch.rand(1, 1, SIZE, SIZE, generator=generator)
    return torch.where(_patches(1), values, 0.0) if is_sparse else values


def _peer_median(peer: str, plane: Any, footprint: Any) -> Any:
    if peer == "scikit-image":
        return filters.median(plane, footprint, mode="nearest")
    return ndimage.median_filter(plane, footprint=footprint, mode="nearest")


def _largest(ours: Tensor, theirs: Any) -> Error:
    difference = np.abs(ours.numpy().astype(np.float64) - np.asarray(theirs, np.float64))
    return Error(float(difference.max()), "levels", 1e-4)


def _disk_case(peer: str, is_sparse: bool) -> Case:
    require(filters if peer == "scikit-image" else ndimage, peer)
    images = _maps(is_sparse)
    plane = images[0, 0].numpy()
    target = None if is_sparse else Target(12, "a disk median is 12 times as fast")
    return Case(
        f"median, disk 5, {'three patches' if is_sparse else 'noise'}",
        f"{SIZE}x{SIZE}",
        "float32",
        1,
        lambda: median_filter(images, radius=5),
        peer,
        lambda: _peer_median(peer, plane, _DISK),
        lambda: _largest(median_filter(images, radius=5)[0, 0], _peer_median(peer, plane, _DISK)),
        target,
    )


def _square_case(size: int) -> Case:
    require(cv2, "opencv-python-headless")
    mask = torch.nn.functional.interpolate(_maps(is_sparse=False), scale_factor=0.125)
    mask = torch.nn.functional.interpolate(mask, (SIZE, SIZE), mode="bilinear") > 30
    plane = mask[0, 0].numpy().astype(np.uint8)
    return Case(
        f"median, {size}x{size}",
        f"{SIZE}x{SIZE}",
        "bool",
        1,
        lambda: median_filter(mask, size=size),
        "OpenCV medianBlur",
        lambda: cv2.medianBlur(plane, size),
        lambda: _largest(median_filter(mask, size=size)[0, 0], cv2.medianBlur(plane, size)),
    )


def _images(n: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    shape = (n, 3, SIZE, SIZE)
    before = torch.randint(0, 200, shape, generator=generator, dtype=torch.uint8)
    change = torch.randint(0, 55, shape, generator=generator, dtype=torch.uint8)
    region = _patches(n)
    return before, torch.where(region, before + change, before), region


def _released_label(peer: str, before: Any, after: Any, region: Any) -> Any:
    """The steps of NSA's released code, one image (H, W, C) at a time."""
    difference = np.mean(np.abs(after.astype(np.float64) - before), axis=-1) * region
    label = cv2.medianBlur((difference > 1).astype(np.uint8), 5)
    middle = _peer_median(peer, label * difference, _DISK)
    return label / (1 + np.exp(-(middle - 15) / 6))


def _label_case(peer: str) -> Case:
    require(cv2, "opencv-python-headless")
    require(filters if peer == "scikit-image" else ndimage, peer)
    n = 8
    before, after, region = _images(n)
    arrays = [images.permute(0, 2, 3, 1).contiguous().numpy() for images in (before, after)]
    triples = list(zip(*arrays, region[:, 0].numpy(), strict=True))

    def theirs() -> Any:
        return [_released_label(peer, *triple) for triple in triples]

    return Case(
        "logistic label, three patches",
        f"{n}x3x{SIZE}x{SIZE}",
        "uint8",
        n,
        lambda: difference_label(before, after, region),
        f"NSA's steps, {peer}",
        theirs,
        lambda: _largest(difference_label(before, after, region)[:, 0], np.stack(theirs())),
    )


def _mask_case() -> Case:
    require(cv2, "opencv-python-headless")
    before, _, _ = _images(8)
    arrays = before.permute(0, 2, 3, 1).contiguous().numpy()

    def theirs() -> Any:
        masks = (np.abs(image.mean(axis=-1) - 200) > 60 for image in arrays)
        return [cv2.medianBlur(mask.astype(np.uint8), 7) for mask in masks]

    return Case(
        "object mask, 7x7",
        f"8x3x{SIZE}x{SIZE}",
        "uint8",
        8,
        lambda: object_mask(before, (200, 60)),
        "NSA's steps, OpenCV",
        theirs,
        lambda: _largest(object_mask(before, (200, 60))[:, 0], np.stack(theirs())),
    )


_PEERS = ("scikit-image", "SciPy")
_BUILDERS: dict[str, Callable[[], Case]] = {
    **{
        f"disk-{kind}-{peer}": partial(_disk_case, peer, is_sparse)
        for kind, is_sparse in (("noise", False), ("patches", True))
        for peer in _PEERS
    },
    **{f"square-{size}": partial(_square_case, size) for size in (5, 7)},
    **{f"label-{peer}": partial(_label_case, peer) for peer in _PEERS},
    "object-mask": _mask_case,
}
ROWS = [Row(name, build) for name, build in _BUILDERS.items()]


@pytest.mark.benchmark(timer=timer)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_labels(benchmark: BenchmarkFixture, row: Row) -> None:
    """Measure one row."""
    run(benchmark, row, rounds=15)
