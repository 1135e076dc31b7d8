# SPDX-License-Identifier: Apache-2.0
"""Exact metrics of anomaly maps, from scores that are collected batch by batch."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ssad_kernels._errors import (
    FLOATS,
    check_device,
    check_dtype,
    check_shape,
    check_tensor,
    wording,
)
from ssad_kernels.components import component_areas
from ssad_kernels.ranking import (
    Limits,
    area_below,
    as_counted,
    checked_limits,
    count_above,
    largest_overlap,
    most_for,
    precision_of,
    total,
    unless_nan,
)

LIMITS = (0.3, 0.05, 0.01)
"""Of the false-positive rate, for AUPRO."""


class IoU(NamedTuple):
    """Intersection over union at one threshold, of images with anomalous pixels.

    Attributes:
        pooled: () float64: all intersections over all unions.
        per_image: () float64: mean of the images' own.
    """

    pooled: Tensor
    per_image: Tensor


class PixelState(NamedTuple):
    """What is kept of maps and masks. States are joined by concatenating each field.

    Attributes:
        scores: (M,) of pixels, in the order of the images; float32 or float64.
        targets: (M,) bool, True where anomalous.
        found: (P,) scores of the anomalous pixels.
        areas: (P,) int64, of their components.
        components: (N,) int64, how many each image has.
        pixels: (N,) int64, how many of M each image has.
        dropped: (1,) int64, normal pixels that are no longer among M.
    """

    scores: Tensor
    targets: Tensor
    found: Tensor
    areas: Tensor
    components: Tensor
    pixels: Tensor
    dropped: Tensor


def pixel_state(maps: Tensor, masks: Tensor, *, op: str = "pixel_state") -> PixelState:
    """What metrics need of a batch, without a copy where none is needed.

    Args:
        maps: (N, 1, H, W) float16, bfloat16, float32 or float64; higher is more anomalous.
        masks: (N, 1, H, W) bool, True where anomalous.
        op: whose arguments these are, for errors.

    Returns:
        The state.

    Raises:
        TypeError: arguments of another dtype or kind.
        ValueError: shapes or devices that do not fit.
    """
    check_maps(op, maps)
    check_tensor(op, "masks", masks)
    check_dtype(op, "masks", masks, [torch.bool])
    check_shape(op, "masks", masks, tuple(maps.shape))
    check_device(op, "masks", masks, maps.device)
    scores, targets = as_counted(maps), masks.flatten()
    place = targets.nonzero()[:, 0]
    areas, components = component_areas(masks, place)
    pixels = torch.full_like(components, maps[0].numel() if len(maps) else 0)
    dropped = components.new_zeros(1)
    return PixelState(scores, targets, scores[place], areas, components, pixels, dropped)


def check_maps(op: str, maps: Tensor) -> None:
    """Raise TypeError or ValueError unless `maps` are maps."""
    check_tensor(op, "maps", maps)
    check_dtype(op, "maps", maps, FLOATS)
    check_shape(op, "maps", maps, ("N", 1, "H", "W"))


class PixelScores:
    """Collects maps and masks, and has the metrics of all of them.

    AUROC, average precision, F1 and AUPRO pool the pixels of all images; IoU those of images with
    anomalous pixels.

    Exact metrics need every score: 5 bytes are kept per pixel (9 of float64 maps) and 12 more per
    anomalous one (16), and 16 more of those after the first metric but IoU. Without more knowledge
    no score can be dropped, because whatever comes later may lie below. With `limit` and `pixels`,
    which bounds how many there will be, a normal score is dropped once limit * pixels + 1 others
    are above it: it can then have no part in AUPRO up to that limit, which is the only metric that
    is left.

    Args:
        limit: false-positive rate up to which AUPRO is wanted; None for all metrics.
        pixels: an upper bound of the number of normal pixels, over all updates and merges.

    Raises:
        ValueError: only one of `limit` and `pixels`, or one out of its range.

    All metrics are () float64 on the device of the maps. They depend on nothing but the order of
    the scores, are NaN if a score is NaN, or if there is no anomalous pixel, or, for AUROC and
    AUPRO, no normal one; infinite scores are in their order. No gradient. Bitwise equal for any
    number of threads and any split of the images into updates; another order of the images changes
    sums in the last bits.

    Example:
        >>> import torch
        >>> masks = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
        >>> masks[0, :, 2:5, 2:5] = True
        >>> scores = PixelScores()
        >>> scores.update(masks[:1] * 0.7, masks[:1])
        >>> scores.update(masks[1:] * 0.7, masks[1:])
        >>> scores.aupro((0.3, 0.05))
        tensor([1., 1.], dtype=torch.float64)
    """

    def __init__(self, *, limit: float | None = None, pixels: int | None = None) -> None:
        op = "PixelScores"
        if (limit is None) != (pixels is None):
            raise ValueError(wording(op, "limit", "come with `pixels`", f"{limit} and {pixels}"))
        if limit is not None and pixels is not None:
            checked_limits(op, limit)
            if pixels < 1:
                raise ValueError(wording(op, "pixels", "be at least 1", pixels))
        self.limit, self.pixels = limit, pixels
        self._parts: list[PixelState] = []
        self._counts: tuple[int | None, Tensor] | None = None

    @staticmethod
    def of(state: PixelState) -> PixelScores:
        """The metrics of a state, without a copy."""
        scores = PixelScores()
        scores._parts = [state]
        return scores

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Add images.

        Args:
            maps: (N, 1, H, W) float16, bfloat16, float32 or float64; higher is more anomalous.
            masks: (N, 1, H, W) bool, True where anomalous.

        Raises:
            TypeError: arguments of another dtype or kind.
            ValueError: shapes or devices that do not fit.
        """
        state = pixel_state(maps, masks, op="PixelScores.update")
        # The caller may write into its tensors again.
        self._add([state._replace(scores=state.scores.clone(), targets=state.targets.clone())])

    def merge(self, other: PixelScores) -> None:
        """Add all that another one has collected, with the same `limit` and `pixels`.

        Raises:
            ValueError: `other` has another limit.
        """
        if (other.limit, other.pixels) != (self.limit, self.pixels):
            must = f"have limit {self.limit} and pixels {self.pixels}"
            got = f"{other.limit} and {other.pixels}"
            raise ValueError(wording("PixelScores.merge", "other", must, got))
        self._add(other._parts)

    def state(self) -> PixelState:
        """All that is kept, as one state.

        Raises:
            ValueError: nothing has been added yet.
        """
        if not self._parts:
            raise ValueError(wording("PixelScores.state", "maps", "be added first", "none"))
        self._parts = [_joined(self._parts)]
        return self._parts[0]

    def auroc(self) -> Tensor:
        """Area under the ROC curve of pixels."""
        counts = self._ranked("auroc")[1]
        return self._unless_nan(area_below(counts, _normals(self.state()), None, 1.0))

    def average_precision(self) -> Tensor:
        """Average precision of pixels, the sum of steps."""
        return self._unless_nan(precision_of(*self._ranked("average_precision")))

    def f1_max(self) -> Tensor:
        """The largest F1 (Dice) of pixels, over all thresholds."""
        return self._unless_nan(largest_overlap(*self._ranked("f1_max"), weight=2))

    def aupro(self, limits: Limits = LIMITS) -> Tensor:
        """Area under the per-region overlap, up to false-positive rates.

        The per-region overlap is the covered share of a component of a mask, averaged over all
        components of all images (8-connected). The curve over the false-positive rate starts at
        (0, 0), is linear between thresholds, and is cut at the limit; the area is divided by it.

        Args:
            limits: of the false-positive rate, one or several, each in 0 < limit <= 1.

        Returns:
            () for one limit, (len(limits),) for a sequence; float64 in 0...1.

        Raises:
            ValueError: limits out of their range, or beyond the one that was given.

        Source: Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 129, 2021.
        """
        op = "PixelScores.aupro"
        values = checked_limits(op, limits)
        if self.limit is not None and max(values) > self.limit:
            raise ValueError(wording(op, "limits", f"be at most {self.limit}", values))
        state = self.state()
        normals = _normals(state)
        _, counts = self._ranked("aupro", most_for(max(values), normals))
        weights = 1 / state.areas.double()
        return self._unless_nan(area_below(counts, normals, weights, limits))

    def iou(self, threshold: float | Tensor) -> IoU:
        """Intersection over union of masks and what is above a threshold.

        Args:
            threshold: a number, or (); if it is NaN, so is the metric.
        """
        state = self._whole("iou")
        above, sizes = state.scores > threshold, state.pixels.tolist()
        if not sizes or math.isnan(threshold):
            nan = state.scores.new_full((), math.nan, dtype=torch.float64)
            return IoU(nan, nan)
        marked, hits, alarms = (
            torch.stack([image.sum() for image in pixels.split(sizes)]).double()
            for pixels in (state.targets, above & state.targets, above & ~state.targets)
        )
        of = marked > 0
        unions = (marked + alarms)[of]
        pooled = hits[of].sum() / unions.sum()
        per_image = total(hits[of] / unions) / len(unions)
        return IoU(self._unless_nan(pooled), self._unless_nan(per_image))

    def iou_max(self) -> Tensor:
        """The largest pooled intersection over union, over all thresholds: an oracle's choice."""
        state = self._whole("iou_max")
        ignored = state.targets.clone()
        for image in ignored.split(state.pixels.tolist()):
            image |= ~image.any()
        counts = count_above(state.found, state.scores, ignored=ignored)
        return self._unless_nan(largest_overlap(state.found, counts, weight=1))

    def normal_quantile(self, level: float = 0.995) -> Tensor:
        """A threshold from normal images alone: the smallest score with that share at or below it.

        Args:
            level: in 0 < level <= 1.

        Raises:
            ValueError: `level` out of its range.
        """
        state = self._whole("normal_quantile")
        if not 0 < level <= 1:
            raise ValueError(wording("normal_quantile", "level", "be in 0 < level <= 1", level))
        sizes = state.pixels.tolist()
        images = zip(state.scores.split(sizes), state.components.tolist(), strict=True)
        normal = torch.cat([state.scores[:0], *(image for image, parts in images if parts == 0)])
        if len(normal) == 0:
            return state.scores.new_full((), math.nan, dtype=torch.float64)
        rank = math.ceil(round(level * len(normal), 6))  # 0.07 * 100 is a little more than 7
        threshold = normal.kthvalue(rank).values.double()
        return self._unless_nan(threshold)

    def _add(self, parts: list[PixelState]) -> None:
        parts = [*self._parts, *parts]
        if parts and self.limit is not None and self.pixels is not None:
            parts = [_trimmed(_joined(parts), self.limit, self.pixels)]
        self._parts, self._counts = parts, None

    def _whole(self, metric: str) -> PixelState:
        if self.limit is not None:
            must = "be None for any metric but AUPRO"
            raise ValueError(wording(f"PixelScores.{metric}", "limit", must, self.limit))
        return self.state()

    def _ranked(self, metric: str, most: int | None = None) -> tuple[Tensor, Tensor]:
        """Anomalous scores and `count_above` of normal ones, kept for the next metric."""
        state = self.state() if most is not None else self._whole(metric)
        found = state.found
        known = self._counts
        if known is None or (known[0] is not None and (most is None or known[0] < most)):
            known = most, count_above(found, state.scores, ignored=state.targets, most=most)
            self._counts = known
        return found, known[1]

    def _unless_nan(self, value: Tensor) -> Tensor:
        return unless_nan(self.state().scores, value)


