# SPDX-License-Identifier: Apache-2.0
"""The network of NSA: images to a map of their anomaly."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from ssad_models.backbones import IMAGENET_MEAN, IMAGENET_STD
from ssad_models.resnets import resnet18
from ssad_models.widths import scaled

STRIDE = 32
"""The side of an input is a multiple of this."""

FINALS = ("sigmoid", "relu")


class Pixels(nn.Module):
    """Scale to 0..1 and standardise.

    Args:
        kind: "imagenet" subtracts ImageNet's mean and divides by its deviation, by channel; "image"
            takes those of each image, all channels together; "none" does neither.
        channels: Of the images; 3 for "imagenet".
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, kind: str, channels: int = 3) -> None:
        super().__init__()
        if kind == "imagenet" and channels != 3:
            msg = f"`normalize` of {channels} channels must be image or none, got imagenet"
            raise ValueError(msg)
        self.kind = kind
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if kind == "imagenet" else ((0.0,), (1.0,))
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) uint8 0..255 or float 0..1 -> the same shape, float, channels last."""
        if images.dtype == torch.uint8:
            images = images.to(self.mean.dtype) / 255
        mean, std = self.mean, self.std
        if self.kind == "image":
            dims = (1, 2, 3)
            mean = images.mean(dims, keepdim=True)
            # A flat image has no deviation.
            std = (images - mean).square().mean(dims, keepdim=True).sqrt().clamp_min(1e-3)
        return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


class DenseNet(nn.Module):
    """Pixels, a body that keeps height and width, a final activation.

    Args:
        pixels: First step.
        body: (N, C, H, W) float -> (N, 1, H, W).
        final: "sigmoid" for maps in 0..1, "relu" for maps in grey levels.
    """

    def __init__(self, pixels: Pixels, body: nn.Module, final: str = "sigmoid") -> None:
        super().__init__()
        if final not in FINALS:
            msg = f"`final` must be one of {', '.join(FINALS)}, got {final!r}"
            raise ValueError(msg)
        self.pixels, self.final = pixels, final
        self.body = body.to(memory_format=torch.channels_last)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """What `forward` applies the final activation to."""
        maps: torch.Tensor = self.body(self.pixels(images))
        return maps

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) uint8 or float 0..1, sides multiples of 32 -> (N, 1, H, W) float."""
        logits = self.logits(images)
        return logits.sigmoid() if self.final == "sigmoid" else logits.relu()


class UpBlock(nn.Module):
    """A residual block that doubles height and width by transposed convolutions.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(inputs, outputs, 3, 2, padding=1, output_padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        # It fills every other row and column alone; the others are its batch norm's shift.
        self.shortcut = nn.Sequential(
            nn.ConvTranspose2d(inputs, outputs, 1, 2, output_padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, h, w) -> (N, outputs, 2h, 2w)."""
        result: torch.Tensor = (self.main(x) + self.shortcut(x)).relu()
        return result


def resnet18_body(channels: int = 3, width: float = 1.0) -> nn.Sequential:
    """ResNet-18 without its classifier, a bottleneck, and a decoder; there are no skip connections.

    For 3 channels 11,497,712 parameters. Convolutions begin as in the authors' code: normal numbers
    after He et al. by the outputs, except transposed ones, which begin as torch has them.

    Args:
        channels: Of the images.
        width: What the channels of all layers are multiplied by, see `scaled`.
    """
    trunk = resnet18(width)
    of = partial(scaled, width=width)
    stem = nn.Conv2d(channels, of(64), 7, 2, padding=3, bias=False)
    encoder = [stem, trunk.bn1, nn.ReLU(), trunk.maxpool]
    encoder += [trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4]
    bottleneck = [
        nn.Conv2d(of(512), of(256), 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(of(256), of(128), 1, bias=False),
        nn.ReLU(),
    ]
    decoder = [
        UpBlock(of(128), of(64)),
        UpBlock(of(64), of(32)),
        UpBlock(of(32), of(16)),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        nn.ConvTranspose2d(of(16), 1, 7, 2, padding=3, output_padding=1, bias=False),
    ]
    body = nn.Sequential(*encoder, *bottleneck, *decoder)
    for layer in body.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return body
