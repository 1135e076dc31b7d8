# SPDX-License-Identifier: Apache-2.0
"""Our exact metrics as anomalib's `Evaluator` takes them; importing this imports anomalib.

Example::

    from anomalib.metrics import Evaluator
    from ssad_models.integrations.anomalib_metrics import AUPRO, PixelAUROC

    evaluator = Evaluator(test_metrics=[AUPRO(limits=0.05), PixelAUROC()])

Image metrics read the fields ``pred_score`` and ``gt_label`` of a batch, the others ``anomaly_map``
and ``gt_mask``; ``fields=...`` names others, ``prefix=...`` goes before the name of the metric.
"""

from __future__ import annotations

from anomalib.metrics import AnomalibMetric

from ssad_models import metrics

_IMAGE = ("pred_score", "gt_label")
_PIXEL = ("anomaly_map", "gt_mask")


class ImageAUROC(AnomalibMetric, metrics.ImageAUROC):  # type: ignore[misc]  # skipped by mypy
    """See `ssad_models.metrics.ImageAUROC`."""

    default_fields = _IMAGE


class ImageAveragePrecision(AnomalibMetric, metrics.ImageAveragePrecision):  # type: ignore[misc]
    """See `ssad_models.metrics.ImageAveragePrecision`."""

    default_fields = _IMAGE


class ImageF1Max(AnomalibMetric, metrics.ImageF1Max):  # type: ignore[misc]
    """See `ssad_models.metrics.ImageF1Max`."""

    default_fields = _IMAGE


class PixelAUROC(AnomalibMetric, metrics.PixelAUROC):  # type: ignore[misc]
    """See `ssad_models.metrics.PixelAUROC`."""

    default_fields = _PIXEL


class PixelAveragePrecision(AnomalibMetric, metrics.PixelAveragePrecision):  # type: ignore[misc]
    """See `ssad_models.metrics.PixelAveragePrecision`."""

    default_fields = _PIXEL


class PixelF1Max(AnomalibMetric, metrics.PixelF1Max):  # type: ignore[misc]
    """See `ssad_models.metrics.PixelF1Max`."""

    default_fields = _PIXEL


class AUPRO(AnomalibMetric, metrics.AUPRO):  # type: ignore[misc]
    """See `ssad_models.metrics.AUPRO`."""

    default_fields = _PIXEL


class IoU(AnomalibMetric, metrics.IoU):  # type: ignore[misc]
    """See `ssad_models.metrics.IoU`."""

    default_fields = _PIXEL


class IoUMax(AnomalibMetric, metrics.IoUMax):  # type: ignore[misc]
    """See `ssad_models.metrics.IoUMax`."""

    default_fields = _PIXEL
