# SPDX-License-Identifier: Apache-2.0
"""Poisson blending with the Triton solver, interpreted, against the reference.

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
from ssad_kernels.testing import blend_outcomes, make_images, make_mask, same_bits, tolerance

if os.environ.get("TRITON_INTERPRET") != "1":
    reason = "Triton kernels run on CPU tensors only with TRITON_INTERPRET=1"
    pytest.skip(reason, allow_module_level=True)
pytest.importorskip("triton")

F32 = torch.float32


def images(n: int, h: int, w: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Sources are no whole levels: equal gradients would round to unequal ones, either way."""
    found = make_images(n, 1, h, w, dtype=dtype, seed=seed)
    return found if dtype == torch.uint8 or seed == 0 else found.mul_(0.937)


def blend(backend: str, arguments: dict[str, Any]) -> tuple[Tensor, Tensor]:
    # The interpreter computes with NumPy, which warns where infinity meets infinity.
    with sk.use_backend(backend), np.errstate(all="ignore"):
        return sk.poisson_blend(**arguments, return_status=True)


def check(dtype: torch.dtype, arguments: dict[str, Any]) -> tuple[Tensor, Tensor]:
    expected, status = blend("reference", arguments)
    out, found = blend("triton", arguments)
    assert torch.equal(found, status)
    atol = tolerance("poisson_blend", dtype)
    torch.testing.assert_close(out.double(), expected.double(), rtol=0, atol=atol)
    return out, found


@pytest.mark.parametrize("region", ["mask", "rect"])
def test_soft_masks_gains_and_regions(region: str) -> None:
    arguments = {
        "target": images(2, 8, 7, F32),
        "source": images(2, 6, 6, F32, seed=3),
        "mask": make_images(2, 1, 6, 6, seed=4)[:, 0],
        "top_left": torch.tensor([(1, 0), (3, 2)]),
        "gradient": torch.tensor([1, 0]),
        "source_gain": 0.7,
        "target_gain": torch.tensor([1.2, 1.0], dtype=torch.float64),
        "region": region,
        "solver": "sor",
        "tol": 1e-4,
    }
    check(F32, arguments)


def test_no_mask_and_resized_patches_from_a_bank() -> None:
    """Rectangles, one of which is the whole image."""
    arguments = {
        "target": images(2, 7, 6, F32),
        "source": images(3, 6, 6, F32, seed=3),
        "mask": None,
        "top_left": torch.tensor([(1, 1), (0, 0)]),
        "sizes": torch.tensor([(5, 4), (7, 6)]),
        "source_index": torch.tensor([2, 0]),
        "source_box": torch.tensor([(0, 1, 6, 3), (1, 1, 4, 5)]),
        "tol": 1e-4,
    }
    _, status = check(F32, arguments)
    assert status.tolist() == [0, 0]


def test_opencv() -> None:
    arguments = {
        "target": images(1, 13, 13, torch.uint8),
        "source": images(1, 11, 11, torch.uint8, seed=3),
        "mask": make_mask("disc", 11, 11)[None],
        "top_left": torch.tensor([(1, 1)]),
        "gradient": "mixed",
        "compat": "opencv",
    }
    check(torch.uint8, arguments)


def test_every_status() -> None:
    masks, rows, expected = blend_outcomes()
    target = images(len(masks), 13, 11, torch.uint8)
    source = images(len(masks), 8, 9, torch.uint8, seed=3)
    options = ("mask", "sor", 0.05, 0.0, 2000)
    results = []
    for backend in ("reference", "triton"):
        own = target.clone()
        with sk.use_backend(backend), np.errstate(all="ignore"):
            status = torch.ops.ssad_kernels.poisson_blend_(own, source, masks, *rows, *options)
        assert torch.equal(status, expected)
        untouched = status % 16 != 0
        assert torch.equal(own[untouched], target[untouched])
        results.append(own)
    assert (results[0].int() - results[1].int()).abs().max() <= 1


def test_a_solver_that_stops_leaves_the_sample() -> None:
    target, source = images(1, 6, 7, F32), images(1, 5, 5, F32, seed=3)
    rows = (torch.tensor([(0, 1)]), None, None, None, torch.tensor([0]), None, None)
    with sk.use_backend("triton"):
        options = ("mask", "sor", 1e-6, 0.0, 1)
        mask = make_mask("square", 5, 5)[None]
        out, status = torch.ops.ssad_kernels.poisson_blend(target, source, mask, *rows, *options)
    assert status.tolist() == [sk.Status.NOT_CONVERGED.value]
    assert same_bits(out, target)


def test_a_source_in_the_memory_of_the_target() -> None:
    target = images(1, 7, 6, F32)
    arguments = {
        "source": target[:, :, :4, :4],
        "mask": None,
        "top_left": torch.tensor([(2, 1)]),
        "tol": 1e-4,
    }
    expected, _ = blend("reference", {"target": target, **arguments})
    with sk.use_backend("triton"):
        sk.poisson_blend_(target, **arguments)
    torch.testing.assert_close(target, expected, rtol=0, atol=tolerance("poisson_blend", F32))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, F32, torch.float64])
def test_gradients_and_dtypes(dtype: torch.dtype) -> None:
    """Four gradients; patches that are whole, clipped, and as large as the image."""
    masks = torch.stack([make_mask(name, 5, 6) for name in ("disc", "noise", "square", "blobs")])
    arguments = {
        "target": images(4, 6, 6, dtype),
        "source": images(4, 5, 6, dtype, seed=3),
        "mask": masks,
        "top_left": torch.tensor([(1, 0), (-2, 3), (0, 0), (3, -2)]),
        "gradient": torch.arange(4),
        "solver": "sor",
        "tol": 1e-3 if dtype != torch.float64 else 1e-8,
    }
    out, status = check(dtype, arguments)
    assert status.tolist() == [0, 16, 0, 16]
    assert not torch.equal(out, arguments["target"])
