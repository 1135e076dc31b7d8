# SPDX-License-Identifier: Apache-2.0
"""The Poisson solver against SciPy's sparse direct solver, and against what mathematics knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ssad_kernels import poisson_solve, use_backend
from ssad_kernels.testing import MASKS, make_mask

fft = pytest.importorskip("scipy.fft")
sparse = pytest.importorskip("scipy.sparse")
linalg = pytest.importorskip("scipy.sparse.linalg")

SOLVERS = ("multigrid", "sor", "jacobi")
LEVEL = 1 / 255
SIDES = (*range(1, 71), 127, 128, 192, 255, 256)


def random_plane(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Smooth values and some noise, in about 0...1."""
    coarse = torch.from_numpy(generator.random((1, 1, 4, 4)))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return smooth[0, 0].numpy() + 0.1 * generator.standard_normal((height, width))


def laplacian(plane: np.ndarray) -> np.ndarray:
    """Sum over the neighbours in the image of (neighbour - pixel)."""
    padded = np.pad(plane, 1, mode="edge")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return np.asarray(around - 4 * plane)


def solve_directly(rhs: np.ndarray, mask: np.ndarray, boundary: np.ndarray) -> np.ndarray:
    """One equation a pixel, unknowns and others alike, by sparse elimination in float64."""
    height, width = mask.shape
    number = np.arange(height * width).reshape(height, width)
    rows, columns = [], []
    for a, b in ((number[1:], number[:-1]), (number[:, 1:], number[:, :-1])):
        rows += [a.ravel(), b.ravel()]
        columns += [b.ravel(), a.ravel()]
    row, column = np.concatenate(rows), np.concatenate(columns)
    edges = sparse.coo_matrix((np.ones(len(row)), (row, column)), shape=(number.size,) * 2).tocsr()
    degree = sparse.diags(np.asarray(edges.sum(axis=1)).ravel())
    inside = mask.ravel()
    chosen = sparse.diags(inside.astype(float))
    right = np.where(inside, rhs.ravel(), boundary.ravel())
    if inside.all():  # unique up to a constant: fix one value, then the mean
        right = right - right.mean()
        right[0] = 0.0
        inside = inside.copy()
        inside[0] = False
        chosen = sparse.diags(inside.astype(float))
    system = chosen @ (edges - degree) + sparse.diags((~inside).astype(float))
    u = linalg.spsolve(system.tocsc(), right).reshape(height, width)
    return np.asarray(u - u.mean() + boundary.mean() if mask.all() else u)


def solve_by_fft(rhs: np.ndarray, boundary: np.ndarray) -> np.ndarray:
    """Every pixel but the outermost ones, by sine transforms along both axes in float64."""
    b = -rhs[1:-1, 1:-1]
    b[0] += boundary[0, 1:-1]
    b[-1] += boundary[-1, 1:-1]
    b[:, 0] += boundary[1:-1, 0]
    b[:, -1] += boundary[1:-1, -1]
    y, x = (2 - 2 * np.cos(np.pi * np.arange(1, n + 1) / (n + 1)) for n in b.shape)
    u = boundary.copy()
    u[1:-1, 1:-1] = fft.idstn(fft.dstn(b, type=1) / (y[:, None] + x), type=1)
    return u


def ring(height: int, width: int) -> np.ndarray:
    """The mask that is meant where there is none."""
    mask = np.zeros((height, width), dtype=bool)
    mask[1:-1, 1:-1] = True
    return mask


def solved_without_mask(
    rhs: np.ndarray, boundary: np.ndarray, dtype: torch.dtype, **options: Any
) -> np.ndarray:
    planes = (torch.from_numpy(plane)[None, None].to(dtype) for plane in (rhs, boundary))
    first, second = planes
    u: Tensor = poisson_solve(first, None, second, **options)
    return u[0, 0].double().numpy()


