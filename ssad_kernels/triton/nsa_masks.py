# SPDX-License-Identifier: Apache-2.0
"""The masks of NSA's patches, a tile of pixels at a time.

Every decision is that of ssad_kernels/reference/nsa_masks.py. Kernels that call these functions are
launched with `OPTIONS`: a contracted multiply-add would round once where the other backends round
twice.
"""

import triton
import triton.language as tl

from ssad_kernels._backend import is_interpreted
from ssad_kernels.reference import nsa_masks
from ssad_kernels.triton.rotation import rotation

MIN_PIXELS = tl.constexpr(nsa_masks.MIN_PIXELS)
# Of a tile. The interpreter takes its time for each of them.
ROWS = tl.constexpr(64 if is_interpreted() else 16)
COLUMNS = tl.constexpr(64 if is_interpreted() else 32)
# Left to itself, ptxas would spill some registers to have two programs on a multiprocessor.
OPTIONS = {"num_warps": 8, "maxnreg": 255, "enable_fp_fusion": False}


@triton.jit
def _ellipses(rows, count, y, x, is_reference: tl.constexpr):
    """Whether pixels lie in one of the ellipses ``rows`` (count, 5)."""
    at_y = y.to(tl.float64) + 0.5
    at_x = x.to(tl.float64) + 0.5
    union = tl.zeros((ROWS, COLUMNS), tl.int32)
    for e in range(count):
        row = rows + 5 * e
        semi_y = tl.load(row + 2)
        semi_x = tl.load(row + 3)
        angle = tl.load(row + 4).to(tl.float32)
        is_ellipse = (semi_y > 0.0) & (semi_x > 0.0) & (tl.abs(angle) < float("inf"))
        cos, sin = rotation(tl.where(is_ellipse, angle, 0.0))
        cos = cos.to(tl.float64) * 1.52587890625e-05  # 2**-16
        sin = sin.to(tl.float64) * 1.52587890625e-05
        dy = (at_y - tl.load(row))[:, None]
        dx = (at_x - tl.load(row + 1))[None, :]
        turned = dy * sin if is_reference else -(dy * sin)
        along = (dy * cos + dx * sin) / tl.where(is_ellipse, semi_y, 1.0)
        across = (dx * cos + turned) / tl.where(is_ellipse, semi_x, 1.0)
        is_within = along * along + across * across <= 1.0
        union = union | (is_within.to(tl.int32) & is_ellipse.to(tl.int32))
    return union != 0


@triton.jit
def _taps(at, length, size):
    """The two neighbours of resized pixels, the weight of the second, and the sum of weights."""
    unit = 2 * size
    place = tl.minimum(tl.maximum((2 * at + 1) * length - size, 0), unit * (length - 1))
    low = place // unit
    return low, tl.minimum(low + 1, length - 1), place - low * unit, unit


@triton.jit
def _resized(mask, width, y, x, h, w, inside):
    """Pixels of a window ``h`` x ``w``, resized bilinearly, where above one half; in integers.

    ``mask`` is the window's corner, and ``inside`` are the pixels of the resized one, whose size
    comes with the rows ``y`` and columns ``x``.
    """
    rows, to_h = y
    columns, to_w = x
    upper, lower, down, unit_y = _taps(rows, h, to_h)
    left, right, across, unit_x = _taps(columns, w, to_w)
    upper = mask + (upper * width)[:, None]
    lower = mask + (lower * width)[:, None]
    above = (unit_y - down)[:, None]
    below = down[:, None]
    a = tl.load(upper + left[None, :], mask=inside, other=0) != 0
    b = tl.load(lower + left[None, :], mask=inside, other=0) != 0
    first = tl.where(a, above, 0) + tl.where(b, below, 0)
    a = tl.load(upper + right[None, :], mask=inside, other=0) != 0
    b = tl.load(lower + right[None, :], mask=inside, other=0) != 0
    second = tl.where(a, above, 0) + tl.where(b, below, 0)
    total = first * (unit_x - across)[None, :] + second * across[None, :]
    return inside & (2 * total > unit_y * unit_x)


@triton.jit
def tile(y0, x0, h, w):
    """Rows and columns of the tile from (y0, x0) on, and which pixels are in a patch h x w."""
    y = y0 + tl.arange(0, ROWS).to(tl.int64)
    x = x0 + tl.arange(0, COLUMNS).to(tl.int64)
    return y, x, (y < h)[:, None] & (x < w)[None, :]


@triton.jit
def inner(y, x, h, w):
    """Which pixels of a tile are in a patch h x w, but not on its frame."""
    rows = (y >= 1) & (y < h - 1)
    columns = (x >= 1) & (x < w - 1)
    return rows[:, None] & columns[None, :]


@triton.jit
def shape_and_own(
    y, x, box, h, w, ellipse, ellipses, window, width, cut_h, cut_w, is_masked: tl.constexpr,
    is_round: tl.constexpr, is_reference: tl.constexpr,
):  # fmt: skip
    """P and M_s in a tile of a patch h x w, of which ``box`` is inside.

    ``window``, cut_h x cut_w, is the place in the source's object mask that the patch is cut from.
    """
    shape = box
    own = box
    if is_round:
        shape = box & _ellipses(ellipse, ellipses, y, x, is_reference)
    if is_masked:
        own = _resized(window, width, (y, h), (x, w), cut_h, cut_w, box)
    return shape, own
