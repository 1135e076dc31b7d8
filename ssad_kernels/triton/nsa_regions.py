# SPDX-License-Identifier: Apache-2.0
"""The pixels that NSA's patches cover, a program a sample."""

from itertools import product

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssad_kernels.triton._variants import Variant
from ssad_kernels.triton.medians import as_bytes
from ssad_kernels.triton.nsa_masks import (
    COLUMNS,
    MIN_PIXELS,
    OPTIONS,
    ROWS,
    inner,
    shape_and_own,
    tile,
)


@triton.jit
def _is_within(y, x, h, w, height, width, side):
    """Whether a box has a pixel and lies in the image; no sum overflows."""
    is_known = (y >= 0) & (x >= 0) & (h >= 1) & (w >= 1) & (h <= side) & (w <= side)
    is_known = is_known & (h <= height) & (w <= width)
    return is_known & (y <= height - tl.minimum(h, height)) & (x <= width - tl.minimum(w, width))


@triton.jit
def _mark(
    marks, largest, ellipse, ellipses, window, target, region, width, cut_h, cut_w, h, w,
    is_masked: tl.constexpr, is_round: tl.constexpr, is_reference: tl.constexpr,
):  # fmt: skip
    """Keep label and Q of a patch as bits 0 and 1 of ``marks``; how many pixels Q has."""
    count = tl.full((), 0, tl.int64)
    for y0 in range(0, h, ROWS):
        for x0 in range(0, w, COLUMNS):
            y, x, box = tile(y0, x0, h, w)
            shape, is_object = shape_and_own(
                y, x, box, h, w, ellipse, ellipses, window, width, cut_h, cut_w, is_masked,
                is_round, is_reference,
            )  # fmt: skip
            if is_masked:
                place = (y * width)[:, None] + x[None, :]
                is_object = is_object | (tl.load(target + place, mask=box, other=0) != 0)
                if not is_reference:  # earlier labels are objects, too
                    is_object = is_object | (tl.load(region + place, mask=box, other=0) != 0)
            label = (shape & is_object).to(tl.uint8)
            is_blended = (label != 0) | ~is_object
            blend = (is_blended & inner(y, x, h, w)).to(tl.uint8)
            place = marks + (y * largest)[:, None] + x[None, :]
            tl.store(place, label + 2 * blend, mask=box)
            count += tl.sum(blend.to(tl.int32))
    return count


@triton.jit
def _write(
    marks, largest, region, width, paste, side, h, w, has_marks: tl.constexpr,
    has_paste: tl.constexpr, pastes_label: tl.constexpr, is_reference: tl.constexpr,
):  # fmt: skip
    """Write what ``_mark`` has found; without marks the label is the whole rectangle."""
    for y0 in range(0, h, ROWS):
        for x0 in range(0, w, COLUMNS):
            y, x, box = tile(y0, x0, h, w)
            mark = box.to(tl.uint8)
            if has_marks:
                mark = tl.load(marks + (y * largest)[:, None] + x[None, :], mask=box, other=0)
            label = mark & 1
            is_written = box if is_reference else label != 0
            tl.store(region + (y * width)[:, None] + x[None, :], label, mask=is_written)
            if has_paste:
                place = paste + (y * side)[:, None] + x[None, :]
                tl.store(place, label if pastes_label else mark >> 1, mask=box)


