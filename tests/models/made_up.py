# SPDX-License-Identifier: Apache-2.0
"""A small made-up test set, for the tests of evaluation and report."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ssad_models.data.split import Split


def made_up(
    kinds: Sequence[str],
    strengths: Sequence[float] | None = None,
    groups: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    side: int = 8,
) -> Split:
    """Noise; what is not "good" has a bright square, which is its mask."""
    n = len(kinds)
    labels = torch.tensor([kind != "good" for kind in kinds])
    images = torch.randint(0, 64, (n, 1, side, side), dtype=torch.uint8)
    masks = torch.zeros(n, 1, side, side, dtype=torch.bool)
    masks[labels, :, side // 4 : side // 2, side // 4 : side // 2] = True
    return Split(
        images=images + 128 * masks.to(torch.uint8),
        names=tuple(names or [f"{kind}/{i:03}.png" for i, kind in enumerate(kinds)]),
        kinds=tuple(kinds),
        labels=labels,
        masks=masks,
        strengths=torch.tensor(strengths or [float("nan")] * n, dtype=torch.float64),
        groups=torch.tensor(groups or list(range(n))),
        sizes=torch.full((n, 2), side),
    )
