# SPDX-License-Identifier: Apache-2.0
"""Seven kinds of synthetic defect with a known strength and an exact mask.

None of them cuts and pastes or blends by Poisson's equation, so no augmentation of this project has
an unfair advantage in finding them. A defect is drawn on a noiseless tile; sensor noise comes
afterwards (`builtin`), as it would from a camera. Otherwise a blurred region would be betrayed by
its missing noise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage import draw, transform
from skimage.morphology import disk

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Rng = np.random.Generator

# A change below half a grey level cannot be relied on to survive rounding, so it is not a change.
VISIBLE = 0.5

GREY_LEVELS = (4.0, 8.0, 16.0, 32.0, 64.0)
PIXELS = (0.5, 1.0, 2.0, 4.0, 8.0)


def _blob(rng: Rng, shape: tuple[int, int], radius: tuple[float, float]) -> Bools:
    """A smooth random outline (three harmonics) of a mean radius in `radius`, inside the tile."""
    angle = np.linspace(0.0, 2 * np.pi, 90, endpoint=False)
    waves = [
        rng.uniform(-0.12, 0.12) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4)
    ]
    r = rng.uniform(*radius) * (1 + np.sum(waves, axis=0))
    margin = r.max() + 1
    y, x = (rng.uniform(margin, side - margin) for side in shape)
    outline = np.stack([y + r * np.sin(angle), x + r * np.cos(angle)], axis=1)
    mask: Bools = draw.polygon2mask(shape, outline)
    return mask


def _bump(rng: Rng, shape: tuple[int, int], radius: tuple[float, float]) -> Floats:
    """A smooth hill of height 1 over a random blob, 0 at its edge and outside."""
    depth = ndimage.distance_transform_edt(_blob(rng, shape, radius))
    hill: Floats = np.sin(0.5 * np.pi * depth / depth.max()) ** 2
    return hill


def _sign(rng: Rng, tile: Floats, region: Bools) -> float:
    """Up or down, whichever has more room before 0 or 255; by chance where both have plenty."""
    mean = tile[region].mean()
    if 96 <= mean <= 160:
        return float(rng.choice((-1.0, 1.0)))
    return 1.0 if mean < 128 else -1.0


def _tint(rng: Rng, channels: int) -> Floats:
    """Weight of each channel: 1 for grey, else a random colour whose strongest channel is 1."""
    if channels == 1:
        return np.ones(1)
    tint = rng.uniform(-1.0, 1.0, channels)
    colour: Floats = tint / np.abs(tint).max()
    return colour


def _unit_rms(change: Floats, region: Bools) -> Floats:
    """Scaled so that the root mean square inside the region is 1."""
    rms = np.sqrt(np.mean(change[region] ** 2))
    scaled: Floats = change / max(rms, 1e-12)
    return scaled


def scratch(rng: Rng, tile: Floats, strength: float, foreign: Floats) -> Floats:
    """A bent line, 1 to 3 px wide, lighter or darker by `strength` grey levels everywhere."""
    h, w = tile.shape[:2]
    start, length, heading = (
        rng.uniform((8, 8), (h - 8, w - 8)),
        rng.uniform(32, 80),
        rng.uniform(0, 2 * np.pi),
    )
    end = start + length * np.array([np.sin(heading), np.cos(heading)])
    middle = (start + end) / 2 + rng.uniform(-12, 12, 2)
    points = np.clip(np.stack([start, middle, end]), 2, (h - 3, w - 3)).round().astype(int)
    line = np.zeros((h, w), dtype=bool)
    line[draw.bezier_curve(*points.ravel(), weight=1.0, shape=(h, w))] = True
    footprint = (np.ones((1, 1)), np.ones((2, 2)), disk(1))[rng.integers(3)]
    line = ndimage.binary_dilation(line, footprint)
    marked: Floats = tile + _sign(rng, tile, line) * strength * line[..., None]
    return marked


def hole(rng: Rng, tile: Floats, strength: float, foreign: Floats) -> Floats:
    """A small pit with a sharp edge, darker by `strength` grey levels everywhere."""
    region = _blob(rng, tile.shape[:2], (6.0, 12.0))
    return tile - strength * region[..., None]


def stain(rng: Rng, tile: Floats, strength: float, foreign: Floats) -> Floats:
    """A wide smooth change without an edge, `strength` levels at its peak, tinted on colour."""
    hill = _bump(rng, tile.shape[:2], (18.0, 32.0))
    tint = _tint(rng, tile.shape[2])
    return tile + _sign(rng, tile, hill > 0) * strength * hill[..., None] * tint


def texture(rng: Rng, tile: Floats, strength: float, foreign: Floats) -> Floats:
    """Structure of another photograph laid over a blob: `strength` is its root mean square."""
    region = _blob(rng, tile.shape[:2], (12.0, 22.0))
    change = foreign - foreign[region].mean(axis=0)
    return tile + strength * _unit_rms(change, region) * region[..., None]


def blur(rng: Rng, tile: Floats, strength: float, foreign: Floats) -> Floats:
    """A blob out of focus: Gaussian of `strength` px standard deviation."""
    region = _blob(rng, tile.shape[:2], (14.0, 26.0))
    smooth = ndimage.gaussian_filter(tile, (strength, strength, 0), mode="reflect")
    return np.where(region[..., None], smooth, tile)


def warp(rng: Rng, tile: Floats, strength: float, foreign: Floats) -> Floats:
    """A local push: content moves by `strength` px at the centre of a blob, by 0 at its edge."""
    hill = _bump(rng, tile.shape[:2], (18.0, 32.0))
    heading = rng.uniform(0, 2 * np.pi)
    rows, columns = np.indices(hill.shape, dtype=np.float64)
    where = np.stack(
        [rows - strength * np.sin(heading) * hill, columns - strength * np.cos(heading) * hill]
    )
    moved = [
        transform.warp(tile[..., c], where, order=3, mode="reflect", preserve_range=True)
        for c in range(tile.shape[2])
    ]
    return np.where(hill[..., None] > 0, np.stack(moved, axis=-1), tile)


def shift(rng: Rng, tile: Floats, strength: float, foreign: Floats) -> Floats:
    """A blob of another colour (its strongest channel moves by `strength`), or of more contrast.

    On grey, `strength` is the root mean square of the change, which leaves the mean of the blob as
    it was.
    """
    region = _blob(rng, tile.shape[:2], (14.0, 26.0))
    if tile.shape[2] > 1:
        return tile + strength * _tint(rng, tile.shape[2]) * region[..., None]
    change = tile - tile[region].mean(axis=0)
    return tile + strength * _unit_rms(change, region) * region[..., None]


Defect = Callable[[Rng, Floats, float, Floats], Floats]
KINDS: dict[str, tuple[Defect, tuple[float, ...]]] = {
    "scratch": (scratch, GREY_LEVELS),
    "hole": (hole, GREY_LEVELS),
    "stain": (stain, GREY_LEVELS),
    "texture": (texture, GREY_LEVELS),
    "blur": (blur, PIXELS),
    "warp": (warp, PIXELS),
    "shift": (shift, GREY_LEVELS),
}


def apply(
    kind: str, seed: tuple[int, ...], tile: Floats, strength: float, foreign: Floats
) -> tuple[Floats, Bools]:
    """Draw one defect on a noiseless tile.

    Place and shape depend on `seed` and `tile` only, so the same seed gives the same defect at
    every rung of the ladder. A place where the weakest rung would not show (blur on a blank wall)
    is drawn again.

    Args:
        kind: A key of `KINDS`.
        seed: Non-negative integers; same seed, same defect.
        tile: (H, W, C) float64, grey levels 0..255, sides at least 96 px. Not modified.
        strength: A rung of the kind's ladder: grey levels, or px for "blur" and "warp". Any
            positive value works.
        foreign: (H, W, C) float64, a tile of another photograph, used by "texture".

    Returns:
        The tile with the defect, (H, W, C) float64 in 0..255, and its mask, (H, W) bool. Inside the
        mask some channel changed by at least half a grey level; outside the tile is untouched.

    Raises:
        RuntimeError: If fifty places in a row show nothing, as on a constant tile with "blur".
    """
    draw_defect, ladder = KINDS[kind]

    def attempt(number: int, amount: float) -> tuple[Floats, Bools]:
        changed = draw_defect(np.random.default_rng((*seed, number)), tile, amount, foreign).clip(
            0, 255
        )
        mask: Bools = np.any(np.abs(changed - tile) >= VISIBLE, axis=-1)
        return np.where(mask[..., None], changed, tile), mask

    for number in range(50):
        if attempt(number, ladder[0])[1].sum() >= 16:
            return attempt(number, strength)
    must = f"have structure where {kind!r} can show"
    msg = f"apply: `tile` must {must}, got a standard deviation of {tile.std():.2f}"
    raise RuntimeError(msg)
