# SPDX-License-Identifier: Apache-2.0
"""Where all windows at once might silently differ from window by window."""

from __future__ import annotations

import re
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssad_kernels import patch_features
from ssad_models.patch_networks import ValidBlock


def both(network: nn.Module, images: Tensor, **options) -> tuple[Tensor, Tensor]:
    """Features all at once and window by window."""
    with torch.no_grad():
        dense = patch_features(network, images, mode="dense", **options)
        return dense, patch_features(network, images, mode="windowed", **options)


def pooled(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def spectral() -> nn.Module:
    return pooled(nn.utils.spectral_norm(nn.Conv2d(3, 4, 3)))


def weight_norm() -> nn.Module:
    network = pooled(nn.utils.weight_norm(nn.Conv2d(3, 4, 3)))
    with torch.no_grad():
        network[0].weight_g.mul_(5)
    return network


def hooked(target: str, kind: str) -> nn.Module:
    network = pooled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    hooks = {
        "forward": lambda module, inputs, output: output * 3,
        "forward_pre": lambda module, inputs: (inputs[0] * 3,),
        "full_backward": lambda module, before, after: None,
    }
    getattr(network.get_submodule(target), f"register_{kind}_hook")(hooks[kind])
    return network


def parametrized() -> nn.Module:
    return pooled(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("build", "got"),
    [
        (spectral, "layer 0 with hooks"),
        (weight_norm, "layer 0 with hooks"),
        (parametrized, "layer 0 with parametrized weights"),
        (lambda: parametrized()[0], "a network with parametrized weights"),
        (lambda: hooked("0.0", "forward"), "layer 0.0 with hooks"),
        (lambda: hooked("0.1", "forward_pre"), "layer 0.1 with hooks"),
        (lambda: hooked("0", "forward"), "layer 0 with hooks"),
        (lambda: hooked("", "forward"), "a network with hooks"),
        (lambda: hooked("0.0", "full_backward"), "layer 0.0 with hooks"),
    ],
)
def test_hooks_and_parametrizations_are_not_passed_over(build, got):
    network, images = build(), torch.rand(1, 3, 20, 20)
    options = {"window": 3 if isinstance(network, nn.Conv2d) else 8, "stride": 1}
    with pytest.raises(ValueError, match=f"at once, got {re.escape(got)}$"):
        patch_features(network, images, mode="dense", **options)
    auto = patch_features(network, images, **options)
    assert torch.equal(auto, patch_features(network, images, mode="windowed", **options))


def grown(y: Tensor) -> Tensor:
    y += 1
    y *= y
    return y


IN_PLACE = {
    "module": nn.ReLU(inplace=True),
    "method": lambda y: y.relu_(),
    "function": lambda y: F.leaky_relu(y, 0.1, True),
    "keyword": lambda y: F.elu(y, inplace=True),
    "torch": lambda y: torch.relu_(y),
    "clamp": lambda y: y.clamp_(0, 0.1),
    "iadd": grown,
    "add": lambda y: y.add_(1),
    "detached": lambda y: y.detach().relu_(),
    "cast": lambda y: y.float().mul_(2),
}


class Cropping(nn.Module):
    """Changes a part of a map, of which all is used."""

    def __init__(self, change, part) -> None:
        super().__init__()
        self.stem, self.change, self.part = nn.Conv2d(3, 4, 3), change, part

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.change(self.part(x))
        return torch.cat([x.mean((2, 3)), y.mean((2, 3))], 1)


@pytest.mark.parametrize("name", IN_PLACE)
def test_a_part_of_a_map_is_not_changed_in_place(name):
    images = torch.randn(1, 3, 20, 20)
    for part in (lambda x: x[:, :, 1:-1, 1:-1], lambda x: x[:, :2]):
        network = Cropping(IN_PLACE[name], part)
        with pytest.raises(ValueError, match="changes part of a map, or a constant, in place"):
            both(network, images, window=8, stride=2)
        with torch.no_grad():
            auto = patch_features(network, images, window=8, stride=2)
        expected = patch_features(network, images, window=8, stride=2, mode="windowed")
        assert torch.equal(auto, expected)


@pytest.mark.parametrize("name", IN_PLACE)
@pytest.mark.parametrize(
    "part",
    [
        lambda x: x,
        lambda x: x.contiguous(),
        lambda x: x[:, :, 1:-1, 1:-1] * 1,
        lambda x: x[:, :, 1:-1, 1:-1].clone(),
        lambda x: F.max_pool2d(x, 1),
        nn.Identity(),
    ],
)
def test_what_is_no_part_is_changed_in_place(name, part):
    dense, windowed = both(
        Cropping(IN_PLACE[name], part), torch.randn(1, 3, 20, 20), window=8, stride=2
    )
    torch.testing.assert_close(dense, windowed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_averages_of_half_precision_do_not_overflow(dtype):
    images = 60 + torch.rand(1, 3, 80, 80)
    for network in (pooled(), pooled(nn.AvgPool2d(40, 2))):
        dense, windowed = both(network, images.to(dtype), window=64, stride=8)
        assert dense.dtype == dtype
        torch.testing.assert_close(dense, windowed)


def test_half_precision_of_large_values():
    images = torch.full((1, 3, 40, 40), 6e4, dtype=torch.float16)
    dense, windowed = both(pooled(), images, window=32, stride=4)
    assert bool(dense.isfinite().all())
    torch.testing.assert_close(dense, windowed)


class Unequal(nn.Module):
    """Branches that reach one position on ways of different strides."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.strided = nn.Conv2d(3, 4, window - 1, stride=3)
        self.point = nn.Conv2d(3, 4, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.strided(x) + self.point(x)[..., 1:2, 1:2] + x.amax((2, 3), True).sum(1, True)


@pytest.mark.parametrize("stride", [1, 2, 3, 4, (2, 9), 40])
@pytest.mark.parametrize("size", [(40, 40), (7, 31), (7, 7), (13, 9)])
def test_residual_networks_whose_maps_are_one_position(stride, size):
    torch.manual_seed(0)
    images = torch.rand(2, 3, *size)
    networks = [
        (nn.Sequential(ValidBlock(3, 8, 2), nn.Flatten()), 7),
        (nn.Sequential(ValidBlock(3, 3), nn.ReLU(True), nn.Conv2d(3, 4, (3, 1))), (7, 5)),
        (nn.Sequential(nn.Conv2d(3, 5, 3), ValidBlock(5, 5), nn.Flatten()), 7),
        (Crops(), 5),
        (nn.Sequential(Twice(), nn.Flatten()), 1),
    ]
    for network, window in networks:
        dense, windowed = both(network.eval(), images, window=window, stride=stride)
        torch.testing.assert_close(dense, windowed, rtol=1e-4, atol=1e-5)


class Crops(nn.Module):
    """Three ways to one position: a stride, a crop after another stride, a crop of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.point = nn.Conv2d(3, 3, 4, 3), nn.Conv2d(3, 3, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.wide(x) + self.point(x)[:, :, 1:2, 1:2] + x[:, :, 2:3, 2:3]


class Twice(nn.Module):
    """A skip connection in windows of one pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.point(x)


class Watched(nn.Module):
    """Notes how many of its results are alive when it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[weakref.ref] = []
        self.alive = 0

    def forward(self, x: Tensor) -> Tensor:
        self.alive = max(self.alive, sum(result() is not None for result in self.results))
        result = x.flatten(1) * 1
        self.results.append(weakref.ref(result))
        return result


def test_features_of_batches_do_not_pile_up():
    network, images = Watched(), torch.rand(3, 2, 24, 24)
    with torch.no_grad():
        found = patch_features(network, images, window=4, stride=4, mode="windowed", batch=5)
    assert len(network.results) == 24
    assert network.alive <= 1
    assert torch.equal(found, F.unfold(images, 4, stride=4).unflatten(2, (6, 6)))
    assert found.is_contiguous()
