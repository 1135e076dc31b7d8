# SPDX-License-Identifier: Apache-2.0
"""Networks of patches without padding, for `ssad_kernels.patch_features` in its dense mode.

Without padding the features of a patch depend on the patch alone, wherever it lies in an image, so
that the work of overlapping patches can be shared.
"""

from __future__ import annotations

import torch
from torch import nn


class StudentNet(nn.Sequential):
    """A student of Bergmann et al.: (N, C, size, size) -> (N, features).

    Convolutions with leaky ReLU of slope 0.005, but for the last one, and max pooling. A 1 x 1
    convolution at the end turns the 128 features into those that the students regress.

    Bergmann et al., "Uninformed Students: Student-Teacher Anomaly Detection with Discriminative
    Latent Embeddings", CVPR 2020, appendix. Public implementations agree on the layers; they differ
    in the third convolution of 65 pixels, with 128 channels here and in some, 256 in others.

    Args:
        size: Side of a patch in pixels, 33 or 65. Pooling leaves out the last row and column: at 33
            pixels the features see the first 32, at 65 the first 60.
        channels: Of the images.
        features: Width D of the output.
        width: Channels of the first layer; the others grow with it.
    """

    def __init__(
        self, size: int = 33, *, channels: int = 3, features: int = 512, width: int = 128
    ) -> None:
        layouts = {  # (kernel, channels), or None for pooling
            33: [(5, 1), None, (5, 2), None, (2, 2), (4, 1)],
            65: [(5, 1), None, (5, 1), None, (5, 1), None, (4, 2), (1, 1)],
        }
        if size not in layouts:
            msg = f"StudentNet: `size` must be 33 or 65, got {size}"
            raise ValueError(msg)
        layers: list[nn.Module] = []
        for entry in layouts[size]:
            if entry is None:
                layers.append(nn.MaxPool2d(2, 2))
            else:
                kernel, factor = entry
                layers += [nn.Conv2d(channels, factor * width, kernel), nn.LeakyReLU(0.005)]
                channels = factor * width
        layers.pop()  # the last convolution has no activation
        super().__init__(*layers, nn.Conv2d(channels, features, 1), nn.Flatten())
        self.size = size


class ValidBlock(nn.Module):
    """Two 3 x 3 convolutions without padding, and a skip connection that is cropped to fit.

    Args:
        channels: Of the input.
        width: Of the output.
        stride: Of the first convolution.
    """

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, bias=False),
            nn.BatchNorm2d(width),
        )
        self.project = (
            nn.Identity()
            if stride == 1 and channels == width
            else nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )
        )
        # The body's value at position p is centred on position stride · p + 1 + stride.
        self.margin = 1 + stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) -> (N, width, h', w')."""
        deep = self.body(x)
        height, width = deep.shape[2:]
        skip = self.project(x[:, :, self.margin :, self.margin :])
        return torch.relu(deep + skip[:, :, :height, :width])


class PatchResNet(nn.Sequential):
    """A residual network for patches of 32 pixels: (N, C, 32, 32) -> (N, features).

    A 4 x 4 convolution, then blocks of the widths w, 2w (stride 2), 4w and 8w, and global average
    pooling: the basic blocks of ResNet-18 (He et al., "Deep residual learning for image
    recognition", CVPR 2016), without padding, so that a patch shrinks to 29, 25, 10, 6 and 2
    positions a side. The features see all of the patch and nothing else.

    Args:
        channels: Of the images.
        features: Width D of the output, 8w; a multiple of 8.
    """

    def __init__(self, *, channels: int = 3, features: int = 512) -> None:
        if features < 8 or features % 8:
            msg = f"PatchResNet: `features` must be a positive multiple of 8, got {features}"
            raise ValueError(msg)
        width = features // 8
        super().__init__(
            nn.Conv2d(channels, width, 4, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            ValidBlock(width, width),
            ValidBlock(width, 2 * width, 2),
            ValidBlock(2 * width, 4 * width),
            ValidBlock(4 * width, 8 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
