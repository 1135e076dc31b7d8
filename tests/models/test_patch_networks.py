# SPDX-License-Identifier: Apache-2.0
"""Networks of patches: what they see, what they return, and that they can be evaluated densely."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ssad_kernels import patch_features
from ssad_models.patch_networks import PatchResNet, StudentNet


def network(name: str) -> nn.Module:
    """A narrow network in evaluation mode, with running statistics that do something."""
    torch.manual_seed(0)
    made = PatchResNet(features=32) if name == "resnet" else StudentNet(int(name), width=8)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
    return made.eval()


@pytest.mark.parametrize(
    ("name", "window", "seen"), [("resnet", 32, 32), ("33", 33, 32), ("65", 65, 60)]
)
def test_a_patch_is_seen_up_to_its_border(name: str, window: int, seen: int) -> None:
    """Where the output depends on the input, over some random patches."""
    net, touched = network(name), torch.zeros(window, window, dtype=torch.bool)
    for seed in range(8):
        x = torch.rand(1, 3, window, window, generator=torch.Generator().manual_seed(seed))
        (gradient,) = torch.autograd.grad(net(x.requires_grad_()).sum(), x)
        touched |= (gradient[0] != 0).any(0)
    expected = torch.zeros_like(touched)
    expected[:seen, :seen] = True
    assert touched[[0, 0, seen - 1, seen - 1], [0, seen - 1, 0, seen - 1]].any()
    assert touched.any(0)[:seen].all()
    assert touched.any(1)[:seen].all()
    assert not (touched & ~expected).any()


@pytest.mark.parametrize(("name", "window"), [("resnet", 32), ("33", 33), ("65", 65)])
@pytest.mark.parametrize("stride", [1, 3, 4])
def test_dense_is_windowed(name: str, window: int, stride: int) -> None:
    net, images = network(name), torch.rand(1, 3, window + 9, window + 13)
    with torch.no_grad():
        dense, windowed = (
            patch_features(net, images, window=window, stride=stride, mode=mode)  # type: ignore[arg-type]
            for mode in ("dense", "windowed")
        )
    assert dense.shape == windowed.shape
    torch.testing.assert_close(dense, windowed, rtol=1e-4, atol=1e-5)


def test_sizes() -> None:
    assert PatchResNet(channels=1)(torch.rand(2, 1, 32, 32)).shape == (2, 512)
    for size, last in ((33, 33), (65, 65)):
        net = StudentNet(size, channels=1, features=7, width=4)
        assert net.size == last
        assert net(torch.rand(2, 1, size, size)).shape == (2, 7)
    kernels = [m.kernel_size[0] for m in StudentNet(65).modules() if isinstance(m, nn.Conv2d)]
    assert kernels == [5, 5, 5, 4, 1, 1]
    assert StudentNet(33)(torch.rand(1, 3, 33, 33)).shape == (1, 512)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"^StudentNet: `size` must be 33 or 65, got 17$"):
        StudentNet(17)
    with pytest.raises(
        ValueError, match=r"^PatchResNet: `features` must be a positive multiple of 8"
    ):
        PatchResNet(features=12)
