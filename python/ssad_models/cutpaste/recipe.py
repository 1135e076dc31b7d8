# SPDX-License-Identifier: Apache-2.0
"""Settings of CutPaste."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ssad_models.settings import (
    Plan,
    RecipeError,
    ScalableRecipe,
    boolean,
    checked,
    integer,
    list_of,
    number,
    one_of,
    optional,
    setting,
    shared_out,
)

PROXIES = (
    "3way", "cutpaste", "cutpaste-scar", "union", "rotation", "cutout", "scar", "confetti",
)  # fmt: skip
R = TypeVar("R", bound="CutPasteRecipe")
BACKBONES = ("lite0", "resnet18", "resnet50", *(f"efficientnet_b{i}" for i in range(8)))


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes:
        train: "all" layers, or the "head" (with the neck) on a backbone that stays as it is.
        steps: Updates.
        lr: Learning rate at the start; it falls to 0 over the stage along half a cosine.
    """

    train: str = setting(one_of("all", "head"))
    steps: int = setting(integer(1, 1 << 31))
    lr: float = setting(number(0.0, 1e3))


def _stage(value: Any) -> Stage:
    if isinstance(value, Stage):
        return value
    if not isinstance(value, Mapping):
        msg = "a list of stages {train, steps, lr}"
        raise ValueError(msg)
    return checked(Stage, value, "stage")


def _weights(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        msg = "null, package or the name of a file"
        raise ValueError(msg)
    return value


@dataclass(frozen=True, kw_only=True)
class CutPasteRecipe(ScalableRecipe):
    """Settings of one training run. `load_recipe` makes them; the files say where values are from.

    Attributes:
        proxy: The task that the network learns, one of `PROXIES`. "cutpaste", "cutpaste-scar",
            "cutout", "scar" (of random colour) and "confetti" are binary; "union" is CutPaste or
            CutPaste-Scar against normal.
        backbone: One of `BACKBONES`.
        weights: None for random, "package" for lite0's ImageNet weights, or a state dict of
            torchvision's model of that name in a local file. "random" where the first stage trains
            the head alone, which None refuses, as it is hardly ever meant.
        features: What the density is fitted to: "pooled", the mean of the last maps, or "level7",
            the mean of an EfficientNet's sixth stage.
        head: Widths of the hidden layers, at least one.
        neck: Width of a 1x1 convolution before the head, None for none.
        stages: Trained one after another.
        steps_per_epoch: Steps between two checkpoints.
        optimizer: "sgd" or "adam".
        momentum: Of SGD.
        weight_decay: L2 penalty.
        freeze_batch_norm: Leave the backbone's batch norms as they are, in every stage.
        crop: Side of the random crop to train on; None for whole images.
        shift: Largest random translation of whole images, in parts of their side.
        jitter: Largest random change of brightness, contrast, saturation and hue of whole images.
        score: "density", or "density+head": plus the log-odds of the head.
        shrinkage: Of the covariance, "ridge" or "ledoit_wolf".
    """

    proxy: str = setting(one_of(*PROXIES))
    backbone: str = setting(one_of(*BACKBONES))
    weights: str | None = setting(_weights)
    features: str = setting(one_of("pooled", "level7"))
    head: tuple[int, ...] = setting(list_of(integer(1, 65536), "widths"))
    neck: int | None = setting(optional(integer(1, 65536)))
    stages: tuple[Stage, ...] = setting(list_of(_stage, "stages {train, steps, lr}"))
    steps_per_epoch: int = setting(integer(1, 1 << 31))
    optimizer: str = setting(one_of("sgd", "adam"))
    momentum: float = setting(number(0.0, 1.0))
    weight_decay: float = setting(number(0.0, 1e3))
    freeze_batch_norm: bool = setting(boolean)
    crop: int | None = setting(optional(integer(32, 4096)))
    shift: float = setting(number(0.0, 0.5))
    jitter: float = setting(number(0.0, 0.5))
    score: str = setting(one_of("density", "density+head"))
    shrinkage: str = setting(one_of("ridge", "ledoit_wolf"))

    def __post_init__(self) -> None:
        if self.crop is not None and self.crop > self.size:
            msg = f"`crop` must be at most `size`, {self.size}, got {self.crop}"
            raise RecipeError(msg)

    @property
    def title(self) -> str:
        """Task and backbone."""
        return f"{self.method} {self.proxy}, {self.backbone}{self.width_title}"

    @property
    def idle_parameters(self) -> bool:
        """While the head is trained alone, the backbone has no gradients."""
        return any(stage.train == "head" for stage in self.stages)

    @property
    def steps(self) -> int:
        """Updates of all stages."""
        return sum(stage.steps for stage in self.stages)

    def plan(self, images: int) -> Plan:
        """As the stages say, whatever the number of images."""
        return Plan(self.steps, self.steps_per_epoch, whole_passes=False)

    def for_steps(self: R, steps: int, images: int) -> R:
        """So many, each stage with its share and at least one; ten checkpoints or more."""
        parts = shared_out(steps, [stage.steps for stage in self.stages])
        pairs = zip(self.stages, parts, strict=True)
        stages = tuple(dataclasses.replace(stage, steps=part) for stage, part in pairs)
        per_epoch = min(self.steps_per_epoch, -(-steps // 10))
        return dataclasses.replace(self, stages=stages, steps_per_epoch=per_epoch)