@triton.jit
def _nsa_regions_kernel(
    source_index, source_box, target_box, ellipse, apply, source, target, marks, region, paste,
    patches, ellipses, height, width, side, largest, sources, is_masked: tl.constexpr,
    is_round: tl.constexpr, is_reference: tl.constexpr, has_paste: tl.constexpr,
    pastes_label: tl.constexpr,
):  # fmt: skip
    """One program a sample: its patches in order, since what one labels is object for the next.

    ``side`` is that of the masks to paste, and ``largest`` that of the marks, which hold a patch.
    """
    row = tl.program_id(0).to(tl.int64)
    area = tl.cast(height, tl.int64) * width
    region += row * area
    target += row * area
    marks += row * largest * largest
    is_known = True
    if is_masked:
        image = tl.load(source_index + row)
        is_known = (image >= 0) & (image < sources)
        source += tl.where(is_known, image, 0) * area
    for j in range(patches):
        patch = row * patches + j
        y = tl.load(target_box + 4 * patch)
        x = tl.load(target_box + 4 * patch + 1)
        h = tl.load(target_box + 4 * patch + 2)
        w = tl.load(target_box + 4 * patch + 3)
        is_drawn = is_known & (tl.load(apply + patch) != 0)
        is_drawn = is_drawn & _is_within(y, x, h, w, height, width, largest)
        window = source
        cut_h = h
        cut_w = w
        if is_masked:
            cut_y = tl.load(source_box + 4 * patch)
            cut_x = tl.load(source_box + 4 * patch + 1)
            cut_h = tl.load(source_box + 4 * patch + 2)
            cut_w = tl.load(source_box + 4 * patch + 3)
            longest = tl.maximum(height, width)
            is_drawn = is_drawn & _is_within(cut_y, cut_x, cut_h, cut_w, height, width, longest)
            window = source + cut_y * width + cut_x
        # The inside of a rectangle is blended whole.
        if not is_round:
            is_drawn = is_drawn & (tl.maximum(h - 2, 0) * tl.maximum(w - 2, 0) >= MIN_PIXELS)
        if is_drawn:
            corner = y * width + x
            count = h * w
            if is_masked or is_round:
                # Other threads have read what is written here, and are to read it.
                tl.debug_barrier()
                count = _mark(
                    marks, largest, ellipse + 5 * ellipses * patch, ellipses, window,
                    target + corner, region + corner, width, cut_h, cut_w, h, w, is_masked,
                    is_round, is_reference,
                )  # fmt: skip
                tl.debug_barrier()
            if count >= MIN_PIXELS:
                _write(
                    marks, largest, region + corner, width, paste + patch * side * side, side, h, w,
                    is_masked or is_round, has_paste, pastes_label, is_reference,
                )  # fmt: skip


def launch(
    source_index: Tensor,
    source_box: Tensor,
    target_box: Tensor,
    ellipse: Tensor,
    apply: Tensor,
    height: int,
    width: int,
    side: int,
    source_masks: Tensor | None,
    target_masks: Tensor | None,
    is_reference: bool,
    pastes_label: bool,
    region: Tensor,
    paste: Tensor,
) -> None:
    """See `ssad_kernels.nsa_regions`."""
    n, patches, ellipses = ellipse.shape[:3]
    region.zero_()
    paste.zero_()
    if n == 0:
        return
    rows = [row.contiguous() for row in (source_index, source_box, target_box, ellipse)]
    source = target = marks = region  # a pointer that is not read still has to be one
    is_masked, is_round = False, ellipses > 0
    if source_masks is not None and target_masks is not None:
        is_masked = True
        source, target = source_masks.contiguous(), target_masks.contiguous()
    largest = min(side, max(height, width))
    if is_masked or is_round:
        marks = region.new_empty((n, largest, largest))
    with torch.cuda.device_of(region):
        _nsa_regions_kernel[(n,)](
            *rows, *map(as_bytes, (apply.contiguous(), source, target, marks, region, paste)),
            patches, ellipses, height, width, side, largest, source.shape[0], is_masked, is_round,
            is_reference, paste.shape[2] > 0, pastes_label, **OPTIONS,
        )  # fmt: skip


def _variants() -> list[Variant]:
    found = []
    rows = dict.fromkeys(("source_index", "source_box", "target_box"), "*i64")
    images = ("apply", "source", "target", "marks", "region", "paste")
    for is_masked, is_round in product((False, True), repeat=2):
        constants = {
            "is_masked": is_masked, "is_round": is_round, "is_reference": False,
            "has_paste": is_round, "pastes_label": False,
        }  # fmt: skip
        pointers = {**rows, "ellipse": "*fp64", **dict.fromkeys(images, "*u8")}
        found.append(Variant(_nsa_regions_kernel, pointers, constants, OPTIONS))
    return found


VARIANTS = tuple(_variants())
