# SPDX-License-Identifier: Apache-2.0
"""What the map of a network is measured by."""

from __future__ import annotations

import torch
from torch import nn

from ssad_models.nsa.network import DenseNet


def map_loss(
    network: DenseNet, inputs: torch.Tensor, labels: torch.Tensor, *, intensity: bool = False
) -> torch.Tensor:
    """Mean over all pixels.

    Args:
        network: The network.
        inputs: (N, C, H, W) uint8 or float 0..1.
        labels: (N, 1, H, W) in 0..1, or in grey levels.
        intensity: Whether labels are in grey levels: then the squared error of the map counts,
            otherwise cross-entropy. From a sigmoid it does not come beyond 1; NSA's authors' code
            has it so in four of five runs.

    Returns:
        () float.
    """
    if intensity:
        return nn.functional.mse_loss(network(inputs), labels)
    return nn.functional.binary_cross_entropy_with_logits(network.logits(inputs), labels)
