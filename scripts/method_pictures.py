# SPDX-License-Identifier: Apache-2.0
"""Makes the pictures of docs/methods.md: ``python scripts/method_pictures.py``.

For each method a row of tiles of the built-in photographs: what it trains on, then the mask or the
label that it learns from.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ssad_kernels import make_keys
from ssad_kernels.transforms import PerlinAnomaly
from ssad_models.data.builtin import train_images
from ssad_models.methods import METHODS
from ssad_models.recipe import load_recipe

RECIPES = {
    "cutpaste": "cutpaste",
    "nsa": "nsa-builtin",
    "fpi": "fpi",
    "pii": "pii",
    "anoseg": "anoseg-builtin",
    "ssm": "ssm-builtin",
}
CATEGORIES = ("brick", "gravel", "ihc")
_EACH, _GAP = 2, 4
Augment = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


def perlin(images: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
    """`PerlinAnomaly`, which no method here trains with, of the image's own parts."""
    return PerlinAnomaly(source="structure")(images, keys)


def row(augments: list[Augment], tiles: Tensor, keys: Tensor) -> Tensor:
    """Tiles and masks side by side, (3, side, width) uint8."""
    cells: list[Tensor] = []
    for i in range(len(tiles)):
        cells.append(tiles[i])
        for augment in augments:
            changed, masks, *_ = augment(tiles, keys)
            cells += [changed[i], (masks[i].float() * 255).round().to(torch.uint8)]
    padded = [
        torch.nn.functional.pad(cell.expand(3, -1, -1), (0, _GAP), value=255) for cell in cells
    ]
    return torch.cat(padded, 2)


def main() -> None:
    """One picture for each method."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, default=Path("docs/images"))
    out = arguments.parse_args().out
    # Sources are other images of the batch, so each category is one.
    batches = [train_images(category, 8) for category in CATEGORIES]
    keys = make_keys(5, 0, torch.arange(8))
    augments: dict[str, list[Augment]] = {"perlin": [perlin]}
    for method, name in RECIPES.items():
        settings = ["any_category=true"] if method in ("fpi", "pii") else []
        recipe = load_recipe(name, settings)
        augments[method] = list(METHODS[method].previews(recipe).augments.values())
    for method, several in augments.items():
        rows = [
            row(several, tiles.expand(-1, 3, -1, -1).contiguous(), keys)[
                :, :, : _EACH * (2 * len(several) + 1) * (tiles.shape[-1] + _GAP)
            ]
            for tiles in batches
        ]
        page = torch.cat([torch.nn.functional.pad(r, (0, 0, 0, _GAP), value=255) for r in rows], 1)
        picture = Image.fromarray(page.permute(1, 2, 0).contiguous().numpy())
        picture.save(out / f"method_{method}.webp", quality=80)


if __name__ == "__main__":
    main()
