# SPDX-License-Identifier: Apache-2.0
"""Anomaly scores of a trained network: its map, and the mean of it."""

from __future__ import annotations

import torch
from torch import nn

from ssad_models.nsa.network import DenseNet
from ssad_models.views import centre_crop


class NsaDetector(nn.Module):
    """A trained network: images to scores and heat maps. The forward pass can be exported.

    Args:
        network: Trained; it is put in evaluation mode.
        crop: Side of the square in the middle of an image that the network is shown.
    """

    def __init__(self, network: DenseNet, crop: int) -> None:
        super().__init__()
        self.network, self.crop = network, crop
        self.eval()

    def look(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, C, S, S) uint8 or float 0..1 -> maps (N, 1, crop, crop) float32."""
        maps: torch.Tensor = self.network(centre_crop(images, self.crop))
        return maps.float()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, C, S, S) uint8 or float 0..1 -> (N,) float32, the mean of the map."""
        return self.look(images).mean((1, 2, 3))

    @torch.no_grad()
    def score_and_heat(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same images -> scores, and maps (N, 1, S, S) that are 0 outside of the crop."""
        maps = self.look(images)
        height, width = images.shape[-2:]
        top, left = (height - self.crop) // 2, (width - self.crop) // 2
        below, right = height - self.crop - top, width - self.crop - left
        padded = nn.functional.pad(maps, (left, right, top, below))
        return maps.mean((1, 2, 3)), padded
