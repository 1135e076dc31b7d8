# SPDX-License-Identifier: Apache-2.0
"""The built-in data set: tiles of four photographs that scikit-image ships, with synthetic defects.

Needs no download. Every tile is a function of (category, split, index) alone, so any subset of any
size agrees with any other. Each photograph is cut into vertical strips: training tiles lie wholly
in the outer two, test tiles wholly in the middle one, and a gap of 12 px that no tile touches keeps
them apart. The middle is the test strip so that perspective and lighting, which drift across a
photograph, are bracketed by the training strips. Tiles of one strip overlap, so treat tiles of a
category as similar, not independent.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from skimage import data

from ssad_models.data import defects

CATEGORIES: dict[str, str] = {
    "brick": "brick",
    "grass": "grass",
    "gravel": "gravel",
    "ihc": "immunohistochemistry",
}
TILE = 128
GAP = 12
TRAIN_STRIPS = ((0, 160), (352, 512))
TEST_STRIPS = ((172, 340),)

GAIN = 0.05
OFFSET = 4.0
NOISE = 2.0

# What a random number is for: the first part of its seed after the category.
_TRAIN, _TEST, _NORMAL, _DEFECT, _SHAPE, _FOREIGN, _NOISE = range(7)
Seed = tuple[int, ...]


@dataclass(frozen=True)
class TestSet:
    """Test tiles of one category, normal ones first.

    Attributes:
        images: (N, C, 128, 128) uint8, C = 1 for grey categories and 3 for colour.
        masks: (N, 1, 128, 128) bool, true where the defect changed a pixel.
        kinds: N names, "normal" or a key of `defects.KINDS`.
        strengths: (N,) float64, the rung of the ladder, 0 for normal tiles.
        places: (N,) int64, the place in the photograph that the tile shows. Tiles of one place are
            alike, so resample places, not images.
    """

    __test__ = False  # the name is not meant for pytest

    images: torch.Tensor
    masks: torch.Tensor
    kinds: tuple[str, ...]
    strengths: torch.Tensor
    places: torch.Tensor


@functools.cache
def _photograph(category: str) -> npt.NDArray[np.uint8]:
    if category not in CATEGORIES:
        msg = f"builtin: `category` must be one of {', '.join(CATEGORIES)}, got {category!r}"
        raise ValueError(msg)
    image: npt.NDArray[np.uint8] = getattr(data, CATEGORIES[category])()
    return image.reshape(*image.shape[:2], -1)


def _scene(
    category: str, place: Seed, lighting: Seed, strips: tuple[tuple[int, int], ...]
) -> defects.Floats:
    """A noiseless tile from a random place in slightly other light, (128, 128, C) float64."""
    photograph = _photograph(category)
    rng = np.random.default_rng(place)
    left, right = strips[rng.integers(len(strips))]
    y, x = rng.integers(photograph.shape[0] - TILE + 1), rng.integers(left, right - TILE + 1)
    tile = photograph[y : y + TILE, x : x + TILE].astype(np.float64)
    rng = np.random.default_rng(lighting)
    lit = tile * rng.uniform(1 - GAIN, 1 + GAIN) + rng.uniform(-OFFSET, OFFSET)
    return lit.clip(0, 255)


def _expose(scene: defects.Floats, seed: Seed) -> torch.Tensor:
    """What the sensor records: noise, clipping and rounding; (C, 128, 128) uint8."""
    noisy = scene + np.random.default_rng((*seed, _NOISE)).normal(0.0, NOISE, scene.shape)
    return (
        torch.from_numpy(noisy.round().clip(0, 255).astype(np.uint8)).permute(2, 0, 1).contiguous()
    )


def _number(category: str) -> int:
    return list(CATEGORIES).index(category)


def train_images(category: str, count: int = 192) -> torch.Tensor:
    """Normal tiles to train on.

    Args:
        category: A key of `CATEGORIES`.
        count: Number of tiles. The first n tiles do not depend on it.

    Returns:
        (count, C, 128, 128) uint8, C = 1 (grey) or 3 (colour). Same bytes every time.

    Raises:
        ValueError: If the category is unknown.
    """
    _photograph(category)
    seeds = [(_number(category), _TRAIN, i) for i in range(count)]
    return torch.stack([_expose(_scene(category, s, (*s, 0), TRAIN_STRIPS), s) for s in seeds])


def _normal_tile(category: str, place: int, exposure: int) -> torch.Tensor:
    """A test tile without defect, under lighting and noise of its own."""
    number = _number(category)
    own = (number, _NORMAL, place, exposure)
    return _expose(_scene(category, (number, _TEST, place), own, TEST_STRIPS), own)


def _foreign(category: str, seed: Seed) -> defects.Floats:
    """A tile of another photograph, in grey, with the channels of this one."""
    others = [name for name in CATEGORIES if name != category]
    other = others[seed[-1] % len(others)]
    tile = _scene(other, seed, (*seed, 0), ((0, _photograph(other).shape[1]),))
    grey = tile.mean(axis=2, keepdims=True)
    return np.broadcast_to(grey, (TILE, TILE, _photograph(category).shape[2]))


def defective_tile(
    category: str, kind: str, strength: float, place: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One defective test tile, and the same exposure without the defect.

    Args:
        category: A key of `CATEGORIES`.
        kind: A key of `defects.KINDS`.
        strength: Grey levels, or px for "blur" and "warp".
        place: Which place of the test strip, at least 0; every kind occurs at every place. Shape,
            lighting and noise depend on the category, the kind and the place, not on the strength.

    Returns:
        The defective tile (C, 128, 128) uint8, its mask (1, 128, 128) bool, and the tile without
        the defect, uint8. Both tiles have the same noise, so they are identical outside the mask.

    Raises:
        ValueError: If the category or the kind is unknown.
    """
    if kind not in defects.KINDS:
        msg = f"builtin: `kind` must be one of {', '.join(defects.KINDS)}, got {kind!r}"
        raise ValueError(msg)
    _photograph(category)
    number, kind_number = _number(category), list(defects.KINDS).index(kind)
    own = (number, _DEFECT, kind_number, place)
    clean = _scene(category, (number, _TEST, place), own, TEST_STRIPS)
    foreign = _foreign(category, (number, _FOREIGN, kind_number, place))
    changed, mask = defects.apply(
        kind, (number, _SHAPE, kind_number, place), clean, strength, foreign
    )
    return _expose(changed, own), torch.from_numpy(mask)[None], _expose(clean, own)


