# SPDX-License-Identifier: Apache-2.0
"""The C++ kernel of Poisson blending: threads, instruction sets, solvers, tolerances."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssad_kernels import Status, _backend, poisson_blend, use_backend
from ssad_kernels._errors import IMAGE_DTYPES
from ssad_kernels.testing import make_images, make_mask, samples, tolerance

pytestmark = pytest.mark.skipif(_backend.native is None, reason=_backend.native_reason)


def same_bits(a: Tensor, b: Tensor) -> bool:
    return a.numpy().tobytes() == b.numpy().tobytes()


def make_problem(
    n: int = 6, dtype: torch.dtype = torch.float32, layout: str = "contiguous"
) -> dict[str, Any]:
    """Images of 19 x 17, sources of 12 x 11, masks of several families, and places."""
    families = ("disc", "blobs", "noise", "square", "ellipses", "holes")
    return {
        "target": make_images(n, 3, 19, 17, dtype=dtype, layout=layout),
        "source": make_images(n, 3, 12, 11, dtype=dtype, layout=layout, seed=1),
        "mask": torch.stack([make_mask(families[i % 6], 12, 11, seed=i) for i in range(n)]),
        "top_left": torch.tensor([(3, 2), (-2, 8), (7, 6), (0, 0), (11, -3), (4, 4)])[
            torch.arange(n) % 6
        ],
    }


def test_any_number_of_threads():
    problem = make_problem(60)
    with use_backend("cpu"):
        torch.set_num_threads(1)
        expected = poisson_blend(**problem)
        for threads in (2, 5):
            torch.set_num_threads(threads)
            assert same_bits(poisson_blend(**problem), expected)


_LEVEL = """
import torch
from ssad_kernels import _backend, testing, use_backend
with use_backend("cpu"):
    found = [
        torch.ops.ssad_kernels.poisson_blend(*arguments)
        for arguments in testing.samples("poisson_blend").values()
    ]
torch.save(found, PATH)
print(_backend.native.cpu_level)
"""


def test_instruction_sets_agree(run_python: Callable[..., str], tmp_path: Path):
    capability = torch.backends.cpu.get_cpu_capability()
    levels = ["baseline", "avx2", "avx512"][: ["DEFAULT", "AVX2", "AVX512"].index(capability) + 1]
    found = []
    for level in levels:
        path = tmp_path / f"{level}.pt"
        assert run_python(f"PATH = {str(path)!r}{_LEVEL}", SSAD_CPU_LEVEL=level).strip() == level
        found.append(torch.load(path, weights_only=True))
    for other in found[1:]:
        for (got, status), (want, expected) in zip(other, found[0], strict=True):
            assert torch.equal(status, expected)
            atol = tolerance("poisson_blend", want.dtype)
            torch.testing.assert_close(got, want, rtol=0, atol=atol, equal_nan=True)


@pytest.mark.parametrize("solver", ["multigrid", "sor", "jacobi"])
def test_solvers_agree_and_can_fail(solver):
    problem = make_problem()
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
    problem = make_problem(dtype=dtype)
    problem["source"] = (problem["source"].double() * 0.9).to(dtype)
    with use_backend("reference"):
        expected = poisson_blend(**problem)
    level = 1.0 if dtype == torch.uint8 else 0.1 / 255
    with use_backend("cpu"):
        error = (poisson_blend(**problem).double() - expected.double()).abs().max()
    assert error <= level + tolerance("poisson_blend", dtype) * (dtype != torch.uint8)
