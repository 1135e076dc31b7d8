# SPDX-License-Identifier: Apache-2.0
"""Settings for a category that nobody has set by hand, from its normal images.

The rules for sizes, shares and labels are those of NNOOD (github.com/matt-baugh/nnood, nsa.py and
nsa_utils.py), by authors of NSA. Whether there is a background, and which, is told here from the
rim of the images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from ssad_kernels import make_keys
from ssad_kernels.labels import object_mask
from ssad_models.atomic import replacing
from ssad_models.nsa.augment import Synthesis
from ssad_models.nsa.recipe import NsaRecipe
from ssad_models.settings import checked

SAMPLES = 500
"""Images with blended patches that the label's steepness is set by."""

_RIM = 0.03
_AT_A_TIME = 25
_VALUES = 1_000_000


class Background(NamedTuple):
    """What is not object.

    Attributes:
        grey: Its grey level.
        tolerance: How far from it, in grey levels, it still is background.
    """

    grey: float
    tolerance: float


def find_background(images: torch.Tensor) -> Background | None:
    """The even background that objects lie on, if there is one.

    Its grey level is the median at the rim; pixels are told apart by their distance from it at the
    threshold of Otsu (1979). It counts if the rim is nearly all background and the rest is not.

    Args:
        images: (N, C, S, S) uint8 normal images.
    """
    grey = images.float().mean(1)
    width = max(1, round(_RIM * grey.shape[-1]))
    inner = torch.zeros(grey.shape[1:], dtype=torch.bool)
    inner[width:-width, width:-width] = True
    level = grey[:, ~inner].flatten()[:_VALUES].median()
    distance = (grey - level).abs()
    threshold = _otsu(distance.flatten())
    beyond = distance > threshold
    rim, rest = beyond[:, ~inner].float().mean(), beyond[:, inner].float().mean()
    if rim > 0.1 or rest < 3 * rim or rest < 0.005:
        return None
    return Background(round(float(level)), round(threshold, 1))


def _otsu(distances: torch.Tensor) -> float:
    """The threshold between 256 bins of 0..255 that parts them best."""
    counts = torch.histc(distances, 256, 0, 255).double()
    levels = torch.arange(256, dtype=torch.float64) * 255 / 256
    below = counts.cumsum(0)[:-1]
    above = counts.sum() - below
    sums = (counts * levels).cumsum(0)
    means = sums[:-1] / below, (sums[-1] - sums[:-1]) / above
    between = (below * above * (means[0] - means[1]) ** 2).nan_to_num(0.0)
    # Of thresholds that part them alike, since no distance lies between, the middle one.
    best = between >= between.amax() * (1 - 1e-9)
    return float(levels[1:][best].mean())


def calibrate_patches(images: torch.Tensor, recipe: NsaRecipe) -> dict[str, Any]:
    """Settings of patches and views, from the objects that the images show.

    Args:
        images: (N, C, S, S) uint8 normal images, S the recipe's `loading_size`.
        recipe: What the settings are to replace those of.

    Returns:
        Values by setting, in plain types.
    """
    found = find_background(images)
    settings: dict[str, Any] = {
        "resize": [0.7, 1.3],
        "offset": 0.03,
        "scale": 0.05,
        "overlap": 0.25,
    }
    if found is None:
        whole = {"margin": None, "crop": recipe.size // 32 * 32, "gradient": "mixed"}
        own = {"background": None, "height": [0.03, 0.4], "width": [0.03, 0.4], "patches": 4}
        return settings | own | whole
    masks = torch.cat([object_mask(part, found) for part in images.split(_AT_A_TIME)])
    area = float(masks.float().mean())
    height, width = (float(masks.any(dim).float().mean()) for dim in (3, 2))
    return settings | {
        "background": list(found),
        "height": [0.03, _half(height)],
        "width": [0.03, _half(width)],
        "patches": 3 if area < 0.75 else 4,
        "object_share": 0.5 if area < 0.4 else 0.7,
        "gradient": "source",
    }


def _half(extent: float) -> float:
    """Largest half size of a patch, for objects that extend over so much of a side."""
    return round(min(max(4 / 3 * extent, 0.25), 0.8) / 2, 4)


def calibrate_label(images: torch.Tensor, recipe: NsaRecipe, seed: int = 0) -> dict[str, float]:
    """Steepness and midpoint of the logistic label, from what patches change.

    The label is 0.1 where hardly anything changes, and 0.99 from the 40th percentile of the changes
    on, median-filtered as for the label.

    Args:
        images: (N, C, S, S) uint8 normal images, S the recipe's `loading_size`.
        recipe: With the settings of the patches.
        seed: Of the patches.

    Raises:
        ValueError: If no patch has changed anything.
    """
    synthesis = Synthesis(replace(recipe, label="intensity"))
    changes = []
    for part in torch.arange(SAMPLES).split(_AT_A_TIME):
        rows = part % len(images)
        labels = synthesis(images[rows], make_keys(seed, 0, part))[1]
        changes.append(labels[labels > 0])
    found = torch.cat(changes)
    if not len(found):
        msg = (
            f"calibrate: patches must change images, got {SAMPLES} that changed nothing; the "
            "images are all alike, or there is no room for patches on their objects"
        )
        raise ValueError(msg)
    some = found[:: len(found) // _VALUES + 1]
    steepness = math.log(99 * 9) / float(some.quantile(0.4))
    return {"steepness": round(steepness, 6), "midpoint": round(math.log(9) / steepness, 4)}


def calibrate(images: torch.Tensor, recipe: NsaRecipe, seed: int = 0) -> dict[str, Any]:
    """All settings of a category that its normal images tell.

    Args:
        images: (N, C, S, S) uint8, S the recipe's `loading_size`.
        recipe: The general settings.
        seed: Of the patches that the label is set by.

    Returns:
        Values by setting, in plain types, for `categories` of a recipe.

    Raises:
        ValueError: If no patch has changed anything.
    """
    settings = calibrate_patches(images, recipe)
    values = {**recipe.to_dict(), **settings, "categories": {}}
    return settings | calibrate_label(images, checked(NsaRecipe, values, "calibrate"), seed)


def write_recipe(
    path: Path, base: str, categories: Mapping[str, Mapping[str, Any]], counts: Mapping[str, int]
) -> None:
    """Write a recipe that adds categories to another.

    Args:
        path: The file.
        base: Name or file of the other recipe.
        categories: Settings by category.
        counts: How many images they are from, by category.

    Raises:
        OSError: If it cannot be written.
    """
    content = {"base": base, "categories": {name: dict(own) for name, own in categories.items()}}
    told = ", ".join(f"{count} images of {name!r}" for name, count in counts.items())
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, allow_unicode=True)
    with replacing(path) as file:
        file.write(f"# Written by `ssadk calibrate` from {told}.\n{text}".encode())
