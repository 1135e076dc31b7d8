# SPDX-License-Identifier: Apache-2.0
"""Colour jitter of one pixel per lane: the formulas of csrc/include/ssad/jitter.h."""

import triton
import triton.language as tl


@triton.jit
def _clamp(x, low, high):
    x = tl.where(x < low, low, x)  # unlike tl.clamp this keeps a NaN, as the C++ does
    return tl.where(x > high, high, x)


@triton.jit
def grey(r, g, b):
    """Grey value with torchvision's weights."""
    return 0.2989 * r + 0.587 * g + 0.114 * b


@triton.jit
def blend(x, other, factor, white):
    """Mix with ``other``, which factor = 0 gives, and clamp to black...white."""
    return _clamp(factor * x + (1.0 - factor) * other, 0.0, white)


@triton.jit
def hue_turn(turns):
    """Split a turn of the hue (float64) into thirds of the circle and at most a sixth more."""
    fraction = turns - tl.floor(turns)
    thirds = tl.floor(fraction * 3.0 + 0.5)
    return thirds.to(tl.int32) % 3, fraction * 6.0 - thirds * 2.0


@triton.jit
def _turn_channel(x, by, threshold, low, high):
    return _clamp(x + (by - _clamp(by, -threshold, threshold)), low, high)


@triton.jit
def shift_hue(r, g, b, thirds, shift):
    """Turn the hue by ``thirds`` of the circle and ``shift`` sixths, -1...1."""
    high = tl.maximum(tl.maximum(r, g), b)
    low = tl.minimum(tl.minimum(r, g), b)
    sign = tl.where(shift < 0.0, -1.0, 1.0).to(r.dtype)
    threshold = (high - low) * (1.0 - sign * shift)
    x = _turn_channel(r, sign * (b - g), threshold, low, high)
    y = _turn_channel(g, sign * (r - b), threshold, low, high)
    z = _turn_channel(b, sign * (g - r), threshold, low, high)
    # A third of the circle passes each channel's value on to the next.
    r = tl.where(thirds == 0, x, tl.where(thirds == 1, z, y))
    g = tl.where(thirds == 0, y, tl.where(thirds == 1, x, z))
    b = tl.where(thirds == 0, z, tl.where(thirds == 1, y, x))
    return r, g, b
