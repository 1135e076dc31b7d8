# SPDX-License-Identifier: Apache-2.0
"""Sample arguments of gradient noise."""

from __future__ import annotations

from typing import Any

import torch

from ssad_kernels.random import make_keys

Arguments = tuple[Any, ...]

CELLS = ((1, 1), (4, 8), (32, 1), (5, 3), (128, 128), (16, 2), (0, 4), (3, 129))
ANGLES = (0.0, 33.25, -90.0, float("nan"), 1e9, -71.5, 12.0, float("inf"))


def perlin_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``perlin_noise``, by name; the last cells are out of range."""
    found: dict[str, Arguments] = {}

    def add(name: str, height: int, width: int, n: int = 8, *, is_turned: bool = False) -> None:
        keys = make_keys(3, 1, torch.arange(n), device=device)
        cells = torch.tensor(CELLS[:n], dtype=torch.int64, device=device).reshape(n, 2)
        angle = torch.tensor(ANGLES[:n], device=device) if is_turned else None
        found[name] = (keys, 7, (height, width), cells, angle)

    for is_turned in (False, True):
        suffix = "-turned" if is_turned else ""
        add(f"even{suffix}", 32, 64, is_turned=is_turned)
        add(f"odd{suffix}", 37, 51, is_turned=is_turned)
        add(f"row{suffix}", 1, 40, is_turned=is_turned)
        add(f"pixel{suffix}", 1, 1, is_turned=is_turned)
        add(f"one-sample{suffix}", 20, 30, 1, is_turned=is_turned)
        add(f"empty-batch{suffix}", 8, 8, 0, is_turned=is_turned)
    keys, stream, size, cells, angle = found["odd-turned"]
    rows = (keys.mT.contiguous().mT, cells.mT.contiguous().mT)
    found["strided"] = (rows[0], stream, size, rows[1], torch.stack([angle, angle], 1)[:, 0])
    return found
