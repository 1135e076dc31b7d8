# SPDX-License-Identifier: Apache-2.0
"""Sample arguments of receptive-field upsampling."""

from __future__ import annotations

from typing import Any

import torch

from ssad_kernels._errors import FLOATS, dtype_name
from ssad_kernels.testing.images import LAYOUTS, make_images

Arguments = tuple[Any, ...]

# Size, features, kernel, stride and start of each axis, and sigma.
GEOMETRIES: dict[str, tuple[Any, ...]] = {
    "even": ((40, 43), (9, 10), (8, 8), (4, 4), (0, 0), (2.0, 2.0)),
    "odd": ((33, 70), (9, 11), (9, 7), (4, 6), (-4, -2), (1.5, 3.0)),
    "wide": ((56, 56), (7, 7), (62, 62), (8, 8), (-27, -27), (12.0, 12.0)),
    "dense": ((12, 18), (12, 18), (5, 5), (1, 1), (-2, -2), (1.0, 1.0)),
    "gaps": ((31, 45), (4, 5), (3, 3), (9, 11), (2, -1), (1.0, 1.0)),
    "single": ((5, 6), (1, 1), (4, 4), (2, 2), (1, 0), (1.0, 1.0)),
    "narrow": ((20, 3), (6, 2), (6, 2), (3, 2), (-1, 0), (1.0, 1.0)),
    "beside": ((8, 9), (3, 3), (3, 3), (2, 2), (30, -40), (1.0, 1.0)),
    "vanishing": ((24, 24), (2, 2), (21, 20), (11, 11), (-3, -2), (0.2, 0.2)),
    "subnormal": ((77, 20), (1, 2), (77, 8), (77, 4), (0, 0), (1.0, 1.0)),
}


def upsample_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``receptive_field_upsample``, by name."""
    found: dict[str, Arguments] = {}

    def add(
        name: str,
        geometry: str,
        n: int = 2,
        c: int = 1,
        dtype: torch.dtype = torch.float32,
        layout: str = "contiguous",
        *,
        normalise: bool = False,
        is_adjoint: bool = False,
    ) -> None:
        size, inputs, *rest = GEOMETRIES[geometry]
        if is_adjoint:
            size, inputs = inputs, size
        scores = make_images(n, c, *inputs, dtype=dtype, layout=layout, device=device)
        found[name] = (scores, size, *rest, normalise, is_adjoint)

    for geometry in GEOMETRIES:
        for normalise in (False, True):
            for is_adjoint in (False, True):
                names = ["normalised"] * normalise + ["adjoint"] * is_adjoint
                name = "-".join([geometry, *names])
                add(name, geometry, normalise=normalise, is_adjoint=is_adjoint)
    for is_adjoint in (False, True):
        suffix = "-adjoint" if is_adjoint else ""
        for dtype in FLOATS:
            for geometry in ("odd", "narrow"):
                name = f"{geometry}-{dtype_name(dtype)}{suffix}"
                add(name, geometry, dtype=dtype, is_adjoint=is_adjoint)
        for layout in LAYOUTS[1:]:
            add(f"{layout}{suffix}", "even", 3, 2, layout=layout, is_adjoint=is_adjoint)
        add(f"not-finite{suffix}", "odd", is_adjoint=is_adjoint)
        scores = found[f"not-finite{suffix}"][0]
        scores[0, 0, 3, 4], scores[1, 0, 0, 0] = float("-inf"), float("inf")
        add(f"empty-batch{suffix}", "even", 0, is_adjoint=is_adjoint)
        add(f"one-sample{suffix}", "even", 1, is_adjoint=is_adjoint)
    return found
