# SPDX-License-Identifier: Apache-2.0
"""Decoding listed samples into tensors."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("PIL")

from fake_data import make_image, make_mvtec, save
from PIL import Image

from ssad_models.data import cache
from ssad_models.data.images import DataError, read_image, resize
from ssad_models.data.sources import find
from ssad_models.data.split import Sample


def test_decoded_splits(tmp_path: Path) -> None:
    (source,) = find(make_mvtec(tmp_path, ["c"], size=32, train=5, test=2))
    done: list[int] = []
    train = source.train(16, 3, done.append)
    assert sum(done) == 5
    assert len(train) == 5
    assert train.images.shape == (5, 3, 16, 16)
    assert train.images.is_shared()
    expected = resize(read_image(tmp_path / "c/train/good/002.png", 3), 16)
    assert torch.equal(train.images[2], expected)
    assert train.masks is None
    assert not train.labels.any()
    assert train.sizes.tolist() == [[32, 32]] * 5
    assert train.groups.tolist() == list(range(5))
    assert train.strengths.isnan().all()

    test = source.test(16, 1)
    assert test is not None
    assert test.images.shape == (6, 1, 16, 16)
    assert test.labels.tolist() == [True] * 2 + [False] * 2 + [True] * 2
    assert test.kinds == ("broken", "broken", "good", "good", "hole", "hole")
    assert test.masks is not None
    assert test.masks.is_shared()
    assert test.masks.flatten(1).any(1).tolist() == test.labels.tolist()


def test_files_of_any_size(tmp_path: Path) -> None:
    paths = [
        save(tmp_path / f"{i}.png", make_image(i, 32)[0][: 8 + i, : 9 + 2 * i]) for i in range(4)
    ]
    split = cache.decode([Sample(path, path.name) for path in paths], 8, 3)
    assert split.sizes.tolist() == [[8 + i, 9 + 2 * i] for i in range(4)]


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    (source,) = find(make_mvtec(tmp_path, ["c"], size=32, train=1, test=2))
    save(tmp_path / "c/ground_truth/hole/001_mask.png", make_image(0, 32, "x")[1][:20])
    with pytest.raises(
        DataError,
        match=r"001_mask\.png: .* hole/001\.png, 32 x 32, got 32 x 20".replace(" hole", r".*hole"),
    ):
        source.test(16, 3)


def test_the_first_damaged_file_is_named(tmp_path: Path) -> None:
    (source,) = find(make_mvtec(tmp_path, ["c"], size=32, train=30, test=1))
    for i in (17, 9, 25):
        (tmp_path / f"c/train/good/{i:03}.png").write_bytes(b"broken")
    done: list[int] = []
    with pytest.raises(DataError, match=r"good/009\.png: must be an image that can be read"):
        source.train(16, 3, done.append)
    assert sum(done) == 9


def test_a_file_that_has_gone(tmp_path: Path) -> None:
    (source,) = find(make_mvtec(tmp_path, ["c"], size=32, train=2, test=1))
    (tmp_path / "c/train/good/001.png").unlink()
    with pytest.raises(DataError, match=r"001\.png: no such file"):
        source.train(16, 3)


def test_too_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = find(make_mvtec(tmp_path, ["c"], size=16, train=3, test=1))
    assert cache.cache_bytes(3, 16, 3) == 3 * 3 * 16 * 16
    assert cache.cache_bytes(3, 16, 3, masks=True) == 3 * 4 * 16 * 16
    with pytest.raises(DataError, match=r"3 images of 1000000 x 1000000 .* take .* GiB"):
        source.train(1_000_000, 3)

    # Too little shared memory, as in a container, is no reason to give up.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2000))
    assert not source.train(16, 3).images.is_shared()


def test_free_memory_is_known() -> None:
    assert 1 << 20 < cache._free_memory() < 1 << 50


@pytest.mark.parametrize("names", cache._CGROUPS)
def test_a_container_has_less_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    limit, used, parts, cached = names
    monkeypatch.setattr(cache, "_CGROUP", tmp_path)
    plain = cache._free_memory()
    for name, content in (
        (limit, "1000000\n"),
        (used, "300000\n"),
        (parts, f"anon 5\n{cached} 100000"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert cache._free_memory() == 800_000
    (tmp_path / used).write_text("3000000\n")
    assert cache._free_memory() == 0
    (tmp_path / limit).write_text("max\n")
    assert cache._free_memory() > plain // 2


@pytest.mark.parametrize(("brightest", "warned"), [(4095, True), (8191, True), (9000, False)])
def test_twelve_bits_in_files_of_sixteen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, brightest: int, warned: bool
) -> None:
    samples = []
    for i in range(3):
        pixels = np.zeros((16, 16), np.uint16)
        pixels[3, 3] = brightest if i == 1 else 100
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        samples.append(Sample(tmp_path / f"{i}.png", f"{i}.png"))
    images = cache.decode(samples, 8, 1).images
    assert images.max() <= 32  # resizing alone is no reason to warn
    level = round(brightest / 257)
    expected = f"0.png: no pixel of this and 2 more images is above {level} of 255"
    assert (expected in caplog.text) == warned
