# SPDX-License-Identifier: Apache-2.0
"""Poisson blending as an op: bits, statuses, layouts, gradients, compilation, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ssad_kernels import Status, _backend, poisson_blend, poisson_blend_
from ssad_kernels._errors import FLOATS, IMAGE_DTYPES
from ssad_kernels.testing import (
    LAYOUTS,
    blend_outcomes,
    make_blend,
    make_images,
    same_bits,
    with_layout,
)

NAN, INF = float("nan"), float("inf")
GRADIENTS = ("source", "mixed", "average", "monochrome")
ROWS = ("sizes", "source_index", "source_box", "gradient", "source_gain", "target_gain")


def is_reference() -> bool:
    return _backend.native is None or _backend.active() == "reference"


def outcome_arguments(dtype: torch.dtype) -> tuple[dict[str, Any], Tensor]:
    masks, (top_left, *rows), expected = blend_outcomes()
    arguments = {
        "target": make_images(len(masks), 3, 13, 11, dtype=dtype),
        "source": make_images(len(masks), 3, 8, 9, dtype=dtype, seed=1),
        "mask": masks,
        "top_left": top_left,
        **dict(zip(ROWS, rows, strict=True)),
    }
    return arguments, expected


@pytest.mark.parametrize("dtype", IMAGE_DTYPES, ids=str)
@pytest.mark.parametrize("region", ["mask", "rect"])
def test_every_status(region, dtype):
    arguments, expected = outcome_arguments(dtype)
    before = {name: value.clone() for name, value in arguments.items()}
    out, status = poisson_blend(**arguments, region=region, return_status=True)
    assert status.tolist() == expected.tolist()
    assert all(same_bits(arguments[name], value) for name, value in before.items())
    in_place, again = poisson_blend_(**arguments, region=region, return_status=True)
    assert in_place is arguments["target"]
    assert same_bits(in_place, out)
    assert torch.equal(again, status)
    kept = status % 16 != 0
    assert same_bits(out[kept], before["target"][kept])
    changed = (out != before["target"]).flatten(1).any(1)
    # A constant does not change what it replaces by the target's larger gradients, at most.
    assert changed[~kept].sum() >= (~kept).sum() - 1


@pytest.mark.parametrize("dtype", IMAGE_DTYPES, ids=str)
@pytest.mark.parametrize("region", ["mask", "rect"])
def test_what_is_not_unknown_keeps_its_bits(region, dtype):
    problem = make_blend(dtype=dtype)
    if dtype.is_floating_point:
        problem["target"][:, 1] *= -0.0
        problem["target"][0, 0, 0, 0] = NAN
    out = poisson_blend(**problem, region=region)
    canvas = torch.zeros(6, 40, 40, dtype=torch.bool)
    for i, (top, left) in enumerate(problem["top_left"].tolist()):
        canvas[i, top + 10 : top + 22, left + 10 : left + 21] = problem["mask"][i]
    unknown = canvas[:, 10:29, 10:27]
    if region == "rect":
        for image in unknown:
            ys, xs = (image.any(dim).nonzero().flatten().tolist() for dim in (1, 0))
            image[:] = False
            image[ys[0] + 1 : ys[-1], xs[0] + 1 : xs[-1]] = True
    outside = ~unknown[:, None].expand_as(out)
    assert same_bits(out[outside], problem["target"][outside])
    assert (out != problem["target"])[~outside].any()


@pytest.mark.parametrize("gradient", GRADIENTS[:3])
@pytest.mark.parametrize("region", ["mask", "rect"])
@pytest.mark.parametrize("dtype", IMAGE_DTYPES, ids=str)
def test_a_patch_on_itself_changes_nothing(dtype, region, gradient):
    target = make_images(6, 3, 19, 17, dtype=dtype)
    problem = make_blend(dtype=dtype)
    padded = torch.nn.functional.pad(target.double(), (15, 15, 15, 15)).to(dtype)
    patches = [
        padded[i, :, top + 15 : top + 27, left + 15 : left + 26]
        for i, (top, left) in enumerate(problem["top_left"].tolist())
    ]
    problem.update(target=target, source=torch.stack(patches))
    for mask in (problem["mask"], None):
        out = poisson_blend(**{**problem, "mask": mask}, region=region, gradient=gradient)
        if is_reference() and dtype.is_floating_point:  # it solves for u itself
            torch.testing.assert_close(out, target, rtol=0, atol=1e-11)
        else:
            assert torch.equal(out, target)


def test_the_whole_image_on_itself_changes_nothing():
    target = make_images(2, 3, 9, 8)
    place = torch.zeros(2, 2, dtype=torch.int64)
    assert torch.equal(poisson_blend(target, target.clone(), None, place), target)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_any_layout(layout, dtype):
    problem = make_blend(dtype=dtype)
    expected = poisson_blend(**problem)
    for name in ("target", "source"):
        problem[name] = with_layout(problem[name], layout)
    problem["mask"] = problem["mask"].mT.contiguous().mT
    assert same_bits(poisson_blend(**problem), expected)
    poisson_blend_(**problem)
    assert same_bits(problem["target"], expected)


@pytest.mark.parametrize("options", [{}, {"gradient": "mixed", "region": "rect"}])
def test_any_batch(options):
    problem = make_blend(dtype=torch.uint8)
    expected = poisson_blend(**problem, **options)
    for i in range(6):
        alone = {name: value[i : i + 1] for name, value in problem.items()}
        assert same_bits(poisson_blend(**alone, **options)[0], expected[i])


def test_kinds_of_masks():
    problem = make_blend(dtype=torch.uint8)
    hard = problem["mask"]
    expected = poisson_blend(**problem)
    floats = hard[:, None].float(), hard.double() * 8 - 1, hard.half()
    for mask in (hard[:, None], hard.byte() * 255, *floats):
        assert torch.equal(poisson_blend(**{**problem, "mask": mask}), expected)


def test_gradients_by_name_and_by_code():
    problem = make_blend(n=4)
    codes = torch.tensor([3, 1, 0, 2])
    out = poisson_blend(**problem, gradient=codes)
    for i, code in enumerate(codes.tolist()):
        named = poisson_blend(**problem, gradient=GRADIENTS[code])
        assert same_bits(out[i], named[i])


def test_gains():
    problem = make_blend(n=4, dtype=torch.float64)
    gains = torch.tensor([0.5, 1.0, -2.0, 0.0])
    options: dict[str, Any] = {"gradient": "average", "tol": 1e-6}
    out = poisson_blend(**problem, source_gain=gains, target_gain=2.0, **options)
    for i, gain in enumerate(gains.tolist()):
        single = poisson_blend(**problem, source_gain=gain, target_gain=gains * 0 + 2, **options)
        assert same_bits(single[i], out[i])
    scaled = {**problem, "source": problem["source"] * gains[:, None, None, None].double()}
    by_hand = poisson_blend(**scaled, target_gain=2.0, **options)
    torch.testing.assert_close(by_hand, out, rtol=0, atol=1e-7)


def test_sources_are_looked_up_and_boxes_are_cut():
    problem = make_blend(dtype=torch.uint8)
    index = torch.tensor([5, 0, 0, 3, 2, 1])
    looked_up = {**problem, "source": problem["source"][index]}
    expected = poisson_blend(**looked_up)
    assert torch.equal(poisson_blend(**problem, source_index=index), expected)
    larger = torch.nn.functional.pad(problem["source"], (4, 3, 2, 5))
    box = torch.tensor([2, 4, 12, 11]).expand(6, 4)
    got = poisson_blend(**{**problem, "source": larger}, source_index=index, source_box=box)
    assert torch.equal(got, expected)
    sizes = torch.tensor([12, 11]).expand(6, 2)
    padded = torch.nn.functional.pad(problem["source"], (0, 4, 0, 5))
    mask = torch.nn.functional.pad(problem["mask"], (0, 6, 0, 1), value=True)
    got = poisson_blend(
        **{**problem, "source": padded, "mask": mask}, source_index=index, sizes=sizes
    )
    assert torch.equal(got, expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_a_source_may_share_memory_with_the_target(dtype):
    images = make_images(3, 3, 19, 17, dtype=dtype)
    boxes = torch.tensor([(0, 0, 8, 7), (3, 2, 9, 9), (11, 5, 8, 7)])
    places = torch.tensor([(2, 3), (5, 5), (0, 0)])
    index = torch.tensor([1, 1, 0])
    arguments = {"source_box": boxes, "source_index": index}
    expected = poisson_blend(images, images.clone(), None, places, **arguments)
    poisson_blend_(images, images, None, places, **arguments)
    assert same_bits(images, expected)


def test_results_of_uint8_are_rounded_once_and_clamped():
    problem = make_blend(dtype=torch.uint8)
    exact = poisson_blend(
        **{**problem, "target": problem["target"].double(), "source": problem["source"].double()},
        source_gain=1.5,
        tol=1e-6,
    )
    assert exact.min() < 0
    assert exact.max() > 255
    got = poisson_blend(**problem, source_gain=1.5, tol=1e-3)
    error = (got.double() - exact.clamp(0, 255)).abs()
    assert error.max() < 0.51


def test_strict():
    problem = make_blend()
    assert poisson_blend(**problem, strict=True).shape == problem["target"].shape
    problem["mask"][4] = False
    message = "^poisson_blend: 1 of 6 samples not applied, first 4: EMPTY$"
    with pytest.raises(RuntimeError, match=message):
        poisson_blend(**problem, strict=True)


def test_no_sources_at_all():
    problem = make_blend(n=2)
    problem["source"] = problem["source"][:0]
    index = torch.zeros(2, dtype=torch.int64)
    out, status = poisson_blend(**problem, source_index=index, return_status=True)
    assert status.tolist() == [Status.NO_PLACE] * 2
    assert torch.equal(out, problem["target"])


SMALL = {
    "source_box": torch.tensor([[0, 1, 4, 3]]),
    "sizes": torch.tensor([[4, 4]]),
    "source_gain": 0.8,
    "target_gain": torch.tensor([1.1]),
}


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("region", ["mask", "rect", "whole"])
def test_gradients(region, gradient):
    target = torch.rand(1, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    source = torch.rand(1, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[0.3, 1.0, 0.0, 0.7], [0.9, 1.0, 0.5, 1.0]]).repeat(2, 1)[None]
    options: dict[str, Any] = {**SMALL, "region": region}
    place = torch.tensor([[1, 2]])
    if region == "whole":
        mask, place = None, torch.tensor([[0, 0]])
        options |= {"region": "mask", "sizes": torch.tensor([[5, 5]])}

    def blend(target: Tensor, source: Tensor) -> Tensor:
        return poisson_blend(target, source, mask, place, gradient=gradient, tol=1e-9, **options)

    assert torch.autograd.gradcheck(blend, (target, source), fast_mode=True)
    assert torch.autograd.gradgradcheck(blend, (target, source), fast_mode=True)


@pytest.mark.parametrize("dtype", FLOATS[:3], ids=str)
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_gradients_in_other_dtypes(gradient, dtype):
    problem, weight = make_blend(dtype=dtype), torch.randn(6, 3, 19, 17)
    problem["source"] = problem["source"] * 0.9  # no ties
    found = []
    for compute in (dtype, torch.float64):
        leaves = [
            problem[name].detach().to(compute).requires_grad_() for name in ("target", "source")
        ]
        out = poisson_blend(*leaves, problem["mask"], problem["top_left"], gradient=gradient)
        (out * weight.to(compute)).sum().backward()
        found.append([leaf.grad.double() for leaf in leaves])
    share = {torch.float16: 2.0**-9, torch.bfloat16: 2.0**-6}.get(dtype, 1e-4)
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=share * want.abs().max().item())


def test_samples_that_are_not_applied_have_the_gradient_of_a_copy():
    arguments, expected = outcome_arguments(torch.float32)
    target, source = (arguments[name].requires_grad_() for name in ("target", "source"))
    weight = torch.randn(target.shape)
    (poisson_blend(**arguments) * weight).sum().backward()
    kept = expected % 16 != 0
    assert torch.equal(target.grad[kept], weight[kept])
    assert target.grad.isfinite().all()
    assert source.grad.isfinite().all()


def test_what_is_not_finite_does_not_spoil_other_gradients():
    problem = make_blend(n=3)
    problem["source"][0, 0, 6, 5] = NAN
    target, source = (problem[name].requires_grad_() for name in ("target", "source"))
    out, status = poisson_blend(**problem, gradient="mixed", return_status=True)
    assert int(status[0]) == Status.NOT_FINITE
    out[:, :, :].nan_to_num().sum().backward()
    assert target.grad.isfinite().all()
    assert not source.grad[0].any()


@pytest.mark.parametrize("needs", [(True, False), (False, True)])
def test_gradients_of_one_input_alone(needs):
    problem = make_blend(n=2)
    for name, need in zip(("target", "source"), needs, strict=True):
        problem[name].requires_grad_(need)
    poisson_blend(**problem).sum().backward()
    for name, need in zip(("target", "source"), needs, strict=True):
        assert (problem[name].grad is not None) == need


def test_tv_tensors_of_any_kind():
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")
    target, source = make_images(1, 3, 9, 9), make_images(1, 3, 5, 5, seed=1)
    mask, place = torch.ones(1, 5, 5, dtype=torch.bool), torch.tensor([[2, 3]])
    expected = poisson_blend(target, source, mask, place)
    wrapped = tv_tensors.Image(target), tv_tensors.Image(source), tv_tensors.Mask(mask)
    out = poisson_blend(*wrapped, place)
    assert type(out) is torch.Tensor
    assert torch.equal(out, expected)
    poisson_blend_(*wrapped, place)
    assert torch.equal(target, expected)


def test_a_mask_may_lie_in_the_memory_of_the_target():
    shared = make_images(3, 1, 12, 12, dtype=torch.uint8)
    source, top_left = make_images(2, 1, 12, 12, seed=1), torch.zeros(2, 2, dtype=torch.int64)
    mask, target = shared[:2, 0], shared[1:]
    expected = poisson_blend(target, source, mask.clone(), top_left)
    poisson_blend_(target, source, mask, top_left)
    assert same_bits(target, expected)
