# SPDX-License-Identifier: Apache-2.0
"""Our augmentations where anomalib's detectors take synthetic anomalies from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2


class AnomalyGenerator(v2.Transform):  # type: ignore[misc]  # skipped by mypy
    """Any augmentation of `ssad_kernels.transforms`, as a detector of anomalib wants it.

    It takes the place of anomalib's ``PerlinAnomalyGenerator``: the ``augmenter`` of ``Draem``, the
    ``perlin_generator`` of ``Dsr``, the ``augmentor`` of ``GlassModel``. anomalib itself is not
    needed.

    Args:
        augmentation: ``augmentation(images) -> (images, masks, ...)``, such as ``CutPaste`` or
            ``NSA``; what follows the masks is left out. Its ``p`` is the share of images that are
            changed; anomalib's generator changes half of them, and for ``GlassModel`` all.
        threshold: labels above it are an anomaly; masks of bool are one where they are set.

    Call: ``generator(images) -> (images, masks)``. Images are floats (C, H, W) or (N, C, H, W) in
        0...1; the masks (1, H, W) or (N, 1, H, W) hold 0 and 1 in the images' dtype.

    Raises:
        TypeError: when made, for an augmentation that is no module; when called, for images that
            are not floats.
        ValueError: when called, for an augmentation whose results are not as many images with one
            mask each.

    Gradient: none. Determinism: draws from torch's generator, so `torch.manual_seed` repeats them.

    Example:
        >>> import torch
        >>> from ssad_kernels.transforms import CutPaste
        >>> generator = AnomalyGenerator(CutPaste(p=0.5))
        >>> images, masks = generator(torch.rand(4, 3, 32, 32))
        >>> images.shape, masks.shape, masks.dtype
        (torch.Size([4, 3, 32, 32]), torch.Size([4, 1, 32, 32]), torch.float32)
    """

    def __init__(self, augmentation: nn.Module, threshold: float = 0.0) -> None:
        super().__init__()
        if not isinstance(augmentation, nn.Module):
            kind = type(augmentation).__name__
            msg = f"AnomalyGenerator: `augmentation` must be a module, got {kind}"
            raise TypeError(msg)
        self.augmentation = augmentation
        self.threshold = threshold

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        if not isinstance(images, Tensor) or not images.is_floating_point():
            kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
            msg = f"AnomalyGenerator: `images` must be a tensor of floats in 0...1, got {kind}"
            raise TypeError(msg)
        # anomalib's images and ours may be tv_tensors; what it computes with them is not.
        images = images.detach().as_subclass(Tensor)
        results: tuple[Any, ...] = self.augmentation(images)
        augmented, labels = results[:2]
        expected = (*images.shape[:-3], 1, *images.shape[-2:])
        if augmented.shape != images.shape or labels.shape != expected:
            shapes = tuple(augmented.shape), tuple(labels.shape)
            msg = (
                "AnomalyGenerator: `augmentation` must give each image back with one mask, "
                f"{tuple(images.shape)} and {expected}, got {shapes[0]} and {shapes[1]}"
            )
            raise ValueError(msg)
        masks = labels if labels.dtype == torch.bool else labels > self.threshold
        return augmented, masks.to(images.dtype)
