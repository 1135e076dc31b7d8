# SPDX-License-Identifier: Apache-2.0
"""Poisson blending as others do it: OpenCV, SciPy, fpie and pie-torch, an image at a time.

All take a list of `Job`s and return the blended images, (h, w, 3) each. Only OpenCV solves the
rectangle around the mask; SciPy and fpie solve the equation that ``region="mask"`` does. What all
images of a benchmark have in common (Green's function) is prepared once, outside of the time.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from harness import optional

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

cv2, pietorch, fpie = optional("cv2"), optional("pietorch"), optional("fpie.process")
sparse, linalg = optional("scipy.sparse"), optional("scipy.sparse.linalg")


class Job(NamedTuple):
    """One image to blend a patch into; but for OpenCV the mask leaves a rim of a pixel."""

    target: NDArray[np.uint8]  # (H, W, 3)
    source: NDArray[np.uint8]  # (h, w, 3)
    mask: NDArray[np.uint8]  # (h, w), 0 or 255
    top_left: tuple[int, int]


def blend_with_opencv(jobs: list[Job], mode: str) -> list[Any]:
    """``cv2.seamlessClone``; ``mode`` is the name of its flag."""
    flag = getattr(cv2, mode)
    results = []
    for target, source, mask, (top, left) in jobs:
        ys, xs = _inner_box(mask)
        centre = (
            left + xs.start + (xs.stop - xs.start) // 2,
            top + ys.start + (ys.stop - ys.start) // 2,
        )
        # It writes to the mask that it is given.
        results.append(cv2.seamlessClone(source, target, mask.copy(), centre, flag))
    return results


@cache
def _box_of(data: bytes, shape: tuple[int, int]) -> tuple[slice, slice]:
    inner = np.frombuffer(data, np.uint8).reshape(shape)[1:-1, 1:-1]
    ys, xs = np.nonzero(inner)
    return slice(ys.min() + 1, ys.max() + 2), slice(xs.min() + 1, xs.max() + 2)


def _inner_box(mask: NDArray[np.uint8]) -> tuple[slice, slice]:
    return _box_of(mask.tobytes(), mask.shape)  # type: ignore[arg-type]


def blend_with_scipy(jobs: list[Job]) -> list[Any]:
    """Sparse LU in float64, all channels at once, with the best ordering for symmetric matrices."""
    results = []
    for target, source, mask, (top, left) in jobs:
        inside = mask > 0
        system, edges = _matrices(inside)
        h, w = mask.shape
        part = target[top : top + h, left : left + w].astype(np.float64)
        ys, xs = np.nonzero(inside)
        patch = source.astype(np.float64)
        laplacian = 4 * patch[ys, xs]
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            laplacian -= patch[ys + dy, xs + dx]
        right = edges @ part.reshape(-1, 3) + laplacian
        solved = linalg.splu(
            system,
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        ).solve(right)
        out = target.astype(np.float64)
        out[ys + top, xs + left] = solved
        results.append(out)
    return results


def _matrices(inside: NDArray[np.bool_]) -> tuple[Any, Any]:
    """The system of the unknowns, and what sums the known pixels around them."""
    h, w = inside.shape
    number = np.full((h, w), -1)
    count = int(inside.sum())
    number[inside] = np.arange(count)
    ys, xs = np.nonzero(inside)
    rows, columns, outer_rows, outer_columns = [np.arange(count)], [np.arange(count)], [], []
    for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        neighbour = number[ys + dy, xs + dx]
        known = neighbour < 0
        rows.append(np.flatnonzero(~known))
        columns.append(neighbour[~known])
        outer_rows.append(np.flatnonzero(known))
        outer_columns.append(((ys + dy) * w + xs + dx)[known])
    values = np.concatenate([np.full(count, 4.0), np.full(sum(map(len, rows[1:])), -1.0)])
    at = np.concatenate(rows), np.concatenate(columns)
    system = sparse.csc_matrix((values, at), shape=(count, count))
    outer = np.concatenate(outer_rows), np.concatenate(outer_columns)
    edges = sparse.csr_matrix((np.ones(len(outer[0])), outer), shape=(count, h * w))
    return system, edges


def blend_with_fpie(jobs: list[Job], iterations: int) -> list[Any]:
    """The C++ backend for one core; fpie's user chooses the number of iterations."""
    results = []
    for target, source, mask, top_left in jobs:
        processor = fpie.EquProcessor("src", "gcc")
        processor.reset(source, mask, target, (0, 0), top_left)
        image, _ = processor.step(iterations)
        results.append(image)
    return results


def blend_with_pietorch(jobs: list[Any], green: Tensor) -> list[Any]:
    """pie-torch with its Green's function at hand; jobs hold float tensors (3, h, w)."""
    return [
        pietorch.blend(target, source, mask, torch.tensor(top_left), False, 0, green)
        for target, source, mask, top_left in jobs
    ]
