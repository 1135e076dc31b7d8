# SPDX-License-Identifier: Apache-2.0
"""Medians and labels by emulated CUDA kernels: oracles, tiles and borders, with the CPU's bits."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import ssad_kernels as sk
from ssad_kernels import _backend
from ssad_kernels._errors import dtype_name
from ssad_kernels.testing import make_images, same_bits

if "cuda-emulated" not in _backend.BACKENDS:
    reason = "the extension was not built with SSAD_CUDA=EMULATED"
    pytest.skip(reason, allow_module_level=True)

ndimage = pytest.importorskip("scipy.ndimage")

SEED = int(os.environ.get("SSAD_EMULATION_SEED", "0"))
ORDERS = [("forward", 0), ("reverse", 0), *(("random", SEED + i) for i in range(3))]
HALVES_AND_FLOATS = [torch.float16, torch.bfloat16, torch.float32]
# A pixel; a row and a column of several tiles; a tile, and a little more than one each way.
SIZES = [(1, 1), (1, 300), (70, 1), (2, 2), (32, 256), (33, 257)]

emulation = _backend.native._emulation


@pytest.fixture(autouse=True)
def _order():
    emulation.set_order("random", SEED)
    yield
    emulation.set_order("forward", 0)


def on_both(op: Any, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
    """By the emulated kernel and by the CPU's."""
    with sk.use_backend("cuda-emulated"):
        found = op(*args, **options)
    with sk.use_backend("cpu"):
        return found, op(*args, **options)


def disk(radius: int) -> Any:
    offsets = np.arange(-radius, radius + 1)
    return offsets[:, None] ** 2 + offsets**2 <= radius**2


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32], ids=dtype_name)
@pytest.mark.parametrize("radius", range(1, 8))
def test_disk_median_of_scipy(radius: int, dtype: torch.dtype):
    images = make_images(1, 2, 35, 41, seed=radius).double()
    images = (images if dtype == torch.uint8 else images - 100).to(dtype)
    with sk.use_backend("cuda-emulated"):
        found = sk.median_filter(images, radius=radius)
    for got, plane in zip(found[0].numpy(), images[0].numpy(), strict=True):
        expected = ndimage.median_filter(plane, footprint=disk(radius), mode="nearest")
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("size", range(3, 16, 2))
def test_square_median_of_scipy(size: int):
    mask = make_images(1, 1, 37, 71, seed=size) > 120
    with sk.use_backend("cuda-emulated"):
        found = sk.median_filter(mask, size=size)[0, 0].numpy()
    plane = mask[0, 0].numpy().astype(np.uint8)
    assert np.array_equal(found, ndimage.median_filter(plane, size=size, mode="nearest") > 0)


@pytest.mark.parametrize("radius", [1, 7])
@pytest.mark.parametrize(("h", "w"), SIZES)
def test_medians_at_the_borders_of_tiles_and_images(h: int, w: int, radius: int):
    images = make_images(1, 1, h, w, seed=h)
    assert same_bits(*on_both(sk.median_filter, images, radius=radius))
    for window in ({"radius": radius}, {"size": 2 * radius + 1}):
        assert same_bits(*on_both(sk.median_filter, images > 120, **window))


@pytest.mark.parametrize("dtype", HALVES_AND_FLOATS, ids=dtype_name)
def test_medians_of_what_is_not_finite(dtype: torch.dtype):
    images = make_images(1, 1, 35, 45, dtype=dtype) - 0.5
    images[..., 3, 3::7] = float("nan")
    images[..., 20, 30] = -float("nan")
    images[..., 10:20, 5:15] = float("inf")
    images[..., 22:34, 5:15] = -float("inf")
    images[..., 8:20, 25:40] = -0.0
    found, expected = on_both(sk.median_filter, images, radius=2)
    assert same_bits(found, expected)
    assert found.isnan().any()
    assert (found == 0).any()


def test_the_largest_integer_is_not_a_nan():
    images = torch.full((1, 1, 5, 9), torch.iinfo(torch.int32).max, dtype=torch.int32)
    images[..., :2] = torch.iinfo(torch.int32).min
    assert same_bits(*on_both(sk.median_filter, images, radius=2))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32], ids=dtype_name)
def test_boxes_across_tiles(dtype: torch.dtype):
    images = make_images(3, 1, 40, 262, dtype=torch.float32) - 0.4
    images[..., 1, 2], images[..., 39, 260], images[..., 5, 100] = float("nan"), -0.0, -0.0
    images = images > 0 if dtype == torch.bool else images.to(dtype)
    boxes = torch.tensor([[30, 250, 7, 9], [33, 3, 1, 1], [40, 0, 5, 5]])
    assert same_bits(*on_both(sk.median_filter, images, radius=3, boxes=boxes))


def test_any_byte_but_zero_is_true():
    mask = torch.tensor([0, 1, 2, 128, 255], dtype=torch.uint8).repeat(3, 4).view(torch.bool)
    found, expected = on_both(sk.median_filter, mask[None, None], size=3)
    assert torch.equal(found, expected)


def test_what_is_not_served_is_an_error():
    with sk.use_backend("cuda-emulated"), pytest.raises(RuntimeError, match="up to 32 bits only"):
        sk.median_filter(torch.zeros(1, 1, 4, 4, dtype=torch.float64), radius=1)


def test_medians_have_the_same_bits_in_any_order_of_threads():
    images = make_images(2, 1, 34, 60, dtype=torch.float32)
    images[1, 0, 3, 4] = float("nan")
    mask = images > 0.4
    with sk.use_backend("cpu"):
        disks, squares = sk.median_filter(images, radius=5), sk.median_filter(mask, size=5)
    with sk.use_backend("cuda-emulated"):
        for order, seed in ORDERS:
            emulation.set_order(order, seed)
            assert same_bits(sk.median_filter(images, radius=5), disks)
            assert same_bits(sk.median_filter(mask, size=5), squares)
