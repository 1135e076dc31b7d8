# SPDX-License-Identifier: Apache-2.0
"""Settings of AnoSeg."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ssad_models.anoseg.network import SMALLEST
from ssad_models.settings import (
    Plan,
    RecipeError,
    ScalableRecipe,
    integer,
    number,
    one_of,
    optional,
    pair,
    setting,
)


def _jitter(value: Any) -> tuple[float, ...]:
    if not isinstance(value, (list, tuple)) or len(value) != 4:
        msg = "four numbers, of brightness, contrast, saturation and hue"
        raise ValueError(msg)
    limits = (1e5, 1e5, 1e5, 0.5)
    return tuple(number(0, most)(each) for each, most in zip(value, limits, strict=True))


@dataclass(frozen=True, kw_only=True)
class AnosegRecipe(ScalableRecipe):
    """Settings of one training run. `load_recipe` makes them; the files say where values are from.

    Attributes:
        area: Least and largest share of the image that is pasted.
        aspect: Least and largest height of a patch over its width.
        rotation: Least and largest angle that a patch is turned by, in degrees.
        jitter: Largest change of brightness, contrast, saturation and hue of what is pasted.
        hard: Probability of each of the three: turning, permuting and recolouring what is pasted.
        epochs: Passes over the images that the network of maps learns for.
        detector_epochs: Passes that the detector learns for afterwards; 0 for none: then images are
            scored by the mean of their map.
        lr: Learning rate; over the last half of each of the two trainings it falls to 0.
        momenta: Adam's two.
        map_loss: Of the maps. "l1": as published. "bce": cross-entropy, which learns sooner.
        reconstruction: Weight of the reconstruction loss; that of the maps is 1.
        adversarial: Weight of the adversarial loss.
        features: Weight of the detector's loss of features.
        ema: Decay of an average of the generators' weights, which then is what is used; None for
            none.
        clip: Largest norm of gradients, of each network; None for any.
        alpha: Weight of the distance of features in the detector's score.
        beta: Weight of the distance of pixels.
    """

    area: tuple[float, float] = setting(pair(0, 1))
    aspect: tuple[float, float] = setting(pair(1e-3, 1e3))
    rotation: tuple[float, float] = setting(pair(-360, 360))
    jitter: tuple[float, float, float, float] = setting(_jitter)
    hard: float = setting(number(0, 1))
    epochs: int = setting(integer(1, 1 << 20))
    detector_epochs: int = setting(integer(0, 1 << 20))
    lr: float = setting(number(0, 1e3))
    momenta: tuple[float, float] = setting(pair(0, 1))
    map_loss: str = setting(one_of("l1", "bce"))
    reconstruction: float = setting(number(0, 1e6))
    adversarial: float = setting(number(0, 1e6))
    features: float = setting(number(0, 1e6))
    ema: float | None = setting(optional(number(0, 1)))
    clip: float | None = setting(optional(number(0, 1e9)))
    alpha: float = setting(number(0, 1e6))
    beta: float = setting(number(0, 1e6))

    def __post_init__(self) -> None:
        if self.size < SMALLEST or self.size & (self.size - 1):
            msg = f"`size` must be a power of two from {SMALLEST} on, got {self.size}"
            raise RecipeError(msg)
        if self.batch < 2:
            msg = f"`batch` must be at least 2, half of it normal images, got {self.batch}"
            raise RecipeError(msg)
        if self.precision == "16-mixed":
            msg = "`precision` must be 32-true or bf16-mixed for two optimisers, got 16-mixed"
            raise RecipeError(msg)

    @property
    def title(self) -> str:
        """The method, and the width of its networks if it is not the published one."""
        return f"{self.method}{self.width_title}"

    @property
    def idle_parameters(self) -> bool:
        """Each of the networks learns by itself."""
        return True

    def plan(self, images: int) -> Plan:
        """Both trainings, in full batches."""
        steps = -(-images // self.batch)
        return Plan((self.epochs + self.detector_epochs) * steps, steps, whole_passes=False)
