# SPDX-License-Identifier: Apache-2.0
"""Masks of cells: what they promise, by oracles that share no code with the kernels."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ssad_kernels import (
    cell_masks,
    composite,
    make_keys,
    mask_images,
    philox,
    refine_cells,
    use_backend,
)
from ssad_kernels.random import STREAMS
from ssad_kernels.testing import make_cell_masks, make_images

ALPHA_QUANTILE = 3.719016485455709  # of a normal variable, at 1 - 1e-4
KINDS = [("split", 3), ("bernoulli", 3), ("checkerboard", 2)]


def keys_of(n: int, seed: int = 0) -> Tensor:
    return make_keys(seed, 0, torch.arange(n))


def cells_of(masks: Tensor, cell: int) -> Tensor:
    """The first pixel of each cell, (N, P, rows, columns); all of a cell must be alike."""
    first = masks[..., ::cell, ::cell]
    height, width = masks.shape[2:]
    again = first.repeat_interleave(cell, 2).repeat_interleave(cell, 3)
    assert torch.equal(again[..., :height, :width], masks)
    return first


def quantile_of_chi_square(free: int) -> float:
    """What it exceeds once in 10,000 times (Wilson and Hilferty, 1931)."""
    part = 2 / (9 * free)
    return free * (1 - part + ALPHA_QUANTILE * math.sqrt(part)) ** 3


def chi_square_is_small(counts: Tensor) -> bool:
    """Whether counts of equally likely outcomes pass at 1e-4."""
    expected = counts.sum() / len(counts)
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return statistic < quantile_of_chi_square(len(counts) - 1)


def dealt(key: Tensor, height: int, width: int, cell: int, parts: int) -> np.ndarray[Any, Any]:
    """The released procedure with Philox's numbers: pad the order with -1, one row for each set."""
    rows, columns = -(-height // cell), -(-width // cell)
    numbers = philox(key, STREAMS["cell_masking"], rows * columns)[0].tolist()
    order = sorted(range(rows * columns), key=lambda index: (numbers[index], index))
    order += [-1] * (-len(order) % parts)
    masks = np.ones((parts, height, width), bool)
    for mask, hidden in zip(masks, np.array(order).reshape(parts, -1), strict=True):
        for index in hidden[hidden >= 0]:
            y, x = index // columns * cell, index % columns * cell
            mask[y : y + cell, x : x + cell] = False
    return masks


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 45), st.integers(1, 9),
    st.integers(0, 1 << 62),
)  # fmt: skip
def test_a_split_is_that_of_the_released_procedure(height, width, cell, parts, seed):
    keys = make_keys(seed, 3, torch.arange(2))
    masks = cell_masks(keys, (height, width), cell, parts=parts)
    for key, found in zip(keys.split(1), masks, strict=True):
        assert np.array_equal(found.numpy(), dealt(key, height, width, cell, parts))


