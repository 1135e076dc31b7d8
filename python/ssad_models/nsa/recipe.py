# SPDX-License-Identifier: Apache-2.0
"""Settings of NSA, FPI and PII."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

from ssad_models.settings import (
    Plan,
    RecipeError,
    ScalableRecipe,
    boolean,
    integer,
    number,
    one_of,
    optional,
    pair,
    setting,
)

NETWORKS = ("resnet18", "wrn16", "wrn19")
GRADIENTS = ("source", "mixed", "average", "monochrome", "mix", "scaled", "swap", "uniform")
R = TypeVar("R", bound="NsaRecipe")


def _background(value: Any) -> tuple[float, float] | str | None:
    if value is None or value == "otsu":
        return value  # type: ignore[no-any-return]  # one of the two
    must = "null, otsu or [grey, tolerance] in grey levels 0 to 255"
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValueError(must)
    try:
        grey, tolerance = (number(0, 255)(each) for each in value)
    except ValueError:
        raise ValueError(must) from None
    return grey, tolerance


def _side(value: Any) -> int:
    # At 32 the innermost map is a pixel, and a batch of one image has no spread to normalise by.
    if integer(64, 4096)(value) % 32:
        msg = "a multiple of 32"
        raise ValueError(msg)
    return int(value)


@dataclass(frozen=True, kw_only=True)
class NsaRecipe(ScalableRecipe):
    """Settings of one training run. `load_recipe` makes them; the files say where values are from.

    Attributes:
        train_size: Side to which training images are resized, if others are to be resized to
            another, as in the authors' code of NSA; else all are resized to it. None for `size`.
        margin: Side of a crop from the middle before the random one; None for the whole image.
        crop: Side of the random crop that the network is trained on, and of the crop from the
            middle that it is shown afterwards, a multiple of 32.
        rotation: Largest random rotation of images in degrees.
        flip: Whether to turn every other image upside down.
        patch_size: Law of the patches' sizes: "gamma" and "uniform" of NSA, "cutpaste", or
            "square": one square in place, as FPI and PII were published.
        height: Least and largest half height of a patch, in parts of the crop's side.
        width: Likewise; of "square" patches it is not used.
        offset: Added to the gamma law's draws, in parts of the crop's side.
        scale: Of the gamma law of shape 2, in parts of the crop's side.
        patches: Most patches in an image.
        resize: Factors that a patch is resized by at most; None not to resize.
        shift: Whether a patch goes to another place than it comes from.
        core: Part of each side, from the middle, in which "square" patches have their centre.
        shape: "rectangle", or "ellipses": a union of five.
        gradient: How patches are blended, see `ssad_kernels.transforms.NSA`.
        factor: Range of the patch's share in "uniform" and "scaled" blends.
        background: Grey level of the background and tolerance, or "otsu"; None without background.
        object_share: Part of a patch that must be object, with a background.
        overlap: Part of its object that must land on the object, with a background.
        label: "logistic", "binary", "intensity" or "factor".
        steepness: Of the logistic label, per grey level.
        midpoint: Of the logistic label, in grey levels.
        network: "resnet18" of NSA, "wrn16" or "wrn19" of FPI and PII.
        normalize: "imagenet", by "image", or "none".
        epochs: Passes over the training images.
        lr: Learning rate of the first epoch.
        lr_end: What it falls to from epoch to epoch along half a cosine.
        compat: "reference" keeps what the authors' code does otherwise than their paper says, and
            its mistakes; None corrects them. See docs/models.md.
        any_category: Whether the general settings serve categories that `categories` does not name.
    """

    train_size: int | None = setting(optional(integer(32, 4096)))
    margin: int | None = setting(optional(integer(32, 4096)))
    crop: int = setting(_side)
    rotation: float = setting(number(0, 180))
    flip: bool = setting(boolean)
    patch_size: str = setting(one_of("gamma", "uniform", "cutpaste", "square"))
    height: tuple[float, float] = setting(pair(0, 0.5))
    width: tuple[float, float] = setting(pair(0, 0.5))
    offset: float = setting(number(0, 1))
    scale: float = setting(number(0, 1))
    patches: int = setting(integer(1, 16))
    resize: tuple[float, float] | None = setting(optional(pair(0.01, 100)))
    shift: bool = setting(boolean)
    core: float = setting(number(0, 1))
    shape: str = setting(one_of("rectangle", "ellipses"))
    gradient: str = setting(one_of(*GRADIENTS))
    factor: tuple[float, float] = setting(pair(0, 1))
    background: tuple[float, float] | str | None = setting(_background)
    object_share: float = setting(number(0, 1))
    overlap: float = setting(number(0, 1))
    label: str = setting(one_of("logistic", "binary", "intensity", "factor"))
    steepness: float = setting(number(1e-3, 1e3))
    midpoint: float = setting(number(0, 255))
    network: str = setting(one_of(*NETWORKS))
    normalize: str = setting(one_of("imagenet", "image", "none"))
    epochs: int = setting(integer(1, 1 << 20))
    lr: float = setting(number(0, 1e3))
    lr_end: float = setting(number(0, 1e3))
    compat: str | None = setting(optional(one_of("reference")))
    any_category: bool = setting(boolean)

    def __post_init__(self) -> None:
        outer = self.loading_size if self.margin is None else self.margin
        if outer > self.loading_size:
            msg = f"`margin` must be at most `size`, {self.loading_size}, got {outer}"
            raise RecipeError(msg)
        least = min(outer, self.size)
        if self.crop > least:
            msg = f"`crop` must be at most `size` and `margin`, {least}, got {self.crop}"
            raise RecipeError(msg)
        if self.normalize == "imagenet" and self.channels != 3:
            msg = "`normalize` must be image or none where `channels` is 1, got imagenet"
            raise RecipeError(msg)
        if self.patch_size == "square" and self.label != "factor":
            msg = f"`label` must be factor where `patch_size` is square, got {self.label!r}"
            raise RecipeError(msg)

    @property
    def title(self) -> str:
        """Method and label, and a network that is not NSA's."""
        network = "" if self.network == "resnet18" else f", {self.network}"
        return f"{self.method} {self.label}{network}{self.width_title}"

    @property
    def loading_size(self) -> int:
        """Side to which training images are resized."""
        return self.size if self.train_size is None else self.train_size

    @property
    def final(self) -> str:
        """The network's final activation."""
        return "relu" if self.label == "intensity" and self.compat is None else "sigmoid"

    def plan(self, images: int) -> Plan:
        """Whole passes, each with what is left in its last batch."""
        steps = -(-images // self.batch)
        return Plan(self.epochs * steps, steps, whole_passes=True)

    def for_category(self: R, category: str) -> R:
        """The settings of one category.

        Raises:
            RecipeError: If the recipe has none for it, and its general ones are not meant for all.
        """
        if not self.any_category and category not in self.categories:
            known = ", ".join(self.categories)
            msg = (
                f"recipe of category {category!r}: it must be one of {known}, whose settings are "
                "published; write a recipe from your images with `ssadk calibrate DATA --category "
                "NAME --out my.yaml`, or take the general settings with --set any_category=true"
            )
            raise RecipeError(msg)
        own = super().for_category(category)
        # Trained and tested at one scale; the authors' code trains on larger textures.
        same = own.compat is None and own.train_size is not None
        size, train_size = (own.loading_size, None) if same else (own.size, own.train_size)
        return dataclasses.replace(own, size=size, train_size=train_size, any_category=True)
