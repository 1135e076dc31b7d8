# SPDX-License-Identifier: Apache-2.0
"""Medians, object masks and labels against SciPy, scikit-image, OpenCV and the papers' formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ssad_kernels import difference_label, median_filter, object_mask
from ssad_kernels.testing import make_images, make_mask

ndimage = pytest.importorskip("scipy.ndimage")


def disk(radius: int) -> Any:
    offsets = np.arange(-radius, radius + 1)
    return offsets[:, None] ** 2 + offsets**2 <= radius**2


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int16, torch.int32, torch.float32, torch.float64]
)
@pytest.mark.parametrize("radius", range(1, 8))
def test_disk_median_of_scipy(radius, dtype):
    images = make_images(2, 2, 37, 75, seed=radius).to(torch.float64) - 100
    images = (images.abs() if dtype == torch.uint8 else images).to(dtype)
    found = median_filter(images, radius=radius).numpy()
    for got, plane in zip(
        found.reshape(-1, 37, 75), images.reshape(-1, 37, 75).numpy(), strict=True
    ):
        expected = ndimage.median_filter(plane, footprint=disk(radius), mode="nearest")
        assert np.array_equal(got, expected)


def test_disk_median_of_scikit_image():
    filters = pytest.importorskip("skimage.filters")
    morphology = pytest.importorskip("skimage.morphology")
    plane = torch.rand(1, 1, 64, 91)
    expected = filters.median(plane[0, 0].numpy(), morphology.disk(5), mode="nearest")
    assert morphology.disk(5).sum() == 81
    assert np.array_equal(median_filter(plane, radius=5)[0, 0].numpy(), expected)


@pytest.mark.parametrize("size", range(3, 16, 2))
def test_square_median_of_scipy(size):
    mask = make_images(1, 1, 40, 71, seed=size) > 120
    found = median_filter(mask, size=size)[0, 0].numpy()
    plane = mask[0, 0].numpy().astype(np.uint8)
    assert np.array_equal(found, ndimage.median_filter(plane, size=size, mode="nearest") > 0)


@pytest.mark.parametrize("size", [3, 5, 7])
def test_square_median_of_opencv(size):
    cv2 = pytest.importorskip("cv2")
    mask = make_images(1, 1, 50, 60, seed=size) > 130
    expected = cv2.medianBlur(mask[0, 0].numpy().astype(np.uint8), size) > 0
    assert np.array_equal(median_filter(mask, size=size)[0, 0].numpy(), expected)


def label_by_the_paper(before: Any, after: Any, region: Any) -> tuple[Any, Any]:
    """L and m of one image (C, H, W) in grey levels, as the released code of NSA has them."""
    difference = np.abs(after.astype(np.float64) - before).mean(0) * region
    label = ndimage.median_filter((difference > 1).astype(np.uint8), size=5, mode="nearest")
    return label, ndimage.median_filter(label * difference, footprint=disk(5), mode="nearest")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_labels_of_the_paper(dtype):
    n, h, w = 4, 64, 80
    before = make_images(n, 3, h, w)
    after = (before.int() + make_images(n, 3, h, w, seed=5) // 12).clamp(max=255).to(torch.uint8)
    families = ("ellipses", "full", "scar", "blobs")
    region = torch.stack([make_mask(f, h, w, seed=i) for i, f in enumerate(families)])[:, None]
    white = 1.0 if dtype == torch.uint8 else 255.0
    given = [(images.double() / white).to(dtype) for images in (before, after)]
    # Differences are thirds of a level: no rounding of the floats moves one across this tolerance.
    options: dict[str, Any] = {"tolerance": 1.1}
    found = {
        kind: difference_label(*given, region, kind=kind, **options)[:, 0].numpy()
        for kind in ("binary", "intensity", "logistic")
    }
    for i in range(n):
        arrays = [t[i].numpy() for t in (before, after)]
        label, middle = label_by_the_paper(*arrays, region[i, 0].numpy())
        assert np.array_equal(found["binary"][i], label)
        np.testing.assert_allclose(found["intensity"][i], middle, rtol=0, atol=1e-4)
        logistic = label / (1 + np.exp(-(middle - 15) / 6))
        np.testing.assert_allclose(found["logistic"][i], logistic, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("steepness", "midpoint", "expected"),
    [(1 / 12, 24, 0.119), (1 / 3, 7, 0.088), (1.0, 3, 0.047), (1 / 6, 15, 0.076)],
)
def test_logistic_labels_of_the_smallest_changes(steepness, midpoint, expected):
    """The papers' classes: bottle and capsule, metal nut, screw, toothbrush."""
    before = torch.full((1, 1, 31, 31), 0.5)
    after = before.clone()
    after += 1e-6
    region = torch.ones(1, 1, 31, 31, dtype=torch.bool)
    options: dict[str, Any] = {"steepness": steepness, "midpoint": midpoint, "tolerance": 0.0}
    found = difference_label(before, after, region, **options)
    assert found.max() == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_object_masks_of_the_paper(dtype):
    images = make_images(5, 3, 40, 50, seed=3)
    white = 1.0 if dtype == torch.uint8 else 255.0
    found = object_mask((images.double() / white).to(dtype), (120.2, 25.1)).numpy()
    for got, image in zip(found[:, 0], images.numpy(), strict=True):
        mask = np.abs(image.astype(np.float64).mean(0) - 120.2) > 25.1
        assert np.array_equal(
            got, ndimage.median_filter(mask.astype(np.uint8), 7, mode="nearest") > 0
        )


def test_a_difference_of_the_tolerance_is_background():
    images = torch.full((1, 3, 9, 9), 110, dtype=torch.uint8)
    assert not object_mask(images, (100, 10)).any()
    images[:, 1] += 1
    assert object_mask(images, (100, 10)).all()


@pytest.mark.parametrize("is_dark", [False, True])
def test_otsu_of_scikit_image(is_dark):
    filters = pytest.importorskip("skimage.filters")
    levels = make_images(1, 1, 60, 60, seed=4).int() // 8
    levels[..., 10:50, 15:45] += 150
    image = (255 - levels if is_dark else levels).to(torch.uint8)
    plane = image[0, 0].numpy()
    bright = plane > filters.threshold_otsu(plane)
    mask = ~bright if is_dark else bright
    expected = ndimage.median_filter(mask.astype(np.uint8), 7, mode="nearest") > 0
    assert np.array_equal(object_mask(image, "otsu")[0, 0].numpy(), expected)
    as_floats = image.float().expand(1, 3, 60, 60) / 255
    assert np.array_equal(object_mask(as_floats, "otsu")[0, 0].numpy(), expected)


def test_operators_check_what_the_functions_make_sure_of():
    op = torch.ops.ssad_kernels
    images = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(TypeError, match="`images` must"):
        op.median_filter(images, 2, True, None)
    region, row = images.bool(), torch.ones(1, dtype=torch.float64)
    with pytest.raises(TypeError, match="`factor` must"):
        op.difference_label(images, images, region, "factor", None, None, row, 1.0, 5, 5)
