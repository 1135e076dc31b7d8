# SPDX-License-Identifier: Apache-2.0
"""Augmented batches from images in memory, made by worker threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import numpy as np
import torch
from torch.utils.data import Sampler

from ssad_kernels import EpochIndex, make_keys
from ssad_models.data.threads import reuse_freed_memory, worker_threads

Synthesize = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]]
"""(N, C, S, S) uint8 images and (N, 3) int64 keys -> the tensors of a training batch."""

_AHEAD = 2  # batches per worker that are made before they are asked for


class Batches(Sampler[list[EpochIndex]]):
    """Batches of (pass, sample), a function of the seed and the epoch alone.

    All samples in random order, then all in another order, and so on without end: that sequence is
    cut into batches, and these into epochs of `steps` batches. So a pass may end in mid-batch and
    an epoch may hold many passes or part of one, but every sample comes equally often, and a sample
    never comes twice with the same pass, of which keys are made.

    With `steps` None an epoch is one pass, and its last batch is what is left.

    Among several processes (torch.distributed) each takes every world-th entry of every batch, so
    the union of their batches is the batch of a single process; the last batch of a pass is filled
    up by its first samples until it can be dealt out. Leave the sampler as it is then:
    `Trainer(use_distributed_sampler=False)`.

    Args:
        count: Number of samples.
        batch_size: Entries of a batch, over all processes.
        steps: Batches of an epoch; None for one pass.
        seed: Of the order.
        first_epoch: What a resumed run begins with; Lightning counts its epochs from 0 again.
    """

    def __init__(
        self, count: int, batch_size: int, steps: int | None, seed: int, first_epoch: int = 0
    ) -> None:
        self.whole_passes = steps is None
        if steps is None:
            steps = -(-count // max(1, batch_size))
        for name, value in (("count", count), ("batch_size", batch_size), ("steps", steps)):
            if value < 1:
                msg = f"Batches: `{name}` must be at least 1, got {value}"
                raise ValueError(msg)
        self.count, self.batch_size, self.steps = count, batch_size, steps
        self.seed = seed % (1 << 64)
        self.epoch = self.first_epoch = first_epoch

    def set_epoch(self, epoch: int) -> None:
        """Make `first_epoch + epoch` the next one. Lightning calls this; else epochs count up."""
        self.epoch = self.first_epoch + epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[EpochIndex]]:
        rank, world = _place()
        if self.batch_size % world:
            msg = (
                f"Batches: `batch_size` must be a multiple of the {world} processes, "
                f"got {self.batch_size}"
            )
            raise ValueError(msg)
        length = self.count if self.whole_passes else self.steps * self.batch_size
        start = self.epoch * length
        self.epoch += 1
        return self._cut(start, start + length, rank, world)

    def _cut(self, start: int, end: int, rank: int, world: int) -> Iterator[list[EpochIndex]]:
        current, order = -1, np.empty(0, np.int64)
        for first in range(start, end, self.batch_size):
            length = min(self.batch_size, end - first)
            batch = []
            for offset in range(rank, -(-length // world) * world, world):
                position = first + offset if offset < length else start + offset - length
                wanted, slot = divmod(position, self.count)
                if wanted != current:
                    current = wanted
                    order = np.random.default_rng((self.seed, current)).permutation(self.count)
                batch.append(EpochIndex(current, int(order[slot])))
            yield batch


def _place() -> tuple[int, int]:
    """The rank of this process, and how many there are."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class TrainingLoader:
    """Makes batches in threads, a few ahead of their use, in the order of `sampler`.

    Threads, not processes: kernels let go of the interpreter lock, and what a thread makes is here
    already, where a process must copy it into shared memory, which costs more than the synthesis.

    Attributes:
        sampler: Gives what `make` is called with. Lightning calls its `set_epoch`.
    """

    def __init__(
        self,
        sampler: Batches,
        make: Callable[[list[EpochIndex]], tuple[torch.Tensor, ...]],
        workers: int,
    ) -> None:
        self.sampler, self.make, self.workers = sampler, make, workers

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        reuse_freed_memory()
        if self.workers == 0:
            yield from map(self.make, self.sampler)
            return
        ahead: deque[Future[tuple[torch.Tensor, ...]]] = deque()
        with worker_threads(self.workers) as pool:
            for batch in self.sampler:
                ahead.append(pool.submit(self.make, batch))
                if len(ahead) > _AHEAD * self.workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()


def training_loader(
    images: torch.Tensor,
    synthesize: Synthesize,
    *,
    batch_size: int,
    steps_per_epoch: int | None,
    seed: int,
    workers: int,
    rows: torch.Tensor | None = None,
    first_epoch: int = 0,
) -> TrainingLoader:
    """Load training batches, the same for any number of workers.

    Args:
        images: (N, C, S, S) uint8, such as `Split.images`.
        synthesize: Makes a training batch of gathered images, a copy that it may change, and their
            keys. It is called from several threads at once, each with one thread for torch.
        batch_size: Images per batch, over all processes, before augmentation.
        steps_per_epoch: Batches of an epoch, whatever N is; None for one pass, see `Batches`.
        seed: Of order and augmentation.
        workers: Number of threads; 0 to make each batch when it is asked for.
        rows: (K,) int64, which images to use, in place of a copy of them; by default all. Keys are
            made of the positions among them, 0..K-1.
        first_epoch: See `Batches`.

    Returns:
        A loader whose batches are what `synthesize` returns. Epochs are a function of (seed, epoch)
        and count up, or follow `sampler.set_epoch`, so that a run can be resumed.

    Raises:
        ValueError: If there is no image, or a number is too small.
    """
    if workers < 0:
        msg = f"training_loader: `workers` must be at least 0, got {workers}"
        raise ValueError(msg)

    def make(batch: list[EpochIndex]) -> tuple[torch.Tensor, ...]:
        passes, samples = torch.tensor(batch).unbind(1)
        keys = make_keys(seed, 0, samples)
        keys[:, 1] = passes
        # For uint8 this is seven times as fast as images[samples].
        wanted = samples if rows is None else rows[samples]
        return synthesize(images.index_select(0, wanted), keys)

    count = len(images if rows is None else rows)
    batches = Batches(count, batch_size, steps_per_epoch, seed, first_epoch)
    return TrainingLoader(batches, make, workers)
