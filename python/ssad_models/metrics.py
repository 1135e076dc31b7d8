# SPDX-License-Identifier: Apache-2.0
"""Exact metrics as torchmetrics has them: batch by batch, and on several processes.

They need every score, so their states grow with the test set, for pixels by 5 bytes each. A sigmoid
is never applied, and nothing is binned: only the order of the scores matters. As with torchmetrics'
own, states are in checkpoints after ``metric.persistent(True)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from ssad_kernels._errors import wording
from ssad_kernels.pixel_scores import PixelScores, PixelState, pixel_state
from ssad_kernels.ranking import (
    Limits,
    auroc,
    average_precision,
    checked,
    checked_limits,
    f1_max,
)
from ssad_kernels.saturated import DefectScores, DefectState, defect_state

_DTYPES = (torch.bool, torch.int64, torch.float32, torch.float64)  # of states, narrowest first


def _gather(values: Tensor, group: Any = None) -> list[Tensor]:
    """The values of all processes, in the dtype of those that have any.

    A process without images does not know that dtype: torchmetrics gives it an empty float32, and
    between unlike dtypes bytes are exchanged for what they are not.
    """
    own = _DTYPES.index(values.dtype) if len(values) else -1
    places = gather_all_tensors(torch.tensor(own, device=values.device), group)
    widest = int(torch.stack(places).max())
    gathered: list[Tensor] = gather_all_tensors(values.to(_DTYPES[widest]), group)
    return gathered


class _Collected(Metric):
    """A metric whose states are lists of tensors, one entry per update."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    def __init__(self, fields: Sequence[str], **options: Any) -> None:
        super().__init__(**{"dist_sync_fn": _gather, **options})
        self._fields_of_state = tuple(fields)
        for field in fields:
            self.add_state(field, default=[], dist_reduce_fx="cat")

    def _append(self, state: Sequence[Tensor]) -> None:
        for field, value in zip(self._fields_of_state, state, strict=True):
            getattr(self, field).append(value)

    def _collected(self) -> list[Tensor]:
        state = [getattr(self, field) for field in self._fields_of_state]
        if not any(map(len, state)):
            must = "be called first, in one process at least"
            raise ValueError(wording(type(self).__name__, "update", must, "no call"))
        return [dim_zero_cat(values) for values in state]


class _ImageState(NamedTuple):
    scores: Tensor
    targets: Tensor


class _ImageMetric(_Collected):
    """Call: ``metric(scores, targets)``, (N,) floating and (N,) of 0 and 1 or bool."""

    def __init__(self, **options: Any) -> None:
        super().__init__(_ImageState._fields, **options)

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Add images."""
        scores, targets = checked(type(self).__name__, scores, targets.bool())
        # The caller may write into its tensors again.
        self._append((scores.clone(), targets.clone()))


class ImageAUROC(_ImageMetric):
    """See `ssad_kernels.auroc`; of images."""

    def compute(self) -> Tensor:
        """() float64."""
        return auroc(*self._collected())


class ImageAveragePrecision(_ImageMetric):
    """See `ssad_kernels.average_precision`; of images."""

    def compute(self) -> Tensor:
        """() float64."""
        return average_precision(*self._collected())


class ImageF1Max(_ImageMetric):
    """See `ssad_kernels.f1_max`; of images."""

    def compute(self) -> Tensor:
        """() float64."""
        return f1_max(*self._collected())


class _PixelMetric(_Collected):
    """Call: ``metric(maps, masks)``, (N, 1, H, W) or (N, H, W), floating and 0 and 1 or bool."""

    def __init__(self, **options: Any) -> None:
        super().__init__(PixelState._fields, **options)

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Add images."""
        maps, masks = (x[:, None] if x.dim() == 3 else x for x in (maps, masks))
        state = pixel_state(maps, masks.bool(), op=type(self).__name__)
        # The caller may write into its tensors again.
        self._append(state._replace(scores=state.scores.clone(), targets=state.targets.clone()))

    def _pixels(self) -> PixelScores:
        return PixelScores.of(PixelState(*self._collected()))


class PixelAUROC(_PixelMetric):
    """See `ssad_kernels.PixelScores.auroc`."""

    def compute(self) -> Tensor:
        """() float64."""
        return self._pixels().auroc()


class PixelAveragePrecision(_PixelMetric):
    """See `ssad_kernels.PixelScores.average_precision`."""

    def compute(self) -> Tensor:
        """() float64."""
        return self._pixels().average_precision()


class PixelF1Max(_PixelMetric):
    """See `ssad_kernels.PixelScores.f1_max`."""

    def compute(self) -> Tensor:
        """() float64."""
        return self._pixels().f1_max()


class AUPRO(_PixelMetric):
    """See `ssad_kernels.PixelScores.aupro`.

    Args:
        limits: of the false-positive rate; for one number the metric is (), for several (L,).
        options: of torchmetrics.
    """

    def __init__(self, limits: Limits = 0.3, **options: Any) -> None:
        super().__init__(**options)
        checked_limits(type(self).__name__, limits)
        self.limits = limits

    def compute(self) -> Tensor:
        """() or (L,) float64."""
        return self._pixels().aupro(self.limits)


class IoU(_PixelMetric):
    """See `ssad_kernels.PixelScores.iou`: at a threshold, over images with anomalous pixels.

    Args:
        threshold: what is above it is anomalous; None for the quantile of normal images.
        quantile: of the pixels of images without anomalous ones, in 0 < quantile <= 1.
        per_image: the mean of the images' own, instead of pooled.
        options: of torchmetrics.
    """

    def __init__(
        self,
        threshold: float | None = None,
        quantile: float = 0.995,
        per_image: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not 0 < quantile <= 1:
            raise ValueError(wording("IoU", "quantile", "be in 0 < quantile <= 1", quantile))
        self.threshold, self.quantile, self.per_image = threshold, quantile, per_image

    def compute(self) -> Tensor:
        """() float64."""
        pixels = self._pixels()
        own = self.threshold
        found = pixels.iou(pixels.normal_quantile(self.quantile) if own is None else own)
        return found.per_image if self.per_image else found.pooled


class IoUMax(_PixelMetric):
    """See `ssad_kernels.PixelScores.iou_max`."""

    def compute(self) -> Tensor:
        """() float64."""
        return self._pixels().iou_max()


class SPRO(_Collected):
    """See `ssad_kernels.spro`.

    Args:
        limits: of the false-positive rate; for one number the metric is (), for several (L,).
        options: of torchmetrics.

    Call: ``metric(maps, defects, image, saturation)``, where `image` counts within the call.
    """

    def __init__(self, limits: Limits = 0.05, **options: Any) -> None:
        super().__init__(DefectState._fields, **options)
        checked_limits(type(self).__name__, limits)
        self.limits = limits

    def update(self, maps: Tensor, defects: Tensor, image: Tensor, saturation: Tensor) -> None:
        """Add images and the defects in them."""
        state = defect_state(maps, defects, image, saturation, op="SPRO")
        self._append(state._replace(scores=state.scores.clone()))

    def compute(self) -> Tensor:
        """() or (L,) float64."""
        return DefectScores.of(DefectState(*self._collected())).spro(self.limits)
