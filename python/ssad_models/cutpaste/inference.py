# SPDX-License-Identifier: Apache-2.0
"""Anomaly scores of a CutPaste network: density of its features, and the verdict of its head."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ssad_kernels import GaussianFit, gaussian_fit, gaussian_score


class Views(NamedTuple):
    """What a network says about images.

    Attributes:
        features: (N, D) pooled features of the backbone.
        odds: (N,) log-odds of "augmented" against "normal", from the head.
    """

    features: torch.Tensor
    odds: torch.Tensor


class Detector(NamedTuple):
    """Fitted on normal images, see `fit`. All statistics are float64.

    Attributes:
        density: The Gaussian of the features.
        distance: (2,) mean and standard deviation of the log-distances of normal images held out.
        odds: (2,) the same of the log-odds of all normal images.
    """

    density: GaussianFit
    distance: torch.Tensor
    odds: torch.Tensor


def log_odds(logits: torch.Tensor) -> torch.Tensor:
    """Logits (N, K), class 0 normal -> log of P(any other class) / P(class 0), (N,).

    Unlike the probability it does not saturate, so that sure cases can still be ranked.
    """
    return logits[:, 1:].logsumexp(dim=1) - logits[:, 0]


def density_score(features: torch.Tensor, density: GaussianFit) -> torch.Tensor:
    """Log of the squared Mahalanobis distance, (N, D) -> (N,); the ranking of the paper's score.

    Li et al., section 2.3, use the distance itself. The logarithm changes no ranking and makes
    distances comparable with log-odds: of a normal image's distance the spread is then a few per
    cent, not orders of magnitude.
    """
    return gaussian_score(features, density).clamp_min(1e-12).log()


def _standardize(score: torch.Tensor, moments: torch.Tensor) -> torch.Tensor:
    mean, deviation = moments
    return torch.div(score.double() - mean, deviation)


def _moments(score: torch.Tensor) -> torch.Tensor:
    deviation, mean = torch.std_mean(score.double())
    return torch.stack([mean, deviation.clamp_min(1e-12)])


def fit(views: Views, folds: int = 4) -> Detector:
    """Fit a detector on what the network says about normal images, without augmentation.

    Distances are standardised by those of held-out images, fold by fold: with more features than
    images a Gaussian puts all images that it was fitted on at about the same distance, and any
    other far outside.

    Args:
        views: Of at least 2 · folds images.
        folds: Number of parts that are held out in turn.

    Returns:
        The detector, on the device of the views; its Gaussian is fitted on all images.
    """
    fold = torch.arange(len(views.features), device=views.features.device) % folds
    held_out = [
        density_score(views.features[fold == k], gaussian_fit(views.features[fold != k]))
        for k in range(folds)
    ]
    return Detector(
        gaussian_fit(views.features), _moments(torch.cat(held_out)), _moments(views.odds)
    )


def score(views: Views, detector: Detector) -> torch.Tensor:
    """Anomaly score (N,), float64: the sum of both views in units of their spread on normal images.

    The density alone (`density_score`) is the paper's score. It is blind to what normal images vary
    in anyway, and the head is blind to what pasting never does, such as blur; the sum misses less
    than either.
    """
    distance = density_score(views.features, detector.density)
    return _standardize(distance, detector.distance) + _standardize(views.odds, detector.odds)
