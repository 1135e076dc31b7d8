# SPDX-License-Identifier: Apache-2.0
"""Quantiles of distributions from a table: the same float64 on every device.

A logarithm differs by an ulp between libraries, and then an integer made of it by one. A table and
float64 + - x do not. The table is finer the further out in a tail: its knots are the floats with
five bits of fraction, so that the bits of a number are its place in the table. The largest error
is 1.4e-4 (``scripts/quantile_tables.py --error``): 0.002 pixels where NSA's scale is 13.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssad_kernels.reference import quantile_tables

_STEP_BITS = 47  # of a float64's 52 bits of fraction, those within a step of the table
_FIRST = 1022 << 5  # the place of 0.5


def table(device: torch.device) -> Tensor:
    """(3, 1025) float64: the lower and upper tail of Gamma(2, 1), the upper tail of a normal."""
    rows = [quantile_tables.GAMMA_LOW, quantile_tables.GAMMA_HIGH, quantile_tables.NORMAL]
    # Not on the device at once: that would wait for it.
    return torch.tensor(rows, dtype=torch.float64).to(device, non_blocking=True)


def _interpolate(tail: Tensor, row: Tensor | int, rows: Tensor) -> Tensor:
    bits = (tail.double() + 0.5).view(torch.int64)
    place = (bits >> _STEP_BITS) - _FIRST
    part = (bits & ((1 << _STEP_BITS) - 1)).double() * 2.0**-_STEP_BITS
    flat = rows.flatten()
    place = place + row * rows.shape[1]
    low = flat[place]
    return low + (flat[place + 1] - low) * part


def gamma2(bits: Tensor) -> Tensor:
    """32-bit integers -> Gamma(shape 2, scale 1), float64."""
    is_high = bits >= 1 << 31
    tail = torch.where(is_high, (1 << 32) - 1 - bits, bits)
    return _interpolate(tail, is_high.long(), table(bits.device))


def normal(bits: Tensor) -> Tensor:
    """32-bit integers -> normal with mean 0 and deviation 1, float64."""
    is_high = bits >= 1 << 31
    tail = torch.where(is_high, (1 << 32) - 1 - bits, bits)
    value = _interpolate(tail, 2, table(bits.device))
    return torch.where(is_high, value, -value)
