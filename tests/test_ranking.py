# SPDX-License-Identifier: Apache-2.0
"""Exact metrics against definitions that share no code with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ranking_oracles import aupro as aupro_oracle
from ranking_oracles import spro as spro_oracle
from torch import Tensor

from ssad_kernels import (
    DefectScores,
    PixelScores,
    aupro,
    auroc,
    average_precision,
    connected_components,
    count_above,
    f1_max,
    iou,
    iou_max,
    spro,
)
from ssad_kernels.testing import make_maps

LIMITS = (0.3, 0.05, 0.01, 1.0)
NAN = float("nan")


def drawn(
    seed: int, n: int = 5, h: int = 23, w: int = 31, levels: int | None = None
) -> list[Tensor]:
    """Maps in 0...1 with noise and few or many ties, and masks of blobs; the first is normal."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(n, 1, h // 4 + 1, w // 4 + 1, generator=generator, dtype=torch.float64)
    masks = torch.nn.functional.interpolate(noise, (h, w), mode="bilinear") > 0.72
    masks[0] = False
    maps = 0.35 * masks + 0.65 * torch.rand(n, 1, h, w, generator=generator, dtype=torch.float64)
    return [maps if levels is None else (maps * levels).round() / levels, masks]


@given(st.data())
def test_counts_are_those_of_numpy(data):
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    width = 32 if dtype is np.float32 else 64
    numbers = st.floats(allow_nan=False, width=width) | st.sampled_from([-1.0, -0.0, 0.0, 2.0])
    own, others = (data.draw(st.lists(numbers, max_size=40)) for _ in range(2))
    ignored = data.draw(st.lists(st.booleans(), min_size=len(others), max_size=len(others)))
    a, b = np.array(own, dtype), np.array(others, dtype)
    counted = b[~np.array(ignored, bool)]
    expected = np.stack([(counted > a[:, None]).sum(1), (counted >= a[:, None]).sum(1)], axis=1)
    flags = torch.tensor(ignored, dtype=torch.bool)
    found = count_above(torch.from_numpy(a), torch.from_numpy(b), ignored=flags)
    assert np.array_equal(found.numpy(), expected)
    most = data.draw(st.integers(1, 50))
    bounded = count_above(torch.from_numpy(a), torch.from_numpy(b), ignored=flags, most=most)
    expected[expected[:, 0] >= most] = most
    assert np.array_equal(bounded.numpy(), expected)


@pytest.mark.native
def test_counts_among_many_chunks_and_threads():
    generator = torch.Generator().manual_seed(0)
    among = torch.randn(1_200_000, generator=generator).mul(1000).round()
    scores, ignored = among[:300_000], torch.rand(len(among), generator=generator) < 0.3
    counted = np.sort(among[~ignored].numpy())
    sides = [np.searchsorted(counted, scores.numpy(), side) for side in ("right", "left")]
    expected = torch.from_numpy(len(counted) - np.stack(sides, axis=1))
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        assert torch.equal(count_above(scores, among, ignored=ignored), expected)
        bounded = count_above(scores, among, ignored=ignored, most=123_456)
        assert torch.equal(bounded, expected.where(expected[:, :1] < 123_456, 123_456))


@pytest.mark.parametrize("levels", [None, 6, 1])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rankings_agree_with_scikit_learn(levels, dtype):
    metrics = pytest.importorskip("sklearn.metrics")
    maps, masks = drawn(1, levels=levels)
    maps = (7 * maps - 2).to(dtype)
    flat, truth = maps.double().numpy().ravel(), masks.numpy().ravel()
    assert float(auroc(maps, masks)) == pytest.approx(metrics.roc_auc_score(truth, flat), abs=1e-12)
    expected = metrics.average_precision_score(truth, flat)
    assert float(average_precision(maps, masks)) == pytest.approx(expected, abs=1e-12)
    precision, recall, _ = metrics.precision_recall_curve(truth, flat)
    best = (2 * precision * recall / np.maximum(precision + recall, 1e-300)).max()
    assert float(f1_max(maps, masks)) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("levels", [None, 300, 9, 2])
