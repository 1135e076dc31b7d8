# SPDX-License-Identifier: Apache-2.0
"""Rotation in 16-bit fixed point, the same integers as in C++ and in the reference.

Kernels that call these functions are launched with ``enable_fp_fusion=False``: a contracted
multiply-add would round once where the other backends round twice.
"""

import triton
import triton.language as tl

_HUGE_TURNS = tl.constexpr(360.0 * 2.0**80)
_MANY_TURNS = tl.constexpr(360.0 * 2.0**40)


@triton.jit
def cosine_and_sine(x):
    """Of float64 angles within ±pi/4: Taylor series, exact to an ulp."""
    z = x * x
    sine = z * 0.0 - 1.0 / 1307674368000.0
    sine = sine * z + 1.0 / 6227020800.0
    sine = sine * z - 1.0 / 39916800.0
    sine = sine * z + 1.0 / 362880.0
    sine = sine * z - 1.0 / 5040.0
    sine = sine * z + 1.0 / 120.0
    sine = sine * z - 1.0 / 6.0
    sine = sine * z + 1.0
    sine = sine * x
    cosine = z * 0.0 + 1.0 / 20922789888000.0
    cosine = cosine * z - 1.0 / 87178291200.0
    cosine = cosine * z + 1.0 / 479001600.0
    cosine = cosine * z - 1.0 / 3628800.0
    cosine = cosine * z + 1.0 / 40320.0
    cosine = cosine * z - 1.0 / 720.0
    cosine = cosine * z + 1.0 / 24.0
    cosine = cosine * z - 1.0 / 2.0
    cosine = cosine * z + 1.0
    return cosine, sine


@triton.jit
def quarter_turns(count, c, s):
    """Cosines and sines of angles that are larger by so many quarters of a turn."""
    turn = count & 3
    cos = tl.where(turn == 0, c, tl.where(turn == 1, -s, tl.where(turn == 2, -c, s)))
    sin = tl.where(turn == 0, s, tl.where(turn == 1, c, tl.where(turn == 2, -s, -c)))
    return cos, sin


@triton.jit
def rotation(degrees):
    """Cosine and sine, int64 with 16 fractional bits, of finite float32 angles in degrees."""
    # The remainder of 360. The quotient of a float32 fits a float64 only after two coarser steps;
    # then every operation here is exact, as in fmod, for which Triton has no exact equivalent.
    x = tl.abs(degrees.to(tl.float64))
    x -= tl.floor(x / _HUGE_TURNS) * _HUGE_TURNS
    x -= tl.floor(x / _MANY_TURNS) * _MANY_TURNS
    x -= tl.floor(x / 360.0) * 360.0
    x = tl.where((degrees < 0.0) & (x > 0.0), 360.0 - x, x)

    quadrant = tl.floor((x + 45.0) / 90.0)
    cosine, sine = cosine_and_sine((x - quadrant * 90.0) * 0.017453292519943295)
    c = tl.floor(cosine * 65536.0 + 0.5).to(tl.int64)
    s = tl.floor(sine * 65536.0 + 0.5).to(tl.int64)
    return quarter_turns(quadrant.to(tl.int32), c, s)


@triton.jit
def canvas_side(along, across, cos, sin):
    """Side of the canvas that just holds a rotated patch: its height with ``along`` = height."""
    return (along * tl.abs(cos) + across * tl.abs(sin) + 65535) >> 16
