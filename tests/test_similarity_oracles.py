# SPDX-License-Identifier: Apache-2.0
"""Similarity maps against SciPy, torch compositions of the papers' code, and torchmetrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from ssad_kernels import gms_loss, gms_map, ssim_map

ndimage = pytest.importorskip("scipy.ndimage")

EPSILON = 2.220446049250313e-16


def make_pair(n: int, c: int, h: int, w: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Smooth images with edges and noise, and reconstructions that miss some of it."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, c, 4, 5, generator=generator, dtype=torch.float64)
    images = functional.interpolate(coarse, (h, w), mode="bilinear")
    images[..., h // 2 :, w // 3 :] *= 0.5
    noise = torch.randn(images.shape, generator=generator, dtype=torch.float64)
    return (images + 0.05 * noise).clamp(0, 1), (0.9 * images).clamp(0, 1)


def slopes(grey: Any) -> Any:
    """Gradient magnitudes of a grey image where Prewitt's windows are inside."""
    median = ndimage.median_filter(grey, size=3, mode="constant", cval=0.0)
    squares = [ndimage.prewitt(median, axis=axis, mode="constant") ** 2 / 9 for axis in (0, 1)]
    return np.sqrt(sum(squares) + EPSILON)[1:-1, 1:-1]


def halved(image: Any) -> Any:
    c, h, w = image.shape
    even = image[:, : h // 2 * 2, : w // 2 * 2]
    return even.reshape(c, h // 2, 2, w // 2, 2).mean((2, 4))


def resized(values: Any, h: int, w: int) -> Any:
    """Bilinear, pixel by pixel."""
    found = np.empty((h, w))
    for y, x in np.ndindex(h, w):
        place = []
        for at, out, size in ((y, h, values.shape[0]), (x, w, values.shape[1])):
            position = max((at + 0.5) * size / out - 0.5, 0.0)
            low = min(int(position), size - 1)
            place.append((low, min(low + 1, size - 1), position - low))
        (top, bottom, v), (left, right, u) = place
        up = (1 - u) * values[top, left] + u * values[top, right]
        down = (1 - u) * values[bottom, left] + u * values[bottom, right]
        found[y, x] = (1 - v) * up + v * down
    return found


def scales_of(image: Any, other: Any, scales: int, c: float) -> list[Any]:
    """The similarity map of each scale."""
    found = []
    for _ in range(scales):
        a, b = slopes(image.mean(0)), slopes(other.mean(0))
        found.append((2 * a * b + c) / (a**2 + b**2 + c))
        image, other = halved(image), halved(other)
    return found


@pytest.mark.parametrize(
    ("shape", "scales", "c"),
    [
        ((2, 3, 37, 50), 4, 0.0026),
        ((1, 1, 24, 24), 4, 0.0026),
        ((2, 4, 29, 31), 3, 0.01),
        ((1, 2, 19, 4), 1, 0.0026),
        ((1, 3, 3, 3), 1, 0.0026),
    ],
)
def test_gms_against_scipy(shape, scales, c):
    pair = make_pair(*shape)
    found, loss = gms_map(*pair, scales=scales, c=c), gms_loss(*pair, scales=scales, c=c)
    single = gms_map(*(one.float() for one in pair), scales=scales, c=c)
    assert found.shape == (shape[0], 1, *shape[2:])
    for i, (image, other) in enumerate(zip(*(one.numpy() for one in pair), strict=True)):
        maps = scales_of(image, other, scales, c)
        expected = sum(resized(one, *shape[2:]) for one in maps) / scales
        np.testing.assert_allclose(found[i, 0].numpy(), expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(single[i, 0].numpy(), expected, rtol=0, atol=1e-5)
        lacking = np.mean([1 - one.mean() for one in maps])
        assert float(loss[i]) == pytest.approx(lacking, rel=1e-11)


def gms_of_torch(
    images: Tensor, references: Tensor, scales: int, c: float
) -> tuple[Tensor, Tensor]:
    """Map and loss as SSM's code has them; of equal pixels the first one is the median."""
    height, width = images.shape[2:]
    total, loss = torch.zeros(()), torch.zeros(())
    prewitt = images.new_tensor([[1.0, 0.0, -1.0]] * 3) / 3
    kernels = torch.stack([prewitt, prewitt.T])[:, None]
    for s in range(scales):
        if s:
            images, references = (functional.avg_pool2d(one, 2) for one in (images, references))
        n, _, h, w = images.shape
        both = []
        for one in (images, references):
            windows = functional.unfold(one.mean(1, keepdim=True), 3, padding=1)
            is_median = windows == windows.median(1, keepdim=True).values
            first = is_median.int().argmax(1, keepdim=True)
            median = windows.gather(1, first).view(n, 1, h, w)
            both.append((functional.conv2d(median, kernels).square().sum(1) + EPSILON).sqrt())
        a, b = both
        similarity = (2 * a * b + c) / (a * a + b * b + c)
        loss = loss + (1 - similarity).mean((1, 2)) / scales
        resized = functional.interpolate(similarity[:, None], (height, width), mode="bilinear")
        total = total + resized / scales
    return total, loss


@given(
    shape=st.tuples(
        st.integers(1, 2), st.integers(1, 4), st.integers(3, 70), st.integers(3, 70)
    ),
    scales=st.integers(1, 5),
    c=st.floats(1e-4, 1.0),
    levels=st.sampled_from([1 << 40, 64, 2]),  # few: most windows have equal pixels
    seed=st.integers(0, 99),
)  # fmt: skip
def test_gms_and_its_gradient_against_torch(shape, scales, c, levels, seed):
    while min(shape[2:]) < 3 << (scales - 1):
        scales -= 1
    generator = torch.Generator().manual_seed(seed)
    # The mean of unequal channels is rounded, here and there, to what is equal for one alone.
    drawn = (2, shape[0], shape[1] if levels > 64 else 1, *shape[2:])
    greys = torch.randint(levels, drawn, generator=generator).double() / levels
    pair = greys.expand(2, *shape).unbind()
    weights = torch.rand(shape[0], generator=generator, dtype=torch.float64)
    leaves = [one.clone().requires_grad_() for one in pair]
    similarity, loss = gms_of_torch(*leaves, scales, c)
    torch.testing.assert_close(gms_map(*pair, scales=scales, c=c), similarity, rtol=0, atol=1e-11)
    expected = torch.autograd.grad((loss * weights).sum(), leaves)
    found = gms_loss(*leaves, scales=scales, c=c)
    torch.testing.assert_close(found, loss, rtol=1e-10, atol=1e-12)
    gradients = torch.autograd.grad((found * weights).sum(), leaves)
    torch.testing.assert_close(gradients, expected, rtol=1e-7, atol=1e-7)


def ssim_of_torch(images: Tensor, references: Tensor, window: int, sigma: float) -> Tensor:
    """As the papers' code has it: five convolutions with a square window."""
    at = torch.arange(window, dtype=images.dtype) - window // 2
    taps = torch.exp(-(at**2) / (2 * sigma**2))
    taps = taps / taps.sum()
    channels = images.shape[1]
    weight = (taps[:, None] * taps).expand(channels, 1, window, window)
    a, b, aa, bb, ab = (
        functional.conv2d(one, weight, padding=window // 2, groups=channels)
        for one in (images, references, images**2, references**2, images * references)
    )
    top = (2 * a * b + 0.01**2) * (2 * (ab - a * b) + 0.03**2)
    return top / ((a**2 + b**2 + 0.01**2) * (aa - a**2 + bb - b**2 + 0.03**2))


@given(
    shape=st.tuples(
        st.integers(1, 2), st.integers(1, 4), st.integers(1, 90), st.integers(1, 90)
    ),
    half=st.integers(0, 8),
    sigma=st.floats(0.3, 5.0),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_ssim_and_its_gradient_against_torch(shape, half, sigma, seed):
    window = 2 * half + 1
    pair = make_pair(*shape, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(shape, generator=generator, dtype=torch.float64) - 0.3
    leaves = [one.clone().requires_grad_() for one in pair]
    expected, found = ssim_of_torch(*leaves, window, sigma), ssim_map(
        *leaves, window=window, sigma=sigma
    )  # fmt: skip
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    gradients = [torch.autograd.grad((one * weights).sum(), leaves) for one in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-7)
    single = ssim_map(*(one.float() for one in pair), window=window, sigma=sigma)
    torch.testing.assert_close(single.double(), found.detach(), rtol=0, atol=1e-3)


def test_ssim_against_torchmetrics():
    """Beyond the image it has mirrored pixels where we have zeros."""
    image = pytest.importorskip("torchmetrics.functional.image")
    pair = make_pair(2, 3, 40, 53)
    _, full = image.structural_similarity_index_measure(
        *pair, data_range=1.0, sigma=1.5, return_full_image=True
    )
    inner = (..., slice(5, -5), slice(5, -5))
    torch.testing.assert_close(ssim_map(*pair)[inner], full[inner], rtol=0, atol=1e-11)
