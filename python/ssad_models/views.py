# SPDX-License-Identifier: Apache-2.0
"""What several methods do to images first: their range, and random views, a function of keys."""

from __future__ import annotations

import torch

from ssad_kernels.random import STREAMS, philox

_WORDS = 4
"""Of a key's random numbers, the first two place the crop, then come the angle and the flip."""


def pixels(images: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) uint8 or float 0..1 -> float 0..1."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def random_crop(images: torch.Tensor, keys: torch.Tensor, size: int, pad: int = 0) -> torch.Tensor:
    """Pad by reflection and cut a square from a random place, one place per key.

    With `size` the side of the images and `pad` an eighth of it this is the random translation of
    the authors' earlier code (Sohn et al.); CutPaste says "random translation" and gives no range.

    Args:
        images: (N, C, H, W), any dtype.
        keys: (N, 3) int64, see `ssad_kernels.make_keys`.
        size: Side of the crop, at most min(H, W) + 2 · pad.
        pad: Reflected pixels on every side, less than min(H, W).

    Returns:
        (N, C, size, size), copied. The same key gives the same place on any device and in any
        batch.

    Raises:
        ValueError: If the crop does not fit.
    """
    shape = images.shape[2:]
    if not 0 <= pad < min(shape) or not 0 < size <= min(shape) + 2 * pad:
        must = f"be at most {min(shape) + 2 * pad} and `pad` less than {min(shape)}"
        msg = f"random_crop: `size` must {must}, got {size} and {pad}"
        raise ValueError(msg)
    for dim, side in ((2, shape[0]), (3, shape[1])) if pad else ():
        before, after = images.narrow(dim, 1, pad), images.narrow(dim, side - 1 - pad, pad)
        images = torch.cat([before.flip(dim), images, after.flip(dim)], dim)
    windows = images.unfold(2, size, 1).unfold(3, size, 1)  # a view: (N, C, places, places, h, w)
    # A 32-bit number times the number of places stays below 2^53, so this is exact and uniform to
    # 2^-20.
    draws = philox(keys, STREAMS["crop"], _WORDS)[:, :2].unbind(1)
    top, left = (
        draw * places >> 32 for draw, places in zip(draws, windows.shape[2:4], strict=True)
    )
    return windows[torch.arange(len(images), device=images.device), :, top, left]


def random_turn(images: torch.Tensor, keys: torch.Tensor, degrees: float) -> torch.Tensor:
    """Turn by a random angle about the centre, nearest pixel, black from outside.

    Args:
        images: (N, C, H, W), any dtype.
        keys: (N, 3) int64, see `ssad_kernels.make_keys`.
        degrees: Largest angle to either side, at least 0.

    Returns:
        (N, C, H, W), copied. The same key gives the same angle on any device and in any batch.
    """
    height, width = images.shape[2:]
    share = philox(keys, STREAMS["crop"], _WORDS)[:, 2].double() / 2**31 - 1
    angle = (share * degrees * torch.pi / 180)[:, None, None]
    y = torch.arange(height, device=images.device).double()[:, None] - (height - 1) / 2
    x = torch.arange(width, device=images.device).double() - (width - 1) / 2
    sine, cosine = angle.sin(), angle.cos()
    rows = (y * cosine + x * sine + (height - 1) / 2 + 0.5).floor().long()
    columns = (x * cosine - y * sine + (width - 1) / 2 + 0.5).floor().long()
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    places = (rows * width + columns).where(inside, 0).flatten(1)[:, None]
    turned = images.flatten(2).gather(2, places.expand(-1, images.shape[1], -1))
    return turned.view(images.shape).where(inside[:, None], images.new_zeros(()))


def random_flip(images: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Turn every other image upside down, by its key: (N, C, H, W) -> the same shape, copied."""
    flipped = philox(keys, STREAMS["crop"], _WORDS)[:, 3] >= 1 << 31
    return images.flip(2).where(flipped[:, None, None, None], images)


def centre_crop(images: torch.Tensor, size: int) -> torch.Tensor:
    """A square from the middle, (N, C, H, W) -> (N, C, size, size), a view."""
    top, left = ((side - size) // 2 for side in images.shape[2:])
    return images[:, :, top : top + size, left : left + size]
