# SPDX-License-Identifier: Apache-2.0
"""Philox 4x32-10 in torch integer arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor

_LOW = 0xFFFFFFFF


def _multiply(constant: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """High and low halves of a 32 x 32 bit product; int64 alone would overflow."""
    low = (x & 0xFFFF) * constant
    high = (x >> 16) * constant + (low >> 16)
    return high >> 16, (high & 0xFFFF) << 16 | low & 0xFFFF


def _cipher(counter: tuple[Tensor, ...], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = _multiply(0xD2511F53, c0)
        high1, low1 = _multiply(0xCD9E8D57, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & _LOW, (k1 + 0xBB67AE85) & _LOW
    return c0, c1, c2, c3


def unit(bits: Tensor) -> Tensor:
    """32-bit integers -> float64 between 0 and 1, both excluded."""
    return (bits.double() + 0.5) * 2.0**-32


def philox(keys: Tensor, stream: int, count: int, first: int = 0) -> Tensor:
    """See `ssad_kernels.random.philox`; starts at block ``first``, of four numbers each."""
    n, blocks = keys.shape[0], (count + 3) // 4
    seed, epoch, sample = keys.unsqueeze(1).unbind(2)  # (N, 1) each
    block = torch.arange(first, first + blocks, device=keys.device) | stream << 16
    counter = (block, epoch & _LOW, sample & _LOW, sample >> 32 & _LOW)
    words = _cipher(
        tuple(word.expand(n, blocks) for word in counter), (seed & _LOW, seed >> 32 & _LOW)
    )
    return torch.stack(words, dim=2).reshape(n, 4 * blocks)[:, :count].contiguous()
