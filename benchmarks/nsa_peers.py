# SPDX-License-Identifier: Apache-2.0
"""Natural synthetic anomalies as the released code makes them: one uint8 RGB image at a time.

Rebuilt from public calls of OpenCV, scikit-image and NumPy, oddities included: resized patches are
bounded by half sizes, later patches overwrite the mask of earlier ones, and patches of odd width
land a pixel beside their mask. Foreign patch interpolation and Poisson image interpolation are
settings of it, as in that code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness import optional, require

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    Mask = NDArray[np.bool_]

cv2, filters = optional("cv2"), optional("skimage.filters")
morphology = optional("skimage.morphology")

_ATTEMPTS = 200
_FEWEST_PIXELS = 50


class Settings(NamedTuple):
    """What the released code has in a table of classes and a table of methods.

    Attributes:
        height, width: bounds of half a patch's sides, as shares of the image's.
        background: grey level and tolerance of what is no object; None: all is object.
        object_share: of the source's window, more of it must be object.
        overlap: of the pasted object, more of it must lie on the target's.
        patches: at most; each after the first one with probability 1/2.
        resize: bounds of the scale, or None.
        shift: whether the patch goes elsewhere than where it comes from.
        blend: "normal", "mixed", "swap", "uniform", or "interpolated": mixed with a grey mask.
        label: "logistic", "binary", "intensity" or "factor".
        steepness, midpoint: of the logistic label, in grey levels.
    """

    height: tuple[float, float] = (0.03, 0.40)
    width: tuple[float, float] = (0.03, 0.40)
    background: tuple[int, int] | None = None
    object_share: float = 0.7
    overlap: float = 0.25
    patches: int = 3
    resize: tuple[float, float] | None = (0.7, 1.3)
    shift: bool = True
    blend: str = "normal"
    label: str = "logistic"
    steepness: float = 1 / 6
    midpoint: float = 15


_TEXTURE = Settings(patches=4, resize=(0.5, 2.0), blend="mixed")
CLASSES = {
    "bottle": Settings(background=(200, 60), steepness=1 / 12, midpoint=24),
    "hazelnut": Settings((0.03, 0.35), (0.03, 0.35), (20, 20), steepness=1 / 12, midpoint=24),
    "toothbrush": Settings((0.03, 0.40), (0.03, 0.20), (20, 20), object_share=0.25),
    "transistor": Settings(),
    "carpet": _TEXTURE._replace(steepness=1 / 3, midpoint=7),
    "wood": _TEXTURE,
}


def _interpolation(settings: Settings, blend: str) -> Settings:
    return settings._replace(resize=None, shift=False, blend=blend, label="factor")


def fpi(settings: Settings) -> Settings:
    """Foreign patch interpolation with a class's sizes and patches."""
    return _interpolation(settings, "uniform")


def pii(settings: Settings) -> Settings:
    """Poisson image interpolation with a class's sizes and patches."""
    return _interpolation(settings, "interpolated")


class _Bounds(NamedTuple):
    """Of half a patch's sides, in pixels."""

    low: tuple[int, int]
    high: tuple[int, int]

    def clip(self, side: float, axis: int) -> int:
        return int(min(max(side, self.low[axis]), self.high[axis]))


def prepare() -> None:
    """One thread; raises ImportError if a library is missing."""
    require(cv2, "opencv-python-headless")
    require(filters, "scikit-image")
    cv2.setNumThreads(1)


def reference_nsa(
    image: Pixels, source: Pixels, rng: np.random.Generator, settings: Settings
) -> tuple[Pixels, NDArray[np.float32]]:
    """The image (H, W, 3) with patches of the source, and its label (H, W)."""
    shape = image.shape[:2]
    sides = [
        [round(share * side) for share in bounds]
        for side, bounds in zip(shape, (settings.height, settings.width), strict=True)
    ]
    bounds = _Bounds((sides[0][0], sides[1][0]), (sides[0][1], sides[1][1]))
    objects = [_object_mask(pixels, settings.background) for pixels in (source, image)]
    factor = rng.uniform(0.05, 0.95)
    out, region = image, np.zeros(shape, np.bool_)
    for k in range(settings.patches):
        if k == 0 or rng.random() < 0.5:
            out = _paste(out, source, objects, region, bounds, factor, rng, settings)
    return out, _label(image, out, region, factor, settings)


def _object_mask(image: Pixels, background: tuple[int, int] | None) -> Mask | None:
    if background is None:
        return None
    grey, tolerance = background
    found = np.abs(image.mean(axis=-1) - grey) > tolerance
    mask: Mask = cv2.medianBlur(found.astype(np.uint8), 7) > 0
    return mask