def test_set(category: str, places: int = 12, exposures: int = 4) -> TestSet:
    """The test tiles of a category: normal ones, then every kind at every rung of its ladder.

    The design is balanced: every kind at every strength is shown at the same places, and the normal
        tiles
    show these places too, under other lighting and noise. So no score looks good, or bad, because
    it finds one place odder than another.

    Args:
        category: A key of `CATEGORIES`.
        places: Number of places, at least 1.
        exposures: Number of normal tiles per place, at least 1.

    Returns:
        places · exposures normal tiles and places · 7 · 5 defective ones. Same bytes every time.

    Raises:
        ValueError: If the category is unknown.
    """
    _photograph(category)
    rows: list[tuple[torch.Tensor, torch.Tensor | None, str, float, int]] = [
        (_normal_tile(category, place, exposure), None, "normal", 0.0, place)
        for place in range(places)
        for exposure in range(exposures)
    ]
    for kind, (_, ladder) in defects.KINDS.items():
        for strength in ladder:
            for place in range(places):
                image, mask, _ = defective_tile(category, kind, strength, place)
                rows.append((image, mask, kind, strength, place))
    images, masks, kinds, strengths, where = zip(*rows, strict=True)
    blank = torch.zeros(1, TILE, TILE, dtype=torch.bool)
    return TestSet(
        images=torch.stack(images),
        masks=torch.stack([blank if mask is None else mask for mask in masks]),
        kinds=kinds,
        strengths=torch.tensor(strengths, dtype=torch.float64),
        places=torch.tensor(where),
    )


test_set.__test__ = False  # type: ignore[attr-defined]  # the name is not meant for pytest
