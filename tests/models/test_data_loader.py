# SPDX-License-Identifier: Apache-2.0
"""Training batches: their order, their keys, and the threads that make them."""

from __future__ import annotations

import itertools
import platform
import resource
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("lightning")

import lightning

from ssad_kernels import make_keys
from ssad_kernels.transforms import CutPaste3Way
from ssad_models.data import loader as loader_module
from ssad_models.data.loader import Batches, TrainingLoader, training_loader

IMAGES = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 3, 8, 8).contiguous()


def keep(images: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return images, keys


def loader(workers: int = 0, batch_size: int = 4, steps: int = 3, seed: int = 5) -> TrainingLoader:
    return training_loader(
        IMAGES, keep, batch_size=batch_size, steps_per_epoch=steps, seed=seed, workers=workers
    )


@given(
    count=st.integers(1, 30),
    batch_size=st.integers(1, 40),
    steps=st.integers(1, 6),
    seed=st.integers(-(1 << 63), (1 << 64) - 1),
)
def test_every_sample_comes_once_a_pass(count: int, batch_size: int, steps: int, seed: int) -> None:
    batches = Batches(count, batch_size, steps, seed)
    assert len(batches) == steps
    entries = [entry for _ in range(3) for batch in batches for entry in batch]
    assert len(entries) == 3 * steps * batch_size
    for number, part in itertools.groupby(entries, key=lambda entry: entry.epoch):
        samples = [entry.sample for entry in part]
        assert len(set(samples)) == len(samples)
        last = number == entries[-1].epoch
        assert last or sorted(samples) == list(range(count))
    seen = Counter(entry.sample for entry in entries)
    assert max(seen.values()) - min(seen[sample] for sample in range(count)) <= 1


def test_an_epoch_depends_on_seed_and_number_alone() -> None:
    first, second = Batches(10, 4, 3, seed=1), Batches(10, 4, 3, seed=1)
    epochs = [list(first) for _ in range(3)]
    second.set_epoch(2)
    assert list(second) == epochs[2]
    assert epochs[0] != epochs[1]
    assert list(Batches(10, 4, 3, seed=2)) != epochs[0]


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_the_batches(monkeypatch: pytest.MonkeyPatch, world: int) -> None:
    whole = list(Batches(10, 8, 3, seed=0))
    parts = []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: world)
    for rank in range(world):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        parts.append(list(Batches(10, 8, 3, seed=0)))
    for step, batch in enumerate(whole):
        assert [part[step] for part in parts] == [batch[rank::world] for rank in range(world)]
    with pytest.raises(ValueError, match=f"multiple of the {world} processes, got 9"):
        list(Batches(10, 9, 3, seed=0))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_and_keys(workers: int) -> None:
    batches = list(loader(workers))
    order = list(Batches(10, 4, 3, seed=5))
    assert len(batches) == len(loader(workers)) == 3
    for (images, keys), entries in zip(batches, order, strict=True):
        assert images[:, 0, 0, 0].tolist() == [entry.sample for entry in entries]
        assert keys.tolist() == [[5, entry.epoch, entry.sample] for entry in entries]


def test_keys_never_repeat() -> None:
    endless = loader(batch_size=25, steps=2)
    rows = [tuple(row) for _ in range(4) for _, keys in endless for row in keys.tolist()]
    assert len(set(rows)) == len(rows) == 200


def test_workers_do_not_change_augmented_batches() -> None:
    images = torch.randint(0, 256, (6, 3, 64, 64), dtype=torch.uint8)

    def epochs(workers: int) -> list[torch.Tensor]:
        batches = training_loader(
            images, CutPaste3Way(), batch_size=4, steps_per_epoch=3, seed=1, workers=workers
        )
        return [tensor for _ in range(2) for batch in batches for tensor in batch]

    for one, other in zip(epochs(0), epochs(3), strict=True):
        assert torch.equal(one, other)
    expected = CutPaste3Way()(images, make_keys(1, 0, torch.arange(6)))[0]
    first = torch.cat(epochs(2)[0:4:2])
    assert {tuple(row) for row in expected.flatten(1).tolist()} <= {
        tuple(row) for row in first.flatten(1).tolist()
    }


