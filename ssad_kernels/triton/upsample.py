# SPDX-License-Identifier: Apache-2.0
"""Receptive-field upsampling and its adjoint, in one launch."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssad_kernels.reference.upsample import make_scale, make_taps
from ssad_kernels.triton._variants import Variant


@triton.jit
def _floor_div(a, b):
    return (a - (a % b + b) % b) // b


@triton.jit
def _inputs_of(at, kernel, stride, start, is_adjoint: tl.constexpr):
    """The first input that may reach outputs, and one more than the last."""
    if is_adjoint:
        first = start + stride * at
        return first, first + kernel
    last = _floor_div(at - start, stride)
    return last - (kernel - 1) // stride, last + 1


@triton.jit
def _weight(
    taps, scale, at, place, inputs, kernel, stride, start,
    is_adjoint: tl.constexpr, has_scale: tl.constexpr, compute: tl.constexpr,
):  # fmt: skip
    """What the inputs `place` weigh in the outputs `at`; negative where they do not reach them."""
    pixel = at
    feature = place
    if is_adjoint:
        pixel = place
        feature = at
    index = pixel - start - stride * feature
    is_reached = (index >= 0) & (index < kernel) & (place >= 0) & (place < inputs)
    weight = tl.load(taps + index, mask=is_reached, other=-1.0)
    if has_scale:
        weight *= tl.load(scale + pixel, mask=is_reached, other=1.0)
    return weight.to(compute)


@triton.jit
def _upsample_kernel(
    values, taps_y, taps_x, scale_y, scale_x, out, height, width, inputs_y, inputs_x,
    kernel_y, kernel_x, step_y, step_x, start_y, start_x, channels, tiles_y, tiles_x,
    stride_n, stride_c, stride_y, stride_x, out_n, out_c, out_y, out_x,
    is_adjoint: tl.constexpr, has_scale: tl.constexpr, compute: tl.constexpr,
    rows: tl.constexpr, columns: tl.constexpr, lines: tl.constexpr,
):  # fmt: skip
    """One program a tile: sums some input rows along x, then along y what outputs have of them."""
    tile = tl.program_id(0).to(tl.int64)
    plane = tile // tiles_x // tiles_y
    # Beyond the image the last pixel is made again.
    y = tl.minimum(tile // tiles_x % tiles_y * rows + tl.arange(0, rows), height - 1)
    x = tl.minimum(tile % tiles_x * columns + tl.arange(0, columns), width - 1)
    first_y, end_y = _inputs_of(y, kernel_y, step_y, start_y, is_adjoint)
    first_x, _ = _inputs_of(x, kernel_x, step_x, start_x, is_adjoint)
    reach_y = kernel_y if is_adjoint else (kernel_y - 1) // step_y + 1
    reach_x = kernel_x if is_adjoint else (kernel_x - 1) // step_x + 1
    end = tl.minimum(tl.max(end_y), inputs_y)
    plane_in = values + plane // channels * stride_n + plane % channels * stride_c
    total = tl.zeros((rows, columns), compute)
    for begin in range(tl.maximum(tl.min(first_y), 0), end, lines):
        row = begin + tl.arange(0, lines)
        line = tl.zeros((lines, columns), compute)
        for k in range(reach_x):
            at = first_x + k
            weight = _weight(
                taps_x, scale_x, x, at, inputs_x, kernel_x, step_x, start_x,
                is_adjoint, has_scale, compute,
            )[None, :]  # fmt: skip
            is_read = (row < end)[:, None] & (weight >= 0)
            place = plane_in + row[:, None] * stride_y + at[None, :] * stride_x
            value = tl.load(place, mask=is_read, other=0).to(compute)
            line += tl.where(is_read, weight, 0) * value
        for k in range(reach_y):
            at = first_y + k
            is_here = (at >= begin) & (at < begin + lines)
            weight = _weight(
                taps_y, scale_y, y, tl.where(is_here, at, -1), inputs_y, kernel_y, step_y, start_y,
                is_adjoint, has_scale, compute,
            )[:, None]  # fmt: skip
            own = tl.where(is_here, at - begin, 0).to(tl.int32)[:, None]
            value = tl.gather(line, tl.broadcast_to(own, (rows, columns)), 0)
            total += tl.where(weight >= 0, weight * value, 0)
    plane_out = out + plane // channels * out_n + plane % channels * out_c
    place = plane_out + y[:, None] * out_y + x[None, :] * out_x
    tl.store(place, total.to(out.dtype.element_ty))


def launch(
    scores: Tensor,
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    start: Sequence[int],
    sigma: Sequence[float],
    normalise: bool,
    is_adjoint: bool,
    out: Tensor,
) -> None:
    """See `ssad_kernels.receptive_field_upsample`."""
    n, channels, *inputs = scores.shape
    if n == 0:
        return
    compute = torch.float64 if scores.dtype == torch.float64 else torch.float32
    taps = [make_taps(k, s, scores.device) for k, s in zip(kernel, sigma, strict=True)]
    scales = taps
    if normalise:  # the products of both are to be rounded, not the factors
        pixels, features = (inputs, size) if is_adjoint else (size, inputs)
        axes = zip(pixels, features, taps, stride, start, strict=True)
        scales = [make_scale(*axis) for axis in axes]
    else:
        taps = [tap.to(compute) for tap in taps]
    pairs: list[Any] = [taps, scales, size, inputs, kernel, stride, start]
    if is_adjoint:  # sums along y first, as the transpose of what sums along x first
        scores, out, pairs = scores.mT, out.mT, [pair[::-1] for pair in pairs]
    taps, scales, size, *numbers = pairs
    rows, columns = _ADJOINT_TILE if is_adjoint else _TILE
    tiles = triton.cdiv(size[0], rows), triton.cdiv(size[1], columns)
    with torch.cuda.device_of(scores):
        _upsample_kernel[(n * channels * tiles[0] * tiles[1],)](
            scores, *taps, *scales, out, *size, *(value for pair in numbers for value in pair),
            channels, *tiles, *scores.stride(), *out.stride(), is_adjoint, normalise,
            _COMPUTE[compute], rows, columns, _LINES, **_OPTIONS,
        )  # fmt: skip


# Of outputs. The adjoint's reach more inputs, and so it has smaller ones.
_TILE = (32, 64)
_ADJOINT_TILE = (16, 64)
_LINES = 16  # input rows that a program sums along x at a time
_OPTIONS = {"num_warps": 8}
_COMPUTE = {torch.float32: tl.float32, torch.float64: tl.float64}


def _variants() -> list[Variant]:
    both = (False, True)
    halves = [("*fp16", False, False), ("*bf16", False, True)]
    found = []
    for pointer, is_adjoint, has_scale in [*halves, *product(("*fp32", "*fp64"), both, both)]:
        compute = tl.float64 if pointer == "*fp64" else tl.float32
        tables = dict.fromkeys(
            ("taps_y", "taps_x", "scale_y", "scale_x"),
            "*fp64" if has_scale or pointer == "*fp64" else "*fp32",
        )
        rows, columns = _ADJOINT_TILE if is_adjoint else _TILE
        inner = "y" if is_adjoint else "x"
        constants = {
            f"stride_{inner}": 1, f"out_{inner}": 1,
            "is_adjoint": is_adjoint, "has_scale": has_scale, "compute": compute,
            "rows": rows, "columns": columns, "lines": _LINES,
        }  # fmt: skip
        pointers = {"values": pointer, **tables, "out": pointer}
        found.append(Variant(_upsample_kernel, pointers, constants, _OPTIONS))
    return found


VARIANTS: tuple[Any, ...] = tuple(_variants())
