# SPDX-License-Identifier: Apache-2.0
"""Settings of SSM."""

from __future__ import annotations

from dataclasses import dataclass

from ssad_models.settings import (
    Plan,
    RecipeError,
    ScalableRecipe,
    integer,
    list_of,
    number,
    one_of,
    optional,
    setting,
)
from ssad_models.ssm.network import STRIDE

SCALES = 4
"""At how many sizes of an image, each half of the one before, gradients are compared."""


@dataclass(frozen=True, kw_only=True)
class SsmRecipe(ScalableRecipe):
    """Settings of one training run. `load_recipe` makes them; the files say where values are from.

    Attributes:
        cells: Sides in pixels of the cells that are hidden; one is drawn for each image.
        parts: Disjoint sets of cells, each hidden once.
        epochs: Passes over the training images.
        lr: Learning rate of Adam.
        drops: When it falls to a tenth, each in parts of the training.
        weight_decay: L2 penalty.
        pixels: Weight of the squared error in the loss.
        gms: Of the dissimilarity of gradients.
        ssim: Of the structural dissimilarity.
        masks: Of the squared error of masks.
        inference: "released": as the authors' code, each image twice, the second time with what
            looked normal uncovered. "progressive": as the paper has it, uncovering cells until none
            looks normal.
        sigma: Of the smoothing of maps, pixels.
        passes: Of "progressive", at most.
        quantile: Of the errors of normal images below which "progressive" takes a cell for normal.
        compat: "reference" smooths along rows alone, as the authors' code does by mistake when it
            tests; None in both directions.
    """

    cells: tuple[int, ...] = setting(list_of(integer(1, 4096), "sides of cells in pixels"))
    parts: int = setting(integer(2, 64))
    epochs: int = setting(integer(1, 1 << 20))
    lr: float = setting(number(0, 1e3))
    drops: tuple[float, ...] = setting(list_of(number(0, 1), "parts of the training"))
    weight_decay: float = setting(number(0, 1e3))
    pixels: float = setting(number(0, 1e6))
    gms: float = setting(number(0, 1e6))
    ssim: float = setting(number(0, 1e6))
    masks: float = setting(number(0, 1e6))
    inference: str = setting(one_of("released", "progressive"))
    sigma: float = setting(number(0.1, 1e3))
    passes: int = setting(integer(1, 100))
    quantile: float = setting(number(0, 1))
    compat: str | None = setting(optional(one_of("reference")))

    def __post_init__(self) -> None:
        if self.size % STRIDE:
            msg = f"`size` must be a multiple of {STRIDE}, got {self.size}"
            raise RecipeError(msg)
        if max(self.cells) * 2 > self.size:
            msg = f"`cells` must be at most half of `size`, {self.size // 2}, got {max(self.cells)}"
            raise RecipeError(msg)

    @property
    def title(self) -> str:
        """The method, and what is not as in the authors' code."""
        inference = "" if self.inference == "released" else " progressive"
        return f"{self.method}{inference}{self.width_title}"

    def plan(self, images: int) -> Plan:
        """Whole passes, each with what is left in its last batch."""
        steps = -(-images // self.batch)
        return Plan(self.epochs * steps, steps, whole_passes=True)
