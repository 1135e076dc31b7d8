# SPDX-License-Identifier: Apache-2.0
"""Several models as one: the mean of their scores, each in units of its own normal images."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ssad_models.model_file import Prediction


def ensemble_score(predictions: Sequence[Prediction]) -> torch.Tensor:
    """Combine what models trained with several seeds, or on several tasks, say about N images.

    The paper's ensemble of five (Li et al., table 1) does not say how scores are combined. Raw
    scores of different models have different units, so each is first standardised by the held-out
    normal images of its model.

    Args:
        predictions: One per calibrated model, of the same images; at least one.

    Returns:
        (N,) float32, the mean of the normalised scores; higher is more anomalous. The models'
        thresholds do not apply to it.

    Raises:
        ValueError: If there is no prediction, a model is not calibrated, or numbers of images
            differ.
    """
    scores = [p.normalized for p in predictions if p.normalized is not None]
    if not scores or len(scores) < len(predictions):
        got = f"{len(scores)} of {len(predictions)}"
        must = "have at least one prediction, all of calibrated models"
        msg = f"ensemble_score: `predictions` must {must}, got {got}; train with held_out above 0"
        raise ValueError(msg)
    if len({len(score) for score in scores}) > 1:
        counts = ", ".join(str(len(score)) for score in scores)
        msg = f"ensemble_score: `predictions` must be of the same images, got {counts} images"
        raise ValueError(msg)
    return torch.stack(scores).mean(0)
