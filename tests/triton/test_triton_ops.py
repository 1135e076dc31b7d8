# SPDX-License-Identifier: Apache-2.0
"""Every operator with a Triton kernel, interpreted, against the reference."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import ssad_kernels as sk
from ssad_kernels.cutpaste_law import pack_law
from ssad_kernels.testing import (
    LAWS,
    make_cell_masks,
    make_images,
    make_spiral,
    samples,
    tolerance,
)

if os.environ.get("TRITON_INTERPRET") != "1":
    reason = "Triton kernels run on CPU tensors only with TRITON_INTERPRET=1"
    pytest.skip(reason, allow_module_level=True)
pytest.importorskip("triton")

OPS = (
    "alpha_blend_",
    "cell_masks",
    "composite",
    "connected_components",
    "count_above",
    "cut_paste_",
    "cut_paste_keyed_",
    "difference_label",
    "gms_loss",
    "gms_loss_backward",
    "gms_map",
    "mask_images",
    "median_filter",
    "nsa_regions",
    "object_mask",
    "perlin_noise",
    "philox",
    "receptive_field_upsample",
    "refine_cells",
    "sample_cut_paste",
    "sample_nsa",
    "ssim_map",
    "ssim_map_backward",
)
# Those whose last output is pixels, or made of them.
PIXELS = (
    "alpha_blend_",
    "composite",
    "cut_paste_",
    "cut_paste_keyed_",
    "difference_label",
    "gms_loss",
    "gms_loss_backward",
    "gms_map",
    "receptive_field_upsample",
    "ssim_map",
    "ssim_map_backward",
)


def run(op: str, backend: str, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """The outputs of an op on copies of its arguments, and the images that it wrote."""
    args = tuple(clone(value) if isinstance(value, Tensor) else value for value in args)
    # The interpreter computes with NumPy, which warns where infinity meets infinity.
    with sk.use_backend(backend), np.errstate(invalid="ignore"):
        outputs = getattr(torch.ops.ssad_kernels, op)(*args)
    outputs = outputs if isinstance(outputs, tuple | list) else (outputs,)
    return (*outputs, args[0]) if op.endswith("_") else tuple(outputs)


def clone(value: Tensor) -> Tensor:
    """A copy with the same strides, gaps included."""
    size = 1 + sum((n - 1) * s for n, s in zip(value.shape, value.stride(), strict=True))
    memory = value.as_strided((max(size, 0),), (1,)).clone() if value.numel() else value.clone()
    return memory.as_strided(value.shape, value.stride()) if value.numel() else memory


def check(op: str, args: tuple[Any, ...]) -> None:
    expected, found = run(op, "reference", args), run(op, "triton", args)
    assert len(expected) == len(found)
    for a, b in zip(expected, found, strict=True):
        assert a.dtype == b.dtype
        # Masks, status, integers and drawn parameters are equal; only pixels may differ.
        is_pixels = a is expected[-1] and op in PIXELS
        atol = tolerance(op, a.dtype) if is_pixels else 0.0
        if not torch.equal(a, b):
            torch.testing.assert_close(b.double(), a.double(), rtol=0.0, atol=atol, equal_nan=True)


@pytest.mark.parametrize(("op", "name"), [(op, name) for op in OPS for name in samples(op)])
def test_samples(op: str, name: str) -> None:
    args = samples(op)[name]
    if args[0].dtype == torch.bfloat16:
        pytest.skip("Triton's interpreter computes bfloat16 wrongly, without saying so")
    check(op, args)


def test_philox_needs_several_programs() -> None:
    keys = sk.make_keys(9, 1, torch.arange(131))
    check("philox", (keys, 40000, 17))


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_sample_cut_paste_needs_several_programs(law: sk.CutPasteLaw) -> None:
    keys = sk.make_keys(2, 7, torch.arange(300))
    check("sample_cut_paste", (keys, 40000, 31, 57, pack_law("test", law)))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_cut_paste_needs_several_tiles(dtype: torch.dtype, layout: str) -> None:
    images = make_images(3, 3, 61, 43, dtype=dtype, layout=layout)
    params = sk.CutPasteParams.of(
        [[3, 1, 55, 40], [-5, 2, 58, 30], [0, 0, 61, 43]],
        [[1, 2], [4, 8], [-20, -14]],
        source_index=torch.tensor([1, 2, 2]),
        angle=torch.tensor([0.0, 0.0, 30.0]),
        jitter=torch.tensor([[1.1, 0.8, 1.2, 0.1], [0.9, 1.2, 0.8, -0.2], [1.0, 0.7, 1.3, 0.5]]),
        order=torch.tensor([[2, 0, 1, 3], [1, 0, 1, 3], [3, 1, 2, 1]]),
    )
    check("cut_paste_", (images, *params))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_alpha_blend_needs_several_tiles(dtype: torch.dtype, layout: str) -> None:
    images = make_images(3, 3, 61, 43, dtype=dtype, layout=layout)
    source = make_images(3, 3, 50, 40, dtype=dtype, layout=layout, seed=1)
    mask = make_images(3, 1, 60, 40, seed=2)[:, 0]
    places = torch.tensor([[1, 2], [-9, 8], [30, -14]])
    sizes = torch.tensor([[60, 40], [55, 30], [31, 40]])
    box = torch.tensor([[0, 0, 50, 40], [5, 2, 40, 30], [9, 0, 31, 40]])
    alpha = torch.tensor([0.4, 1.0, 0.7], dtype=torch.float64)
    check("alpha_blend_", (images, source, mask, places, sizes, None, box, alpha, False))


@pytest.mark.parametrize(("kind", "parts"), [("split", 3), ("split", 5), ("bernoulli", 2)])
def test_masks_need_several_programs_and_chunks(
    kind: str, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    masking = pytest.importorskip("ssad_kernels.triton.masking")
    monkeypatch.setattr(masking, "_BLOCKS", 16)
    keys, cell = sk.make_keys(4, 2, torch.arange(3)), torch.tensor([1, 2, 7])
    check("cell_masks", (keys, 3, 31, 43, cell, parts, kind, 0.4))


@pytest.mark.parametrize("share", [None, 0.6])
def test_refining_needs_several_programs(share: float | None) -> None:
    masks = make_cell_masks(2, 3, 61, 43)
    scores = make_images(2, 1, 61, 43, dtype=torch.float32)
    limits = torch.tensor([0.4, 0.6], dtype=torch.float64)
    check("refine_cells", (scores, masks, torch.tensor([2, 5]), limits, share))
    expected = run("refine_cells", "reference", (scores, masks, limits.long() + 1, limits, share))
    found = run(
        "refine_cells", "triton", (scores, odd_bytes(masks), limits.long() + 1, limits, share)
    )
    for a, b in zip(expected, found, strict=True):
        assert torch.equal(a.view(torch.uint8), b.view(torch.uint8))


def test_a_cell_is_read_no_further_than_the_image() -> None:
    """In the square of this side the interpreter would count for hours, as would a GPU's lane."""
    scores = make_images(1, 1, 1, 3000, dtype=torch.float32)
    limits = torch.tensor([0.4], dtype=torch.float64)
    check(
        "refine_cells", (scores, make_cell_masks(1, 1, 1, 3000), limits.long() + 3000, limits, None)
    )


