# SPDX-License-Identifier: Apache-2.0
"""How well maps show where defects are, for each kind and strength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import torch

from ssad_kernels import PixelScores
from ssad_models.data.split import Split


class MapScore(NamedTuple):
    """Of the pixels of some images.

    Attributes:
        auroc: Pixel AUROC.
        aupro: AUPRO to a false-positive rate of 30 %; chance is 15 %.
    """

    auroc: float
    aupro: float


Cell = tuple[str, float]
"""Kind and strength of a defect."""


def by_cell(test: Split, maps: torch.Tensor) -> dict[Cell, MapScore]:
    """Score the images of each kind and strength together with the normal ones.

    Args:
        test: With masks and strengths.
        maps: (N, 1, S, S) of its images.
    """
    assert test.masks is not None
    cells: dict[Cell, list[int]] = {}
    for row, (kind, strength) in enumerate(zip(test.kinds, test.strengths.tolist(), strict=True)):
        if test.labels[row]:
            cells.setdefault((kind, strength), []).append(row)
    normal = (~test.labels).nonzero()[:, 0].tolist()
    found = {}
    for cell, rows in cells.items():
        scores = PixelScores()
        scores.update(maps[normal + rows], test.masks[normal + rows])
        found[cell] = MapScore(float(scores.auroc()), float(scores.aupro(0.3)))
    return found


def mean_rows(
    scores: Mapping[str, Sequence[Mapping[Cell, MapScore]]],
) -> tuple[list[str], list[list[str]]]:
    """A table of kinds and strengths, with the mean of the categories, in %.

    Args:
        scores: By method, one for each category.

    Returns:
        Headings, and rows of "pixel AUROC / AUPRO" by method; the last one is the mean of all.
    """
    cells = list(next(iter(scores.values()))[0])

    def mean(by_category: Sequence[Mapping[Cell, MapScore]], chosen: Sequence[Cell]) -> str:
        taken = [found[cell] for found in by_category for cell in chosen]
        return " / ".join(f"{100 * fmean(column):.1f}" for column in zip(*taken, strict=True))

    rows = [
        [kind, f"{strength:g}", *(mean(found, [(kind, strength)]) for found in scores.values())]
        for kind, strength in cells
    ]
    rows.append(["all", "mean", *(mean(found, cells) for found in scores.values())])
    return ["kind", "strength", *scores], rows
