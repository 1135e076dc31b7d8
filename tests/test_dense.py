# SPDX-License-Identifier: Apache-2.0
"""All windows at once against window by window."""

from __future__ import annotations

import math
import re

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from ssad_kernels import (
    dense_patch_scores,
    flop_ratio,
    gaussian_fit,
    gaussian_score,
    patch_features,
)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def loop(network: nn.Module, images: Tensor, window: tuple, stride: tuple) -> Tensor:
    """One window after the other."""
    rows = range(0, images.shape[2] - window[0] + 1, stride[0])
    columns = range(0, images.shape[3] - window[1] + 1, stride[1])
    grid = [
        torch.stack(
            [network(images[:, :, y : y + window[0], x : x + window[1]]) for x in columns], dim=-1
        )
        for y in rows
    ]
    return torch.stack(grid, dim=-2).reshape(len(images), -1, len(rows), len(columns))


class Residual(nn.Module):
    """A valid convolution around a cropped skip connection."""

    def __init__(self, channels: int, kernel: int, negative: bool) -> None:
        super().__init__()
        self.body = nn.Conv2d(channels, channels, kernel)
        self.before, self.after = kernel // 2, kernel - 1 - kernel // 2
        self.negative = negative

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        if self.negative and self.before and self.after:
            return y + x[..., self.before : -self.after, self.before : -self.after]
        height, width = y.shape[-2:]
        rows = slice(self.before, self.before + height)
        return torch.add(y, x[:, :, rows, self.before : self.before + width])


class Branches(nn.Module):
    """Two branches of the same stride, joined along the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.left = nn.Conv2d(channels, 3, 3, stride=2)
        self.right = nn.MaxPool2d(3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.left(x), self.right(x)], dim=1).mul(0.5) - 0.1


def layer(draw, kind: str, channels: int) -> tuple[nn.Module, int]:
    """A layer, and the channels that come out of it."""
    kernel = draw(st.integers(1, 3))
    stride = draw(st.integers(1, 3))
    if kind == "conv":
        shape = (kernel, draw(st.integers(1, 3)))
        return nn.Conv2d(channels, 4, shape, stride, dilation=draw(st.integers(1, 2))), 4
    if kind == "grouped":
        return nn.Conv2d(channels, 2 * channels, kernel, groups=channels), 2 * channels
    if kind == "max":
        dilation = draw(st.integers(1, 2))
        return nn.MaxPool2d(kernel, stride, dilation=dilation), channels
    if kind == "average":
        return nn.AvgPool2d((kernel, 2), stride), channels
    if kind == "residual":
        return nn.Sequential(
            Residual(channels, kernel, draw(st.booleans())), nn.ReLU(True)
        ), channels
    if kind == "branches":
        return Branches(channels), channels + 3
    norm = nn.BatchNorm2d(channels)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return nn.Sequential(norm, nn.LeakyReLU(0.1)), channels


KINDS = ["conv", "grouped", "max", "average", "residual", "branches", "norm"]


@st.composite
def networks(draw, window: tuple[int, int]) -> nn.Module:
    """A network without padding that ends in one vector a window."""
    torch.manual_seed(draw(st.integers(0, 99)))
    layers: list[nn.Module] = []
    channels = 2
    for kind in draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5)):
        new, channels = layer(draw, kind, channels)
        layers.append(new)
    body = nn.Sequential(*layers).eval()
    try:
        left = body(torch.zeros(1, 2, *window)).shape[2:]
    except RuntimeError:  # nothing is left of the window
        assume(False)
    end = draw(st.sampled_from(["pool", "mean", "max", "conv"]))
    if end == "conv":
        layers += [nn.Conv2d(channels, 3, tuple(left)), nn.Tanh(), nn.Flatten(), nn.Linear(3, 4)]
    elif end == "pool":
        layers += [nn.AdaptiveAvgPool2d(1)]
    else:
        layers += [nn.AdaptiveMaxPool2d((1, 1)) if end == "max" else Mean()]
    return nn.Sequential(*layers).eval()


class Mean(nn.Module):
    """Global average pooling as a method, then unit length."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x.mean(dim=(2, 3)), dim=1)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    window=st.tuples(st.integers(7, 17), st.integers(7, 17)),
    stride=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    more=st.tuples(st.integers(0, 15), st.integers(0, 15)),
    data=st.data(),
)
def test_any_network_without_padding(window, stride, more, data):
    network = data.draw(networks(window))
    images = torch.randn(2, 2, window[0] + more[0], window[1] + more[1])
    with torch.no_grad():
        dense = patch_features(network, images, window=window, stride=stride, mode="dense")
        windowed = patch_features(
            network, images, window=window, stride=stride, mode="windowed", batch=7
        )
        expected = loop(network, images, window, stride)
    close(windowed, expected)
    close(dense, expected)


