# SPDX-License-Identifier: Apache-2.0
"""Similarity of gradient magnitudes and of structure: gradients, promises and errors."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ssad_kernels import gms_loss, gms_map, ssim_map, use_backend
from ssad_kernels.testing import LAYOUTS, make_images, same_bits, samples, tolerance, with_layout

OPS = ("gms_loss", "gms_loss_backward", "gms_map", "ssim_map", "ssim_map_backward")
FUNCTIONS = {"gms_map": gms_map, "gms_loss": gms_loss, "ssim_map": ssim_map}
OPTIONS: dict[str, tuple[Any, ...]] = {"gms": (4, 0.0026), "ssim": (11, 1.5)}


def make_pair(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Images, and others a little unlike them."""
    images, other = (make_images(*shape, dtype=torch.float64, seed=seed) for seed in (0, 1))
    pair = images, 0.8 * images + 0.2 * other
    if dtype == torch.uint8:
        return pair[0].mul(255).round().to(dtype), pair[1].mul(255).round().to(dtype)
    return pair[0].to(dtype), pair[1].to(dtype)


def outputs(images: Tensor, references: Tensor) -> list[Tensor]:
    """Maps, losses and, of floats, their gradients."""
    found = [call(images, references) for call in FUNCTIONS.values()]
    if images.dtype.is_floating_point:
        pair = images.clone().requires_grad_(), references.clone().requires_grad_()
        for call in (gms_loss, ssim_map):
            value = call(*pair)
            weights = torch.linspace(-1, 1, value[0].numel()).reshape(value.shape[1:]).to(value)
            found += torch.autograd.grad((value * weights).sum(), pair)
    return found


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("call", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_equal_images_are_exactly_alike(call, dtype, backend):
    images = make_images(2, 3, 41, 67, dtype=dtype)
    images[1, :, 5:25, 7:30] = 0  # flat
    with use_backend(backend):
        found = call(images, images.clone())
    assert torch.equal(found, torch.full_like(found, 0.0 if call is gms_loss else 1.0))


@pytest.mark.parametrize("call", FUNCTIONS.values(), ids=FUNCTIONS)
def test_either_may_come_first(call):
    pair = make_pair(2, 3, 40, 50)
    torch.testing.assert_close(call(*pair), call(*reversed(pair)), rtol=0, atol=1e-6)


def test_the_map_averages_what_the_loss_sums_up_where_nothing_is_resized():
    """In the middle of slowly changing images both are nearly the same."""
    pair = make_pair(1, 1, 96, 96, dtype=torch.float64)
    one = gms_map(*pair, scales=1)
    assert float(1 - one.mean()) == pytest.approx(float(gms_loss(*pair, scales=1)), rel=0.05)


def test_uint8_is_of_255():
    levels = make_pair(2, 3, 37, 41, dtype=torch.uint8)
    floats = tuple(one / 255 for one in levels)
    for call in FUNCTIONS.values():
        torch.testing.assert_close(call(*levels), call(*floats), rtol=0, atol=2e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("side", "scales"), [((8, 7), 1), ((14, 17), 2), ((25, 24), 4)])
def test_gradients_of_gms(channels, side, scales):
    generator = torch.Generator().manual_seed(0)
    shape = (2, 1, channels, *side)  # without equal pixels, at which medians have no derivative
    pair = torch.rand(shape, generator=generator, dtype=torch.float64).unbind()
    leaves = tuple(one.clone().requires_grad_() for one in pair)

    def function(images: Tensor, references: Tensor) -> Tensor:
        return gms_loss(images, references, scales=scales, c=0.05)

    assert torch.autograd.gradcheck(function, leaves, eps=1e-7, atol=1e-6)


@pytest.mark.parametrize(("window", "sigma"), [(1, 1.0), (3, 0.8), (11, 1.5)])
def test_gradients_of_ssim(window, sigma):
    pair = tuple(one.requires_grad_() for one in make_pair(1, 2, 9, 14, dtype=torch.float64))

    def function(images: Tensor, references: Tensor) -> Tensor:
        return ssim_map(images, references, window=window, sigma=sigma)

    assert torch.autograd.gradcheck(function, pair, atol=1e-6)


@pytest.mark.parametrize("call", [gms_loss, ssim_map])
def test_there_is_no_second_derivative(call):
    images, references = make_pair(1, 1, 24, 24)
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(call(images, references).sum(), images, create_graph=True)
    with pytest.raises(NotImplementedError, match=r"have no second derivative$"):
        gradient.sum().backward()


def test_gradients_in_half_precision_are_of_that_dtype():
    for dtype in (torch.float16, torch.bfloat16):
        images, references = make_pair(1, 3, 24, 24, dtype=dtype)
        images.requires_grad_()
        loss = gms_loss(images, references).sum() + ssim_map(images, references).mean()
        assert loss.dtype == torch.float32
        loss.backward()
        assert images.grad is not None
        assert images.grad.dtype == dtype


@pytest.mark.native
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.float64])
def test_alone_in_a_batch_and_in_any_layout(dtype):
    pair = make_pair(5, 3, 61, 43, dtype=dtype)
    expected = outputs(*pair)
    alone = [outputs(*(one[i : i + 1] for one in pair)) for i in range(5)]
    for rows, whole in zip(zip(*alone, strict=True), expected, strict=True):
        assert same_bits(torch.cat(rows), whole)
    for layout in LAYOUTS[1:]:
        moved = outputs(with_layout(pair[0], layout), pair[1])
        assert all(same_bits(a, b) for a, b in zip(moved, expected, strict=True))
    spread = tuple(one[:1].expand(3, 3, 61, 43) for one in pair)
    assert all(same_bits(a[2], b[0]) for a, b in zip(outputs(*spread), expected, strict=True))


