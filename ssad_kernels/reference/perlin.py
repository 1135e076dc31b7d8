# SPDX-License-Identifier: Apache-2.0
"""Gradient noise: every pixel asks the four nodes around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ssad_kernels._status import Status
from ssad_kernels.reference.cutpaste import cosine_and_sine, quarter_turns, rotation
from ssad_kernels.reference.random import philox

MAX_CELLS = 128  # along an axis
_MAX_NODES = (MAX_CELLS + 1) ** 2


class Axis(NamedTuple):
    """What the two nodes beside each pixel count along an axis.

    Of the products of gradients and offsets, the weight goes with the gradients' part along the
    other axis, the moment (weight times offset) with that along this one.

    Attributes:
        cell: (N, n) int64, the cell of each pixel.
        weights: of the near and the far node, (N, n) each.
        moments: likewise.
    """

    cell: Tensor
    weights: tuple[Tensor, Tensor]
    moments: tuple[Tensor, Tensor]


def make_axis(pixels: int, cells: Tensor, dtype: torch.dtype) -> Axis:
    """The table of an axis for numbers of cells (N,)."""
    place = torch.arange(pixels, device=cells.device) * cells[:, None]
    u = (place % pixels).double() / pixels
    fade = ((6.0 * u - 15.0) * u + 10.0) * u * u * u
    near, far = 1.0 - fade, fade
    weights = near.to(dtype), far.to(dtype)
    return Axis(place // pixels, weights, ((near * u).to(dtype), (far * (u - 1.0)).to(dtype)))


def make_nodes(keys: Tensor, stream: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Gradients down and across of a sample's nodes, (N, nodes), times the square root of 2."""
    bits = philox(keys, stream, _MAX_NODES)
    quarters = bits + (1 << 29) >> 30
    rest = (bits - (quarters << 30)).double() + 0.5
    down, across = quarter_turns(quarters, *cosine_and_sine(rest * (math.tau * 2.0**-32)))
    root = math.sqrt(2.0)
    return (down * root).to(dtype), (across * root).to(dtype)


def gradient_noise(
    keys: Tensor,
    stream: int,
    size: Sequence[int],
    cells: Tensor,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Noise (N, H, W) that is not turned, of cells 1...MAX_CELLS."""
    n = keys.shape[0]
    y, x = (make_axis(size[k], cells[:, k], dtype) for k in range(2))
    columns = (cells[:, 1] + 1)[:, None, None]
    first = y.cell[:, :, None] * columns + x.cell[:, None, :]
    down, across = make_nodes(keys, stream, dtype)

    def combined(gradients: Tensor, pair: tuple[Tensor, Tensor], step: int) -> Tensor:
        """Nodes above and below of one side of each pixel, weighed."""
        above, below = (
            gradients.gather(1, (first + step + row * columns).flatten(1)).reshape(first.shape)
            for row in range(2)
        )
        return pair[0][:, :, None] * above + pair[1][:, :, None] * below

    near_weight, far_weight, near_moment, far_moment = (
        table[:, None, :] for table in (*x.weights, *x.moments)
    )
    noise = (
        near_weight * combined(down, y.moments, 0) + far_weight * combined(down, y.moments, 1)
    ) + (near_moment * combined(across, y.weights, 0) + far_moment * combined(across, y.weights, 1))
    return noise.reshape(n, *size)


def turned(planes: Tensor, angle: Tensor) -> Tensor:
    """Planes (N, H, W) turned about their centres, zeros where they do not reach."""
    height, width = planes.shape[1:]
    cos, sin = (value[:, None, None] for value in rotation(angle))
    # Twice the distance from the centre, turned back.
    dy = 2 * torch.arange(height, device=planes.device)[:, None] + 1 - height
    dx = 2 * torch.arange(width, device=planes.device) + 1 - width
    from_y = (dy * cos + dx * sin + (height << 16)) >> 17
    from_x = (dx * cos - dy * sin + (width << 16)) >> 17
    is_inside = (from_y >= 0) & (from_y < height) & (from_x >= 0) & (from_x < width)
    at = from_y.clamp(0, height - 1) * width + from_x.clamp(0, width - 1)
    taken = planes.flatten(1).gather(1, at.flatten(1)).reshape(planes.shape)
    return torch.where(is_inside, taken, 0.0)


def perlin_noise(
    keys: Tensor, stream: int, size: Sequence[int], cells: Tensor, angle: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `ssad_kernels.perlin_noise`."""
    is_lattice = ((cells >= 1) & (cells <= MAX_CELLS)).all(1)
    status = torch.where(is_lattice, Status.APPLIED, Status.NO_PLACE)
    noise = gradient_noise(keys, stream, size, cells.clamp(1, MAX_CELLS))
    if angle is not None:
        status = torch.where(angle.isfinite(), status, Status.NOT_FINITE)
        noise = turned(noise, angle)
    noise = torch.where((status == Status.APPLIED)[:, None, None], noise, 0.0)
    return noise[:, None], status.to(torch.int8)
