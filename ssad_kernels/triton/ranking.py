# SPDX-License-Identifier: Apache-2.0
"""Counts above scores: `among` is sorted in chunks, and each score searched for in each of them.

Scores are compared by integer keys in their order, so the counts are exact. Chunks bound the
scratch memory: keys, sorted keys and the indices that `torch.sort` returns with them are 16 bytes
for each of a chunk (24 of float64), besides what `torch.sort` takes.
"""

from itertools import product

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssad_kernels.triton._variants import Variant
from ssad_kernels.triton.medians import as_bytes

_CHUNK = 1 << 24
_BLOCK = 512


@triton.jit
def _largest(bits: tl.constexpr):
    """The key of what does not count; that of a NaN is one below."""
    return (1 << (bits - 1)) - 1


@triton.jit
def _key_of(raw, bits: tl.constexpr):
    """Integers in the order of the floats with these bits; -0 equals 0, NaN is above all."""
    largest: tl.constexpr = _largest(bits)
    negative_zero: tl.constexpr = -largest - 1
    infinity: tl.constexpr = 0x7F800000 if bits == 32 else 0x7FF0000000000000
    key = tl.where(raw < 0, raw ^ largest, raw)
    key = tl.where(raw == negative_zero, 0, key)
    return tl.where((raw & largest) > infinity, largest - 1, key)


@triton.jit
def _keys_kernel(
    among, ignored, keys, size, stride, ignored_stride,
    has_ignored: tl.constexpr, bits: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    mask = at < size
    key = _key_of(tl.load(among + at * stride, mask=mask, other=0), bits)
    if has_ignored:
        is_ignored = tl.load(ignored + at * ignored_stride, mask=mask, other=0) != 0
        key = tl.where(is_ignored, _largest(bits), key)
    tl.store(keys + at, key, mask=mask)


@triton.jit
def _rank(keys, key, size, steps, is_upper: tl.constexpr, bits: tl.constexpr):
    """How many of the sorted keys are below a key or, for the upper rank, not above it."""
    rank = tl.zeros_like(key).to(tl.int32)
    for k in range(steps):
        at = rank + (tl.full((), 1, tl.int32) << tl.cast(steps - 1 - k, tl.int32))
        # What lies behind the last one passes for the largest key, which counts as below nothing.
        found = tl.load(keys + at - 1, mask=at <= size, other=_largest(bits))
        is_below = (found <= key) if is_upper else (found < key)
        rank = tl.where(is_below, at, rank)
    return rank


@triton.jit
def _count_kernel(
    scores, keys, counts, n, stride, size, steps, most,
    is_first: tl.constexpr, is_bounded: tl.constexpr, has_ignored: tl.constexpr,
    bits: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Adds the counts of a chunk to those of the chunks before."""
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    mask = at < n
    key = _key_of(tl.load(scores + at * stride, mask=mask, other=0), bits)
    counted = size
    if has_ignored:  # which are sorted to the end
        counted = _rank(keys, tl.zeros_like(key) + _largest(bits), size, steps, False, bits)
    above = (counted - _rank(keys, key, size, steps, True, bits)).to(tl.int64)
    at_least = (counted - _rank(keys, key, size, steps, False, bits)).to(tl.int64)
    if not is_first:
        above += tl.load(counts + 2 * at, mask=mask, other=0)
        at_least += tl.load(counts + 2 * at + 1, mask=mask, other=0)
    if is_bounded:
        is_cut = above >= most
        above = tl.where(is_cut, most, above)
        at_least = tl.where(is_cut, most, at_least)
    tl.store(counts + 2 * at, above, mask=mask)
    tl.store(counts + 2 * at + 1, at_least, mask=mask)


def launch(
    scores: Tensor, among: Tensor, ignored: Tensor | None, most: int | None, counts: Tensor
) -> None:
    """See `ssad_kernels.count_above`."""
    n, m = len(scores), len(among)
    if n == 0:
        return
    if m == 0:
        counts.zero_()
    bits = 8 * scores.itemsize
    integer = torch.int32 if bits == 32 else torch.int64
    scores, among = scores.view(integer), among.view(integer)
    skipped = among if ignored is None else as_bytes(ignored)
    has_ignored = ignored is not None
    with torch.cuda.device_of(scores):
        for begin in range(0, m, _CHUNK):
            size = min(_CHUNK, m - begin)
            is_bounded = most is not None and begin + size == m
            keys = torch.empty(size, dtype=integer, device=scores.device)
            _keys_kernel[(triton.cdiv(size, _BLOCK),)](
                among[begin:], skipped[begin:], keys, size, among.stride(0), skipped.stride(0),
                has_ignored, bits, _BLOCK,
            )  # fmt: skip
            _count_kernel[(triton.cdiv(n, _BLOCK),)](
                scores, keys.sort().values, counts, n, scores.stride(0), size, size.bit_length(),
                most if is_bounded else 0, begin == 0, is_bounded, has_ignored, bits, _BLOCK,
            )  # fmt: skip


def _variants() -> list[Variant]:
    found = []
    for bits in (32, 64):
        constants = {"stride": 1, "has_ignored": True, "bits": bits, "block": _BLOCK}
        keys = {"among": f"*i{bits}", "ignored": "*u8", "keys": f"*i{bits}"}
        found.append(Variant(_keys_kernel, keys, {**constants, "ignored_stride": 1}))
        counts = {"scores": f"*i{bits}", "keys": f"*i{bits}", "counts": "*i64"}
        for is_first, is_bounded in product((True, False), repeat=2):
            chosen = {**constants, "is_first": is_first, "is_bounded": is_bounded}
            found.append(Variant(_count_kernel, counts, chosen))
    return found


VARIANTS = tuple(_variants())