@pytest.mark.parametrize("cell", [2, 4, 8])
def test_what_a_split_hides_is_the_whole_image_once(cell, device):
    masks = cell_masks(keys_of(5).to(device), 128, cell).cpu()
    assert torch.equal((~masks).sum(1), torch.ones(5, 128, 128, dtype=torch.int64))
    count = (128 // cell) ** 2
    size = -(-count // 3)
    hidden = (~cells_of(masks, cell)).sum((2, 3))
    assert hidden.tolist() == [[size, size, count - 2 * size]] * 5


@pytest.mark.parametrize(
    ("size", "cell", "parts", "expected"),
    [((2, 2), 1, 3, [2, 2, 0]), (7, 9, 3, [1, 0, 0]), ((1, 5), 1, 4, [2, 2, 1, 0])],
)
def test_sets_that_nothing_is_left_for(size, cell, parts, expected):
    hidden = (~cells_of(cell_masks(keys_of(4), size, cell, parts=parts), cell)).sum((2, 3))
    assert hidden.tolist() == [expected] * 4


def test_every_cell_is_equally_likely_in_every_set():
    masks = cells_of(cell_masks(keys_of(6000), 12, 4), 4)
    for part in range(3):
        assert chi_square_is_small((~masks[:, part]).sum(0).flatten().double())


def test_every_way_to_deal_cells_is_equally_likely():
    """Six cells go into three sets of two in 90 ways."""
    masks = cells_of(cell_masks(keys_of(9000), (2, 3), 1), 1)
    owner = masks.int().argmin(1).flatten(1)
    codes = (owner * 3 ** torch.arange(6)).sum(1)
    ways, counts = codes.unique(return_counts=True)
    assert len(ways) == 90
    assert chi_square_is_small(counts.double())


@pytest.mark.parametrize("hide", [0.0, 0.05, 1 / 3, 0.9, 1.0])
def test_bernoulli_cells_are_independent(hide):
    n = 2000
    masks = cells_of(cell_masks(keys_of(n), 20, 4, kind="bernoulli", hide=hide), 4)
    hidden = (~masks).flatten(1).double()  # (n, 3 · 25)
    total = hidden.sum()
    spread = math.sqrt(hidden.numel() * hide * (1 - hide))
    assert abs(float(total) - hidden.numel() * hide) <= ALPHA_QUANTILE * spread + 1e-9
    if 0 < hide < 1:
        pairs = torch.corrcoef(hidden.T).triu(diagonal=1)
        assert float(n * pairs.square().sum()) < quantile_of_chi_square(75 * 74 // 2)


def test_the_parts_of_bernoulli_are_their_numbers():
    keys = keys_of(3)
    masks = cells_of(cell_masks(keys, (3, 5), 1, parts=2, kind="bernoulli", hide=0.25), 1)
    numbers = philox(keys, STREAMS["cell_masking"], 32).reshape(3, 2, 16)[..., :15]
    assert torch.equal(masks.flatten(2), (numbers + 0.5) * 2.0**-32 >= 0.25)


def test_checkerboards_are_each_others_complement():
    masks = cell_masks(keys_of(2), (7, 9), 2, parts=2, kind="checkerboard")
    assert torch.equal(masks[:, 0], ~masks[:, 1])
    expected = (np.add.outer(np.arange(7) // 2, np.arange(9) // 2) % 2).astype(bool)
    assert np.array_equal(masks[0, 0].numpy(), expected)
    assert torch.equal(masks[0], masks[1])


@pytest.mark.parametrize(("kind", "parts"), KINDS)
def test_a_sample_does_not_depend_on_its_batch(kind, parts):
    keys, cell = keys_of(9), torch.tensor([1, 2, 3, 5, 8, 64, 2, 4, 7])
    masks = cell_masks(keys, (31, 40), cell, parts=parts, kind=kind)
    for i in range(9):
        alone = cell_masks(keys[i : i + 1], (31, 40), int(cell[i]), parts=parts, kind=kind)
        assert torch.equal(alone[0], masks[i])
    if kind != "checkerboard":
        again = cell_masks(keys, (31, 40), cell, parts=parts, kind=kind, stream=3)
        assert not torch.equal(again, masks)


def test_cells_of_a_tensor_that_are_too_small_are_the_smallest_that_there_are():
    keys, cell = keys_of(3), torch.tensor([-5, 2, 3])
    masks = cell_masks(keys, (1026, 1024), cell)
    for i, side in enumerate((3, 3, 3)):
        assert torch.equal(cell_masks(keys[i : i + 1], (1026, 1024), side)[0], masks[i])


def test_any_number_of_threads():
    keys, cell = keys_of(24), torch.arange(24) % 7 + 2
    images = make_images(24, 3, 224, 224, dtype=torch.float32)
    found = set()
    for threads in (1, 2, 3, 16):
        torch.set_num_threads(threads)
        masks = cell_masks(keys, 224, cell)
        masked = mask_images(images, masks)
        composed = composite(masked, masks, images)
        refined, hidden = refine_cells(images[:, :1], masks, cell, threshold=0.5)
        parts = [masks, masked, composed, refined, hidden]
        memory = b"".join(part.flatten().view(torch.uint8).numpy().tobytes() for part in parts)
        found.add(hashlib.sha256(memory).hexdigest())
    assert len(found) == 1


def test_golden_masks():
    """Masks of keys do not change from version to version."""
    found = {}
    for kind, parts in KINDS:
        masks = cell_masks(make_keys(7, 1, torch.arange(5)), (50, 61), 4, parts=parts, kind=kind)
        found[kind] = hashlib.sha256(masks.numpy().tobytes()).hexdigest()[:16]
    assert found == {
        "split": "488751090ec548d2",
        "bernoulli": "1a6513f58ce13807",
        "checkerboard": "13679296c9a3c2e1",
    }


_LEVELS = """
import torch
from ssad_kernels import cell_masks, composite, make_keys, mask_images, refine_cells
from ssad_kernels.testing import make_images

keys, images = make_keys(1, 2, torch.arange(9)), make_images(9, 3, 61, 83, dtype=torch.float16)
found = []
for kind, parts in (("split", 3), ("bernoulli", 3), ("checkerboard", 2)):
    masks = cell_masks(keys, (61, 83), torch.arange(1, 10), parts=parts, kind=kind)
    masked = mask_images(images, masks)
    found += [masks, masked, *refine_cells(images[:, :1], masks, 5, threshold=0.5)]
    if kind != "bernoulli":
        found.append(composite(masked + images[:, None], masks, images))
torch.save(found, PATH)
"""


@pytest.mark.native
@pytest.mark.parametrize("level", ["avx2", "avx512"])
def test_any_instruction_set(level, at_level):
    for got, want in zip(at_level(_LEVELS, level), at_level(_LEVELS, "baseline"), strict=True):
        assert torch.equal(got, want)


# Images behind masks


@given(st.integers(0, 3), st.integers(1, 5), st.integers(1, 9), st.integers(1, 40), st.data())
def test_masked_images_are_products(n, parts, height, width, data):
    channels = data.draw(st.integers(1, 4))
    layout = data.draw(st.sampled_from(["contiguous", "channels_last", "strided", "transposed"]))
    images = make_images(n, channels, height, width, layout=layout)
    masks = make_cell_masks(n, parts, height, width)
    expected = images.numpy()[:, None] * masks.numpy()[:, :, None]
    assert np.array_equal(mask_images(images, masks).numpy(), expected)


def test_bytes_that_are_not_one_are_true():
    masks = make_cell_masks(2, 3, 9, 8)
    odd = (254 * masks.to(torch.uint8)).view(torch.bool)
    images = make_images(2, 3, 9, 8, dtype=torch.float32)
    assert torch.equal(mask_images(images, odd), mask_images(images, masks))
    outputs = mask_images(images, ~masks)
    assert torch.equal(composite(outputs, odd, images), composite(outputs, masks, images))
    for got, want in zip(
        refine_cells(images[:, :1], odd, 2, threshold=0.4),
        refine_cells(images[:, :1], masks, 2, threshold=0.4),
        strict=True,
    ):
        assert torch.equal(got.view(torch.uint8), want.view(torch.uint8))


# Composites


def composed(outputs: Any, masks: Any, images: Any) -> Any:
    """One pixel at a time."""
    out = images.copy()
    for n, y, x in np.ndindex(masks.shape[0], *masks.shape[2:]):
        passes = outputs[n, ~masks[n, :, y, x], :, y, x]
        if len(passes):
            out[n, :, y, x] = passes.mean(0)
    return out


@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 3), st.integers(0, 1 << 30))
def test_composites_of_any_masks(parts, width, channels, seed):
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.rand(2, parts, channels, 5, width, generator=generator, dtype=torch.float64)
    masks = torch.rand(2, parts, 5, width, generator=generator) < 0.6
    images = torch.rand(2, channels, 5, width, generator=generator, dtype=torch.float64)
    expected = composed(outputs.numpy(), masks.numpy(), images.numpy())
    assert np.allclose(composite(outputs, masks, images).numpy(), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_perfect_restoration_is_the_image_to_the_bit(dtype):
    images = torch.randn(3, 3, 128, 64).to(dtype)
    masks = cell_masks(keys_of(3), (128, 64), 4)
    seen = torch.full_like(images, float("nan"))  # what passes make of it does not matter
    outputs = torch.where(masks[:, :, None], seen[:, None], images[:, None])
    assert torch.equal(composite(outputs, masks, seen), images)


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_gradients(backend):
    masks = make_cell_masks(2, 3, 8, 3)
    images = torch.rand(2, 2, 8, 3, dtype=torch.float64, requires_grad=True)
    outputs = torch.rand(2, 3, 2, 8, 3, dtype=torch.float64, requires_grad=True)
    with use_backend(backend):
        for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
            assert check(lambda *given: composite(given[0], masks, given[1]), (outputs, images))
            assert check(lambda given: mask_images(given, masks), (images,))


def test_gradients_are_zero_where_nothing_was_hidden_and_do_not_spread_nan():
    masks = torch.tensor([[[[True, False, True]], [[True, True, False]]]])
    outputs = torch.full((1, 2, 1, 1, 3), float("nan"), requires_grad=True)
    images = torch.rand(1, 1, 1, 3, requires_grad=True)
    composite(outputs, masks, images).sum().backward()
    assert outputs.grad.flatten().tolist() == [0, 1, 0, 0, 0, 1]
    assert images.grad.flatten().tolist() == [1, 0, 0]


# Cells that are uncovered


def refined(scores: Any, masks: Any, cell: int, threshold: float, share: float | None) -> Any:
    """One cell at a time, its mean from exact sums."""
    out, hidden = masks.copy(), []
    for n, own in enumerate(scores[:, 0]):
        hidden.append(0)
        for y in range(0, own.shape[0], cell):
            for x in range(0, own.shape[1], cell):
                values = own[y : y + cell, x : x + cell].ravel().tolist()
                if share is None:
                    is_normal = math.fsum(values) / len(values) < threshold
                else:
                    is_normal = sum(value < threshold for value in values) > share * len(values)
                out[n, :, y : y + cell, x : x + cell] |= is_normal
                hidden[-1] += not out[n, :, y : y + cell, x : x + cell].all()
    return out, hidden


@given(
    st.integers(1, 20), st.integers(1, 20), st.integers(1, 22),
    st.one_of(st.none(), st.sampled_from([0.0, 0.5, 0.8, 1.0])), st.integers(0, 1 << 30),
)  # fmt: skip
def test_cells_that_look_normal_are_uncovered(height, width, cell, share, seed):
    generator = torch.Generator().manual_seed(seed)
    # Quarters, whose sums are exact.
    scores = torch.randint(-4, 5, (2, 1, height, width), generator=generator) / 4
    masks = torch.rand(2, 3, height, width, generator=generator) < 0.7
    found, hidden = refine_cells(scores, masks, cell, threshold=0.25, share=share)
    expected, count = refined(scores.numpy(), masks.numpy(), cell, 0.25, share)
    assert np.array_equal(found.numpy(), expected)
    assert hidden.tolist() == count


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_refined_masks_are_contiguous(backend):
    masks = make_cell_masks(2, 3, 5, 6).to(memory_format=torch.channels_last)
    with use_backend(backend):
        refined, _ = refine_cells(torch.rand(2, 1, 5, 6), masks, 2, threshold=0.5)
    assert refined.is_contiguous()


def test_the_released_rule():
    """Blocks of 8 on a grid of 16; more than 80 % of 64 pixels are at least 52."""
    scores = torch.zeros(1, 1, 128, 128)
    block = torch.zeros(64)
    for count in (51, 52):
        block[:count] = -0.98 / 255
        scores[0, 0, 8:16, 16 * count - 808 : 16 * count - 800] = block.reshape(8, 8)
    masks = torch.zeros(1, 3, 128, 128, dtype=torch.bool)
    found, hidden = refine_cells(scores, masks, 8, threshold=-0.96 / 255, share=0.8)
    expected = torch.zeros_like(masks)
    expected[..., 8:16, 24:32] = True
    assert torch.equal(found, expected)
    assert hidden.tolist() == [255]


@pytest.mark.parametrize("share", [None, 0.0, 0.9])
def test_what_is_not_a_number_is_not_normal(share):
    scores = torch.full((2, 1, 4, 4), float("nan"))
    masks = torch.zeros(2, 2, 4, 4, dtype=torch.bool)
    limit = torch.tensor([float("inf"), 1.0])
    assert not refine_cells(scores, masks, 2, threshold=limit, share=share)[0].any()
    nothing = refine_cells(torch.zeros(2, 1, 4, 4), masks, 2, threshold=limit * 0 / 0, share=share)
    assert not nothing[0].any()


def test_the_loop_of_the_paper_ends():
    """Each round uncovers cells until none is left; the host asks for the count alone."""
    scores = make_images(3, 1, 32, 32, dtype=torch.float32)
    masks = cell_masks(keys_of(3), 32, 4, parts=2, kind="checkerboard")
    counts = []
    for threshold in (0.4, 0.5, 0.8):
        masks, hidden = refine_cells(scores, masks, 4, threshold=threshold)
        counts.append(hidden.tolist())
    assert counts[0] > counts[1] > counts[2]
    assert counts[2] == [0, 0, 0]
