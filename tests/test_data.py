# SPDX-License-Identifier: Apache-2.0
"""KeyedDataset and KeyedSampler."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    Sampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from ssad_kernels import EpochIndex, KeyedDataset, KeyedSampler, make_keys
from ssad_kernels.testing import make_images
from ssad_kernels.transforms import CutPaste, CutPaste3Way


class Items(Dataset[Any]):
    """A data set of whatever it is given."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def spy(image: Any, keys: Tensor) -> tuple[Any, list[list[int]]]:
    return image, keys.tolist()


def test_items_get_keys_of_seed_epoch_and_index():
    dataset = KeyedDataset(Items("a", "b", "c"), spy, seed=9)
    assert len(dataset) == 3
    assert dataset[EpochIndex(epoch=4, sample=2)] == ("c", [[9, 4, 2]])
    assert dataset[(4, 2)] == ("c", [[9, 4, 2]])
    assert dataset[1] == ("b", [[9, 0, 1]])


def test_the_rest_of_an_item_follows_the_result():
    dataset = KeyedDataset(Items(("a", 5, "x"), ["b", 6]), spy, seed=0)
    assert dataset[0] == ("a", [[0, 0, 0]], 5, "x")
    assert dataset[1] == ("b", [[0, 0, 1]], 6)
    alone = KeyedDataset(Items(("a", 5), "b"), lambda image, keys: image * 2, seed=0)
    assert alone[0] == ("aa", 5)
    assert alone[1] == "bb"


def test_items_equal_the_transform_with_keys():
    images = make_images(5, 3, 32, 32)
    dataset = KeyedDataset(TensorDataset(images, torch.arange(5)), CutPaste(), seed=3)
    image, mask, label = dataset[EpochIndex(7, 2)]
    expected = CutPaste()(images[2], make_keys(3, 7, 2))
    assert torch.equal(image, expected[0])
    assert torch.equal(mask, expected[1])
    assert label == 2


def test_epochs_count_up_with_every_pass():
    sampler = KeyedSampler([10, 20, 30])
    assert len(sampler) == 3
    for epoch in range(3):
        assert list(sampler) == [EpochIndex(epoch, index) for index in range(3)]


def test_set_epoch_sets_the_next_pass_as_lightning_does():
    """Lightning calls it before each pass; a resumed run starts where the other one ended."""
    sampler = KeyedSampler(Items(*range(4)), shuffle=True, seed=2)
    passes = [list(sampler) for _ in range(4)]
    lightning = KeyedSampler(Items(*range(4)), shuffle=True, seed=2)
    for epoch in range(4):
        lightning.set_epoch(epoch)
        assert list(lightning) == passes[epoch]
    resumed = KeyedSampler(Items(*range(4)), shuffle=True, seed=2)
    resumed.set_epoch(2)
    assert list(resumed) == passes[2]
    assert list(resumed) == passes[3]


def test_the_epoch_belongs_to_a_pass_from_its_start():
    sampler = KeyedSampler(range(3))
    first = iter(sampler)
    next(first)
    second = iter(sampler)
    assert next(second) == EpochIndex(1, 0)
    assert next(first) == EpochIndex(0, 1)


@pytest.mark.parametrize("seed", [0, 5, -1, (1 << 63) - 1])
def test_shuffle_depends_on_seed_and_epoch_alone(seed):
    def orders(seed: int) -> list[list[int]]:
        sampler = KeyedSampler(range(50), shuffle=True, seed=seed)
        return [[index for _, index in sampler] for _ in range(3)]

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = orders(seed)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert orders(seed) == first
    assert all(sorted(order) == list(range(50)) for order in first)
    assert len({tuple(order) for order in first}) == 3
    assert orders(seed - 7) != first


def test_wraps_a_distributed_sampler():
    seen: list[list[EpochIndex]] = []
    for rank in range(2):
        inner = DistributedSampler(Items(*range(10)), num_replicas=2, rank=rank, shuffle=True)
        sampler = KeyedSampler(inner)
        assert len(sampler) == 5
        sampler.set_epoch(3)
        seen.append(list(sampler))
        assert inner.epoch == 3
        assert {at.epoch for at in seen[rank]} == {3}
        following = list(sampler)
        assert inner.epoch == 4
        assert [at.sample for at in following] != [at.sample for at in seen[rank]]
    assert sorted(at.sample for part in seen for at in part) == list(range(10))


def test_wraps_samplers_that_repeat_or_choose():
    weighted = KeyedSampler(WeightedRandomSampler([0.0, 1.0, 0.0], num_samples=4))
    assert list(weighted) == [EpochIndex(0, 1)] * 4
    subset = KeyedSampler(SubsetRandomSampler([4, 7]))
    assert sorted(at.sample for at in subset) == [4, 7]
    assert len(subset) == 2


def test_wraps_samplers_of_tensors():
    class OfTensors(Sampler[Tensor]):
        def __len__(self) -> int:
            return 2

        def __iter__(self) -> Iterator[Tensor]:
            return iter(torch.tensor([3, 1]))

    assert list(KeyedSampler(OfTensors())) == [EpochIndex(0, 3), EpochIndex(0, 1)]


def test_in_a_data_loader():
    images = make_images(7, 3, 32, 32)
    dataset = KeyedDataset(TensorDataset(images, torch.arange(7)), CutPaste(), seed=1)
    loader = DataLoader(dataset, batch_size=3, sampler=KeyedSampler(dataset, shuffle=True))
    epochs = []
    for epoch in range(2):
        for batch, masks, labels in loader:
            expected = CutPaste()(images[labels], make_keys(1, epoch, labels))
            assert torch.equal(batch, expected[0])
            assert torch.equal(masks, expected[1])
            epochs.append(labels)
    assert len(epochs) == 6
    assert sorted(torch.cat(epochs[:3]).tolist()) == list(range(7))


def test_in_a_batch_sampler_and_pickled():
    sampler = KeyedSampler(range(5))
    assert list(BatchSampler(sampler, 2, drop_last=True)) == [
        [EpochIndex(0, 0), EpochIndex(0, 1)],
        [EpochIndex(0, 2), EpochIndex(0, 3)],
    ]
    assert next(iter(pickle.loads(pickle.dumps(sampler)))) == EpochIndex(1, 0)


def test_triplets_of_the_three_way_task_collate():
    images = make_images(4, 3, 48, 48)
    dataset = KeyedDataset(TensorDataset(images), CutPaste3Way(output="triplet"), seed=1)
    normal, cutpaste, scar = next(iter(DataLoader(dataset, batch_size=4)))
    expected, _ = CutPaste3Way()(images, make_keys(1, 0, torch.arange(4)))
    assert torch.equal(torch.cat([normal, cutpaste, scar]), expected)
