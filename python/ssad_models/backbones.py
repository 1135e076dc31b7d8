# SPDX-License-Identifier: Apache-2.0
"""Feature extractors: images in, one pooled vector per image out.

Normalisation of the pixels is part of the network, so every caller feeds plain images.
"""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import resnet18

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# EfficientNet-B0's stages (expansion, kernel, first stride, channels, blocks). The Lite variant drops squeeze-and-
# excitation and uses ReLU6 for SiLU: Tan and Le, arXiv 1905.11946, and TensorFlow's EfficientNet-Lite release notes.
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
    """Scale to 0..1, repeat a grey channel three times, subtract a mean and divide by a deviation."""

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


class SameConv2d(nn.Conv2d):
    """Convolution padded as TensorFlow's "SAME": at stride 2 the odd pixel of padding is right and bottom.

    The released weights were trained so; symmetric padding shifts every feature map of a strided stage.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 (torch's own name)
        """(N, C, H, W) -> (N, C', ceil(H / stride), ceil(W / stride))."""
        pads = []
        for size, kernel, stride in zip(input.shape[:1:-1], self.kernel_size, self.stride, strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return self._conv_forward(nn.functional.pad(input, pads), self.weight, self.bias)


def _conv(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, *, relu: bool = True
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
    """Stem, seven stages and head of EfficientNet-Lite0, random weights: nine modules, 1280 channels out."""
    layers: list[nn.Module] = [_conv(3, 32, 3, 2)]
    inputs = 32
    for expansion, kernel, stride, outputs, blocks in _LITE0_STAGES:
        stage = []
        for i in range(blocks):
            stage.append(InvertedResidual(inputs, outputs, expansion, kernel, stride if i == 0 else 1))
            inputs = outputs
        layers.append(nn.Sequential(*stage))
    layers.append(_conv(inputs, 1280))
    return nn.Sequential(*layers)
