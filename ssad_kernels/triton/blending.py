# SPDX-License-Identifier: Apache-2.0
"""Poisson blending: the guidance in torch, as the reference has it, and the solver in Triton."""

from typing import Any

import torch
from torch import Tensor

from ssad_kernels.reference.blending import blend
from ssad_kernels.triton.poisson import launch as launch_solver

# Where rectangles, whose sizes only the device knows, stop instead of being solved directly.
_EXACT = {torch.float32: 1e-7, torch.float64: 1e-13}


def launch(target: Tensor, *args: Any) -> None:
    """See `ssad_kernels.poisson_blend_`; the source has other memory than the target.

    Rectangles are solved by multigrid as well.
    """
    *arguments, solver, tol, rtol, max_iterations, status = args
    if target.numel() == 0:
        return
    compute = torch.float64 if target.dtype == torch.float64 else torch.float32
    if solver == "sine":
        solver, rtol = "multigrid", max(rtol, _EXACT[compute])

    def solve(rhs: Tensor, unknowns: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        planes = rhs.shape[:2]
        u = torch.empty_like(rhs, memory_format=torch.contiguous_format)
        solved = rhs.new_empty(planes, dtype=torch.int8)
        iterations, residual = rhs.new_empty(planes, dtype=torch.int32), rhs.new_empty(planes)
        outputs = (u, solved, iterations, residual)
        launch_solver(rhs, unknowns, values, solver, tol, rtol, max_iterations, *outputs)
        return u, solved

    status.copy_(blend(solve, compute, target, *arguments))
