# SPDX-License-Identifier: Apache-2.0
"""The networks of AnoSeg and of its detector, after table 6 of the paper.

Maps are 1 where an image is normal and 0 where it is not, everywhere in this folder but for what
the detector returns.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from ssad_models.resnets import resnet18
from ssad_models.widths import scaled

SMALLEST = 64
"""Side of the smallest images: the discriminator halves them down to a pixel."""

_DECODER = (512, 512, 256, 256, 128, 128, 128, 128, 128, 128, 128)


def coordinates(images: torch.Tensor) -> torch.Tensor:
    """The row and the column of each pixel from -1 to 1: (N, 2, H, W) for images (N, C, H, W)."""
    n, _, height, width = images.shape
    rows = torch.linspace(-1, 1, height, device=images.device, dtype=images.dtype)
    columns = torch.linspace(-1, 1, width, device=images.device, dtype=images.dtype)
    planes = (rows[:, None].expand(-1, width), columns.expand(height, -1))
    return torch.stack(planes).expand(n, -1, -1, -1)


def encoder(channels: int, width: float = 1.0) -> nn.Sequential:
    """ResNet-18 without its head: (N, channels, H, W) -> (N, 512 width, H / 32, W / 32)."""
    net = resnet18(width)
    net.conv1 = nn.Conv2d(channels, net.conv1.out_channels, 7, 2, padding=3, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    stem = (net.conv1, net.bn1, net.relu, net.maxpool)
    return nn.Sequential(*stem, net.layer1, net.layer2, net.layer3, net.layer4)


def decoder(outputs: int, width: float = 1.0) -> nn.Sequential:
    """(N, 512 width, h, w) -> (N, outputs, 32h, 32w) in 0..1.

    Plain 3 x 3 convolutions take turns with transposed ones of 4 x 4, which double the size.
    """
    channels = scaled(512, width)
    layers: list[nn.Module] = []
    for i, full in enumerate(_DECODER):
        wide = scaled(full, width)
        convolution = (
            nn.Conv2d(channels, wide, 3, padding=1, bias=False)
            if i % 2 == 0
            else nn.ConvTranspose2d(channels, wide, 4, 2, padding=1, bias=False)
        )
        layers += [convolution, nn.BatchNorm2d(wide), nn.ReLU(inplace=True)]
        channels = wide
    return nn.Sequential(*layers, nn.Conv2d(channels, outputs, 3, padding=1), nn.Sigmoid())


class AnosegNet(nn.Module):
    """Images to their reconstruction and their map: ResNet-18, then a decoder for each.

    The encoder is shown two more channels, the coordinates of the pixels. There are no skip
    connections.

    Args:
        channels: Of the images.
        width: Factor of all inner channels, 1 as published.
    """

    def __init__(self, channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        self.encoder = encoder(channels + 2, width)
        self.image = decoder(channels, width)
        self.map = decoder(1, width)
        self.to(memory_format=torch.channels_last)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """What both decoders read: (N, C, H, W) float 0..1 -> (N, 512 width, H / 32, W / 32)."""
        found: torch.Tensor = self.encoder(_joined(images, coordinates(images)))
        return found

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, C, H, W) float 0..1, sides multiples of 32 -> images alike and maps (N, 1, H, W)."""
        features = self.features(images)
        return self.image(features), self.map(features)


class Restorer(nn.Module):
    """The generator of the detector: an image and its map to what a normal image would be.

    Args:
        channels: Of the images.
        width: See `AnosegNet`.
    """

    def __init__(self, channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        self.encoder = encoder(channels + 1, width)
        self.image = decoder(channels, width)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) and (N, 1, H, W) float 0..1 -> (N, C, H, W) in 0..1."""
        restored: torch.Tensor = self.image(self.encoder(_joined(images, maps)))
        return restored


class Discriminator(nn.Module):
    """Judges image and map together.

    Eight convolutions of 4 x 4 with stride 2 for 256 pixels; another number of layers of 512
    channels for other sizes, so that the last but one always leaves 2 x 2 positions.

    Args:
        size: Side of the images, a power of two from 64 on.
        channels: Of the images.
        width: See `AnosegNet`.

    Raises:
        ValueError: For another size.
    """

    def __init__(self, size: int, channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        if size < SMALLEST or size & (size - 1):
            msg = f"Discriminator: `size` must be a power of two from {SMALLEST} on, got {size}"
            raise ValueError(msg)
        middle = (512,) * (int(math.log2(size)) - 5)
        inputs = channels + 1
        layers: list[nn.Module] = []
        for i, full in enumerate((64, 128, 256, *middle, 128)):
            wide = scaled(full, width)
            norm = [nn.BatchNorm2d(wide)] if i else []
            convolution = nn.Conv2d(inputs, wide, 4, 2, padding=1, bias=not norm)
            # The paper says leaky; 0.2 is DCGAN's slope (Radford et al., ICLR 2016), ours here.
            layers += [convolution, *norm, nn.LeakyReLU(0.2)]
            inputs = wide
        self.body = nn.Sequential(*layers)
        self.last = nn.Conv2d(inputs, 1, 4, 2, padding=1)
        self.to(memory_format=torch.channels_last)

    def forward(
        self, images: torch.Tensor, maps: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, C, S, S) and (N, 1, S, S) -> logits (N,) of being real, and features (N, 512 width).

        The features are those of the last layer but one.
        """
        features = self.body(_joined(images, maps))
        return self.last(features).flatten(), features.flatten(1)


def _joined(*parts: torch.Tensor) -> torch.Tensor:
    return torch.cat(parts, 1).contiguous(memory_format=torch.channels_last)
