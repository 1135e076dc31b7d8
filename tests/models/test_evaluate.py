# SPDX-License-Identifier: Apache-2.0
"""Metrics against scikit-learn and torchmetrics, and the intervals against the truth."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

pytest.importorskip("torchmetrics")

from made_up import made_up
from sklearn.metrics import roc_auc_score
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    binary_precision_recall_curve,
)

from ssad_models.evaluate import METRICS, Evaluation, Group, evaluate

KINDS = ["good"] * 30 + ["hole"] * 10 + ["dent"] * 10
STRENGTHS = [0.0] * 30 + [4.0, 8.0] * 10


@pytest.mark.parametrize("ties", [False, True])
def test_metrics_agree_with_torchmetrics(ties: bool) -> None:
    test = made_up(KINDS)
    scores = torch.randn(50, dtype=torch.float64) + test.labels
    scores = scores.round() if ties else scores
    # Between 0 and 1, because torchmetrics squashes other scores, which makes ties.
    ranks = scores.unique(return_inverse=True)[1].double() / 50
    metrics = evaluate(test, 100 * scores + 20, resamples=20).metrics
    precision, recall, _ = binary_precision_recall_curve(ranks, test.labels.long())
    f1 = (2 * precision * recall / (precision + recall)).nan_to_num(0).max()
    for name, expected in (
        ("auroc", binary_auroc(ranks, test.labels.long())),
        ("average_precision", binary_average_precision(ranks, test.labels.long())),
        ("f1_max", f1),
    ):
        assert metrics[name].value == pytest.approx(float(expected), abs=1e-6)
        assert 0 <= metrics[name].low <= metrics[name].value <= metrics[name].high <= 1


def test_kinds_and_strengths_are_each_compared_with_all_normal_images() -> None:
    test = made_up(KINDS, STRENGTHS)
    scores = torch.randn(50, dtype=torch.float64)
    result = evaluate(test, scores, threshold=0.0, resamples=20)
    assert [g.kind for g in result.kinds] == ["hole", "dent"]
    assert [(g.kind, g.strength, g.count) for g in result.cells] == [
        ("hole", 4.0, 5),
        ("hole", 8.0, 5),
        ("dent", 4.0, 5),
        ("dent", 8.0, 5),
    ]

    def expect(group: Group, rows: torch.Tensor) -> None:
        labels = [0] * 30 + [1] * len(rows)
        auroc = roc_auc_score(labels, torch.cat([scores[:30], scores[rows]]))
        assert group.auroc.value == pytest.approx(auroc)
        assert group.detection_rate is not None
        assert group.detection_rate.value == pytest.approx(
            float((scores[rows] > 0).double().mean())
        )

    expect(result.kinds[1], torch.arange(40, 50))
    expect(result.cells[1], torch.arange(31, 40, 2))
    assert evaluate(made_up(KINDS), scores, resamples=20).cells == ()


def test_rates_count_scores_above_the_threshold() -> None:
    test = made_up(["good"] * 4 + ["hole"] * 2)
    scores = torch.tensor([0.0, 1.0, 2.0, 3.0, 2.0, 4.0])
    metrics = evaluate(test, scores, threshold=2.0, resamples=20).metrics
    assert metrics["detection_rate"].value == 0.5
    assert metrics["false_alarm_rate"].value == 0.25
    assert "detection_rate" not in evaluate(test, scores, resamples=20).metrics


def test_no_false_alarm_in_a_few_images_is_no_proof() -> None:
    test = made_up(["good"] * 10 + ["hole"] * 10)
    rate = evaluate(test, test.labels.double(), threshold=0.5).metrics["false_alarm_rate"]
    # Wilson's interval of 0 in 10, Brown et al., "Interval estimation for a binomial proportion".
    assert rate.value == rate.low == 0
    assert rate.high == pytest.approx(0.2775, abs=1e-4)


def test_pixel_auroc() -> None:
    test = made_up(KINDS, side=32)
    assert test.masks is not None
    maps = torch.randn(50, 1, 32, 32) + 0.7 * test.masks
    metrics = evaluate(test, torch.randn(50), maps, resamples=20).metrics
    expected = roc_auc_score(test.masks.flatten(), maps.flatten())
    assert metrics["pixel_auroc"].value == pytest.approx(expected, abs=1e-4)
    assert list(metrics) == [name for name in METRICS if name in metrics]
    unmasked = evaluate(replace(test, masks=None), torch.randn(50), maps, resamples=20)
    assert "pixel_auroc" not in unmasked.metrics


def test_perfect_scores_and_constant_scores() -> None:
    test = made_up(KINDS)
    perfect = evaluate(test, test.labels.double(), test.masks.double(), resamples=50)  # type: ignore[union-attr]
    assert all(e.value == e.low == e.high == 1 for e in perfect.metrics.values())
    constant = evaluate(test, torch.zeros(50), torch.zeros(50, 1, 8, 8), resamples=50)
    assert constant.metrics["auroc"].value == constant.metrics["pixel_auroc"].value == 0.5
    assert constant.roc == ((0.0, 0.0), (1.0, 1.0))


def test_roc_is_a_staircase_under_which_lies_the_auroc() -> None:
    scores = torch.randn(50)
    result = evaluate(made_up(KINDS), scores, resamples=20)
    x, y = torch.tensor(result.roc, dtype=torch.float64).T
    assert float(torch.trapezoid(y, x)) == pytest.approx(result.metrics["auroc"].value)
    assert len(evaluate(made_up(KINDS * 20), torch.randn(1000), resamples=2).roc) == 200


def test_histogram_counts_every_image_and_spans_the_threshold() -> None:
    scores = torch.randn(50)
    scores[0] = 1e6
    histogram = evaluate(
        made_up(KINDS * 4), scores.repeat(4), threshold=-9.0, resamples=2
    ).histogram
    assert sum(histogram.normal) == 120
    assert sum(histogram.anomalous) == 80
    assert histogram.edges[0] == -9
    flat = evaluate(made_up(KINDS), torch.ones(50), resamples=2).histogram
    assert (sum(flat.normal), sum(flat.anomalous)) == (30, 20)


def test_intervals_cover_the_truth() -> None:
    """Two unit normals one apart have AUROC 0.7602; some 95 % of intervals hold it."""
    test = made_up(["good"] * 40 + ["hole"] * 40)
    generator = torch.Generator().manual_seed(3)
    hits = 0
    for _ in range(60):
        scores = torch.randn(80, generator=generator) + test.labels
        auroc = evaluate(test, scores, resamples=200).metrics["auroc"]
        hits += auroc.low <= 0.7602 <= auroc.high
    assert 50 <= hits <= 60


def test_images_of_a_group_do_not_count_as_independent() -> None:
    kinds = ["good"] * 32 + ["hole"] * 32
    place = torch.arange(16).repeat_interleave(4)  # no place has images of both sorts
    scores = torch.randn(16, generator=torch.Generator().manual_seed(4))[place]
    scores[32:] += 1
    widths = []
    for groups in (None, place.tolist()):
        auroc = evaluate(made_up(kinds, groups=groups), scores, resamples=300).metrics["auroc"]
        widths.append(auroc.high - auroc.low)
    assert widths[1] > 1.3 * widths[0]


def test_same_seed_same_result_in_plain_types() -> None:
    test, scores = made_up(KINDS, STRENGTHS), torch.randn(50)
    first, again = (evaluate(test, scores, threshold=0.5, resamples=20) for _ in range(2))
    assert first == again
    content = json.loads(json.dumps(first.to_dict(), allow_nan=False))
    assert content["metrics"]["auroc"]["value"] == first.metrics["auroc"].value
    assert Evaluation.from_dict(content) == first
    unknown = evaluate(made_up(KINDS), scores, resamples=20)
    assert Evaluation.from_dict(json.loads(json.dumps(unknown.to_dict()))) == unknown


def test_errors_say_what_must_be_and_what_came() -> None:
    test = made_up(KINDS)
    with pytest.raises(ValueError, match=r"`scores` must have shape \(50,\), got \(3,\)"):
        evaluate(test, torch.zeros(3))
    with pytest.raises(ValueError, match="`maps` must have the shape of the masks"):
        evaluate(test, torch.zeros(50), torch.zeros(50, 1, 4, 4))
    scores = torch.zeros(50)
    scores[31] = float("nan")
    with pytest.raises(ValueError, match=r"`scores` must be finite.*'hole/031.png'"):
        evaluate(test, scores)
    with pytest.raises(ValueError, match="`resamples` must be at least 1, got 0"):
        evaluate(test, torch.zeros(50), resamples=0)
    with pytest.raises(ValueError, match="both normal and anomalous images, got 5 and 0"):
        evaluate(made_up(["good"] * 5), torch.zeros(5))
