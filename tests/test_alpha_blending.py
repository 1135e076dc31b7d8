# SPDX-License-Identifier: Apache-2.0
"""Alpha blending as an op: bits, statuses, layouts, gradients, compilation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ssad_kernels import Status, alpha_blend, alpha_blend_
from ssad_kernels._errors import FLOATS, IMAGE_DTYPES
from ssad_kernels.testing import (
    LAYOUTS,
    alpha_outcomes,
    make_blend,
    make_images,
    same_bits,
    with_layout,
)

NAN, INF = float("nan"), float("inf")
ROWS = ("top_left", "sizes", "source_index", "source_box", "alpha")


def outcome_arguments(dtype: torch.dtype) -> tuple[dict[str, Any], Tensor]:
    masks, rows, expected = alpha_outcomes()
    arguments = {
        "target": make_images(len(masks), 3, 13, 11, dtype=dtype),
        "source": make_images(len(masks), 3, 8, 9, dtype=dtype, seed=1),
        "mask": masks,
        **dict(zip(ROWS, rows, strict=True)),
    }
    return arguments, expected


def covered(problem: dict[str, Any]) -> Tensor:
    """The pixels (N, 1, 19, 17) that the masks of `make_blend` cover."""
    canvas = torch.zeros(6, 40, 40, dtype=torch.bool)
    for i, (top, left) in enumerate(problem["top_left"].tolist()):
        canvas[i, top + 10 : top + 22, left + 10 : left + 21] = problem["mask"][i]
    return canvas[:, None, 10:29, 10:27]


@pytest.mark.parametrize("dtype", IMAGE_DTYPES, ids=str)
def test_every_status(dtype):
    arguments, expected = outcome_arguments(dtype)
    before = {name: value.clone() for name, value in arguments.items()}
    out, status = alpha_blend(**arguments, return_status=True)
    assert status.tolist() == expected.tolist()
    assert all(same_bits(arguments[name], value) for name, value in before.items())
    in_place, again = alpha_blend_(**arguments, return_status=True)
    assert in_place is arguments["target"]
    assert same_bits(in_place, out)
    assert torch.equal(again, status)
    kept = status % 16 != 0
    assert same_bits(out[kept], before["target"][kept])
    changed = (out != before["target"]).flatten(1).any(1)
    assert torch.equal(changed[~kept], before["alpha"][~kept] > 0.0)


@pytest.mark.parametrize("dtype", IMAGE_DTYPES, ids=str)
def test_alpha_of_nothing_and_of_all(dtype):
    problem = make_blend(dtype=dtype)
    if dtype.is_floating_point:
        problem["target"][:, 1] *= -0.0
        problem["target"][:, :, 9, 9] = NAN
        problem["source"][:, 0, 5] = INF
        problem["source"][:, 0, 6] = NAN
    out, status = alpha_blend(**problem, alpha=0.0, return_status=True)
    assert same_bits(out, problem["target"])
    assert (status % 16 == 0).all()
    out = alpha_blend(**problem)
    expected = problem["target"].clone()
    inside = covered(problem)
    for i, (top, left) in enumerate(problem["top_left"].tolist()):
        for y, x in inside[i, 0].nonzero().tolist():
            expected[i, :, y, x] = problem["source"][i, :, y - top, x - left]
    is_nan = out.isnan()  # of which there are many
    assert torch.equal(is_nan, expected.isnan())
    assert same_bits(out[~is_nan], expected[~is_nan])


@pytest.mark.parametrize("dtype", IMAGE_DTYPES, ids=str)
def test_what_the_mask_leaves_out_keeps_its_bits(dtype):
    problem = make_blend(dtype=dtype)
    if dtype.is_floating_point:
        problem["target"][:, 1] *= -0.0
        problem["target"][0, 0, 0, 0] = NAN
    out = alpha_blend(**problem, alpha=0.5)
    outside = ~covered(problem).expand_as(out)
    assert same_bits(out[outside], problem["target"][outside])
    assert (out != problem["target"])[~outside].any()


@pytest.mark.parametrize("dtype", IMAGE_DTYPES, ids=str)
def test_a_patch_on_itself_changes_nothing(dtype):
    image = make_images(2, 3, 19, 17, dtype=dtype)
    places = torch.tensor([(2, 3), (7, 0)])
    boxes = torch.cat([places, torch.tensor([(9, 8), (12, 17)])], dim=1)
    alpha = torch.tensor([0.3, 0.77])
    for compat in (None, "reference") if dtype == torch.uint8 else (None,):
        out = alpha_blend(image, image, None, places, source_box=boxes, alpha=alpha, compat=compat)
        assert torch.equal(out, image)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_any_layout(layout, dtype):
    problem = make_blend(dtype=dtype)
    expected = alpha_blend(**problem, alpha=0.4)
    for name in ("target", "source"):
        problem[name] = with_layout(problem[name], layout)
    problem["mask"] = problem["mask"].mT.contiguous().mT
    assert same_bits(alpha_blend(**problem, alpha=0.4), expected)
    alpha_blend_(**problem, alpha=0.4)
    assert same_bits(problem["target"], expected)


def test_any_batch():
    problem = make_blend(dtype=torch.uint8)
    problem["alpha"] = torch.linspace(0.1, 1.0, 6)
    problem["source_box"] = torch.tensor([1, 2, 9, 7]).expand(6, 4)
    problem["sizes"] = torch.tensor([12, 11]).expand(6, 2)
    expected = alpha_blend(**problem)
    for i in range(6):
        alone = {name: value[i : i + 1] for name, value in problem.items()}
        assert same_bits(alpha_blend(**alone)[0], expected[i])


def test_kinds_of_masks():
    problem = make_blend(dtype=torch.uint8)
    hard = problem["mask"]
    expected = alpha_blend(**problem, alpha=0.6)
    floats = hard[:, None].float(), hard.double() * 8 - 1, hard.half()
    for mask in (hard[:, None], hard.byte() * 255, *floats):
        assert torch.equal(alpha_blend(**{**problem, "mask": mask}, alpha=0.6), expected)


def test_alpha_as_a_number_and_as_a_row():
    problem = make_blend()
    expected = alpha_blend(**problem, alpha=0.25)
    for row in (torch.full((6,), 0.25), torch.full((6,), 0.25, dtype=torch.float16)):
        assert same_bits(alpha_blend(**problem, alpha=row), expected)
    clamped = alpha_blend(**problem, alpha=torch.tensor([-1.0, 2.0] * 3))
    assert same_bits(clamped[::2], problem["target"][::2])
    assert same_bits(clamped[1::2], alpha_blend(**problem)[1::2])
    assert same_bits(alpha_blend(**problem, alpha=1), alpha_blend(**problem))


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_an_alpha_that_is_not_finite(bad):
    problem = make_blend(n=3)
    alpha = torch.tensor([0.5, bad, 0.5])
    out, status = alpha_blend(**problem, alpha=alpha, return_status=True)
    assert int(status[1]) == Status.NOT_FINITE
    assert same_bits(out[1], problem["target"][1])
    fine = alpha_blend(**problem, alpha=0.5)
    assert same_bits(out[::2], fine[::2])
    message = "^alpha_blend: 1 of 3 samples not applied, first 1: NOT_FINITE$"
    with pytest.raises(RuntimeError, match=message):
        alpha_blend(**problem, alpha=alpha, strict=True)
    assert alpha_blend(**problem, strict=True).shape == out.shape


def test_a_mask_that_is_nan_matters_where_the_patch_is():
    problem = make_blend(n=2)
    problem["mask"] = problem["mask"].float()
    problem["mask"][0, 5, 5] = problem["mask"][1, 0, 0] = NAN  # the second beyond the image
    assert alpha_blend(**problem, return_status=True)[1].tolist() == [5, 16]
    problem["mask"] = torch.full((2, 12, 11), NAN)
    assert alpha_blend(**problem, return_status=True)[1].tolist() == [Status.EMPTY] * 2


@pytest.mark.parametrize("name", ["target", "source"])
def test_a_pixel_that_is_not_finite_stays_alone(name):
    problem = make_blend(n=2)
    problem["mask"] = torch.ones_like(problem["mask"])
    expected = alpha_blend(**problem, alpha=0.5)
    y, x = problem["top_left"][0].tolist()
    place = (0, 1, y + 3, x + 4) if name == "target" else (0, 1, 3, 4)
    problem[name][place] = NAN
    out, status = alpha_blend(**problem, alpha=0.5, return_status=True)
    assert (status % 16 == 0).all()
    bad = torch.zeros_like(out, dtype=torch.bool)
    bad[0, 1, y + 3, x + 4] = True
    assert torch.equal(out.isnan(), bad)
    assert same_bits(out[~bad], expected[~bad])


def test_pixels_that_resizing_skips_may_be_anything():
    source = make_images(1, 3, 12, 9, dtype=torch.float32)
    target = make_images(1, 3, 19, 17, dtype=torch.float32, seed=1)
    arguments = {
        "source_box": torch.tensor([[0, 0, 12, 9]]),
        "sizes": torch.tensor([[4, 3]]),  # takes every third row and column
        "alpha": 0.5,
    }
    place = torch.tensor([[3, 2]])
    expected = alpha_blend(target, source, None, place, **arguments)
    is_taken = torch.zeros(12, 9, dtype=torch.bool)
    is_taken[1:12:3, 1:9:3] = True
    source.masked_fill_(~is_taken, NAN)
    assert same_bits(alpha_blend(target, source, None, place, **arguments), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_a_source_may_share_memory_with_the_target(dtype):
    images = make_images(3, 3, 19, 17, dtype=dtype)
    boxes = torch.tensor([(0, 0, 8, 7), (3, 2, 9, 9), (11, 5, 8, 7)])
    places = torch.tensor([(2, 3), (5, 5), (0, 0)])
    arguments = {"source_box": boxes, "source_index": torch.tensor([1, 1, 0]), "alpha": 0.7}
    expected = alpha_blend(images, images.clone(), None, places, **arguments)
    alpha_blend_(images, images, None, places, **arguments)
    assert same_bits(images, expected)


def test_no_sources_at_all():
    problem = make_blend(n=2)
    problem["source"] = problem["source"][:0]
    index = torch.zeros(2, dtype=torch.int64)
    out, status = alpha_blend(**problem, source_index=index, return_status=True)
    assert status.tolist() == [Status.NO_PLACE] * 2
    assert torch.equal(out, problem["target"])


def test_gradients():
    target = torch.rand(2, 3, 6, 5, dtype=torch.float64, requires_grad=True)
    source = torch.rand(3, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[0.3, 1.0, 0.0, 0.7], [0.9, 1.0, 0.5, 1.0]]).repeat(2, 1)
    options = {
        "source_box": torch.tensor([[0, 1, 4, 3], [2, 0, 3, 4]]),
        "sizes": torch.tensor([[4, 4], [3, 4]]),
        "source_index": torch.tensor([2, 2]),
        "alpha": torch.tensor([0.8, 1.0]),
    }
    place = torch.tensor([[1, 2], [-1, 0]])

    def blend(target: Tensor, source: Tensor) -> Tensor:
        return alpha_blend(target, source, mask.expand(2, 4, 4), place, **options)

    assert torch.autograd.gradcheck(blend, (target, source), fast_mode=True)
    assert torch.autograd.gradgradcheck(blend, (target, source), fast_mode=True)


@pytest.mark.parametrize("dtype", FLOATS[:3], ids=str)
def test_gradients_in_other_dtypes(dtype):
    problem, weight = make_blend(dtype=dtype), torch.randn(6, 3, 19, 17)
    found = []
    for compute in (dtype, torch.float64):
        leaves = [
            problem[name].detach().to(compute).requires_grad_() for name in ("target", "source")
        ]
        out = alpha_blend(*leaves, problem["mask"], problem["top_left"], alpha=0.3)
        (out * weight.to(compute)).sum().backward()
        found.append([leaf.grad for leaf in leaves])
    share = {torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}.get(dtype, 1e-6)
    for got, want in zip(*found, strict=True):
        assert got.dtype == dtype
        atol = share * want.abs().max().item()
        torch.testing.assert_close(got.double(), want, rtol=0, atol=atol)


def test_samples_that_are_not_applied_have_the_gradient_of_a_copy():
    arguments, expected = outcome_arguments(torch.float32)
    target, source = (arguments[name].requires_grad_() for name in ("target", "source"))
    weight = torch.randn(target.shape)
    (alpha_blend(**arguments) * weight).sum().backward()
    kept = expected % 16 != 0
    assert torch.equal(target.grad[kept], weight[kept])
    assert target.grad.isfinite().all()
    assert source.grad.isfinite().all()


@pytest.mark.parametrize("needs", [(True, False), (False, True)])
def test_gradients_of_one_input_alone(needs):
    problem = make_blend(n=2)
    for name, need in zip(("target", "source"), needs, strict=True):
        problem[name].requires_grad_(need)
    alpha_blend(**problem).sum().backward()
    for name, need in zip(("target", "source"), needs, strict=True):
        assert (problem[name].grad is not None) == need


def test_tv_tensors_of_any_kind():
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")
    target, source = make_images(1, 3, 9, 9), make_images(1, 3, 5, 5, seed=1)
    mask, place = torch.ones(1, 5, 5, dtype=torch.bool), torch.tensor([[2, 3]])
    expected = alpha_blend(target, source, mask, place)
    wrapped = tv_tensors.Image(target), tv_tensors.Image(source), tv_tensors.Mask(mask)
    out = alpha_blend(*wrapped, place)
    assert type(out) is torch.Tensor
    assert torch.equal(out, expected)
    alpha_blend_(*wrapped, place)
    assert torch.equal(target, expected)
