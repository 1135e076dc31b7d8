# SPDX-License-Identifier: Apache-2.0
"""Masks of cells, images behind them, what passes made of the hidden, and cells uncovered.

A split needs no sorting. The cells' numbers, and at a tie the cells, are keys of 56 bits; the first
key of each set but the first is found digit by digit, and a cell's set is how many of these are
not above its own key. Digits are looked at only until one key is left: two or three of seven.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssad_kernels.reference.masking import count_cells, count_draws, hide_below, smallest_cell
from ssad_kernels.triton._variants import Variant
from ssad_kernels.triton.medians import BLOCK, as_bytes, tile_of
from ssad_kernels.triton.random import keyed_philox

_BLOCKS = 512  # of four numbers, that a program holds at a time
_BOUNDS_OPTIONS = {"num_warps": 8}
_CELLS = 128  # whose scores a program adds up
_KEY_BITS = tl.constexpr(56)
_CELL_BITS = tl.constexpr(24)
_LAST = tl.constexpr((1 << 63) - 1)


@triton.jit
def _grid_of(cell, sample, least, height, width):
    """A sample's cells: their side, how many are in a row, and how many there are; int32."""
    side = tl.load(cell + sample)
    side = tl.minimum(tl.maximum(side, least), tl.maximum(height, width)).to(tl.int32)
    columns = (tl.cast(width, tl.int32) + side - 1) // side
    return side, columns, (tl.cast(height, tl.int32) + side - 1) // side * columns


@triton.jit
def _keys_of(word, index):
    return (word.to(tl.int64) << _CELL_BITS) | index


@triton.jit
def _bit_of(word, below, part):
    return (word.to(tl.int64) < below).to(tl.int32) << tl.cast(part, tl.int32)