def _paste(
    image: Pixels,
    source: Pixels,
    objects: list[Mask | None],
    region: Mask,
    bounds: _Bounds,
    factor: float,
    rng: np.random.Generator,
    settings: Settings,
) -> Pixels:
    """The image with one more patch, which is written to the region too."""
    window = _source_window(objects[0], source.shape[:2], bounds, rng, settings)
    if window is None:
        return image
    patch = source[window]
    pasted = None if objects[0] is None else objects[0][window]
    if settings.resize is not None:
        height, width = _resized(patch.shape[:2], bounds, rng, settings.resize)
        patch = cv2.resize(patch, (width, height))
        if pasted is not None:
            pasted = cv2.resize(pasted.astype(np.uint8), (width, height)) > 0
    if settings.shift:
        window = _target_window(objects[1], pasted, image.shape[:2], patch.shape[:2], rng, settings)
        if window is None:
            return image
    labelled = blended = np.ones(patch.shape[:2], np.bool_)
    if pasted is not None and objects[1] is not None:
        labelled = pasted | objects[1][window]
        blended = np.ones_like(labelled)  # labelled, or background in both images
    mask = np.zeros(blended.shape, np.uint8)
    mask[1:-1, 1:-1] = blended[1:-1, 1:-1]
    if np.count_nonzero(mask) < _FEWEST_PIXELS:
        return image
    try:
        out = _blended(image, patch, mask, labelled, window, factor, settings.blend)
    except cv2.error:
        return image
    region[window] = labelled
    return out


def _source_window(
    objects: Mask | None,
    shape: tuple[int, ...],
    bounds: _Bounds,
    rng: np.random.Generator,
    settings: Settings,
) -> tuple[slice, slice] | None:
    half = [
        bounds.clip((0.03 + rng.gamma(2, 0.05)) * side, axis) for axis, side in enumerate(shape)
    ]
    for _ in range(_ATTEMPTS):
        rows, columns = (
            slice(max(centre - size, 0), min(centre + size, side))
            for centre, size, side in zip(
                (
                    int(rng.integers(low, side - low))
                    for low, side in zip(bounds.low, shape, strict=True)
                ),
                half,
                shape,
                strict=True,
            )
        )
        if objects is None or objects[rows, columns].mean() > settings.object_share:
            return rows, columns
    return None


def _resized(
    shape: tuple[int, ...],
    bounds: _Bounds,
    rng: np.random.Generator,
    limits: tuple[float, float],
) -> tuple[int, int]:
    h, w = shape
    scale = np.clip(rng.normal(1, 0.5), *limits)
    width = bounds.clip(bounds.clip(scale * h, 0) * w / h, 1)
    return bounds.clip(width * h / w, 0), width


def _target_window(
    objects: Mask | None,
    pasted: Mask | None,
    shape: tuple[int, ...],
    size: tuple[int, ...],
    rng: np.random.Generator,
    settings: Settings,
) -> tuple[slice, slice] | None:
    for _ in range(_ATTEMPTS):
        centres = [
            int(rng.integers(extent // 2 + 1, side - extent // 2 - 1))
            for extent, side in zip(size, shape, strict=True)
        ]
        rows, columns = (
            slice(centre - extent // 2, centre + (extent + 1) // 2)
            for centre, extent in zip(centres, size, strict=True)
        )
        if objects is None or pasted is None:
            return rows, columns
        count = np.count_nonzero(pasted)
        shared = np.count_nonzero(pasted & objects[rows, columns])
        if count > settings.object_share * pasted.size and shared > settings.overlap * count:
            return rows, columns
    return None


def _blended(
    image: Pixels,
    patch: Pixels,
    mask: Pixels,
    labelled: Mask,
    window: tuple[slice, slice],
    factor: float,
    blend: str,
) -> Pixels:
    rows, columns = window
    if blend in ("swap", "uniform"):
        share = 1.0 if blend == "swap" else factor
        out = image.copy()
        mixed = np.floor((1.0 - share) * image[window] + share * patch)
        out[window] = np.where(labelled[..., None], mixed, image[window])
        return out
    h, w = patch.shape[:2]
    grey = int(np.ceil(255 * factor)) if blend == "interpolated" else 255
    flag = cv2.NORMAL_CLONE if blend == "normal" else cv2.MIXED_CLONE
    centre = (columns.stop - w // 2, rows.start + h // 2)
    # OpenCV writes to the mask, which is a new one here.
    cloned: Pixels = cv2.seamlessClone(patch, image, mask * np.uint8(grey), centre, flag)
    return cloned


def _label(
    before: Pixels, after: Pixels, region: Mask, factor: float, settings: Settings
) -> NDArray[np.float32]:
    difference = np.abs(before.astype(np.float64) - after).mean(axis=-1) * region
    changed = cv2.medianBlur((difference > 1).astype(np.uint8), 5).astype(np.float64)
    if settings.label == "binary":
        return changed.astype(np.float32)
    if settings.label == "factor":
        return (factor * changed).astype(np.float32)
    size = filters.median(changed * difference, morphology.disk(5))
    if settings.label == "intensity":
        return np.asarray(size, np.float32)
    logistic = changed / (1 + np.exp(-settings.steepness * (size - settings.midpoint)))
    return np.asarray(logistic, np.float32)
