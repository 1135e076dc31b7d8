# SPDX-License-Identifier: Apache-2.0
"""The solvers of `poisson_solve` beside multigrid in CUDA C++, emulated, against the CPU's.

SSAD_EMULATION_SEED=n shifts the seeds of the random orders of threads.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from poisson_problems import make_problem
from torch import Tensor

import ssad_kernels as sk
from ssad_kernels import _backend
from ssad_kernels.testing import MASKS, make_images, make_mask, same_bits

if "cuda-emulated" not in _backend.BACKENDS:
    reason = "the extension was not built with SSAD_CUDA=EMULATED"
    pytest.skip(reason, allow_module_level=True)

SEED = int(os.environ.get("SSAD_EMULATION_SEED", "0"))
ORDERS = [("forward", 0), ("reverse", 0), *(("random", SEED + i) for i in range(4))]
LEVEL = 1 / 255

emulation = _backend.native._emulation


@pytest.fixture(autouse=True)
def _order():
    emulation.set_order("random", SEED)
    yield
    emulation.set_order("forward", 0)


def solve(backend: str, problem: tuple[Tensor, ...], **options: Any) -> tuple[Tensor, Any]:
    with sk.use_backend(backend):
        return sk.poisson_solve(*problem, **options, return_info=True)


# Further sides are over 32 pixels, which is another kernel.
SWEEPS = {"sor": [(32, 32), (17, 30), (31, 5), (1, 32)], "jacobi": [(8, 12), (1, 1), (35, 4)]}


@pytest.mark.parametrize("family", MASKS)
@pytest.mark.parametrize("solver", SWEEPS)
def test_sweeps_are_those_of_the_cpu(solver: str, family: str):
    for h, w in SWEEPS[solver]:
        problem = make_problem(family, 1, 2, h, w)
        options = {"solver": solver, "tol": 1e-2 * LEVEL, "max_iterations": 120}
        u, info = solve("cuda-emulated", problem, **options)
        expected, on_cpu = solve("cpu", problem, **options)
        # Means are summed in another order. But for their rounding, bits are the CPU's.
        torch.testing.assert_close(u, expected, rtol=0, atol=1e-3 * LEVEL)
        assert same_bits(info.status, on_cpu.status)
        assert same_bits(info.iterations, on_cpu.iterations)
        torch.testing.assert_close(info.residual, on_cpu.residual, rtol=0, atol=1e-2 * LEVEL)
        outside = ~problem[1][:, None].expand_as(u)
        assert same_bits(u[outside], problem[2][outside])


def test_over_relaxation_converges_to_the_solution():
    mask = torch.stack([make_mask(family, 24, 32) for family in ("disc", "noise", "square")])
    rhs, _, boundary = make_problem("disc", 3, 1, 24, 32)
    u, info = solve("cuda-emulated", (rhs, mask, boundary), solver="sor")
    assert (info.status == sk.Status.APPLIED.value).all()
    exact, _ = solve("reference", (rhs.double(), mask, boundary.double()))
    torch.testing.assert_close(u.double(), exact, rtol=0, atol=0.04 * LEVEL)


# By kernel: sides of at most 32, 64 and 128 pixels; panels and tiles that are full or not.
RECTANGLES = [
    (32, 32), (3, 3), (4, 32), (13, 9), (64, 64), (33, 20), (3, 64), (128, 128), (65, 7), (20, 127),
]  # fmt: skip


@pytest.mark.parametrize(("h", "w"), RECTANGLES)
def test_rectangles_are_solved_directly(h: int, w: int):
    rhs, _, boundary = make_problem("full", 1, 2, h, w)
    rhs[0, 1] = 0.0
    u, info = solve("cuda-emulated", (rhs, None, boundary), solver="sine")
    exact, _ = solve("cpu", (rhs.double(), None, boundary.double()), solver="sine")
    torch.testing.assert_close(u.double(), exact, rtol=0, atol=1e-5 * max(h, w) * LEVEL)
    assert (info.status == sk.Status.APPLIED.value).all()
    assert (info.iterations == 0).all()
    assert 0.0 <= info.residual.max() <= 1e-5
    inside = torch.zeros(h, w, dtype=torch.bool)
    inside[1:-1, 1:-1] = True
    assert same_bits(u[..., ~inside], boundary[..., ~inside])


@pytest.mark.parametrize(("h", "w"), [(1, 1), (2, 9), (64, 1), (2, 2)])
def test_without_an_inside_the_boundary_is_all(h: int, w: int):
    rhs, _, boundary = make_problem("full", 2, 1, h, w)
    u, info = solve("cuda-emulated", (rhs, None, boundary), solver="sine")
    assert same_bits(u, boundary)
    assert not info.status.any()
    assert not info.iterations.any()
    assert not info.residual.any()


@pytest.mark.parametrize("size", [1e-37, 1e30])
def test_tiny_and_huge_values_are_solved_too(size: float):
    rhs, _, boundary = make_problem("full", 1, 1, 19, 14)
    plain, _ = solve("cuda-emulated", (rhs, None, boundary), solver="sine")
    u, info = solve("cuda-emulated", (rhs * size, None, boundary * size), solver="sine")
    torch.testing.assert_close(u / size, plain, rtol=0, atol=1e-4)
    assert not info.status.any()


SOLVERS = {"sor": (24, 31), "jacobi": (9, 34), "sine": (34, 21)}


@pytest.mark.parametrize("solver", SOLVERS)
def test_bits_are_the_same_in_any_order_of_threads_and_any_batch(solver: str):
    h, w = SOLVERS[solver]
    problems = [make_problem(family, 1, 2, h, w) for family in ("noise", "disc", "full")]
    rhs, masks, boundary = (torch.cat(parts) for parts in zip(*problems, strict=True))
    mask = None if solver == "sine" else masks
    options = {"solver": solver, "max_iterations": 20}
    expected, info = solve("cuda-emulated", (rhs, mask, boundary), **options)
    for order, seed in ORDERS:
        emulation.set_order(order, seed)
        u, again = solve("cuda-emulated", (rhs, mask, boundary), **options)
        assert same_bits(u, expected)
        assert all(same_bits(a, b) for a, b in zip(again, info, strict=True))
    for i in range(len(rhs)):
        alone = (rhs[i : i + 1], None if mask is None else mask[i : i + 1], boundary[i : i + 1])
        assert same_bits(solve("cuda-emulated", alone, **options)[0][0], expected[i])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_stays_in_its_plane(solver: str, bad: float):
    h, w = SOLVERS[solver]
    rhs, masks, boundary = make_problem("square", 2, 2, h, w)
    if solver == "sine":
        masks[:] = False
        masks[:, 1:-1, 1:-1] = True
    mask = None if solver == "sine" else masks
    options = {"solver": solver, "max_iterations": 8}
    expected, _ = solve("cuda-emulated", (rhs, mask, boundary), **options)
    y, x = masks[1].nonzero()[-1].tolist()
    rhs[1, 1, y, x] = bad
    u, info = solve("cuda-emulated", (rhs, mask, boundary), **options)
    wrong = torch.zeros(2, 2, dtype=torch.bool)
    wrong[1, 1] = True
    assert torch.equal(info.status == sk.Status.NOT_FINITE.value, wrong)
    assert same_bits(u[~wrong], expected[~wrong])
    assert u[1, 1][masks[1]].isnan().all()
    assert same_bits(u[1, 1][~masks[1]], boundary[1, 1][~masks[1]])
    assert info.residual[1, 1].isnan()
    boundary[0, 0, 0, :] = boundary[0, 0, :, 0] = bad
    if solver == "sine":  # the boundary is looked at, but not at its corners
        _, info = solve("cuda-emulated", (rhs, mask, boundary), **options)
        assert info.status.tolist() == [[5, 0], [0, 5]]
        boundary[0, 0] = 0.5
        boundary[0, 0, :: h - 1, :: w - 1] = bad
        u, info = solve("cuda-emulated", (rhs, mask, boundary), **options)
        assert info.status.tolist() == [[0, 0], [0, 5]]
        assert u[0, 0, 1:-1, 1:-1].isfinite().all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_gradient_is_that_of_the_cpu(solver: str):
    rhs, masks, boundary = make_problem("disc", 1, 1, 9, 12)
    mask = None if solver == "sine" else masks
    weight = make_images(1, 1, 9, 12, dtype=torch.float32, seed=3) - 0.5
    gradients = []
    for backend in ("cuda-emulated", "cpu"):
        leaves = [plane.clone().requires_grad_() for plane in (rhs, boundary)]
        with sk.use_backend(backend):
            u = sk.poisson_solve(leaves[0], mask, leaves[1], solver=solver)
            (u * weight).sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for got, want in zip(*gradients, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-4 * want.abs().max().item())
