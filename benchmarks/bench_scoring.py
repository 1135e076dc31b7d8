# SPDX-License-Identifier: Apache-2.0
"""``pytest benchmarks/bench_scoring.py``: the Gaussian density score against scikit-learn."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import torch

from harness import Case, Error, Row, optional, require, run, timer
from ssad_kernels.scoring import gaussian_fit, gaussian_score

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pytest_benchmark.fixture import BenchmarkFixture

    Covariance = Literal["ridge", "ledoit_wolf"]

covariance_models, mixture_models = optional("sklearn.covariance"), optional("sklearn.mixture")
SHAPES = ((400, 512), (200, 1280))  # images x features: ResNet-18, EfficientNet-Lite0
_M = 200  # images to score


def _features(n: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors like pooled features: correlated, not negative."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(dim // 4, dim, generator=generator, dtype=torch.float64)
    codes = torch.randn(n + _M, dim // 4, generator=generator, dtype=torch.float64)
    noise = torch.randn(n + _M, dim, generator=generator, dtype=torch.float64)
    features = torch.relu(codes @ mixing / dim**0.5 + 0.5 + 0.1 * noise)
    features = torch.nn.functional.normalize(features, dim=1)
    return features[:n], features[n:]


def _sklearn_fit(covariance: Covariance, features: NDArray[np.float64]) -> Any:
    if covariance == "ridge":
        # with one component every initialisation gives the same fit; this one is the quickest
        model = mixture_models.GaussianMixture(1, reg_covar=1e-6, init_params="random_from_data")
        return model.fit(features)
    return covariance_models.LedoitWolf().fit(features)


def _sklearn_score(model: Any, features: NDArray[np.float64]) -> Any:
    """Squared Mahalanobis distance; the mixture's log-likelihood without its constant."""
    if hasattr(model, "mahalanobis"):
        return model.mahalanobis(features)
    log_determinant = -2 * np.log(np.diag(model.precisions_cholesky_[0])).sum()
    constant = features.shape[1] * np.log(2 * np.pi) + log_determinant
    return -2 * model.score_samples(features) - constant


def _error(covariance: Covariance, train: torch.Tensor, test: torch.Tensor) -> Error:
    ours = gaussian_score(test, gaussian_fit(train, covariance=covariance)).numpy()
    theirs = _sklearn_score(_sklearn_fit(covariance, train.numpy()), test.numpy())
    return Error(float(np.max(np.abs(ours - theirs) / np.abs(theirs))), "relative", 1e-6)


def _build(op: str, covariance: Covariance, n: int, dim: int) -> Case:
    require(mixture_models, "scikit-learn")
    train, test = _features(n, dim)
    fit = gaussian_fit(train, covariance=covariance)
    model = _sklearn_fit(covariance, train.numpy())
    peer = "GaussianMixture(1)" if covariance == "ridge" else "LedoitWolf"
    is_fit = op == "gaussian_fit"
    return Case(
        f"{op}, {covariance}",
        f"{n}x{dim}" if is_fit else f"{_M}x{dim}",
        "float64",
        1,
        (lambda: gaussian_fit(train, covariance=covariance))
        if is_fit
        else (lambda: gaussian_score(test, fit)),
        f"scikit-learn {peer}",
        (lambda: _sklearn_fit(covariance, train.numpy()))
        if is_fit
        else (lambda: _sklearn_score(model, test.numpy())),
        lambda: _error(covariance, train, test),
    )


COVARIANCES: tuple[Covariance, ...] = ("ridge", "ledoit_wolf")
ROWS = [
    Row(f"{op}-{covariance}-{n}x{dim}", partial(_build, op, covariance, n, dim))
    for op in ("gaussian_fit", "gaussian_score")
    for covariance in COVARIANCES
    for n, dim in SHAPES
]


@pytest.mark.benchmark(timer=timer)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_scoring(benchmark: BenchmarkFixture, row: Row) -> None:
    """Measure one row."""
    run(benchmark, row, rounds=15)
