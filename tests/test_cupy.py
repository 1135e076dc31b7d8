# SPDX-License-Identifier: Apache-2.0
"""CuPy arrays in and out of transforms, without CuPy and a GPU: a stand-in has its protocols."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from stand_in_cupy import Flipped, make_cupy, ndarray
from torch import Tensor

from ssad_kernels import make_keys
from ssad_kernels.testing import make_images
from ssad_kernels.transforms import (
    FPI,
    NSA,
    Confetti,
    CutPaste,
    CutPaste3Way,
    CutPasteScar,
    Rotation,
)

STREAM = 0x5000
KEYS = make_keys(4, 0, torch.arange(3))


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Puts the stand-in in CuPy's place; the streams that torch is told to use."""
    entered: list[Any] = []

    @contextlib.contextmanager
    def stream(value: Any) -> Iterator[None]:
        entered.append(value)
        yield
        entered.append("left")

    monkeypatch.setitem(sys.modules, "cupy", make_cupy(STREAM))
    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda address, device: (address, device))
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: ("default", device))
    monkeypatch.setattr(torch.cuda, "stream", stream)
    return entered


def images(channels: int = 3) -> Tensor:
    return make_images(3, channels, 40, 36)


def check(results: tuple[Any, ...], expected: tuple[Tensor, ...]) -> None:
    assert len(results) == len(expected)
    for found, wanted in zip(results, expected, strict=True):
        assert type(found) is ndarray
        assert torch.equal(found.tensor, wanted)


@pytest.mark.parametrize(
    "transform",
    [
        CutPaste(return_status=True),
        CutPasteScar(),
        CutPaste3Way(),
        CutPaste3Way(output="triplet"),
        Confetti(),
        NSA(return_status=True),
        FPI(),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_batches_come_back_in_kind_on_the_stream_of_cupy(transform, streams):
    results = transform(ndarray(images()), ndarray(KEYS))
    assert streams == [(STREAM, 1), "left"]
    check(results, transform(images(), KEYS))
    assert len(streams) == 2  # tensors are left on torch's stream


def test_orientations_of_a_batch(streams):
    square = make_images(2, 1, 20, 20)
    check(Rotation()(ndarray(square)), Rotation()(square))


@pytest.mark.parametrize("make", [CutPaste, lambda: NSA(bank=images())])
def test_one_image_is_laid_out_as_in_numpy(make, streams):
    array = images()[1].permute(1, 2, 0).contiguous()
    found = make()(ndarray(array), [4, 0, 1])
    check(found, tuple(map(torch.from_numpy, make()(array.numpy(), [4, 0, 1]))))
    assert [result.shape for result in found] == [(40, 36, 3), (40, 36, 1)]


def test_nothing_is_copied(streams):
    batch = images()
    before = batch.clone()
    (changed, _) = CutPaste(inplace=True)(ndarray(batch), KEYS)
    assert changed.tensor.data_ptr() == batch.data_ptr()
    assert not torch.equal(batch, before)
    check((changed,), CutPaste()(before, KEYS)[:1])


def test_banks_and_masks_may_be_arrays_too(streams):
    masks = torch.zeros(3, 1, 40, 36, dtype=torch.bool)
    masks[:, :, 5:35, 4:30] = True
    given = {"bank": images(), "masks": masks, "bank_masks": masks}
    arrays = {name: ndarray(value) for name, value in given.items()}
    check(NSA()(ndarray(images()), KEYS, **arrays), NSA()(images(), KEYS, **given))
    check(NSA(bank=ndarray(images()))(ndarray(images()), KEYS), NSA(bank=images())(images(), KEYS))
    one = {name: value if "bank" in name else value[0] for name, value in given.items()}
    last = one | {"masks": masks[0].permute(1, 2, 0)}
    arrays = {name: ndarray(value) for name, value in last.items()}
    image, label = NSA()(ndarray(images()[0].permute(1, 2, 0)), KEYS[:1], **arrays)
    expected = NSA()(images()[0], KEYS[:1], **one)
    check((image, label), tuple(result.permute(1, 2, 0) for result in expected))


@pytest.mark.parametrize("address", [0, 1])
def test_the_default_stream_is_torchs_own(address, streams, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", make_cupy(address))
    CutPaste()(ndarray(images()), KEYS)
    assert streams == [("default", 1), "left"]


def test_arrays_that_run_backwards_are_copied(streams):
    check(CutPaste()(Flipped(images()), KEYS), CutPaste()(images().flip(0), KEYS))


def test_the_stream_is_left_where_a_transform_raises(streams):
    must = r"^CutPaste: `images` must have shape \(H, W, C\), grey ones too, or \(N, C, H, W\), got"
    with pytest.raises(ValueError, match=must):
        CutPaste()(ndarray(torch.zeros(4, 4)), KEYS)
    assert streams[0] == (STREAM, 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
def test_cupy_itself():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    batch = cupy.asarray(images().numpy())
    keys = KEYS.cuda()
    with cupy.cuda.Stream(non_blocking=True):
        changed, masks = CutPaste(inplace=True)(batch, keys)
        assert isinstance(changed, cupy.ndarray)
        assert changed.data.ptr == batch.data.ptr
        expected = CutPaste()(images().cuda(), keys)
        assert (cupy.asnumpy(changed) == expected[0].cpu().numpy()).all()
        assert (cupy.asnumpy(masks) == expected[1].cpu().numpy()).all()
