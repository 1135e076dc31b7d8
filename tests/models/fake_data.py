# SPDX-License-Identifier: Apache-2.0
"""Small data sets on disk, laid out like the public ones."""

from __future__ import annotations

import os
import signal
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def make_image(seed: object, size: int, defect: str | None = None) -> tuple[Pixels, Pixels]:
    """Diagonal colour stripes with noise, (size, size, 3), and the mask of the defect, 0 or 255.

    Any name of a defect draws a bright blob at a random place; None draws nothing.
    """
    rng = np.random.default_rng(zlib.crc32(repr((seed, defect)).encode()))
    rows, columns = np.indices((size, size))
    wave = np.sin((rows + columns)[..., None] / 6 + rng.uniform(0, 6.3) + np.arange(3))
    image = 110 + 40 * wave + rng.normal(0, 4, (size, size, 3))
    mask = np.zeros((size, size), bool)
    if defect is not None:
        radius = size / 8
        y, x = rng.uniform(radius, size - radius, 2)
        mask = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        image[mask] += 80
    return image.clip(0, 255).astype(np.uint8), mask.astype(np.uint8) * 255


def save(path: Path, pixels: Pixels) -> Path:
    """Write an image, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def make_mvtec(
    root: Path,
    categories: Sequence[str] = ("bottle", "a b"),
    size: int = 64,
    train: int = 24,
    test: int = 4,
    kinds: Sequence[str] = ("broken", "hole"),
) -> Path:
    """Lay out a small data set like MVTec AD.

    Args:
        root: Folder of the data set, made if it is missing.
        categories: Names of its folders.
        size: Side of the images.
        train: Number of training images of a category.
        test: Number of its test images of each kind and of its normal test images.
        kinds: Names of its kinds of defect.

    Returns:
        `root`.
    """
    for category in categories:
        folder = root / category
        for i in range(train):
            save(folder / f"train/good/{i:03}.png", make_image((category, i), size)[0])
        for i in range(test):
            normal, _ = make_image((category, "test", i), size)
            save(folder / f"test/good/{i:03}.png", normal)
            for kind in kinds:
                image, mask = make_image((category, "test", i), size, kind)
                save(folder / f"test/{kind}/{i:03}.png", image)
                save(folder / f"ground_truth/{kind}/{i:03}_mask.png", mask)
    return root


@dataclass(frozen=True)
class Deadly:
    """A category that ends the process that reads it."""

    name: str = "deadly"

    def train(self, *args: Any) -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    test = train

    def counts(self) -> tuple[int, int]:
        return 12, 3

    def fingerprint(self) -> str:
        return "x"

    test_fingerprint = fingerprint
