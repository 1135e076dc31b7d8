# SPDX-License-Identifier: Apache-2.0
"""Receptive-field upsampling: published figures, oracles, promises and errors."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from ssad_kernels import receptive_field_upsample, use_backend
from ssad_kernels.testing import LAYOUTS, same_bits, samples, tolerance, with_layout

OP = "receptive_field_upsample"
FCDD: dict[str, Any] = {"kernel": 62, "stride": 8, "offset": 3.5}
CUTPASTE: dict[str, Any] = {"kernel": 32, "stride": 4, "offset": 15.5}


def gaussian(kernel: int, sigma: float) -> Any:
    """The kernel as FCDD builds it: an even one has its middle twice."""
    odd = kernel if kernel % 2 else kernel - 1
    taps = np.array([math.exp(-((i - odd // 2) ** 2) / (2 * sigma**2)) for i in range(odd)])
    return taps if kernel % 2 else np.insert(taps, odd // 2, taps[odd // 2]) / 2


def scatter(scores: Any, size: tuple[int, int], **geometry: Any) -> Any:
    """One kernel after the other, pixel by pixel, onto a canvas that is cropped at the end."""
    kernel, stride, offset, sigma = (geometry[k] for k in ("kernel", "stride", "offset", "sigma"))
    start = math.floor(offset) - (kernel - 1) // 2
    taps = gaussian(kernel, sigma)
    margin = kernel + abs(start) + stride * max(scores.shape)
    canvas = np.zeros([margin * 2 + side for side in size])
    for (v, u), score in np.ndenumerate(scores):
        y, x = (margin + start + stride * index for index in (v, u))
        canvas[y : y + kernel, x : x + kernel] += score * np.outer(taps, taps)
    return canvas[margin : margin + size[0], margin : margin + size[1]]


def fcdd(scores: Tensor, side: int, kernel: int, stride: int, offset: float, sigma: float) -> Any:
    """Transposed convolution, output padding and crop, in the words of FCDD."""
    taps = torch.from_numpy(gaussian(kernel, sigma)).to(scores.dtype)
    padding, shift = (kernel - 1) // 2, math.floor(offset)
    missing = side - (scores.shape[2] - 1) * stride - (1 if kernel % 2 else 2)
    weight = (taps[:, None] * taps)[None, None]
    full = functional.conv_transpose2d(scores, weight, stride=stride, output_padding=missing)
    return full[:, :, padding - shift : -(padding + shift), padding - shift : -(padding + shift)]


def test_the_peak_of_a_feature_lies_on_the_middle_of_its_field():
    scores = torch.zeros(1, 1, 28, 28)
    scores[0, 0, 14, 14] = 1
    heat = receptive_field_upsample(scores, 224, **FCDD, sigma=12)
    peak = (heat[0, 0] == heat.max()).nonzero().tolist()
    assert peak == [[115, 115], [115, 116], [116, 115], [116, 116]]  # 8 * 14 + 3.5
    assert float(heat.max()) == 0.25


@pytest.mark.parametrize(
    ("sigma", "total", "gain"), [(12, 236.4, 3.69), (10, 169.1, 2.64), (8, 110.8, 1.73)]
)
def test_a_constant_map_has_the_published_gain(sigma, total, gain):
    heat = receptive_field_upsample(torch.ones(1, 1, 28, 28), 224, **FCDD, sigma=sigma)
    middle = heat[0, 0, 96:128, 96:128]
    assert float(middle.mean()) == pytest.approx(gain, abs=0.006)
    one = receptive_field_upsample(
        torch.ones(1, 1, 1, 1), 62, kernel=62, stride=8, offset=30.5, sigma=sigma
    )
    assert float(one.sum()) == pytest.approx(total, abs=0.05)


def test_the_kernel_of_the_patch_model():
    """57 x 57 windows make 256 x 256 pixels without a crop; the default sigma is 10."""
    one = receptive_field_upsample(torch.ones(1, 1, 1, 1), 32, **CUTPASTE)
    assert float(one.max()) == 0.25
    assert float(one.sum()) == pytest.approx(132.637, abs=1e-3)
    heat = receptive_field_upsample(torch.ones(1, 1, 57, 57), 256, **CUTPASTE)
    assert heat.shape == (1, 1, 256, 256)
    assert float(heat.min()) > 0
    assert float(heat[0, 0, 0, 0]) < 0.01 * float(heat[0, 0, 128, 128])  # few kernels reach it


def test_default_sigma():
    small = {kernel: math.log10(0.45 * kernel + 1) + 0.25 for kernel in (1, 9, 31)}
    for kernel, sigma in {**small, 32: 10.0, 63: 10.0}.items():
        scores = torch.rand(1, 1, 5, 5)
        found = receptive_field_upsample(scores, 40, kernel=kernel, stride=5, offset=1)
        options = {"kernel": kernel, "stride": 5, "offset": 1}
        expected = receptive_field_upsample(scores, 40, **options, sigma=sigma)
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("features", "side", "geometry"),
    [
        (28, 224, {**FCDD, "sigma": 12.0}),
        (57, 256, {**CUTPASTE, "sigma": 10.0}),
        (28, 224, {"kernel": 59, "stride": 8, "offset": 0.0, "sigma": 8.0}),
        (8, 32, {"kernel": 16, "stride": 4, "offset": 1.5, "sigma": 1.2}),
        (16, 32, {"kernel": 9, "stride": 2, "offset": 0.0, "sigma": 1.2}),
    ],
)
def test_fcdd_formulation(features, side, geometry):
    scores = torch.rand(2, 1, features, features, dtype=torch.float64)
    is_uncropped = geometry == {**CUTPASTE, "sigma": 10.0}
    if is_uncropped:
        taps = torch.from_numpy(gaussian(32, 10.0))
        expected = functional.conv_transpose2d(scores, (taps[:, None] * taps)[None, None], stride=4)
    else:
        expected = fcdd(scores, side, **geometry)
    assert expected.shape[2:] == (side, side)
    found = receptive_field_upsample(scores, side, **geometry)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    single = receptive_field_upsample(scores.float(), side, **geometry)
    torch.testing.assert_close(single, expected.float(), rtol=1e-5, atol=1e-7)


geometries = st.fixed_dictionaries(
    {
        "kernel": st.integers(1, 40),
        "stride": st.integers(1, 9),
        "offset": st.integers(-60, 60).map(lambda value: value / 2),
        "sigma": st.floats(0.3, 20.0),
    }
)


@given(st.integers(1, 12), st.integers(1, 40), st.integers(1, 50), st.integers(1, 90), geometries)
def test_any_geometry(h, w, height, width, geometry):
    generator = torch.Generator().manual_seed(h * w)
    scores = torch.randn(1, 1, h, w, generator=generator, dtype=torch.float64)
    found = receptive_field_upsample(scores, (height, width), **geometry)
    expected = scatter(scores[0, 0].numpy(), (height, width), **geometry)
    np.testing.assert_allclose(found[0, 0].numpy(), expected, rtol=0, atol=1e-11)


@given(st.integers(1, 12), st.integers(1, 30), st.integers(1, 60), geometries)
def test_normalised_maps_are_weighted_means(features, h, w, geometry):
    scores = torch.rand(1, 1, features, features + 3, dtype=torch.float64)
    found = receptive_field_upsample(scores, (h, w), **geometry, normalise=True)
    plain = receptive_field_upsample(scores, (h, w), **geometry)
    ones = receptive_field_upsample(torch.ones_like(scores), (h, w), **geometry)
    is_reached = ones > 0
    assert torch.equal(found[~is_reached], torch.zeros_like(found[~is_reached]))
    near = found[ones > 1e-250]
    torch.testing.assert_close(near, (plain / ones)[ones > 1e-250], rtol=1e-9, atol=0)
    assert bool(((found >= 0) & (found <= 1 + 1e-12)).all())


def test_where_no_kernel_reaches():
    options: dict[str, Any] = {"kernel": 3, "stride": 8, "offset": 9}
    for normalise in (False, True):
        heat = receptive_field_upsample(torch.ones(1, 1, 2, 2), 30, **options, normalise=normalise)
        rows = heat[0, 0].any(1).nonzero().flatten().tolist()
        assert rows == [8, 9, 10, 16, 17, 18]
        assert bool(heat.isfinite().all())
        if normalise:
            torch.testing.assert_close(heat[heat > 0], torch.ones(36))


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("features", "size", "kernel", "stride", "sigma"),
    [(2, 154, 77, 77, 1.0), (1, 800, 800, 32, None), (24, 120, 97, 1, 1.2)],
)
def test_normalised_where_the_gaussian_is_subnormal(
    backend, dtype, features, size, kernel, stride, sigma
):
    scores = torch.ones(1, 1, features, features, dtype=dtype, requires_grad=True)
    options: dict[str, Any] = {"kernel": kernel, "stride": stride, "offset": (kernel - 1) / 2}
    with use_backend(backend):
        heat = receptive_field_upsample(scores, size, **options, sigma=sigma, normalise=True)
        (gradient,) = torch.autograd.grad(heat.square().sum(), scores)
    assert bool(gradient.isfinite().all())
    one = torch.ones((), dtype=dtype)
    torch.testing.assert_close(heat[heat != 0], one.expand(int(heat.count_nonzero())))
    assert 0 < int(heat.count_nonzero()) < heat.numel()  # what is too far off has no value


def test_an_even_kernel_lies_half_a_pixel_on():
    heats = [
        receptive_field_upsample(torch.ones(1, 1, 1, 1), 9, kernel=4, stride=1, offset=offset)
        for offset in (3.0, 3.5, 3.9)
    ]
    assert (heats[0] == heats[0].max()).nonzero()[:, 2:].tolist() == [
        [3, 3],
        [3, 4],
        [4, 3],
        [4, 4],
    ]
    assert torch.equal(heats[0], heats[1])
    assert torch.equal(heats[0], heats[2])


def test_axes_of_their_own():
    scores = torch.randn(2, 1, 6, 6, dtype=torch.float64)
    heat = receptive_field_upsample(
        scores, (31, 50), kernel=(9, 12), stride=(5, 8), offset=(1, 2.5), sigma=(2, 3)
    )
    rows = receptive_field_upsample(
        scores, (31, 6), kernel=(9, 1), stride=(5, 1), offset=(1, 0), sigma=2
    )
    both = receptive_field_upsample(
        rows, (31, 50), kernel=(1, 12), stride=(1, 8), offset=(0, 2.5), sigma=3
    )
    torch.testing.assert_close(heat, both, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("kernel", [5, 6])
def test_gradients(kernel, normalise):
    scores = torch.randn(2, 1, 4, 5, dtype=torch.float64, requires_grad=True)

    def function(scores: Tensor) -> Tensor:
        options: dict[str, Any] = {"kernel": kernel, "stride": 3, "offset": 1, "sigma": 1.3}
        return receptive_field_upsample(scores, (9, 17), **options, normalise=normalise)

    assert torch.autograd.gradcheck(function, scores)
    assert torch.autograd.gradgradcheck(function, scores)


def test_the_gradient_is_the_adjoint():
    """<A s, g> = <s, Aᵀ g>, in float32 at the size of a model."""
    scores = torch.rand(2, 1, 57, 57, requires_grad=True)
    pixels = torch.rand(2, 1, 256, 256)
    heat = receptive_field_upsample(scores, 256, **CUTPASTE)
    (gradient,) = torch.autograd.grad(heat, scores, pixels)
    left, right = (
        (heat.detach().double() * pixels).sum(),
        (scores.detach().double() * gradient).sum(),
    )
    assert float(left) == pytest.approx(float(right), rel=1e-6)


@pytest.mark.parametrize("is_adjoint", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_alone_in_a_batch_and_in_any_layout(dtype, is_adjoint):
    call = getattr(torch.ops.ssad_kernels, OP)
    scores = torch.randn(7, 2, 23, 29, dtype=torch.float64).to(dtype)
    rest = ((61, 90), (9, 12), (3, 4), (-4, -5), (2.0, 3.0), True, is_adjoint)
    expected = call(scores, *rest)
    alone = torch.cat([call(scores[i : i + 1], *rest) for i in range(7)])
    assert same_bits(alone, expected)
    for layout in LAYOUTS[1:]:
        assert same_bits(call(with_layout(scores, layout), *rest), expected)
    spread = scores[:1, :1].expand(3, 2, 23, 29)
    assert same_bits(call(spread, *rest)[2, 1], expected[0, 0])


def test_any_number_of_threads():
    """On batches for which two and more threads really start."""
    scores = torch.randn(24, 1, 57, 57, requires_grad=True)
    found = set()
    for threads in (1, 2, 3, 16):
        torch.set_num_threads(threads)
        heat = receptive_field_upsample(scores, 256, **CUTPASTE)
        (gradient,) = torch.autograd.grad(heat.square().sum(), scores)
        both = heat.detach().numpy().tobytes() + gradient.numpy().tobytes()
        found.add(hashlib.sha256(both).hexdigest())
    assert len(found) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kernel", [8, 9])
def test_what_is_not_finite_stays_in_its_field(kernel, bad):
    scores = torch.rand(3, 1, 12, 12)
    options: dict[str, Any] = {"kernel": kernel, "stride": 4, "offset": 1}
    expected = receptive_field_upsample(scores, 50, **options)
    scores[1, 0, 5, 7] = bad
    for backend in ("auto", "reference"):
        with use_backend(backend):
            found = receptive_field_upsample(scores, 50, **options)
        start = 1 - (kernel - 1) // 2
        field = torch.zeros(3, 1, 50, 50, dtype=torch.bool)
        y, x = start + 4 * 5, start + 4 * 7
        field[1, 0, y : y + kernel, x : x + kernel] = True
        assert torch.equal(~found.isfinite(), field)
        torch.testing.assert_close(found[~field], expected[~field], rtol=0, atol=1e-5)


_LEVELS = f"""
import torch
from ssad_kernels.testing import samples
call = torch.ops.ssad_kernels.{OP}
torch.save([call(*args) for args in samples("{OP}").values()], PATH)
"""


@pytest.mark.native
@pytest.mark.parametrize("level", ["avx2", "avx512"])
def test_any_instruction_set(level: str, at_level: Callable[[str, str], Any]):
    rows = zip(samples(OP), at_level(_LEVELS, level), at_level(_LEVELS, "baseline"), strict=True)
    for name, found, expected in rows:
        atol = tolerance(OP, expected.dtype)
        torch.testing.assert_close(
            found,
            expected,
            rtol=0,
            atol=atol,
            equal_nan=True,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def test_it_compiles_to_one_graph():
    def function(scores: Tensor) -> Tensor:
        height, width = scores.shape[2] * 4, scores.shape[3] * 4
        return receptive_field_upsample(scores, (height, width), kernel=8, stride=4, offset=1.5)

    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for h in (5, 8):
        scores = torch.rand(2, 1, h, 7, requires_grad=True)
        found, expected = compiled(scores), function(scores)
        assert torch.equal(found, expected)
        grads = [torch.autograd.grad(heat.sum(), scores)[0] for heat in (found, expected)]
        assert torch.equal(*grads)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"scores": [1.0]}, TypeError, "`scores` must be a tensor, got list"),
        (
            {"scores": torch.zeros(1, 1, 4, 4, dtype=torch.uint8)},
            TypeError,
            "`scores` must have dtype float16 or bfloat16 or float32 or float64, got uint8",
        ),
        (
            {"scores": torch.zeros(4, 4)},
            ValueError,
            "`scores` must have shape (N, C, H, W), got (4, 4)",
        ),
        (
            {"scores": torch.zeros(1, 5, 4, 4)},
            ValueError,
            "`scores` must have 1 to 4 channels, (N, C, H, W), got (1, 5, 4, 4)",
        ),
        ({"size": 0}, ValueError, "`size` must be at least 1 and below 2²⁴, got 0"),
        (
            {"size": (8, 1 << 24)},
            ValueError,
            "`size` must be at least 1 and below 2²⁴, got 16777216",
        ),
        ({"size": 8.0}, TypeError, "`size` must be an integer or a pair of them, got 8.0"),
        (
            {"size": (8, 8, 8)},
            TypeError,
            "`size` must be an integer or a pair of them, got (8, 8, 8)",
        ),
        ({"kernel": 0}, ValueError, "`kernel` must be in 1...8192, got 0"),
        ({"kernel": (3, 8193)}, ValueError, "`kernel` must be in 1...8192, got 8193"),
        ({"stride": -1}, ValueError, "`stride` must be in 1...8192, got -1"),
        ({"stride": "4"}, TypeError, "`stride` must be an integer or a pair of them, got '4'"),
        ({"offset": math.nan}, ValueError, "`offset` must lie within ±2²⁴, got nan"),
        ({"offset": (0.0, 1e9)}, ValueError, "`offset` must lie within ±2²⁴, got 1000000000.0"),
        ({"offset": None}, TypeError, "`offset` must be a number or a pair of them, got None"),
        ({"sigma": 0.0}, ValueError, "`sigma` must be finite and > 0, got 0.0"),
        ({"sigma": math.inf}, ValueError, "`sigma` must be finite and > 0, got inf"),
        ({"sigma": "1"}, TypeError, "`sigma` must be a number or a pair of them, got '1'"),
    ],
)
def test_errors(change, error, text):
    arguments: dict[str, Any] = {
        "scores": torch.zeros(1, 1, 4, 4),
        "size": 16,
        "kernel": 8,
        "stride": 4,
        "offset": 1.5,
    }
    with pytest.raises(error, match=f"^{re.escape(f'{OP}: {text}')}$"):
        receptive_field_upsample(**{**arguments, **change})
