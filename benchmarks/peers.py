# SPDX-License-Identifier: Apache-2.0
"""CutPaste as others run it: PIL + torchvision, OpenCV + NumPy; `torch_peers` has plain torch.

Every peer takes parameters in the form of ``ssad_kernels.CutPasteParams`` and pastes inside one
image (``source_index`` is the identity) with every box inside the image, which is what the
transforms draw. The per-image peers get their parameters as Python numbers, unpacked by
`unpack` outside the timed region. Each is written to be as fast as its libraries allow: beating a
slow peer would prove nothing.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from harness import optional, require

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor

    Pixels = NDArray[np.uint8]

cv2, pil_image, pil_chops = (optional(name) for name in ("cv2", "PIL.Image", "PIL.ImageChops"))
tvf = optional("torchvision.transforms.functional")

GREY = (0.2989, 0.587, 0.114)  # torchvision's luma weights
_PERMUTATIONS = [
    (a, b, c, 6 - a - b - c)
    for a in range(4)
    for b in range(4)
    for c in range(4)
    if len({a, b, c}) == 3
]
_pack_matrix = struct.Struct("12f").pack_into


class Params(Protocol):
    """The tensors of ``ssad_kernels.CutPasteParams`` that the peers read, one row per sample."""

    @property
    def source_box(self) -> Tensor: ...  # noqa: D102
    @property
    def target(self) -> Tensor: ...  # noqa: D102
    @property
    def angle(self) -> Tensor: ...  # noqa: D102
    @property
    def jitter(self) -> Tensor: ...  # noqa: D102
    @property
    def order(self) -> Tensor: ...  # noqa: D102
    @property
    def turns(self) -> Tensor | None: ...  # noqa: D102
    @property
    def shift(self) -> Tensor | None: ...  # noqa: D102


class Sample(NamedTuple):
    """The parameters of one image as Python numbers."""

    box: tuple[int, int, int, int]  # (y, x, h, w) of the source patch
    target: tuple[int, int]  # (y, x), top-left corner of the pasted canvas
    angle: float  # degrees, counter-clockwise
    jitter: tuple[float, float, float, float]  # brightness, contrast, saturation factors, hue shift
    order: tuple[int, ...]  # of what is changed at all
    turns: int = 0
    shift: tuple[int, int] = (0, 0)


def unpack(params: Params) -> list[Sample]:
    """Turn a tuple of parameter tensors into one `Sample` per image."""
    columns = (params.source_box, params.target, params.angle, params.jitter, params.order)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    samples = [
        Sample(tuple(b), tuple(t), a, tuple(j), tuple(step for step in o if step >= 0))
        for b, t, a, j, o in rows
    ]
    if params.turns is None or params.shift is None:
        return samples
    moves = zip(samples, params.turns.tolist(), params.shift.tolist(), strict=True)
    return [sample._replace(turns=k, shift=tuple(by)) for sample, k, by in moves]


class PILCutPaste:
    """CutPaste on one PIL image, the recipe of the public re-implementations.

    Crop, colour jitter on the PIL patch, rotate with an alpha channel when there is an angle,
    paste. Converting to and from tensors is not counted.
    """

    def __init__(self) -> None:
        require(pil_image, "pillow")
        require(tvf, "torchvision")
        self._adjust: tuple[Callable[[Image, float], Image], ...] = (
            tvf.adjust_brightness,
            tvf.adjust_contrast,
            tvf.adjust_saturation,
            tvf.adjust_hue,
        )

    def __call__(self, image: Image, sample: Sample) -> Image:
        """Paste into ``image`` in place; return the mask (mode ``L``)."""
        y, x, h, w = sample.box
        source = image
        if sample.turns:
            turn = (pil_image.ROTATE_90, pil_image.ROTATE_180, pil_image.ROTATE_270)
            source = source.transpose(turn[sample.turns - 1])
        if any(sample.shift):
            source = pil_chops.offset(source, sample.shift[1], sample.shift[0])
        patch = source.crop((x, y, x + w, y + h))
        for step in sample.order:
            patch = self._adjust[step](patch, sample.jitter[step])
        mask: Image = pil_image.new("L", image.size)
        top, left = sample.target
        if sample.angle:
            patch = patch.convert("RGBA").rotate(sample.angle, expand=True)
            alpha = patch.getchannel("A")
            image.paste(patch, (left, top), alpha)
            mask.paste(255, (left, top, left + patch.width, top + patch.height), alpha)
        else:
            image.paste(patch, (left, top))
            mask.paste(255, (left, top, left + w, top + h))
        return mask


class OpenCVCutPaste:
    """CutPaste on one HWC uint8 image with OpenCV and NumPy, uint8 throughout.

    What makes it quick: brightness, contrast and saturation keep the form ``a·x + g·grey(x) + k``,
    so steps between which nothing can saturate are one ``cv2.transform``; the hue shift needs no
    HSV round trip (see `_hue`); scratch memory is reused and stays in the cache.

    Args:
        capacity: largest patch in pixels.
    """

    def __init__(self, capacity: int = 256 * 256) -> None:
        require(cv2, "opencv-python-headless")
        self._a, self._b = (np.empty(3 * capacity, np.uint8) for _ in range(2))
        self._matrix = np.empty((3, 4), np.float32)
        self._matrix_bytes = self._matrix.data.cast("B")
        self._planes = np.empty(17 * capacity, np.uint8)

    def __call__(self, image: Pixels, sample: Sample) -> NDArray[np.bool_]:
        """Paste into ``image`` (H, W, 3) in place; return the mask (H, W)."""
        y, x, h, w = sample.box
        ty, tx = sample.target
        mask = np.zeros(image.shape[:2], np.bool_)
        source = image
        if sample.turns:
            source = np.rot90(source, sample.turns)  # a view
        if any(sample.shift):
            source = np.roll(source, sample.shift, (0, 1))
        source = source[y : y + h, x : x + w]
        if not sample.angle:
            self.jitter(source, sample, image[ty : ty + h, tx : tx + w])
            mask[ty : ty + h, tx : tx + w] = True
            return mask
        patch = self._b[: 3 * h * w].reshape(h, w, 3)
        self.jitter(source, sample, patch)
        patch, alpha = rotate_expand(patch, sample.angle)
        rows, columns = alpha.shape
        cv2.copyTo(patch, alpha, image[ty : ty + rows, tx : tx + columns])
        mask[ty : ty + rows, tx : tx + columns] = alpha
        return mask

    def jitter(self, source: Pixels, sample: Sample, out: Pixels) -> None:
        """Write the jittered ``source`` (h, w, 3) to ``out``, which may overlap it."""
        factors, order = sample.jitter, sample.order
        if not order:
            np.copyto(out, source)
            return
        # OpenCV is up to twice as fast on contiguous arrays as on views, which pays for the copies
        patch = self._a[: source.size].reshape(source.shape)
        np.copyto(patch, source)
        hue_at = order.index(3)
        self._affine(patch, factors, order[:hue_at])
        if factors[3]:
            self._hue(patch, factors[3])
        self._affine(patch, factors, order[hue_at + 1 :])
        np.copyto(out, patch)

    def _affine(self, patch: Pixels, factors: Sequence[float], steps: Sequence[int]) -> None:
        """Brightness, contrast and saturation in the order of ``steps``, in place."""
        a, g, k, mean = 1.0, 0.0, 0.0, -1.0
        for step in steps:
            f = factors[step]
            if step == 0:
                a, g, k = f * a, f * g, f * k
            elif step == 1:
                if mean < 0.0:
                    red, green, blue, _ = cv2.sumElems(patch)
                    mean = GREY[0] * red + GREY[1] * green + GREY[2] * blue
                    mean /= patch.shape[0] * patch.shape[1]
                a, g, k = f * a, f * g, f * k + (1.0 - f) * ((a + g) * mean + k)
            else:
                a, g = f * a, f * g + (1.0 - f) * (a + g)
            if f > 1.0:  # may saturate, so the steps before and after it cannot be merged
                self._apply_affine(patch, a, g, k)
                a, g, k, mean = 1.0, 0.0, 0.0, -1.0
        if (a, g, k) != (1.0, 0.0, 0.0):
            self._apply_affine(patch, a, g, k)

    def _apply_affine(self, patch: Pixels, a: float, g: float, k: float) -> None:
        """``a·x + g·grey(x) + k``, saturated, in place."""
        if g == 0.0 and k >= 0.0:
            cv2.convertScaleAbs(patch, patch, a, k)
            return
        r, s, t = g * GREY[0], g * GREY[1], g * GREY[2]
        _pack_matrix(self._matrix_bytes, 0, a + r, s, t, k, r, a + s, t, k, r, s, a + t, k)
        cv2.transform(patch, self._matrix, patch)

    def _hue(self, patch: Pixels, shift: float) -> None:
        """Shift the hue by ``shift`` turns, in place.

        A third of a turn permutes the channels. A remainder of ``d`` sixths, ``|d| <= 1``, moves
        each channel by the soft-thresholded difference of the two others, within the pixel's own
        minimum and maximum: for ``d > 0``, ``r' = clip(r + S(b - g), min, max)`` where ``S``
        shrinks towards zero by ``(1 - d)·(max - min)``. No division, no HSV, exact but for
        rounding, and a little faster than the uint8 HSV round trip.
        """
        h, w = patch.shape[:2]
        n = h * w
        thirds = round(3.0 * shift)
        d = 6.0 * shift - 2.0 * thirds
        planes = self._planes[: 17 * n].reshape(17, n)
        rows = self._planes[: 17 * n].reshape(17, h, w)
        cv2.split(patch, [rows[(i + thirds) % 3] for i in range(3)])
        planes[3:5] = planes[:2]
        red, green, blue = planes[:3]
        high, low, threshold = planes[5:8]
        np.maximum(np.maximum(red, green, out=high), blue, out=high)
        np.minimum(np.minimum(red, green, out=low), blue, out=low)
        np.subtract(high, low, out=threshold)
        cv2.convertScaleAbs(threshold, threshold, 1.0 - abs(d))
        thresholds, up, down = planes[8:11], planes[11:14], planes[14:17]
        np.copyto(thresholds, threshold)
        first, second = (planes[2:5], planes[1:4]) if d > 0 else (planes[1:4], planes[2:5])
        cv2.subtract(first, second, up)
        cv2.subtract(second, first, down)
        cv2.subtract(up, thresholds, up)
        cv2.subtract(down, thresholds, down)
        cv2.add(planes[:3], up, up)
        cv2.subtract(up, down, up)
        np.minimum(up, high, out=up)
        np.maximum(up, low, out=up)
        cv2.merge([rows[11], rows[12], rows[13]], patch)


def rotate_expand(patch: Pixels, angle: float) -> tuple[Pixels, Pixels]:
    """Rotate by ``angle`` degrees, nearest sampling, onto the canvas that just holds the patch.

    Returns the canvas and its mask, 1 where there is a pixel of the patch.
    """
    h, w = patch.shape[:2]
    radians = math.radians(angle)
    cos, sin = math.cos(radians), math.sin(radians)
    rows = math.ceil(h * abs(cos) + w * abs(sin))
    columns = math.ceil(w * abs(cos) + h * abs(sin))
    # inverse map, from pixel centres of the canvas to pixel centres of the patch
    dx, dy = (1 - columns) / 2, (1 - rows) / 2
    matrix = np.array(
        (
            (cos, -sin, cos * dx - sin * dy + (w - 1) / 2),
            (sin, cos, sin * dx + cos * dy + (h - 1) / 2),
        )
    )
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    alpha = cv2.warpAffine(np.full((h, w), 1, np.uint8), matrix, (columns, rows), flags=flags)
    return cv2.warpAffine(patch, matrix, (columns, rows), flags=flags), alpha


class OpenCVTransform:
    """The whole augmentation of one image: draws with a NumPy generator, pastes with OpenCV.

    Draws as spec'd by the CutPaste paper: area 2-15 % of the image, aspect ratio from
    (0.3, 1) or (1, 3.3) with equal odds, places uniform and independent, jitter in random order.
    All random numbers of a sample come from one call of the generator.

    Args:
        seed: of the generator.
        jitter: largest change of each of the four jitter factors.
    """

    def __init__(self, seed: int = 0, jitter: float = 0.1) -> None:
        self._random = np.random.default_rng(seed).random
        self._paste = OpenCVCutPaste()
        self._jitter = jitter

    def draw(self, height: int, width: int) -> Sample:
        """Draw the parameters of one image of ``height`` x ``width`` pixels."""
        u = self._random(12).tolist()
        area = (0.02 + 0.13 * u[0]) * height * width
        aspect = 0.3 + 0.7 * u[1] if u[2] < 0.5 else 1.0 + 2.3 * u[1]
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        rows, columns = height - h + 1, width - w + 1
        j = self._jitter
        low, span = 1.0 - j, 2.0 * j
        return Sample(
            (int(u[3] * rows), int(u[4] * columns), h, w),
            (int(u[5] * rows), int(u[6] * columns)),
            0.0,
            (low + span * u[7], low + span * u[8], low + span * u[9], span * u[10] - j),
            _PERMUTATIONS[int(24.0 * u[11])],
        )

    def __call__(self, image: Pixels) -> tuple[Pixels, NDArray[np.bool_]]:
        """Return an augmented copy of ``image`` (H, W, 3) and its mask (H, W)."""
        image = image.copy()
        return image, self._paste(image, self.draw(*image.shape[:2]))
