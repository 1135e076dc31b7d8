# SPDX-License-Identifier: Apache-2.0
"""Colour jitter of a tile of pixels: the formulas of csrc/include/ssad/jitter.h."""

import triton
import triton.language as tl

BRIGHTNESS = tl.constexpr(0)
CONTRAST = tl.constexpr(1)
SATURATION = tl.constexpr(2)
HUE = tl.constexpr(3)


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
def hue_turn(turns, compute: tl.constexpr):
    """Split a turn of the hue (float64) into thirds of the circle and at most a sixth more."""
    fraction = turns - tl.floor(turns)
    thirds = tl.floor(fraction * 3.0 + 0.5)
    return thirds.to(compute), (fraction * 6.0 - thirds * 2.0).to(compute)


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
    # A third of the circle passes each channel's value on to the next; three thirds are none.
    r = tl.where(thirds == 1.0, z, tl.where(thirds == 2.0, y, x))
    g = tl.where(thirds == 1.0, x, tl.where(thirds == 2.0, z, y))
    b = tl.where(thirds == 1.0, y, tl.where(thirds == 2.0, x, z))
    return r, g, b


@triton.jit
def jitter_step(jitter, order, row, k, is_rgb: tl.constexpr):
    """The k-th step of a sample's jitter and its factor; -1 where it changes nothing."""
    op = tl.load(order + 4 * row + k)
    is_known = (op >= 0) & (op <= (HUE if is_rgb else CONTRAST))
    op = tl.where(is_known, op, -1).to(tl.int32)
    factor = tl.load(jitter + 4 * row + tl.maximum(op, 0))
    neutral = tl.where(op == HUE, 0.0, 1.0)
    return tl.where(factor != neutral, op, -1), factor


@triton.jit
def load_jittered(
    source, stride_c, mask, jitter, order, row, steps, means, thirds, shift,
    is_rgb: tl.constexpr, white: tl.constexpr, compute: tl.constexpr,
):  # fmt: skip
    """Colours at ``source`` after the first ``steps`` steps of a sample's jitter.

    ``means``: the grey that each step mixes in, the mean of the patch for contrast, else 0.
    """
    r = tl.load(source, mask=mask, other=0).to(compute)
    g = r
    b = r
    if is_rgb:
        g = tl.load(source + stride_c, mask=mask, other=0).to(compute)
        b = tl.load(source + 2 * stride_c, mask=mask, other=0).to(compute)
    for k in range(steps):
        op, factor = jitter_step(jitter, order, row, k, is_rgb)
        factor = factor.to(compute)
        if (op >= BRIGHTNESS) & (op <= CONTRAST):
            other = tl.sum(tl.where(tl.arange(0, 4) == k, means, 0.0))
            r = blend(r, other, factor, white)
            if is_rgb:
                g = blend(g, other, factor, white)
                b = blend(b, other, factor, white)
        if is_rgb:
            if op == SATURATION:
                own = grey(r, g, b)
                r = blend(r, own, factor, white)
                g = blend(g, own, factor, white)
                b = blend(b, own, factor, white)
            if op == HUE:
                r, g, b = shift_hue(r, g, b, thirds, shift)
    return r, g, b
