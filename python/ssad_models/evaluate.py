# SPDX-License-Identifier: Apache-2.0
"""How well scores tell anomalous test images from normal ones, with bootstrap intervals.

Every metric is computed for a whole batch of weightings of the images at once: the first row weighs
all alike and gives the value, the others are bootstrap samples and give its interval. All values
are exact; the bootstrap samples of pixel metrics are not (see `pixel_metrics`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ssad_models.data.split import Split
from ssad_models.defect_metrics import DEFECT_METRICS, defect_metrics
from ssad_models.pixel_metrics import PIXEL_METRICS, pixel_metrics

METRICS = {
    "auroc": "Image AUROC",
    "average_precision": "Average precision",
    "f1_max": "Best F1",
    **PIXEL_METRICS,
    **DEFECT_METRICS,
    "detection_rate": "Detection rate",
    "false_alarm_rate": "False-alarm rate",
}
"""What `Evaluation.metrics` can hold, and how to name it in print."""

HISTOGRAM_BINS = 20
ROC_POINTS = 200


@dataclass(frozen=True)
class Estimate:
    """A value in 0..1 and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Group:
    """The anomalous images of one kind, or of one kind and strength, against all normal ones.

    Attributes:
        kind: Kind of defect.
        strength: Its strength; None stands for all strengths together.
        count: Number of anomalous images.
        auroc: Image AUROC.
        detection_rate: Share of them above the threshold; None without a threshold.
    """

    kind: str
    strength: float | None
    count: int
    auroc: Estimate
    detection_rate: Estimate | None


@dataclass(frozen=True)
class Histogram:
    """Numbers of images per bin of the score.

    Attributes:
        edges: B + 1 rising scores. The outermost bins also hold whatever lies beyond them.
        normal: B counts.
        anomalous: B counts.
    """

    edges: tuple[float, ...]
    normal: tuple[int, ...]
    anomalous: tuple[int, ...]


