# SPDX-License-Identifier: Apache-2.0
"""ResNet-18 of any width: torchvision's at width 1, others built of its blocks."""

from __future__ import annotations

import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from ssad_models.widths import scaled


def resnet18(width: float = 1.0) -> ResNet | Trunk:
    """ResNet-18 with random weights.

    Args:
        width: What the channels of all layers are multiplied by, see `scaled`. At 1 the result is
            `torchvision.models.resnet18`; at others it has no classifier.
    """
    return torchvision.models.resnet18(weights=None) if width == 1 else Trunk(width)


class Trunk(nn.Module):
    """The layers of ResNet-18, named and initialised as torchvision's, which has but one width.

    Args:
        width: See `resnet18`.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        first, second, third, last = (scaled(channels, width) for channels in (64, 128, 256, 512))
        self.conv1 = nn.Conv2d(3, first, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool: nn.Module = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = nn.Sequential(BasicBlock(first, first), BasicBlock(first, first))
        self.layer2 = _stage(first, second)
        self.layer3 = _stage(second, third)
        self.layer4 = _stage(third, last)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    """Two blocks, the first of which halves height and width."""
    project = nn.Sequential(nn.Conv2d(inputs, outputs, 1, 2, bias=False), nn.BatchNorm2d(outputs))
    return nn.Sequential(BasicBlock(inputs, outputs, 2, project), BasicBlock(outputs, outputs))
