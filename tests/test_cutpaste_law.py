# SPDX-License-Identifier: Apache-2.0
"""The law of CutPaste: the same draws everywhere, and the distributions that the paper asks for."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ssad_kernels import (
    CutPasteLaw,
    CutPasteParams,
    Status,
    cut_paste,
    cut_paste_keyed_,
    make_keys,
    sample_cut_paste,
    testing,
    use_backend,
)

ALPHA = 1e-4
DRAWN = CutPasteParams._fields[:7]  # the others stay None
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)


def draws(law: CutPasteLaw, n: int = 20_000, size: tuple[int, int] = (256, 256)) -> CutPasteParams:
    return sample_cut_paste(make_keys(7, 3, torch.arange(n)), *size, law, stream=1)


def is_uniform(values: Tensor, low: float, high: float) -> bool:
    """Kolmogorov and Smirnov's test of continuous values, at `ALPHA`."""
    fraction = (values.double().sort().values - low) / (high - low)
    n = len(fraction)
    ranks = torch.arange(n, dtype=torch.float64)
    distance = torch.maximum((ranks + 1) / n - fraction, fraction - ranks / n).max()
    return float(distance) < math.sqrt(-math.log(ALPHA / 2) / 2) / math.sqrt(n)


def is_even(counts: Tensor) -> bool:
    """Whether each count is within 4.9 standard deviations of equal shares, `ALPHA` for 100."""
    n, k = int(counts.sum()), len(counts)
    deviation = math.sqrt(n * (1 / k) * (1 - 1 / k))
    return bool(((counts - n / k).abs() < 4.9 * deviation).all())


def ranges(low: float, high: float) -> st.SearchStrategy[tuple[float, float]]:
    values = st.floats(low, high)
    return st.tuples(values, values).map(lambda pair: (min(pair), max(pair)))


def sides(most: int) -> st.SearchStrategy[tuple[int, int]]:
    values = st.integers(1, most)
    return st.tuples(values, values).map(lambda pair: (min(pair), max(pair)))


laws = st.builds(
    CutPasteLaw,
    p=st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.0, 1.0)),
    scar=st.booleans(),
    area=ranges(0.0, 1.0),
    aspect=st.tuples(st.floats(1e-3, 1.0), st.floats(1.0, 1e3)),
    length=st.one_of(sides(300), sides((1 << 24) - 1)),
    width=sides(300),
    angle=st.one_of(st.just((0.0, 0.0)), ranges(-360.0, 360.0)),
    jitter=st.tuples(*[st.floats(0.0, 3.0)] * 4),
    other_source=st.booleans(),
    turn_p=st.just(0.0) | st.floats(0.0, 1.0),
    permute_p=st.just(0.0) | st.floats(0.0, 1.0),
    jitter_p=st.just(1.0) | st.floats(0.0, 1.0),
)


def check_draws(actual: CutPasteParams, expected: CutPasteParams, law: CutPasteLaw) -> None:
    """Equal in every bit, and with what only a hard law draws just if it is one."""
    for name, got, want in zip(CutPasteParams._fields, actual, expected, strict=True):
        if name in ("turns", "shift") and not law.is_hard:
            assert got is want is None, name
        else:
            assert got.dtype == want.dtype, name
            assert torch.equal(got, want), name


@given(
    rows=st.lists(st.tuples(INT64, INT64, INT64), max_size=6),
    height=st.one_of(st.integers(1, 600), st.integers(1, (1 << 24) - 1)),
    width=st.integers(1, 600),
    law=laws,
    stream=st.integers(0, 65535),
)
def test_kernel_equals_reference_in_every_bit(device, rows, height, width, law, stream):
    if law.is_hard:  # which takes a second stream
        stream = min(stream, 65535 - 64)
    keys = torch.tensor(rows, dtype=torch.int64, device=device).reshape(-1, 3)
    actual = sample_cut_paste(keys, height, width, law, stream=stream)
    with use_backend("reference"):
        expected = sample_cut_paste(keys, height, width, law, stream=stream)
    check_draws(actual, expected, law)


@pytest.mark.parametrize("name", testing.LAWS)
@pytest.mark.parametrize("size", [(256, 256), (31, 97), (8, 5)])
def test_many_draws_equal_the_reference(name, size):
    law = testing.LAWS[name]
    actual = draws(law, size=size)
    with use_backend("reference"):
        expected = draws(law, size=size)
    check_draws(actual, expected, law)


