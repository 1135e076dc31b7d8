# SPDX-License-Identifier: Apache-2.0
"""Anomaly scores of a CutPaste network of patches: the density of each window's features."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import nn

from ssad_kernels import (
    GaussianAccumulator,
    GaussianFit,
    gaussian_fit,
    gaussian_score,
    patch_features,
    receptive_field_upsample,
)
from ssad_models.backbones import Backbone
from ssad_models.cutpaste.inference import Density, Shrinkage
from ssad_models.cutpaste.network import CutPasteNet

_IMAGES = 8  # whose features exist at a time
_BAND = 1 << 26  # features of a band of locations, for all images
_PART = 1 << 24  # numbers of a density in double precision at a time


class Windows(NamedTuple):
    """Where an image is looked at, and how the scores become a map.

    Attributes:
        size: Side of the images in pixels.
        window: Side of a window.
        stride: Pixels from one window to the next.
        sigma: See `receptive_field_upsample`.
        normalise: See `receptive_field_upsample`.
    """

    size: int
    window: int
    stride: int
    sigma: float | None = None
    normalise: bool = False

    @property
    def side(self) -> int:
        """Windows along a side of the image."""
        return (self.size - self.window) // self.stride + 1


class _PatchNet(nn.Module):
    """What of a network makes features of a patch."""

    def __init__(self, network: CutPasteNet) -> None:
        super().__init__()
        self.backbone = cast(Backbone, network.backbone)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """(N, 3, h, w) normalised -> (N, D)."""
        maps = self.backbone.join(self.backbone.climb(patches, self.backbone.levels))
        return nn.functional.adaptive_avg_pool2d(maps, 1).flatten(1)


def window_features(network: CutPasteNet, images: torch.Tensor, windows: Windows) -> torch.Tensor:
    """Images (N, 1 or 3, H, W) uint8 or float 0..1 -> (N, D, h, w) float32, one per window."""
    backbone = cast(Backbone, network.backbone)
    normalized = backbone.normalize(images).contiguous()
    return patch_features(
        _PatchNet(network), normalized, window=windows.window, stride=windows.stride
    )


@torch.no_grad()
def fit_shared(
    network: CutPasteNet,
    images: torch.Tensor,
    rows: torch.Tensor,
    windows: Windows,
    shrinkage: Shrinkage = "ridge",
) -> GaussianFit:
    """One Gaussian of all windows; the features of a few images exist at a time.

    Args:
        network: In evaluation mode.
        images: (N, C, S, S) uint8 or float 0..1, on any device.
        rows: (K,) int64, those that it is fitted to.
        windows: Where to look.
        shrinkage: Of the covariance.

    Returns:
        The fit, on the device of the network.
    """
    device = next(network.parameters()).device
    gathered: GaussianAccumulator | None = None
    for part in rows.split(_IMAGES):
        features = window_features(network, images[part].to(device), windows)
        points = features.permute(0, 2, 3, 1).flatten(0, 2)
        gathered = gathered or GaussianAccumulator(points.shape[1])
        gathered.update(points)
    assert gathered is not None
    return gathered.fit(covariance=shrinkage)


@torch.no_grad()
def fit_locations(
    network: CutPasteNet,
    images: torch.Tensor,
    rows: torch.Tensor,
    windows: Windows,
    shrinkage: Shrinkage = "ridge",
) -> GaussianFit:
    """One Gaussian of each window; the features of a band of windows exist at a time.

    Args:
        network: See `fit_shared`, and for the other arguments.
        images: (N, C, S, S).
        rows: (K,) int64.
        windows: Where to look.
        shrinkage: Of the covariance.

    Returns:
        The fit, with a location for each window, row by row; on the CPU, in single precision, since
        it is as large as all features together.
    """
    device = next(network.parameters()).device
    side, width = windows.side, cast(Backbone, network.backbone).channels
    height = max(1, _BAND // (len(rows) * side * width))
    bands = []
    for first in range(0, side, height):
        count = min(height, side - first)
        top = first * windows.stride
        strip = slice(top, top + (count - 1) * windows.stride + windows.window)
        features = torch.cat(
            [
                window_features(network, images[part][:, :, strip].to(device), windows).cpu()
                for part in rows.split(_IMAGES)
            ]
        )
        fit = gaussian_fit(features.flatten(2).mT, covariance=shrinkage)
        bands.append([tensor.float() for tensor in fit[:4]])
    mean, points, factor, residual = (torch.cat(parts) for parts in zip(*bands, strict=True))
    return GaussianFit(mean, points, factor, residual, fit.normalize)


class PatchDetector(nn.Module):
    """A trained network with the density of its patches: images to scores and heat maps.

    Its state dict is all that it has learned. The forward pass can be exported if the density is
    shared.

    Args:
        network: Trained; it is put in evaluation mode.
        windows: Where to look.
        density: What `fit_shared` or `fit_locations` returned; None to load a state later.
    """

    def __init__(
        self, network: CutPasteNet, windows: Windows, density: GaussianFit | None = None
    ) -> None:
        super().__init__()
        self.network, self.windows = network, windows
        self.density = Density(gaussian_fit(torch.eye(2)) if density is None else density)
        # The upsampling of an axis as a matrix, for exported programs, which have no op of ours.
        lines = torch.eye(windows.side)[None, None]
        self.register_buffer("spread", self._upsample(lines, rows_alone=True)[0, 0], False)
        self.eval()

    @property
    def per_location(self) -> bool:
        """Whether each location has a Gaussian of its own."""
        return self.density.mean.dim() == 2

    def check_exportable(self) -> None:
        """Raise ValueError if a program of this detector would be too large to be of use."""
        if self.per_location:
            sizes = sum(t.numel() * t.element_size() for t in self.density.fitted())
            msg = (
                "a model with a density per location cannot be exported: the program would hold "
                f"{sizes / 2**30:.2g} GiB of them, in as many branches; use density=shared"
            )
            raise ValueError(msg)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 1 or 3, S, S) uint8 or float 0..1 -> (N,) float32, the map's largest value."""
        return self.look(images).amax((1, 2, 3))

    @torch.no_grad()
    def score_and_heat(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same images -> scores, and maps (N, 1, S, S) float32 of which they are the maxima."""
        heat = self.look(images)
        return heat.amax((1, 2, 3)), heat

    def look(self, images: torch.Tensor) -> torch.Tensor:
        """The same images -> maps (N, 1, S, S) float32, at least 0."""
        if torch.compiler.is_exporting():
            spread = self.get_buffer("spread")
            return spread @ self._exported_scores(images) @ spread.mT
        parts = images.split(_IMAGES)
        return self._upsample(torch.cat([self.window_scores(part) for part in parts]))

    def _upsample(self, scores: torch.Tensor, *, rows_alone: bool = False) -> torch.Tensor:
        """Scores of windows -> maps; or of rows of windows, and columns stay as they are."""
        size, window, stride, sigma, normalise = self.windows
        one = rows_alone
        return receptive_field_upsample(
            scores,
            (size, scores.shape[3] if one else size),
            kernel=(window, 1 if one else window),
            stride=(stride, 1 if one else stride),
            offset=((window - 1) / 2, 0 if one else (window - 1) / 2),
            sigma=sigma,
            normalise=normalise,
        )

    def window_scores(self, images: torch.Tensor) -> torch.Tensor:
        """The same images -> (N, 1, h, w) float32, squared Mahalanobis distances of the windows."""
        features = window_features(self.network, images, self.windows)
        n, _, h, w = features.shape
        points, fit = features.flatten(2).mT, self.density.fitted()
        if not self.per_location:
            return gaussian_score(points.flatten(0, 1), fit).reshape(n, 1, h, w)
        *numbers, normalize = fit
        step = max(1, _PART // max(number[0].numel() for number in numbers))
        parts = []
        for first in range(0, h * w, step):
            some = slice(first, first + step)
            mean, rows, factor, residual = (number[some].double() for number in numbers)
            own = GaussianFit(mean, rows, factor, residual, normalize)
            parts.append(gaussian_score(points[:, some], own))
        return torch.cat(parts, dim=1).reshape(n, 1, h, w)

    def _exported_scores(self, images: torch.Tensor) -> torch.Tensor:
        """The same as a graph for any number of images: all windows at once."""
        _, window, stride, *_ = self.windows
        side = self.windows.side
        normalized = cast(Backbone, self.network.backbone).normalize(images)
        views = normalized.unfold(2, window, stride).unfold(3, window, stride)
        patches = views.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, window, window)
        scores = gaussian_score(_PatchNet(self.network)(patches), self.density.fitted())
        return scores.reshape(-1, 1, side, side)
