# SPDX-License-Identifier: Apache-2.0
"""``pytest benchmarks/bench_masking.py``: masks of cells and what is done with them, one thread."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from harness import Case, Error, Row, Target, run, timer
from ssad_kernels import cell_masks, composite, make_keys, mask_images, refine_cells
from ssad_kernels.transforms import CellMasking

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

SIZE, PARTS = 256, 3
_FEW = 8  # images of a call
_THRESHOLD, _SHARE = 0.3, 0.8


def _published(generator: np.random.Generator, cell: int) -> list[Any]:
    """The published procedure: cells in random order, dealt, and each looked for in each set."""
    count = SIZE // cell
    order = generator.permutation(count**2)
    order = np.concatenate([order, np.full(-(count**2) % PARTS, -1)])
    masks = []
    for row in order.reshape(PARTS, -1):
        flat = np.asarray([0.0 if index in row else 1.0 for index in range(count**2)])
        masks.append(flat.reshape(count, count).repeat(cell, axis=0).repeat(cell, axis=1))
    return masks


def _vectorised(generator: np.random.Generator, cell: int) -> Any:
    """The same without loops."""
    count = SIZE // cell
    flat = np.ones((PARTS, count**2), bool)
    for mask, row in zip(flat, np.array_split(generator.permutation(count**2), PARTS), strict=True):
        mask[row] = False
    return flat.reshape(PARTS, count, count).repeat(cell, axis=1).repeat(cell, axis=2)


def _torch_masks(n: int, cell: int) -> Tensor:
    count = SIZE // cell
    rank = torch.rand(n, count**2).argsort(1).argsort(1)
    size = -(-(count**2) // PARTS)
    visible = (rank // size)[:, None] != torch.arange(PARTS)[:, None]
    grid = visible.reshape(n, PARTS, count, count)
    return grid.repeat_interleave(cell, 2).repeat_interleave(cell, 3)


def _masks_case(peer: str, cell: int) -> Case:
    keys, generator = make_keys(0, 0, torch.arange(_FEW)), np.random.default_rng(0)
    share, target = 1.0, None
    if peer == "published procedure, NumPy":
        share = 1 / _FEW
        target = Target(100, "masks are made 100 times as fast as published")

        def theirs() -> Any:
            return _published(generator, cell)
    elif peer == "NumPy, vectorised":

        def theirs() -> Any:
            return [_vectorised(generator, cell) for _ in range(_FEW)]
    else:

        def theirs() -> Any:
            return _torch_masks(_FEW, cell)

    return Case(
        f"cell_masks, cells of {cell}",
        f"{_FEW}x{PARTS}x{SIZE}x{SIZE}",
        "bool",
        _FEW,
        lambda: cell_masks(keys, SIZE, cell),
        peer,
        theirs,
        target=target,
        peer_share=share,
    )


def _transform_case(dtype: torch.dtype) -> Case:
    images, keys = _images(dtype), make_keys(0, 0, torch.arange(_FEW))
    transform = CellMasking()

    def theirs() -> Any:
        cell = (2, 4, 8)[int(torch.randint(3, ()))]
        masks = _torch_masks(_FEW, cell)[:, :, None]
        return images[:, None] * masks, masks

    return Case(
        "transforms.CellMasking",
        f"{_FEW}x3x{SIZE}x{SIZE}",
        str(dtype).removeprefix("torch."),
        _FEW,
        lambda: transform(images, keys),
        "plain torch, draws included",
        theirs,
        target=Target(2, "twice as fast as plain torch"),
    )


def _images(dtype: torch.dtype, n: int = _FEW) -> Tensor:
    levels = torch.rand(n, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    return (255 * levels).to(dtype) if dtype == torch.uint8 else levels.to(dtype)


def _largest(ours: Tensor, theirs: Tensor, tolerance: float = 0.0) -> Error:
    difference = (ours.double() - theirs.double()).abs().max()
    return Error(float(difference), "of white", tolerance)


def _mask_images_case(dtype: torch.dtype, layout: torch.memory_format) -> Case:
    images = _images(dtype).to(memory_format=layout)
    masks = cell_masks(make_keys(0, 0, torch.arange(_FEW)), SIZE, 4)

    def theirs() -> Tensor:
        return images[:, None] * masks[:, :, None]

    return Case(
        "mask_images" + (", channels-last" if layout == torch.channels_last else ""),
        f"{_FEW}x3x{SIZE}x{SIZE}",
        str(dtype).removeprefix("torch."),
        _FEW,
        lambda: mask_images(images, masks),
        "plain torch (a product)",
        theirs,
        lambda: _largest(mask_images(images, masks), theirs()),
    )


def _composite_case(dtype: torch.dtype) -> Case:
    masks = cell_masks(make_keys(0, 0, torch.arange(_FEW)), SIZE, 4)
    images, outputs = _images(dtype), _images(dtype, PARTS * _FEW).unflatten(0, (_FEW, PARTS))

    def theirs() -> Tensor:
        return (outputs * ~masks[:, :, None]).sum(1)

    return Case(
        "composite",
        f"{_FEW}x{PARTS}x3x{SIZE}x{SIZE}",
        str(dtype).removeprefix("torch."),
        _FEW,
        lambda: composite(outputs, masks, images),
        "plain torch (a sum of products)",
        theirs,
        lambda: _largest(composite(outputs, masks, images), theirs()),
        Target(1.5, "1.5 times as fast as plain torch") if dtype == torch.float32 else None,
    )


def _refine_case(share: float | None) -> Case:
    masks = cell_masks(make_keys(0, 0, torch.arange(_FEW)), SIZE, 4)
    levels = torch.rand(_FEW, 1, SIZE // 8, SIZE // 8, generator=torch.Generator().manual_seed(1))
    scores = torch.nn.functional.interpolate(levels, (SIZE, SIZE), mode="bilinear")

    def ours() -> Tensor:
        return refine_cells(scores, masks, 8, threshold=_THRESHOLD, share=share)[0]

    def theirs() -> Tensor:
        if share is None:
            is_normal = avg_pool2d(scores, 8) < _THRESHOLD
        else:
            is_normal = avg_pool2d((scores < _THRESHOLD).float(), 8) > share
        return masks | is_normal.repeat_interleave(8, 2).repeat_interleave(8, 3)

    return Case(
        f"refine_cells, {'mean' if share is None else 'share'}",
        f"{_FEW}x{PARTS}x{SIZE}x{SIZE}",
        "float32",
        _FEW,
        ours,
        "plain torch (pooling), without counts",
        theirs,
        lambda: _largest(ours(), theirs()),
    )


def _rows() -> list[Row]:
    peers = ("published procedure, NumPy", "NumPy, vectorised", "plain torch")
    rows = []
    for cell in (2, 4, 8):
        for peer in peers[cell == 2 :]:  # the published one takes seconds for so many cells
            name = f"cell_masks-{cell}-{peer}".replace(", ", "-").replace(" ", "-")
            rows.append(Row(name, partial(_masks_case, peer, cell)))
    planar = torch.contiguous_format
    for dtype, layout in (
        (torch.uint8, planar),
        (torch.float32, planar),
        (torch.uint8, torch.channels_last),
    ):
        name = f"mask_images-{dtype}-{layout}".replace("torch.", "")
        rows.append(Row(name, partial(_mask_images_case, dtype, layout)))
    for dtype in (torch.uint8, torch.float32):
        rows.append(
            Row(f"transform-{dtype}".replace("torch.", ""), partial(_transform_case, dtype))
        )
    for dtype in (torch.float32, torch.float16):
        rows.append(
            Row(f"composite-{dtype}".replace("torch.", ""), partial(_composite_case, dtype))
        )
    for share in (None, _SHARE):
        rows.append(Row(f"refine_cells-{share}", partial(_refine_case, share)))
    return rows


ROWS = _rows()


@pytest.mark.benchmark(timer=timer)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_masking(benchmark: BenchmarkFixture, row: Row) -> None:
    """Measure one row."""
    run(benchmark, row, rounds=15)
