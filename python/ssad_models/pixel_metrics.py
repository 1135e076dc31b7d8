# SPDX-License-Identifier: Apache-2.0
"""Metrics of anomaly maps: exact values, and how far they spread over bootstrap samples.

A value is that of `ssad_kernels.PixelScores`. A thousand bootstrap samples of it would take as many
times as long, so their spread alone comes from histograms of each image, over bins between
quantiles of all scores that are the narrower the higher the score.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ssad_kernels import PixelScores

PIXEL_METRICS = {
    "pixel_auroc": "Pixel AUROC",
    "pixel_average_precision": "Pixel average precision",
    "pixel_f1_max": "Best pixel F1",
    "aupro_30": "AUPRO to 30 %",
    "aupro_05": "AUPRO to 5 %",
    "aupro_01": "AUPRO to 1 %",
    "iou_max": "Best IoU",
    "iou": "IoU",
    "iou_per_image": "IoU, mean of images",
}
"""Names and titles. IoU is that of images with defects; its threshold is the 99.5 % quantile of
the pixels of the normal test images, or for the best one whatever is best."""

LIMITS = {"aupro_30": 0.3, "aupro_05": 0.05, "aupro_01": 0.01}
BINS = 4096
_SAMPLED = 1_000_000  # pixels from which quantiles are taken
_ROWS = 64  # bootstrap samples at a time, for the memory


class _Histograms(NamedTuple):
    """Per image and bin, from the highest score down, (N, B) float64 each."""

    normal: Tensor
    anomalous: Tensor
    overlap: Tensor  # anomalous pixels over the area of their component
    alarms: Tensor  # normal pixels of images with a defect


def pixel_metrics(maps: Tensor, masks: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Compute all pixel metrics for several weightings of the images.

    Args:
        maps: (N, 1, S, S) floating, finite.
        masks: (N, 1, S, S) bool, with an anomalous and a normal pixel.
        weights: (R, N) float64, the first row all ones.

    Returns:
        By the names of `PIXEL_METRICS`: (R,) float64; first the exact value, then bootstrap samples
        from histograms, of which only the spread counts. NaN where a sample lacks what it takes.
    """
    scores = PixelScores()
    scores.update(maps, masks)
    state = scores.state()
    threshold = scores.normal_quantile(0.995)
    overlap = scores.iou(threshold)
    aupro = scores.aupro(list(LIMITS.values()))
    exact = {
        "pixel_auroc": scores.auroc(),
        "pixel_average_precision": scores.average_precision(),
        "pixel_f1_max": scores.f1_max(),
        **dict(zip(LIMITS, aupro, strict=True)),
        "iou_max": scores.iou_max(),
        "iou": overlap.pooled,
        "iou_per_image": overlap.per_image,
    }
    histograms = _histograms(maps, masks, state.areas)
    parts = [_ranked(w, histograms, state.components) for w in weights[1:].split(_ROWS)]
    samples = {name: torch.cat([p[name] for p in parts]) for name in parts[0]} if parts else {}
    samples.update(_at_threshold(weights[1:], maps > threshold, masks))
    if not exact["iou"].isfinite():  # no image is without anomalous pixels
        del exact["iou"], exact["iou_per_image"]
    return {name: torch.cat([value[None], samples[name]]) for name, value in exact.items()}


def bin_edges(maps: Tensor) -> Tensor:
    """(B - 1,) rising scores between the B bins; the narrower the higher."""
    flat = maps.flatten().to(torch.promote_types(maps.dtype, torch.float32))
    some = flat[:: flat.numel() // _SAMPLED | 1]  # odd, so that it walks through all columns
    level = 1 - torch.linspace(0, 1, BINS + 1, dtype=flat.dtype)[1:-1] ** 2
    edges: Tensor = some.quantile(level).unique()
    return edges


def places_of(scores: Tensor, edges: Tensor) -> Tensor:
    """The bin of each score, from the highest down, int64."""
    return len(edges) - torch.bucketize(scores.to(edges.dtype), edges)


def false_alarm_rates(normal: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of normal pixels above each bin, and with it, from (R, B) counts; (R, B) each."""
    normals = normal.sum(1, keepdim=True)
    upper = normal.cumsum(1) / normals
    return upper - normal / normals, upper


def area_to(limit: float, lower: Tensor, upper: Tensor, overlap: Tensor, regions: Tensor) -> Tensor:
    """(R,) area under the region overlap up to a false-alarm rate, over it.

    Args:
        limit: The rate.
        lower: See `false_alarm_rates`.
        upper: Likewise.
        overlap: (R, B) what each bin adds to the overlap of all regions.
        regions: (R,) how many there are.
    """
    cut = (limit - lower).clamp(min=0) ** 2 / (2 * (upper - lower))
    part = torch.where(upper <= limit, limit - (lower + upper) / 2, cut.nan_to_num(0.0))
    return (overlap * part).sum(1) / (regions * limit)


def _histograms(maps: Tensor, masks: Tensor, areas: Tensor) -> _Histograms:
    edges = bin_edges(maps)
    bins = len(edges) + 1
    shares = (1 / areas.double()).split(masks.flatten(1).sum(1).tolist())
    rows = []
    for image, mask, share in zip(maps.flatten(1), masks.flatten(1), shares, strict=True):
        place = places_of(image, edges)
        found = place[mask]
        normal = place[~mask].bincount(minlength=bins).double()
        overlap = torch.zeros(bins, dtype=torch.float64).index_add(0, found, share)
        anomalous = found.bincount(minlength=bins).double()
        rows.append((normal, anomalous, overlap, normal * bool(mask.any())))
    return _Histograms(*(torch.stack(column) for column in zip(*rows, strict=True)))


def _ranked(weights: Tensor, histograms: _Histograms, components: Tensor) -> dict[str, Tensor]:
    normal, anomalous, overlap, alarms = (weights @ counts for counts in histograms)
    marked = anomalous.sum(1, keepdim=True)
    lower, upper = false_alarm_rates(normal)
    height = 1 - (lower + upper) / 2
    found, wrong = anomalous.cumsum(1), normal.cumsum(1)
    precision = (found / (found + wrong)).nan_to_num(0.0)
    samples = {
        "pixel_auroc": (anomalous * height).sum(1) / marked[:, 0],
        "pixel_average_precision": (anomalous * precision).sum(1) / marked[:, 0],
        "pixel_f1_max": (2 * found / (found + wrong + marked)).amax(1),
        "iou_max": (found / (marked + alarms.cumsum(1))).amax(1),
    }
    regions = weights @ components.double()
    for name, limit in LIMITS.items():
        samples[name] = area_to(limit, lower, upper, overlap, regions)
    return samples


def _at_threshold(weights: Tensor, above: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """The threshold stays that of all images."""
    marked = masks.flatten(1).any(1)
    hits, unions = (
        (pixels.flatten(1).sum(1) * marked).double() for pixels in (above & masks, above | masks)
    )
    own = torch.where(marked, hits / unions, 0.0)
    return {
        "iou": (weights @ hits) / (weights @ unions),
        "iou_per_image": (weights @ own) / (weights @ marked.double()),
    }