@dataclass(frozen=True)
class Evaluation:
    """Result on one test set.

    Attributes:
        normal: Number of normal images.
        anomalous: Number of anomalous ones.
        threshold: Images that score above it count as detected; None if there is none.
        metrics: By the names of `METRICS`, as far as there is a threshold, maps and masks.
        kinds: One group per kind.
        cells: One group per kind and strength; empty if strengths are unknown.
        roc: (false-alarm rate, detection rate) points from (0, 0) to (1, 1).
        histogram: Of the scores.
    """

    normal: int
    anomalous: int
    threshold: float | None
    metrics: dict[str, Estimate]
    kinds: tuple[Group, ...]
    cells: tuple[Group, ...]
    roc: tuple[tuple[float, float], ...]
    histogram: Histogram

    def to_dict(self) -> dict[str, Any]:
        """The same in plain types, for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Evaluation:
        """Take back what `to_dict` gave, also after a trip through JSON."""

        def groups(several: Sequence[Mapping[str, Any]]) -> tuple[Group, ...]:
            return tuple(Group(**{**one, **estimates(one)}) for one in several)

        def estimates(one: Mapping[str, Any]) -> dict[str, Any]:
            return {k: Estimate(**v) for k, v in one.items() if isinstance(v, Mapping)}

        return Evaluation(
            **{
                **values,
                "metrics": estimates(values["metrics"]),
                "kinds": groups(values["kinds"]),
                "cells": groups(values["cells"]),
                "roc": tuple((x, y) for x, y in values["roc"]),
                "histogram": Histogram(**{k: tuple(v) for k, v in values["histogram"].items()}),
            }
        )


def evaluate(
    test: Split,
    scores: torch.Tensor,
    maps: torch.Tensor | None = None,
    *,
    threshold: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Compare scores with labels, and maps with masks.

    Args:
        test: The test set. Images of one group are resampled together.
        scores: (N,) floating, one per image; higher means more anomalous.
        maps: (N, 1, S, S) floating, anomaly of every pixel on one scale for all images, or None.
        threshold: Images that score above it count as detected.
        resamples: Number of bootstrap samples, at least 1.
        seed: Of the resampling.

    Returns:
        The evaluation; pixel metrics only with maps and masks, rates only with a threshold.

    Raises:
        ValueError: If shapes do not fit, a score or map is not finite, the test set lacks normal or
            anomalous images, or there are no samples.
    """
    scores, maps = scores.detach().cpu().double(), None if maps is None else maps.detach().cpu()
    _check(test, scores, maps)
    if resamples < 1:
        msg = f"evaluate: `resamples` must be at least 1, got {resamples}"
        raise ValueError(msg)
    labels = test.labels
    weights = _weights(test.groups, resamples, seed)

    def group(kind: str, strength: float | None, members: torch.Tensor) -> Group:
        rows = (members | ~labels).nonzero()[:, 0]
        auroc = _ranking(*_histograms(weights[:, rows], scores[rows], labels[rows]))["auroc"]
        detected = (
            None if threshold is None else _share(weights, test.groups, scores > threshold, members)
        )
        return Group(kind, strength, int(members.sum()), _estimate(auroc), detected)

    of_kind = {
        kind: labels & torch.tensor([k == kind for k in test.kinds])
        for kind, anomalous in zip(test.kinds, labels.tolist(), strict=True)
        if anomalous
    }
    positive, negative = _histograms(weights, scores, labels)
    metrics = {name: _estimate(s) for name, s in _ranking(positive, negative).items()}
    if maps is not None and test.masks is not None and test.masks.any() and not test.masks.all():
        pixels = pixel_metrics(maps, test.masks, weights)
        metrics.update({name: _estimate(samples) for name, samples in pixels.items()})
    if maps is not None and test.annotations is not None:
        overlaps = defect_metrics(maps, test.annotations, weights)
        metrics.update({name: _estimate(samples) for name, samples in overlaps.items()})
    if threshold is not None:
        metrics["detection_rate"] = _share(weights, test.groups, scores > threshold, labels)
        metrics["false_alarm_rate"] = _share(weights, test.groups, scores > threshold, ~labels)
    return Evaluation(
        normal=int((~labels).sum()),
        anomalous=int(labels.sum()),
        threshold=threshold,
        metrics=metrics,
        kinds=tuple(group(kind, None, members) for kind, members in of_kind.items()),
        cells=tuple(
            group(kind, strength, members & (test.strengths == strength))
            for kind, members in of_kind.items()
            for strength in test.strengths[members & ~test.strengths.isnan()].unique().tolist()
        ),
        roc=_roc(positive[0], negative[0]),
        histogram=_histogram(scores, labels, threshold),
    )


def _check(test: Split, scores: torch.Tensor, maps: torch.Tensor | None) -> None:
    if scores.shape != (len(test),):
        msg = f"evaluate: `scores` must have shape ({len(test)},), got {tuple(scores.shape)}"
        raise ValueError(msg)
    if maps is not None and test.masks is not None and maps.shape != test.masks.shape:
        must = f"have the shape of the masks, {tuple(test.masks.shape)}"
        msg = f"evaluate: `maps` must {must}, got {tuple(maps.shape)}"
        raise ValueError(msg)
    for name, values in (("scores", scores), ("maps", maps)):
        if values is not None:
            finite = values.isfinite().reshape(len(test), -1).all(1)
            if not finite.all():
                odd = test.names[int(finite.int().argmin())]
                msg = f"evaluate: `{name}` must be finite, got NaN or infinity for {odd!r}"
                raise ValueError(msg)
    anomalous = int(test.labels.sum())
    if anomalous in (0, len(test)):
        must = "hold both normal and anomalous images"
        msg = f"evaluate: the test set must {must}, got {len(test) - anomalous} and {anomalous}"
        raise ValueError(msg)