class Functional(nn.Module):
    """What the layers of the other tests do, said in functions and with buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.matrix = nn.Parameter(torch.randn(5, 4))
        self.register_buffer("mean", torch.rand(1, 3, 1, 1))
        self.register_buffer("shift", torch.rand(5))

    def forward(self, x: Tensor) -> Tensor:
        x = (x.float() - self.mean) / 2
        x = F.conv2d(x, self.weight, stride=2)
        x = F.max_pool2d(F.leaky_relu(x, 0.2), 2, stride=1)
        x = F.dropout(F.avg_pool2d(x, 2, 1), training=self.training)
        x = F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1)
        return F.linear(x, self.matrix) + self.shift


@pytest.mark.parametrize("stride", [1, 3, 4])
def test_functions_with_buffers(stride):
    network, images = Functional().eval(), torch.rand(2, 3, 30, 27)
    dense = patch_features(network, images, window=12, stride=stride, mode="dense")
    close(dense, loop(network, images, (12, 12), (stride, stride)))


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2, 2), nn.Conv2d(4, 6, 3), nn.Flatten(2), Last()
    ).eval()


class Last(nn.Module):
    """The mean over flattened positions: not a layer of the dense form."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(2)


def valid() -> nn.Sequential:
    return nn.Sequential(*list(small())[:4], nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def test_gradients_agree():
    network, images = valid(), torch.rand(1, 3, 24, 24)
    gradients = []
    for mode in ("windowed", "dense"):
        x = images.clone().requires_grad_()
        patch_features(network, x, window=12, stride=3, mode=mode).square().sum().backward()
        gradients.append(torch.cat([x.grad.flatten(), network[0].weight.grad.flatten()]))
        network.zero_grad()
    close(gradients[1], gradients[0])


def test_images_stay_as_they_are_under_layers_that_work_in_place():
    network = nn.Sequential(nn.ReLU(inplace=True), *valid()).eval()
    images = torch.randn(1, 3, 20, 20)
    before = images.clone()
    for mode in ("windowed", "dense"):
        with torch.no_grad():
            patch_features(network, images, window=12, stride=4, mode=mode)
        assert torch.equal(images, before)


def test_auto_falls_back_to_windows():
    images = torch.rand(2, 3, 20, 20)
    network = small()
    auto = patch_features(network, images, window=12, stride=4)
    assert torch.equal(auto, patch_features(network, images, window=12, stride=4, mode="windowed"))
    close(auto, loop(network, images, (12, 12), (4, 4)))


def test_auto_takes_what_is_less_work(monkeypatch):
    """Windows that lie apart: all positions between them would be computed for nothing."""
    network, images = valid(), torch.rand(1, 3, 64, 64)
    calls = []
    forward = nn.Conv2d.forward
    monkeypatch.setattr(nn.Conv2d, "forward", lambda m, x: calls.append(1) or forward(m, x))
    assert flop_ratio(network, 12, 25, 64) < 1 < flop_ratio(network, 12, 2, 64)
    patch_features(network, images, window=12, stride=2)
    assert not calls
    patch_features(network, images, window=12, stride=25)
    assert calls


@pytest.mark.parametrize(("stride", "size"), [(1, 40), (2, 41), (4, 40)])
def test_flop_ratio_is_that_of_counted_convolutions(stride, size):
    """Of a lone convolution over the window the counts are known."""
    network = nn.Sequential(nn.Conv2d(3, 8, 5), nn.Conv2d(8, 2, 8))
    count = ((size - 12) // stride + 1) ** 2
    first, second = 8 * 3 * 25, 2 * 8 * 64
    last = (math.isqrt(count) - 1) * stride + 12 - 4
    expected = count * (first * 64 + second) / (first * last**2 + second * count)
    assert last <= size - 4
    assert flop_ratio(network, 12, stride, size) == pytest.approx(expected)


@pytest.mark.parametrize("mode", ["windowed", "dense"])
def test_scores_of_windows(mode):
    network, images = valid(), torch.rand(3, 3, 24, 28)
    options = {"window": 12, "stride": (4, 8), "mode": mode}
    with torch.no_grad():
        features = loop(network, images, (12, 12), (4, 8))
        rows = features.flatten(2).transpose(1, 2)
        shared, local = gaussian_fit(rows.flatten(0, 1), ridge=1e-3), gaussian_fit(rows, ridge=1e-3)
        scores = dense_patch_scores(network, images, shared, **options)
        assert scores.shape == (3, 1, 4, 3)
        expected = gaussian_score(rows.flatten(0, 1), shared).view(3, 1, 4, 3)
        torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-5)
        scores = dense_patch_scores(network, images, local, **options)
        expected = gaussian_score(rows, local).view(3, 1, 4, 3)
        torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-5)


