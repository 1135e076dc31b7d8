# SPDX-License-Identifier: Apache-2.0
"""Problems for `poisson_solve` as blending poses them."""

from __future__ import annotations

import torch
from torch import Tensor

from ssad_kernels.testing import make_images, make_mask


def make_problem(family: str, n: int, c: int, h: int, w: int) -> tuple[Tensor, Tensor, Tensor]:
    """The Laplacian of an image, masks of a family, and another image; white is 1."""
    source = make_images(n, c, h, w, dtype=torch.float32, seed=1)
    around = torch.nn.functional.pad(source, (1, 1, 1, 1), mode="replicate")
    sums = around[..., 2:, 1:-1] + around[..., :-2, 1:-1]
    sums = sums + around[..., 1:-1, 2:] + around[..., 1:-1, :-2]
    masks = torch.stack([make_mask(family, h, w, seed=i) for i in range(n)])
    return sums - 4 * source, masks, make_images(n, c, h, w, dtype=torch.float32)
