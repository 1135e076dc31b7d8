# SPDX-License-Identifier: Apache-2.0
"""Alpha blending against NumPy and torchvision's rule for resizing; threads, instruction sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssad_kernels import alpha_blend, use_backend
from ssad_kernels._errors import IMAGE_DTYPES
from ssad_kernels.testing import make_blend, make_images, same_bits, tolerance


def mixed_by_numpy(
    target: np.ndarray,
    patch: np.ndarray,
    mask: np.ndarray,
    top_left: tuple[int, int],
    alpha: float,
) -> np.ndarray:
    """An image (C, H, W) and a patch (C, h, w) in float64, by padding instead of clipping."""
    (top, left), margin = top_left, 40
    canvas = np.pad(target, ((0, 0), (margin, margin), (margin, margin)))
    h, w = patch.shape[1:]
    window = canvas[:, margin + top : margin + top + h, margin + left : margin + left + w]
    weight = alpha * np.clip(mask[:h, :w], 0.0, 1.0)
    window[:] = (1.0 - weight) * window + weight * patch
    return canvas[:, margin:-margin, margin:-margin]


@given(
    dtype=st.sampled_from(IMAGE_DTYPES),
    channels=st.integers(1, 4),
    sides=st.tuples(*[st.integers(1, 20)] * 4),
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    top_left=st.tuples(st.integers(-24, 20), st.integers(-24, 20)),
    is_resized=st.booleans(),
    alpha=st.floats(0.0, 1.0),
    kind=st.sampled_from(["none", "bool", "uint8", "float"]),
    seed=st.integers(0, 99),
)
def test_against_numpy(dtype, channels, sides, size, top_left, is_resized, alpha, kind, seed):
    height, width, source_h, source_w = sides
    target = make_images(1, channels, height, width, dtype=dtype, seed=seed)
    source = make_images(1, channels, source_h, source_w, dtype=dtype, seed=seed + 1)
    options: dict[str, Any] = {"alpha": alpha}
    patch = source[0].double().numpy()
    if is_resized:
        options["source_box"] = torch.tensor([[0, 0, source_h, source_w]])
        options["sizes"] = torch.tensor([size])
        patch = torch.nn.functional.interpolate(source.double(), size, mode="bilinear")[0].numpy()
    soft = make_images(1, 1, 24, 24, seed=seed + 2)[:, 0]
    masks = {"none": None, "bool": soft > 90, "uint8": soft, "float": soft.float() / 150 - 0.3}
    mask = masks[kind]
    weights = np.ones((24, 24))
    if mask is not None:
        weights = mask[0].double().numpy() / (255.0 if kind == "uint8" else 1.0)
    got = alpha_blend(target, source, mask, torch.tensor([top_left]), **options)
    want = mixed_by_numpy(target[0].double().numpy(), patch, weights, top_left, alpha)
    error = np.abs(got[0].double().numpy() - want).max()
    assert error <= (0.501 if dtype == torch.uint8 else tolerance("alpha_blend", dtype))


@pytest.mark.parametrize("dtype", IMAGE_DTYPES, ids=str)
@pytest.mark.parametrize("width", [31, 32, 33, 40, 63, 64, 65, 96, 100, 129])
def test_rows_longer_than_a_vector_are_mixed_once(width, dtype):
    """Vectors of bytes overlap at the end of a row."""
    target = make_images(1, 3, 5, width, dtype=dtype)
    source = make_images(1, 3, 5, width, dtype=dtype, seed=1)
    got = alpha_blend(target, source, None, torch.zeros(1, 2).long(), alpha=0.3)
    want = 0.7 * target.double() + 0.3 * source.double()
    bound = 0.501 if dtype == torch.uint8 else tolerance("alpha_blend", dtype)
    assert (got.double() - want).abs().max() <= bound


@pytest.mark.parametrize("alpha", [0.05, 0.5, 0.95, 1.0])
def test_the_results_of_the_released_code_are_rounded_down(alpha):
    problem = make_blend(dtype=torch.uint8)
    problem["mask"] = torch.ones_like(problem["mask"])
    got = alpha_blend(**problem, alpha=alpha, compat="reference")
    for i, place in enumerate(problem["top_left"].tolist()):
        arrays = [problem[name][i].double().numpy() for name in ("target", "source", "mask")]
        want = np.floor(mixed_by_numpy(*arrays, place, alpha) + 1e-9)
        difference = got[i].double().numpy() - want
        # An exact whole level may come out a rounding below it, in either arithmetic.
        assert (difference != 0).mean() < 0.01
        assert np.abs(difference).max() <= 1


def test_the_released_code_resizes_to_whole_levels():
    target = make_images(1, 3, 19, 17)
    source = make_images(1, 3, 8, 9, seed=1)
    options = {
        "source_box": torch.tensor([[0, 0, 8, 9]]),
        "sizes": torch.tensor([[11, 12]]),
    }
    place = torch.tensor([[3, 2]])
    got = alpha_blend(target, source, None, place, compat="reference", **options)
    whole = alpha_blend(target, source, None, place, **options)
    assert torch.equal(got, whole)
    mixed = alpha_blend(target, source, None, place, alpha=0.5, compat="reference", **options)
    window = (..., slice(3, 14), slice(2, 14))
    halves = (target[window].int() + whole[window].int()) // 2
    assert torch.equal(mixed[window].int(), halves)


@pytest.mark.native
def test_any_number_of_threads():
    problem = make_blend(n=12)
    problem["target"] = make_images(12, 3, 256, 256)
    problem["source"] = make_images(12, 3, 250, 250, seed=1)
    problem["mask"] = None
    found = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        with use_backend("cpu"):  # more than a millisecond of work
            found.append(alpha_blend(**problem, alpha=0.3))
    assert all(same_bits(out, found[0]) for out in found)


_LEVEL = """
import torch
from ssad_kernels import testing, use_backend
with use_backend("cpu"):
    found = [
        torch.ops.ssad_kernels.alpha_blend(*arguments)
        for arguments in testing.samples("alpha_blend").values()
    ]
torch.save(found, PATH)
"""


@pytest.mark.native
@pytest.mark.parametrize("level", ["avx2", "avx512"])
def test_instruction_sets_agree(level: str, at_level: Callable[[str, str], Any]):
    for found, expected in zip(at_level(_LEVEL, level), at_level(_LEVEL, "baseline"), strict=True):
        (got, status), (want, expected_status) = found, expected
        assert torch.equal(status, expected_status)
        atol = tolerance("alpha_blend", want.dtype)
        torch.testing.assert_close(got, want, rtol=0, atol=atol, equal_nan=True)
