# SPDX-License-Identifier: Apache-2.0
"""Metrics of anomaly maps against defects that are annotated one by one.

The value is that of `ssad_kernels.DefectScores`, on maps of the annotations' size. The spread over
bootstrap samples comes from histograms of each image, as in `pixel_metrics`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssad_kernels.saturated import DefectScores, defect_state
from ssad_models.data.split import Annotations
from ssad_models.pixel_metrics import area_to, bin_edges, false_alarm_rates, places_of

DEFECT_METRICS = {"spro_30": "sPRO to 30 %", "spro_05": "sPRO to 5 %"}
"""Names and titles."""

_LIMITS = {"spro_30": 0.3, "spro_05": 0.05}


def defect_metrics(maps: Tensor, annotations: Annotations, weights: Tensor) -> dict[str, Tensor]:
    """Compute sPRO for several weightings of the images.

    Args:
        maps: (N, 1, S, S) floating, finite. Each is brought to the size of its image by bilinear
            interpolation, one after another; the scores of all stay: 5 bytes a pixel of a file.
        annotations: Of the N images.
        weights: (R, N) float64, the first row all ones.

    Returns:
        By the names of `DEFECT_METRICS`: (R,) float64; first the exact value, then bootstrap
        samples from histograms, of which only the spread counts. Empty without any defect, or
        without a pixel that is in none.
    """
    scores, edges = DefectScores(), bin_edges(maps)
    bins = len(edges) + 1
    columns: list[tuple[Tensor, Tensor, Tensor]] = []
    for small, defects in zip(maps.split(1), annotations, strict=True):
        whole = torch.nn.functional.interpolate(
            small, size=defects.masks.shape[2:], mode="bilinear", align_corners=False
        )
        count = len(defects.masks)
        image = torch.zeros(count, dtype=torch.int64)
        state = defect_state(whole, defects.masks, image, defects.saturation)
        scores.merge(DefectScores.of(state))
        normal = places_of(state.scores[~state.targets], edges).bincount(minlength=bins)
        overlap = torch.zeros(bins, dtype=torch.float64)
        overlap.index_add_(0, places_of(state.found, edges), state.weights)
        columns.append((normal.double(), overlap, torch.tensor(float(count)).double()))
    exact = scores.spro(list(_LIMITS.values()))
    if not exact.isfinite().all():
        return {}
    normal, overlap, regions = (weights[1:] @ torch.stack(c) for c in zip(*columns, strict=True))
    lower, upper = false_alarm_rates(normal)
    return {
        name: torch.cat([value[None], area_to(limit, lower, upper, overlap, regions)])
        for (name, limit), value in zip(_LIMITS.items(), exact, strict=True)
    }
