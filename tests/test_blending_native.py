# SPDX-License-Identifier: Apache-2.0
"""The C++ kernel of Poisson blending: threads, instruction sets, solvers, tolerances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ssad_kernels import Status, poisson_blend, use_backend
from ssad_kernels._errors import IMAGE_DTYPES
from ssad_kernels.testing import make_blend, same_bits, samples, tolerance

pytestmark = pytest.mark.native


def test_any_number_of_threads():
    problem = make_blend(60)
    with use_backend("cpu"):
        torch.set_num_threads(1)
        expected = poisson_blend(**problem)
        for threads in (2, 5):
            torch.set_num_threads(threads)
            assert same_bits(poisson_blend(**problem), expected)


_LEVEL = """
import torch
from ssad_kernels import testing, use_backend
with use_backend("cpu"):
    found = [
        torch.ops.ssad_kernels.poisson_blend(*arguments)
        for arguments in testing.samples("poisson_blend").values()
    ]
torch.save(found, PATH)
"""


@pytest.mark.parametrize("level", ["avx2", "avx512"])
def test_instruction_sets_agree(level: str, at_level: Callable[[str, str], Any]):
    for found, expected in zip(at_level(_LEVEL, level), at_level(_LEVEL, "baseline"), strict=True):
        (got, status), (want, expected_status) = found, expected
        assert torch.equal(status, expected_status)
        atol = tolerance("poisson_blend", want.dtype)
        torch.testing.assert_close(got, want, rtol=0, atol=atol, equal_nan=True)


@pytest.mark.parametrize("solver", ["multigrid", "sor", "jacobi"])
def test_solvers_agree_and_can_fail(solver):
    problem = make_blend()
    with use_backend("cpu"):
        expected = poisson_blend(**problem, tol=1e-3)
        out = poisson_blend(**problem, tol=1e-3, solver=solver)
        torch.testing.assert_close(out, expected, rtol=0, atol=0.01 / 255)
        arguments = list(samples("poisson_blend")["sor"])
        arguments[11], arguments[-1] = solver, 1
        out, status = torch.ops.ssad_kernels.poisson_blend(*arguments)
        assert (status == Status.NOT_CONVERGED.value).any()
        kept = status % 16 != 0
        assert same_bits(out[kept], arguments[0][kept])


@pytest.mark.parametrize("dtype", IMAGE_DTYPES, ids=str)
def test_the_default_tolerance_is_a_fiftieth_of_a_level(dtype):
    problem = make_blend(dtype=dtype)
    problem["source"] = (problem["source"].double() * 0.9).to(dtype)
    with use_backend("reference"):
        expected = poisson_blend(**problem)
    level = 1.0 if dtype == torch.uint8 else 0.1 / 255
    with use_backend("cpu"):
        error = (poisson_blend(**problem).double() - expected.double()).abs().max()
    assert error <= level + tolerance("poisson_blend", dtype) * (dtype != torch.uint8)
