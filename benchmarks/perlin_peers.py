# SPDX-License-Identifier: Apache-2.0
"""Gradient noise as others formulate it, on any device, with vectors that are given or drawn."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssad_kernels import philox

Lattice = tuple[int, int]  # of cells
LATTICES: list[Lattice] = [(1 << a, 1 << b) for a in range(6) for b in range(6)]


def our_vectors(key: Tensor, stream: int, lattice: Lattice) -> Tensor:
    """The unit vectors (r_y + 1, r_x + 1, 2) that `perlin_noise` draws for a key (1, 3)."""
    rows, columns = (cells + 1 for cells in lattice)
    turns = (philox(key, stream, rows * columns).double() + 0.5) * 2.0**-32
    return _unit_vectors(2 * math.pi * turns.float().reshape(rows, columns))


def _unit_vectors(angle: Tensor) -> Tensor:
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


def _drawn(lattice: Lattice, device: str) -> Tensor:
    rows, columns = (cells + 1 for cells in lattice)
    return _unit_vectors(2 * math.pi * torch.rand(rows, columns, device=device))


def _fade(t: Tensor) -> Tensor:
    return 6 * t**5 - 15 * t**4 + 10 * t**3


def corner_dot(height: int, width: int, lattice: Lattice, vectors: Tensor | None = None) -> Tensor:
    """The algorithm of anomalib 2.6 (and DRAEM), in our words.

    Sides are padded to powers of two and the result is cropped. Each corner's vectors are repeated
    to all pixels of their cells, multiplied with the offsets from it and added up.
    """
    vectors = _drawn(lattice, "cpu") if vectors is None else vectors
    sides = [1 << (side - 1).bit_length() for side in (height, width)]
    steps = [cells / side for cells, side in zip(lattice, sides, strict=True)]
    repeats = [side // cells for cells, side in zip(lattice, sides, strict=True)]
    axes = [torch.arange(0, r, s) for r, s in zip(lattice, steps, strict=True)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) % 1

    def products(down: int, right: int) -> Tensor:
        own = vectors[down : down + lattice[0], right : right + lattice[1]]
        own = own.repeat_interleave(repeats[0], 0).repeat_interleave(repeats[1], 1)
        offsets = torch.stack([grid[..., 0] - down, grid[..., 1] - right], dim=-1)
        return (own * offsets).sum(-1)

    t = _fade(grid)
    left = torch.lerp(products(0, 0), products(1, 0), t[..., 0])
    right = torch.lerp(products(0, 1), products(1, 1), t[..., 0])
    return (math.sqrt(2) * torch.lerp(left, right, t[..., 1]))[:height, :width]


def axis_matrices(pixels: int, cells: int, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """What nodes weigh in each pixel, and the same times the offsets from them: (n, r + 1) each."""
    place = torch.arange(pixels, dtype=torch.float64) * cells / pixels
    near = place.floor().long()
    offset = place - near
    fade = _fade(offset)
    weight, moment = torch.zeros(2, pixels, cells + 1, dtype=torch.float64)
    row = torch.arange(pixels)
    weight[row, near], weight[row, near + 1] = 1 - fade, fade
    moment[row, near], moment[row, near + 1] = (1 - fade) * offset, fade * (offset - 1)
    return weight.float().to(device), moment.float().to(device)


class Separable:
    """Four dense products in float32, with matrices that were made before; one image, or many."""

    def __init__(self, height: int, width: int, device: str = "cpu") -> None:
        self.device = device
        self.rows = {r: axis_matrices(height, r, device) for r, _ in LATTICES}
        self.columns = {r: axis_matrices(width, r, device) for _, r in LATTICES}

    def __call__(self, lattice: Lattice, vectors: Tensor | None = None) -> Tensor:
        """Noise of vectors (..., r_y + 1, r_x + 1, 2), or of ones that are drawn."""
        vectors = _drawn(lattice, self.device) if vectors is None else vectors
        w_y, u_y = self.rows[lattice[0]]
        w_x, u_x = self.columns[lattice[1]]
        down, across = vectors.unbind(-1)
        return math.sqrt(2) * (u_y @ down @ w_x.mT + w_y @ across @ u_x.mT)
