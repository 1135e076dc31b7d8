# SPDX-License-Identifier: Apache-2.0
"""Poisson's equation in Triton, interpreted, against the reference.

The interpreter takes seconds for a plane, so planes are few and small.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import ssad_kernels as sk
from ssad_kernels.testing import MASKS, make_images, make_mask, tolerance

if os.environ.get("TRITON_INTERPRET") != "1":
    reason = "Triton kernels run on CPU tensors only with TRITON_INTERPRET=1"
    pytest.skip(reason, allow_module_level=True)
pytest.importorskip("triton")

F32, F64 = torch.float32, torch.float64
NAN = float("nan")


def problem(h: int, w: int, c: int = 1, n: int = 1, dtype: torch.dtype = F32) -> list[Tensor]:
    rhs = make_images(n, c, h, w, dtype=dtype, seed=1) - 0.5
    return [rhs, make_images(n, c, h, w, dtype=dtype)]


def solve(
    rhs: Tensor, mask: Tensor | None, boundary: Tensor, backend: str = "triton", **options: Any
) -> tuple[Tensor, sk.PoissonInfo]:
    # The interpreter computes with NumPy, which warns where infinity meets infinity.
    with sk.use_backend(backend), np.errstate(all="ignore"):
        return sk.poisson_solve(rhs, mask, boundary, return_info=True, **options)


def check(rhs: Tensor, mask: Tensor | None, boundary: Tensor, **options: Any) -> sk.PoissonInfo:
    options = {"tol": 0.0, "rtol": 1e-6 if rhs.dtype == F32 else 1e-12, **options}
    expected, (status, _, _) = solve(rhs, mask, boundary, "reference", **options)
    u, info = solve(rhs, mask, boundary, **options)
    torch.testing.assert_close(u, expected, rtol=0, atol=tolerance("poisson_solve", rhs.dtype))
    assert torch.equal(info.status, status)
    assert (info.residual < (2e-5 if rhs.dtype == F32 else 1e-10)).all()
    if mask is not None:
        outside = ~mask[:, None].expand_as(u)
        assert torch.equal(u[outside], boundary[outside])
    return info


@pytest.mark.parametrize("family", MASKS)
def test_multigrid(family: str) -> None:
    rhs, boundary = problem(9, 8)
    mask = make_mask(family, 9, 8, seed=MASKS.index(family))[None]
    with sk.use_backend("reference"):
        expected = sk.poisson_solve(rhs, mask, boundary)
    level = 1 / 255
    u, info = solve(rhs, mask, boundary, solver="multigrid", tol=1e-4 * level)
    assert info.status.tolist() == [[0]]
    assert (info.iterations <= 12).all()
    torch.testing.assert_close(u, expected, rtol=0, atol=1e-3 * level)


@pytest.mark.parametrize("family", ["full", "noise", "one hole"])
def test_multigrid_in_float64(family: str) -> None:
    rhs, boundary = problem(6, 9, dtype=F64)
    check(rhs, make_mask(family, 6, 9, seed=2)[None], boundary, solver="multigrid")


@pytest.mark.parametrize("solver", ["sor", "jacobi"])
@pytest.mark.parametrize("family", ["disc", "noise", "scar"])
def test_sweeps(solver: str, family: str) -> None:
    rhs, boundary = problem(5, 6)
    check(rhs, make_mask(family, 5, 6, seed=3)[None], boundary, solver=solver)


@pytest.mark.parametrize(("h", "w"), [(12, 15), (16, 9), (3, 8), (2, 9), (1, 1), (41, 37)])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_sine(h: int, w: int, dtype: torch.dtype) -> None:
    """The last of them needs several tiles."""
    rhs, boundary = problem(h, w, c=2, dtype=dtype)
    assert (check(rhs, None, boundary, solver="sine").iterations == 0).all()


def test_planes_of_several_blocks_in_one_launch() -> None:
    """The first mask fills several blocks of lanes; the second is solved at once."""
    rhs, boundary = problem(38, 33, n=2)
    masks = torch.stack([make_mask("disc", 38, 33), make_mask("pixel", 38, 33)])
    info = check(rhs, masks, boundary, solver="multigrid")
    assert info.iterations[0] > info.iterations[1]


def test_a_plane_has_the_same_bits_in_any_batch() -> None:
    rhs, boundary = problem(5, 6, n=2, c=2)
    masks = torch.stack([make_mask("disc", 5, 6), make_mask("scar", 5, 6)])
    together, _ = solve(rhs, masks, boundary, solver="sor")
    alone, _ = solve(rhs[1:, 1:], masks[1:], boundary[1:, 1:], solver="sor")
    assert torch.equal(together[1:, 1:], alone)


@pytest.mark.parametrize("solver", ["multigrid", "sor", "jacobi"])
def test_layouts_and_no_mask(solver: str) -> None:
    rhs, boundary = problem(6, 5, n=1)
    strided = [plane.mT.contiguous().mT for plane in (rhs, boundary)]
    check(strided[0], None, strided[1], solver=solver)


def test_a_value_that_is_not_finite_stays_in_its_plane() -> None:
    rhs, boundary = problem(6, 5, c=3)
    mask = torch.zeros(1, 6, 5, dtype=torch.bool)
    mask[:, 1:5, 1:4] = True
    rhs[0, 0, 2, 2] = boundary[0, 1, 0, 2] = NAN
    boundary[0, 2, 2, 2] = NAN  # inside of the mask
    u, info = solve(rhs, mask, boundary, solver="multigrid")
    assert info.status.tolist() == [[5, 5, 0]]
    assert info.residual.isnan().tolist() == [[True, True, False]]
    assert u[0, :2, mask[0]].isnan().all()
    assert u[0, 2, mask[0]].isfinite().all()


def test_iterations_stop() -> None:
    rhs, boundary = problem(6, 5)
    mask = make_mask("square", 6, 5)[None]
    for solver in ("multigrid", "sor", "jacobi"):
        info = solve(rhs, mask, boundary, solver=solver, max_iterations=1, tol=0.0)[1]
        assert info.status.tolist() == [[sk.Status.NOT_CONVERGED.value]]
        assert info.iterations.tolist() == [[1]]
        assert (info.residual > 1e-3).all()


def test_powers_of_two_are_exact_factors() -> None:
    rhs, boundary = problem(5, 6)
    mask = make_mask("disc", 5, 6)[None]
    expected, _ = solve(rhs, mask, boundary, rtol=1e-6, tol=0.0)
    for factor in (2.0**-90, 2.0**90):
        u, _ = solve(rhs * factor, mask, boundary * factor, rtol=1e-6, tol=0.0)
        assert torch.equal(u, expected * factor)


def test_gradients() -> None:
    mask = make_mask("disc", 4, 5, seed=1)[None]
    found = []
    for backend in ("reference", "triton"):
        rhs, boundary = (plane.requires_grad_() for plane in problem(4, 5, dtype=F64))
        with sk.use_backend(backend):
            sk.poisson_solve(rhs, mask, boundary, rtol=1e-12).square().sum().backward()
        found.append((rhs.grad, boundary.grad))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-7)


def test_an_empty_batch() -> None:
    rhs, boundary = problem(4, 5, n=0, c=3)
    u, info = solve(rhs, torch.zeros(0, 4, 5, dtype=torch.bool), boundary, solver="multigrid")
    assert u.shape == (0, 3, 4, 5)
    assert info.status.shape == (0, 3)
