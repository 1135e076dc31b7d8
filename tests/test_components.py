# SPDX-License-Identifier: Apache-2.0
"""Connected components against SciPy and OpenCV."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssad_kernels import components, connected_components
from ssad_kernels.testing import MASKS, make_mask, make_spiral


def assert_as_scipy(masks: torch.Tensor) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    labels, counts = connected_components(masks)
    for mask, label, count in zip(masks[:, 0], labels[:, 0], counts, strict=True):
        expected, number = ndimage.label(mask.numpy(), np.ones((3, 3)))
        assert int(count) == number
        # SciPy numbers components in the order of their first pixels as well.
        assert np.array_equal(label.numpy(), expected)


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 1 << 30))
def test_noise(h, w, share, seed):
    generator = torch.Generator().manual_seed(seed)
    assert_as_scipy(torch.rand(2, 1, h, w, generator=generator) < share)


@pytest.mark.parametrize("family", MASKS)
def test_families(family):
    assert_as_scipy(torch.stack([make_mask(family, 57, 91, seed=i) for i in range(3)])[:, None])


def test_long_and_winding_components():
    spiral = make_spiral(41)
    assert spiral.sum() > 800
    comb = torch.zeros(41, 41, dtype=torch.bool)
    comb[:, ::2] = True  # teeth that the last row joins
    comb[-1] = True
    diagonal = torch.eye(41, dtype=torch.bool)
    masks = torch.stack([spiral, spiral.flip(0), spiral.mT, ~spiral, comb, comb.flip(0), diagonal])
    assert_as_scipy(masks[:, None])
    assert connected_components(masks[:, None])[1].tolist() == [1, 1, 1, 1, 1, 1, 1]


def test_corners_connect_and_borders_do_not():
    mask = torch.zeros(1, 1, 4, 16, dtype=torch.bool)
    mask[0, 0, 0, 15] = mask[0, 0, 1, 0] = True  # neighbours in memory alone
    mask[0, 0, 2, 1] = True
    labels, counts = connected_components(mask)
    assert counts.tolist() == [2]
    assert [int(labels[0, 0, y, x]) for y, x in ((0, 15), (1, 0), (2, 1))] == [1, 2, 2]


def test_same_partition_as_opencv():
    cv2 = pytest.importorskip("cv2")
    masks = torch.rand(3, 1, 120, 97) < 0.4
    labels, counts = connected_components(masks)
    for mask, label, count in zip(masks[:, 0], labels[:, 0].numpy(), counts, strict=True):
        number, theirs = cv2.connectedComponents(mask.numpy().astype(np.uint8), connectivity=8)
        assert number - 1 == int(count)
        assert len(np.unique(np.stack([label, theirs]).reshape(2, -1), axis=1).T) == number


@pytest.mark.native
def test_alone_in_a_batch_and_with_any_number_of_threads():
    masks = torch.rand(16, 1, 512, 512) < 0.35  # two milliseconds and more
    torch.set_num_threads(1)
    labels, counts = connected_components(masks)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        again = connected_components(masks)
        assert torch.equal(again[0], labels)
        assert torch.equal(again[1], counts)
    assert torch.equal(connected_components(masks[7:8])[0], labels[7:8])


@pytest.mark.parametrize(
    ("masks", "kind", "message"),
    [
        ([0], TypeError, "be a tensor, got list"),
        (torch.zeros(1, 1, 3, 3), TypeError, "have dtype bool, got float32"),
        (torch.zeros(3, 3).bool(), ValueError, r"have shape \(N, C, H, W\), got \(3, 3\)"),
        (
            torch.zeros(1, 2, 3, 3).bool(),
            ValueError,
            r"have one channel and below 2³¹ pixels, \(N, 1, H, W\), got \(1, 2, 3, 3\)",
        ),
    ],
)
def test_errors(masks, kind, message):
    with pytest.raises(kind, match=f"^connected_components: `masks` must {message}$"):
        connected_components(masks)


@pytest.mark.parametrize("pixels", [1, 7 * 9, 3 * 7 * 9, 1 << 21])
def test_areas_are_those_of_the_whole_batch(pixels, monkeypatch):
    monkeypatch.setattr(components, "_PIXELS", pixels)
    masks = torch.rand(8, 1, 7, 9) < 0.4
    masks[2] = masks[7] = False
    labels, counts = connected_components(masks)
    expected = [
        int((label == number).sum())
        for label, mask in zip(labels, masks, strict=True)
        for number in label[mask].tolist()
    ]
    areas, found = components.component_areas(masks, masks.flatten().nonzero()[:, 0])
    assert areas.tolist() == expected
    assert torch.equal(found, counts)
