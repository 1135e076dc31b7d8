# SPDX-License-Identifier: Apache-2.0
"""Receptive-field upsampling, one axis a launch."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssad_kernels.reference.upsample import make_band
from ssad_kernels.triton._variants import Variant

_BLOCK = 1024


@triton.jit
def _band_kernel(
    values, first, weights, out, width, pixels, tiles, channels,
    stride_n, stride_c, stride_y, stride_x, taps,
    along_x: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Each output is the sum of the inputs that `first` and the row of `weights` name."""
    tile = tl.program_id(0).to(tl.int64)
    plane = tile // tiles
    start = tile % tiles * block
    lanes = tl.arange(0, block)
    mask = start + lanes < pixels
    y, x = (start + lanes) // width, (start + lanes) % width
    own, step = (x, stride_x) if along_x else (y, stride_y)
    other = y * stride_y if along_x else x * stride_x
    row = values + plane // channels * stride_n + plane % channels * stride_c + other
    begin = tl.load(first + own, mask=mask, other=0)
    compute: tl.constexpr = weights.dtype.element_ty
    total = tl.zeros((block,), compute)
    for k in range(taps):
        at = begin + k
        # A tap that does not reach is marked by a negative weight.
        weight = tl.load(weights + own * taps + k, mask=mask, other=-1)
        value = tl.load(row + at * step, mask=mask & (weight >= 0), other=0).to(compute)
        total += tl.where(weight >= 0, weight, 0) * value
    tl.store(out + plane * pixels + start + lanes, total.to(out.dtype.element_ty), mask=mask)


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
    dims = (0, 1) if is_adjoint else (1, 0)  # the plane between is to have few rows
    values = scores
    for dim in dims:
        band = make_band(
            size[dim], inputs[dim], kernel[dim], stride[dim], start[dim], sigma[dim],
            normalise, is_adjoint, scores.device,
        )  # fmt: skip
        weights = torch.where(band.reached, band.weight, -1.0).to(compute)
        inputs[dim] = size[dim]
        is_last = dim == dims[1]
        made = (
            out
            if is_last
            else torch.empty((n, channels, *inputs), dtype=compute, device=out.device)
        )
        pixels = inputs[0] * inputs[1]
        tiles = triton.cdiv(pixels, _BLOCK)
        with torch.cuda.device_of(scores):
            _band_kernel[(n * channels * tiles,)](
                values, band.first, weights, made, inputs[1], pixels, tiles, channels,
                *values.stride(), weights.shape[1], dim == 1, _BLOCK,
            )  # fmt: skip
        values = made


def _variants() -> list[Variant]:
    """What `launch` runs: from the dtype of the scores, then to it, each along either axis."""
    found = []
    for dtype in ("fp16", "bf16", "fp32", "fp64"):
        compute = "*fp64" if dtype == "fp64" else "*fp32"
        passes = {(f"*{dtype}", compute), (compute, f"*{dtype}")}
        for along_x, (values, out) in product((True, False), sorted(passes)):
            pointers = {"values": values, "first": "*i64", "weights": compute, "out": out}
            constants = {"along_x": along_x, "block": _BLOCK, "stride_x": 1}
            found.append(Variant(_band_kernel, pointers, constants))
    return found


VARIANTS: tuple[Any, ...] = tuple(_variants())
