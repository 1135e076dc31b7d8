# SPDX-License-Identifier: Apache-2.0
"""Drawing NSA's patches: source and status a lane a sample, then the patches a program a sample."""

import functools
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssad_kernels._backend import is_interpreted
from ssad_kernels._status import Status
from ssad_kernels.reference import nsa_law, quantiles
from ssad_kernels.triton._variants import Variant
from ssad_kernels.triton.medians import as_bytes
from ssad_kernels.triton.nsa_draws import (
    CUTPASTE,
    ELLIPSES,
    GAMMA,
    HALF,
    SQUARE,
    UNIFORM,
    cutpaste_size,
    draw_ellipses,
    find_window,
    half_size,
    resized_size,
)
from ssad_kernels.triton.nsa_masks import (
    COLUMNS,
    MIN_PIXELS,
    OPTIONS,
    ROWS,
    inner,
    shape_and_own,
    tile,
)
from ssad_kernels.triton.random import below, keyed_philox, unit

_APPLIED = tl.constexpr(int(Status.APPLIED))
_GATED = tl.constexpr(int(Status.GATED))
_NO_PLACE = tl.constexpr(int(Status.NO_PLACE))

_SIZES = {"gamma": GAMMA, "uniform": UNIFORM, "cutpaste": CUTPASTE, "square": SQUARE}

_BLOCK = 128  # samples of a program, and windows that are looked at together
_PLACES = 64 if is_interpreted() else 4  # the same, and each with all pixels of a tile


@triton.jit
def _store_masks(
    marks, side, ellipse, window, width, cut_h, cut_w, h, w, is_masked: tl.constexpr,
    is_round: tl.constexpr, is_reference: tl.constexpr,
):  # fmt: skip
    """Keep P and M_s of a patch as bits 0 and 1 of ``marks``; how many pixels M_s has."""
    count = tl.full((), 0, tl.int64)
    for y0 in range(0, h, ROWS):
        for x0 in range(0, w, COLUMNS):
            y, x, box = tile(y0, x0, h, w)
            shape, own = shape_and_own(
                y, x, box, h, w, ellipse, ELLIPSES, window, width, cut_h, cut_w, is_masked,
                is_round, is_reference,
            )  # fmt: skip
            place = marks + (y * side)[:, None] + x[None, :]
            tl.store(place, (shape.to(tl.uint8) + 2 * own.to(tl.uint8)).to(tl.uint8), mask=box)
            count += tl.sum(own.to(tl.int32))
    return count


@triton.jit
def _overlaps(marks, side, target, width, ys, xs, h, w, places: tl.constexpr):
    """How many pixels of P and M_s meet those of the target's mask, for patches at (ys, xs)."""
    count = tl.zeros((places,), tl.int32)
    lanes = tl.arange(0, ROWS * COLUMNS)
    corners = target + (ys * width + xs)[:, None]
    for y0 in range(0, h, ROWS):
        for x0 in range(0, w, COLUMNS):
            y = y0 + lanes // COLUMNS
            x = x0 + lanes % COLUMNS
            mark = tl.load(marks + y * side + x, mask=(y < h) & (x < w), other=0)
            is_asked = (mark == 3).to(tl.int32)[None, :] + (ys * 0).to(tl.int32)[:, None]
            place = corners + (y * width + x)[None, :]
            is_met = tl.load(place, mask=is_asked != 0, other=0) != 0
            count += tl.sum(is_met.to(tl.int32), axis=1)
    return count


@triton.jit
def _find_place(
    keys, marks, target, row, stream, number, width, room_y, room_x, cut_y, cut_x, h, w, side,
    whole, proposals, overlap, has_shift: tl.constexpr, has_overlap: tl.constexpr,
    places: tl.constexpr,
):  # fmt: skip
    """The first place whose object meets enough of the patch's, and whether there is one."""
    lanes = tl.arange(0, places)
    begin = tl.full((), 0, tl.int32)
    is_found = tl.full((), 0, tl.int32)
    corner = tl.full((), 0, tl.int64)
    while (begin < proposals) & (is_found == 0):
        if has_shift:
            _, _, bits_y, bits_x = keyed_philox(keys, row, stream, number + begin + lanes, True)
            ys = 1 + below(room_y, bits_y)
            xs = 1 + below(room_x, bits_x)
        else:
            ys = cut_y + 0 * lanes
            xs = cut_x + 0 * lanes
        is_valid = begin + lanes < proposals
        if has_overlap:
            met = _overlaps(marks, side, target, width, ys, xs, h, w, places)
            share = met.to(tl.float64) / tl.maximum(whole, 1).to(tl.float64)
            is_valid = is_valid & (share > overlap)
        chosen = tl.min(tl.where(is_valid, lanes, places), axis=0)
        is_found = (chosen < places).to(tl.int32)
        corner = tl.sum(tl.where(lanes == chosen, (ys << 32) + xs, 0), axis=0)
        begin += places
    return is_found != 0, corner >> 32, corner & 0xFFFFFFFF