@pytest.mark.parametrize("seed", range(4))
def test_aupro_is_the_area_under_the_curve(seed, levels):
    maps, masks = drawn(seed, levels=levels)
    expected = aupro_oracle(maps[:, 0].numpy(), masks[:, 0].numpy(), LIMITS)
    assert aupro(maps, masks, LIMITS).numpy() == pytest.approx(expected, abs=1e-12)
    for limit, value in zip(LIMITS, expected, strict=True):  # counts that are cut off elsewhere
        assert float(aupro(maps, masks, [limit])) == pytest.approx(value, abs=1e-12)


@given(st.integers(0, 1 << 30), st.integers(1, 12), st.floats(0.001, 1.0))
def test_aupro_with_ties_everywhere(seed, levels, limit):
    maps, masks = drawn(seed, 3, 9, 11, levels)
    if masks.any() and not masks.all():
        expected = aupro_oracle(maps[:, 0].numpy(), masks[:, 0].numpy(), [limit])
        assert aupro(maps, masks, [limit]).numpy() == pytest.approx(expected, abs=1e-10)


def test_perfect_and_inverted_maps():
    _, masks = drawn(0)
    assert aupro(masks.double(), masks).tolist() == pytest.approx([1, 1, 1], abs=1e-14)
    assert float(auroc(masks.double(), masks)) == float(f1_max(masks.double(), masks)) == 1
    assert float(auroc(-masks.double(), masks)) == 0
    assert iou(masks.double(), masks, 0.5) == (1, 1)
    assert float(iou_max(masks.float(), masks)) == 1
    assert float(auroc(torch.zeros(masks.shape), masks)) == 0.5
    # A line from (0, 0) to (1, 1), cut at the limit.
    flat = aupro(torch.zeros(masks.shape), masks, (0.3, 0.1))
    assert flat.tolist() == pytest.approx([0.15, 0.05])


def defects_of(masks: Tensor) -> tuple[Tensor, Tensor]:
    """One defect for each component."""
    labels, counts = connected_components(masks)
    image = torch.arange(len(masks)).repeat_interleave(counts)
    numbers = torch.cat([torch.arange(1, k + 1) for k in counts.tolist()])
    return labels[image] == numbers[:, None, None, None], image


def test_spro_with_whole_components_is_aupro():
    maps, masks = drawn(5, levels=50)
    defects, image = defects_of(masks)
    for saturation in (defects.flatten(1).sum(1).float(), torch.full((len(image),), 1e9)):
        found = spro(maps, defects, image, saturation, LIMITS)
        torch.testing.assert_close(found, aupro(maps, masks, LIMITS), rtol=0, atol=1e-12)


@pytest.mark.parametrize("levels", [None, 12, 3])
@pytest.mark.parametrize("seed", range(3))
def test_spro_is_the_area_under_its_curve(seed, levels):
    """Defects that overlap, in several parts, with saturation areas that are not whole."""
    maps, masks = drawn(seed, 4, 13, 15, levels)
    parts, image = defects_of(masks)
    both = parts[:-1] | parts[1:]
    defects = torch.cat([parts, both[image[1:] == image[:-1]], parts[:1] & False])
    image = torch.cat([image, image[1:][image[1:] == image[:-1]], image[:1]])
    saturation = 0.37 * defects.flatten(1).sum(1).float() + 0.4
    expected = spro_oracle(
        maps[:, 0].numpy(),
        defects[:-1, 0].numpy(),
        image[:-1].numpy(),
        saturation[:-1].double().numpy(),
        LIMITS,
    )
    found = spro(maps, defects, image, saturation, LIMITS)
    assert found.numpy() == pytest.approx(expected, abs=1e-9)
    split, other = DefectScores(), DefectScores()
    first = image < 2
    split.update(maps[:2], defects[first], image[first], saturation[first])
    other.update(maps[2:], defects[~first], image[~first] - 2, saturation[~first])
    split.merge(other)
    torch.testing.assert_close(split.spro(LIMITS), found, rtol=0, atol=1e-14)


