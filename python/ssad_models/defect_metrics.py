# SPDX-License-Identifier: Apache-2.0
"""Metrics of anomaly maps against defects that are annotated one by one.

The value is that of `ssad_kernels.spro`, on maps of the annotations' size. The spread over
bootstrap samples comes from histograms of each image, as in `pixel_metrics`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ssad_kernels.ranking import area_below, as_counted, count_above, most_for
from ssad_kernels.saturated import defect_state
from ssad_models.data.split import Annotations, Defects
from ssad_models.pixel_metrics import area_to, bin_edges, false_alarm_rates, places_of

DEFECT_METRICS = {"spro_30": "sPRO to 30 %", "spro_05": "sPRO to 5 %"}
"""Names and titles."""

_LIMITS = {"spro_30": 0.3, "spro_05": 0.05}


def defect_metrics(maps: Tensor, annotations: Annotations, weights: Tensor) -> dict[str, Tensor]:
    """Compute sPRO for several weightings of the images.

    Args:
        maps: (N, 1, S, S) floating, finite. Each is brought to the size of its image by bilinear
            interpolation, one after another and twice: only the highest scores stay, after a first
            pass has told which those are.
        annotations: Of the N images.
        weights: (R, N) float64, the first row all ones.

    Returns:
        By the names of `DEFECT_METRICS`: (R,) float64; first the exact value, then bootstrap
        samples from histograms, of which only the spread counts. Empty without any defect, or
        without a pixel that is in none.
    """
    edges = bin_edges(maps)
    bins = len(edges) + 1
    found, shares, columns = [], [], []
    for whole, defects in _enlarged(maps, annotations):
        count = len(defects.masks)
        image = torch.zeros(count, dtype=torch.int64)
        state = defect_state(whole, defects.masks, image, defects.saturation)
        normal = places_of(state.scores[~state.targets], edges).bincount(minlength=bins)
        overlap = torch.zeros(bins, dtype=torch.float64)
        overlap.index_add_(0, places_of(state.found, edges), state.weights)
        columns.append((normal.double(), overlap, torch.tensor(float(count)).double()))
        found.append(state.found)
        shares.append(state.weights)
    normal, overlap, regions = (torch.stack(column) for column in zip(*columns, strict=True))
    normals = int(normal.sum())
    most = most_for(max(_LIMITS.values()), normals)
    # The bins down to this one hold `most` scores, and nothing below has a part in the area.
    last = int(torch.searchsorted(normal.sum(0).cumsum(0), most))
    lowest = edges[-last - 1] if last < len(edges) else -torch.inf
    high = [
        whole[~defects.masks.any(0, keepdim=True) & (whole > lowest)]
        for whole, defects in _enlarged(maps, annotations)
    ]
    counts = count_above(torch.cat(found), as_counted(torch.cat(high)), most=most)
    exact = {
        name: area_below(counts, normals, torch.cat(shares), limit)
        for name, limit in _LIMITS.items()
    }
    lower, upper = false_alarm_rates(weights[1:] @ normal)
    samples = {
        name: area_to(limit, lower, upper, weights[1:] @ overlap, weights[1:] @ regions)
        for name, limit in _LIMITS.items()
    }
    return {
        name: torch.cat([value[None], samples[name]])
        for name, value in exact.items()
        if value.isfinite()
    }


def _enlarged(maps: Tensor, annotations: Annotations) -> Iterator[tuple[Tensor, Defects]]:
    """The map (1, 1, H, W) and the defects of each image."""
    for small, defects in zip(maps.split(1), annotations, strict=True):
        size = defects.masks.shape[2:]
        yield interpolate(small, size=size, mode="bilinear", align_corners=False), defects
