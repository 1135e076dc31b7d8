# SPDX-License-Identifier: Apache-2.0
"""Thresholds with a stated false-alarm rate, and scores in units of their spread on normals."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

MINIMUM = 20
"""Held-out normal images below which no threshold is given."""


@dataclass(frozen=True)
class Calibration:
    """What held-out normal images tell about scores. See `calibrate`.

    Attributes:
        mean: Of their scores.
        std: Their standard deviation, above 0.
        threshold: Images that score above it are called anomalous.
        count: Number of held-out images.
        false_alarm: Rate of normal images that may be called anomalous, 0..1.
        map_threshold: The heat that the hottest pixel of a normal image exceeds at that rate; None
            if unknown.
    """

    mean: float
    std: float
    threshold: float
    count: int
    false_alarm: float
    map_threshold: float | None = None

    def normalize(self, scores: torch.Tensor) -> torch.Tensor:
        """Raw scores of any shape -> standard deviations above the mean of normal images."""
        return (scores - self.mean) / self.std

    def is_anomalous(self, scores: torch.Tensor) -> torch.Tensor:
        """Raw scores of any shape -> bool. NaN counts as anomalous: a person should look."""
        return ~(scores <= self.threshold)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers; `Calibration(**numbers)` takes them back."""
        return asdict(self)


def images_needed(false_alarm: float) -> int:
    """Held-out normal images that a threshold of this rate, within 0..1, needs at least."""
    # The tolerance keeps quotients such as 1 / 0.05 whole.
    return max(MINIMUM, math.ceil(1 / false_alarm - 1 - 1e-9))


def calibrate(
    scores: torch.Tensor, false_alarm: float = 0.05, maps: torch.Tensor | None = None
) -> Calibration:
    """Choose the threshold from normal images that the model was not trained on.

    It is the conformal quantile, the ceil((n + 1) (1 - false_alarm))-th smallest of n scores: if
    future normal images are like these, at most the stated share of them is called anomalous, on
    average over draws of the held-out images, for any distribution of scores (Vovk et al.,
    "Algorithmic learning in a random world", 2005).

    Args:
        scores: (n,) raw scores, finite; n at least `images_needed`.
        false_alarm: The share of normal images that may be called anomalous, within 0..1.
        maps: (n, 1, S, S) heat maps of the same images, finite, or None.

    Returns:
        The calibration; the threshold is one of the scores.

    Raises:
        ValueError: If there are too few scores, one is not finite, or the rate is not in 0..1.
    """
    if not 0 < false_alarm < 1:
        msg = f"calibrate: `false_alarm` must lie between 0 and 1, got {false_alarm}"
        raise ValueError(msg)
    n = scores.numel()
    needed = images_needed(false_alarm)
    if n < needed:
        msg = (
            f"calibrate: a threshold with {false_alarm:.3g} false alarms needs at least {needed} "
            f"held-out normal images, got {n}; hold out more, or allow more false alarms"
        )
        raise ValueError(msg)
    std, mean = torch.std_mean(scores.double())
    return Calibration(
        mean=float(mean),
        std=max(float(std), 1e-12),
        threshold=_conformal_quantile("scores", scores, false_alarm),
        count=n,
        false_alarm=false_alarm,
        map_threshold=None
        if maps is None
        else _conformal_quantile("maps", maps.flatten(1).amax(1), false_alarm),
    )


def _conformal_quantile(name: str, values: torch.Tensor, false_alarm: float) -> float:
    n = len(values)
    bad = int((~values.isfinite()).sum())
    if bad:
        msg = f"calibrate: `{name}` must be finite, got NaN or infinity in {bad} of {n}"
        raise ValueError(msg)
    rank = n + 1 - math.floor((n + 1) * false_alarm + 1e-9)
    return float(values.sort().values[rank - 1])
