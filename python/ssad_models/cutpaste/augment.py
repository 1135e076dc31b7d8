# SPDX-License-Identifier: Apache-2.0
"""The plain augmentation that normal images get before CutPaste: a random shift or crop."""

from __future__ import annotations

import torch

from ssad_kernels.random import STREAMS, philox


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
    n, _, *shape = images.shape
    if not 0 <= pad < min(shape) or not 0 < size <= min(shape) + 2 * pad:
        must = f"be at most {min(shape) + 2 * pad} and `pad` less than {min(shape)}"
        msg = f"random_crop: `size` must {must}, got {size} and {pad}"
        raise ValueError(msg)
    draws = philox(keys, STREAMS["crop"], 2)
    steps = torch.arange(size, device=images.device)
    indices = []
    for axis, side in enumerate(shape):
        # A 32-bit number times the number of places stays below 2^53, so this is exact and uniform
        # to 2^-20.
        start = (draws[:, axis] * (side + 2 * pad - size + 1)) >> 32
        index = (start[:, None] + steps - pad).abs()
        indices.append((side - 1) - ((side - 1) - index).abs())
    rows, columns = indices
    samples = torch.arange(n, device=images.device)[:, None, None]
    return (
        images.movedim(1, -1)[samples, rows[:, :, None], columns[:, None, :]]
        .movedim(-1, 1)
        .contiguous()
    )
