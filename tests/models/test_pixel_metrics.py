# SPDX-License-Identifier: Apache-2.0
"""Pixel metrics of an evaluation: exact values, and bootstrap samples that are nearly so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

pytest.importorskip("torchmetrics")

from made_up import made_up

import ssad_kernels
from ssad_kernels.testing import make_maps
from ssad_models.evaluate import METRICS, evaluate
from ssad_models.pixel_metrics import PIXEL_METRICS, pixel_metrics

DRAWN = [0, 0, 1, 2, 2, 3, 4, 5, 6, 9, 10, 11]


def values(maps: torch.Tensor, masks: torch.Tensor) -> dict[str, torch.Tensor]:
    scores = ssad_kernels.PixelScores()
    scores.update(maps, masks)
    limits = ("aupro_30", "aupro_05", "aupro_01")
    overlap = scores.iou(scores.normal_quantile(0.995))
    return {
        "pixel_auroc": scores.auroc(),
        "pixel_average_precision": scores.average_precision(),
        "pixel_f1_max": scores.f1_max(),
        **dict(zip(limits, scores.aupro((0.3, 0.05, 0.01)), strict=True)),
        "iou_max": scores.iou_max(),
        "iou": overlap.pooled,
        "iou_per_image": overlap.per_image,
    }


def test_bootstrap_samples_are_near_the_metrics_of_the_images_drawn() -> None:
    maps, masks = make_maps(12, 40, 40)
    drawn = torch.tensor([DRAWN, [0, 3, 6, 7, 7, 8, 8, 8, 9, 1, 1, 2]])
    times = torch.stack([torch.ones(12), *(row.bincount(minlength=12) for row in drawn)]).double()
    found = pixel_metrics(maps, masks, times)
    assert list(found) == list(PIXEL_METRICS)
    for name, value in values(maps, masks).items():
        assert found[name][0] == value, name
    for i, row in enumerate(drawn):
        for name, value in values(maps[row], masks[row]).items():
            if not name.startswith("iou_per") and name != "iou":  # at the threshold of all
                assert float(found[name][1 + i]) == pytest.approx(float(value), abs=5e-3), name


def test_the_threshold_of_iou_is_not_resampled() -> None:
    maps, masks = make_maps(12, 40, 40)
    row = torch.tensor(DRAWN)
    times = torch.stack([torch.ones(12), row.bincount(minlength=12)]).double()
    found = pixel_metrics(maps, masks, times)
    scores = ssad_kernels.PixelScores()
    scores.update(maps, masks)
    expected = ssad_kernels.iou(maps[row], masks[row], scores.normal_quantile(0.995))
    assert float(found["iou"][1]) == pytest.approx(float(expected.pooled), abs=1e-12)
    assert float(found["iou_per_image"][1]) == pytest.approx(float(expected.per_image), abs=1e-12)


def test_an_evaluation_has_them_all_and_does_not_see_the_scale_of_the_scores() -> None:
    test = made_up(["good"] * 6 + ["hole"] * 8, side=32)
    assert test.masks is not None
    maps = torch.rand(14, 1, 32, 32, dtype=torch.float64) + 0.6 * test.masks
    scores = maps.amax((1, 2, 3))
    found = evaluate(test, scores, maps, resamples=30).metrics
    assert list(found) == [name for name in METRICS if name in found]
    assert set(PIXEL_METRICS) <= set(found)
    moved = evaluate(test, scores, torch.exp(9 * maps), resamples=30).metrics
    for name, value in values(maps, test.masks).items():
        assert found[name].value == moved[name].value == float(value)
        assert found[name].low <= float(value) <= found[name].high
    unmasked = evaluate(replace(test, masks=None), scores, maps, resamples=30).metrics
    assert not set(PIXEL_METRICS) & set(unmasked)
    everywhere = replace(test, masks=torch.ones_like(test.masks))
    assert not set(PIXEL_METRICS) & set(evaluate(everywhere, scores, maps, resamples=30).metrics)
    close = evaluate(test, scores, 1 + 1e-12 * maps, resamples=30).metrics["pixel_auroc"]
    assert close.low < close.value < close.high


def test_without_a_normal_image_there_is_no_threshold_for_iou() -> None:
    test = made_up(["good"] * 6 + ["hole"] * 8, side=32)
    assert test.masks is not None
    masks = test.masks.clone()
    masks[:, :, 0, 0] = True
    maps = torch.rand(14, 1, 32, 32)
    found = evaluate(replace(test, masks=masks), maps.amax((1, 2, 3)), maps, resamples=30).metrics
    assert set(PIXEL_METRICS) - set(found) == {"iou", "iou_per_image"}
