# SPDX-License-Identifier: Apache-2.0
"""Drawing the parameters of CutPaste: one lane a sample, float64 + - x / and square roots."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssad_kernels.triton._variants import Variant
from ssad_kernels.triton.random import below, keyed_philox, unit
from ssad_kernels.triton.rotation import canvas_side, rotation

_BLOCK = 128


@triton.jit
def _round_side(side):
    return tl.maximum(tl.floor(side + 0.5).to(tl.int64), 1)


@triton.jit
def _place(fits, limit, extent, bits, otherwise):
    return tl.where(fits, below(tl.maximum(limit - extent + 1, 1), bits), otherwise)


@triton.jit
def _permutation(rank):
    """The permutations of 0...3 with these ranks in lexicographic order."""
    a = rank // 6
    b = rank % 6 // 2
    c = rank % 2
    d = rank * 0
    # Each is a place among the numbers not yet taken; seen from its predecessor, one further on
    # from where that stands.
    d += (d >= c).to(tl.int64)
    c += (c >= b).to(tl.int64)
    d += (d >= b).to(tl.int64)
    b += (b >= a).to(tl.int64)
    c += (c >= a).to(tl.int64)
    d += (d >= a).to(tl.int64)
    return a, b, c, d


# Triton would pass a Python float as float32; annotated it stays a float64.
@triton.jit
def _sample_cut_paste_draw_kernel(
    keys, source_index, source_box, target, angle, jitter, order, apply, n, stream, height, width,
    length, lengths, side, sides, sources, p: tl.float64, pixels: tl.float64,
    area: tl.float64, area_span: tl.float64, flat: tl.float64, flat_span: tl.float64,
    tall_span: tl.float64, degrees: tl.float64, degrees_span: tl.float64,
    brightness: tl.float64, brightness_span: tl.float64, contrast: tl.float64,
    contrast_span: tl.float64, saturation: tl.float64, saturation_span: tl.float64,
    hue: tl.float64, hue_span: tl.float64, is_scar: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Every range is a smallest value and a span, every integer range one and a count."""
    row = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    mask = row < n
    # Which of a sample's 16 random numbers decides what, see csrc/cpu/cutpaste_sample.cpp.
    gate, area_bits, flat_bits, aspect_bits = keyed_philox(keys, row, stream, 0, mask)
    angle_bits, box_y, box_x, target_y = keyed_philox(keys, row, stream, 1, mask)
    target_x, jitter_0, jitter_1, jitter_2 = keyed_philox(keys, row, stream, 2, mask)
    jitter_3, order_bits, source_bits, _ = keyed_philox(keys, row, stream, 3, mask)

    if is_scar:
        h = length + below(lengths, area_bits)
        w = side + below(sides, aspect_bits)
    else:
        wanted = (area + area_span * unit(area_bits)) * pixels
        u = unit(aspect_bits)
        aspect = tl.where(flat_bits < 0x80000000, flat + flat_span * u, 1.0 + tall_span * u)
        h = _round_side(tl.sqrt(wanted * aspect))  # of a float64, rounded correctly
        w = _round_side(tl.sqrt(wanted / aspect))
    turn = (degrees + degrees_span * unit(angle_bits)).to(tl.float32)
    cos, sin = rotation(turn)
    canvas_h = canvas_side(h, w, cos, sin)
    canvas_w = canvas_side(w, h, cos, sin)
    fits = (h <= height) & (w <= width) & (canvas_h <= height) & (canvas_w <= width)

    tl.store(source_box + 4 * row, _place(fits, height, h, box_y, 0), mask=mask)
    tl.store(source_box + 4 * row + 1, _place(fits, width, w, box_x, 0), mask=mask)
    tl.store(source_box + 4 * row + 2, h, mask=mask)
    tl.store(source_box + 4 * row + 3, w, mask=mask)
    # A patch that fits nowhere is aimed beyond the image, which the op reports as "no place".
    tl.store(target + 2 * row, _place(fits, height, canvas_h, target_y, height), mask=mask)
    tl.store(target + 2 * row + 1, _place(fits, width, canvas_w, target_x, width), mask=mask)
    tl.store(angle + row, turn, mask=mask)
    factor_0 = brightness + brightness_span * unit(jitter_0)
    factor_1 = contrast + contrast_span * unit(jitter_1)
    factor_2 = saturation + saturation_span * unit(jitter_2)
    factor_3 = hue + hue_span * unit(jitter_3)
    tl.store(jitter + 4 * row, factor_0.to(tl.float32), mask=mask)
    tl.store(jitter + 4 * row + 1, factor_1.to(tl.float32), mask=mask)
    tl.store(jitter + 4 * row + 2, factor_2.to(tl.float32), mask=mask)
    tl.store(jitter + 4 * row + 3, factor_3.to(tl.float32), mask=mask)
    step_0, step_1, step_2, step_3 = _permutation(below(24, order_bits))
    tl.store(order + 4 * row, step_0, mask=mask)
    tl.store(order + 4 * row + 1, step_1, mask=mask)
    tl.store(order + 4 * row + 2, step_2, mask=mask)
    tl.store(order + 4 * row + 3, step_3, mask=mask)
    away = tl.where(sources > 0, 1 + below(sources, source_bits), 0)
    tl.store(source_index + row, (row + away) % n, mask=mask)
    tl.store(apply + row, unit(gate) < p, mask=mask)


def launch(
    keys: Tensor,
    stream: int,
    height: int,
    width: int,
    p: float,
    scar: bool,
    area: Sequence[float],
    aspect: Sequence[float],
    length: Sequence[int],
    side: Sequence[int],
    angle: Sequence[float],
    jitter: Sequence[float],
    other_source: bool,
    *outputs: Tensor,
) -> None:
    """See `ssad_kernels.cutpaste.sample_cut_paste`."""
    n = keys.shape[0]
    if n == 0:
        return
    factors: list[float] = []
    for k, strength in enumerate(jitter):
        centre = 0.0 if k == 3 else 1.0
        low = centre - strength if k == 3 else max(centre - strength, 0.0)
        factors += (low, centre + strength - low)
    with torch.cuda.device_of(keys):
        _sample_cut_paste_draw_kernel[(triton.cdiv(n, _BLOCK),)](
            keys.contiguous(), *outputs, n, stream, height, width,
            length[0], length[1] - length[0] + 1, side[0], side[1] - side[0] + 1,
            n - 1 if other_source else 0, p, float(height) * float(width),
            area[0], area[1] - area[0], aspect[0], 1.0 - aspect[0], aspect[1] - 1.0,
            angle[0], angle[1] - angle[0], *factors, scar, _BLOCK, enable_fp_fusion=False,
        )  # fmt: skip


_POINTERS = {
    "keys": "*i64",
    "source_index": "*i64",
    "source_box": "*i64",
    "target": "*i64",
    "angle": "*fp32",
    "jitter": "*fp32",
    "order": "*i64",
    "apply": "*i1",
}
VARIANTS = tuple(
    Variant(
        _sample_cut_paste_draw_kernel,
        _POINTERS,
        {"is_scar": is_scar, "block": _BLOCK},
        {"enable_fp_fusion": False},
    )
    for is_scar in (False, True)
)
