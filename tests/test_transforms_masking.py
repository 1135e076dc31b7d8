# SPDX-License-Identifier: Apache-2.0
"""CellMasking: every kind of image, keys, replay, loaders."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset, default_collate

from ssad_kernels import KeyedDataset, KeyedSampler, cell_masks, composite, make_keys, mask_images
from ssad_kernels.random import STREAMS
from ssad_kernels.testing import make_images, same_bits
from ssad_kernels.transforms import CellMasking

KEYS = make_keys(3, 1, torch.arange(6))


def same(first: Any, second: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_triplets(channels: int, dtype: torch.dtype) -> None:
    images = make_images(6, channels, 32, 40, dtype=dtype)
    inputs, masks, target = CellMasking()(images, KEYS)
    assert target is images
    assert masks.shape == (6, 3, 1, 32, 40)
    assert masks.dtype == torch.bool
    assert inputs.dtype == dtype
    assert torch.equal(inputs, torch.where(masks, images[:, None], 0))
    assert torch.equal((~masks).sum(1), torch.ones(6, 1, 32, 40, dtype=torch.int64))


def test_the_mask_is_a_channel_of_the_input() -> None:
    images = make_images(6, 3, 32, 40, dtype=torch.float32)
    inputs, masks, _ = CellMasking()(images, KEYS)
    assert torch.cat([inputs, masks], 2).flatten(0, 1).shape == (18, 4, 32, 40)
    restored = inputs + torch.where(masks, 0, images[:, None])  # by a perfect network
    assert same_bits(composite(restored, masks[:, :, 0], images), images)


def test_all_sizes_of_cells_are_drawn_and_move_no_cell() -> None:
    transform = CellMasking((2, 5, 8))
    keys, images = make_keys(0, 0, torch.arange(600)), torch.empty(600, 1, 16, 16)
    cell, masks = transform.make_params(keys, images)
    counts = torch.stack([(cell == side).sum() for side in (2, 5, 8)])
    assert counts.sum() == 600
    assert float(((counts - 200) ** 2 / 200.0).sum()) < 18.4  # 1e-4, two degrees of freedom
    stream = STREAMS["cell_masking"]
    assert torch.equal(masks, cell_masks(keys, 16, cell, stream=stream))
    alone = CellMasking(5).make_params(keys, images)
    assert torch.equal(alone.masks[cell == 5], masks[cell == 5])


def test_a_cell_for_the_whole_batch() -> None:
    images = make_images(6, 3, 32, 40)
    transform = CellMasking()
    expected = transform(images, KEYS, cell=8)
    assert torch.equal(expected[1][:, :, 0], cell_masks(KEYS, (32, 40), 8))
    assert same(transform(images, KEYS, cell=torch.full((6,), 8)), expected)
    assert transform.make_params(KEYS, images, cell=8).cell.tolist() == [8] * 6


@pytest.mark.parametrize(
    "options",
    [{}, {"kind": "bernoulli", "hide": 0.4, "parts": 2}, {"kind": "checkerboard", "parts": 2}],
    ids=str,
)
def test_any_batch_any_layout_and_replay(options: dict[str, Any]) -> None:
    transform = CellMasking((2, 3, 4), **options)
    images = make_images(6, 3, 31, 40)
    expected = transform(images, KEYS)
    assert same(transform(images, params=transform.make_params(KEYS, images)), expected)
    for size in (1, 4):
        parts = [transform(i, k) for i, k in zip(images.split(size), KEYS.split(size), strict=True)]
        assert same(map(torch.cat, zip(*parts, strict=True)), expected)
    turned = images.to(memory_format=torch.channels_last)
    result = transform(turned, KEYS)
    assert same(result, expected)
    assert result[0].flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    for again in (copy.deepcopy(transform), pickle.loads(pickle.dumps(transform))):
        assert same(again(images, KEYS), expected)


def test_streams_are_apart_and_keys_may_be_left_out() -> None:
    images = make_images(6, 3, 32, 40)
    first, second = CellMasking()(images, KEYS), CellMasking(stream=1)(images, KEYS)
    assert not torch.equal(first[1], second[1])
    torch.manual_seed(4)
    drawn = CellMasking()(images)
    torch.manual_seed(4)
    assert same(CellMasking()(images), drawn)
    assert CellMasking()(images[:0])[0].shape == (0, 3, 3, 32, 40)


def test_one_image_and_numpy_and_tv_tensors() -> None:
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")
    images = make_images(6, 3, 32, 40)
    inputs, masks, _ = CellMasking()(images, KEYS)
    single = CellMasking()(images[2], KEYS[2])
    assert same(single, (inputs[2], masks[2], images[2]))
    array = images[2].permute(1, 2, 0).numpy()
    for given in (array, np.ascontiguousarray(array)):
        found = CellMasking()(given, KEYS[2])
        assert all(isinstance(part, np.ndarray) for part in found)
        assert [part.shape for part in found] == [(3, 32, 40, 3), (3, 32, 40, 1), (32, 40, 3)]
        assert np.array_equal(found[0], inputs[2].permute(0, 2, 3, 1).numpy())
        assert np.array_equal(found[1], masks[2].permute(0, 2, 3, 1).numpy())
        assert np.array_equal(found[2], array)
    kinds = tv_tensors.Image, tv_tensors.Mask, tv_tensors.Image
    for given, keys, expected in (
        (images, KEYS, (inputs, masks, images)),
        (images[2], KEYS[2], (inputs[2], masks[2], images[2])),
    ):
        wrapped = CellMasking()(tv_tensors.Image(given), keys)
        assert tuple(map(type, wrapped)) == kinds
        assert same(wrapped, expected)


def test_a_loader_makes_triplets() -> None:
    images = make_images(6, 3, 32, 40)
    dataset = KeyedDataset(TensorDataset(images, torch.arange(6)), CellMasking(), seed=3)
    loader = DataLoader(dataset, batch_size=6, sampler=KeyedSampler(dataset))
    inputs, masks, target, label = next(iter(loader))
    expected = CellMasking()(images, make_keys(3, 0, torch.arange(6)))
    assert same((inputs, masks, target), expected)
    assert label.tolist() == list(range(6))
    arrays = [CellMasking()(image.permute(1, 2, 0).numpy(), k) for image, k in zip(images, KEYS)]  # noqa: B905
    assert [tuple(part.shape) for part in default_collate(arrays)] == [
        (6, 3, 32, 40, 3),
        (6, 3, 32, 40, 1),
        (6, 32, 40, 3),
    ]


def test_gradients_reach_the_images() -> None:
    images = torch.rand(2, 3, 16, 16, requires_grad=True)
    CellMasking()(images, KEYS[:2])[0].sum().backward()
    assert torch.equal(images.grad, torch.full_like(images, 2.0))  # two of three parts see a pixel


def test_print() -> None:
    text = "CellMasking(cells=(2, 4, 8), parts=3, kind='split', hide=0.333333)"
    assert repr(CellMasking()) == text


def test_what_is_not_needed_is_not_there(largest_tensor: Any) -> None:
    """The largest tensor is the result: no masks of floats, no indices of pixels."""
    images = make_images(6, 3, 64, 64)
    with largest_tensor:
        inputs: Tensor = CellMasking()(images, KEYS)[0]
    assert largest_tensor.elements == inputs.numel()
    masks = CellMasking().make_params(KEYS, images).masks
    assert torch.equal(inputs, mask_images(images, masks))