def _joined(parts: list[PixelState]) -> PixelState:
    if len(parts) == 1:
        return parts[0]
    return PixelState(*map(torch.cat, zip(*parts, strict=True)))


def _normals(state: PixelState) -> int:
    return len(state.targets) - len(state.areas) + int(state.dropped.sum())


def _trimmed(state: PixelState, limit: float, pixels: int) -> PixelState:
    """What can have a part in AUPRO up to a limit, of so many normal pixels at most."""
    if _normals(state) > pixels:
        must = "be an upper bound of the number of normal pixels"
        got = f"{pixels} for {_normals(state)}"
        raise ValueError(wording("PixelScores", "pixels", must, got))
    normal, most = state.scores[~state.targets], most_for(limit, pixels)
    if len(normal) <= most:
        return state
    # A NaN is not below anything.
    kept = state.targets | ~(state.scores < normal.topk(most).values[-1])
    return state._replace(
        scores=state.scores[kept],
        targets=state.targets[kept],
        dropped=state.dropped.sum().reshape(1) + (~kept).sum(),
    )


def aupro(maps: Tensor, masks: Tensor, limits: Limits = LIMITS) -> Tensor:
    """`PixelScores.aupro` of one batch: maps (N, 1, H, W), masks alike -> as many as `limits`."""
    return PixelScores.of(pixel_state(maps, masks, op="aupro")).aupro(limits)


def iou(maps: Tensor, masks: Tensor, threshold: float | Tensor) -> IoU:
    """`PixelScores.iou` of one batch: maps (N, 1, H, W), masks alike."""
    return PixelScores.of(pixel_state(maps, masks, op="iou")).iou(threshold)


def iou_max(maps: Tensor, masks: Tensor) -> Tensor:
    """`PixelScores.iou_max` of one batch: maps (N, 1, H, W), masks alike."""
    return PixelScores.of(pixel_state(maps, masks, op="iou_max")).iou_max()
