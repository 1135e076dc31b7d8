# SPDX-License-Identifier: Apache-2.0
"""The network of SSM: a U-Net that restores hidden pixels, and tells which were hidden.

Layers are those of the authors' code. A mask is 1 where the image is visible.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn

from ssad_kernels import mask_images
from ssad_models.widths import scaled

STRIDE = 16
"""The side of an input is a multiple of this."""


def _convolutions(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class _Up(nn.Module):
    """Doubles height and width, and joins what the encoder has of that size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(inputs, outputs, 1)
        self.convolutions = _convolutions(2 * outputs, outputs)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """(N, inputs, h, w) and (N, outputs, 2h, 2w) -> the shape of the second."""
        # Repeating pixels and a 1 x 1 convolution change places: a quarter of the work.
        x = nn.functional.interpolate(self.narrow(x), scale_factor=2.0, mode="nearest")
        joined: torch.Tensor = self.convolutions(torch.cat([x, skip], 1))
        return joined


class _MaskAttention(nn.Module):
    """Corrects features where the image is visible, knowing the mask."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.correction = nn.Sequential(
            nn.Conv2d(channels + 1, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) and masks (N, 1, H, W) -> (N, C, h, w)."""
        size = (x.shape[2], x.shape[3])
        small = nn.functional.interpolate(masks, size=size, mode="nearest")
        correction = self.correction(torch.cat([self.norm(x), small], 1))
        corrected: torch.Tensor = x + small * correction
        return corrected


class ConditionalUNet(nn.Module):
    """Masked images to whole ones, and to the masks.

    The encoder does not see the mask: five blocks in the decoder do. For 3 channels at full width
    33.3 million parameters.

    Args:
        channels: Of the images.
        width: Factor of all inner channels, 1 as published.
    """

    def __init__(self, channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        widths = [scaled(full, width) for full in (64, 128, 256, 512, 512)]
        self.width = widths[0]  # channels at full size
        self.first = _convolutions(channels, widths[0])
        self.down = nn.ModuleList(
            _convolutions(inputs, outputs, 4, 2) for inputs, outputs in itertools.pairwise(widths)
        )
        self.up = nn.ModuleList(
            _Up(inputs, outputs)
            for inputs, outputs in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.attention = nn.ModuleList(
            _MaskAttention(each) for each in (widths[-1], *widths[-2::-1])
        )
        self.last = nn.Conv2d(widths[0], channels + 1, 3, padding=1)
        self.to(memory_format=torch.channels_last)

    def forward(
        self, images: torch.Tensor, masks: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Restore.

        Args:
            images: (N, C, H, W) float 0..1, sides multiples of 16; 0 where they are hidden.
            masks: (N, 1, H, W) float, 1 where they are visible.

        Returns:
            Images (N, C, H, W) and masks (N, 1, H, W), -1..1: the last activation is tanh, as
            published, though the targets are 0..1.
        """
        maps = [self.first(images.contiguous(memory_format=torch.channels_last))]
        for down in self.down:
            maps.append(down(maps[-1]))
        x = self.attention[0](maps[-1], masks)
        for up, attention, skip in zip(self.up, self.attention[1:], maps[-2::-1], strict=True):
            x = attention(up(x, skip), masks)
        found = self.last(x).tanh()
        return found[:, :-1], found[:, -1:]


def restore(
    network: ConditionalUNet, images: torch.Tensor, visible: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Show the network each image behind each of its masks, all in one batch.

    Args:
        network: The network.
        images: (N, C, H, W) float 0..1.
        visible: (N, P, H, W) bool masks, True where the image is visible.

    Returns:
        Images (N, P, C, H, W) and masks (N, P, H, W) that it makes of them.
    """
    masks = visible.flatten(0, 1)[:, None].to(images.dtype)
    outputs, found = network(mask_images(images, visible).flatten(0, 1), masks)
    return outputs.unflatten(0, visible.shape[:2]), found[:, 0].unflatten(0, visible.shape[:2])
