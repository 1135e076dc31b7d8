# SPDX-License-Identifier: Apache-2.0
"""Keys in data loaders: the same augmentation for any number of workers and any batch size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset, Sampler

from ssad_kernels._errors import wording
from ssad_kernels.random import make_keys


class EpochIndex(NamedTuple):
    """What `KeyedSampler` yields: which sample, and in which epoch it is drawn."""

    epoch: int
    sample: int


class KeyedDataset(Dataset[Any]):
    """A map-style data set whose transform gets a key made of (seed, epoch, index).

    Args:
        dataset: gives an image, or a tuple whose first element is one.
        transform: called as ``transform(image, keys)``.
        seed: of the run.

    An item is what the transform returns, followed by the rest of the data set's tuple if it is
    one. Indices that are plain integers count as epoch 0; take them from `KeyedSampler`.
    """

    def __init__(self, dataset: Dataset[Any], transform: Callable[..., Any], seed: int) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        if not isinstance(self.dataset, Sized):
            msg = wording("KeyedDataset", "dataset", "have a length", type(self.dataset).__name__)
            raise TypeError(msg)
        return len(self.dataset)

    def __getitem__(self, at: int | EpochIndex) -> Any:
        epoch, index = at if isinstance(at, tuple) else (0, at)
        item = self.dataset[index]
        image, rest = (item[0], tuple(item[1:])) if isinstance(item, (tuple, list)) else (item, ())
        result = self.transform(image, make_keys(self.seed, epoch, index))
        if not rest:
            return result
        return (*result, *rest) if isinstance(result, tuple) else (result, *rest)


class KeyedSampler(Sampler[EpochIndex]):
    """Yields (epoch, index), so that workers that live through all epochs know the epoch.

    Args:
        source: a data set with a length, which is visited once per epoch; or another sampler of
            indices, such as ``DistributedSampler`` or ``WeightedRandomSampler``.
        shuffle: visit a data set in an order that depends on ``seed`` and the epoch.
        seed: of that order.

    The epoch counts up by itself with every pass; `set_epoch` sets the next one, as Lightning and
    resumed runs do.

    Raises:
        ValueError: if ``shuffle`` is asked for with a sampler, which has an order of its own.
    """

    def __init__(
        self, source: Sized | Sampler[int], *, shuffle: bool = False, seed: int = 0
    ) -> None:
        if shuffle and isinstance(source, Sampler):
            raise ValueError(wording("KeyedSampler", "shuffle", "be False with a sampler", shuffle))
        self.source = source
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Make ``epoch`` the next pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.source)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[EpochIndex]:
        epoch = self.epoch
        self.epoch += 1
        if isinstance(self.source, Sampler):
            set_epoch = getattr(self.source, "set_epoch", None)
            if set_epoch is not None:
                set_epoch(epoch)
            return (EpochIndex(epoch, int(index)) for index in self.source)
        order = torch.arange(len(self), device="cpu")
        if self.shuffle:
            generator = torch.Generator("cpu").manual_seed((self.seed + epoch) & (1 << 63) - 1)
            order = torch.randperm(len(self), generator=generator, device="cpu")
        return (EpochIndex(epoch, index) for index in order.tolist())
