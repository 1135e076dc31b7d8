# SPDX-License-Identifier: Apache-2.0
"""Gaussian scores straight from the definitions: dense (D, D) covariance, float64, loops."""

from __future__ import annotations

import torch
from torch import Tensor


def ridge_covariance(points: Tensor, ridge: float) -> Tensor:
    """Return the (D, D) maximum-likelihood covariance of (n, D) points, plus `ridge` I."""
    return _sample_covariance(points) + ridge * _identity(points)


def ledoit_wolf_covariance(points: Tensor) -> Tensor:
    """Return the (D, D) shrunk covariance of (n, D) points, by Ledoit and Wolf 2004, §3."""
    count, dim = points.shape
    sample = _sample_covariance(points)
    scaled_identity = sample.trace() / dim * _identity(points)
    d2 = (sample - scaled_identity).square().sum() / dim
    b2 = torch.zeros_like(d2)
    for x in points - points.mean(dim=0):
        b2 += (torch.outer(x, x) - sample).square().sum() / dim / count**2
    shrinkage = min(b2, d2) / d2 if d2 > 0 else torch.zeros_like(d2)
    return shrinkage * scaled_identity + (1 - shrinkage) * sample


def gaussian_score(
    features: Tensor,
    training: Tensor,
    *,
    covariance: str = "ridge",
    ridge: float = 1e-6,
    normalize: bool = True,
) -> Tensor:
    """Return the squared Mahalanobis distances (m,) of (m, D) features to (n, D) training ones."""
    features, training = features.double(), training.double()
    if normalize:
        features, training = _unit_rows(features), _unit_rows(training)
    if covariance == "ridge":
        sigma = ridge_covariance(training, ridge)
    else:
        sigma = ledoit_wolf_covariance(training)
    precision = torch.linalg.inv(sigma)
    offsets = features - training.mean(dim=0)
    return torch.stack([offset @ precision @ offset for offset in offsets])


def _unit_rows(features: Tensor) -> Tensor:
    return torch.stack([row / row.norm() if row.norm() > 0 else row for row in features])


def _sample_covariance(points: Tensor) -> Tensor:
    centred = points - points.mean(dim=0)
    return centred.mT @ centred / len(points)


def _identity(points: Tensor) -> Tensor:
    return torch.eye(points.shape[1], dtype=points.dtype, device=points.device)