def problem(
    family: str, height: int, width: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A right-hand side, a mask and boundary values as in blending."""
    generator = np.random.default_rng(seed)
    source, target = (random_plane(generator, height, width) for _ in range(2))
    return laplacian(source), make_mask(family, height, width, seed=seed).numpy(), target


def solved(planes: tuple[np.ndarray, ...], dtype: torch.dtype, **options: Any) -> Tensor:
    rhs, mask, boundary = (torch.from_numpy(plane)[None, None] for plane in planes)
    result: Tensor = poisson_solve(rhs.to(dtype), mask, boundary.to(dtype), **options)
    return result[0, 0]


@pytest.mark.parametrize("family", MASKS)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shape", [(15, 15), (24, 17), (11, 30)])
def test_every_solver_equals_the_direct_one(solver, family, shape):
    planes = problem(family, *shape, seed=3)
    u = solved(planes, torch.float32, solver=solver, max_iterations=100_000)
    assert np.abs(u.numpy() - solve_directly(*planes)).max() < 0.5 * LEVEL


@given(
    st.sampled_from(MASKS),
    st.integers(1, 64),
    st.integers(1, 64),
    st.integers(0, 1 << 20),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_multigrid_equals_the_direct_solver(family, height, width, seed, dtype):
    planes = problem(family, height, width, seed)
    u = solved(planes, dtype)
    tolerance = 0.2 * LEVEL if dtype == torch.float32 else 1e-7
    assert np.abs(u.numpy() - solve_directly(*planes)).max() < tolerance


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 64), (64, 1), (2, 50), (50, 3), (1, 300)])
@pytest.mark.parametrize("family", ["full", "noise", "one hole", "row", "blobs"])
def test_strips(shape, family):
    planes = problem(family, *shape, seed=1)
    u = solved(planes, torch.float64)
    assert np.abs(u.numpy() - solve_directly(*planes)).max() < 1e-6


@pytest.mark.native
@pytest.mark.parametrize("side", [127, 128, 255, 256])
def test_large_sides(side):
    for family in ("disc", "holes", "blobs"):
        planes = problem(family, side, side, seed=2)
        with use_backend("cpu"):
            u = solved(planes, torch.float32)
        assert np.abs(u.numpy() - solve_directly(*planes)).max() < 0.5 * LEVEL


@pytest.mark.native
@pytest.mark.parametrize("side", [16, 31, 64, 100, 192])
def test_multigrid_converges_on_random_masks(side):
    """350 masks, a fifth of them on each side."""
    generator = np.random.default_rng(side)
    masks = torch.stack([make_mask(f, side, side, seed=s) for f in MASKS for s in range(5)])
    planes = [[random_plane(generator, side, side)] for _ in range(2 * len(masks))]
    boundary, rhs = torch.from_numpy(np.array(planes)).float().chunk(2)
    with use_backend("cpu"):
        u, info = poisson_solve(rhs - 0.5, masks, boundary, return_info=True)
    assert u.isfinite().all()
    assert (info.status == 0).all()
    assert info.iterations.max() <= 16


@pytest.mark.parametrize("family", ["disc", "noise", "blobs", "holes", "full"])
def test_the_laplacian_of_an_image_gives_the_image_back(family):
    rng = np.random.default_rng(0)
    image = random_plane(rng, 40, 33)
    mask = make_mask(family, 40, 33).numpy()
    u = solved((laplacian(image), mask, image), torch.float64)
    assert np.abs(u.numpy() - image).max() < 1e-7


@pytest.mark.parametrize("family", MASKS)
def test_constants_are_exact_and_the_boundary_bounds_a_membrane(family):
    mask = make_mask(family, 21, 26, seed=5)[None]
    zero = torch.zeros(1, 1, 21, 26)
    for value in (0.0, 0.3, -117.0, 1e-30, 1e30):
        assert torch.equal(poisson_solve(zero, mask, zero + value), zero + value)
    boundary = torch.from_numpy(np.random.default_rng(1).random((1, 1, 21, 26))).float()
    u = poisson_solve(zero, mask, boundary)
    assert u.min() >= boundary.min() - 1e-4
    assert u.max() <= boundary.max() + 1e-4


@pytest.mark.parametrize("family", ["disc", "noise", "holes", "horseshoe", "one hole", "full"])
def test_symmetries(family):
    """Flips, transposition, adding a constant, multiplying by one."""
    planes = problem(family, 30, 41, seed=7)
    rhs, mask, boundary = planes
    u = solved(planes, torch.float64).numpy()

    def check(other: tuple[np.ndarray, ...], expected: np.ndarray) -> None:
        result = solved(tuple(np.ascontiguousarray(plane) for plane in other), torch.float64)
        assert np.abs(result.numpy() - expected).max() < 1e-7

    check((rhs.T, mask.T, boundary.T), u.T)
    check((rhs[::-1], mask[::-1], boundary[::-1]), u[::-1])
    check((rhs[:, ::-1], mask[:, ::-1], boundary[:, ::-1]), u[:, ::-1])
    check((rhs, mask, boundary + 5.0), u + 5.0)
    check((-3.0 * rhs, mask, -3.0 * boundary), -3.0 * u)


@pytest.mark.parametrize("family", ["disc", "noise", "full"])
def test_the_solve_is_its_own_adjoint(family):
    mask = make_mask(family, 20, 27, seed=2)[None]
    a, b = torch.from_numpy(np.random.default_rng(3).standard_normal((2, 1, 1, 20, 27)))
    zero = torch.zeros_like(a)
    left = (poisson_solve(a, mask, zero) * b).sum()
    right = (a * poisson_solve(b, mask, zero)).sum()
    torch.testing.assert_close(left, right, rtol=1e-7, atol=1e-7)


@pytest.mark.native
def test_sine_equals_an_fft():
    """The largest error in float32 is 0.0001 levels for sides up to 70, 0.0005 up to 256."""
    generator = np.random.default_rng(0)
    for side in SIDES:
        source, target = (random_plane(generator, side + 2, side + 2) for _ in range(2))
        for rhs, boundary in ((laplacian(source), target), (np.zeros_like(source), target)):
            # Rounded first, so that the error is the solver's.
            rounded = [plane.astype(np.float32).astype(np.float64) for plane in (rhs, boundary)]
            exact = solve_by_fft(*rounded)
            single = solved_without_mask(*rounded, torch.float32, solver="sine")
            assert np.abs(single - exact).max() < 0.005 * LEVEL, side
            double = solved_without_mask(*rounded, torch.float64, solver="sine")
            assert np.abs(double - exact).max() < 1e-10 * np.abs(exact).max(), side


@pytest.mark.native
def test_a_zero_right_hand_side_takes_a_shorter_way_to_the_same_result():
    generator = np.random.default_rng(1)
    for side in SIDES:
        boundary = random_plane(generator, side + 2, 2 * (side % 7) + side + 1)
        zero = np.zeros_like(boundary)
        almost = zero.copy()
        almost[1, 1] = 1e-30
        for dtype, tolerance in ((torch.float32, 0.001 * LEVEL), (torch.float64, 1e-11)):
            short, full = (solved_without_mask(rhs, boundary, dtype) for rhs in (zero, almost))
            assert np.abs(short - full).max() < tolerance, side


@given(
    st.integers(1, 48),
    st.integers(1, 48),
    st.integers(0, 1 << 20),
    st.sampled_from([torch.float32, torch.float64]),
    st.booleans(),
)
def test_sine_equals_the_direct_solver(height, width, seed, dtype, is_membrane):
    rhs, _, boundary = problem("full", height, width, seed)
    if is_membrane:
        rhs[:] = 0.0
    u = solved_without_mask(rhs, boundary, dtype)
    exact = solve_directly(rhs, ring(height, width), boundary)
    tolerance = 0.005 * LEVEL if dtype == torch.float32 else 1e-10
    assert np.abs(u - exact).max() < tolerance


@pytest.mark.parametrize("shape", [(200, 5), (5, 200), (3, 300), (300, 3), (90, 130), (130, 90)])
def test_sine_on_long_rectangles(shape):
    rhs, _, boundary = problem("full", *shape, seed=3)
    exact = solve_directly(rhs, ring(*shape), boundary)
    assert np.abs(solved_without_mask(rhs, boundary, torch.float32) - exact).max() < 0.005 * LEVEL


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shape", [(15, 15), (24, 17), (11, 30), (2, 9), (3, 3)])
def test_every_solver_does_without_a_mask(solver, shape):
    rhs, _, boundary = problem("full", *shape, seed=4)
    options = {"solver": solver, "max_iterations": 100_000}
    u = solved_without_mask(rhs, boundary, torch.float32, **options)
    exact = solve_directly(rhs, ring(*shape), boundary)
    assert np.abs(u - exact).max() < 0.5 * LEVEL