def far_apart(parts: Tensor, file: Path) -> Tensor:
    """A copy with steps of 2³⁰ from part to part, in a file with holes."""
    memory = torch.from_file(str(file), shared=True, size=5 << 30, dtype=parts.dtype)
    strides = 1, 1 << 30, *parts.stride()[2:]
    # Offsets that wrapped around would be in the holes of the first two steps.
    return memory.as_strided(parts.shape, strides, 2 << 30).copy_(parts)


def test_parts_are_further_apart_than_32_bits_count(tmp_path: Path) -> None:
    masks = make_cell_masks(1, 3, 4, 5)
    images = make_images(1, 2, 4, 5, dtype=torch.float32)
    outputs = make_images(3, 2, 4, 5, dtype=torch.float32, seed=1)[None]

    def results(backend: str, masks: Tensor, outputs: Tensor) -> list[Tensor]:
        with sk.use_backend(backend):
            refined = sk.refine_cells(images[:, :1], masks, 2, threshold=0.4)
            return [sk.mask_images(images, masks), sk.composite(outputs, masks, images), *refined]

    far = far_apart(masks.view(torch.uint8), tmp_path / "masks").view(torch.bool)
    found = results("triton", far, far_apart(outputs, tmp_path / "outputs"))
    torch.testing.assert_close(found, results("reference", masks, outputs), rtol=0, atol=1e-6)


def test_composites_need_several_tiles_and_take_any_byte() -> None:
    masks = make_cell_masks(2, 3, 61, 43)
    images = make_images(2, 3, 61, 43, dtype=torch.float32)
    outputs = make_images(6, 3, 61, 43, dtype=torch.float32, seed=1).view(2, 3, 3, 61, 43)
    check("mask_images", (images, masks))
    expected = run("composite", "reference", (outputs, masks, images))
    found = run("composite", "triton", (outputs, odd_bytes(masks), images))
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-6)


def odd_bytes(flags: Tensor) -> Tensor:
    """The same flags, whose true bytes are not 1."""
    return (254 * flags.to(torch.uint8)).view(torch.bool)


def long_masks(side: int) -> Tensor:
    """Components that wind through all tiles, that the last row joins, and that corners join."""
    comb = torch.zeros(side, side, dtype=torch.bool)
    comb[:, ::2] = True
    comb[-1] = True
    spiral, square = make_spiral(side), torch.ones(side, side, dtype=torch.bool)
    noise = make_images(1, 1, side, side)[0, 0] < 105
    masks = [spiral, spiral.flip(0), ~spiral, comb, comb.flip(0), noise, square.tril().triu()]
    return torch.stack([*masks, square, ~square])[:, None]


