# SPDX-License-Identifier: Apache-2.0
"""What is drawn of an NSA patch: sizes, windows, ellipses.

ssad_kernels/reference/nsa_law.py says which random number decides what. There all proposals are
looked at; here, as in C++, the first one that is valid ends the search.
"""

import triton
import triton.language as tl

from ssad_kernels.reference import nsa_law, quantile_tables
from ssad_kernels.triton.random import below, keyed_philox, unit

# The laws of sizes.
GAMMA, UNIFORM, CUTPASTE, SQUARE = (tl.constexpr(law) for law in range(4))

ELLIPSES = tl.constexpr(nsa_law.ELLIPSES)
HALF = tl.constexpr(1 << 31)

_LOWEST_AREA = tl.constexpr(nsa_law.AREA[0])
_AREAS = tl.constexpr(nsa_law.AREA[1] - nsa_law.AREA[0])
_LOWEST_ASPECT = tl.constexpr(nsa_law.ASPECT[0])
_HIGHEST_ASPECT = tl.constexpr(nsa_law.ASPECT[1])

# Of a table of quantiles, see ssad_kernels/reference/quantiles.py.
_KNOTS = tl.constexpr(len(quantile_tables.NORMAL))
_PART = tl.constexpr((1 << 47) - 1)
_FIRST = tl.constexpr(1022 << 5)


@triton.jit
def _quantile(low_tail, high_tail, bits):
    """Of tables for either half of the numbers, and whether a number is in the upper half."""
    number = bits.to(tl.int64)
    is_high = number >= HALF
    tail = tl.where(is_high, 0xFFFFFFFF - number, number).to(tl.float64) + 0.5
    place = tail.to(tl.int64, bitcast=True)
    part = (place & _PART).to(tl.float64) * 7.105427357601002e-15  # 2**-47
    at = tl.where(is_high, high_tail, low_tail) + ((place >> 47) - _FIRST)
    low = tl.load(at)
    return low + (tl.load(at + 1) - low) * part, is_high


@triton.jit
def half_size(
    tables, size, low, high, offset, scale, bits, law: tl.constexpr,
):  # fmt: skip
    """Half a window's size along an axis."""
    if law == GAMMA:
        number, _ = _quantile(tables, tables + _KNOTS, bits)
        wanted = (offset + scale * number) * tl.cast(size, tl.float64)
        wanted = tl.maximum(wanted, tl.cast(low, tl.float64))
        half = tl.floor(tl.minimum(wanted, tl.cast(high, tl.float64))).to(tl.int64)
    else:
        half = low + below(tl.maximum(high - low, 1), bits)
    return half


@triton.jit
def cutpaste_size(height, width, area_bits, aspect_bits, half_bits):
    """The whole size of CutPaste's patches."""
    pixels = _LOWEST_AREA + _AREAS * unit(area_bits)
    pixels = pixels * (tl.cast(height, tl.float64) * tl.cast(width, tl.float64))
    is_flat = half_bits < HALF
    one = tl.full((), 1.0, tl.float64)
    low = tl.where(is_flat, one * _LOWEST_ASPECT, one)
    high = tl.where(is_flat, one, one * _HIGHEST_ASPECT)
    aspect = low + (high - low) * unit(aspect_bits)
    h = tl.floor(tl.sqrt(pixels * aspect) + 0.5).to(tl.int64)
    w = tl.floor(tl.sqrt(pixels / aspect) + 0.5).to(tl.int64)
    return tl.maximum(h, 1), tl.maximum(w, 1)


@triton.jit
def _cut(size, first, last, extent, bits, law: tl.constexpr):
    """Start and length, along an axis, of the windows of proposals."""
    if law == CUTPASTE:
        start = below(tl.maximum(size - extent + 1, 1), bits)
        length = start * 0 + tl.where(extent <= size, extent, 0)
    else:
        centre = first + below(tl.maximum(last - first, 1), bits)
        start = tl.maximum(centre - extent, 0)
        length = tl.where(last > first, tl.minimum(centre + extent, size) - start, 0)
    return start, length


@triton.jit
def _summed_at(summed, width, y, x, mask):
    """What lies above and to the left of (y, x); ``summed`` includes its own row and column."""
    mask = mask & (y > 0) & (x > 0)
    return tl.load(summed + (y - 1) * width + x - 1, mask=mask, other=0).to(tl.int64)


