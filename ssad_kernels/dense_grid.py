# SPDX-License-Identifier: Apache-2.0
"""What the layers of a network say of all windows of an image, each value held once.

Let windows start at multiples of s pixels, and let a layer have a cumulative stride of j pixels.
Its values for all windows lie at pixels o + j p, o a multiple of s and p a position in the window;
these pixels form a grid of step g = gcd(s, j). So one map on that grid holds all values of all
windows, and a layer of kernel K, stride t and dilation d becomes the same layer with dilation
d j / g and stride g' / g, where g' = gcd(s, t j) is the grid of its output. Strides that divide s
stay strides, others turn into dilation. Where windows have shrunk to one position, the grid is
that of the windows.

Sources: for s = 1 Giusti et al., "Fast image scanning with deep max-pooling convolutional neural
networks", ICIP 2013, in fragments, and Li et al., "Highly efficient forward and backward
propagation of convolutional neural networks for pixelwise classification", arXiv 1412.4526, in
dilated kernels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

Pair = tuple[int, int]


class NotDenseError(ValueError):
    """A layer cannot be evaluated on all windows at once."""


@dataclass(frozen=True)
class WindowMap:
    """What a layer says of all windows.

    Attributes:
        data: (N, C, H', W') values on the grid.
        size: Positions (h, w) of the layer in one window.
        step: Pixels (h, w) from one of them to the next.
        flat: Whether the layer gives a vector a window, (B, C) instead of (B, C, h, w).
        is_part: Whether this is part of another map, in the same memory: the parts of all windows
            overlap the rest of the map in other windows, so it cannot be changed in place.
    """

    data: Tensor
    size: Pair
    step: Pair
    flat: bool = False
    is_part: bool = False

    @property
    def shape(self) -> torch.Size:
        """The shape that the network sees, but for the number of windows."""
        return torch.Size([*self.data.shape[:2], *(() if self.flat else self.size)])


@dataclass(frozen=True)
class Slide:
    """How a kernel moves over a map, and what comes out."""

    size: Pair
    step: Pair
    stride: Pair
    dilation: Pair


class WindowGrid:
    """The layers, on maps of all windows.

    Args:
        stride: Pixels from one window to the next.
        count: Windows in an image, along its height and width.
    """

    def __init__(self, stride: Pair, count: Pair) -> None:
        # A single window has positions of its own alone: with a stride of 0, gcd(0, j) = j.
        self.stride = pair(s if n > 1 else 0 for s, n in zip(stride, count, strict=True))
        self.count = count
        self.multiply_adds = 0

    def grid(self, step: Pair) -> Pair:
        """Pixels from one value of a map to the next."""
        return pair(math.gcd(s, j) for s, j in zip(self.stride, step, strict=True))

    def made(
        self,
        x: WindowMap,
        data: Tensor,
        size: Pair | None = None,
        step: Pair | None = None,
        cost: int = 1,
    ) -> WindowMap:
        """What a layer has made of x at a cost per value; values of no window are left out."""
        size, step = size or x.size, step or x.step
        height, width = (
            (s * (h - 1) + j * (n - 1)) // g + 1
            for s, h, j, n, g in zip(
                self.stride, self.count, step, size, self.grid(step), strict=True
            )
        )
        self.multiply_adds += math.prod(data.shape) * cost
        data = data[:, :, :height, :width]
        return replace(x, data=data, size=size, step=step, is_part=False)

    def slide(self, x: WindowMap, kernel: Pair, stride: Pair, dilation: Pair) -> Slide:
        """How a kernel moves over x."""
        if x.flat:
            msg = "a spatial layer after the maps have become vectors"
            raise NotDenseError(msg)
        reach = pair(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
        size = pair((n - r) // t + 1 for n, r, t in zip(x.size, reach, stride, strict=True))
        if min(size) < 1:
            msg = f"a kernel over {times(reach)} positions where a window has {times(x.size)}"
            raise NotDenseError(msg)
        step = self.step(size, pair(t * j for t, j in zip(stride, x.step, strict=True)))
        far = pair(d * j // g for d, j, g in zip(dilation, x.step, self.grid(x.step), strict=True))
        thin = self.thinning(x.step, step)
        moves = pair(k if s else t for s, k, t in zip(self.stride, thin, stride, strict=True))
        return Slide(size, step, moves, far)

    def step(self, size: Pair, step: Pair) -> Pair:
        """The step of a map; where windows have one position, that from window to window."""
        return pair(
            (s or 1) if n == 1 else j for s, n, j in zip(self.stride, size, step, strict=True)
        )

    def thinning(self, old: Pair, new: Pair) -> Pair:
        """Each how many-th value of a map of one step stays in a map of another."""
        return pair(max(1, b // a) for a, b in zip(self.grid(old), self.grid(new), strict=True))

    def convolve(
        self,
        x: WindowMap,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | Sequence[int] = 1,
        padding: str | int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> WindowMap:
        """A convolution, with the arguments of ``torch.nn.functional.conv2d``."""
        check_padding(padding)
        _check_channels(x, weight.shape[1] * groups)
        slide = self.slide(x, pair(weight.shape[2:]), pair(stride), pair(dilation))
        data = F.conv2d(x.data, weight, bias, slide.stride, 0, slide.dilation, groups)
        return self.made(x, data, slide.size, slide.step, math.prod(weight.shape[1:]))

    def linear(self, x: WindowMap, weight: Tensor, bias: Tensor | None = None) -> WindowMap:
        """A linear layer on vectors."""
        if not x.flat:
            msg = "a linear layer over the columns of a map"
            raise NotDenseError(msg)
        _check_channels(x, weight.shape[1])
        data = F.conv2d(x.data, weight[:, :, None, None], bias)
        return self.made(x, data, cost=weight.shape[1])

    def pool(
        self,
        x: WindowMap,
        combine: Callable[[Tensor, Tensor], Tensor],
        kernel: Pair,
        stride: Pair,
        dilation: Pair = (1, 1),
    ) -> WindowMap:
        """The sum or maximum under a kernel, along one axis after the other."""
        slide = self.slide(x, kernel, stride, dilation)
        data = x.data
        for axis in (0, 1):
            step, far = slide.stride[axis], slide.dilation[axis]
            length = (data.shape[axis + 2] - far * (kernel[axis] - 1) - 1) // step + 1
            taps = [
                data.narrow(axis + 2, k * far, step * (length - 1) + 1) for k in range(kernel[axis])
            ]
            thinned = [tap[:, :, ::step] if axis == 0 else tap[..., ::step] for tap in taps]
            data = functools.reduce(combine, thinned)
        if kernel == (1, 1):
            data = data.clone()  # not the memory of x, which a later layer may change
        return self.made(x, data, slide.size, slide.step, sum(kernel))

    def average(self, x: WindowMap, kernel: Pair, stride: Pair) -> WindowMap:
        """The mean under a kernel."""
        dtype = x.data.dtype
        wide = replace(x, data=x.data.to(torch.promote_types(dtype, torch.float32)))
        total = self.pool(wide, torch.add, kernel, stride)
        return replace(total, data=(total.data / math.prod(kernel)).to(dtype))

    def crop(self, x: WindowMap, rows: slice, columns: slice) -> WindowMap:
        """A part of each window."""
        (top, height), (left, width) = (
            _extent(part, n) for part, n in zip((rows, columns), x.size, strict=True)
        )
        start = pair(
            first * j // g
            for first, j, g in zip((top, left), x.step, self.grid(x.step), strict=True)
        )
        return self._taken(x, start, (height, width))

    def first(self, images: Tensor, window: Pair) -> WindowMap:
        """The map of the images themselves."""
        return self._taken(WindowMap(images, window, (1, 1)), (0, 0), window)

    def _taken(self, x: WindowMap, start: Pair, size: Pair) -> WindowMap:
        step = self.step(size, x.step)
        (up, across), (down, right) = start, self.thinning(x.step, step)
        return self.made(x, x.data[:, :, up::down, across::right], size, step, cost=0)

    def flatten(self, x: WindowMap) -> WindowMap:
        """A map of one position a window, as vectors."""
        if x.size != (1, 1):
            msg = f"makes a vector of {times(x.size)} positions"
            raise NotDenseError(msg)
        return replace(x, flat=True)


def pair(value: int | Iterable[int]) -> Pair:
    """An int for both axes, or one for each."""
    height, width = (value, value) if isinstance(value, int) else value
    return height, width


def check_padding(padding: str | int | Sequence[int]) -> None:
    """Raise unless a layer sees its window alone."""
    if padding not in ("valid", 0, (0, 0), [0, 0], (0,), [0]):
        msg = f"padding {padding!r}: the border of a window would show inside of the image"
        raise NotDenseError(msg)


def _check_channels(x: WindowMap, channels: int) -> None:
    if x.data.shape[1] != channels:
        msg = f"a layer for {channels} channels on a map of {x.data.shape[1]}"
        raise NotDenseError(msg)


def _extent(part: slice, size: int) -> tuple[int, int]:
    start, stop, step = part.indices(size)
    if step != 1 or stop <= start:
        msg = f"takes the positions {start}:{stop}:{step} of {size}"
        raise NotDenseError(msg)
    return start, stop - start


def times(size: Pair) -> str:
    """Words for a height and a width."""
    return f"{size[0]} x {size[1]}"
