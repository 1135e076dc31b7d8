# SPDX-License-Identifier: Apache-2.0
"""The Poisson solver as an op: determinism, values that are not finite, gradients, errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ssad_kernels import PoissonInfo, Status, poisson_solve, use_backend
from ssad_kernels.testing import LAYOUTS, MASKS, make_images, make_mask, same_bits, with_layout

NAN, INF = float("nan"), float("inf")


def make_problem(
    n: int, c: int, h: int, w: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """A right-hand side, masks of different families and boundary values."""
    rhs = make_images(n, c, h, w, dtype=dtype, seed=1) - 0.5
    masks = torch.stack([make_mask(MASKS[i % len(MASKS)], h, w, seed=i) for i in range(n)])
    return rhs, masks, make_images(n, c, h, w, dtype=dtype)


def test_what_lies_outside_of_the_mask_keeps_its_bits():
    rhs, masks, boundary = make_problem(14, 3, 20, 17)
    boundary[:, 0, ::3] *= -0.0
    before = [rhs.clone(), masks.clone(), boundary.clone()]
    u = poisson_solve(rhs, masks, boundary)
    outside = ~masks[:, None].expand_as(u)
    assert same_bits(u[outside], boundary[outside])
    assert all(same_bits(a, b) for a, b in zip(before, (rhs, masks, boundary), strict=True))


def test_a_mask_may_have_a_channel():
    rhs, masks, boundary = make_problem(5, 2, 12, 9)
    expected = poisson_solve(rhs, masks, boundary)
    assert same_bits(poisson_solve(rhs, masks[:, None], boundary), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout(layout):
    rhs, masks, boundary = make_problem(14, 3, 20, 17)
    expected = poisson_solve(rhs, masks, boundary)
    laid_out = (with_layout(rhs, layout), masks.mT.contiguous().mT, with_layout(boundary, layout))
    assert same_bits(poisson_solve(*laid_out).contiguous(), expected)


@pytest.mark.native
@pytest.mark.parametrize("solver", ["multigrid", "sor", "jacobi"])
def test_any_batch_and_any_number_of_threads(solver):
    """70 x 2 x 40 x 40 values at 20 ns and more: two threads and more do start."""
    rhs, masks, boundary = make_problem(70, 2, 40, 40)
    with use_backend("cpu"):

        def solve(part: slice) -> Tensor:
            problem = rhs[part], masks[part], boundary[part]
            u, info = poisson_solve(*problem, solver=solver, return_info=True, max_iterations=200)
            return torch.cat([u.flatten(2), torch.stack(info, dim=2)], dim=2)

        torch.set_num_threads(1)
        expected = solve(slice(None))
        for i in range(len(MASKS)):
            assert same_bits(solve(slice(i, i + 1))[0], expected[i])
        for threads in (2, 3):
            torch.set_num_threads(threads)
            assert same_bits(solve(slice(None)), expected)


_LEVEL = """
import torch
from ssad_kernels import poisson_solve, testing
rhs, masks, boundary = testing.samples("poisson_solve")["multigrid"][:3]
with_masks = poisson_solve(rhs, masks, boundary, tol=1e-6)
found = [with_masks, poisson_solve(rhs, None, boundary), poisson_solve(rhs * 0, None, boundary)]
wide = testing.make_images(2, 1, 50, 97, dtype=torch.float32)
torch.save([*found, poisson_solve(wide[:1] - 0.5, None, wide[1:])], PATH)
"""


@pytest.mark.native
@pytest.mark.parametrize("level", ["avx2", "avx512"])
def test_instruction_sets_agree(level: str, at_level: Callable[[str, str], Any]):
    for got, want in zip(at_level(_LEVEL, level), at_level(_LEVEL, "baseline"), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


@pytest.mark.native
def test_powers_of_two_are_exact_factors():
    """So gradients of any size keep their digits, and large values do not overflow."""
    rhs, masks, boundary = make_problem(14, 1, 20, 17)
    options: dict[str, Any] = {"tol": 0.0, "rtol": 1e-6}
    with use_backend("cpu"):
        expected = poisson_solve(rhs, masks, boundary, **options)
        for factor in (2.0**-90, 2.0**90):
            u = poisson_solve(rhs * factor, masks, boundary * factor, **options)
            assert torch.equal(u, expected * factor)
        for zero in (1.0, 0.0):
            expected = poisson_solve(rhs * zero, None, boundary)
            for factor in (2.0**-115, 2.0**-90, 2.0**90, 2.0**115):
                u = poisson_solve(rhs * zero * factor, None, boundary * factor)
                assert torch.equal(u, expected * factor)


def test_values_that_do_not_matter_may_be_anything():
    rhs, masks, boundary = make_problem(14, 2, 20, 17)
    expected = poisson_solve(rhs, masks, boundary)
    inside = masks[:, None].expand_as(rhs)
    full = masks.all((1, 2))[:, None, None, None]
    for bad in (NAN, INF, -INF):
        odd_rhs = torch.where(inside, rhs, bad)
        odd_boundary = torch.where(inside & ~full, bad, boundary)
        assert same_bits(poisson_solve(odd_rhs, masks, odd_boundary), expected)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_value_that_is_not_finite_stays_in_its_plane(bad):
    rhs, _, boundary = make_problem(4, 3, 12, 10)
    masks = torch.zeros(4, 12, 10, dtype=torch.bool)
    masks[:3, 2:9, 2:8] = True
    masks[3] = True
    expected = poisson_solve(rhs, masks, boundary)
    rhs[1, 0, 6, 5] = bad
    boundary[2, 1, 6, 1] = bad
    boundary[3, 2, 0, 0] = bad
    boundary[0, 0, 1, 1] = bad  # touches a corner of the mask, but no pixel
    u, info = poisson_solve(rhs, masks, boundary, return_info=True)
    wrong = torch.zeros(4, 3, dtype=torch.bool)
    wrong[1, 0] = wrong[2, 1] = wrong[3, 2] = True
    assert torch.equal(info.status == Status.NOT_FINITE.value, wrong)
    assert torch.equal(info.residual.isnan(), wrong)
    inside = masks[:, None].expand_as(u)
    solved = inside & ~wrong[:, :, None, None]
    assert u[inside & ~solved].isnan().all()
    assert same_bits(u[solved], expected[solved])
    assert same_bits(u[~inside], boundary[~inside])


@pytest.mark.native
@pytest.mark.parametrize("solver", ["multigrid", "sor", "jacobi"])
def test_status_iterations_and_residual(solver):
    rhs, masks, boundary = make_problem(14, 2, 20, 17, torch.float64)
    with use_backend("cpu"):
        u, info = poisson_solve(rhs, masks, boundary, solver=solver, return_info=True)
        assert isinstance(info, PoissonInfo)
        assert (info.status == 0).all()
        around = torch.nn.functional.pad(u, (1, 1, 1, 1), mode="replicate")
        sums = around[..., 2:, 1:-1] + around[..., :-2, 1:-1]
        sums = sums + around[..., 1:-1, 2:] + around[..., 1:-1, :-2]
        error = rhs - torch.where(masks.all((1, 2))[:, None, None, None], rhs, 0).mean(
            (2, 3), keepdim=True
        )
        residual = torch.where(masks[:, None], sums - 4 * u - error, 0).abs().amax((2, 3))
        torch.testing.assert_close(info.residual, residual, rtol=1e-3, atol=1e-12)

        _, short = poisson_solve(
            rhs, masks, boundary, solver=solver, max_iterations=2, return_info=True
        )
        late = info.iterations > 2
        assert late.any()
        assert (short.status[late] == Status.NOT_CONVERGED.value).all()
        assert (short.status[~late] == 0).all()
        assert (short.iterations[late] == 2).all()
        assert (short.residual[late] > info.residual[late]).all()


@pytest.mark.native
def test_a_smaller_tolerance_takes_more_iterations_and_errs_less():
    rhs, masks, boundary = make_problem(14, 1, 40, 40, torch.float64)
    with use_backend("cpu"):
        exact = poisson_solve(rhs, masks, boundary, rtol=1e-13)
        before = torch.zeros(())
        for tol in (1e-1, 1e-3, 1e-6, 1e-9):
            u, info = poisson_solve(rhs, masks, boundary, tol=tol, return_info=True)
            assert (u - exact).abs().max() < 5 * tol
            assert info.iterations.sum() > before
            before = info.iterations.sum()


@pytest.mark.parametrize("family", ["disc", "noise", "scar", "checkerboard", "full", "empty"])
def test_gradients(family):
    mask = make_mask(family, 7, 6, seed=1)[None]
    inputs = torch.randn(2, 1, 2, 7, 6, dtype=torch.float64).unbind()
    rhs, boundary = (plane.clone().requires_grad_() for plane in inputs)

    def solve(rhs: Tensor, boundary: Tensor) -> Tensor:
        return poisson_solve(rhs, mask, boundary, rtol=1e-12)

    assert torch.autograd.gradcheck(solve, (rhs, boundary))
    assert torch.autograd.gradgradcheck(solve, (rhs, boundary))


@pytest.mark.parametrize("size", [1.0, 1e-20, 1e20])
def test_gradients_of_any_size_in_float32(size):
    rhs, masks, boundary = make_problem(14, 1, 24, 24)
    weight = torch.randn(rhs.shape)
    gradients = []
    for dtype, factor in ((torch.float32, size), (torch.float64, 1.0)):
        inputs = [plane.detach().to(dtype).requires_grad_() for plane in (rhs, boundary)]
        u = poisson_solve(inputs[0], masks, inputs[1])
        (u * weight.to(dtype)).sum().backward(torch.tensor(factor, dtype=dtype))
        gradients.append([plane.grad.double() / factor for plane in inputs])
    for got, want in zip(*gradients, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=2e-4 * want.abs().max().item())


@pytest.mark.parametrize("needs", [(True, False), (False, True)])
def test_gradients_of_one_input_alone(needs):
    mask = make_mask("disc", 6, 6)[None]
    planes = [torch.randn(1, 1, 6, 6).requires_grad_(need) for need in needs]
    poisson_solve(planes[0], mask, planes[1]).sum().backward()
    for plane, need in zip(planes, needs, strict=True):
        assert (plane.grad is not None) == need


def test_compiles_to_one_graph_with_its_gradient():
    def loss(rhs: Tensor, mask: Tensor, boundary: Tensor) -> Tensor:
        return poisson_solve(rhs, mask, boundary).square().sum()

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    rhs, masks, boundary = make_problem(6, 1, 12, 12)
    results = []
    for function in (loss, compiled):
        leaf = boundary.clone().requires_grad_()
        value = function(rhs, masks, leaf)
        value.backward()
        results.append((value.detach(), leaf.grad))
    torch.testing.assert_close(results[1], results[0])


def test_the_reference_solves_whatever_is_asked_for():
    rhs, masks, boundary = make_problem(14, 1, 12, 12, torch.float64)
    expected = poisson_solve(rhs, masks, boundary)
    with use_backend("reference"):
        for solver in ("multigrid", "sor", "jacobi"):
            u = poisson_solve(rhs, masks, boundary, solver=solver, max_iterations=1)
            torch.testing.assert_close(u, expected, rtol=0, atol=1e-7)


F32 = torch.zeros(2, 3, 4, 5)
MASK = torch.zeros(2, 4, 5, dtype=torch.bool)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"rhs": [1.0]}, TypeError, "`rhs` must be a tensor, got list"),
        ({"mask": [True]}, TypeError, "`mask` must be a tensor, got list"),
        ({"boundary": 1}, TypeError, "`boundary` must be a tensor, got int"),
        ({"rhs": F32.half()}, TypeError, "`rhs` must have dtype float32 or float64, got float16"),
        ({"mask": MASK.byte()}, TypeError, "`mask` must have dtype bool, got uint8"),
        ({"boundary": F32.double()}, TypeError, "`boundary` must have dtype float32, got float64"),
        ({"rhs": F32[0]}, ValueError, "`rhs` must have shape (N, C, H, W), got (3, 4, 5)"),
        (
            {"rhs": F32[..., :0]},
            ValueError,
            "`rhs` must have at least one pixel, (N, C, H, W), and sides below 2²⁴, "
            "got (2, 3, 4, 0)",
        ),
        ({"mask": MASK[:1]}, ValueError, "`mask` must have shape (2, 4, 5), got (1, 4, 5)"),
        (
            {"mask": MASK[:, None].expand(2, 3, 4, 5)},
            ValueError,
            "`mask` must have shape (2, 4, 5), got (2, 3, 4, 5)",
        ),
        (
            {"boundary": F32[:, :1]},
            ValueError,
            "`boundary` must have shape (2, 3, 4, 5), got (2, 1, 4, 5)",
        ),
        ({"mask": MASK.to("meta")}, ValueError, "`mask` must be on device cpu, got meta"),
        ({"boundary": F32.to("meta")}, ValueError, "`boundary` must be on device cpu, got meta"),
        (
            {"solver": "cg"},
            ValueError,
            "`solver` must be one of auto, multigrid, sor, jacobi, sine, got cg",
        ),
        (
            {"solver": "sine"},
            ValueError,
            "`solver` must be another one than sine where there is a mask, got sine",
        ),
        (
            {"mask": None, "boundary": F32[:1]},
            ValueError,
            "`boundary` must have shape (2, 3, 4, 5), got (1, 3, 4, 5)",
        ),
        ({"tol": -1.0}, ValueError, "`tol` must be finite and not negative, got -1.0"),
        ({"tol": NAN}, ValueError, "`tol` must be finite and not negative, got nan"),
        ({"rtol": INF}, ValueError, "`rtol` must be finite and not negative, got inf"),
        ({"max_iterations": 0}, ValueError, "`max_iterations` must be in 1...2147483647, got 0"),
    ],
)
def test_errors_say_what_is_wrong(change: dict[str, Any], error: type[Exception], text: str):
    arguments = {"rhs": F32, "mask": MASK, "boundary": F32, **change}
    with pytest.raises(error, match=f"^poisson_solve: {re.escape(text)}$"):
        poisson_solve(**arguments)
