# SPDX-License-Identifier: Apache-2.0
"""AnoSeg's hard augmentation: what it pastes, by hand; what it draws; and how often."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ssad_kernels import CutPasteParams, Status, make_keys, use_backend
from ssad_kernels.random import STREAMS, uniform
from ssad_kernels.testing import make_images
from ssad_kernels.transforms import CutPaste, HardCutPaste

# Upper quantiles of chi-square at 1e-4, by degrees of freedom.
CHI_SQUARE = {1: 15.14, 3: 21.11, 31: 69.11}


def distinct(n: int, height: int, width: int) -> Tensor:
    """Images (n, 2, H, W) without two equal numbers. The second channel is never recoloured."""
    numbers = torch.arange(n * 2 * height * width, dtype=torch.float64)
    return numbers.reshape(n, 2, height, width) / len(numbers)


def paste_by_hand(
    image: np.ndarray[Any, Any], params: CutPasteParams, i: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """One sample without its jitter, its mask, and where rounding may decide either way.

    In float64, about the centre of the canvas: shares nothing with the op.
    """
    height, width = image.shape[1:]
    copy = np.rot90(image, params.turns[i].item(), (1, 2))
    copy = np.roll(copy, params.shift[i].tolist(), (1, 2))
    top, left, h, w = params.source_box[i].tolist()
    patch = copy[:, top : top + h, left : left + w]
    turn = math.radians(params.angle[i].item())
    cos, sin = math.cos(turn), math.sin(turn)
    canvas_h = math.ceil(h * abs(cos) + w * abs(sin))
    canvas_w = math.ceil(w * abs(cos) + h * abs(sin))
    to_y, to_x = params.target[i].tolist()
    dy = np.arange(height)[:, None] + 0.5 - to_y - canvas_h / 2
    dx = np.arange(width) + 0.5 - to_x - canvas_w / 2
    y = dy * cos + dx * sin + h / 2
    x = dx * cos - dy * sin + w / 2
    mask = (y >= 0) & (y < h) & (x >= 0) & (x < w)
    doubt = (abs(y - y.round()) < 1e-3) | (abs(x - x.round()) < 1e-3)
    rows, columns = (np.clip(np.floor(v).astype(int), 0, m - 1) for v, m in ((y, h), (x, w)))
    return np.where(mask, patch[:, rows, columns], image), mask, doubt


@pytest.mark.parametrize("size", [(48, 48), (40, 61), (33, 25)])
def test_pasted_by_hand(size):
    """And the mask is exact: outside of it nothing differs; inside of it nothing is the same, but
    for pixels that are pasted where they come from."""
    n = 64
    images, keys = distinct(n, *size), make_keys(5, 0, torch.arange(n))
    transform = HardCutPaste(return_status=True)
    params = transform.make_params(keys, images)
    pasted, masks, status = transform(images, keys)
    assert (status == Status.APPLIED).all()
    doubts = 0.0
    for i in range(n):
        expected, mask, doubt = paste_by_hand(images[i].numpy(), params, i)
        doubts += doubt.mean()
        sure = ~doubt
        np.testing.assert_array_equal(masks[i, 0].numpy()[sure], mask[sure])
        result = pasted[i].numpy()
        np.testing.assert_array_equal(result[1][sure], expected[1][sure])
        if (params.order[i] == -1).all():
            np.testing.assert_array_equal(result[0][sure], expected[0][sure])
        given, changed = images[i].numpy(), result[1] != images[i, 1].numpy()
        np.testing.assert_array_equal(
            result[:, ~masks[i, 0].numpy()], given[:, ~masks[i, 0].numpy()]
        )
        at_home = expected[1] == given[1]
        np.testing.assert_array_equal(changed[sure], (masks[i, 0].numpy() & ~at_home)[sure])
    assert doubts / n < 0.01


@given(
    size=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    dtype=st.sampled_from([torch.uint8, torch.float32]),
    channels=st.integers(1, 4),
    seed=st.integers(0, 1 << 40),
    inplace=st.booleans(),
)
def test_nothing_but_the_mask_changes(size, dtype, channels, seed, inplace):
    images = make_images(3, channels, *size, dtype=dtype)
    keys = make_keys(seed, 0, torch.arange(3))
    transform = HardCutPaste(return_status=True, inplace=inplace)
    before = images.clone()
    pasted, masks, status = transform(images, keys)
    assert torch.equal(torch.where(masks, before, pasted), before)
    assert torch.equal(images, pasted if inplace else before)
    assert torch.equal(masks.flatten(1).any(1), status == Status.APPLIED)
    with use_backend("reference"):
        expected, same_masks, _ = transform(before, keys)
    assert torch.equal(masks, same_masks)
    atol = 1.0 if dtype == torch.uint8 else 1e-5
    torch.testing.assert_close(pasted, expected, rtol=0, atol=atol)


def codes(params: CutPasteParams, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which turn, which halves (1, 2 or both) and whether recoloured, (N,) int64 each."""
    assert ((params.shift == 0) | (params.shift == torch.tensor([height // 2, width // 2]))).all()
    halves = (params.shift[:, 0] > 0).long() + 2 * (params.shift[:, 1] > 0)
    return params.turns, halves, (params.order >= 0).all(1).long()


def chi_square(counts: Tensor, expected: Tensor) -> float:
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize(("turn_p", "permute_p", "jitter_p"), [(0.5, 0.5, 0.5), (0.2, 0.9, 0.3)])
def test_how_often(turn_p, permute_p, jitter_p):
    """Each part as often as asked for, its kinds alike, and all of it independently."""
    n = 40_000
    keys, images = make_keys(1, 0, torch.arange(n)), torch.empty(n, 1, 64, 64, device="meta")
    transform = HardCutPaste(turn_p=turn_p, permute_p=permute_p, jitter_p=jitter_p)
    params = transform.make_params(keys, images)
    turns, halves, is_jittered = codes(params, 64, 64)
    four = [torch.tensor([1 - p, p / 3, p / 3, p / 3]) for p in (turn_p, permute_p)]
    two = torch.tensor([1 - jitter_p, jitter_p])
    for part, shares in ((turns, four[0]), (halves, four[1]), (is_jittered, two)):
        counts = torch.bincount(part, minlength=len(shares))
        assert chi_square(counts, n * shares) < CHI_SQUARE[len(shares) - 1]
    joint = torch.bincount(8 * turns + 2 * halves + is_jittered, minlength=32)
    shares = (four[0][:, None, None] * four[1][:, None] * two).flatten()
    assert chi_square(joint, n * shares) < CHI_SQUARE[31]


def test_parts_that_never_or_always_happen():
    n = 300
    keys, images = make_keys(1, 0, torch.arange(n)), torch.empty(n, 1, 33, 47, device="meta")
    never = HardCutPaste(turn_p=0, permute_p=0, jitter_p=0).make_params(keys, images)
    assert [part.any().item() for part in codes(never, 33, 47)] == [False] * 3
    always = HardCutPaste(turn_p=1, permute_p=1, jitter_p=1).make_params(keys, images)
    turns, halves, is_jittered = codes(always, 33, 47)
    assert turns.unique().tolist() == [2]  # another turn would change the shape
    assert halves.unique().tolist() == [1, 2, 3]
    assert is_jittered.all()
    for name in ("source_box", "target", "angle", "jitter", "apply"):  # nothing else moves
        assert torch.equal(getattr(never, name), getattr(always, name))
    assert HardCutPaste().stream != CutPaste().stream


def test_draws_equal_their_definition():
    """Five numbers of the stream of coins: is it turned, how; permuted, how; recoloured."""
    keys, images = make_keys(9, 4, torch.arange(500)), torch.empty(500, 1, 30, 30, device="meta")
    transform = HardCutPaste(turn_p=0.4, permute_p=0.6, jitter_p=0.7, stream=2)
    numbers = uniform(keys, STREAMS["hard_cut_paste"] + 2 * 256 + STREAMS["coin"], 5)
    params = transform.make_params(keys, images)
    turns, halves, is_jittered = codes(params, 30, 30)
    which = 1 + (3 * numbers[:, [1, 3]]).long()
    assert torch.equal(turns, torch.where(numbers[:, 0] < 0.4, which[:, 0], 0))
    assert torch.equal(halves, torch.where(numbers[:, 2] < 0.6, which[:, 1], 0))
    assert torch.equal(is_jittered == 1, numbers[:, 4] < 0.7)


def test_known_draws():
    """They are what other releases and devices must draw."""
    images = torch.empty(6, 3, 64, 64, device="meta")
    params = HardCutPaste().make_params(make_keys(7, 3, torch.arange(6)), images)
    assert params.source_box.tolist() == BOXES
    assert params.target.tolist() == TARGETS
    assert params.turns.tolist() == TURNS
    assert params.shift.tolist() == SHIFTS
    assert params.order.tolist() == ORDERS


BOXES = [
    [22, 17, 11, 31],
    [24, 42, 34, 10],
    [23, 19, 35, 13],
    [30, 26, 30, 10],
    [13, 26, 12, 14],
    [31, 31, 28, 21],
]
TARGETS = [[30, 15], [6, 36], [13, 1], [25, 16], [8, 43], [21, 35]]
TURNS = [0, 2, 0, 3, 0, 0]
SHIFTS = [[0, 0], [32, 0], [0, 0], [0, 32], [0, 0], [32, 0]]
ORDERS = [
    [-1, -1, -1, -1],
    [-1, -1, -1, -1],
    [0, 3, 1, 2],
    [-1, -1, -1, -1],
    [2, 1, 3, 0],
    [-1, -1, -1, -1],
]


@pytest.mark.parametrize(
    ("option", "value", "must"),
    [
        ("rotation", (10, -10), "be a range (low, high) with -360.0 <= low <= high <= 360.0"),
        ("turn_p", 1.5, "be in 0...1"),
        ("permute_p", float("nan"), "be in 0...1"),
        ("jitter_p", None, "be in 0...1"),
        ("jitter", (1, 1, 1, 0.6), "have a hue of at most 0.5 turns"),
    ],
)
def test_options(option, value, must):
    message = f"HardCutPaste: `{option}` must {must}, got {value!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        HardCutPaste(**{option: value})


def test_contrast_refers_to_the_patch():
    """Where the paper has that of the whole copy: a patch of one grey keeps it."""
    images = torch.full((1, 1, 40, 40), 0.25, dtype=torch.float64)
    images[:, :, 20:] = 0.75
    params = CutPasteParams.of(
        [[2, 3, 9, 9]], [[25, 20]], jitter=[[1.0, 0.5, 1.0, 0.0]], shift=[[20, 0]]
    )
    pasted, masks = HardCutPaste()(images, params=params)
    assert masks.sum() == 81
    assert (pasted == images).all()  # from below, 0.75, to below


def test_print():
    text = repr(HardCutPaste(p=0.25))
    assert "rotation=(-45.0, 45.0)" in text
    assert "turn_p=0.5, permute_p=0.5, jitter_p=0.5" in text
