# SPDX-License-Identifier: Apache-2.0
"""``pytest benchmarks/bench_poisson.py``: the Poisson solver against SciPy and plain torch.

``python benchmarks/bench_poisson.py`` prints the iterations that docs/poisson.md quotes.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from harness import Case, Error, Row, optional, require, run, timer
from ssad_kernels import poisson_solve
from ssad_kernels.testing import MASKS, make_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pytest_benchmark.fixture import BenchmarkFixture

sparse, linalg = optional("scipy.sparse"), optional("scipy.sparse.linalg")
_N = 8  # images of three channels
_LEVELS = 255.0
_TOLERANCE = 0.5  # grey levels
_TOL = 0.02 / _LEVELS
_RANDOM = 5000


class Problem(NamedTuple):
    """As in blending: the Laplacian of one image, the values of another one around the mask."""

    rhs: Tensor  # (N, 3, H, W) float32
    mask: Tensor  # (N, H, W)
    boundary: Tensor  # (N, 3, H, W)


def neighbours(planes: Tensor, mode: str = "constant") -> Tensor:
    """The sum over each pixel's neighbours; zeros beyond the image, or "replicate"."""
    padded = torch.nn.functional.pad(planes, (1, 1, 1, 1), mode=mode)
    vertical = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]
    return vertical + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]