@triton.jit
def find_window(
    keys, summed, row, stream, number, height, width, first_y, last_y, first_x, last_x, h, w,
    proposals, share, law: tl.constexpr, has_share: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """The first window that shows enough of an object, and whether there is one."""
    lanes = tl.arange(0, block)
    begin = tl.full((), 0, tl.int32)
    is_found = tl.full((), 0, tl.int32)
    corner = tl.full((), 0, tl.int64)
    extent = tl.full((), 0, tl.int64)
    while (begin < proposals) & (is_found == 0):
        bits_y, bits_x, _, _ = keyed_philox(keys, row, stream, number + begin + lanes, True)
        ys, hs = _cut(height, first_y, last_y, h, bits_y, law)
        xs, ws = _cut(width, first_x, last_x, w, bits_x, law)
        is_valid = (begin + lanes < proposals) & (hs >= 1) & (ws >= 1)
        if has_share:
            count = _summed_at(summed, width, ys + hs, xs + ws, is_valid)
            count -= _summed_at(summed, width, ys, xs + ws, is_valid)
            count -= _summed_at(summed, width, ys + hs, xs, is_valid)
            count += _summed_at(summed, width, ys, xs, is_valid)
            seen = count.to(tl.float64) / tl.maximum(hs * ws, 1).to(tl.float64)
            is_valid = is_valid & (seen > share)
        chosen = tl.min(tl.where(is_valid, lanes, block), axis=0)
        is_found = (chosen < block).to(tl.int32)
        # Two of them at once, as sides are below 2**24.
        corner = tl.sum(tl.where(lanes == chosen, (ys << 32) + xs, 0), axis=0)
        extent = tl.sum(tl.where(lanes == chosen, (hs << 32) + ws, 0), axis=0)
        begin += block
    low = 0xFFFFFFFF
    return is_found != 0, corner >> 32, corner & low, extent >> 32, extent & low


@triton.jit
def resized_size(
    tables, h, w, low_h, high_h, low_w, high_w, low, high, spread, bits,
):  # fmt: skip
    """The size of a window after resizing."""
    # In the interpreter a number would become a float32 here.
    low = tl.full((), low, tl.float64)
    high = tl.full((), high, tl.float64)
    number, is_high = _quantile(tables + 2 * _KNOTS, tables + 2 * _KNOTS, bits)
    factor = 1.0 + spread * tl.where(is_high, number, -number)
    height = h.to(tl.float64)
    width = w.to(tl.float64)
    low_h = tl.cast(low_h, tl.float64)
    high_h = tl.cast(high_h, tl.float64)
    low_w = tl.cast(low_w, tl.float64)
    high_w = tl.cast(high_w, tl.float64)
    tall = tl.minimum(tl.maximum(factor, low), high) * height
    tall = tl.minimum(tl.maximum(tall, low_h), high_h)
    wide = tl.floor(tall * width / height)
    wide = tl.minimum(tl.maximum(wide, low_w), high_w)
    tall = tl.floor(wide * height / width)
    tall = tl.minimum(tl.maximum(tall, low_h), high_h)
    return tall.to(tl.int64), wide.to(tl.int64)


@triton.jit
def draw_ellipses(
    keys, rows, row, stream, number, half_h, half_w, low_h, low_w, cut_h, cut_w, h, w,
):  # fmt: skip
    """Store the ellipses of a patch of size h x w."""
    lanes = tl.arange(0, 8)
    mask = lanes < ELLIPSES
    tall = h.to(tl.float64)
    wide = w.to(tl.float64)
    count_h = tl.maximum(half_h // 2, low_h + 1) - low_h
    count_w = tl.maximum(half_w // 2, low_w + 1) - low_w
    y, x, semi_y, semi_x = keyed_philox(keys, row, stream, number + 2 * lanes, True)
    turn, _, _, _ = keyed_philox(keys, row, stream, number + 2 * lanes + 1, True)
    semi_h = (low_h + below(count_h, semi_y)).to(tl.float64)
    semi_w = (low_w + below(count_w, semi_x)).to(tl.float64)
    row_of = rows + 5 * lanes
    tl.store(row_of, unit(y) * tall, mask=mask)
    tl.store(row_of + 1, unit(x) * wide, mask=mask)
    tl.store(row_of + 2, semi_h * tall / cut_h.to(tl.float64), mask=mask)
    tl.store(row_of + 3, semi_w * wide / cut_w.to(tl.float64), mask=mask)
    tl.store(row_of + 4, (180.0 * unit(turn)).to(tl.float32).to(tl.float64), mask=mask)