@pytest.mark.parametrize("name", testing.LAWS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_keyed_form_equals_drawing_then_pasting(name, dtype):
    law, keys = testing.LAWS[name], make_keys(1, 1, torch.arange(12))
    for layout in testing.LAYOUTS:
        images = testing.make_images(12, 3, 40, 31, dtype=dtype, layout=layout)
        params = sample_cut_paste(keys, 40, 31, law, stream=9)
        expected = cut_paste(images, params, return_status=True)
        actual = cut_paste_keyed_(images, keys, law, stream=9, return_status=True)
        assert actual[0] is images
        assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))
        with use_backend("reference"):
            other = cut_paste_keyed_(images.clone(), keys, law, stream=9)
        assert len(other) == 2


def test_area_aspect_and_halves_of_the_default():
    height, width = draws(CutPasteLaw(), size=(1024, 1024)).source_box[:, 2:].double().unbind(1)
    fraction, aspect = height * width / 1024**2, height / width
    # Rounding a side of at least 80 pixels to the nearest moves it by up to 0.6 %.
    assert fraction.min() > 0.02 * 0.985
    assert fraction.max() < 0.15 * 1.015
    assert aspect.min() > 0.3 * 0.985
    assert aspect.max() < 3.3 * 1.015
    assert is_uniform(fraction, 0.02, 0.15)
    # Where rounding cannot move a patch from one half to the other.
    flat, tall = aspect[aspect < 0.99], aspect[aspect > 1.01]
    assert is_even(torch.tensor([(aspect < 1.0).sum(), (aspect > 1.0).sum()]))
    assert is_uniform(flat, 0.3, 0.99)
    assert is_uniform(tall, 1.01, 3.3)


def test_area_and_aspect_are_independent():
    height, width = draws(CutPasteLaw(), size=(1024, 1024)).source_box[:, 2:].double().unbind(1)
    table = 2 * (height * width > 0.085 * 1024**2) + (height > width)
    assert is_even(torch.bincount(table.long(), minlength=4))


def test_sides_of_a_scar_are_uniform_integers_ends_included():
    height, width = draws(testing.LAWS["scar"]).source_box[:, 2:].unbind(1)
    assert is_even(torch.bincount(height)[10:])
    assert (int(height.min()), int(height.max())) == (10, 25)
    assert is_even(torch.bincount(width)[2:])
    assert (int(width.min()), int(width.max())) == (2, 16)


def test_corners_are_uniform_over_all_places_that_hold_the_patch():
    law = CutPasteLaw(scar=True, length=(4, 4), width=(7, 7))
    params = draws(law, size=(10, 20))
    for corners in (params.source_box[:, :2], params.target):
        assert is_even(torch.bincount(corners[:, 0], minlength=7))
        assert is_even(torch.bincount(corners[:, 1], minlength=14))
    table = params.source_box[:, 0] * 7 + params.target[:, 0]
    assert is_even(torch.bincount(table, minlength=49))


@pytest.mark.parametrize("name", ["paper", "scar"])
@pytest.mark.parametrize("size", [(256, 256), (100, 180), (40, 40)])
def test_patches_lie_fully_inside(name, size):
    params = draws(testing.LAWS[name], 3000, size)
    images = torch.zeros(300, 1, *size, dtype=torch.uint8)
    few = params.map(lambda rows: rows[:300])
    few = few._replace(source_index=torch.arange(300))
    masks, status = cut_paste(images, few, return_status=True)[1:]
    h, w = few.source_box[:, 2], few.source_box[:, 3]
    if name == "paper":
        assert (params.source_box[:, :2] >= 0).all()
        assert (params.source_box[:, :2] + params.source_box[:, 2:] <= torch.tensor(size)).all()
        assert torch.equal(masks.sum((1, 2, 3)), h * w)
    assert (status == Status.APPLIED).all()


def test_what_fits_nowhere_is_aimed_beyond_the_image():
    law = CutPasteLaw(scar=True, length=(10, 10), width=(3, 3), angle=(-45.0, 45.0))
    images = torch.zeros(500, 1, 10, 10, dtype=torch.uint8)
    params = draws(law, 500, (10, 10))
    _, masks, status = cut_paste(images, params, return_status=True)
    fits = params.target[:, 0] < 10
    assert 0 < int(fits.sum()) < 500  # upright it fits, turned by 45 degrees it does not
    assert (status[fits] == Status.APPLIED).all()
    assert (status[~fits] == Status.NO_PLACE).all()
    assert not masks[~fits].any()


