# SPDX-License-Identifier: Apache-2.0
"""The network of CutPaste: a backbone and the head of its proxy task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from ssad_models.backbones import Backbone


def projection_head(inputs: int, dims: Sequence[int], classes: int) -> nn.Sequential:
    """The head of Sohn et al.'s one-class code, on which CutPaste builds; its own is unpublished.

    Every width but the last is Linear, batch norm, ReLU; the last is a Linear with bias; then come
    the logits.

    Args:
        inputs: Width of the pooled features.
        dims: Widths of the hidden layers, at least one.
        classes: Number of logits.

    Returns:
        A module (N, inputs) -> (N, classes).
    """
    *hidden, embedding = dims
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, embedding), nn.Linear(embedding, classes))


class CutPasteNet(nn.Module):
    """Backbone, pooling, head.

    Args:
        backbone: Images -> feature maps, with an attribute `channels`; see `ssad_models.backbones`.
        dims: Widths of the head, see `projection_head`. The authors' code uses eight times 512,
            then 128.
        neck: Width of a 1x1 convolution with batch norms between backbone and head. With a frozen
            backbone this is where local features are learned; pooling straight away would leave the
            head nothing local to see. None for no neck.
        classes: Labels of the proxy task: 3 for normal, CutPaste and Scar.
        feature_level: Level of the backbone whose mean is the feature; None for what the head sees.
    """

    def __init__(
        self,
        backbone: nn.Module,
        dims: Sequence[int] = (512,) * 8 + (128,),
        neck: int | None = None,
        classes: int = 3,
        feature_level: int | None = None,
    ) -> None:
        super().__init__()
        channels = int(backbone.channels)  # type: ignore[arg-type]  # a plain attribute
        self.backbone = backbone
        self.feature_level = feature_level
        self.neck: nn.Module = nn.Identity()
        if neck is not None:
            self.neck = nn.Sequential(
                # Channels of pretrained maps differ in scale by two orders of magnitude.
                nn.BatchNorm2d(channels, affine=False),
                nn.Conv2d(channels, neck, 1, bias=False),
                nn.BatchNorm2d(neck),
                nn.ReLU(),
            )
            channels = neck
        self.head = projection_head(channels, dims, classes)

    def classify(self, maps: torch.Tensor) -> torch.Tensor:
        """Feature maps of the backbone (N, C, h, w) -> logits (N, classes)."""
        return self.classify_local(self.neck(maps))

    def classify_local(self, local: torch.Tensor) -> torch.Tensor:
        """Maps behind the neck (N, C, h, w) -> logits (N, classes)."""
        logits: torch.Tensor = self.head(local.mean((2, 3)))
        return logits

    def look(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (N, 1 or 3, H, W) -> feature maps (N, C, h, w) and features (N, D)."""
        if self.feature_level is None:
            maps: torch.Tensor = self.backbone(images)
            return maps, maps.mean((2, 3))
        backbone = cast(Backbone, self.backbone)
        pyramid = backbone.pyramid(images, {*backbone.levels, self.feature_level})
        return backbone.join(pyramid), pyramid[self.feature_level].mean((2, 3))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (N, 1 or 3, H, W) -> features (N, D) and logits (N, classes)."""
        maps, features = self.look(images)
        return features, self.classify(maps)