@pytest.mark.native
def test_any_number_of_threads():
    """On batches for which two and more threads really start; one image has several bands."""
    for pair in (make_pair(6, 3, 160, 160), make_pair(1, 3, 1100, 270)):
        found = []
        for threads in (1, 2, 3, 16):
            torch.set_num_threads(threads)
            found.append(outputs(*pair))
        for other in found[1:]:
            assert all(same_bits(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("height", [255, 256, 511, 512, 513, 767])
def test_bands_of_large_images_leave_no_trace(height):
    pair = make_pair(1, 1, height, 200, dtype=torch.float64)
    found = outputs(*pair)
    with use_backend("reference"):
        expected = outputs(*pair)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_what_is_not_finite_stays_in_its_neighbourhood(bad, backend):
    images, references = make_pair(3, 3, 64, 80)
    with use_backend(backend):
        expected = outputs(images, references)
        images[1, 2, 30, 40] = bad
        found = outputs(images, references)
    for i in (0, 2):
        assert all(same_bits(a[i], b[i]) for a, b in zip(found, expected, strict=True))
    similarity, loss, structure = (one[1] for one in found[:3])
    assert loss.isnan()
    window = torch.zeros(64, 80, dtype=torch.bool)
    window[25:36, 35:46] = True
    assert torch.equal(structure[2].isnan(), window)
    assert not structure[:2].isnan().any()
    # 5 x 5 pixels of each scale, and what is resized of them.
    rows, columns = (similarity[0].isnan().nonzero().unbind(1)[k] for k in (0, 1))
    assert {28, 32} <= set(rows.tolist())
    assert rows.min() >= 30 - 8 * 5
    assert rows.max() <= 30 + 8 * 5
    assert columns.min() >= 40 - 8 * 5
    assert columns.max() <= 40 + 8 * 5
    with use_backend("reference"):
        again = gms_map(images, references)
    assert torch.equal(found[0].isnan(), again.isnan())
    one = gms_map(images, references, scales=1)[1, 0].isnan()
    assert one[28:33, 38:43].all()
    assert not one[:27].any()
    assert not one[35:].any()
    assert not one[:, :37].any()
    assert not one[:, 45:].any()


_LEVELS = f"""
import torch
from ssad_kernels.testing import samples
calls = {{op: getattr(torch.ops.ssad_kernels, op) for op in {OPS}}}
torch.save([call(*args) for op, call in calls.items() for args in samples(op).values()], PATH)
"""


@pytest.mark.native
@pytest.mark.parametrize("level", ["avx2", "avx512"])
def test_any_instruction_set(level: str, at_level: Callable[[str, str], Any]):
    names = [(op, name) for op in OPS for name in samples(op)]
    rows = zip(names, at_level(_LEVELS, level), at_level(_LEVELS, "baseline"), strict=True)
    for (op, name), found, expected in rows:
        torch.testing.assert_close(
            found,
            expected,
            rtol=0,
            atol=tolerance(op, expected.dtype),
            msg=lambda text, name=name, op=op: f"{op}, {name}: {text}",
        )


def test_losses_compile_to_one_graph():
    def function(images: Tensor, references: Tensor) -> Tensor:
        structure = ssim_map(images, references)
        similarity = gms_map(images.detach(), references)
        loss: Tensor = (
            gms_loss(images, references).sum() + (1 - structure).mean() + similarity.sum()
        )
        return loss

    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for side in (24, 31):
        images, references = make_pair(2, 3, side, 28)
        images.requires_grad_()
        found, expected = compiled(images, references), function(images, references)
        assert torch.equal(found, expected)
        gradients = [torch.autograd.grad(loss, images)[0] for loss in (found, expected)]
        assert torch.equal(*gradients)


IMAGES = torch.zeros(2, 3, 24, 32)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"images": [1.0]}, TypeError, "`images` must be a tensor, got list"),
        ({"references": None}, TypeError, "`references` must be a tensor, got NoneType"),
        (
            {"images": IMAGES.int()},
            TypeError,
            "`images` must have dtype uint8 or float16 or bfloat16 or float32 or float64, got "
            "int32",
        ),
        (
            {"references": IMAGES.half()},
            TypeError,
            "`references` must have dtype float32, got float16",
        ),
        (
            {"images": IMAGES[0]},
            ValueError,
            "`images` must have shape (N, C, H, W), got (3, 24, 32)",
        ),
        (
            {"references": IMAGES[:, :1]},
            ValueError,
            "`references` must have shape (2, 3, 24, 32), got (2, 1, 24, 32)",
        ),
        (
            {"references": IMAGES.to("meta")},
            ValueError,
            "`references` must be on device cpu, got meta",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_of_pairs(name, change, error, text):
    with pytest.raises(error, match=f"^{re.escape(f'{name}: {text}')}$"):
        FUNCTIONS[name](**{"images": IMAGES, "references": IMAGES, **change})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"scales": 0}, "`scales` must be in 1...8, got 0"),
        ({"scales": 9}, "`scales` must be in 1...8, got 9"),
        ({"c": 1e-13}, "`c` must be in 1e-12...1e6, got 1e-13"),
        ({"c": 1e39}, "`c` must be in 1e-12...1e6, got 1e+39"),
        ({"c": math.nan}, "`c` must be in 1e-12...1e6, got nan"),
        (
            {"scales": 5},
            "`images` must have sides of at least 48 pixels for 5 scales, (N, C, H, W), got "
            "(2, 3, 24, 32)",
        ),
    ],
)
@pytest.mark.parametrize("name", ["gms_map", "gms_loss"])
def test_errors_of_gms(name, change, text):
    with pytest.raises(ValueError, match=f"^{re.escape(f'{name}: {text}')}$"):
        FUNCTIONS[name](IMAGES, IMAGES, **change)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"window": 10}, "`window` must be odd and in 1...63, got 10"),
        ({"window": -1}, "`window` must be odd and in 1...63, got -1"),
        ({"window": 65}, "`window` must be odd and in 1...63, got 65"),
        ({"sigma": 1e-200}, "`sigma` must be in 1e-3...1e6, got 1e-200"),
        ({"sigma": 1e200}, "`sigma` must be in 1e-3...1e6, got 1e+200"),
        ({"sigma": math.nan}, "`sigma` must be in 1e-3...1e6, got nan"),
    ],
)
def test_errors_of_ssim(change, text):
    with pytest.raises(ValueError, match=f"^{re.escape(f'ssim_map: {text}')}$"):
        ssim_map(IMAGES, IMAGES, **change)


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_limits_of_numbers(backend):
    pair = make_pair(2, 3, 24, 32)
    images = pair[0].clone().requires_grad_()
    with use_backend(backend):
        for c in (1e-12, 1e6):
            (gradient,) = torch.autograd.grad(gms_loss(images, pair[1], c=c).sum(), images)
            assert gradient.isfinite().all()
            assert gradient.any()
        one, alike = (ssim_map(*pair, window=3, sigma=sigma) for sigma in (1e-3, 1e6))
        torch.testing.assert_close(one, ssim_map(*pair, window=1))
    s, d = (sum(pair), pair[0] - pair[1])

    def mean(values):
        return torch.nn.functional.avg_pool2d(values, 3, 1, 1)

    b1 = (mean(s) ** 2 + mean(d) ** 2) / 2 + 1e-4
    b2 = (mean(s * s) - mean(s) ** 2 + mean(d * d) - mean(d) ** 2) / 2 + 9e-4
    expected = (1 - mean(d) ** 2 / b1) * (1 - (mean(d * d) - mean(d) ** 2) / b2)
    torch.testing.assert_close(alike, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_images_that_do_not_fit_32_bits(name):
    images = torch.empty(1, 1, 1 << 16, 1 << 15, dtype=torch.uint8, device="meta")
    text = f"{name}: `images` must have fewer than 2³¹ pixels, (N, C, H, W), got "
    with pytest.raises(ValueError, match=re.escape(text)):
        FUNCTIONS[name](images, images)


def test_a_map_of_what_is_trained_names_the_loss():
    images = IMAGES.clone().requires_grad_()
    message = "gms_map: `references` must not require a gradient (gms_loss has one), got True"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        gms_map(IMAGES, images)
    with torch.no_grad():
        assert gms_map(images, IMAGES).min() == 1
