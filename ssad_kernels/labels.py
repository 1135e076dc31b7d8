# SPDX-License-Identifier: Apache-2.0
"""Medians, object masks, and labels made from what an augmentation has changed.

Schlüter, Tan, Hou and Kainz, "Natural Synthetic Anomalies for Self-Supervised Anomaly Detection and
Localization", ECCV 2022.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import Any, Literal

import torch
from torch import Tensor

from ssad_kernels import labels_op
from ssad_kernels._arrays import plain
from ssad_kernels._errors import check_dtype, check_tensor, wording
from ssad_kernels.labels_op import check_size

Kind = Literal["logistic", "binary", "intensity", "factor"]


def median_filter(
    images: Tensor,
    *,
    size: int | None = None,
    radius: int | None = None,
    boxes: Tensor | None = None,
) -> Tensor:
    """Replace each pixel by the median of a window around it, exactly.

    Beyond the image lies its nearest pixel, as with ``mode="nearest"`` in SciPy and scikit-image.

    Args:
        images: (N, C, H, W), C = 1...4, bool, uint8, int16, int32, float16, bfloat16, float32 or
            float64.
        size: odd, 1...15: the window is a square of this side; for bool images only.
        radius: 1...7: the window is the disk y² + x² <= radius², with 5, 13, 29, 49, 81, 113 or 149
            pixels.
        boxes: (N, 4) int64 ``(y, x, h, w)``: only pixels in the box of their sample are filtered
            (they see those outside of it); all others are copied. A box is clipped to the image.

    Returns:
        (N, C, H, W) like `images`, contiguous.

    Raises:
        TypeError: `images` or `boxes` of another dtype or kind, `size` for images that are not
            bool.
        ValueError: shapes or devices that do not fit, not exactly one of `size` and `radius`, or
            one out of its range.

    Gradient: none, the result is detached. Determinism: bitwise equal on every backend and in any
    batch. A window with a NaN gives NaN; a filtered -0 becomes 0.

    Example:
        >>> import torch
        >>> row = torch.tensor([[9, 1, 1, 7, 7, 7, 1]]).repeat(7, 1)
        >>> median_filter(row.float()[None, None], radius=1)[0, 0, 3].int().tolist()
        [9, 1, 1, 7, 7, 7, 1]
        >>> median_filter((row > 5)[None, None], size=5)[0, 0, 3].int().tolist()
        [1, 1, 1, 1, 1, 1, 0]
    """
    op = "median_filter"
    check_tensor(op, "images", images)
    if boxes is not None:
        check_tensor(op, "boxes", boxes)
    if (size is None) == (radius is None):
        raise ValueError(wording(op, "size", "be given or else `radius`", f"{size} and {radius}"))
    if size is not None:
        check_dtype(op, "images", images, [torch.bool])
        check_size(op, size)
    filtered: Tensor = labels_op.median_filter(
        images.detach(),
        size // 2 if size is not None else radius,
        size is not None,
        boxes,
    )
    return filtered


def object_mask(
    images: Tensor,
    background: tuple[float, float] | Literal["otsu"],
    *,
    size: int = 7,
) -> Tensor:
    """Tell objects from a plain background.

    With ``background=(grey, tolerance)`` a pixel belongs to an object where the mean g of its
    channels differs from `grey` by more than `tolerance`. With ``"otsu"`` each image has a
    threshold of its own: that of the 256 levels which separates the histogram of g, rounded to
    levels, into two parts with the largest variance between them (Otsu 1979; the lowest such
    level). The background is then the part that most of the image's outermost pixels belong to (the
    darker one at a tie), and an image of one level has no objects. Last comes a median over `size`
    x `size` pixels.

    Args:
        images: (N, C, H, W), C = 1...4, uint8, or floats in 0...1.
        background: ``(grey, tolerance)`` in grey levels, 0...255 for floats too, or "otsu".
        size: odd, 1...15, of the window of the median; 1 for none.

    Returns:
        (N, 1, H, W) bool, True where there is an object.

    Raises:
        TypeError: `images` of another dtype or kind, or a `background` that is neither.
        ValueError: shapes that do not fit, numbers that are not finite, a negative tolerance, or a
            `size` out of its range.

    Gradient: none. Determinism: bitwise equal on every backend and in any batch: means are compared
    as integers for uint8, as float32 sums in the order of the channels (float64 for float64)
    otherwise. A NaN is background for a grey, and black for "otsu". Source: the object masks of the
    NSA paper's released code, 7 x 7.

    Example:
        >>> import torch
        >>> image = torch.full((1, 3, 9, 9), 255, dtype=torch.uint8)
        >>> image[:, :, 2:7, 2:7] = 90
        >>> object_mask(image, (255, 20), size=3)[0, 0, 4].int().tolist()
        [0, 0, 1, 1, 1, 1, 1, 0, 0]
        >>> bool(torch.equal(object_mask(image, "otsu"), object_mask(image, (255, 20))))
        True
    """
    op = "object_mask"
    check_tensor(op, "images", images)
    check_size(op, size)
    low, high = 0.0, 0.0
    if not is_otsu(op, background):
        low, high = background_bounds(op, images, *background)
    mask: Tensor = labels_op.object_mask(images.detach(), low, high, background == "otsu", size)
    return mask


def difference_label(
    before: Tensor,
    after: Tensor,
    region: Tensor,
    *,
    kind: Kind = "logistic",
    steepness: float | Tensor = 1 / 6,
    midpoint: float | Tensor = 15.0,
    factor: float | Tensor = 1.0,
    tolerance: float = 1.0,
    size: int = 5,
    radius: int = 5,
) -> Tensor:
    """Label pixels by how much an augmentation has changed them.

    In grey levels, with d the mean over channels of |after - before| in `region` and 0 elsewhere::

        L = median over size x size of [d > tolerance]        (0 or 1)
        m = median over the disk of `radius` of L d
        binary:     y = L
        intensity:  y = m
        logistic:   y = L / (1 + exp(-steepness (m - midpoint)))
        factor:     y = factor L

    Both medians see the nearest pixel beyond the image. A difference that is NaN counts as none, so
    that a pixel which is NaN before and after is unchanged; no label is NaN.

    Args:
        before: (N, C, H, W), C = 1...4, uint8, or floats in 0...1.
        after: like `before`.
        region: (N, 1, H, W) bool, where anything may have changed. All False gives zeros.
        kind: which label, see above.
        steepness: of the logistic, per grey level: a number, or floats (N,). A sample for which a
            tensor's number is not finite, here and below, has a label of zeros.
        midpoint: of the logistic, in grey levels: a number, or floats (N,).
        factor: a number, or floats (N,).
        tolerance: in grey levels, >= 0.
        size: odd, 1...15, of the square window; 1 for none.
        radius: 1...7, of the disk.

    Returns:
        (N, 1, H, W) float32: 0 or 1, m in grey levels, the logistic in 0...1, or 0 or the factor.

    Raises:
        TypeError: arguments of another dtype or kind.
        ValueError: shapes or devices that do not fit, an unknown `kind`, or an option out of its
            range.

    Gradient: none, a label is a target. Determinism: bitwise equal in any batch; across backends
    and instruction sets, too, but for the exponential of "logistic" (1e-6). The differences of
    uint8 images are integers, those of others float32 (float64 for float64).

    Source: "binary", "intensity" ("continuous" in the paper) and "logistic" are those of NSA, with
    the defaults of its released code; "factor" is that of FPI and PII.

    Example:
        >>> import torch
        >>> before = torch.full((1, 3, 9, 9), 100, dtype=torch.uint8)
        >>> region = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
        >>> region[:, :, :, :5] = True
        >>> after = torch.where(region, 130, before).to(torch.uint8)
        >>> label = difference_label(before, after, region, kind="intensity", radius=2)
        >>> label[0, 0, 4].tolist()
        [30.0, 30.0, 30.0, 30.0, 30.0, 0.0, 0.0, 0.0, 0.0]
        >>> label = difference_label(before, after, region, radius=2)  # logistic
        >>> [round(value, 3) for value in label[0, 0, 4, 3:7].tolist()]
        [0.924, 0.924, 0.0, 0.0]
    """
    op = "difference_label"
    for name, value in (("before", before), ("after", after), ("region", region)):
        check_tensor(op, name, value)
    if not 0 <= tolerance < math.inf:
        raise ValueError(wording(op, "tolerance", "be finite and >= 0", tolerance))
    is_logistic, is_factor = kind == "logistic", kind == "factor"
    label: Tensor = labels_op.difference_label(
        plain(before.detach()),
        plain(after.detach()),
        plain(region),
        kind,
        _row(op, "steepness", steepness, before) if is_logistic else None,
        _row(op, "midpoint", midpoint, before) if is_logistic else None,
        _row(op, "factor", factor, before) if is_factor else None,
        threshold_of(before, tolerance),
        size,
        radius,
    )
    return label


def _row(op: str, name: str, value: float | Tensor, images: Tensor) -> Tensor:
    """(N,) float32."""
    if isinstance(value, Tensor):
        check_dtype(op, name, value, [torch.float32, torch.float64])
        return value.detach().to(torch.float32)
    if not math.isfinite(value):
        raise ValueError(wording(op, name, "be finite", value))
    n = images.shape[0] if images.dim() else 0
    return images.new_full((n,), value, dtype=torch.float32)


def is_otsu(op: str, background: Any) -> bool:
    """Whether a background is "otsu"; raises TypeError unless it is that or two numbers."""
    if isinstance(background, str) and background == "otsu":
        return True
    is_pair = isinstance(background, tuple | list) and len(background) == 2
    if not is_pair or not all(isinstance(x, int | float) for x in background):
        must = 'be (grey, tolerance) or "otsu"'
        raise TypeError(wording(op, "background", must, repr(background)))
    return False


def background_bounds(
    op: str, images: Tensor, grey: float, tolerance: float
) -> tuple[float, float]:
    """Between which sums of its channels a pixel of the images is background."""
    check_background(op, grey, tolerance)
    channels, is_bytes = _channels(images), images.dtype == torch.uint8
    low, high = (
        _sum_of_levels(grey, change, channels, is_bytes) for change in (-tolerance, tolerance)
    )
    return low, high


def check_background(op: str, grey: float, tolerance: float) -> None:
    """Raise ValueError unless numbers tell a background."""
    if not (math.isfinite(grey) and 0 <= tolerance < math.inf):
        must = "hold a finite grey and a finite tolerance >= 0"
        raise ValueError(wording(op, "background", must, (grey, tolerance)))


def threshold_of(images: Tensor, tolerance: float) -> float:
    """The sum of differences of the channels that a pixel of the images must exceed."""
    return _sum_of_levels(tolerance, 0.0, _channels(images), images.dtype == torch.uint8)


def _channels(images: Tensor) -> int:
    return int(images.shape[1]) if images.dim() > 1 else 1


@functools.lru_cache
def _sum_of_levels(level: float, change: float, channels: int, is_bytes: bool) -> float:
    """What the channels of a pixel add up to where their mean is `level` + `change`.

    Rounded once; a loader asks for the same one over and over.
    """
    exact = Fraction(level) + Fraction(change)
    return float(exact * channels / (1 if is_bytes else 255))
