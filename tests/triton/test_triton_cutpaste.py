# SPDX-License-Identifier: Apache-2.0
"""What the Triton kernels of CutPaste promise beyond agreeing with the reference."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

import ssad_kernels as sk
from ssad_kernels import reference
from ssad_kernels.testing import LAYOUTS, make_images, outcomes, with_layout

if os.environ.get("TRITON_INTERPRET") != "1":
    reason = "Triton kernels run on CPU tensors only with TRITON_INTERPRET=1"
    pytest.skip(reason, allow_module_level=True)
triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")
kernels = pytest.importorskip("ssad_kernels.triton.cutpaste")
rotation = pytest.importorskip("ssad_kernels.triton.rotation").rotation


@pytest.fixture(autouse=True)
def _triton() -> Iterator[None]:
    with sk.use_backend("triton"):
        yield


def test_outcomes() -> None:
    params, expected = outcomes()
    images = make_images(len(expected), 3, 13, 11, dtype=torch.float32)
    before = images.clone()
    _, masks, status = sk.cut_paste_(images, params, return_status=True)
    known = expected >= 0
    assert torch.equal(status[known], expected[known])
    assert torch.equal(torch.where(masks, before, images), before)
    assert torch.equal(masks.flatten(1).any(1), (status == 0) | (status == 16))


def test_outputs_are_written_whole() -> None:
    images = make_images(2, 3, 30, 41)
    params = sk.CutPasteParams.of([[2, 3, 9, 8]] * 2, [[5, 30], [40, 0]])
    expected = sk.cut_paste(images, params, return_status=True)
    masks = torch.ones(2, 1, 30, 41, dtype=torch.bool)
    status = torch.full((2,), 77, dtype=torch.int8)
    kernels.launch(images, *params, masks, status)
    for a, b in zip(expected, (images, masks, status), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_unjittered_pixels_keep_their_bits(dtype: torch.dtype) -> None:
    values = [float("nan"), float("inf"), -float("inf"), -0.0, 0.0, 1e-7, -3.0, 7.25]
    images = torch.tensor(values, dtype=dtype).reshape(1, 1, 2, 4).repeat(2, 3, 2, 2)
    # What is neutral, unknown, or needs colours that one channel has not, is no step.
    params = sk.CutPasteParams.of(
        [[0, 0, 2, 8]] * 2,
        [[2, 0]] * 2,
        jitter=torch.tensor([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.5, 0.5]]),
        order=torch.tensor([[0, 1, 2, 3], [4, -1, 1 << 62, 0]]),
    )
    before = images.clone()
    sk.cut_paste_(images, params, strict=True)
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    assert torch.equal(images.view(bits), before.view(bits))

    grey, colourful = before[:, :1].clone(), params._replace(order=torch.tensor([[2, 3, 3, 2]] * 2))
    sk.cut_paste_(grey, colourful, strict=True)
    assert torch.equal(grey.view(bits), before[:, :1].contiguous().view(bits))


@pytest.mark.parametrize("channels", [2, 4])
def test_further_channels_are_pasted_as_they_are(channels: int) -> None:
    images = make_images(1, channels, 9, 10, dtype=torch.float32)
    jitter = torch.tensor([[1.4, 0.6, 1.3, 0.2]])
    params = sk.CutPasteParams.of([[0, 1, 4, 5]], [[4, 3]], jitter=jitter)
    pasted, _ = sk.cut_paste(images, params)
    assert torch.equal(pasted[:, -1, 4:8, 3:8], images[:, -1, 0:4, 1:6])
    assert not torch.equal(pasted[:, 0, 4:8, 3:8], images[:, 0, 0:4, 1:6])


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_pixels_do_not_depend_on_the_layout(layout: str) -> None:
    params, _ = outcomes()
    params = params.map(lambda rows: rows[:8])
    images = make_images(8, 3, 13, 11, dtype=torch.float32)
    expected, _ = sk.cut_paste(images, params)
    found = with_layout(images, layout)
    memory = found._base if found._base is not None else found
    untouched = memory.clone()
    sk.cut_paste_(found, params)
    assert torch.equal(found, expected)
    found.copy_(images)
    assert torch.equal(memory, untouched)  # nothing was written between the pixels


def test_pixels_do_not_depend_on_the_batch() -> None:
    params, _ = outcomes()
    own = torch.arange(24)
    params = params._replace(source_index=torch.where(params.source_index == own, own, 0))
    images = make_images(24, 3, 13, 11)
    together = sk.cut_paste(images, params, return_status=True)
    for i in (1, 5, 7, 22):
        alone = params.map(lambda rows, i=i: rows[i : i + 1])
        alone = alone._replace(source_index=torch.tensor([0]))
        found = sk.cut_paste(images[i : i + 1], alone, return_status=True)
        for a, b in zip(together, found, strict=True):
            assert torch.equal(a[i : i + 1], b)


def test_patches_show_the_images_as_they_were() -> None:
    images = make_images(4, 3, 8, 9)
    ring = (torch.arange(4) + 1) % 4
    params = sk.CutPasteParams.of([[0, 0, 8, 9]] * 4, [[0, 0]] * 4, source_index=ring)
    pasted, masks = sk.cut_paste(images, params, strict=True)
    assert torch.equal(pasted, images[ring])
    assert masks.all()


@pytest.mark.parametrize("size", [(8, 8), (6, 9)])
@pytest.mark.parametrize("is_own", [True, False])
def test_patches_of_turned_and_shifted_images(size: tuple[int, int], is_own: bool) -> None:
    """Whole ones over their own source, across seams, which must be copied before."""
    n = 8
    images = make_images(n, 3, *size, layout="channels_last")
    source = torch.arange(n) if is_own else (torch.arange(n) + 1) % n
    turns = torch.arange(n)
    shift = torch.stack([torch.arange(n) - 3, torch.arange(n) * 5], dim=1)
    # As large as the image on either side: what the turned image has not is clipped.
    params = sk.CutPasteParams.of(
        [[0, 0, *size]] * n, [[0, 0]] * n, source_index=source, turns=turns, shift=shift
    )
    pasted, masks = sk.cut_paste(images, params, strict=True)
    for i in range(n):
        turned = torch.rot90(images[source[i]], i, (1, 2))
        moved = torch.roll(turned, shift[i].tolist(), (1, 2))[:, : size[0], : size[1]]
        _, h, w = moved.shape
        assert torch.equal(pasted[i, :, :h, :w], moved)
        assert masks[i, :, :h, :w].all()
        assert int(masks[i].sum()) == h * w


@pytest.mark.parametrize("alone", ["turns", "shift"])
def test_a_turn_or_a_shift_alone(alone: str) -> None:
    images = make_images(2, 3, 40, 40)
    rows = {"turns": torch.tensor([1, 3]), "shift": torch.tensor([[20, 0], [0, 20]])}
    neither = {"turns": torch.zeros(2).long(), "shift": torch.zeros(2, 2).long()}
    found = []
    for moves in ({alone: rows[alone]}, {**neither, alone: rows[alone]}):
        params = sk.CutPasteParams.of([[13, 5, 20, 9]] * 2, [[5, 6], [18, 0]], **moves)
        found.append(sk.cut_paste(images, params, strict=True))
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


@triton.jit
def _rotate_kernel(degrees, cos, sin, n, block: tl.constexpr):
    at = tl.program_id(0) * block + tl.arange(0, block)
    c, s = rotation(tl.load(degrees + at, mask=at < n, other=0.0))
    tl.store(cos + at, c, mask=at < n)
    tl.store(sin + at, s, mask=at < n)


def test_rotation_has_the_integers_of_the_reference() -> None:
    bits = torch.randint(-(1 << 31), (1 << 31) - 1, (100_000,), dtype=torch.int64)
    degrees = bits.to(torch.int32).view(torch.float32)
    turns = torch.arange(-1_000, 1_000) * 45.0
    special = torch.tensor([-0.0, 1e-40, -1e-40, 3.4028235e38, -3.4028235e38, 2.0**60])
    degrees = torch.cat([degrees, special, turns, torch.nextafter(turns, turns + 1)])
    degrees = degrees[degrees.isfinite()]
    cos, sin = torch.empty_like(degrees, dtype=torch.int64), degrees.long()
    grid = (triton.cdiv(len(degrees), 4096),)
    _rotate_kernel[grid](degrees, cos, sin, len(degrees), 4096, enable_fp_fusion=False)
    expected_cos, expected_sin = reference.cutpaste.rotation(degrees)
    assert torch.equal(cos, expected_cos)
    assert torch.equal(sin, expected_sin)
