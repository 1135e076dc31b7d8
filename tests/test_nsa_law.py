# SPDX-License-Identifier: Apache-2.0
"""NSA's law: the same draws everywhere, what the method promises, and what errors say."""

from __future__ import annotations

import importlib.util
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssad_kernels import (
    NsaLaw,
    NsaParams,
    Status,
    largest_patch,
    make_keys,
    nsa_regions,
    sample_nsa,
    use_backend,
)
from ssad_kernels.testing import NSA_LAWS, make_objects, region_outcomes

KEYS = make_keys(3, 1, torch.arange(20_000))
QUANTILES = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=torch.float64)
ROOT = Path(__file__).resolve().parents[1]
NAN = float("nan")


def ranges(low: float, high: float) -> st.SearchStrategy[tuple[float, float]]:
    return st.tuples(st.floats(low, high), st.floats(low, high)).map(lambda x: (min(x), max(x)))


laws = st.builds(
    NsaLaw,
    p=st.sampled_from([0.5, 1.0]),
    height=ranges(0.0, 0.6),
    width=ranges(0.0, 0.6),
    size=st.sampled_from(["gamma", "uniform", "cutpaste", "square"]),
    offset=st.floats(0.0, 0.2),
    scale=st.floats(0.0, 0.2),
    resize=st.one_of(st.none(), ranges(0.2, 3.0)),
    spread=st.floats(0.0, 2.0),
    patches=st.integers(1, 3),
    object_share=st.one_of(st.none(), st.floats(0.0, 1.0)),
    overlap=st.one_of(st.none(), st.floats(0.0, 1.0)),
    shift=st.booleans(),
    same_source=st.booleans(),
    core=st.floats(0.1, 1.0),
    shape=st.sampled_from(["rectangle", "ellipses"]),
    proposals=st.integers(1, 5),
    factor=ranges(0.0, 1.0),
    is_reference=st.booleans(),
)


@given(
    law=laws,
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    n=st.integers(0, 4),
    extent=st.sampled_from([None, (0.5, 0.9), (1.5, 1.2)]),
    side=st.integers(1, 80),
)
def test_kernels_equal_references_in_every_bit(law, height, width, n, extent, side):
    keys = make_keys(height, width, torch.arange(n))
    masks = {}
    if extent is not None:
        masks["source_masks"] = make_objects(n, height, width, extent, seed=1)
        masks["target_masks"] = make_objects(n, height, width, extent, seed=2)
    found = []
    for backend in ("auto", "reference"):
        with use_backend(backend):
            params = sample_nsa(keys, height, width, law, stream=7, **masks)
            regions = [
                nsa_regions(
                    params, height, width, side=some, is_reference=law.is_reference, **masks
                )
                for some in (side, largest_patch(law, height, width))
            ]
        found.append([*params, *(x for pair in regions for x in pair if x is not None)])
    for got, want in zip(*found, strict=True):
        assert got.dtype == want.dtype
        assert torch.equal(got, want)


def first_patches(law: NsaLaw, side: int) -> NsaParams:
    params = sample_nsa(KEYS, side, side, law, stream=1)
    assert (params.status == Status.APPLIED).all()
    return params


@pytest.mark.parametrize(
    ("side", "high", "resize", "before", "after"),
    [
        (224, 0.40, (0.7, 1.3), [20, 33, 48, 68, 108], [17, 29, 44, 65, 89]),
        (256, 0.40, (0.5, 2.0), [24, 38, 55, 78, 124], [17, 31, 49, 76, 101]),
        (224, 0.12, (0.7, 1.3), [20, 34, 46, 54, 54], [12, 19, 26, 27, 27]),
    ],
)
def test_quantiles_of_heights_are_those_measured_of_the_released_code(
    side, high, resize, before, after
):
    bounds = (0.03, high)
    law = NsaLaw(height=bounds, width=bounds, resize=resize, is_reference=True)
    params = first_patches(law, side)
    for box, expected in ((params.source_box, before), (params.target_box, after)):
        found = box[params.apply][:, 2].double().quantile(QUANTILES)
        assert (found - torch.tensor(expected)).abs().max() <= 1, found
    # Without the mix-up patches may be twice as large, and still have a place.
    fixed = first_patches(law._replace(is_reference=False), side)
    assert fixed.target_box[..., 2].max() > params.target_box[..., 2].max()
    assert fixed.target_box[..., 2].max() <= 2 * round(high * side)


