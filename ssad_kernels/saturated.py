# SPDX-License-Identifier: Apache-2.0
"""Saturated per-region overlap (sPRO), for defects of which a part is enough."""

from __future__ import annotations

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
from ssad_kernels.pixel_scores import check_maps
from ssad_kernels.ranking import (
    Limits,
    area_below,
    as_counted,
    checked_limits,
    count_above,
    most_for,
    unless_nan,
)


class DefectState(NamedTuple):
    """What is kept of maps and defects. States are joined by concatenating each field.

    Attributes:
        scores: (M,) of pixels, float32 or float64.
        targets: (M,) bool, True in any defect.
        found: (Q,) scores in defects, a pixel once for each of its defects.
        weights: (Q,) float64, what each adds to its defect's overlap.
    """

    scores: Tensor
    targets: Tensor
    found: Tensor
    weights: Tensor


def defect_state(
    maps: Tensor, defects: Tensor, image: Tensor, saturation: Tensor, *, op: str = "defect_state"
) -> DefectState:
    """What sPRO needs of a batch; arguments as for `spro`."""
    check_maps(op, maps)
    values = (("defects", defects), ("image", image), ("saturation", saturation))
    for name, value in values:
        check_tensor(op, name, value)
        check_device(op, name, value, maps.device)
    count, n, (h, w) = len(defects), len(maps), maps.shape[2:]
    check_dtype(op, "defects", defects, [torch.bool])
    check_shape(op, "defects", defects, ("D", 1, h, w))
    check_dtype(op, "image", image, [torch.int64])
    check_shape(op, "image", image, (count,))
    check_dtype(op, "saturation", saturation, FLOATS)
    check_shape(op, "saturation", saturation, (count,))
    if not ((image >= 0) & (image < n)).all():
        must = f"be in 0...{n - 1}, an image for each defect"
        raise ValueError(wording(op, "image", must, image.tolist()))
    if not (saturation > 0).all():
        raise ValueError(wording(op, "saturation", "be > 0", saturation.tolist()))
    defect, place = defects.flatten(1).nonzero().unbind(1)
    at = image[defect] * (h * w) + place
    scores = as_counted(maps)
    targets = torch.zeros_like(scores, dtype=torch.bool)
    targets[at] = True
    found = scores[at]
    # By defect, from its highest score down: those first cover it, the others add nothing.
    order = found.argsort(descending=True, stable=True)
    order = order[defect[order].argsort(stable=True)]
    found, defect = found[order], defect[order]
    area = defects.flatten(1).sum(1)
    rank = torch.arange(len(found), device=maps.device) - (area.cumsum(0) - area)[defect]
    enough = torch.minimum(saturation.detach().double(), area)[defect]
    weights = (enough - rank).clamp(0, 1) / enough
    is_used = weights > 0
    return DefectState(scores, targets, found[is_used], weights[is_used])


class DefectScores:
    """Collects maps and annotated defects, and has the sPRO of all of them.

    See `spro` for the definition and the arguments, and `PixelScores` for what is kept.
    """

    def __init__(self) -> None:
        self._parts: list[DefectState] = []

    @staticmethod
    def of(state: DefectState) -> DefectScores:
        """The metric of a state, without a copy."""
        scores = DefectScores()
        scores._parts = [state]
        return scores

    def update(self, maps: Tensor, defects: Tensor, image: Tensor, saturation: Tensor) -> None:
        """Add images; arguments as for `spro`."""
        state = defect_state(maps, defects, image, saturation, op="DefectScores.update")
        self._parts.append(state._replace(scores=state.scores.clone()))

    def merge(self, other: DefectScores) -> None:
        """Add all that another one has collected."""
        self._parts += other._parts

    def state(self) -> DefectState:
        """All that is kept, as one state.

        Raises:
            ValueError: nothing has been added yet.
        """
        if not self._parts:
            raise ValueError(wording("DefectScores.state", "maps", "be added first", "none"))
        if len(self._parts) > 1:
            self._parts = [DefectState(*map(torch.cat, zip(*self._parts, strict=True)))]
        return self._parts[0]

    def spro(self, limits: Limits = (0.05,)) -> Tensor:
        """See `spro`."""
        values = checked_limits("DefectScores.spro", limits)
        state = self.state()
        normals = len(state.targets) - int(state.targets.sum())
        most = most_for(max(values), normals)
        counts = count_above(state.found, state.scores, ignored=state.targets, most=most)
        return unless_nan(state.scores, area_below(counts, normals, state.weights, limits))


def spro(
    maps: Tensor,
    defects: Tensor,
    image: Tensor,
    saturation: Tensor,
    limits: Limits = (0.05,),
) -> Tensor:
    """Area under the saturated per-region overlap, up to false-positive rates.

    A defect A with saturation area s, of which a prediction P covers |A and P| pixels, counts as
    min(|A and P| / s, 1); the overlap is the mean over all defects, and everything else is as for
    `PixelScores.aupro`. So in each defect the s highest scores have a weight (the last one a part
    of it), and no other does. A defect is whatever was annotated as one, connected or not.

    Args:
        maps: (N, 1, H, W) float16, bfloat16, float32 or float64, of the size of the annotations.
        defects: (D, 1, H, W) bool, the pixels of each; defects may overlap. One without pixels is
            not counted.
        image: (D,) int64 in 0...N - 1, which image a defect is in.
        saturation: (D,) floating, in pixels, > 0; clipped to the area of the defect.
        limits: of the false-positive rate, one or several, each in 0 < limit <= 1. Pixels of no
            defect are normal.

    Returns:
        () for one limit, (len(limits),) for a sequence; float64 in 0...1; NaN without
        a defect or without a normal pixel, or if a score is NaN.

    Raises:
        TypeError: arguments of another dtype or kind.
        ValueError: shapes or devices that do not fit, or a number out of its range.

    Gradient: none. Determinism: bitwise equal for any number of threads. Source: Bergmann et al.,
    "Beyond Dents and Scratches: Logical Constraints in Unsupervised Anomaly Detection and
    Localization", IJCV 130, 2022.

    Example:
        >>> import torch
        >>> defects = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
        >>> defects[..., 2:6, 2:6] = True
        >>> maps = torch.zeros(1, 1, 8, 8)
        >>> maps[..., 2:4, 2:6] = 1  # half of the defect
        >>> spro(maps, defects, torch.tensor([0]), torch.tensor([8.0]))
        tensor([1.], dtype=torch.float64)
    """
    checked_limits("spro", limits)
    return DefectScores.of(defect_state(maps, defects, image, saturation, op="spro")).spro(limits)
