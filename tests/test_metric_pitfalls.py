# SPDX-License-Identifier: Apache-2.0
"""Ways to compute these metrics that are in use, and give another number than the definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ssad_kernels import PixelScores, aupro, auroc, average_precision, connected_components, f1_max
from ssad_kernels.testing import make_images

INCREASING = {
    "exp(10 s)": lambda s: torch.exp(10 * s),
    "s + 20": lambda s: s + 20,
    "s^3 - 1000": lambda s: s**3 - 1000,
    "log": lambda s: torch.log(s + 1e-3),
}


def scene(n: int = 8, side: int = 96) -> tuple[Tensor, Tensor]:
    """Smooth maps in 0...1, float64, that find most of their defects."""
    coarse = make_images(n, 1, 12, 12).double() / 255
    fine = make_images(n, 1, side, side, seed=1).double() / 255
    masks = torch.zeros(n, 1, side, side, dtype=torch.bool)
    for i in range(1, n):
        masks[i, 0, 5 * i : 5 * i + 14, 20:45] = masks[i, 0, 60:70, 8 * i : 8 * i + 9] = True
    background = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)
    blurred = torch.nn.functional.avg_pool2d(masks.double(), 5, 1, 2)
    strength = torch.linspace(0.1, 0.7, n, dtype=torch.float64)[:, None, None, None]
    maps = (0.3 * background + 0.05 * fine + strength * blurred).clamp(0, 1)
    return (maps * 65536).round() / 65536, masks  # so that no two are nearly equal


def metrics_of(maps: Tensor, masks: Tensor) -> Tensor:
    scores = PixelScores()
    scores.update(maps, masks)
    ranks = (scores.auroc(), scores.average_precision(), scores.f1_max(), scores.iou_max())
    return torch.stack([*ranks, *scores.aupro(), scores.iou(scores.normal_quantile()).pooled])


@pytest.mark.parametrize("name", INCREASING)
def test_increasing_maps_of_the_scores_change_no_metric(name):
    maps, masks = scene()
    moved = INCREASING[name](maps)
    assert len(moved.unique()) == len(maps.unique())
    assert torch.equal(metrics_of(moved, masks), metrics_of(maps, masks))


def curve_at(thresholds: Tensor, maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """False-positive rate and per-region overlap at falling thresholds."""
    labels, counts = connected_components(masks)
    regions = [
        (i, labels[i, 0] == k) for i in range(len(masks)) for k in range(1, int(counts[i]) + 1)
    ]
    rates, overlaps = [], []
    for threshold in thresholds:
        above = maps >= threshold
        rates.append((above & ~masks).sum().double() / (~masks).sum())
        overlaps.append(torch.stack([above[i, 0][r].double().mean() for i, r in regions]).mean())
    return torch.stack(rates), torch.stack(overlaps)


def area(rates: Tensor, overlaps: Tensor, limit: float = 0.3) -> float:
    """Trapezoids up to the limit."""
    x = np.concatenate([[0.0], rates.numpy()])
    y = np.concatenate([[0.0], overlaps.numpy()])
    inside = x < limit
    x, y = np.append(x[inside], limit), np.append(y[inside], np.interp(limit, x, y))
    return float(np.trapezoid(y, x) / limit)


def stepped_aupro(maps: Tensor, masks: Tensor, steps: int) -> float:
    """With thresholds evenly between the lowest and the highest score."""
    thresholds = torch.linspace(float(maps.max()), float(maps.min()), steps, dtype=torch.float64)
    return area(*curve_at(thresholds, maps, masks))


def test_evenly_spaced_thresholds_see_the_scale_of_the_scores():
    maps, masks = scene()
    exact = float(aupro(maps, masks, [0.3]))
    assert abs(stepped_aupro(maps, masks, 200) - exact) < 0.01
    stretched = torch.exp(10 * maps)
    assert float(aupro(stretched, masks, [0.3])) == exact
    assert stepped_aupro(stretched, masks, 200) < exact - 0.05


def test_a_hundred_thresholds_are_too_few():
    """At quantiles of the normal scores, so at evenly spaced false-positive rates."""
    maps, masks = scene()
    exact = float(aupro(maps, masks, [0.3]))

    def at_quantiles(count: int) -> float:
        levels = torch.linspace(1, 0, count, dtype=torch.float64)
        return area(*curve_at(maps[~masks].quantile(levels), maps, masks))

    assert abs(at_quantiles(100) - exact) > 1e-3
    assert abs(at_quantiles(1000) - exact) < abs(at_quantiles(100) - exact) / 4


def test_binned_rankings_see_the_scale_of_the_scores():
    maps, masks = scene()
    stretched = torch.exp(10 * maps)
    bins = ((stretched - stretched.min()) / (stretched.max() - stretched.min()) * 50).floor()
    assert float(auroc(bins, masks)) < float(auroc(stretched, masks)) - 0.02
    assert float(auroc(stretched, masks)) == float(auroc(maps, masks))


def test_a_sigmoid_of_scores_beyond_one_makes_ties():
    functional = pytest.importorskip("torchmetrics.functional.classification")
    maps, masks = scene()
    shifted = (maps + 20).float()  # float32 still tells enough of them apart
    truth = masks.flatten().long()
    for ours, theirs in (
        (auroc, functional.binary_auroc),
        (average_precision, functional.binary_average_precision),
    ):
        exact = float(ours(maps, masks))
        assert float(ours(shifted, masks)) == pytest.approx(exact, abs=1e-4)
        assert float(theirs(maps.flatten().float(), truth)) == pytest.approx(exact, abs=1e-4)
        assert float(theirs(shifted.flatten(), truth)) < exact - 0.01
    assert float(f1_max(shifted, masks)) == pytest.approx(float(f1_max(maps, masks)), abs=1e-3)


def test_scores_clamped_to_one_tie():
    """As a post-processor does that maps scores to 0...1 by what validation has seen."""
    maps, masks = scene()
    normal = maps[~masks.flatten(1).any(1)]
    clamped = ((maps - normal.min()) / (normal.max() - normal.min())).clamp(0, 1)
    assert float(average_precision(clamped, masks)) < float(average_precision(maps, masks)) - 0.01


def test_dilated_predictions_are_another_metric():
    maps, masks = scene()
    dilated = torch.nn.functional.max_pool2d(maps, 5, 1, 2)
    assert abs(float(aupro(dilated, masks, [0.3]) - aupro(maps, masks, [0.3]))) > 1e-3


def test_a_rate_rescaled_by_its_largest_value_is_another_metric():
    """Where no threshold lies at the limit, the curve is stretched instead of cut."""
    maps, masks = scene()
    coarse = (maps * 12).round()
    exact = float(aupro(coarse, masks, [0.3]))
    rates, overlaps = curve_at(coarse.unique().flip(0), coarse, masks)
    assert area(rates, overlaps) == pytest.approx(exact, abs=1e-12)
    inside = rates < 0.3
    rescaled = torch.trapezoid(overlaps[inside], rates[inside] / rates[inside].max())
    assert abs(float(rescaled) - exact) > 1e-3


def test_components_that_touch_at_a_corner_are_one():
    masks = torch.zeros(1, 1, 12, 12, dtype=torch.bool)
    masks[0, 0, 1:3, 1:3] = masks[0, 0, 3:8, 3:8] = True
    maps = torch.zeros(1, 1, 12, 12)
    maps[0, 0, 3:8, 3:8] = 1
    assert float(aupro(maps, masks, [0.3])) == pytest.approx(25 / 29 + 4 / 29 * 0.15)
    # With 4 neighbours the small one would be half of the mean.
    assert (1 + 0.15) / 2 < 25 / 29


def test_a_detector_that_is_wrong_stays_below_one_half():
    """One minus AUROC, taken where AUROC is below one half, hides that."""
    scores = torch.tensor([0.9, 0.8, 0.7, 0.2, 0.1])
    targets = torch.tensor([False, False, True, False, True])
    value = float(auroc(scores, targets))
    assert value == pytest.approx(1 / 6)
    assert max(value, 1 - value) > 0.5


def test_the_best_f1_of_normal_images_is_no_threshold():
    """It is 0 everywhere, and a search for it ends at the largest score: one bad pixel."""
    maps, masks = scene()
    maps[0, 0, 0, 0] = 2.0
    scores = PixelScores()
    scores.update(maps, masks)
    normal = maps[~masks.flatten(1).any(1)]
    assert float(scores.iou(normal.max()).pooled) == 0
    calibrated = scores.iou(scores.normal_quantile(0.995)).pooled
    assert 0.4 < float(calibrated) <= float(scores.iou_max())


def test_the_area_by_trapezoids_is_not_average_precision():
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    targets = torch.tensor([True, False, False, True, False])
    assert float(average_precision(scores, targets)) == pytest.approx(0.75)
    precision = np.array([1, 1, 1 / 2, 1 / 3, 1 / 2, 2 / 5])
    recall = np.array([0, 1 / 2, 1 / 2, 1 / 2, 1, 1])
    assert np.trapezoid(precision, recall) == pytest.approx(0.7083, abs=1e-4)
