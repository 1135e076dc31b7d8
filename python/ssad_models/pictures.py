# SPDX-License-Identifier: Apache-2.0
"""What training makes of images, to be looked at, and how often they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torchvision.utils import make_grid

from ssad_kernels import Status, make_keys
from ssad_kernels.transforms import Rotation

Augment = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]]
"""Images (N, C, S, S) and keys (N, 3) -> changed images, masks or labels 0..1, and perhaps the
status."""


class Plain(Protocol):
    """What makes the normal inputs of a training."""

    def plain(self, images: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """(N, C, S, S) uint8 images and (N, 3) keys -> what is done to all images; copied."""


class Previews(NamedTuple):
    """What training makes of images.

    Attributes:
        synthesis: What moves, crops and recolours them first.
        augments: What is then done to them, by name; empty for a task that changes no part of them.
    """

    synthesis: Plain
    augments: Mapping[str, Augment]


@dataclass(frozen=True)
class Statistics:
    """What became of many images.

    Attributes:
        statuses: How many had each status.
        share: Mean share of the image that was changed, where anything was, 0..1; NaN where nothing
            ever was.
    """

    statuses: dict[str, int]
    share: float


def statistics(
    images: torch.Tensor, synthesis: Plain, augment: Augment, draws: int, seed: int
) -> Statistics:
    """Augment images again and again, and count.

    Args:
        images: (N, C, S, S) uint8.
        synthesis: What moves, crops and recolours them first.
        augment: What is then done to them.
        draws: How many augmentations, all images taking turns.
        seed: Of the augmentations.
    """
    counts: Counter[int] = Counter()
    areas = []
    for part in torch.arange(draws).split(64):
        rows = part % len(images)
        keys = make_keys(seed, 0, part)
        _, masks, *status = augment(synthesis.plain(images[rows], keys), keys)
        area = (masks > 0).flatten(1).float().mean(1)
        # Without a status: an empty mask is all that a transform says about an image left alone.
        left = torch.where(area > 0, int(Status.APPLIED), int(Status.EMPTY))
        counts.update((status[0] if status else left).tolist())
        areas.append(area[area > 0])
    names = {_status_name(status): count for status, count in sorted(counts.items())}
    return Statistics(names, float(torch.cat(areas).mean()))


def _status_name(status: int) -> str:
    return Status(status).name.lower().replace("_", " ")


def sheet(
    images: torch.Tensor, synthesis: Plain, augments: Sequence[Augment], seed: int
) -> torch.Tensor:
    """A picture with a row per image: the normal input, then each augmentation and its mask.

    Args:
        images: (N, C, S, S) uint8.
        synthesis: What moves, crops and recolours them first.
        augments: What is then done to them; if empty, they are turned by 90, 180 and 270 degrees.
        seed: Of the augmentations.

    Returns:
        (3, H, W) uint8.
    """
    keys = make_keys(seed, 0, torch.arange(len(images)))
    images = synthesis.plain(images, keys)
    columns = [images]
    for augment in augments:
        changed, masks, *_ = augment(images, keys)
        columns += [changed, (masks.float() * 255).round().to(torch.uint8)]
    if not augments:
        columns = list(Rotation()(images)[0].split(len(images)))
    rows = torch.stack([column.expand(-1, 3, -1, -1) for column in columns], dim=1)
    grid: torch.Tensor = make_grid(rows.flatten(0, 1), len(columns), padding=4, pad_value=128)
    return grid
