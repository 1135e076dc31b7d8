# SPDX-License-Identifier: Apache-2.0
"""The masked Poisson equation by conjugate gradients with a diagonal preconditioner, in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssad_kernels._status import Status

_RELATIVE = 1e-13  # the residual at which a plane counts as solved, and is left alone
_FAILED = 1e-9  # the residual beyond which it counts as not converged


def neighbour_sum(planes: Tensor) -> Tensor:
    """Sum of the four neighbours of each pixel of (..., H, W); zero lies beyond the image."""
    padded = torch.nn.functional.pad(planes, (1, 1, 1, 1))
    vertical = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]
    return vertical + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]


def all_but_the_ring(planes: Tensor) -> Tensor:
    """The mask (1, 1, H, W) of every pixel but the outermost ones."""
    height, width = planes.shape[-2:]
    mask = planes.new_zeros((1, 1, height, width), dtype=torch.bool)
    mask[..., 1 : height - 1, 1 : width - 1].fill_(True)
    return mask


def poisson_solve(
    rhs: Tensor,
    mask: Tensor | None,
    boundary: Tensor,
    solver: str,
    tol: float,
    rtol: float,
    max_iterations: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `ssad_kernels.poisson_solve`. Solves to rounding, whatever the last four arguments say.

    The number of steps is fixed, because looking whether all planes are done would wait for the
    device.
    """
    height, width = rhs.shape[-2:]
    inside = (mask[:, None] if mask is not None else all_but_the_ring(rhs)).expand_as(rhs)
    is_full = inside.all(dim=(-2, -1), keepdim=True)
    zero = rhs.new_zeros((), dtype=torch.float64)
    degree = neighbour_sum(torch.ones_like(rhs, dtype=torch.float64))
    inverse = torch.where(inside & (degree > 0), 1 / degree.clamp_min(1), zero)

    def apply(u: Tensor) -> Tensor:
        return torch.where(inside, degree * u - neighbour_sum(u), zero)

    # A u = b with A = -Laplacian, for u less a constant; without edges, for b less its mean.
    outer = torch.where(inside, zero, boundary.double())
    mean = boundary.double().mean((-2, -1), keepdim=True)
    edges = torch.where(inside, neighbour_sum((~inside).double()), zero)
    open_edges = edges.sum((-2, -1), keepdim=True)
    about = torch.where(inside, neighbour_sum(outer), zero).sum((-2, -1), keepdim=True)
    constant = torch.where(is_full, mean, about / open_edges.clamp_min(1))
    b = torch.where(inside, neighbour_sum(outer) - edges * constant - rhs.double(), zero)
    b = torch.where(is_full, b - b.mean((-2, -1), keepdim=True), b)
    is_finite = (b.isfinite() & constant.isfinite()).all(dim=-1).all(dim=-1)

    x, r, p = torch.zeros_like(b), b, torch.zeros_like(b)
    largest = b.abs().amax((-2, -1))
    rz = torch.ones_like(largest)
    steps = torch.zeros_like(largest, dtype=torch.int32)
    for _ in range(min(height * width, 8 * (height + width))):
        is_open = r.abs().amax((-2, -1)) > _RELATIVE * largest
        z = r * inverse
        rz, rz_before = (r * z).sum((-2, -1)), rz
        p = z + torch.where(is_open, rz / rz_before, 0.0)[..., None, None] * p
        q = apply(p)
        alpha = torch.where(is_open, rz / (p * q).sum((-2, -1)), 0.0)[..., None, None]
        x, r = x + alpha * p, r - alpha * q
        rz = torch.where(is_open, rz, 1.0)
        steps += is_open
    x = torch.where(is_full, x - x.mean((-2, -1), keepdim=True), x)

    residual = (b - apply(x)).abs().amax((-2, -1))
    is_done = residual <= _FAILED * largest
    bad = torch.where(is_done, int(Status.APPLIED), int(Status.NOT_CONVERGED))
    status = torch.where(is_finite, bad, int(Status.NOT_FINITE)).to(torch.int8)
    x = torch.where(is_finite[..., None, None], x + constant, math.nan)
    solution = torch.where(inside, x.to(rhs.dtype), boundary)
    return solution, status, steps, residual.where(is_finite, math.nan).to(rhs.dtype)
