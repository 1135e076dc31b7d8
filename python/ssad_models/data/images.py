# SPDX-License-Identifier: Apache-2.0
"""Image files and tensors: reading, whatever the format, and resizing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps

from ssad_models.names import printable

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""What the name of an image file ends in, in lower case."""

_DEPTH_16 = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_TOO_DEEP = "32 bits per channel, where at most 16 are supported"


class DataError(ValueError):
    """Something is wrong with the user's files; the message names the file and the remedy."""


def read_image(path: Path, channels: int) -> torch.Tensor:
    """Read an image file.

    The first frame, turned upright as its EXIF data say. Transparency is dropped. Grey and colour
    are converted into each other (grey = 0.299 R + 0.587 G + 0.114 B). 16-bit grey values are
    divided by 257, so that 65535 becomes 255 and files stay comparable with each other.

    Args:
        path: The file, in any format that Pillow reads.
        channels: 1 for grey or 3 for RGB.

    Returns:
        (channels, H, W) uint8.

    Raises:
        DataError: If the file is missing, damaged, no image, or of more than 16 bits per channel.
        ValueError: If `channels` is neither 1 nor 3.
    """
    if channels not in (1, 3):
        msg = f"read_image: `channels` must be 1 or 3, got {channels}"
        raise ValueError(msg)

    def convert(image: Image.Image) -> Image.Image:
        if image.mode in _DEPTH_16:
            image = _to_8_bits(image)
        if image.mode == "F":
            raise ValueError(_TOO_DEEP)
        return _true_colours(image).convert("L" if channels == 1 else "RGB")

    return torch.from_numpy(_pixels(path, convert)).permute(2, 0, 1)


def read_mask(path: Path) -> torch.Tensor:
    """Read a mask file: (1, H, W) bool, true where it is not black, transparent or not.

    In JPEG files, whose black is only nearly so, true where any channel is above 127.

    Raises:
        DataError: If the file is missing, damaged or no image.
    """

    def opaque(image: Image.Image) -> Image.Image:
        image = _true_colours(image)
        return image.convert(image.mode[:-1]) if image.mode in ("LA", "RGBA") else image

    limit = 127 if path.suffix.lower() in (".jpg", ".jpeg") else 0
    return torch.from_numpy((_pixels(path, opaque) > limit).any(axis=2))[None]


def resize(image: torch.Tensor, size: int) -> torch.Tensor:
    """Resize (C, H, W) uint8 to (C, size, size), bilinear with antialiasing; sides are squeezed."""
    if image.shape[1:] == (size, size):
        return image
    shape = (size, size)
    return torch.nn.functional.interpolate(
        image[None].contiguous(), shape, mode="bilinear", antialias=True
    )[0]


def resize_mask(mask: torch.Tensor, size: int) -> torch.Tensor:
    """Resize (1, H, W) bool to (1, size, size): true where any part was, lest scratches vanish."""
    return torch.nn.functional.adaptive_max_pool2d(mask.float(), size) > 0


def _pixels(path: Path, convert: Callable[[Image.Image], Image.Image]) -> npt.NDArray[Any]:
    """Decode a file, turn it upright and convert it: (H, W, channels)."""
    try:
        with Image.open(path) as image:
            pixels = np.array(convert(ImageOps.exif_transpose(image)))
    except FileNotFoundError as error:
        msg = f"{printable(path)}: no such file; the files of a data set must stay in place"
        raise DataError(msg) from error
    except Exception as error:  # on a damaged file Pillow's decoders raise almost anything
        msg = (
            f"{printable(path)}: must be an image that can be read, got: {error}; "
            "repair, convert or remove it"
        )
        raise DataError(msg) from error
    return pixels.reshape(*pixels.shape[:2], -1)


def _true_colours(image: Image.Image) -> Image.Image:
    """The colours that a palette stands for, as RGBA: a transparent one needs a place to go."""
    return image.convert("RGBA") if image.mode in ("P", "PA") else image


def _to_8_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(_TOO_DEEP)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