def make_problem(family: str, height: int, width: int, n: int = _N, seed: int = 0) -> Problem:
    """Smooth random images with a little noise, another mask of the family for each."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2 * n, 3, 6, 6, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    images += 0.02 * torch.randn(images.shape, generator=generator)
    source, target = images.split(n)
    masks = torch.stack([make_mask(family, height, width, seed=seed + i) for i in range(n)])
    return Problem(neighbours(source, "replicate") - 4 * source, masks, target)


def solve_with_scipy(problem: Problem) -> Tensor:
    """Sparse LU of each mask, for all channels at once; float64."""
    u = problem.boundary.clone()
    for rhs, mask, plane in zip(problem.rhs, problem.mask.numpy(), u, strict=True):
        system, edges = _matrices(mask)
        outer = plane.numpy().reshape(3, -1).T.astype(np.float64)
        right = edges @ outer - rhs.numpy().reshape(3, -1).T[mask.ravel()]
        unknowns = linalg.splu(system.tocsc()).solve(right)
        plane[:, torch.from_numpy(mask)] = torch.from_numpy(unknowns.T).float()
    return u


def _matrices(mask: NDArray[np.bool_]) -> tuple[Any, Any]:
    """The system of the unknowns, and what sums the pixels around them."""
    number = np.arange(mask.size).reshape(mask.shape)
    pairs = [(number[1:], number[:-1]), (number[:, 1:], number[:, :-1])]
    row = np.concatenate([side.ravel() for a, b in pairs for side in (a, b)])
    column = np.concatenate([side.ravel() for a, b in pairs for side in (b, a)])
    graph = sparse.csr_matrix((np.ones(len(row)), (row, column)), shape=(mask.size,) * 2)
    rows = graph[mask.ravel()]
    degree = sparse.diags(np.asarray(rows.sum(axis=1)).ravel())
    outside = sparse.diags((~mask.ravel()).astype(float))
    return degree - rows[:, mask.ravel()], rows @ outside


def solve_with_torch(problem: Problem) -> Tensor:
    """Conjugate gradients on the whole batch, without a preconditioner, to the same tolerance."""
    inside = problem.mask[:, None]
    outer = torch.where(inside, 0, problem.boundary)
    degree = neighbours(torch.ones_like(outer))
    r = torch.where(inside, neighbours(outer) - problem.rhs, 0)
    x, p = torch.zeros_like(r), r
    rr = r.square().sum((2, 3), keepdim=True)
    # A residual of d is an error of up to d side² / 8; the usual one is a tenth of that.
    limit = _TOL * 80 / r.shape[-1] ** 2
    while r.abs().max() > limit:
        q = torch.where(inside, degree * p - neighbours(p), 0)
        alpha = rr / (p * q).sum((2, 3), keepdim=True).clamp_min(1e-30)
        x, r = x + alpha * p, r - alpha * q
        rr, before = r.square().sum((2, 3), keepdim=True), rr
        p = r + rr / before.clamp_min(1e-30) * p
    return torch.where(inside, x, problem.boundary)


def _ours(problem: Problem, **options: Any) -> Tensor:
    u: Tensor = poisson_solve(*problem, **options)
    return u


def _error(problem: Problem, *solvers: Callable[[Problem], Tensor]) -> Error:
    exact = poisson_solve(*(x.double() if x.is_floating_point() else x for x in problem))
    errors = [(solve(problem) - exact).abs().max().item() * _LEVELS for solve in solvers]
    note = " / ".join(f"{error:.2g}" for error in errors)
    return Error(max(errors), "levels", _TOLERANCE, f"ours / theirs {note}")


def _build(
    family: str, side: int, solver: str, peer: str, theirs: Callable[[Problem], Tensor]
) -> Case:
    require(linalg, "scipy")
    problem = make_problem(family, side, side)
    ours = partial(_ours, solver=solver)
    return Case(
        f"poisson_solve, {family}, {solver}",
        f"{_N}x3x{side}x{side}",
        "float32",
        _N * 3,
        lambda: ours(problem),
        peer,
        lambda: theirs(problem),
        lambda: _error(problem, ours, theirs),
    )


_PEERS = {
    "SciPy splu, float64": solve_with_scipy,
    "plain torch CG, batched": solve_with_torch,
    "ours, sor": partial(_ours, solver="sor"),
}
ROWS = [
    Row(f"{family}-{side}-{peer}".replace(" ", "-"), partial(_build, family, side, "auto", peer, f))
    for family, side in (("disc", 16), ("disc", 32), ("disc", 64), ("holes", 64), ("disc", 192))
    for peer, f in _PEERS.items()
]


@pytest.mark.benchmark(timer=timer)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_poisson(benchmark: BenchmarkFixture, row: Row) -> None:
    """Measure one row."""
    run(benchmark, row, rounds=5)


def main() -> None:
    """Print the largest numbers of iterations: per family, solver and side; of random masks."""
    columns = [("multigrid", side) for side in (16, 32, 64, 128, 256)]
    columns += [("sor", side) for side in (16, 32, 64)] + [("jacobi", side) for side in (16, 32)]
    print("| mask | " + " | ".join(f"{solver} {side}" for solver, side in columns) + " |")
    print("| --- " * (len(columns) + 1) + "|")
    for family in MASKS:
        cells = []
        for solver, side in columns:
            problem = make_problem(family, side, side)
            _, info = poisson_solve(*problem, solver=solver, return_info=True)
            stopped = " (stopped)" if (info.status != 0).any() else ""
            cells.append(f"{int(info.iterations.max())}{stopped}")
        print(f"| {family} | " + " | ".join(cells) + " |")
    for family in ("disc", "blobs", "noise", "holes", "one hole", "full"):
        _print_largest(f"{family}, 2048 x 2048", [(family, 2048, 2048)])
    rng = random.Random(0)
    some = [(rng.choice(MASKS), rng.randint(1, 256), rng.randint(1, 256)) for _ in range(_RANDOM)]
    _print_largest(f"{_RANDOM} random masks, sides 1 to 256", some)


def _print_largest(title: str, masks: list[tuple[str, int, int]]) -> None:
    """The largest number of iterations of multigrid, and the time of all solves."""
    most = stopped = 0
    seconds = 0.0
    for seed, (family, height, width) in enumerate(masks):
        problem = make_problem(family, height, width, n=1, seed=seed)
        start = time.perf_counter()
        _, info = poisson_solve(*problem, return_info=True)
        seconds += time.perf_counter() - start
        most = max(most, int(info.iterations.max()))
        stopped += int((info.status != 0).any())
    print(f"{title}: at most {most} iterations, {stopped} not converged, {seconds:.1f} s")


if __name__ == "__main__":
    sys.exit(main())