def test_overlap_at_a_threshold():
    maps, masks = drawn(2, levels=60)
    images = [(m > 0.6, t) for m, t in zip(maps.numpy(), masks.numpy(), strict=True) if t.any()]
    both = np.array([(p & t).sum() for p, t in images])
    either = np.array([(p | t).sum() for p, t in images])
    found = iou(maps, masks, 0.6)
    assert float(found.pooled) == pytest.approx(both.sum() / either.sum(), abs=1e-14)
    assert float(found.per_image) == pytest.approx((both / either).mean(), abs=1e-14)
    scores = PixelScores.of(_state(maps, masks))
    best = max(float(scores.iou(t - 1e-12).pooled) for t in maps.unique().tolist())
    assert float(iou_max(maps, masks)) == pytest.approx(best, abs=1e-14)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.995, 1.0])
def test_the_threshold_of_normal_images_leaves_the_stated_share_above(level):
    maps, masks = drawn(3, levels=700)
    scores = PixelScores.of(_state(maps, masks))
    threshold = scores.normal_quantile(level)
    normal = maps[~masks.flatten(1).any(1)]
    assert threshold in normal
    assert (normal > threshold).double().mean() <= 1 - level
    assert (normal >= threshold).double().mean() > 1 - level
    assert scores.iou(threshold) == iou(maps, masks, threshold)


def _state(maps: Tensor, masks: Tensor):
    scores = PixelScores()
    scores.update(maps, masks)
    return scores.state()


METRICS = {
    "auroc": PixelScores.auroc,
    "average_precision": PixelScores.average_precision,
    "f1_max": PixelScores.f1_max,
    "aupro": PixelScores.aupro,
    "iou": lambda scores: torch.stack(scores.iou(0.6)),
    "iou_max": PixelScores.iou_max,
    "normal_quantile": PixelScores.normal_quantile,
}


@pytest.mark.parametrize("metric", METRICS)
def test_updates_and_merges_in_order_change_no_bit(metric):
    maps, masks = make_maps(9, 30, 40, levels=90)
    whole = METRICS[metric](PixelScores.of(_state(maps, masks)))
    for sizes in ([1] * 9, [4, 0, 5]):
        scores = PixelScores()
        for batch in zip(maps.split(sizes), masks.split(sizes), strict=True):
            scores.update(*batch)
        assert torch.equal(METRICS[metric](scores), whole)
    first, second = PixelScores(), PixelScores()
    first.update(maps[:4], masks[:4])
    METRICS[metric](first)  # what was computed before must not stay
    second.update(maps[4:], masks[4:])
    first.merge(second)
    assert torch.equal(METRICS[metric](first), whole)


@pytest.mark.native
@pytest.mark.parametrize("metric", METRICS)
def test_any_number_of_threads(metric):
    maps, masks = make_maps(12, 200, 210)
    found = set()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.add(tuple(METRICS[metric](PixelScores.of(_state(maps, masks))).flatten().tolist()))
    assert len(found) == 1


def test_images_of_several_sizes():
    small, large = drawn(1, 3, 12, 14), drawn(2, 4, 20, 9)
    scores = PixelScores()
    for batch in (small, large):
        scores.update(*batch)
    flat = [torch.cat([a.flatten(), b.flatten()]) for a, b in zip(small, large, strict=True)]
    assert torch.equal(scores.auroc(), auroc(*flat))
    both = [
        iou(*batch, 0.5).per_image * batch[1].flatten(1).any(1).sum() for batch in (small, large)
    ]
    marked = sum(int(batch[1].flatten(1).any(1).sum()) for batch in (small, large))
    assert float(scores.iou(0.5).per_image) == pytest.approx(float(sum(both)) / marked)


@pytest.mark.parametrize("levels", [None, 7])
def test_normal_scores_that_cannot_matter_are_dropped(levels):
    maps, masks = drawn(7, 12, 24, 24, levels)
    expected = aupro(maps, masks, (0.05, 0.01))
    scores = PixelScores(limit=0.05, pixels=int((~masks).sum()))
    for batch in zip(maps.split(2), masks.split(2), strict=True):
        scores.update(*batch)
    assert torch.equal(scores.aupro((0.05, 0.01)), expected)
    assert torch.equal(scores.aupro(0.05), expected[0])
    if levels is None:
        normal = int((~masks).sum())
        assert len(scores.state().scores) - int(masks.sum()) <= 0.05 * normal + 2
    with pytest.raises(ValueError, match=r"`limits` must be at most 0\.05, got \[0\.3\]"):
        scores.aupro([0.3])
    with pytest.raises(ValueError, match="`limit` must be None for any metric but AUPRO"):
        scores.auroc()
    with pytest.raises(ValueError, match="`pixels` must be an upper bound"):
        scores.update(maps, masks)