@pytest.mark.parametrize(("patches", "mean"), [(1, 1.0), (3, 2.0), (4, 2.5)])
def test_mean_number_of_patches(patches, mean):
    law = NsaLaw(patches=patches, height=(0.1, 0.4), width=(0.1, 0.4))
    count = first_patches(law, 224).apply.sum(1).double()
    deviation = math.sqrt((patches - 1) / 4 / len(count))
    assert abs(float(count.mean()) - mean) <= 3.9 * deviation
    assert (first_patches(law, 224).apply[:, 0]).all()


def test_area_of_cutpaste():
    law = NsaLaw(size="cutpaste", patches=1)
    box = first_patches(law, 256).target_box[:, 0]
    share = (box[:, 2] * box[:, 3]).double() / 256**2
    assert share.min() > 0.02 * 0.96
    assert share.max() < 0.15 * 1.02
    aspect = box[:, 2].double() / box[:, 3].double()
    assert 0.29 < aspect.min() < 0.31
    assert 3.2 < aspect.max() < 3.4
    assert abs(float((aspect < 1).double().mean()) - 0.5) < 3.9 * 0.5 / math.sqrt(len(box)) + 0.01


def test_square_patches_of_interpolation_stay_where_they_were():
    law = NsaLaw(size="square", height=(0.05, 0.2), core=0.5, shift=False, patches=1)
    params = first_patches(law, 256)
    assert torch.equal(params.source_box, params.target_box)
    y, _, h, w = params.target_box[:, 0].unbind(1)
    assert torch.equal(h, w)
    assert torch.unique(h // 2).tolist() == list(range(13, 51))
    assert torch.unique(y + h // 2).tolist() == list(range(64, 192))
    assert (h % 2 == 0).all()


def test_factors_sources_and_the_gate():
    params = sample_nsa(KEYS, 64, 64, NsaLaw(p=0.3), stream=1, sources=5)
    assert 0.05 < params.factor.min() < 0.051
    assert 0.949 < params.factor.max() < 0.95
    counts = torch.bincount(params.source_index, minlength=5)
    assert (counts - 4000).abs().max() < 4.9 * math.sqrt(20_000 * 0.2 * 0.8)
    gated = params.status == Status.GATED
    assert not params.apply[gated].any()
    assert not params.target_box[gated].any()
    assert abs(float(gated.double().mean()) - 0.7) < 3.9 * math.sqrt(0.21 / 20_000)
    few = sample_nsa(KEYS[:6], 64, 64, NsaLaw(), stream=1).source_index
    assert (few != torch.arange(6)).all()
    assert sample_nsa(KEYS[:1], 64, 64, NsaLaw(), stream=1).source_index.tolist() == [0]
    own = sample_nsa(KEYS[:6], 64, 64, NsaLaw(same_source=True), stream=1).source_index
    assert own.tolist() == list(range(6))


def test_more_patches_and_proposals_move_no_other_draw():
    masks = {f"{name}_masks": make_objects(40, 96, 96, (0.6, 0.6)) for name in ("source", "target")}
    law = NsaLaw(object_share=0.4, overlap=0.25, shape="ellipses", same_source=True)
    some = sample_nsa(KEYS[:40], 96, 96, law._replace(proposals=4, patches=2), stream=1, **masks)
    more = sample_nsa(KEYS[:40], 96, 96, law._replace(proposals=300, patches=5), stream=1, **masks)
    kept = some.apply[:, 0]
    assert 5 < kept.sum() < more.apply[:, 0].sum()
    for a, b in zip(some[1:5], more[1:5], strict=True):
        assert torch.equal(a[kept, 0], b[kept, 0])
    assert torch.equal(some.factor, more.factor)


@pytest.mark.parametrize("side", [1, 5, 9])
def test_an_image_smaller_than_the_smallest_patch_has_no_place(side):
    params = sample_nsa(KEYS[:9], side, side, NsaLaw(), stream=1)
    assert (params.status == Status.NO_PLACE).all()
    assert not params.apply.any()
    assert not nsa_regions(params, side, side)[0].any()


@pytest.mark.parametrize("name", NSA_LAWS)
def test_any_batch_and_number_of_threads(name):
    law, n = NSA_LAWS[name]._replace(same_source=True), 200
    source, target = (make_objects(n, 96, 80, (0.8, 0.7), seed=seed) for seed in (1, 2))

    def run(at: Any) -> list[torch.Tensor]:
        masks = {"source_masks": source[at], "target_masks": target[at]}
        params = sample_nsa(KEYS[:n][at], 96, 80, law, stream=2, **masks)
        region, blend = nsa_regions(params, 96, 80, is_reference=law.is_reference, **masks)
        return [*params[1:], region, *(() if blend is None else (blend,))]

    torch.set_num_threads(1)
    whole = run(slice(None))
    torch.set_num_threads(3)
    assert all(torch.equal(a, b) for a, b in zip(run(slice(None)), whole, strict=True))
    for at in ([5], [150, 3, 77]):
        assert all(torch.equal(a, b[at]) for a, b in zip(run(at), whole, strict=True))


_CODE = """
import torch
from ssad_kernels import make_keys, nsa_regions, sample_nsa
from ssad_kernels.testing import NSA_LAWS, make_objects
masks = {f"{name}_masks": make_objects(50, 96, 96, (0.7, 0.6)) for name in ("source", "target")}
found = []
for law in NSA_LAWS.values():
    params = sample_nsa(make_keys(0, 0, torch.arange(50)), 96, 96, law, stream=1, **masks)
    found += [*params, nsa_regions(params, 96, 96, **masks)[0]]
torch.save(found, PATH)
"""


@pytest.mark.native
@pytest.mark.parametrize("level", ["avx2", "avx512"])
def test_any_instruction_set(level, at_level):
    for a, b in zip(at_level(_CODE, level), at_level(_CODE, "baseline"), strict=True):
        assert torch.equal(a, b)


def test_rectangles_are_blended_whole_and_labelled_on_objects_alone():
    masks = {f"{name}_masks": make_objects(50, 96, 96, (0.7, 0.6)) for name in ("source", "target")}
    law = NsaLaw(object_share=0.3, overlap=0.1, patches=1, same_source=True)
    params = sample_nsa(KEYS[:50], 96, 96, law, stream=1, **masks)
    region, blend = nsa_regions(params, 96, 96, **masks)
    assert blend is None
    # As one ellipse that covers it, a rectangle has a blend mask: all of the inside.
    y, _, h, w = params.target_box[:, 0].double().unbind(1)
    huge = torch.stack([h / 2, w / 2, 10 * h + 1, 10 * w + 1, 0 * h], dim=1)
    covered = params._replace(ellipse=huge[:, None, None])
    same, blend = nsa_regions(covered, 96, 96, **masks)
    assert torch.equal(same, region)
    at = torch.arange(96)
    rows = (at > 0) & (at < h[:, None] - 1)
    columns = (at > 0) & (at < w[:, None] - 1)
    assert torch.equal(blend[:, 0], rows[:, :, None] & columns[:, None, :])
    # Where an object is in the source's patch or the target; M_s is a resized part of an object.
    inside = (at >= y[:, None]) & (at < (y + h)[:, None])
    assert not (region[:, 0] & ~inside[:, :, None]).any()
    objects = region & masks["target_masks"]
    assert objects.any()


def test_what_is_mixed_or_copied_is_what_is_labelled():
    masks = {f"{name}_masks": make_objects(50, 96, 96, (0.7, 0.6)) for name in ("source", "target")}
    law = NsaLaw(object_share=0.3, overlap=0.1, patches=1, same_source=True)
    params = sample_nsa(KEYS[:50], 96, 96, law, stream=1, **masks)
    region, label = nsa_regions(params, 96, 96, paste="label", **masks)
    for i, (y, x, h, w) in enumerate(params.target_box[:, 0].tolist()):
        assert torch.equal(label[i, 0, :h, :w], region[i, 0, y : y + h, x : x + w])
        assert label[i, 0].sum() == region[i, 0].sum()
    assert nsa_regions(params, 96, 96, paste="label")[1] is None
    with pytest.raises(ValueError, match="nsa_regions: `paste` must be blend or label, got 'all'"):
        nsa_regions(params, 96, 96, paste="all")
    assert (region[:, 0] & ~masks["target_masks"][:, 0]).sum() > 0


def test_parameters_that_no_law_draws_are_left_out():
    params, (height, width) = region_outcomes()
    region, blend = nsa_regions(params, height, width, side=16)
    pasted = blend.flatten(2).any(2).tolist()
    assert pasted == [[True, False, False]] * 3 + [[True, False, False]]
    assert region.flatten(1).any(1).all()


def check(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()


GOOD = torch.zeros(2, 1, 8, 8, dtype=torch.bool)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"keys": [1]}, TypeError, "`keys` must be a tensor, got list"),
        ({"keys": torch.zeros(2, 3)}, TypeError, "`keys` must have dtype int64, got float32"),
        ({"stream": -1}, ValueError, "`stream` must be in 0...65535, got -1"),
        ({"height": 0}, ValueError, "`height` must be in 1...16777215, got 0"),
        ({"sources": 0}, ValueError, "`sources` must be in 1...2147483647, or None, got 0"),
        (
            {"source_masks": GOOD},
            ValueError,
            "`target_masks` must be given with `source_masks`, got None",
        ),
        (
            {"source_masks": GOOD.float(), "target_masks": GOOD},
            TypeError,
            "`source_masks` must have dtype bool, got float32",
        ),
        (
            {"source_masks": GOOD, "target_masks": GOOD[:1]},
            ValueError,
            "`target_masks` must have shape (2, 1, 8, 8), got (1, 1, 8, 8)",
        ),
        (
            {"source_masks": GOOD.to("meta"), "target_masks": GOOD},
            ValueError,
            "`source_masks` must be on device cpu, got meta",
        ),
        (
            {"source_masks": GOOD, "target_masks": GOOD, "sources": 3},
            ValueError,
            "`source_masks` must hold one mask for each of 3 sources, got 2",
        ),
        (
            {"law": NsaLaw(same_source=True), "sources": 3},
            ValueError,
            "`sources` must be None with a law of the same source, got 3",
        ),
    ],
)
def test_errors(change, error, message):
    given: dict[str, Any] = {"keys": KEYS[:2], "height": 8, "width": 8, "law": NsaLaw()}
    check(lambda: sample_nsa(**{**given, "stream": 0, **change}), error, f"sample_nsa: {message}")


