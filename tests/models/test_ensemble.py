# SPDX-License-Identifier: Apache-2.0
"""Ensembles."""

from __future__ import annotations

import pytest
import torch

from ssad_models.ensemble import ensemble_score
from ssad_models.model_file import Prediction


def prediction(normalized: torch.Tensor | None) -> Prediction:
    return Prediction(torch.rand(2), normalized, None, None)


def test_the_mean_of_normalised_scores() -> None:
    both = [prediction(torch.tensor([1.0, 2.0])), prediction(torch.tensor([3.0, -2.0]))]
    assert ensemble_score(both).tolist() == [2.0, 0.0]


def test_what_cannot_be_combined() -> None:
    one = prediction(torch.rand(2))
    with pytest.raises(ValueError, match="all of calibrated models, got 1 of 2; train"):
        ensemble_score([one, prediction(None)])
    with pytest.raises(ValueError, match="got 0 of 0"):
        ensemble_score([])
    with pytest.raises(ValueError, match="must be of the same images, got 2, 3 images"):
        ensemble_score([one, prediction(torch.rand(3))])