@triton.jit
def _bounds_kernel(
    keys, cell, bounds, stream, height, width, least, parts, blocks_held: tl.constexpr
):
    """Find the first key of a set: a program for each set but the first."""
    at = tl.program_id(0).to(tl.int64)
    sample = at // (parts - 1)
    _, _, cells = _grid_of(cell, sample, least, height, width)
    rank = (at % (parts - 1) + 1).to(tl.int32) * ((cells + parts - 1) // parts)
    bins = tl.arange(0, 256)
    prefix = tl.full((), 0, tl.int64)
    shift = tl.full((), _KEY_BITS, tl.int32)
    left = cells
    while (left > 1) & (shift > 0) & (rank < cells):
        count = tl.zeros((256,), tl.int32)
        for begin in range(0, (cells + 3) // 4, blocks_held):
            block = begin + tl.arange(0, blocks_held)
            words = keyed_philox(keys, sample, stream, block, True)
            for k in tl.static_range(4):
                index = 4 * block + k
                key = _keys_of(words[k], index)
                is_open = (index < cells) & ((key >> shift) == prefix)
                digit = tl.where(is_open, (key >> (shift - 8)) & 255, 0)
                count += tl.histogram(digit.to(tl.int32), 256)
                count -= tl.where(bins == 0, tl.sum((~is_open).to(tl.int32), axis=0), 0)
        upto = tl.cumsum(count, 0)
        digit = tl.sum((upto <= rank).to(tl.int32), axis=0)
        left = tl.sum(tl.where(bins == digit, count, 0), axis=0)
        rank -= tl.sum(tl.where(bins < digit, count, 0), axis=0)
        prefix = (prefix << 8) | digit
        shift -= 8
    # With no key of that rank there is no such set.
    tl.store(bounds + at, tl.where(rank < cells, prefix << shift, _LAST))


@triton.jit
def _hidden_kernel(
    keys, cell, bounds, hidden, stream, height, width, least, below, most, parts, tiles,
    is_split: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """A bit of each cell for each part that hides it."""
    tile = tl.program_id(0).to(tl.int64)
    sample = tile // tiles
    _, _, cells = _grid_of(cell, sample, least, height, width)
    number = (tile % tiles * block).to(tl.int32) + tl.arange(0, block)
    if (tile % tiles) * block * 4 < cells:
        place = hidden + sample * most + 4 * number
        if is_split:
            words = keyed_philox(keys, sample, stream, number, True)
            own = bounds + sample * (parts - 1)
            for k in tl.static_range(4):
                key = _keys_of(words[k], 4 * number + k)
                set_of = tl.zeros((block,), tl.int32)
                for part in range(parts - 1):
                    set_of += (key >= tl.load(own + part)).to(tl.int32)
                tl.store(place + k, 1 << set_of, mask=4 * number + k < cells)
        else:
            bits_0 = tl.zeros((block,), tl.int32)
            bits_1, bits_2, bits_3 = bits_0, bits_0, bits_0
            blocks = (cells + 3) // 4
            for part in range(parts):
                word_0, word_1, word_2, word_3 = keyed_philox(
                    keys, sample, stream, part * blocks + number, True
                )
                bits_0 |= _bit_of(word_0, below, part)
                bits_1 |= _bit_of(word_1, below, part)
                bits_2 |= _bit_of(word_2, below, part)
                bits_3 |= _bit_of(word_3, below, part)
            tl.store(place, bits_0, mask=4 * number < cells)
            tl.store(place + 1, bits_1, mask=4 * number + 1 < cells)
            tl.store(place + 2, bits_2, mask=4 * number + 2 < cells)
            tl.store(place + 3, bits_3, mask=4 * number + 3 < cells)


@triton.jit
def _cell_masks_kernel(
    hidden, cell, out, height, width, least, most, parts, tiles,
    is_board: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    sample, pixel, pixels, mask, y, x = tile_of(height, width, tiles, block)
    side, columns, _ = _grid_of(cell, sample, least, height, width)
    row, column = y.to(tl.int32) // side, x.to(tl.int32) // side
    if is_board:
        bits = 1 << ((row + column) & 1)
    else:
        place = hidden + sample * most + row * columns + column
        bits = tl.load(place, mask=mask, other=0)
    for part in range(parts):
        is_visible = ((bits >> part) & 1) == 0
        tl.store(out + (sample * parts + part) * pixels + pixel, is_visible, mask=mask)


def launch_cell_masks(
    keys: Tensor,
    stream: int,
    height: int,
    width: int,
    cell: Tensor,
    parts: int,
    kind: str,
    hide: float,
    out: Tensor,
) -> None:
    """See `ssad_kernels.cell_masks`."""
    n = keys.shape[0]
    if n == 0:
        return
    keys, cell, is_board = keys.contiguous(), cell.contiguous(), kind == "checkerboard"
    least = smallest_cell(height, width, count_draws(kind, parts))
    most = 1 if is_board else count_cells(height, width, least)
    hidden = torch.empty((n, most), dtype=torch.int32, device=keys.device)
    shape = (height, width, least)
    with torch.cuda.device_of(keys):
        if not is_board:
            bounds = keys
            if kind == "split" and parts > 1:
                bounds = keys.new_empty((n, parts - 1))
                grid = (n * (parts - 1),)
                _bounds_kernel[grid](
                    keys, cell, bounds, stream, *shape, parts, _BLOCKS, **_BOUNDS_OPTIONS
                )
            tiles = triton.cdiv(most, 4 * _BLOCKS)
            _hidden_kernel[(n * tiles,)](
                keys, cell, bounds, hidden, stream, *shape, hide_below(hide), most, parts, tiles,
                kind == "split", _BLOCKS,
            )  # fmt: skip
        tiles = triton.cdiv(height * width, BLOCK)
        _cell_masks_kernel[(n * tiles,)](
            hidden, cell, as_bytes(out), *shape, most, parts, tiles, is_board, BLOCK
        )


@triton.jit
def _mask_images_kernel(
    images, masks, out, height, width, channels, parts, tiles,
    stride_n, stride_c, stride_y, stride_x, mask_n, mask_p, mask_y, mask_x,
    out_n, out_p, out_c, out_y, out_x, block: tl.constexpr,
):  # fmt: skip
    sample, _, _, mask, y, x = tile_of(height, width, tiles, block)
    images += sample * stride_n + y * stride_y + x * stride_x
    masks += sample * mask_n + y * mask_y + x * mask_x
    out += sample * out_n + y * out_y + x * out_x
    for _ in range(channels):
        value = tl.load(images, mask=mask, other=0)
        own, to = masks, out
        for _part in range(parts):
            is_visible = tl.load(own, mask=mask, other=0) != 0
            tl.store(to, tl.where(is_visible, value, 0), mask=mask)
            own += mask_p  # of which multiples may need 64 bits
            to += out_p
        images += stride_c
        out += out_c


def launch_mask_images(images: Tensor, masks: Tensor, out: Tensor) -> None:
    """See `ssad_kernels.mask_images`."""
    n, channels, height, width = images.shape
    if n == 0:
        return
    tiles = triton.cdiv(height * width, BLOCK)
    as_bits = _BITS[images.element_size()]  # they stay or vanish, whatever they mean
    with torch.cuda.device_of(images):
        _mask_images_kernel[(n * tiles,)](
            images.view(as_bits), as_bytes(masks), out.view(as_bits), height, width, channels,
            masks.shape[1], tiles, *images.stride(), *masks.stride(), *out.stride(), BLOCK,
        )  # fmt: skip


@triton.jit
def _composite_kernel(
    outputs, masks, images, out, height, width, channels, parts, tiles,
    from_n, from_p, from_c, from_y, from_x, mask_n, mask_p, mask_y, mask_x,
    stride_n, stride_c, stride_y, stride_x, compute: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    sample, pixel, pixels, mask, y, x = tile_of(height, width, tiles, block)
    # Multiples of these may need 64 bits.
    from_p, from_c = tl.cast(from_p, tl.int64), tl.cast(from_c, tl.int64)
    stride_c, mask_p = tl.cast(stride_c, tl.int64), tl.cast(mask_p, tl.int64)
    for channel in range(channels):
        total = tl.zeros((block,), compute)
        count = tl.zeros((block,), compute)
        for part in range(parts):
            place = masks + sample * mask_n + part * mask_p + y * mask_y + x * mask_x
            is_hidden = mask & (tl.load(place, mask=mask, other=1) == 0)
            place = outputs + sample * from_n + part * from_p + channel * from_c
            value = tl.load(place + y * from_y + x * from_x, mask=is_hidden, other=0)
            total += value.to(compute)
            count += is_hidden.to(compute)
        place = images + sample * stride_n + channel * stride_c + y * stride_y + x * stride_x
        own = tl.load(place, mask=mask & (count == 0), other=0)
        mean = (total / tl.maximum(count, 1)).to(own.dtype)
        place = out + (sample * channels + channel) * pixels + pixel
        tl.store(place, tl.where(count > 0, mean, own), mask=mask)


def launch_composite(outputs: Tensor, masks: Tensor, images: Tensor, out: Tensor) -> None:
    """See `ssad_kernels.composite`."""
    n, channels, height, width = images.shape
    if n == 0:
        return
    tiles = triton.cdiv(height * width, BLOCK)
    compute = tl.float64 if images.dtype == torch.float64 else tl.float32
    with torch.cuda.device_of(images):
        _composite_kernel[(n * tiles,)](
            outputs, as_bytes(masks), images, out, height, width, channels, masks.shape[1], tiles,
            *outputs.stride(), *masks.stride(), *images.stride(), compute, BLOCK,
        )  # fmt: skip


# Triton would pass a Python float as float32; annotated it stays a float64.
@triton.jit
def _normal_kernel(
    scores, cell, threshold, is_normal, height, width, share: tl.float64, tiles,
    stride_n, stride_y, stride_x, is_mean: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Which cells look normal; a lane adds up a cell, column by column, as everywhere."""
    tile = tl.program_id(0).to(tl.int64)
    sample = tile // tiles
    side, columns, cells = _grid_of(cell, sample, 1, height, width)
    first = tile % tiles * block
    if first < cells:
        at = first.to(tl.int32) + tl.arange(0, block)
        top, start = at // columns * side, at % columns * side
        limit = tl.load(threshold + sample)
        total = tl.zeros((block,), tl.float64)
        for j in range(tl.minimum(side, width)):
            column = scores + sample * stride_n + (start + j).to(tl.int64) * stride_x
            partial = tl.zeros((block,), tl.float64)
            for i in range(tl.minimum(side, height)):
                mask = (at < cells) & (top + i < height) & (start + j < width)
                place = column + (top + i).to(tl.int64) * stride_y
                value = tl.load(place, mask=mask, other=0).to(tl.float64)
                if not is_mean:
                    value = (mask & (value < limit)).to(tl.float64)
                partial += value
            total += partial
        rows = tl.minimum(side, height - top).to(tl.int64)
        area = (rows * tl.minimum(side, width - start)).to(tl.float64)
        found = total < limit * area if is_mean else total > share * area
        pixels = tl.cast(height, tl.int64) * width
        tl.store(is_normal + sample * pixels + at, found, mask=at < cells)


@triton.jit
def _uncover_kernel(
    masks, cell, is_normal, refined, is_hidden, height, width, parts, tiles,
    mask_n, mask_p, mask_y, mask_x, block: tl.constexpr,
):  # fmt: skip
    sample, pixel, pixels, mask, y, x = tile_of(height, width, tiles, block)
    side, columns, _ = _grid_of(cell, sample, 1, height, width)
    at = sample * pixels + y.to(tl.int32) // side * columns + x.to(tl.int32) // side
    uncovers = tl.load(is_normal + at, mask=mask, other=0) != 0
    is_open = tl.zeros((block,), tl.int1)
    mask_p = tl.cast(mask_p, tl.int64)
    for part in range(parts):
        place = masks + sample * mask_n + part * mask_p + y * mask_y + x * mask_x
        is_visible = uncovers | (tl.load(place, mask=mask, other=1) != 0)
        tl.store(refined + (sample * parts + part) * pixels + pixel, is_visible, mask=mask)
        is_open = is_open | ~is_visible
    tl.store(is_hidden + at, 1, mask=mask & is_open)  # all that write here write the same


def launch_refine_cells(
    scores: Tensor,
    masks: Tensor,
    cell: Tensor,
    threshold: Tensor,
    share: float | None,
    refined: Tensor,
    hidden: Tensor,
) -> None:
    """See `ssad_kernels.refine_cells`."""
    n, _, height, width = scores.shape
    if n == 0:
        return
    cell, threshold = cell.contiguous(), threshold.contiguous()
    # A cell can be a pixel.
    is_normal = torch.empty((n, height * width), dtype=torch.uint8, device=scores.device)
    is_hidden = torch.zeros_like(is_normal)
    stride_n, _, stride_y, stride_x = scores.stride()
    tiles, cell_tiles = (triton.cdiv(height * width, size) for size in (BLOCK, _CELLS))
    with torch.cuda.device_of(scores):
        _normal_kernel[(n * cell_tiles,)](
            scores, cell, threshold, is_normal, height, width, share or 0.0, cell_tiles,
            stride_n, stride_y, stride_x, share is None, _CELLS,
        )  # fmt: skip
        _uncover_kernel[(n * tiles,)](
            as_bytes(masks), cell, is_normal, as_bytes(refined), is_hidden, height, width,
            masks.shape[1], tiles, *masks.stride(), BLOCK,
        )  # fmt: skip
    torch.sum(is_hidden, 1, dtype=torch.int64, out=hidden)


_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _variants() -> list[Variant]:
    numbers = dict.fromkeys(("keys", "cell", "bounds"), "*i64")
    cells = {**numbers, "hidden": "*i32"}
    constants: dict[str, Any] = {"least": 1, "blocks_held": _BLOCKS}
    found = [Variant(_bounds_kernel, numbers, constants, _BOUNDS_OPTIONS)]
    for is_split in (True, False):
        constants = {"least": 1, "is_split": is_split, "block": _BLOCKS}
        found.append(Variant(_hidden_kernel, cells, constants))
    for is_board in (False, True):
        pointers = {"hidden": "*i32", "cell": "*i64", "out": "*u8"}
        constants = {"least": 1, "is_board": is_board, "block": BLOCK}
        found.append(Variant(_cell_masks_kernel, pointers, constants))
    rows = {"stride_x": 1, "mask_x": 1, "out_x": 1, "block": BLOCK}
    for element in ("*u8", "*i16", "*i32", "*i64"):
        pointers = {"images": element, "masks": "*u8", "out": element}
        found.append(Variant(_mask_images_kernel, pointers, rows))
    channels_last = {"stride_c": 1, "mask_x": 1, "out_c": 1, "block": BLOCK}
    pointers = {"images": "*u8", "masks": "*u8", "out": "*u8"}
    found.append(Variant(_mask_images_kernel, pointers, channels_last))
    for pointer in ("*fp16", "*bf16", "*fp32", "*fp64"):
        compute = tl.float64 if pointer == "*fp64" else tl.float32
        pointers = {**dict.fromkeys(("outputs", "images", "out"), pointer), "masks": "*u8"}
        constants = {"from_x": 1, "mask_x": 1, "stride_x": 1, "compute": compute, "block": BLOCK}
        found.append(Variant(_composite_kernel, pointers, constants))
    for pointer in ("*fp16", "*bf16", "*fp32", "*fp64"):
        for is_mean in (True, False):
            pointers = {"scores": pointer, "cell": "*i64", "threshold": "*fp64", "is_normal": "*u8"}
            constants = {"stride_x": 1, "is_mean": is_mean, "block": _CELLS}
            found.append(Variant(_normal_kernel, pointers, constants))
    pointers = dict.fromkeys(("masks", "is_normal", "refined", "is_hidden"), "*u8")
    constants = {"mask_x": 1, "block": BLOCK}
    found.append(Variant(_uncover_kernel, {**pointers, "cell": "*i64"}, constants))
    return found


VARIANTS = tuple(_variants())
