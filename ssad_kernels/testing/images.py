# SPDX-License-Identifier: Apache-2.0
"""Random images in every dtype and memory layout."""

from __future__ import annotations

import torch
from torch import Tensor


def make_images(
    n: int,
    channels: int,
    height: int,
    width: int,
    *,
    dtype: torch.dtype = torch.uint8,
    layout: str = "contiguous",
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Random images.

    Args:
        n: number of images.
        channels: of each.
        height: in pixels.
        width: in pixels.
        dtype: uint8 in 0...255, or a float in 0...1.
        layout: "contiguous", "channels_last", "strided" (every other pixel of a larger image) or
            "transposed" (height and width swapped in memory).
        seed: equal seeds give equal images in every layout.
        device: where they are.

    Returns:
        (n, channels, height, width).

    Raises:
        ValueError: for another layout.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (n, channels, height, width)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    if dtype != torch.uint8:
        images = (images.double() / 255.0).to(dtype)
    return with_layout(images.to(device), layout)


def with_layout(images: Tensor, layout: str) -> Tensor:
    """A copy of images (N, C, H, W) with other strides; for ``layout`` see `make_images`."""
    if layout == "contiguous":
        return images.clone(memory_format=torch.contiguous_format)
    if layout == "channels_last":
        return images.clone(memory_format=torch.channels_last)
    if layout == "transposed":
        return images.mT.clone(memory_format=torch.contiguous_format).mT
    if layout == "strided":
        n, channels, height, width = images.shape
        larger = images.new_zeros((n, channels, 2 * height, 2 * width + 1))
        view = larger[:, :, ::2, 1::2]
        view.copy_(images)
        return view
    msg = f"with_layout: unknown layout {layout!r}"
    raise ValueError(msg)


LAYOUTS = ("contiguous", "channels_last", "strided", "transposed")


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether tensors of one dtype and any layout hold the same bits, NaN and -0 included."""
    return torch.equal(*(t.contiguous().flatten().view(torch.uint8) for t in (a, b)))
