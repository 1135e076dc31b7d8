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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from skimage import data
from torchvision.transforms.v2 import functional

from ssad_models.data import defects
from ssad_models.data.images import resize, resize_mask
from ssad_models.data.split import Advance, Split

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


def test_set(
    category: str, places: int = 12, exposures: int = 4, advance: Advance | None = None
) -> Split:
    """The test tiles of a category: normal ones, then every kind at every rung of its ladder.

    The design is balanced: every kind at every strength is shown at the same places, and the normal
    tiles show these places too, under other lighting and noise. So no score looks good, or bad,
    because it finds one place odder than another. A place is a group of the split.

    Args:
        category: A key of `CATEGORIES`.
        places: Number of places, at least 1.
        exposures: Number of normal tiles per place, at least 1.
        advance: Called after every tile.

    Returns:
        places · exposures normal tiles and places · 7 · 5 defective ones. Same bytes every time.

    Raises:
        ValueError: If the category is unknown.
    """
    _photograph(category)
    blank = torch.zeros(1, TILE, TILE, dtype=torch.bool)
    tiles: list[_Tile] = []

    def add(tile: _Tile) -> None:
        tiles.append(tile)
        if advance is not None:
            advance(1)

    for place in range(places):
        for exposure in range(exposures):
            image = _normal_tile(category, place, exposure)
            add(_Tile(f"good/{place:02}-{exposure}", "good", 0.0, place, image, blank))
    for kind, (_, ladder) in defects.KINDS.items():
        for strength in ladder:
            for place in range(places):
                image, mask, _ = defective_tile(category, kind, strength, place)
                name = f"{kind}/{strength:g}-{place:02}"
                add(_Tile(name, kind, strength, place, image, mask))
    return _split(tiles)


test_set.__test__ = False  # type: ignore[attr-defined]  # the name is not meant for pytest


class _Tile(NamedTuple):
    name: str
    kind: str
    strength: float
    place: int
    image: torch.Tensor
    mask: torch.Tensor


def _split(tiles: Sequence[_Tile]) -> Split:
    names, kinds, strengths, places, images, masks = zip(*tiles, strict=True)
    return Split(
        images=torch.stack(images),
        names=names,
        kinds=kinds,
        labels=torch.tensor([kind != "good" for kind in kinds]),
        masks=torch.stack(masks),
        strengths=torch.tensor(strengths, dtype=torch.float64),
        groups=torch.tensor(places),
        sizes=torch.full((len(tiles), 2), TILE),
    )


@dataclass(frozen=True)
class BuiltinSource:
    """One category as a data source like any other.

    Attributes:
        name: A key of `CATEGORIES`.
        training_tiles: Number of normal tiles to train on.
        places: Places of the test strip, see `test_set`.
        exposures: Normal test tiles per place.
    """

    name: str
    training_tiles: int = 192
    places: int = 12
    exposures: int = 4

    def train(self, size: int, channels: int, advance: Advance | None = None) -> Split:
        """Normal tiles, resized; every tile is its own group."""
        images = train_images(self.name, self.training_tiles)
        if advance is not None:
            advance(len(images))
        blank = torch.zeros(1, TILE, TILE, dtype=torch.bool)
        tiles = [_Tile(f"good/{i:03}", "good", 0.0, i, im, blank) for i, im in enumerate(images)]
        return _converted(_split(tiles), size, channels)

    def test(self, size: int, channels: int, advance: Advance | None = None) -> Split:
        """The result of `test_set`, resized."""
        tiles = test_set(self.name, self.places, self.exposures, advance)
        return _converted(tiles, size, channels)

    def counts(self) -> tuple[int, int]:
        """Number of training and of test tiles."""
        defective = sum(len(ladder) for _, ladder in defects.KINDS.values())
        return self.training_tiles, self.places * (self.exposures + defective)

    def fingerprint(self) -> str:
        """The same for the same number of tiles; see `Source`."""
        return f"builtin {self.training_tiles}"

    def test_fingerprint(self) -> str:
        """The same for the same numbers of places and exposures; see `Source`."""
        return f"builtin {self.places} x {self.exposures}"


def _converted(tiles: Split, size: int, channels: int) -> Split:
    """Resized, grey or colour as asked, in shared memory."""
    images, masks = tiles.images, tiles.masks
    assert masks is not None
    if images.shape[1] != channels:
        convert = functional.rgb_to_grayscale if channels == 1 else functional.grayscale_to_rgb
        images = convert(images)
    if size != TILE:
        images = torch.stack([resize(image, size) for image in images])
        masks = torch.stack([resize_mask(mask, size) for mask in masks])
    return replace(tiles, images=images.share_memory_(), masks=masks.share_memory_())