@pytest.mark.parametrize(
    "change",
    [
        {"p": 1.5},
        {"p": NAN},
        {"height": (0.5, 0.2)},
        {"width": (0.1,)},
        {"size": "round"},
        {"resize": (0.0, 1.0)},
        {"patches": 0},
        {"patches": 17},
        {"patches": 1.5},
        {"proposals": 0},
        {"proposals": 4081},
        {"object_share": 2.0},
        {"overlap": -0.5},
        {"core": 0.0},
        {"shape": "disc"},
        {"factor": (0.0, 2.0)},
    ],
)
def test_laws_that_are_no_distribution(change):
    law = NsaLaw()._replace(**change)
    with pytest.raises(ValueError, match=r"^sample_nsa: `law` must be a distribution, see NsaLaw"):
        sample_nsa(KEYS[:2], 8, 8, law, stream=0)


@pytest.mark.parametrize(
    ("field", "value", "error", "message"),
    [
        ("source_box", torch.zeros(2, 3, 4), TypeError, "must have dtype int64, got float32"),
        (
            "target_box",
            torch.zeros(2, 4).long(),
            ValueError,
            "must have shape (2, 3, 4), got (2, 4)",
        ),
        ("apply", None, TypeError, "must be a tensor, got NoneType"),
    ],
)
def test_errors_of_regions(field, value, error, message):
    params = sample_nsa(KEYS[:2], 8, 8, NsaLaw(), stream=0)._replace(**{field: value})
    check(lambda: nsa_regions(params, 8, 8), error, f"nsa_regions: `{field}` {message}")


def test_quantile_tables_are_those_of_scipy():
    pytest.importorskip("scipy")
    path = ROOT / "scripts" / "quantile_tables.py"
    if not path.is_file():
        pytest.skip("the source tree is not here")
    spec = importlib.util.spec_from_file_location("quantile_tables", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.HOME.read_text() == module.text()
    assert max(module.errors().values()) < 1.5e-4


@pytest.mark.parametrize("size", [32, 100])
def test_the_smallest_core_has_a_centre(size: int) -> None:
    law = NsaLaw(size="square", height=(0.2, 0.2), core=0.001, shift=False, patches=1)
    params = sample_nsa(KEYS[:9], size, size, law, stream=0, sources=1)
    assert params.status.tolist() == [Status.APPLIED.value] * 9
