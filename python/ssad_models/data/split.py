# SPDX-License-Identifier: Apache-2.0
"""What every data source is turned into: listed samples, then decoded tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import torch

Advance = Callable[[int], None]
"""Called with the number of images just done, for a progress bar."""


@dataclass(frozen=True)
class Sample:
    """One image on disk, listed but not read.

    Attributes:
        path: The image file.
        name: Unique within its split, relative, with "/" between parts: "broken_large/000.png".
        kind: Kind of defect, "good" for normal images.
        anomalous: Whether the image has a defect.
        mask: The mask file, or a folder of files of which each marks one defect; None for normal
            images and for data sets without masks.
    """

    path: Path
    name: str
    kind: str = "good"
    anomalous: bool = False
    mask: Path | None = None


class Defects(NamedTuple):
    """The annotated defects of one image, in its original size.

    Attributes:
        masks: (D, 1, H, W) bool, the pixels of each.
        saturation: (D,) float64 pixels of each that are enough, > 0.
    """

    masks: torch.Tensor
    saturation: torch.Tensor


Annotations = Iterable[Defects]
"""One for each image; can be gone through again and again."""


@dataclass(frozen=True)
class Split:
    """Decoded images with what is known of them; in shared memory if there is enough.

    Attributes:
        images: (N, C, S, S) uint8, C = 1 or 3.
        names: One per image, unique.
        kinds: One per image, "good" for normal images.
        labels: (N,) bool, True for anomalous.
        masks: (N, 1, S, S) bool, or None if the data set has no masks. Blank for normal images.
        strengths: (N,) float64 strength of the defect, NaN where unknown.
        groups: (N,) int64; images of one group (such as a place of a photograph) are not
            independent and are resampled together. By default every image is its own group.
        sizes: (N, 2) int64 height and width of the files in pixels.
        annotations: The defects of each image, or None if they are not told apart.
    """

    images: torch.Tensor
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    labels: torch.Tensor
    masks: torch.Tensor | None
    strengths: torch.Tensor
    groups: torch.Tensor
    sizes: torch.Tensor
    annotations: Annotations | None = None

    def __len__(self) -> int:
        return len(self.images)


class Source(Protocol):
    """One category of a data set, before anything is decoded."""

    @property
    def name(self) -> str:
        """The category."""

    def train(self, size: int, channels: int, advance: Advance | None = None) -> Split:
        """Normal training images, resized to size x size."""

    def test(self, size: int, channels: int, advance: Advance | None = None) -> Split | None:
        """Test images, or None if the data set has none."""

    def counts(self) -> tuple[int, int]:
        """Number of training and of test images, for the progress bar and the size estimate."""

    def fingerprint(self) -> str:
        """A short text that is another one if the training images are, told without reading them.

        Raises:
            OSError: If a file has gone.
        """

    def test_fingerprint(self) -> str:
        """Likewise for the test images and their masks."""
