# SPDX-License-Identifier: Apache-2.0
"""Exact metrics of rankings: AUROC, average precision, the largest F1.

For an anomalous score a, let f- be the share of normal scores above it and f+ the share of those at
least as large. Then the ROC curve passes the ties of a on a line from f- to f+, and everything here
follows from these two counts: no bins, no thresholds, and nothing but the order of the scores
matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ssad_kernels import ranking_op
from ssad_kernels._errors import (
    FLOATS,
    check_device,
    check_dtype,
    check_shape,
    check_tensor,
    wording,
)

_SUMMANDS = 1024


def count_above(
    scores: Tensor, among: Tensor, *, ignored: Tensor | None = None, most: int | None = None
) -> Tensor:
    """Count, for each score, what is above it and what is at least as large.

    Args:
        scores: (N,) float32 or float64.
        among: (M,) like `scores`.
        ignored: (M,) bool, what of `among` does not count.
        most: >= 1. Both counts are `most` where `most` or more are above; that is quicker, as only
            the largest of `among` are then looked at.

    Returns:
        (N, 2) int64: how many of `among` are > and how many are >= the score. -0 equals 0, and a
        NaN is above all numbers.

    Raises:
        TypeError: arguments of another dtype or kind.
        ValueError: shapes or devices that do not fit, or `most` < 1.

    Gradient: none. Determinism: the same integers on every backend. On CPUs the scores are sorted,
    and `among` in chunks, so the scratch memory is 36 bytes for each of `scores` (40 of float64),
    and for each thread up to 48 more (80) and some MiB. In Triton `among` is sorted in chunks of
    2²⁴, with 16 bytes for each of a chunk (24) besides what `torch.sort` takes, and each score is
    searched for in them; the reference sorts `among` as a whole.

    Example:
        >>> import torch
        >>> count_above(torch.tensor([0.5, 2.0]), torch.tensor([1.0, 2.0, 0.5, 0.0])).tolist()
        [[2, 3], [0, 1]]
    """
    op = "count_above"
    for name, value in (("scores", scores), ("among", among)):
        check_tensor(op, name, value)
    if ignored is not None:
        check_tensor(op, "ignored", ignored)
    counts: Tensor = ranking_op.count_above(scores.detach(), among.detach(), ignored, most)
    return counts


def auroc(scores: Tensor, targets: Tensor) -> Tensor:
    """Area under the ROC curve, of images or of pixels; ties count half.

    Args:
        scores: of any shape, float16, bfloat16, float32 or float64; higher is more anomalous.
        targets: like `scores`, bool, True where anomalous.

    Returns:
        () float64 in 0...1; NaN if all or no targets are anomalous, or a score is NaN. Infinite
        scores are in their order.

    Raises:
        TypeError: arguments of another dtype or kind.
        ValueError: shapes or devices that do not fit.

    Gradient: none. Determinism: bitwise equal for any number of threads. On a GPU the host waits
    for the number of anomalous targets.

    Example:
        >>> import torch
        >>> auroc(torch.tensor([0.1, 0.4, 0.4, 0.9]), torch.tensor([False, True, False, True]))
        tensor(0.8750, dtype=torch.float64)
    """
    scores, found, counts = _ranked("auroc", scores, targets)
    area = area_below(counts, len(scores) - len(found), None, 1.0)
    return unless_nan(scores, area)


def average_precision(scores: Tensor, targets: Tensor) -> Tensor:
    """Average precision: the sum over thresholds of precision times the step of recall.

    As in scikit-learn. The area under the precision-recall curve by trapezoids differs.

    Args:
        scores: of any shape, float16, bfloat16, float32 or float64; higher is more anomalous.
        targets: like `scores`, bool, True where anomalous.

    Returns:
        () float64 in 0...1; NaN if no target is anomalous or a score is NaN.

    Raises:
        TypeError: arguments of another dtype or kind.
        ValueError: shapes or devices that do not fit.

    Gradient: none. Determinism: as `auroc`.
    """
    scores, found, counts = _ranked("average_precision", scores, targets)
    return unless_nan(scores, precision_of(found, counts))


def f1_max(scores: Tensor, targets: Tensor) -> Tensor:
    """Find the largest F1 (Dice) of any threshold, 2 TP / (2 TP + FP + FN).

    Args:
        scores: of any shape, float16, bfloat16, float32 or float64; higher is more anomalous.
        targets: like `scores`, bool, True where anomalous.

    Returns:
        () float64 in 0...1; NaN if no target is anomalous or a score is NaN.

    Raises:
        TypeError: arguments of another dtype or kind.
        ValueError: shapes or devices that do not fit.

    Gradient: none. Determinism: as `auroc`.
    """
    scores, found, counts = _ranked("f1_max", scores, targets)
    return unless_nan(scores, largest_overlap(found, counts, weight=2))


def _ranked(op: str, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All scores and the anomalous ones, flat; `count_above` of the normal ones."""
    scores, targets = checked(op, scores, targets)
    found = scores[targets]
    return scores, found, count_above(found, scores, ignored=targets)


