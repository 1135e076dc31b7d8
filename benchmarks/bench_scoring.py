# SPDX-License-Identifier: Apache-2.0
"""``pytest benchmarks/bench_scoring.py``: the Gaussian density score against scikit-learn."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import torch

from harness import Case, Error, Row, Target, optional, require, run, timer
from ssad_kernels.scoring import gaussian_fit, gaussian_score

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pytest_benchmark.fixture import BenchmarkFixture

    Covariance = Literal["ridge", "ledoit_wolf"]

covariance_models, mixture_models = optional("sklearn.covariance"), optional("sklearn.mixture")
SHAPES = ((400, 512), (200, 1280))  # images x features: ResNet-18, EfficientNet-Lite0
_M = 200  # images to score
_LOCAL = (200, 48, 512)  # images x locations x features
_AT_ONCE = 8  # images to score at once
_PEERS = 3  # locations that scikit-learn handles


def _features(n: int, dim: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors like pooled features: correlated, not negative."""
    generator = torch.Generator().manual_seed(seed)
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


def _build_locations(op: str, covariance: Covariance) -> Case:
    """The Gaussians of some locations of a map; scikit-learn fits the first few of them."""
    require(mixture_models, "scikit-learn")
    pairs = [_features(_LOCAL[0], _LOCAL[2], seed=k) for k in range(_LOCAL[1])]
    train, test = (torch.stack(side, dim=1).float() for side in zip(*pairs, strict=True))
    test = test[:_AT_ONCE]
    fit = gaussian_fit(train, covariance=covariance)
    points, rows = (side[:, :_PEERS].double().numpy() for side in (train, test))
    models = [_sklearn_fit(covariance, points[:, k]) for k in range(_PEERS)]

    def scores() -> list[Any]:
        return [_sklearn_score(model, rows[:, k]) for k, model in enumerate(models)]

    def error() -> Error:
        ours = gaussian_score(test, fit)[:, :_PEERS].double().numpy()
        theirs = np.stack(scores(), axis=1)
        return Error(float(np.max(np.abs(ours - theirs) / theirs)), "relative", 1e-4)

    peer = "GaussianMixture(1)" if covariance == "ridge" else "LedoitWolf"
    is_fit = op == "gaussian_fit"
    return Case(
        f"{op} per location, {covariance}",
        "x".join(map(str, _LOCAL if is_fit else test.shape)),
        "float32",
        _LOCAL[1],
        (lambda: gaussian_fit(train, covariance=covariance))
        if is_fit
        else (lambda: gaussian_score(test, fit)),
        f"scikit-learn {peer} ({_PEERS} of {_LOCAL[1]} locations, scaled)",
        (lambda: [_sklearn_fit(covariance, points[:, k]) for k in range(_PEERS)])
        if is_fit
        else scores,
        error,
        Target(10, "10 times as fast as scikit-learn") if is_fit else None,
        peer_share=_PEERS / _LOCAL[1],
    )


COVARIANCES: tuple[Covariance, ...] = ("ridge", "ledoit_wolf")
ROWS = [
    Row(f"{op}-{covariance}-{n}x{dim}", partial(_build, op, covariance, n, dim))
    for op in ("gaussian_fit", "gaussian_score")
    for covariance in COVARIANCES
    for n, dim in SHAPES
] + [
    Row(f"{op}-locations-{covariance}", partial(_build_locations, op, covariance))
    for op in ("gaussian_fit", "gaussian_score")
    for covariance in COVARIANCES
]


@pytest.mark.benchmark(timer=timer)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_scoring(benchmark: BenchmarkFixture, row: Row) -> None:
    """Measure one row."""
    run(benchmark, row, rounds=15)


def test_memory_of_locations() -> None:
    """A process of its own fits all locations of a map, in little more than what it keeps."""
    script = Path(__file__).parent / "density_memory.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    print(done.stdout)
    assert json.loads(done.stdout)["peak / held"] <= 1.2
