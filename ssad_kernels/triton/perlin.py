# SPDX-License-Identifier: Apache-2.0
"""Gradient noise: the lattice's vectors, then every pixel.

Without contraction of multiply-adds, and so with the bits of the other backends.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssad_kernels._status import Status
from ssad_kernels.reference.perlin import MAX_CELLS
from ssad_kernels.triton._variants import Variant
from ssad_kernels.triton.random import keyed_philox
from ssad_kernels.triton.rotation import cosine_and_sine, quarter_turns, rotation

_BLOCK = 128  # blocks of four nodes a program
_TILE = (8, 64)  # of pixels
_MAX_NODES = (MAX_CELLS + 1) ** 2
_OPTIONS = {"enable_fp_fusion": False}
_MOST = tl.constexpr(MAX_CELLS)
_APPLIED = tl.constexpr(int(Status.APPLIED))
_NO_PLACE = tl.constexpr(int(Status.NO_PLACE))
_NOT_FINITE = tl.constexpr(int(Status.NOT_FINITE))


@triton.jit
def _perlin_nodes_kernel(
    keys, cells, down, across, stream, most: tl.constexpr, block: tl.constexpr
):
    """Gradients of a sample's nodes, times the square root of 2."""
    sample = tl.program_id(0).to(tl.int64)
    rows = tl.load(cells + 2 * sample)
    columns = tl.load(cells + 2 * sample + 1)
    is_lattice = (rows >= 1) & (rows <= _MOST) & (columns >= 1) & (columns <= _MOST)
    nodes = tl.where(is_lattice, (rows + 1) * (columns + 1), 0)
    first = tl.program_id(1) * block
    if 4 * first < nodes:
        at = first + tl.arange(0, block)
        words = keyed_philox(keys, sample + 0 * at, stream, at, at >= 0)
        for k in tl.static_range(4):
            bits = words[k].to(tl.int64)
            quarters = (bits + 536870912) >> 30
            rest = (bits - (quarters << 30)).to(tl.float64) + 0.5
            # 2 pi / 2**32
            cos, sin = cosine_and_sine(rest * 1.4629180792671596e-09)
            cos, sin = quarter_turns(quarters.to(tl.int32), cos, sin)
            node = 4 * at + k
            place = sample * most + node
            tl.store(down + place, (cos * 1.4142135623730951).to(tl.float32), mask=node < nodes)
            tl.store(across + place, (sin * 1.4142135623730951).to(tl.float32), mask=node < nodes)