def test_repeating_the_test_set_changes_nothing():
    maps, masks = drawn(4, levels=40)
    scores = PixelScores.of(_state(maps, masks))
    twice = PixelScores.of(_state(torch.cat([maps, maps]), torch.cat([masks, masks])))
    for metric in METRICS.values():
        torch.testing.assert_close(metric(twice), metric(scores), rtol=0, atol=1e-12)


def test_what_is_written_after_an_update_is_not_seen():
    maps, masks = drawn(4)
    scores, expected = PixelScores(), aupro(maps, masks)
    scores.update(maps, masks)
    maps.zero_()
    masks.zero_()
    assert torch.equal(scores.aupro(), expected)


def test_without_anomalous_or_without_normal_pixels():
    maps, masks = drawn(4)
    none, every = (
        PixelScores.of(_state(maps, masks & False)),
        PixelScores.of(_state(maps, masks | True)),
    )
    for name, metric in METRICS.items():
        if name != "normal_quantile":
            assert metric(none).isnan().all(), name
        is_defined = name in ("average_precision", "f1_max", "iou", "iou_max")
        assert metric(every).isnan().all() != is_defined, name
    assert float(every.average_precision()) == float(every.f1_max()) == 1
    assert spro(maps, masks[:0], torch.zeros(0).long(), torch.zeros(0)).isnan().all()
    assert auroc(torch.zeros(0), torch.zeros(0, dtype=torch.bool)).isnan()


@pytest.mark.parametrize("where", [True, False])
def test_a_nan_is_no_score(where):
    maps, masks = drawn(4)
    maps[tuple((masks == where).nonzero()[5])] = NAN
    scores = PixelScores.of(_state(maps, masks))
    for metric in METRICS.values():
        assert metric(scores).isnan().all()
    defects, image = defects_of(masks)
    assert spro(maps, defects, image, torch.full((len(image),), 5.0)).isnan().all()
    for metric in (auroc, average_precision, f1_max):
        assert metric(maps, masks).isnan()


def test_a_nan_is_not_dropped():
    maps, masks = drawn(4)
    maps[tuple((~masks).nonzero()[5])] = NAN
    scores = PixelScores(limit=0.05, pixels=masks.numel())
    scores.update(maps, masks)
    assert scores.aupro([0.05]).isnan().all()
    assert PixelScores.of(_state(*drawn(4))).iou(NAN).pooled.isnan()
    assert iou(maps[:0], masks[:0], 0.5).per_image.isnan()


def test_a_part_without_images_can_be_merged():
    maps, masks = drawn(4)
    whole, none = (PixelScores(limit=0.05, pixels=masks.numel()) for _ in range(2))
    whole.merge(none)
    whole.update(maps, masks)
    whole.merge(none)
    none.merge(whole)
    assert torch.equal(whole.aupro([0.05]), aupro(maps, masks, [0.05]))
    assert torch.equal(none.aupro([0.05]), whole.aupro([0.05]))


@pytest.mark.parametrize("level", [0.07, 0.14, 0.28, 0.55, 0.56, 0.995, 1.0])
def test_a_quantile_is_not_moved_by_rounding(level):
    maps = torch.arange(1000.0).reshape(1, 1, 10, 100)
    scores = PixelScores.of(_state(maps, torch.zeros_like(maps, dtype=torch.bool)))
    assert float(scores.normal_quantile(level)) == round(1000 * level) - 1


def test_infinite_scores_are_in_their_order():
    maps, masks = drawn(4, levels=30)
    moved = torch.where(maps == maps.max(), math.inf, maps)
    moved = torch.where(maps == maps.min(), -math.inf, moved)
    assert torch.equal(aupro(moved, masks), aupro(maps, masks))
    assert torch.equal(auroc(moved, masks), auroc(maps, masks))


def test_metrics_have_no_gradient():
    maps, masks = drawn(4)
    maps.requires_grad_()
    assert not aupro(maps, masks).requires_grad
    assert not auroc(maps, masks).requires_grad
    assert not PixelScores.of(_state(maps, masks)).iou(0.5).pooled.requires_grad
