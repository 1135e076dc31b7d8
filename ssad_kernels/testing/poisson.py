# SPDX-License-Identifier: Apache-2.0
"""Sample arguments of the Poisson solver."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssad_kernels.testing.images import LAYOUTS, make_images
from ssad_kernels.testing.masks import MASKS, make_mask

Arguments = tuple[Any, ...]


def poisson_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of `poisson_solve`: every solver, dtype, layout and family of masks."""

    def problem(n: int, c: int, h: int, w: int, dtype: torch.dtype, layout: str) -> list[Tensor]:
        boundary = make_images(n, c, h, w, dtype=dtype, layout=layout, device=device)
        rhs = make_images(n, c, h, w, dtype=dtype, layout=layout, seed=1, device=device) - 0.5
        masks = [make_mask(MASKS[i % len(MASKS)], h, w, seed=i) for i in range(n)]
        stacked = torch.stack(masks) if n else torch.zeros(0, h, w, dtype=torch.bool)
        return [rhs, stacked.to(device), boundary]

    f32, f64 = torch.float32, torch.float64
    exact = ("multigrid", 0.0, 1e-7, 40)
    n = len(MASKS)
    found: dict[str, Arguments] = {
        "multigrid": (*problem(n, 2, 13, 11, f32, "contiguous"), *exact),
        "float64": (*problem(n, 1, 9, 16, f64, "contiguous"), "multigrid", 0.0, 1e-12, 40),
        "sor": (*problem(n, 1, 8, 12, f32, "contiguous"), "sor", 0.0, 1e-6, 2000),
        "jacobi": (*problem(n, 1, 7, 7, f32, "contiguous"), "jacobi", 0.0, 1e-6, 20000),
        "one-sample": (*problem(1, 1, 1, 1, f32, "contiguous"), *exact),
        "empty-batch": (*problem(0, 3, 4, 5, f32, "contiguous"), *exact),
    }
    for layout in LAYOUTS[1:]:
        found[layout] = (*problem(n, 3, 6, 9, f32, layout), *exact)
    rhs, masks, boundary = problem(n, 2, 8, 8, f32, "contiguous")
    boundary[3] = 7.0
    found["strided-mask"] = (rhs, masks.mT, boundary, *exact)
    direct = ("sine", 0.0, 0.0, 1)
    for name, h, w, dtype in (("", 12, 15, f32), ("-float64", 16, 9, f64), ("-strip", 2, 9, f32)):
        rhs, _, boundary = problem(3, 2, h, w, dtype, "contiguous")
        found[f"sine{name}"] = (rhs, None, boundary, *direct)
    for solver, sweeps in (("multigrid", 40), ("sor", 2000), ("jacobi", 20000)):
        rhs, _, boundary = problem(2, 1, 9, 7, f32, "contiguous")
        found[f"{solver}-without-mask"] = (rhs, None, boundary, solver, 0.0, 1e-6, sweeps)
    rhs, _, boundary = problem(2, 3, 11, 10, f32, LAYOUTS[-1])
    found[f"sine-{LAYOUTS[-1]}"] = (rhs, None, boundary, *direct)
    return found
