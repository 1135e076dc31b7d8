# SPDX-License-Identifier: Apache-2.0
"""Other ways to the metrics of maps, and the maps that they are compared on."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness import optional, require

ndimage, adeval = optional("scipy.ndimage"), optional("adeval")


@cache
def scene(n: int, side: int) -> tuple[Tensor, Tensor]:
    """Maps in 0...1, float32, of a good detector, and masks: three defects in two of three."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(n, 1, side, side, dtype=torch.bool)
    for i in range(n):
        for _ in range(3 if i % 3 else 0):
            h, w = torch.randint(side // 16, side // 6, (2,), generator=generator).tolist()
            y, x = torch.randint(0, side - max(h, w), (2,), generator=generator).tolist()
            masks[i, 0, y : y + h, x : x + w] = True
    coarse = torch.rand(n, 1, 24, 24, generator=generator)
    noise = torch.rand(n, 1, side, side, generator=generator)
    background = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    blurred = torch.nn.functional.avg_pool2d(masks.float(), 9, 1, 4)
    maps = (0.4 * background**2 + 0.02 * noise + 0.5 * blurred).clamp(0, 1)
    return maps, masks


def sorted_in_torch(maps: Tensor, masks: Tensor, limit: float = 0.3) -> float:
    """The exact AUPRO that anomalib computes, rebuilt: a sort of all pixels, weighted steps.

    anomalib labels components and gives each of their pixels one over the area, each normal pixel
    one over their number; sorts all scores, cumulates both, keeps the ends of ties, and integrates
    up to the limit.
    """
    require(ndimage, "scipy")
    overlap = torch.zeros(masks.shape, dtype=torch.float64)
    count = 0
    for mask, out in zip(masks[:, 0].numpy(), overlap[:, 0].numpy(), strict=True):
        labels, found = ndimage.label(mask, np.ones((3, 3)))
        areas = np.bincount(labels.ravel(), minlength=found + 1).astype(np.float64)
        areas[0] = np.inf
        out += 1 / areas[labels]
        count += found
    scores, order = maps.flatten().sort(descending=True)
    normal = (~masks).flatten()[order].double()
    rate = normal.cumsum(0) / normal.sum()
    pro = overlap.flatten()[order].cumsum(0) / count
    ends = torch.cat([scores[1:] != scores[:-1], torch.ones(1, dtype=torch.bool)])
    x = torch.cat([torch.zeros(1, dtype=torch.float64), rate[ends]])
    y = torch.cat([torch.zeros(1, dtype=torch.float64), pro[ends]])
    inside = x <= limit
    last = int(inside.sum()) - 1
    area = torch.trapezoid(y[inside], x[inside])
    if last + 1 < len(x):
        step = limit - x[last]
        height = y[last] + (y[last + 1] - y[last]) * step / (x[last + 1] - x[last])
        area = area + step * (y[last] + height) / 2
    return float(area / limit)


def adeval_values(maps: Tensor, masks: Tensor, bins: int = 1000) -> dict[str, float]:
    """AUROC and AUPRO by ADEval, from histograms of so many bins.

    Its function for the trapezoids is gone from NumPy; the one of today stands in.
    """
    require(adeval, "ADEval")
    if not hasattr(np, "trapz"):
        setattr(np, "trapz", np.trapezoid)  # noqa: B010  # unknown to type checkers
    scores: Any = adeval.EvalAccumulator(
        0.0, 1.0, float(maps.min()), float(maps.max()), skip_pixel_aupro=False, nstrips=bins
    )
    for anomaly, mask in zip(maps[:, 0].numpy(), masks[:, 0].numpy(), strict=True):
        scores.add_anomap(anomaly, mask.astype(np.uint8))
    for add in (scores.add_image, scores.add_sample):  # it wants to sum these up, too
        add(np.array([0.0, 1.0]), np.array([0, 1]))
    summary = scores.summary()
    return {"auroc": summary["p_auroc"], "aupro": summary["p_aupro"]}


def hundred_thresholds(maps: Tensor, masks: Tensor, limit: float = 0.3) -> float:
    """AUPRO from 100 quantiles of the normal scores, as scripts do that are quick to run."""
    normal = np.sort(maps[~masks].numpy())
    places = np.round(np.linspace(0, len(normal) - 1, 100)).astype(int)
    thresholds = normal[places][::-1]
    labels = [ndimage.label(mask, np.ones((3, 3))) for mask in masks[:, 0].numpy()]
    overlaps = []
    for anomaly, (numbers, count) in zip(maps[:, 0].numpy(), labels, strict=True):
        for k in range(1, count + 1):
            region = np.sort(anomaly[numbers == k])
            covered = len(region) - np.searchsorted(region, thresholds, "right")
            overlaps.append(covered / len(region))
    rate = 1 - np.searchsorted(normal, thresholds, "right") / len(normal)
    pro = np.mean(overlaps, axis=0)
    x, y = np.append(0.0, rate), np.append(0.0, pro)
    height = np.interp(limit, x, y)
    inside = x < limit
    area = np.trapezoid(np.append(y[inside], height), np.append(x[inside], limit))
    return float(area / limit)
