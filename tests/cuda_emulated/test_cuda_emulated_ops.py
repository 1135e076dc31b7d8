# SPDX-License-Identifier: Apache-2.0
"""Every operator with a native CUDA kernel, emulated, against the CPU's kernel and the reference.

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
from ssad_kernels import _backend, _op
from ssad_kernels.testing import MASKS, make_images, same_bits, samples, tolerance

if "cuda-emulated" not in _backend.BACKENDS:
    reason = "the extension was not built with SSAD_CUDA=EMULATED"
    pytest.skip(reason, allow_module_level=True)

OPS = [name for name, op in sorted(_op._OPS.items()) if "cuda-emulated" in op.kernels]
SEED = int(os.environ.get("SSAD_EMULATION_SEED", "0"))
ORDERS = [("forward", 0), ("reverse", 0), *(("random", SEED + i) for i in range(4))]
LEVEL = 1 / 255

emulation = _backend.native._emulation


@pytest.fixture(autouse=True)
def _order():
    emulation.set_order("random", SEED)
    emulation.take_counts()
    yield
    emulation.set_order("forward", 0)


def serves(op: str, args: tuple[Any, ...]) -> bool:
    limits = _op._OPS[op].cuda_limits
    return limits is None or limits.serves(*args)


SAMPLES = [(op, name) for op in OPS for name in samples(op) if serves(op, samples(op)[name])]


def run(op: str, backend: str, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    with sk.use_backend(backend):
        return tuple(getattr(torch.ops.ssad_kernels, op)(*args))


def test_there_are_samples_of_every_op():
    assert {op for op, _ in SAMPLES} == set(OPS)
    assert "poisson_solve" in OPS


@pytest.mark.parametrize(("op", "name"), SAMPLES)
def test_samples(op: str, name: str):
    args = samples(op)[name]
    found = run(op, "cuda-emulated", args)
    assert (emulation.take_counts()["threads"] > 0) == (args[0].numel() > 0)
    for got, want in zip(found, run(op, "reference", args), strict=True):
        assert got.dtype == want.dtype
        torch.testing.assert_close(
            got, want, rtol=0, atol=tolerance(op, want.dtype), equal_nan=True
        )


@pytest.mark.parametrize(("op", "name"), SAMPLES[:1])
def test_opcheck(op: str, name: str):
    with sk.use_backend("cuda-emulated"):
        torch.library.opcheck(getattr(torch.ops.ssad_kernels, op).default, samples(op)[name])


def test_what_is_not_served_is_an_error():
    rhs = torch.zeros(1, 1, 129, 4)
    mask = torch.ones(1, 129, 4, dtype=torch.bool)
    message = (
        r"^poisson_solve: backend `cuda-emulated` cannot run on cpu \(cuda-emulated: its kernel "
        r"serves float32, pixels a side: multigrid to 128, jacobi to 64, sor to 32, sine to 128 "
        r"only\)$"
    )
    with sk.use_backend("cuda-emulated"), pytest.raises(RuntimeError, match=message):
        sk.poisson_solve(rhs, mask, rhs)
    with sk.use_backend("cuda-emulated"), pytest.raises(RuntimeError, match="cannot run on cpu"):
        sk.philox(sk.make_keys(0, 0, torch.arange(2)), 0, 4)


def test_backends_lists_it():
    table = sk.backends()
    ready = "ready (float32, pixels a side: multigrid to 128, jacobi to 64, sor to 32, sine to 128)"
    assert table["poisson_solve"]["cuda-emulated"] == ready
    assert table["poisson_solve"]["cuda"] == "this build has no CUDA C++ kernels"
    assert table["philox"]["cuda-emulated"] == "philox has no cuda-emulated kernel"


# In grey levels, at tol 1e-4. What few edges hold is further from the solution in float64 by either
# kernel, in float32: strips by 1.6e-3, a full mask with one hole by 1e-2.
ALLOWED = dict.fromkeys(MASKS, 1e-3) | {"full": 3e-3, "blobs": 3e-3, "one hole": 2e-2}
SIZES = [(64, 64), (1, 1), (1, 64), (61, 5), (33, 32), (31, 32), (17, 40)]
# Of the largest kernel: a plane each.
LARGE = [(128, 128), (65, 90), (127, 70), (97, 9)]


@pytest.mark.parametrize("family", MASKS)
def test_every_family_of_masks_is_solved_as_on_the_cpu(family: str):
    for h, w in SIZES + LARGE:
        count = 1 if (h, w) in LARGE else 2
        problem = make_problem(family, count, count, h, w)
        found = []
        for backend in ("cuda-emulated", "cpu"):
            with sk.use_backend(backend):
                found.append(sk.poisson_solve(*problem, tol=1e-4 * LEVEL, return_info=True))
        (u, info), (expected, on_cpu) = found
        torch.testing.assert_close(u, expected, rtol=0, atol=ALLOWED[family] * LEVEL)
        assert same_bits(info.status, on_cpu.status)
        assert (info.iterations - on_cpu.iterations).abs().max() <= 1
        outside = ~problem[1][:, None].expand_as(u)
        assert same_bits(u[outside], problem[2][outside])


@pytest.mark.parametrize(("h", "w"), [(24, 37), (19, 66)])
def test_bits_are_the_same_in_any_order_of_threads_and_any_batch(h: int, w: int):
    problems = [make_problem(family, 1, 2, h, w) for family in ("noise", "disc", "full")]
    problem = [torch.cat(parts) for parts in zip(*problems, strict=True)]
    with sk.use_backend("cuda-emulated"):
        expected, info = sk.poisson_solve(*problem, return_info=True)
        for order, seed in ORDERS:
            emulation.set_order(order, seed)
            u, again = sk.poisson_solve(*problem, return_info=True)
            assert same_bits(u, expected)
            assert all(same_bits(a, b) for a, b in zip(again, info, strict=True))
        for i in range(len(expected)):
            alone = sk.poisson_solve(*(part[i : i + 1] for part in problem))
            assert same_bits(alone[0], expected[i])


@pytest.mark.parametrize(("h", "w"), [(20, 18), (20, 65)])
def test_a_value_that_is_not_finite_stays_in_its_plane(h: int, w: int):
    rhs, masks, boundary = make_problem("square", 2, 3, h, w)
    with sk.use_backend("cuda-emulated"):
        expected = sk.poisson_solve(rhs, masks, boundary)
        rhs[1, 2] = float("nan")
        u, info = sk.poisson_solve(rhs, masks, boundary, return_info=True)
    wrong = torch.zeros(2, 3, dtype=torch.bool)
    wrong[1, 2] = True
    assert torch.equal(info.status == sk.Status.NOT_FINITE.value, wrong)
    assert same_bits(u[~wrong], expected[~wrong])
    assert u[1, 2][masks[1]].isnan().all()
    assert same_bits(u[1, 2][~masks[1]], boundary[1, 2][~masks[1]])


def test_the_iterations_can_be_stopped():
    problem = make_problem("noise", 1, 1, 30, 30)
    with sk.use_backend("cuda-emulated"):
        _, info = sk.poisson_solve(*problem, tol=0.0, max_iterations=2, return_info=True)
    assert info.iterations.item() == 2
    assert info.status.item() == sk.Status.NOT_CONVERGED.value


@pytest.mark.parametrize("width", [15, 70])
@pytest.mark.parametrize("family", ["disc", "full"])
def test_the_gradient_is_that_of_the_cpu(family: str, width: int):
    rhs, masks, boundary = make_problem(family, 1, 1, 12, width)
    weight = make_images(1, 1, 12, width, dtype=torch.float32, seed=3) - 0.5
    gradients = []
    for backend in ("cuda-emulated", "cpu"):
        leaves = [plane.clone().requires_grad_() for plane in (rhs, boundary)]
        with sk.use_backend(backend):
            (sk.poisson_solve(leaves[0], masks, leaves[1]) * weight).sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for got, want in zip(*gradients, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-4 * want.abs().max().item())
