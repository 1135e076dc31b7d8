# SPDX-License-Identifier: Apache-2.0
"""Random masks of all families and sides: 500 in the suite, 10,000 in ``make stress``."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch

from ssad_kernels import Status, poisson_blend, poisson_solve
from ssad_kernels.testing import MASKS, make_mask

pytestmark = pytest.mark.native
GRADIENTS = ("source", "mixed", "average", "monochrome")
CASES = 10_000 if os.environ.get("SSAD_HYPOTHESIS") == "stress" else 500
PARTS = 20
SMALL = 3000  # unknowns that float64 solves quickly


@pytest.mark.parametrize("part", range(PARTS))
def test_no_mask_is_too_hard(part: int):
    """No divergence, no NaN, no safety stop; half a level at most; nothing outside changes."""
    rng = random.Random(part)
    worst = 0.0
    for seed in range(part, CASES, PARTS):
        longest = rng.choice((8, 40, 256))
        h, w = rng.randint(1, longest), rng.randint(1, longest)
        height, width = rng.randint(1, longest), rng.randint(1, longest)
        generator = torch.Generator().manual_seed(seed)
        target = torch.rand(1, 3, height, width, generator=generator)
        source = torch.rand(1, 3, h, w, generator=generator)
        if rng.random() < 0.5:  # smooth images leave long waves to the solver
            source, target = (
                torch.nn.functional.interpolate(
                    image[..., ::16, ::16], image.shape[-2:], mode="bilinear"
                )
                for image in (source, target)
            )
        mask = make_mask(rng.choice(MASKS), h, w, seed=seed)[None]
        if rng.random() < 0.2:
            mask = (mask * torch.rand(h, w, generator=generator)).float()
        top_left = (rng.randint(-h // 2, height), rng.randint(-w // 2, width))
        options = {"gradient": rng.choice(GRADIENTS), "region": rng.choice(("mask", "rect"))}
        place = torch.tensor([top_left])
        out, status = poisson_blend(target, source, mask, place, return_status=True, **options)
        kept = (Status.NO_PLACE, Status.EMPTY)
        assert int(status) in (Status.APPLIED, Status.CLIPPED, *kept)
        assert out.isfinite().all()
        unknown = torch.zeros(height, width, dtype=torch.bool)
        for y, x in np.argwhere(mask[0].numpy() > 0) + top_left:
            if 0 <= y < height and 0 <= x < width:
                unknown[y, x] = True
        if int(status) in kept:
            assert torch.equal(out, target)
        elif options["region"] == "mask":
            assert torch.equal(out[..., ~unknown], target[..., ~unknown])
        if unknown.sum() < SMALL:
            exact = poisson_blend(target.double(), source.double(), mask, place, **options)
            if options["gradient"] != "mixed":  # whose choice may differ between the two
                worst = max(worst, 255 * (out - exact).abs().max().item())
    assert worst < 0.5


def test_the_solver_needs_few_iterations():
    rng = random.Random(1)
    for seed in range(CASES // 5):
        h, w = rng.randint(1, 256), rng.randint(1, 256)
        mask = make_mask(rng.choice(MASKS), h, w, seed=seed)[None]
        generator = torch.Generator().manual_seed(seed)
        boundary = torch.rand(1, 1, h, w, generator=generator)
        rhs = torch.rand(1, 1, h, w, generator=generator) - 0.5
        u, info = poisson_solve(rhs, mask, boundary, return_info=True)
        assert u.isfinite().all()
        assert int(info.status) == Status.APPLIED
        assert int(info.iterations) <= 20
        # An error of 0.02 levels leaves a residual of eight times that at most.
        assert float(info.residual) < 8 * 0.02 / 255 + 1e-4 * float(rhs.abs().max())
