# SPDX-License-Identifier: Apache-2.0
"""Philox 4x32-10."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssad_kernels.triton._variants import Variant

_BLOCK = 256  # cipher blocks a program; each lane makes four numbers


@triton.jit
def unit(bits):
    """float64 between 0 and 1, both excluded."""
    return (bits.to(tl.float64) + 0.5) * 2.3283064365386963e-10  # 2**-32


@triton.jit
def below(count, bits):
    """Integers 0...count - 1."""
    return (count * bits.to(tl.int64)) >> 32


@triton.jit
def keyed_philox(keys, row, stream, block, mask):
    """Block ``block`` of four numbers, uint32, of the samples ``row``."""
    seed = tl.load(keys + 3 * row, mask=mask, other=0)
    epoch = tl.load(keys + 3 * row + 1, mask=mask, other=0)
    sample = tl.load(keys + 3 * row + 2, mask=mask, other=0)
    # tl.cast, not .to: Triton makes a compile-time constant of an argument that is 1.
    counter = tl.cast((stream << 16) | block, tl.uint32)
    high = (sample >> 32).to(tl.uint32)
    return tl.philox(seed, counter, epoch.to(tl.uint32), sample.to(tl.uint32), high)


@triton.jit
def _philox_fill_kernel(keys, out, stream, count, blocks, total, block_size: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * block_size + tl.arange(0, block_size)
    mask = at < total
    row = at // blocks
    block = (at % blocks).to(tl.int32)
    words = keyed_philox(keys, row, stream, block, mask)
    for k in tl.static_range(4):
        slot = 4 * block + k
        tl.store(out + row * count + slot, words[k].to(tl.int64), mask=mask & (slot < count))


def launch(keys: Tensor, stream: int, count: int, out: Tensor) -> None:
    """See `ssad_kernels.random.philox`."""
    blocks = (count + 3) // 4
    total = keys.shape[0] * blocks
    if total == 0:
        return
    grid = (triton.cdiv(total, _BLOCK),)
    with torch.cuda.device_of(keys):
        _philox_fill_kernel[grid](keys.contiguous(), out, stream, count, blocks, total, _BLOCK)


VARIANTS = (Variant(_philox_fill_kernel, {"keys": "*i64", "out": "*i64"}, {"block_size": _BLOCK}),)