@triton.jit
def _blended(marks, side, target, width, h, w, is_masked: tl.constexpr):
    """How many pixels of the patch are to be blended."""
    count = tl.full((), 0, tl.int64)
    for y0 in range(0, h, ROWS):
        for x0 in range(0, w, COLUMNS):
            y, x, box = tile(y0, x0, h, w)
            mark = tl.load(marks + (y * side)[:, None] + x[None, :], mask=box, other=0)
            is_object = mark >= 2
            if is_masked:
                place = target + (y * width)[:, None] + x[None, :]
                is_object = is_object | (tl.load(place, mask=box, other=0) != 0)
            # The label is P where there is an object.
            is_blended = ((mark & 1) != 0) | ~is_object
            count += tl.sum((is_blended & inner(y, x, h, w)).to(tl.int32))
    return count


@triton.jit
def _add_label(marks, side, target, width, h, w):
    """The target has got an object where the label is: where it has none, that is P and M_s."""
    for y0 in range(0, h, ROWS):
        for x0 in range(0, w, COLUMNS):
            y, x, box = tile(y0, x0, h, w)
            mark = tl.load(marks + (y * side)[:, None] + x[None, :], mask=box, other=0)
            tl.store(target + (y * width)[:, None] + x[None, :], 1, mask=mark == 3)