@triton.jit
def _weights(pixel, pixels, cells):
    """Cells of pixels; weights of the near and the far node, and weights times offsets."""
    place = pixel * cells
    u = (place % pixels).to(tl.float64) / pixels.to(tl.float64)
    fade = ((6.0 * u - 15.0) * u + 10.0) * u * u * u
    near = 1.0 - fade
    near_moment = (near * u).to(tl.float32)
    far_moment = (fade * (u - 1.0)).to(tl.float32)
    cell = (place // pixels).to(tl.int32)
    return cell, near.to(tl.float32), fade.to(tl.float32), near_moment, far_moment


@triton.jit
def _perlin_noise_kernel(
    cells, angle, down, across, noise, status, height, width, tiles_y, tiles_x,
    most: tl.constexpr, is_turned: tl.constexpr, tile_y: tl.constexpr, tile_x: tl.constexpr,
):  # fmt: skip
    """One program a tile."""
    tile = tl.program_id(0).to(tl.int64)
    sample = tile // tiles_x // tiles_y
    height = tl.cast(height, tl.int64)
    width = tl.cast(width, tl.int64)
    y = (tile // tiles_x % tiles_y * tile_y + tl.arange(0, tile_y))[:, None]
    x = (tile % tiles_x * tile_x + tl.arange(0, tile_x))[None, :]
    is_pixel = (y < height) & (x < width)
    place = noise + sample * height * width + y * width + x

    rows = tl.load(cells + 2 * sample)
    columns = tl.load(cells + 2 * sample + 1)
    is_lattice = (rows >= 1) & (rows <= _MOST) & (columns >= 1) & (columns <= _MOST)
    outcome = tl.where(is_lattice, _APPLIED, _NO_PLACE)
    from_y = tl.minimum(y, height - 1)
    from_x = tl.minimum(x, width - 1)
    is_inside = is_pixel
    if is_turned:
        degrees = tl.load(angle + sample)
        is_finite = tl.abs(degrees) < float("inf")
        outcome = tl.where(is_finite, outcome, _NOT_FINITE)
        cos, sin = rotation(tl.where(is_finite, degrees, 0.0))
        # Twice the distance from the centre, turned back.
        dy = 2 * y + 1 - height
        dx = 2 * x + 1 - width
        from_y = (dy * cos + dx * sin + (height << 16)) >> 17
        from_x = (dx * cos - dy * sin + (width << 16)) >> 17
        is_inside &= (from_y >= 0) & (from_y < height) & (from_x >= 0) & (from_x < width)
        from_y = tl.minimum(tl.maximum(from_y, 0), height - 1)
        from_x = tl.minimum(tl.maximum(from_x, 0), width - 1)
    if tile % (tiles_x * tiles_y) == 0:
        tl.store(status + sample, outcome.to(tl.int8))

    is_inside &= outcome == _APPLIED
    cell_y, near_y, far_y, near_moment_y, far_moment_y = _weights(from_y, height, rows)
    cell_x, near_x, far_x, near_moment_x, far_moment_x = _weights(from_x, width, columns)
    down += sample * most
    across += sample * most
    a_row = (columns + 1).to(tl.int32)
    above = cell_y * a_row + cell_x
    below = above + a_row
    near_down = near_moment_y * tl.load(down + above, mask=is_inside, other=0.0)
    near_down += far_moment_y * tl.load(down + below, mask=is_inside, other=0.0)
    far_down = near_moment_y * tl.load(down + above + 1, mask=is_inside, other=0.0)
    far_down += far_moment_y * tl.load(down + below + 1, mask=is_inside, other=0.0)
    near_across = near_y * tl.load(across + above, mask=is_inside, other=0.0)
    near_across += far_y * tl.load(across + below, mask=is_inside, other=0.0)
    far_across = near_y * tl.load(across + above + 1, mask=is_inside, other=0.0)
    far_across += far_y * tl.load(across + below + 1, mask=is_inside, other=0.0)
    value = (near_x * near_down + far_x * far_down) + (
        near_moment_x * near_across + far_moment_x * far_across
    )
    tl.store(place, tl.where(is_inside, value, 0.0), mask=is_pixel)


def launch(
    keys: Tensor,
    stream: int,
    size: Sequence[int],
    cells: Tensor,
    angle: Tensor | None,
    noise: Tensor,
    status: Tensor,
) -> None:
    """See `ssad_kernels.perlin_noise`."""
    n = keys.shape[0]
    if n == 0:
        return
    keys, cells = keys.contiguous(), cells.contiguous()
    degrees = status if angle is None else angle.contiguous()  # what is not read is a pointer too
    # How many nodes there are only the device knows.
    down, across = (noise.new_empty((n, _MAX_NODES)) for _ in range(2))
    tiles = triton.cdiv(size[0], _TILE[0]), triton.cdiv(size[1], _TILE[1])
    with torch.cuda.device_of(keys):
        _perlin_nodes_kernel[(n, triton.cdiv(_MAX_NODES, 4 * _BLOCK))](
            keys, cells, down, across, stream, _MAX_NODES, _BLOCK, **_OPTIONS
        )
        _perlin_noise_kernel[(n * tiles[0] * tiles[1],)](
            cells, degrees, down, across, noise, status, *size, *tiles,
            _MAX_NODES, angle is not None, *_TILE, **_OPTIONS,
        )  # fmt: skip


_POINTERS = {"cells": "*i64", "down": "*fp32", "across": "*fp32"}
VARIANTS = (
    Variant(
        _perlin_nodes_kernel,
        {"keys": "*i64", **_POINTERS},
        {"most": _MAX_NODES, "block": _BLOCK},
        _OPTIONS,
    ),
    *(
        Variant(
            _perlin_noise_kernel,
            {"angle": "*fp32" if t else "*i8", "noise": "*fp32", "status": "*i8", **_POINTERS},
            {"most": _MAX_NODES, "is_turned": t, "tile_y": _TILE[0], "tile_x": _TILE[1]},
            _OPTIONS,
        )
        for t in (False, True)
    ),
)
