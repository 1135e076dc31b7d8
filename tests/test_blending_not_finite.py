# SPDX-License-Identifier: Apache-2.0
"""Poisson blending of values that are not finite: those that matter, and those that do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ssad_kernels import Status, poisson_blend
from ssad_kernels.testing import make_images, make_mask, same_bits

NAN, INF = float("nan"), float("inf")
GRADIENTS = ("source", "mixed", "average", "monochrome")


def make_problem(n: int = 6) -> dict[str, Any]:
    """Images of 19 x 17, sources and masks of 12 x 11, and places."""
    places = torch.tensor([(3, 2), (-2, 8), (7, 6), (0, 0), (11, -3), (4, 4)])
    return {
        "target": make_images(n, 3, 19, 17, dtype=torch.float32),
        "source": make_images(n, 3, 12, 11, dtype=torch.float32, seed=1),
        "mask": torch.stack([make_mask("noise", 12, 11, seed=i) for i in range(n)]),
        "top_left": places[:n],
    }


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_values_that_do_not_matter_may_be_anything(bad):
    problem = make_problem(n=1)
    problem["mask"] = make_mask("square", 12, 11)[None]
    place = problem["top_left"]
    expected = poisson_blend(**problem)
    odd = {name: value.clone() for name, value in problem.items()}
    odd["target"][:, :, 5:10, 5:10] = bad  # inside the mask
    odd["target"][:, :, 0, 0] = bad  # far from it
    assert same_bits(poisson_blend(**odd, return_status=True)[0][:, :, 1:], expected[:, :, 1:])
    for gradient in ("mixed", "average"):
        out, status = poisson_blend(**odd, gradient=gradient, return_status=True)
        assert int(status) == Status.NOT_FINITE
        assert same_bits(out, odd["target"])
    odd = {name: value.clone() for name, value in problem.items()}
    odd["target"][0, 1, 2 + int(place[0, 0]), int(place[0, 1])] = bad  # a neighbour of the mask
    assert poisson_blend(**odd, return_status=True)[1].tolist() == [Status.NOT_FINITE]
    odd = {name: value.clone() for name, value in problem.items()}
    odd["source"][0, 2, 6, 6] = bad
    out, status = poisson_blend(**odd, return_status=True)
    assert status.tolist() == [Status.NOT_FINITE]
    assert same_bits(out, odd["target"])


def test_a_mask_that_is_nan_matters_where_the_patch_is():
    problem = make_problem(n=2)
    problem["mask"] = problem["mask"].float()
    problem["mask"][0, 5, 5] = problem["mask"][1, 0, 0] = NAN  # the second beyond the image
    assert poisson_blend(**problem, return_status=True)[1].tolist() == [5, 16]


def test_an_infinite_mask_is_clamped():
    problem = make_problem()
    problem["mask"] = problem["mask"].float()
    expected = poisson_blend(**problem)
    problem["mask"] = torch.where(problem["mask"] > 0.0, INF, -INF)
    out, status = poisson_blend(**problem, return_status=True)
    assert (status % 16 == 0).all()
    assert same_bits(out, expected)


def test_pixels_that_resizing_skips_may_be_anything():
    problem = make_problem()
    arguments = {
        "source_box": torch.tensor([0, 0, 12, 9]).expand(6, 4),
        "sizes": torch.tensor([4, 3]).expand(6, 2),  # takes every third row and column
        "top_left": torch.tensor([3, 2]).expand(6, 2),
        "mask": None,
    }
    problem.update(arguments)
    expected = poisson_blend(**problem)
    is_taken = torch.zeros(12, 11, dtype=torch.bool)
    is_taken[1:12:3, 1:9:3] = True
    problem["source"].masked_fill_(~is_taken, NAN)
    out, status = poisson_blend(**problem, return_status=True)
    assert status.tolist() == [Status.APPLIED] * 6
    assert same_bits(out, expected)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_unknowns_that_are_not_finite_and_have_no_edges(gradient):
    problem = make_problem(n=1)
    problem["source"], problem["mask"] = problem["source"][:, :, :1, :1], None
    y, x = problem["top_left"][0].tolist()
    problem["target"][0, 1, y, x] = NAN  # all of its edges leave the patch
    assert poisson_blend(**problem, gradient=gradient, return_status=True)[1].tolist() == [5]


def test_an_all_nan_mask_is_empty():
    problem = make_problem(n=1)
    problem["mask"] = torch.full((1, 12, 11), NAN)
    assert poisson_blend(**problem, return_status=True)[1].tolist() == [Status.EMPTY]
