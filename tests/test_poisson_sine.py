# SPDX-License-Identifier: Apache-2.0
"""The Poisson solver without a mask: every pixel but the outermost ones is unknown."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ssad_kernels import Status, _backend, poisson_solve, use_backend
from ssad_kernels.testing import make_images, same_bits

NAN, INF = float("nan"), float("inf")
SOLVERS = ("sine", "multigrid", "sor", "jacobi")


def make_problem(
    n: int, c: int, h: int, w: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """A right-hand side and boundary values."""
    rhs = make_images(n, c, h, w, dtype=dtype, seed=1) - 0.5
    return rhs, make_images(n, c, h, w, dtype=dtype)


@pytest.mark.native
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shape", [(40, 40), (31, 62)])
def test_in_any_batch_and_any_number_of_threads(solver, shape):
    """A worker keeps its tables, so a sample finds those of another one, or none."""
    rhs, boundary = make_problem(400, 2, *shape)
    rhs[::3] = 0.0
    with use_backend("cpu"):

        def solve(part: slice) -> Tensor:
            u, info = poisson_solve(
                rhs[part], None, boundary[part], solver=solver, return_info=True, max_iterations=9
            )
            return torch.cat([u.flatten(2), torch.stack(info, dim=2)], dim=2)

        torch.set_num_threads(1)
        expected = solve(slice(None))
        for i in range(5):
            assert same_bits(solve(slice(i, i + 1))[0], expected[i])
        for threads in (2, 3):
            torch.set_num_threads(threads)
            assert same_bits(solve(slice(None)), expected)


def test_the_outermost_pixels_are_known():
    rhs, boundary = make_problem(3, 2, 20, 17)
    boundary[:, 0, ::3] *= -0.0
    inside = torch.zeros(20, 17, dtype=torch.bool)
    inside[1:-1, 1:-1] = True
    corners = torch.zeros(20, 17, dtype=torch.bool)
    corners[:: 20 - 1, :: 17 - 1] = True
    for solver in ("auto", *SOLVERS):
        options: dict[str, Any] = {"solver": solver, "tol": 1e-5}
        expected = poisson_solve(rhs, None, boundary, **options)
        assert same_bits(expected[..., ~inside], boundary[..., ~inside])
        torch.testing.assert_close(
            expected, poisson_solve(rhs, inside.expand(3, 20, 17), boundary), rtol=0, atol=1e-3
        )
        for bad in (NAN, INF):
            odd_rhs, odd_boundary = rhs.clone(), boundary.clone()
            odd_rhs[..., ~inside] = bad
            odd_boundary[..., inside | corners] = bad
            u = poisson_solve(odd_rhs, None, odd_boundary, **options)
            assert same_bits(u[..., ~corners], expected[..., ~corners])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (2, 7), (7, 2)])
def test_images_without_inside_are_left_alone(solver, shape):
    rhs, boundary = make_problem(2, 2, *shape)
    u, info = poisson_solve(rhs * NAN, None, boundary, solver=solver, return_info=True)
    assert same_bits(u, boundary)
    assert not any(value.any() for value in info)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("solver", ["sine", "multigrid"])
def test_a_value_that_is_not_finite_stays_in_its_plane(bad, solver):
    rhs, boundary = make_problem(3, 2, 12, 10)
    rhs[2] = 0.0
    expected = poisson_solve(rhs, None, boundary, solver=solver)
    rhs[0, 1, 6, 5] = bad
    boundary[2, 0, 4, 9] = bad
    u, info = poisson_solve(rhs, None, boundary, solver=solver, return_info=True)
    wrong = torch.zeros(3, 2, dtype=torch.bool)
    wrong[0, 1] = wrong[2, 0] = True
    assert torch.equal(info.status == Status.NOT_FINITE.value, wrong)
    assert torch.equal(info.residual.isnan(), wrong)
    assert u[wrong][..., 1:-1, 1:-1].isnan().all()
    assert same_bits(u[~wrong], expected[~wrong])
    assert same_bits(u[wrong][..., 0, :], boundary[wrong][..., 0, :])


def test_sine_leaves_no_residual():
    for h, w in ((20, 17), (17, 20), (3, 40), (64, 64)):
        rhs, boundary = make_problem(2, 2, h, w, torch.float64)
        u, info = poisson_solve(rhs, None, boundary, return_info=True)
        around = u[..., 2:, 1:-1] + u[..., :-2, 1:-1] + u[..., 1:-1, 2:] + u[..., 1:-1, :-2]
        error = around - 4 * u[..., 1:-1, 1:-1] - rhs[..., 1:-1, 1:-1]
        assert error.abs().max() < 1e-12
        assert info.residual.max() < 1e-12
        assert not info.status.any()
        if _backend.native is not None and _backend.active() != "reference":
            assert not info.iterations.any()


def test_constants_are_exact():
    zero = torch.zeros(1, 1, 21, 26)
    for value in (0.0, 0.3, -117.0, 1e-30, 1e30):
        assert torch.equal(poisson_solve(zero, None, zero + value), zero + value)


@pytest.mark.parametrize("solver", ["sine", "multigrid"])
@pytest.mark.parametrize("shape", [(7, 6), (5, 9), (3, 3), (2, 6)])
def test_gradients(solver, shape):
    inputs = torch.randn(2, 1, 2, *shape, dtype=torch.float64).unbind()
    rhs, boundary = (plane.clone().requires_grad_() for plane in inputs)

    def solve(rhs: Tensor, boundary: Tensor) -> Tensor:
        return poisson_solve(rhs, None, boundary, solver=solver, rtol=1e-12)

    assert torch.autograd.gradcheck(solve, (rhs, boundary))
    assert torch.autograd.gradgradcheck(solve, (rhs, boundary))