@triton.jit
def _sample_nsa_start_kernel(
    keys, source_index, factor, status, n, stream, others, p: tl.float64, low: tl.float64,
    span: tl.float64, is_bank: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Lane by lane the source, one of ``others``, and NO_PLACE for samples that are open."""
    row = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    mask = row < n
    gate, image, share, _ = keyed_philox(keys, row, stream, 0, mask)
    index = below(others, image)
    if not is_bank:
        index = (row + tl.where(others > 0, 1 + index, 0)) % n
    tl.store(source_index + row, index, mask=mask)
    tl.store(factor + row, low + span * unit(share), mask=mask)
    tl.store(status + row, tl.where(unit(gate) < p, _NO_PLACE, _GATED).to(tl.int8), mask=mask)


@triton.jit
def _sample_nsa_patches_kernel(
    keys, tables, summed, source, target, marks, source_index, source_box, target_box, ellipse,
    apply, status, stream, height, width, patches, proposals, side, low_h, high_h, low_full_h,
    high_full_h, first_y, last_y, low_w, high_w, low_full_w, high_full_w, first_x, last_x,
    offset: tl.float64, scale: tl.float64, low_resize: tl.float64, high_resize: tl.float64,
    spread: tl.float64, share: tl.float64, overlap: tl.float64, law: tl.constexpr,
    is_round: tl.constexpr, is_masked: tl.constexpr, has_share: tl.constexpr,
    has_overlap: tl.constexpr, has_shift: tl.constexpr, has_resize: tl.constexpr,
    is_reference: tl.constexpr, block: tl.constexpr, places: tl.constexpr,
):  # fmt: skip
    """One program a sample: its patches in order, since what one adds is object for the next."""
    row = tl.program_id(0).to(tl.int64)
    area = tl.cast(height, tl.int64) * width
    summed += row * area
    source += tl.load(source_index + row) * area
    target += row * area
    marks += row * side * side
    was_applied = tl.full((), 0, tl.int32)
    tried = tl.where(tl.load(status + row) == _NO_PLACE, patches, 0)
    for j in range(tried):
        number = 4096 * j  # of the first of the patch's blocks of random numbers
        bits_h, bits_w, bits_resize, coin = keyed_philox(keys, row, stream, number + 1, True)
        if (j == 0) | (coin < HALF):
            if law == CUTPASTE:
                bits, _, _, _ = keyed_philox(keys, row, stream, number + 2, True)
                size_h, size_w = cutpaste_size(height, width, bits_h, bits_w, bits)
                half_h = size_h // 2
                half_w = size_w // 2
            else:
                if law == SQUARE:
                    bits_w = bits_h
                size_h = half_size(tables, height, low_h, high_h, offset, scale, bits_h, law)
                size_w = half_size(tables, width, low_w, high_w, offset, scale, bits_w, law)
                half_h = size_h
                half_w = size_w
            is_drawn, cut_y, cut_x, cut_h, cut_w = find_window(
                keys, summed, row, stream, number + 16, height, width, first_y, last_y, first_x,
                last_x, size_h, size_w, proposals, share, law, has_share, block,
            )  # fmt: skip
            h = tl.maximum(cut_h, 1)
            w = tl.maximum(cut_w, 1)
            if has_resize:
                h, w = resized_size(
                    tables, h, w, low_full_h, high_full_h, low_full_w, high_full_w, low_resize,
                    high_resize, spread, bits_resize,
                )  # fmt: skip
            room_y = height - 2 * (h // 2) - 2
            room_x = width - 2 * (w // 2) - 2
            if has_shift:
                is_drawn = is_drawn & (room_y > 0) & (room_x > 0)
            if not is_round:  # the inside of a rectangle is blended whole
                is_drawn = is_drawn & (tl.maximum(h - 2, 0) * tl.maximum(w - 2, 0) >= MIN_PIXELS)
            if is_drawn:
                patch = row * patches + j
                rows = ellipse + 5 * ELLIPSES * patch
                whole = h * w
                if is_round:
                    draw_ellipses(
                        keys, rows, row, stream, number + 4, half_h, half_w, low_h, low_w, cut_h,
                        cut_w, h, w,
                    )  # fmt: skip
                if is_masked or is_round:
                    # Other threads have read what is written here, and are to read it.
                    tl.debug_barrier()
                    whole = _store_masks(
                        marks, side, rows, source + cut_y * width + cut_x, width, cut_h, cut_w, h,
                        w, is_masked, is_round, is_reference,
                    )  # fmt: skip
                    tl.debug_barrier()
                if has_share:
                    is_drawn = whole.to(tl.float64) / (h * w).to(tl.float64) > share
                tried_places = tl.where(is_drawn, proposals if has_overlap and has_shift else 1, 0)
                is_drawn, y, x = _find_place(
                    keys, marks, target, row, stream, number + 16, width, room_y, room_x, cut_y,
                    cut_x, h, w, side, whole, tried_places, overlap, has_shift, has_overlap, places,
                )  # fmt: skip
                corner = target + y * width + x
                if is_round:
                    count = _blended(marks, side, corner, width, h, w, is_masked)
                    is_drawn = is_drawn & (count >= MIN_PIXELS)
                if is_drawn:
                    if is_masked and not is_reference:
                        _add_label(marks, side, corner, width, h, w)
                    was_applied += 1
                    tl.store(source_box + 4 * patch, cut_y)
                    tl.store(source_box + 4 * patch + 1, cut_x)
                    tl.store(source_box + 4 * patch + 2, cut_h)
                    tl.store(source_box + 4 * patch + 3, cut_w)
                    tl.store(target_box + 4 * patch, y)
                    tl.store(target_box + 4 * patch + 1, x)
                    tl.store(target_box + 4 * patch + 2, h)
                    tl.store(target_box + 4 * patch + 3, w)
                    tl.store(apply + patch, 1)
                elif is_round:
                    for at in range(5 * ELLIPSES):
                        tl.store(rows + at, 0.0)
    if was_applied > 0:
        tl.store(status + row, _APPLIED)


@functools.cache
def _tables(device: torch.device) -> Tensor:
    table = quantiles.table(device)
    if device.type == "cuda" and torch.cuda.is_available():
        torch.cuda.current_stream(device).synchronize()  # once: for all streams to come
    return table


def _summed(masks: Tensor, index: Tensor) -> Tensor:
    """Summed-area tables (N, H, W) of the sources' masks."""
    height, width = masks.shape[2:]
    dtype = torch.int32 if height * width < 1 << 31 else torch.int64
    is_set = as_bytes(masks)[index, 0] != 0
    return is_set.cumsum(1, dtype=dtype).cumsum(2, dtype=dtype)


def launch(
    keys: Tensor,
    stream: int,
    height: int,
    width: int,
    sources: int,
    source_masks: Tensor | None,
    target_masks: Tensor | None,
    law: Any,
    axes: tuple[nsa_law.Axis, nsa_law.Axis],
    side: int,
    *outputs: Tensor,
) -> None:
    """See `ssad_kernels.reference.nsa_law.sample_nsa`."""
    source_index, *boxes, ellipse, apply, factor, status = outputs
    n = keys.shape[0]
    if n == 0:
        return
    keys = keys.contiguous()
    for rows in (*boxes, ellipse, apply):
        rows.zero_()
    others = sources if sources >= 0 else 0 if law.same_source else n - 1
    low, high = law.factor
    with torch.cuda.device_of(keys):
        _sample_nsa_start_kernel[(triton.cdiv(n, _BLOCK),)](
            keys, source_index, factor, status, n, stream, others, law.p, low, high - low,
            sources >= 0, _BLOCK, **OPTIONS,
        )  # fmt: skip
    if law.size != "cutpaste" and any(axis.half[0] > axis.half[1] for axis in axes):
        return  # smaller than the smallest patch

    is_round = law.shape == "ellipses"
    is_tested = law.object_share is not None or law.overlap is not None
    source = target = summed = marks = status  # a pointer that is not read still has to be one
    is_masked = False
    if source_masks is not None and target_masks is not None and (is_tested or is_round):
        is_masked = True
        source = as_bytes(source_masks.contiguous())
        target = as_bytes(target_masks.contiguous())
        if not law.is_reference:
            target = target.clone()  # gets objects
        if law.object_share is not None:
            summed = _summed(source_masks, source_index)
    if is_masked or is_round:
        marks = keys.new_empty((n, side, side), dtype=torch.uint8)
    bounds = [x for axis in axes for x in (*axis.half, *axis.full, *axis.centre)]
    low_resize, high_resize = law.resize or (1.0, 1.0)
    with torch.cuda.device_of(keys):
        _sample_nsa_patches_kernel[(n,)](
            keys, _tables(keys.device), summed, source, target, marks, source_index, *boxes,
            ellipse, as_bytes(apply), status, stream, height, width, law.patches,
            law.proposals if is_masked and is_tested else 1, side, *bounds, law.offset, law.scale,
            low_resize, high_resize, law.spread, law.object_share or 0.0, law.overlap or 0.0,
            _SIZES[law.size], is_round, is_masked, is_masked and law.object_share is not None,
            is_masked and law.overlap is not None, law.shift,
            law.resize is not None and law.shift and law.size != "cutpaste", law.is_reference,
            _BLOCK, _PLACES, **OPTIONS,
        )  # fmt: skip


_ROWS = {
    "source_index": "*i64",
    "source_box": "*i64",
    "target_box": "*i64",
    "ellipse": "*fp64",
    "apply": "*u8",
    "status": "*i8",
}


def _patches(law: tl.constexpr, **flags: bool) -> Variant:
    names = ("is_round", "is_masked", "has_share", "has_overlap", "has_resize", "is_reference")
    constants = dict.fromkeys(names, False) | {
        "has_shift": True, "law": law, "block": _BLOCK, "places": _PLACES,
    }  # fmt: skip
    pointers = {"keys": "*i64", "tables": "*fp64", "summed": "*i32", "source": "*u8"}
    pointers |= {"target": "*u8", "marks": "*u8", **_ROWS}
    return Variant(_sample_nsa_patches_kernel, pointers, constants | flags, OPTIONS)


_OBJECTS = {"is_masked": True, "has_share": True, "has_overlap": True, "has_resize": True}
VARIANTS = (
    *(
        Variant(
            _sample_nsa_start_kernel,
            {"keys": "*i64", "source_index": "*i64", "factor": "*fp64", "status": "*i8"},
            {"is_bank": is_bank, "block": _BLOCK},
            OPTIONS,
        )
        for is_bank in (False, True)
    ),
    _patches(GAMMA, has_resize=True),
    _patches(GAMMA, **_OBJECTS),
    _patches(GAMMA, **_OBJECTS, is_round=True),
    _patches(UNIFORM, is_round=True),
    _patches(CUTPASTE),
    _patches(SQUARE, has_shift=False),
)