class Nested(nn.Module):
    """A function in a module in a module."""

    def __init__(self, function) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.inner = Applied(function)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.stem(x)).mean((2, 3))


class Applied(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.Conv2d(4, 4, 3, padding=1), "layer inner.function: padding (1, 1): the border"),
        (nn.Conv2d(4, 4, 3, padding="same"), "layer inner.function: padding 'same'"),
        (nn.MaxPool2d(3, padding=1), "layer inner.function: padding 1"),
        (nn.AvgPool2d(2, ceil_mode=True), "layer inner.function: pooling with ceil_mode"),
        (nn.BatchNorm2d(4, track_running_stats=False).eval(), "layer inner.function: batch norm"),
        (lambda x: F.dropout(x, 0.5, training=True), "dropout in inner: dropout in training mode"),
        (nn.GroupNorm(2, 4), "layer inner.function: GroupNorm is of no kind"),
        (nn.AdaptiveAvgPool2d(2), "layer inner.function: adaptive pooling to 2"),
        (nn.Conv2d(4, 4, 11), "layer inner.function: a kernel over 11 x 11 positions where"),
        (lambda x: F.pad(x, (1, 1, 1, 1)), "pad in inner: pad with such arguments is of no kind"),
        (lambda x: x.flip(2), "flip in inner"),
        (lambda x: x.flatten(1), "flatten in inner: makes a vector of 10 x 10 positions"),
        (lambda x: x + x[:, :, :1, :1], "add in inner: combines maps of"),
        (lambda x: x + torch.ones(10, 10), "add in inner: a constant of shape (10, 10)"),
        (lambda x: x[:, :, ::2], "getitem in inner: takes the positions 0:10:2 of 10"),
        (lambda x: x.softmax(2), "softmax in inner: softmax with such arguments is of no kind"),
    ],
)
def test_what_keeps_a_network_from_being_dense_is_named(layer, text):
    network, images = Nested(layer), torch.rand(1, 3, 16, 16)
    network.stem.eval()
    must = "patch_features: `network` must have layers that can be evaluated on all windows at once"
    with pytest.raises(ValueError, match=f"^{re.escape(f'{must}, got {text}')}.*$"):
        patch_features(network, images, window=12, stride=2, mode="dense")


