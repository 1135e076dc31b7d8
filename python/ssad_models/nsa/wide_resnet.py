# SPDX-License-Identifier: Apache-2.0
"""The wide residual encoder and decoder that FPI and PII were published with.

Facts from the authors' code (github.com/jemtan/FPI, models/wide_residual_network.py), which is in
TensorFlow. Its L2 penalty never reached the loss, so there is none.
"""

from __future__ import annotations

import torch
from torch import nn

from ssad_models.widths import scaled

ENCODERS = {16: (64, 128, 256, 256, 256), 19: (64, 128, 256, 256, 256, 256)}
"""Widths of the encoder's levels by depth: for the brain and chest X-rays, and for the abdomen."""


class _Block(nn.Module):
    """A residual block, normalised before its convolutions.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        scale: "down" halves height and width, "up" doubles them, "same" keeps them.
    """

    def __init__(self, inputs: int, outputs: int, scale: str) -> None:
        super().__init__()
        stride = 2 if scale == "down" else 1
        # Between the convolutions, as in the authors' decoder.
        up = [nn.Upsample(scale_factor=2)] if scale == "up" else []
        self.first = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
        self.main = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            *up,
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        )
        widths_differ = inputs != outputs
        self.early = widths_differ  # a shortcut with weights of its own sees what is normalised
        self.shortcut: nn.Module = nn.AvgPool2d(2) if stride == 2 else nn.Identity()
        if widths_differ:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        if up:
            self.shortcut = nn.Sequential(self.shortcut, *up)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, h, w) -> (N, outputs, h or h/2 or 2h, ...)."""
        normal = self.first(x)
        result: torch.Tensor = self.main(normal) + self.shortcut(normal if self.early else x)
        return result


def wide_resnet_body(
    channels: int = 3, depth: int = 16, outputs: int = 1, width: float = 1.0
) -> nn.Sequential:
    """A stem, one block for each level of the encoder, one for each of the decoder.

    Args:
        channels: Of the images.
        depth: 16 or 19, a key of `ENCODERS`.
        outputs: Channels of the map.
        width: What the channels of all other layers are multiplied by, see `scaled`.

    Returns:
        A module (N, channels, H, W) -> (N, outputs, H, W); sides are multiples of 16 for depth 16
        and of 32 for depth 19.

    Raises:
        ValueError: If the depth is another one.
    """
    if depth not in ENCODERS:
        msg = f"`depth` must be one of {', '.join(map(str, ENCODERS))}, got {depth!r}"
        raise ValueError(msg)
    encoder = ENCODERS[depth]
    decoder = (*(128,) * (len(encoder) - 4), 64, 16)
    inner = (scaled(each, width) for each in (16, *encoder, *decoder))
    widths = (*inner, outputs)
    scales = ("same", *("down",) * (len(encoder) - 1), *("up",) * (len(decoder) + 1))
    blocks = [_Block(widths[i], widths[i + 1], scale) for i, scale in enumerate(scales)]
    body = nn.Sequential(nn.Conv2d(channels, widths[0], 3, padding=1, bias=False), *blocks)
    for layer in body.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return body
