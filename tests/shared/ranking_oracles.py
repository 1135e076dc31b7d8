# SPDX-License-Identifier: Apache-2.0
"""Metrics by their definitions, in NumPy and SciPy: a global sort, a curve, trapezoids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[np.float64]


def curve(scores: Array, *weights: Array) -> list[Array]:
    """Cumulated weights from the highest score down, at the end of each tie, from 0 on."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)
    return [np.append(0.0, np.cumsum(w[order])[last]) for w in weights]


def area_up_to(limit: float, x: Array, y: Array) -> float:
    """Trapezoids up to x = limit, where the curve is cut; divided by the limit."""
    inside = x <= limit
    xs = np.append(x[inside], limit)
    ys = np.append(y[inside], np.interp(limit, x, y))
    if inside.sum() < len(x):  # several points may lie at one x: go on from the last
        i = int(inside.sum())
        share = (limit - x[i - 1]) / (x[i] - x[i - 1])
        ys[-1] = y[i - 1] + share * (y[i] - y[i - 1])
    return float(np.trapezoid(ys, xs) / limit)


def label(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """8-connected components by SciPy."""
    ndimage = pytest.importorskip("scipy.ndimage")
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    return labels, int(count)


def component_weights(masks: NDArray[np.bool_]) -> Array:
    """1 / (K |C|) in each component, for masks (N, H, W)."""
    weights, total = np.zeros(masks.shape), 0
    for mask, weight in zip(masks, weights, strict=True):
        labels, count = label(mask)
        total += count
        for number in range(1, count + 1):
            weight[labels == number] = 1 / (labels == number).sum()
    return weights / total


def aupro(maps: Array, masks: NDArray[np.bool_], limits: Sequence[float]) -> list[float]:
    """Of maps and masks (N, H, W)."""
    normal = (~masks / (~masks).sum()).ravel()
    x, y = curve(maps.ravel(), normal, component_weights(masks).ravel())
    return [area_up_to(limit, x, y) for limit in limits]


def spro(
    maps: Array,
    defects: NDArray[np.bool_],
    image: NDArray[np.int64],
    saturation: Array,
    limits: Sequence[float],
) -> list[float]:
    """The overlap at every threshold that occurs, from its definition; defects (D, H, W)."""
    union = np.zeros(maps.shape, bool)
    for defect, i in zip(defects, image, strict=True):
        union[i] |= defect
    x, y = [0.0], [0.0]
    enough = np.minimum(saturation, defects.sum((1, 2)))
    for threshold in np.unique(maps)[::-1]:
        above = maps >= threshold
        covered = (above[image] & defects).sum((1, 2))
        x.append((above & ~union).sum() / (~union).sum())
        y.append(np.minimum(covered / enough, 1).mean())
    return [area_up_to(limit, np.array(x), np.array(y)) for limit in limits]