def checked(op: str, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Both flat, the scores as float32 or float64 without a gradient."""
    for name, value in (("scores", scores), ("targets", targets)):
        check_tensor(op, name, value)
    check_dtype(op, "scores", scores, FLOATS)
    check_dtype(op, "targets", targets, [torch.bool])
    check_shape(op, "targets", targets, tuple(scores.shape))
    check_device(op, "targets", targets, scores.device)
    return as_counted(scores), targets.flatten()


def as_counted(scores: Tensor) -> Tensor:
    """Flat, in a dtype that `count_above` takes, to which every other one converts exactly."""
    wanted = torch.float64 if scores.dtype == torch.float64 else torch.float32
    return scores.detach().flatten().to(wanted)


Limits = float | Sequence[float]
"""One false-positive rate or several; a metric has the shape () or (number of them,)."""


def checked_limits(op: str, limits: Limits) -> list[float]:
    """As a list; raises TypeError or ValueError unless they are false-positive rates above 0."""
    several = (limits,) if isinstance(limits, int | float) else limits
    try:
        values = [float(limit) for limit in several]
    except (TypeError, ValueError):
        raise TypeError(wording(op, "limits", "be one or several numbers", repr(limits))) from None
    if not values or not all(0 < limit <= 1 for limit in values):
        raise ValueError(wording(op, "limits", "be in 0 < limit <= 1, one at least", values))
    return values


def most_for(limit: float, normals: int) -> int:
    """How many normal scores above one put it beyond a false-positive rate."""
    return math.ceil(limit * normals) + 1


def area_below(counts: Tensor, normals: int, weights: Tensor | None, limits: Limits) -> Tensor:
    """The area under a curve of weighted anomalous scores up to false-positive rates, over them.

    Args:
        counts: (P, 2) normal scores above, and at least as large as, each anomalous score.
        normals: how many there are.
        weights: (P,) float64, or None for equal ones.
        limits: of the false-positive rate, each in 0 < limit <= 1.

    Returns:
        In the shape of `limits`, float64. An anomalous score is found from f+ on, and in part from
        f- on: it adds the area of a rectangle and a triangle, cut off at the limit.
    """
    if not isinstance(limits, int | float):
        return torch.stack([area_below(counts, normals, weights, limit) for limit in limits])
    limit = limits
    if len(counts) == 0 or normals == 0:
        return counts.new_full((), math.nan, dtype=torch.float64)
    above, at_least = (counts.double() / normals).unbind(1)
    whole = limit - (above + at_least) / 2
    cut = (limit - above) ** 2 / (2 * (at_least - above))
    height = torch.where(at_least <= limit, whole, torch.where(above < limit, cut, 0.0))
    weights = torch.ones_like(height) if weights is None else weights
    return total(weights * height) / total(weights * limit)  # exactly 1 if all are found


def precision_of(found: Tensor, counts: Tensor) -> Tensor:
    """Average precision from anomalous scores and `count_above` of the normal ones."""
    hits = count_above(found, found)[:, 1].double()
    return total(hits / (hits + counts[:, 1])) / len(found)


def largest_overlap(found: Tensor, counts: Tensor, *, weight: int) -> Tensor:
    """Over all thresholds, the largest F1 (`weight` 2) or IoU (`weight` 1)."""
    if len(found) == 0:
        return found.new_full((), math.nan, dtype=torch.float64)
    hits = count_above(found, found)[:, 1].double()
    misses_and_alarms = len(found) - hits + counts[:, 1]
    return (weight * hits / (weight * hits + misses_and_alarms)).amax()


def total(values: Tensor) -> Tensor:
    """() sum of (P,) in an order that does not depend on the number of threads."""
    while len(values) > _SUMMANDS:
        rows = torch.nn.functional.pad(values, (0, -len(values) % _SUMMANDS))
        values = rows.reshape(-1, _SUMMANDS).sum(1)
    return values.sum()


def unless_nan(scores: Tensor, value: Tensor) -> Tensor:
    """The value, or NaN if any score is NaN."""
    if len(scores) == 0:
        return value
    return torch.where(scores.amax().isnan(), torch.nan, value)
