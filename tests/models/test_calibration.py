# SPDX-License-Identifier: Apache-2.0
"""Thresholds keep the false-alarm rate that they state."""

from __future__ import annotations

import math

import pytest
import torch

from ssad_models.calibration import Calibration, calibrate


@pytest.mark.parametrize(
    ("n", "false_alarm", "rank"),
    [(20, 0.05, 20), (39, 0.05, 38), (100, 0.05, 96), (99, 0.01, 99), (20, 0.5, 11)],
)
def test_threshold_is_the_conformal_quantile(n: int, false_alarm: float, rank: int) -> None:
    scores = torch.randperm(n, generator=torch.Generator().manual_seed(0)).float() + 1
    result = calibrate(scores, false_alarm)
    assert result.threshold == rank
    assert (
        result.threshold
        == sorted(scores.tolist())[math.ceil((n + 1) * (1 - false_alarm) - 1e-9) - 1]
    )
    assert (result.count, result.false_alarm) == (n, false_alarm)
    assert result.mean == pytest.approx((n + 1) / 2)
    assert result.std == pytest.approx(float(scores.std()))


@pytest.mark.parametrize("n", [20, 39, 64])
def test_future_normals_raise_no_more_alarms_than_stated(n: int) -> None:
    """Mean over 4000 calibrations of the exact rate, which for uniform scores is 1 - threshold."""
    generator = torch.Generator().manual_seed(n)
    rates = torch.tensor(
        [1 - calibrate(torch.rand(n, generator=generator)).threshold for _ in range(4000)]
    )
    error = float(rates.std()) / math.sqrt(len(rates))
    assert float(rates.mean()) <= 0.05 + 3.9 * error
    assert float(rates.mean()) >= 0.05 - 1 / (n + 1) - 3.9 * error


def test_normalized_scores_and_verdicts() -> None:
    calibration = Calibration(mean=10.0, std=2.0, threshold=14.0, count=20, false_alarm=0.05)
    scores = torch.tensor([10.0, 14.0, 14.5, math.nan, math.inf])
    assert calibration.normalize(scores)[:3].tolist() == [0.0, 2.0, 2.25]
    assert calibration.is_anomalous(scores).tolist() == [False, False, True, True, True]
    assert Calibration(**calibration.to_dict()) == calibration


def test_equal_scores_do_not_divide_by_zero() -> None:
    calibration = calibrate(torch.full((20,), 7.0))
    assert calibration.normalize(torch.tensor([7.0])).tolist() == [0.0]
    assert not calibration.is_anomalous(torch.tensor([7.0]))


def test_maps_get_a_threshold_of_their_maxima() -> None:
    maps = torch.zeros(20, 1, 4, 4)
    maps[:, 0, 1, 2] = torch.arange(20.0)
    assert calibrate(torch.arange(20.0), 0.1, maps).map_threshold == 18
    assert calibrate(torch.arange(20.0)).map_threshold is None


@pytest.mark.parametrize(
    ("scores", "false_alarm", "message"),
    [
        (torch.rand(19), 0.05, "at least 20 held-out normal images, got 19; hold out more"),
        (torch.rand(98), 0.01, "at least 99 held-out normal images, got 98"),
        (torch.rand(30), 0.0, "must lie between 0 and 1, got 0.0"),
        (torch.rand(30), math.nan, "must lie between 0 and 1, got nan"),
        (torch.tensor([math.nan] + [1.0] * 20), 0.05, "NaN or infinity in 1 of 21"),
    ],
)
def test_errors(scores: torch.Tensor, false_alarm: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibrate(scores, false_alarm)
