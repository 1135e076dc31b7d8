# SPDX-License-Identifier: Apache-2.0
"""Anomaly scores and heat maps of trained networks."""

from __future__ import annotations

import torch
from torch import nn

from ssad_models.anoseg.network import AnosegNet, Discriminator, Restorer
from ssad_models.views import pixels


class AnosegDetector(nn.Module):
    """Trained networks: images to scores and heat maps. The forward pass can be exported.

    With a detector the score is ``alpha |f(x, 1) - f(x', a)|² + beta |x - x'|²``, means of squares:
    x' is the image as the detector restores it, a its map, f the features of the discriminator
    (section 3.4 of the paper). Without, it is the mean of the heat map. The heat map is 1 - a.

    Args:
        network: Images to maps.
        restorer: The detector's generator; None without detector.
        critic: Its discriminator; None without.
        alpha: Weight of the features.
        beta: Weight of the pixels.
    """

    def __init__(
        self,
        network: AnosegNet,
        restorer: Restorer | None = None,
        critic: Discriminator | None = None,
        alpha: float = 1.0,
        beta: float = 0.1,
    ) -> None:
        super().__init__()
        self.network, self.restorer, self.critic = network, restorer, critic
        self.alpha, self.beta = alpha, beta
        self.eval()

    def look(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, C, S, S) uint8 or float 0..1 -> scores (N,) and heat (N, 1, S, S), float32."""
        images = pixels(images)
        # The decoder of images has done its part in training.
        maps = self.network.map(self.network.features(images))
        heat = 1 - maps.float()
        if self.restorer is None or self.critic is None:
            return heat.mean((1, 2, 3)), heat
        restored = self.restorer(images, maps)
        wanted = self.critic(images, torch.ones_like(maps))[1]
        features = (self.critic(restored, maps)[1] - wanted).float().square().mean(1)
        distance = (restored - images).float().square().mean((1, 2, 3))
        return self.alpha * features + self.beta * distance, heat

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, C, S, S) uint8 or float 0..1 -> (N,) float32."""
        return self.look(images)[0]

    @torch.no_grad()
    def score_and_heat(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same images -> scores (N,), and maps (N, 1, S, S) in 0..1, 1 where anomalous."""
        return self.look(images)