@pytest.mark.parametrize("mode", ["auto", "windowed", "dense"])
@pytest.mark.parametrize("layer", [nn.BatchNorm2d(4), nn.Dropout(0.5)])
def test_networks_that_are_still_learning_are_refused(mode, layer):
    text = f"got layer inner.function ({type(layer).__name__}) in training mode"
    with pytest.raises(
        ValueError, match=re.escape(f"`network` must be in evaluation mode (see `eval`), {text}")
    ):
        patch_features(Nested(layer), torch.rand(1, 3, 16, 16), window=12, stride=2, mode=mode)


def test_what_a_network_says_of_windows_is_handed_on():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(7, 2))
    text = "`network` must take windows (25, 3, 8, 8) of torch.float32, got mat1 and mat2"
    with pytest.raises(ValueError, match=re.escape(text)):
        patch_features(network, torch.rand(1, 3, 16, 16), window=8, stride=2, mode="windowed")


@pytest.mark.parametrize(
    ("mode", "what"),
    [("auto", "windows (9, 3, 12, 12)"), ("windowed", "windows (9, 3, 12, 12)"),
     ("dense", "images (1, 3, 16, 16)")],
)  # fmt: skip
def test_images_of_a_dtype_that_the_network_does_not_take(mode, what):
    images = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1))
    with pytest.raises(ValueError, match=re.escape(f"`network` must take {what} of torch.uint8")):
        patch_features(network, images, window=12, stride=2, mode=mode)


def test_more_errors():
    images, network = torch.rand(1, 3, 16, 16), valid()
    for change, text in (
        ({"window": 17}, "`images` must be at least as large as a window of 17 x 17, got 16 x 16"),
        ({"window": 0}, "`window` must be at least 1"),
        ({"stride": (1, 0)}, "`stride` must be at least 1"),
        (
            {"network": nn.Sequential(*valid(), nn.Linear(7, 2)), "mode": "dense"},
            "got layer 6: a layer for 7 channels on a map of 6",
        ),
        ({"mode": "fast"}, "`mode` must be 'auto', 'windowed' or 'dense', got 'fast'"),
        ({"batch": 0}, "`batch` must be at least 1"),
        ({"images": images[0]}, "`images` must have shape (N, C, H, W)"),
        ({"images": images[:0]}, "`images` must have at least one image, got none"),
        ({"network": nn.Conv2d(3, 2, 3)}, "`network` must return (B, D) or (B, D, 1, 1)"),
        (
            {"network": nn.Conv2d(3, 2, 3), "mode": "dense"},
            "got the network gives 10 x 10 positions a window, not one",
        ),
        (
            {"network": Branching(), "mode": "dense"},
            "`network` must be one that torch.fx can trace",
        ),
    ):
        options = {"network": network, "images": images, "window": 12, "stride": 2} | change
        with pytest.raises(ValueError, match=re.escape(text)):
            patch_features(options.pop("network"), options.pop("images"), **options)
    for change in ({"window": (8,)}, {"stride": (1, 2, 3)}, {"size": 16.0}):
        options = {"window": 12, "stride": 2, "size": 16} | change
        ((name, value),) = change.items()
        text = f"`{name}` must be an integer or a pair of them, got {value!r}"
        with pytest.raises(TypeError, match=re.escape(f"flop_ratio: {text}")):
            flop_ratio(network, **options)
        del options["size"]
        if name != "size":
            with pytest.raises(TypeError, match=re.escape(f"patch_features: {text}")):
                patch_features(network, images, **options)
    with pytest.raises(TypeError, match=re.escape("`images` must be a tensor, got list")):
        patch_features(network, [], window=12, stride=2)
    with pytest.raises(ValueError, match=re.escape("`fit` must have one location for each of")):
        dense_patch_scores(network, images, gaussian_fit(torch.rand(4, 2, 6)), window=12, stride=2)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))