@pytest.mark.parametrize("layout", ["contiguous", "turned"])
def test_components_need_several_tiles(layout: str) -> None:
    masks = long_masks(31)
    masks = masks.mT if layout == "turned" else masks
    expected = run("connected_components", "reference", (masks,))
    found = run("connected_components", "triton", (odd_bytes(masks),))
    for a, b in zip(expected, found, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


def test_components_of_wide_rows_go_on_from_tile_to_tile() -> None:
    masks = make_images(1, 1, 3, 1300) < 190
    masks[..., 1, :] = True
    masks[..., 1, 700] = masks[..., 0, 600:800] = masks[..., 2, 600:800] = False
    check("connected_components", (masks,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("most", [None, 90, 1 << 40])
def test_counts_need_several_programs_and_chunks(
    most: int | None, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranking = pytest.importorskip("ssad_kernels.triton.ranking")
    monkeypatch.setattr(ranking, "_CHUNK", 600)
    values = make_images(1, 1, 1, 1900, dtype=torch.float32).flatten().to(dtype) - 0.5
    values[::97], values[::89], values[::83] = float("nan"), -0.0, -float("inf")
    scores, among, ignored = values[:700], values[500:1900], values[:1400] > 0.1
    check("count_above", (scores, among, None, most))
    expected = run("count_above", "reference", (scores, among, ignored, most))
    found = run("count_above", "triton", (scores, among, odd_bytes(ignored), most))
    assert torch.equal(found[0], expected[0])


def test_counts_tell_not_a_number_by_its_bits() -> None:
    bits = [0x7F800001, -1, 0x7FFFFFFF, -0x7FFFFF, 0x7F800000, -0x800000, -(1 << 31), 0, 1, -9]
    values = torch.tensor(bits, dtype=torch.int32).view(torch.float32)
    check("count_above", (values, values, None, None))
    check("count_above", (values, values, values.isnan(), 3))


def test_far_strides_are_copied_before_labels() -> None:
    """Offsets within a tile have 32 bits."""
    from ssad_kernels.triton.labels import _within_reach

    far = torch.empty_strided((1, 1, 2, 3), (1, 1, 1 << 26, 1), device="meta")
    assert _within_reach(far).stride() == (6, 6, 3, 1)
    wide = torch.empty_strided((2, 1, 2, 3), (1 << 31, 1, 3, 1), device="meta")
    assert _within_reach(wide).is_contiguous()
    near = torch.empty_strided((1, 1, 2, 3), (1, 1, 1 << 25, 1), device="meta")
    assert _within_reach(near) is near


@pytest.mark.parametrize(("op", "numbers"), [("gms_map", (2, 0.0026)), ("ssim_map", (5, 1.0))])
def test_similarity_of_what_is_not_finite(op: str, numbers: tuple[Any, ...]) -> None:
    images, references = (
        make_images(2, 3, 30, 41, dtype=torch.float32, seed=seed) for seed in (0, 1)
    )
    images[0, 1, 9, 11], references[0, 0, 0, 0] = float("nan"), float("-inf")
    check(op, (images, references, *numbers))


def test_planes_of_similarity_are_further_apart_than_32_bits_count(tmp_path: Path) -> None:
    """As those of a batch of 2³⁰ pixels are. The file has holes: hardly any of it is used."""
    ssim = pytest.importorskip("ssad_kernels.triton.ssim")
    tl = pytest.importorskip("triton.language")
    size, side = 1 << 30, 8
    memory = torch.from_file(str(tmp_path / "rows"), shared=True, size=11 * size)
    rows, planes = memory[4 * size :], memory[8 * size :]  # wrapped offsets would lie before them
    images, references = (
        make_images(1, 1, side, side, dtype=torch.float32, seed=s) for s in (0, 1)
    )
    taps, out = torch.tensor([0.2, 0.6, 0.2]), torch.empty_like(images)
    sides, options = (size, side, side, 1), (3, tl.float32, 128)
    strides = *images.stride(), *references.stride()
    ssim._pair_rows_kernel[(1,)](
        images, references, taps, rows, *sides, 1, *strides, 3, 1, *options[1:]
    )
    ssim._ssim_kernel[(1,)](rows, taps, out, *sides, *options)
    ssim._ssim_gradient_kernel[(1,)](rows, taps, torch.ones_like(out), planes, *sides, *options)
    assert all(rows[k * size :][: side * side].all() for k in range(4))
    assert all(planes[k * size :][: side * side].all() for k in range(3))
    sigma = (2 * math.log(3)) ** -0.5  # a tap of the middle is three times its neighbours'
    expected = run("ssim_map", "reference", (images, references, 3, sigma))
    torch.testing.assert_close(out, expected[0], rtol=0, atol=1e-5)