def _weights(groups: torch.Tensor, resamples: int, seed: int) -> torch.Tensor:
    """(1 + resamples, N) float64: ones, then how often each image's group was drawn."""
    group = groups.unique(return_inverse=True)[1]
    count = int(group.max()) + 1
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(count, (resamples, count), generator=generator)
    times = torch.zeros(resamples, count, dtype=torch.float64)
    times.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
    return torch.cat([torch.ones(1, len(group), dtype=torch.float64), times[:, group]])


def _estimate(samples: torch.Tensor) -> Estimate:
    """Value from the first sample, interval from the others."""
    value, others = samples[0], samples[1:]
    others = others[others.isfinite()]  # a sample may lack normal or anomalous images
    # A group drawn twice is paired with itself, where detection is easier, so the samples lie to
    # one side of the value. Only their spread is wanted.
    centred = (others - others.mean() + value).clamp(0, 1)
    low, high = centred.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(float(value), low, high)


def _share(
    weights: torch.Tensor, groups: torch.Tensor, chosen: torch.Tensor, among: torch.Tensor
) -> Estimate:
    """The share of `chosen` images; an interval at least as wide as Wilson's for so many groups.

    Resampling alone would be sure that what was never seen never happens.
    """
    share = _estimate(weights[:, among & chosen].sum(1) / weights[:, among].sum(1))
    z2 = 1.959964**2 / len(groups[among].unique())
    centre = (share.value + z2 / 2) / (1 + z2)
    half = math.sqrt(share.value * (1 - share.value) * z2 + z2**2 / 4) / (1 + z2)
    return Estimate(share.value, min(share.low, centre - half), max(share.high, centre + half))


def _histograms(
    weights: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight of anomalous and of normal images at each distinct score, two of (R, B)."""
    values, bins = scores.unique(return_inverse=True)
    empty = weights.new_zeros(len(weights), len(values))
    return (
        empty.index_add(1, bins[labels], weights[:, labels]),
        empty.index_add(1, bins[~labels], weights[:, ~labels]),
    )


def _ranking(positive: torch.Tensor, negative: torch.Tensor) -> dict[str, torch.Tensor]:
    """Metrics of rankings from weights per bin of rising score, (R, B) each; ties count half."""
    all_positive, all_negative = positive.sum(1), negative.sum(1)
    below = negative.cumsum(1) - negative / 2
    found, alarms = positive.flip(1).cumsum(1), negative.flip(1).cumsum(1)
    precision = (found / (found + alarms)).nan_to_num(0.0)
    return {
        "auroc": (positive * below).sum(1) / (all_positive * all_negative),
        "average_precision": (positive.flip(1) * precision).sum(1) / all_positive,
        "f1_max": (2 * found / (found + alarms + all_positive[:, None])).amax(1),
    }


def _roc(positive: torch.Tensor, negative: torch.Tensor) -> tuple[tuple[float, float], ...]:
    rates = [
        torch.cat([w.new_zeros(1), w.flip(0).cumsum(0)]) / w.sum() for w in (negative, positive)
    ]
    shown = torch.linspace(0, len(rates[0]) - 1, min(ROC_POINTS, len(rates[0]))).round().long()
    return tuple(zip(*(rate[shown].tolist() for rate in rates), strict=True))


def _histogram(scores: torch.Tensor, labels: torch.Tensor, threshold: float | None) -> Histogram:
    # One far outlier would otherwise squeeze all others into a single bin.
    low, high = scores.quantile(torch.tensor([0.01, 0.99], dtype=torch.float64)).tolist()
    if threshold is not None:
        low, high = min(low, threshold), max(high, threshold)
    edges = torch.linspace(low, high, HISTOGRAM_BINS + 1, dtype=torch.float64)
    bins = torch.bucketize(scores, edges[1:-1])
    normal, anomalous = (
        tuple(bins[side].bincount(minlength=HISTOGRAM_BINS).tolist()) for side in (~labels, labels)
    )
    return Histogram(tuple(edges.tolist()), normal, anomalous)
