# SPDX-License-Identifier: Apache-2.0
"""How training batches are made: plain augmentation of normal images, then the proxy task."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ssad_kernels.transforms import (
    Confetti,
    Cutout,
    CutPaste,
    CutPaste3Way,
    CutPasteScar,
    Rotation,
    Scar,
)
from ssad_models.views import random_crop

Batch = tuple[torch.Tensor, torch.Tensor]
Augment = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]]
"""Images (N, C, S, S) and keys (N, 3) -> changed images, masks, and perhaps the status."""
Task = Callable[[torch.Tensor, torch.Tensor], Batch]


class Binary:
    """Tell images from what a transform makes of them.

    Args:
        transform: `(images, keys) -> (changed images, masks of the change)`.
    """

    classes = 2

    def __init__(self, transform: Task) -> None:
        self.transform = transform

    def __call__(self, images: torch.Tensor, keys: torch.Tensor) -> Batch:
        """(N, C, H, W) -> (2N, C, H, W) and labels: 1 where something was changed, else 0."""
        changed, masks = self.transform(images, keys)
        labels = torch.cat([torch.zeros_like(keys[:, 0]), masks.flatten(1).any(1).long()])
        return torch.cat([images, changed]), labels


class Union:
    """Tell images from CutPaste or Scar of them: from pass to pass, each image changes between."""

    classes = 2

    def __init__(self) -> None:
        self.threefold = CutPaste3Way()

    def __call__(self, images: torch.Tensor, keys: torch.Tensor) -> Batch:
        """(N, C, H, W) -> (2N, C, H, W) and labels: 1 where something was pasted, else 0."""
        n = len(images)
        inputs, labels = self.threefold(images, keys)
        which = 1 + (keys[:, 1] + keys[:, 2]) % 2
        normal = torch.arange(n, device=images.device)
        rows = torch.cat([normal, which * n + normal])
        return inputs[rows], (labels[rows] > 0).long()


_TASKS: dict[str, tuple[Callable[[], Task], int]] = {
    "3way": (CutPaste3Way, 3),
    "cutpaste": (lambda: Binary(CutPaste()), 2),
    "cutpaste-scar": (lambda: Binary(CutPasteScar()), 2),
    "union": (Union, 2),
    "rotation": (Rotation, 4),
    "scar": (lambda: Binary(Scar()), 2),
    "cutout": (lambda: Binary(Cutout()), 2),
    "confetti": (lambda: Binary(Confetti()), 2),
}


_CUTPASTE = CutPaste(return_status=True)
_SCAR = CutPasteScar(return_status=True)
AUGMENTS: dict[str, dict[str, Augment]] = {
    "3way": {"CutPaste": _CUTPASTE, "CutPaste-Scar": _SCAR},
    "union": {"CutPaste": _CUTPASTE, "CutPaste-Scar": _SCAR},
    "cutpaste": {"CutPaste": _CUTPASTE},
    "cutpaste-scar": {"CutPaste-Scar": _SCAR},
    "scar": {"Scar": Scar()},
    "cutout": {"Cutout": Cutout()},
    "confetti": {"Confetti": Confetti()},
}
"""What is done to images, by proxy task; "rotation" changes no part of them."""


class Synthesis:
    """Makes training batches. Holds no network, so it can run in the workers of a loader.

    Args:
        proxy: The task, one of `ssad_models.cutpaste.recipe.PROXIES`.
        crop: Side of a random crop to train on; None for whole images, shifted.
        shift: Largest translation of whole images, in parts of their side.
        jitter: Largest change of brightness, contrast, saturation and hue of whole images.

    Attributes:
        classes: Number of labels, 0 for normal.
    """

    def __init__(
        self, proxy: str = "3way", crop: int | None = None, shift: float = 0.125, jitter: float = 0
    ) -> None:
        make_task, self.classes = _TASKS[proxy]
        self.task = make_task()
        self.crop, self.shift = crop, shift
        # A patch as large as the image is pasted where it was, in other colours.
        whole = (1.0, 1.0)
        self.recolour = CutPaste(whole, whole, jitter=jitter, inplace=True, stream=1)

    def __call__(self, images: torch.Tensor, keys: torch.Tensor) -> Batch:
        """Augment and label.

        Args:
            images: (N, C, H, W) uint8 or float 0..1, square.
            keys: (N, 3) int64, see `ssad_kernels.make_keys`.

        Returns:
            Inputs (K, C, h, w), K = 2N, 3N or 4N as the task wants, the normal ones first, and
            labels (K,) int64, 0 for normal.
        """
        return self.task(self.plain(images, keys), keys)

    def plain(self, images: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """The normal inputs alone: images moved or cropped, and recoloured; copied."""
        side = min(images.shape[-2:])
        size, pad = (side, int(self.shift * side)) if self.crop is None else (self.crop, 0)
        moved = random_crop(images, keys, size, pad)
        if any(self.recolour.law.jitter):
            self.recolour(moved, keys)
        return moved
