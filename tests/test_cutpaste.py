# SPDX-License-Identifier: Apache-2.0
"""cut_paste: the kernel against its reference, what it writes, and what it reports."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ssad_kernels import CutPasteParams, Status, cut_paste, cut_paste_, testing, use_backend
from ssad_kernels.testing import make_images, with_layout

DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)
FAR = [1 << 24, -(1 << 24), (1 << 24) - 1, 1 << 40, -(1 << 63), (1 << 63) - 1]

coordinates = st.one_of(st.integers(-4, 14), st.sampled_from(FAR))
sides = st.one_of(st.integers(1, 14), st.integers(-2, 0), st.sampled_from(FAR))
angles = st.one_of(
    st.sampled_from([0.0, 0.0, 90.0, -90.0, 180.0, 270.0, 45.0, 720.0, 3e38]),
    st.floats(-400.0, 400.0, width=32),
    st.sampled_from([float("nan"), float("inf")]),
)
factors = st.one_of(
    st.floats(0.875, 1.125, width=32), st.sampled_from([0.0, 1.0, 0.25, 4.0, -1.0, 64.0])
)
hues = st.one_of(
    st.floats(-0.125, 0.125, width=32), st.sampled_from([0.0, 0.5, -1.0, 1.0 / 3.0, 7.25, -1e5])
)
moves = st.one_of(st.integers(-14, 14), st.sampled_from(FAR))
orders = st.one_of(
    st.permutations([0, 1, 2, 3]), st.lists(st.integers(-1, 4), min_size=4, max_size=4)
)


@st.composite
def params_of(draw: st.DrawFn, n: int) -> CutPasteParams:
    """Parameters of every kind, most of which paste something."""
    calm = st.integers(0, 8)
    rows = []
    for _ in range(n):
        if draw(st.booleans()):
            box = [draw(calm), draw(calm), draw(st.integers(1, 9)), draw(st.integers(1, 9))]
            target = [draw(calm), draw(calm)]
        else:
            box = [draw(coordinates), draw(coordinates), draw(sides), draw(sides)]
            target = [draw(coordinates), draw(coordinates)]
        source = draw(st.one_of(st.integers(0, n - 1), st.sampled_from([-1, n, 1 << 62])))
        jitter = [draw(factors), draw(factors), draw(factors), draw(hues)]
        apply = draw(st.sampled_from([True, True, True, False]))
        rows.append((source, box, target, draw(angles), jitter, draw(orders), apply))
    columns = list(zip(*rows, strict=True)) if rows else [()] * 7
    tails = [(), (4,), (2,), (), (4,), (4,), ()]
    dtypes = [torch.int64] * 3 + [torch.float32] * 2 + [torch.int64, torch.bool]
    params = CutPasteParams(
        *(
            torch.tensor(column, dtype=dtype).reshape(n, *tail)
            for column, dtype, tail in zip(columns, dtypes, tails, strict=True)
        )
    )
    if draw(st.booleans()):
        turns = draw(st.lists(moves, min_size=n, max_size=n))
        params = params._replace(turns=torch.tensor(turns, dtype=torch.int64))
    if draw(st.booleans()):
        shift = draw(st.lists(moves, min_size=2 * n, max_size=2 * n))
        params = params._replace(shift=torch.tensor(shift, dtype=torch.int64).reshape(n, 2))
    return params


def allowance(params: CutPasteParams, dtype: torch.dtype) -> float:
    """The tolerance of the op, times how much extreme factors enlarge what was rounded before."""
    gain = params.jitter[:, :3].abs().nan_to_num(1.0, 1.0, 1.0).clamp(min=1.0).prod(1)
    steps = max(1.0, float(gain.max())) if len(gain) else 1.0
    # Rounding to the stored type comes last, and is not enlarged.
    return testing.tolerance("cut_paste_", dtype) + (steps - 1.0) * (
        1e-6 if dtype != torch.float64 else 1e-13
    ) * (255.0 if dtype == torch.uint8 else 1.0)


def on(device: str, params: CutPasteParams) -> CutPasteParams:
    return params.map(lambda rows: rows.to(device))


def bits(tensor: Tensor) -> Tensor:
    """The bytes, so that NaN equals NaN and -0 differs from 0."""
    return tensor.contiguous().view(torch.uint8)


@given(data=st.data())
def test_kernel_equals_reference(device, data):
    n = data.draw(st.integers(0, 3))
    images = make_images(
        n,
        data.draw(st.integers(1, 4)),
        data.draw(st.integers(1, 12)),
        data.draw(st.integers(1, 12)),
        dtype=data.draw(st.sampled_from(DTYPES)),
        layout=data.draw(st.sampled_from(testing.LAYOUTS)),
        seed=data.draw(st.integers(0, 9)),
        device=device,
    )
    params = on(device, data.draw(params_of(n)))
    actual = cut_paste(images, params, return_status=True)
    with use_backend("reference"):
        expected = cut_paste(images, params, return_status=True)
    assert torch.equal(actual[1], expected[1])
    assert torch.equal(actual[2], expected[2])
    torch.testing.assert_close(
        actual[0], expected[0], rtol=0, atol=allowance(params, images.dtype), equal_nan=True
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", testing.LAYOUTS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_outcome_in_every_dtype_and_layout(device, channels, layout, dtype):
    """The statuses are as listed; a sample that is not applied keeps its bits."""
    params, expected = testing.outcomes(device)
    n = len(expected)
    images = make_images(n, channels, 13, 11, dtype=dtype, layout=layout, device=device)
    pasted, masks, status = cut_paste(images, params, return_status=True)

    listed = expected >= 0
    assert torch.equal(status[listed], expected[listed])
    applied = (status == Status.APPLIED) | (status == Status.CLIPPED)
    assert torch.equal(masks.flatten(1).any(1), applied)
    assert torch.equal(bits(pasted[~applied]), bits(images[~applied]))
    with use_backend("reference"):
        reference = cut_paste(images, params, return_status=True)
    assert torch.equal(masks, reference[1])
    assert torch.equal(status, reference[2])
    torch.testing.assert_close(
        pasted, reference[0], rtol=0, atol=allowance(params, dtype), equal_nan=True
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", testing.LAYOUTS)
def test_in_place_writes_only_the_pixels_of_the_mask(layout, dtype):
    """Bitwise, in the images and in the memory around them, NaN payloads included."""
    params, expected = testing.outcomes()
    images = make_images(len(expected), 3, 13, 11, dtype=dtype, layout=layout)
    if dtype != torch.uint8:
        images[:, :, 0] = float("nan")
        images[:, :, 1] = -0.0
    memory = torch.empty(0, dtype=torch.uint8).set_(images.untyped_storage())
    memory_before = memory.clone()
    before = with_layout(images, "contiguous")
    address = images.data_ptr()

    result, masks = cut_paste_(images, params)

    assert result is images
    assert images.data_ptr() == address
    changed = (bits(images) != bits(before)).reshape(*images.shape, -1).any(-1)
    assert not (changed & ~masks).any()
    assert changed.any()
    images.copy_(before)
    assert torch.equal(memory, memory_before)


def test_functional_form_leaves_its_input_and_equals_the_in_place_form():
    params, expected = testing.outcomes()
    for layout in testing.LAYOUTS:
        images = make_images(len(expected), 3, 13, 11, layout=layout)
        before = images.clone()
        result = cut_paste(images, params, return_status=True)
        assert torch.equal(images, before)
        in_place = cut_paste_(before, params, return_status=True)
        assert all(torch.equal(a, b) for a, b in zip(result, in_place, strict=True))


def test_outputs():
    images = make_images(2, 3, 8, 9, layout="channels_last")
    params = CutPasteParams.of([[0, 0, 2, 2]] * 2, [[4, 4]] * 2)
    pasted, masks = cut_paste(images, params)
    assert pasted.is_contiguous(memory_format=torch.channels_last)
    assert masks.dtype == torch.bool
    assert masks.shape == (2, 1, 8, 9)
    status = cut_paste(images, params, return_status=True)[2]
    assert status.dtype == torch.int8
    assert status.tolist() == [Status.APPLIED, Status.APPLIED]


def test_patches_show_the_batch_as_it_was_before_the_call():
    """A chain of sources, each of which is itself written, and a patch over its own source."""
    n = 5
    images = make_images(n, 3, 8, 8)
    chain = torch.tensor([1, 2, 3, 4, 0])
    params = CutPasteParams.of([[0, 0, 8, 8]] * n, [[0, 0]] * n, source_index=chain)
    pasted, masks = cut_paste(images, params)
    assert torch.equal(pasted, images[chain])
    assert masks.all()

    shifted, _ = cut_paste(images, CutPasteParams.of([[0, 0, 7, 7]] * n, [[1, 1]] * n))
    assert torch.equal(shifted[:, :, 1:, 1:], images[:, :, :-1, :-1])


def test_pasting_twice_to_a_place_apart_changes_nothing_more():
    images = make_images(3, 3, 12, 12)
    params = CutPasteParams.of([[0, 0, 4, 5]] * 3, [[6, 6]] * 3)
    once, masks = cut_paste(images, params)
    twice, same_masks = cut_paste(once, params)
    assert torch.equal(once, twice)
    assert torch.equal(masks, same_masks)


@pytest.mark.parametrize("channels", [1, 2])
def test_images_without_colour_have_no_saturation_and_hue(channels):
    images = make_images(1, channels, 6, 6)
    jitter = torch.tensor([[1.0, 1.0, 0.0, 0.5]])
    pasted, _ = cut_paste(images, CutPasteParams.of([[0, 0, 6, 6]], [[0, 0]], jitter=jitter))
    assert torch.equal(pasted, images)


def test_a_further_channel_is_pasted_without_jitter():
    images = make_images(1, 4, 6, 6, dtype=torch.float32)
    jitter = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    params = CutPasteParams.of([[0, 0, 3, 3]], [[3, 3]], jitter=jitter)
    pasted, _ = cut_paste(images, params)
    assert torch.equal(pasted[0, 3, 3:, 3:], images[0, 3, :3, :3])
    colours, _ = cut_paste(images[:, :3].contiguous(), params)
    assert torch.equal(pasted[:, :3], colours)
    grey, _ = cut_paste(images[:, :2].contiguous(), params)
    assert torch.equal(grey[0, 1, 3:, 3:], images[0, 1, :3, :3])
    assert not torch.equal(grey[0, 0, 3:, 3:], images[0, 0, :3, :3])


def corrupted_batch(dtype: torch.dtype, channels: int) -> tuple[Tensor, CutPasteParams]:
    images = make_images(6, channels, 16, 14, dtype=dtype)
    params = CutPasteParams.of(
        [[1, 1, 5, 4]] * 6,
        [[5, 4]] * 6,
        angle=torch.tensor([0.0, 20.0, 0.0, -35.0, 0.0, 0.0]),
        jitter=torch.tensor([[1.1, 0.9, 1.2, 0.1]]).repeat(6, 1),
    )
    return images, params


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_nan_pixels_stay_in_their_sample(dtype, channels):
    images, params = corrupted_batch(dtype, channels)
    clean = cut_paste(images, params)
    for value in (float("nan"), float("inf")):
        dirty = images.clone()
        dirty[2] = value
        pasted, masks, status = cut_paste(dirty, params, return_status=True)
        others = torch.tensor([0, 1, 3, 4, 5])
        assert torch.equal(pasted[others], clean[0][others])
        assert torch.equal(masks, clean[1])
        assert (status == Status.APPLIED).all()
        kept = ~masks[2].expand(channels, -1, -1)
        assert torch.equal(bits(pasted[2][kept]), bits(dirty[2][kept]))


@pytest.mark.parametrize("field", ["angle", "jitter"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_parameter_that_is_not_finite_stays_in_its_sample(field, value):
    images, params = corrupted_batch(torch.float32, 3)
    clean = cut_paste(images, params)
    column = getattr(params, field).clone()
    column[2:3].reshape(-1)[-1] = value
    pasted, masks, status = cut_paste(
        images, params._replace(**{field: column}), return_status=True
    )
    others = torch.tensor([0, 1, 3, 4, 5])
    assert status.tolist() == [0, 0, Status.NOT_FINITE, 0, 0, 0]
    assert torch.equal(pasted[2], images[2])
    assert not masks[2].any()
    assert torch.equal(pasted[others], clean[0][others])
    assert torch.equal(masks[others], clean[1][others])


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"target": torch.tensor([[0, 0], [99, 0], [98, 0]])}, "2 of 3 samples not applied, first "
         "1: NO_PLACE"),
        ({"angle": torch.tensor([float("nan"), 0, 0])}, "1 of 3 samples not applied, first "
         "0: NOT_FINITE"),
        ({"source_box": torch.tensor([[0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 0, 2]])},
         "1 of 3 samples not applied, first 2: EMPTY"),
    ],
)  # fmt: skip
def test_strict_raises_after_the_batch(change: dict[str, Any], name: str):
    images = make_images(3, 1, 8, 8)
    params = CutPasteParams.of([[0, 0, 2, 2]] * 3, [[4, 4]] * 3)._replace(**change)
    lenient, _, status = cut_paste(images, params, return_status=True)
    with pytest.raises(RuntimeError, match=f"^cut_paste_: {re.escape(name)}$"):
        cut_paste_(images, params, strict=True)
    assert torch.equal(images, lenient)  # those that can be applied, are
    assert (status == Status.APPLIED).any()


def test_strict_accepts_applied_clipped_and_gated_samples():
    images = make_images(3, 1, 8, 8)
    params = CutPasteParams.of(
        [[0, 0, 2, 2], [-1, 0, 2, 2], [0, 0, 2, 2]],
        [[4, 4]] * 3,
        apply=torch.tensor([True, True, False]),
    )
    status = cut_paste(images, params, strict=True, return_status=True)[2]
    assert status.tolist() == [Status.APPLIED, Status.CLIPPED, Status.GATED]
    empty = CutPasteParams.of(torch.zeros(0, 4), torch.zeros(0, 2))
    pasted, masks, status = cut_paste(images[:0], empty, strict=True, return_status=True)
    assert pasted.shape == (0, 1, 8, 8)
    assert masks.shape == (0, 1, 8, 8)
    assert status.shape == (0,)


def test_params_of_fills_in_what_changes_nothing():
    params = CutPasteParams.of([[1, 2, 3, 4], [5, 6, 7, 8]], torch.tensor([[0, 1], [2, 3]]))
    assert params.source_index.tolist() == [0, 1]
    assert params.angle.tolist() == [0.0, 0.0]
    assert params.jitter.tolist() == [[1.0, 1.0, 1.0, 0.0]] * 2
    assert params.order.tolist() == [[0, 1, 2, 3]] * 2
    assert params.apply.tolist() == [True, True]
    assert (params.turns, params.shift) == (None, None)
    assert CutPasteParams.of([[1, 2, 3, 4]], [[0, 0]], device="meta").angle.device.type == "meta"
    moved = CutPasteParams.of([[1, 2, 3, 4]], [[0, 0]], turns=[3], shift=[[-1, 5]])
    assert (moved.turns.tolist(), moved.shift.tolist()) == ([3], [[-1, 5]])


def test_map_leaves_what_is_none():
    params = CutPasteParams.of([[1, 2, 3, 4]] * 3, [[0, 0]] * 3, turns=[0, 1, 2])
    last = params.map(lambda rows: rows[2:])
    assert last.source_index.tolist() == [2]
    assert last.turns.tolist() == [2]
    assert last.shift is None


@pytest.mark.native
def test_a_move_by_nothing_keeps_every_bit():
    params, _ = testing.outcomes()
    n = len(params.angle)
    still = params._replace(
        turns=torch.arange(n) * 4, shift=torch.arange(2 * n).reshape(n, 2) * 143
    )
    for dtype in DTYPES:
        images = make_images(n, 3, 13, 11, dtype=dtype)
        given = cut_paste(images, params, return_status=True)
        moved = cut_paste(images, still, return_status=True)
        assert all(torch.equal(bits(a), bits(b)) for a, b in zip(given, moved, strict=True))


def test_moved_patches_show_the_batch_as_it_was_before_the_call():
    """Whole images, turned, shifted and pasted over each other."""
    n = 5
    images = make_images(n, 3, 9, 9)
    chain = torch.tensor([1, 2, 3, 4, 0])
    for source in (chain, torch.arange(n)):
        params = CutPasteParams.of(
            [[0, 0, 9, 9]] * n,
            [[0, 0]] * n,
            source_index=source,
            turns=torch.arange(n),
            shift=[[i, 7 * i] for i in range(n)],
        )
        for op in (cut_paste, cut_paste_):
            pasted, masks = op(images.clone(), params)
            for i in range(n):
                turned = torch.rot90(images[source[i]], i, (1, 2))
                assert torch.equal(pasted[i], torch.roll(turned, (i, 7 * i), (1, 2)))
            assert masks.all()
