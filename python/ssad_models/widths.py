# SPDX-License-Identifier: Apache-2.0
"""Networks of other widths than the published ones, for demonstrations."""

from __future__ import annotations


def scaled(channels: int, width: float) -> int:
    """The multiple of 8 nearest to `width` times the channels, at least 8; 1 keeps them."""
    return channels if width == 1 else max(8, round(channels * width / 8) * 8)