def test_a_gathered_batch_is_a_copy() -> None:
    before = IMAGES.clone()

    def spoil(images: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (images.zero_(),)

    list(training_loader(IMAGES, spoil, batch_size=4, steps_per_epoch=3, seed=0, workers=1))
    assert torch.equal(IMAGES, before)


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_take_the_place_of_a_copy(workers: int) -> None:
    def batches(images: torch.Tensor, rows: torch.Tensor | None) -> list[torch.Tensor]:
        found = training_loader(
            images, keep, batch_size=3, steps_per_epoch=5, seed=2, workers=workers, rows=rows
        )
        return [tensor for batch in found for tensor in batch]

    rows = torch.tensor([7, 2, 9, 4])
    for one, other in zip(batches(IMAGES, rows), batches(IMAGES[rows], None), strict=True):
        assert torch.equal(one, other)


def test_threads_are_single_and_leave_the_rest_alone() -> None:
    torch.set_num_threads(3)
    inside = []

    def look(images: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, ...]:
        inside.append((torch.get_num_threads(), threading.current_thread()))
        return (images,)

    list(training_loader(IMAGES, look, batch_size=4, steps_per_epoch=8, seed=0, workers=2))
    assert {threads for threads, _ in inside} == {1}
    assert torch.get_num_threads() == 3
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == 3
    assert not any(thread.is_alive() for _, thread in inside)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to")
def test_memory_of_batches_is_used_again(run_python: Callable[..., str]) -> None:
    code = """
import resource, torch
from ssad_models.data.loader import training_loader
images = torch.ones(4, 3, 1 << 10, 1 << 10, dtype=torch.uint8)
batches = training_loader(
    images, lambda images, keys: (images,), batch_size=4, steps_per_epoch=150, seed=0, workers=1
)
for _ in batches:
    pass
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in batches:
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    pages = 150 * (12 << 20) / resource.getpagesize()
    # As many new ones as are in hand at once: up to ten, whoever is quicker.
    assert int(run_python(code)) < 0.2 * pages


def test_it_works_ahead_but_not_far() -> None:
    made = []

    def count(images: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, ...]:
        made.append(len(made))
        return (images,)

    batches = iter(
        training_loader(IMAGES, count, batch_size=4, steps_per_epoch=50, seed=0, workers=2)
    )
    next(batches)
    batches.close()  # type: ignore[attr-defined]  # a generator
    assert len(made) <= 5
    assert not any(t.name.startswith("ThreadPoolExecutor") for t in threading.enumerate())


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_arrives(workers: int) -> None:
    def fail(images: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, ...]:
        raise RuntimeError("broken")  # noqa: EM101

    batches = training_loader(
        IMAGES, fail, batch_size=4, steps_per_epoch=3, seed=0, workers=workers
    )
    with pytest.raises(RuntimeError, match="broken"):
        next(iter(batches))


def test_errors() -> None:
    for arguments, match in (
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"steps": 0}, "`steps` must be at least 1, got 0"),
        ({"workers": -1}, "`workers` must be at least 0, got -1"),
    ):
        with pytest.raises(ValueError, match=match):
            loader(**arguments)
    with pytest.raises(ValueError, match="`count` must be at least 1, got 0"):
        Batches(0, 1, 1, 0)


class Recorder(lightning.LightningModule):
    """Trains nothing and keeps the keys."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.keys: list[list[list[int]]] = []

    def training_step(
        self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int
    ) -> torch.Tensor:
        self.keys.append(batch[1].tolist())
        return self.weight * 1.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_lightning_sets_the_epoch(tmp_path: Path) -> None:
    def fit(epochs: int, checkpoint: str | None = None) -> Recorder:
        module = Recorder()
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            logger=False,
            default_root_dir=tmp_path,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(module, loader(workers=1), ckpt_path=checkpoint, weights_only=True)
        if checkpoint is None:
            trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return module

    endless = loader()
    whole = fit(3).keys
    assert whole == [keys.tolist() for _ in range(3) for _, keys in endless]
    assert fit(1).keys == whole[:3]
    assert fit(3, str(tmp_path / "1.ckpt")).keys == whole[3:]


@given(count=st.integers(1, 30), batch_size=st.integers(1, 40))
def test_an_epoch_can_be_one_pass(count: int, batch_size: int) -> None:
    batches = Batches(count, batch_size, None, 3)
    assert len(batches) == -(-count // batch_size)
    for number in range(3):
        found = list(batches)
        assert [len(batch) for batch in found[:-1]] == [batch_size] * (len(found) - 1)
        entries = [entry for batch in found for entry in batch]
        assert {entry.epoch for entry in entries} == {number}
        assert sorted(entry.sample for entry in entries) == list(range(count))
    resumed = Batches(count, batch_size, None, 3, first_epoch=2)
    assert list(resumed) == found


def test_what_is_left_of_a_pass_is_dealt_out_among_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = list(Batches(10, 8, None, 3))
    shares = []
    for rank in range(4):
        monkeypatch.setattr(loader_module, "_place", lambda rank=rank: (rank, 4))
        shares.append(list(Batches(10, 8, None, 3)))
    assert [[len(batch) for batch in share] for share in shares] == [[2, 1]] * 4
    last = [share[1][0] for share in shares]
    assert last == [*alone[1], *alone[0][:2]]
