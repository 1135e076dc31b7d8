# SPDX-License-Identifier: Apache-2.0
"""Medians and labels by emulated CUDA kernels: oracles, tiles and borders, with the CPU's bits."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from scripts_of_the_tree import script
from torch import Tensor

import ssad_kernels as sk
from ssad_kernels import _backend
from ssad_kernels._errors import dtype_name
from ssad_kernels.testing import make_images, make_mask, same_bits

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


def make_change(
    n: int, c: int, h: int, w: int, dtype: torch.dtype = torch.uint8, seed: int = 0
) -> list[Tensor]:
    """Before, after and region: what changed is smooth enough to leave a label with holes."""
    before = make_images(n, c, h, w, dtype=dtype, seed=seed)
    after = make_images(n, c, h, w, dtype=dtype, seed=seed + 1)
    families = ("ellipses", "blobs", "noise", "full")
    masks = [make_mask(families[i % 4], h, w, seed=seed + i) for i in range(n)]
    return [before, after, torch.stack(masks)[:, None]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=dtype_name)
def test_labels_of_the_paper(dtype: torch.dtype):
    """Of NSA's released code, in SciPy."""
    levels, changed, region = make_change(2, 3, 45, 50)
    changed = (levels.int() + changed // 12).clamp(max=255).to(torch.uint8)
    white = 1.0 if dtype == torch.uint8 else 255.0
    given = [(images.double() / white).to(dtype) for images in (levels, changed)]
    found = {}
    with sk.use_backend("cuda-emulated"):
        for kind in ("binary", "intensity", "logistic"):
            label = sk.difference_label(*given, region, kind=kind, tolerance=1.1)
            found[kind] = label[:, 0].numpy()
    for i in range(2):
        before, after = (images[i].double().numpy() for images in (levels, changed))
        difference = np.abs(after - before).mean(0) * region[i, 0].numpy()
        mask = ndimage.median_filter((difference > 1.1).astype(np.uint8), 5, mode="nearest")
        middle = ndimage.median_filter(mask * difference, footprint=disk(5), mode="nearest")
        logistic = mask / (1 + np.exp(-(middle - 15) / 6))
        assert 0 < mask.sum() < mask.size
        assert np.array_equal(found["binary"][i], mask)
        np.testing.assert_allclose(found["intensity"][i], middle, rtol=0, atol=1e-4)
        np.testing.assert_allclose(found["logistic"][i], logistic, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [1, 15])
@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 300), (90, 1), (40, 256), (41, 257)])
def test_labels_at_the_borders_of_tiles_and_images(h: int, w: int, size: int):
    change = make_change(1, 1, h, w, seed=h + 1)
    options: dict[str, Any] = {"size": size, "tolerance": 40.0}
    for kind in ("intensity", "factor"):
        given = {**options, "kind": kind, "factor": torch.tensor([0.3])}
        assert same_bits(*on_both(sk.difference_label, *change, **given))


@pytest.mark.parametrize("dtype", [torch.uint8, *HALVES_AND_FLOATS, torch.float64], ids=dtype_name)
def test_labels_have_the_bits_of_the_cpu(dtype: torch.dtype):
    before, after, region = make_change(4, 3, 43, 37, dtype)
    if dtype.is_floating_point:
        before[0, 0, 9, 9] = after[1, 1, 3, 4] = float("nan")
        before[2, 0, 12, 12] = after[2, 0, 12, 12] = after[3, 1, 8, 8] = float("inf")
        before[1, :, 20:30, 5:20] = after[1, :, 20:30, 5:20] + 2.0**-20  # subnormal halves too
    after = after.to(memory_format=torch.channels_last)  # a layout of its own
    for kind in ("binary", "intensity"):
        found, expected = on_both(
            sk.difference_label, before, after, region, kind=kind, tolerance=20.0
        )
        assert same_bits(found, expected)
        assert expected.any()


@pytest.mark.parametrize("kind", ["logistic", "factor"])
def test_a_sample_with_a_number_that_is_not_finite_has_no_label(kind: Any):
    change = make_change(3, 1, 20, 30)
    row = torch.tensor([1.0, float("nan"), float("inf")])
    found, expected = on_both(
        sk.difference_label, *change, kind=kind, steepness=row, factor=row, tolerance=20.0
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert found[0].any()
    assert not found[1:].any()


def test_labels_of_other_disks_are_not_served():
    change = make_change(1, 1, 8, 8)
    with sk.use_backend("cuda-emulated"):
        with pytest.raises(RuntimeError, match="serves disks of radius 5, or none only"):
            sk.difference_label(*change, radius=6)
        assert sk.difference_label(*change, kind="binary", radius=6).shape == (1, 1, 8, 8)


def test_labels_have_the_same_bits_in_any_order_of_threads_and_any_batch():
    change = make_change(3, 3, 50, 44)
    with sk.use_backend("cuda-emulated"):
        expected = sk.difference_label(*change)
        for order, seed in ORDERS:
            emulation.set_order(order, seed)
            assert same_bits(sk.difference_label(*change), expected)
        for i in range(3):
            alone = sk.difference_label(*(part[i : i + 1] for part in change))
            assert same_bits(alone[0], expected[i])


@pytest.mark.parametrize("white", [1, 255], ids=["uint8", "float32"])
def test_little_more_is_moved_than_must_be(white: int):
    """A 256 x 256 image: each of its sectors once, but for the rows that tiles share."""
    traffic = script("cuda_traffic")
    levels = make_images(2, 3, 256, 256)
    before, after = (levels if white == 1 else levels.float() / white).split(1)
    region, row = torch.ones(1, 1, 256, 256, dtype=torch.bool), torch.ones(1)
    label = (before, after, region, "logistic", row, row, None, 3.0 / white, 5, 5)
    for op, args in (("median_filter", (before, 5, False, None)), ("difference_label", label)):
        found = traffic.count(op, args)
        assert found.launches == 1
        assert found.by_block <= found.by_access <= 1.3 * found.compulsory
        assert found.ways <= 2