def test_angles_factors_and_hue_are_uniform_floats():
    law = CutPasteLaw(angle=(-45.0, 30.0), jitter=(0.1, 0.2, 1.0, 0.3))
    params = draws(law)
    assert params.angle.dtype == params.jitter.dtype == torch.float32
    assert is_uniform(params.angle, -45.0, 30.0)
    for column, (low, high) in enumerate([(0.9, 1.1), (0.8, 1.2), (0.0, 2.0), (-0.3, 0.3)]):
        assert is_uniform(params.jitter[:, column], low, high)
    # A factor cannot be negative: the range is cut at 0, as torchvision does it.
    wide = draws(CutPasteLaw(jitter=(2.0, 0.0, 0.0, 0.0))).jitter
    assert is_uniform(wide[:, 0], 0.0, 3.0)
    assert (wide[:, 1:] == torch.tensor([1.0, 1.0, 0.0])).all()


def test_all_24_orders_come_equally_often():
    order = draws(CutPasteLaw()).order
    assert torch.equal(order.sort(1).values, torch.arange(4).expand_as(order))
    code = (order * torch.tensor([64, 16, 4, 1])).sum(1)
    counts = torch.bincount(code, minlength=256)
    counts = counts[counts > 0]
    assert len(counts) == len(list(itertools.permutations(range(4))))
    assert is_even(counts)


@pytest.mark.parametrize("p", [0.0, 0.25, 1.0])
def test_gate(p):
    apply = draws(CutPasteLaw(p=p)).apply
    deviation = math.sqrt(p * (1 - p) / len(apply))
    assert abs(float(apply.double().mean()) - p) <= 3.9 * deviation


def test_other_sources_are_all_the_others_equally_often():
    n = 7
    keys = make_keys(0, 0, torch.arange(20_000))
    law = CutPasteLaw(other_source=True)
    source = torch.cat(
        [sample_cut_paste(k, 64, 64, law, stream=1).source_index for k in keys[:14_000].split(n)]
    )
    own = torch.arange(14_000) % n
    assert ((source >= 0) & (source < n)).all()
    assert is_even(torch.bincount((source - own) % n, minlength=n)[1:])
    assert not (source == own).any()
    alone = sample_cut_paste(keys[:1], 64, 64, law, stream=1)
    assert alone.source_index.tolist() == [0]
    assert draws(CutPasteLaw(), 100).source_index.tolist() == list(range(100))


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"jitter": (0.5, 0.4, 0.3, 0.2)}, {"jitter"}),
        ({"p": 0.3}, {"apply"}),
        ({"other_source": True}, {"source_index"}),
        ({"angle": (-20.0, 20.0)}, {"angle", "target", "source_box"}),
        ({"area": (0.1, 0.1)}, {"source_box", "target"}),
        ({"aspect": (1.0, 1.0)}, {"source_box", "target"}),
        ({"length": (1, 2), "width": (1, 2)}, set()),  # for scars only
    ],
)
def test_one_option_moves_no_other_draw(change, fields):
    before, after = draws(CutPasteLaw(), 500), draws(CutPasteLaw(**change), 500)
    moved = {
        name
        for name, a, b in zip(DRAWN, before[:7], after[:7], strict=True)
        if not torch.equal(a, b)
    }
    assert moved <= fields
    assert moved or not fields
    if "angle" in change:  # the canvas fits elsewhere, but the patch is the same
        kept = (after.target < 256).all(1)
        assert torch.equal(before.source_box[kept], after.source_box[kept])


def test_a_row_depends_on_its_key_alone():
    keys = make_keys(7, 3, torch.arange(100))
    law = CutPasteLaw(p=0.5, angle=(-45.0, 45.0))
    every = sample_cut_paste(keys, 99, 77, law, stream=2)
    chosen = torch.tensor([93, 5, 41])
    few = sample_cut_paste(keys[chosen], 99, 77, law, stream=2)
    for name, a, b in zip(DRAWN, every[:7], few[:7], strict=True):
        if name != "source_index":
            assert torch.equal(a[chosen], b)
    assert few.source_index.tolist() == [0, 1, 2]


@pytest.mark.parametrize("part", [0, 1, 2])
def test_every_part_of_the_key_and_the_stream_matter(part):
    keys = make_keys(1, 1, torch.arange(50))
    other = keys.clone()
    other[:, part] += 1000
    law = CutPasteLaw(angle=(-45.0, 45.0))
    first = sample_cut_paste(keys, 256, 256, law, stream=1)
    for changed in (
        sample_cut_paste(other, 256, 256, law, stream=1),
        sample_cut_paste(keys, 256, 256, law, stream=257),
    ):
        for name in ("source_box", "target", "angle", "jitter"):
            assert not torch.equal(getattr(first, name), getattr(changed, name)), name
