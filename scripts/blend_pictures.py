# SPDX-License-Identifier: Apache-2.0
"""Makes the pictures of docs/poisson.md and opencv.md: ``python scripts/blend_pictures.py``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from skimage import data
from torch import Tensor

from ssad_kernels import poisson_blend

SIDE, PATCH, TOP_LEFT = 160, 112, (24, 24)
_GAP, _TITLE = 6, 16


def to_tensor(image: Any) -> Tensor:
    """(H, W, 3) uint8 to (1, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]


def make_scene() -> tuple[Tensor, Tensor, Tensor]:
    """A target, a patch from another photograph, and a mask with a hole and a bay."""
    target = to_tensor(data.coffee()[60 : 60 + SIDE, 30 : 30 + SIDE])
    source = to_tensor(data.immunohistochemistry()[200 : 200 + PATCH, 150 : 150 + PATCH])
    y = torch.arange(PATCH)[:, None] - PATCH / 2 + 0.5
    x = torch.arange(PATCH)[None] - PATCH / 2 + 0.5
    radius = (y**2 + x**2).sqrt() / (PATCH / 2)
    mask = (radius < 0.9) & (radius > 0.2) & ~((x.abs() < 8) & (y > 20))
    return target, source, mask[None]


def amplified(after: Tensor, before: Tensor, factor: int = 4) -> Tensor:
    """Grey where nothing changed."""
    return (128 + factor * (after.int() - before.int())).clamp(0, 255).to(torch.uint8)


def sheet(panels: list[tuple[str, Tensor]]) -> Image.Image:
    """Panels with their titles, side by side."""
    width = len(panels) * (SIDE + _GAP) - _GAP
    page = Image.new("RGB", (width, SIDE + _TITLE), "white")
    draw = ImageDraw.Draw(page)
    for i, (title, image) in enumerate(panels):
        left = i * (SIDE + _GAP)
        draw.text((left, 2), title, fill="black")
        page.paste(Image.fromarray(image[0].permute(1, 2, 0).numpy()), (left, _TITLE))
    return page


def regions(target: Tensor, source: Tensor, mask: Tensor) -> list[tuple[str, Tensor]]:
    """What the two regions change."""
    place = torch.tensor([TOP_LEFT])
    top, left = TOP_LEFT
    pasted = target.clone()
    window = pasted[..., top : top + PATCH, left : left + PATCH]
    window[:] = torch.where(mask[:, None], source, window)
    inside = poisson_blend(target, source, mask, place)
    around = poisson_blend(target, source, mask, place, region="rect")
    return [
        ("copied", pasted),
        ('region="mask"', inside),
        ("its change x 4", amplified(inside, target)),
        ('region="rect"', around),
        ("its change x 4", amplified(around, target)),
    ]


def gradients(target: Tensor, source: Tensor, mask: Tensor) -> list[tuple[str, Tensor]]:
    """What guides the blend."""
    place = torch.tensor([TOP_LEFT])
    names = ("source", "mixed", "average", "monochrome")
    panels = [(name, poisson_blend(target, source, mask, place, gradient=name)) for name in names]
    soft = (mask * 96).to(torch.uint8)
    panels.append(("source, mask 96 of 255", poisson_blend(target, source, soft, place)))
    return panels


def opencv(target: Tensor, source: Tensor, mask: Tensor) -> list[tuple[str, Tensor]]:
    """cv2.seamlessClone beside compat="opencv", and a patch cloned onto itself by both."""
    import cv2

    def clone(patch: Tensor) -> Tensor:
        bgr = [
            np.ascontiguousarray(t[0].permute(1, 2, 0).numpy()[..., ::-1]) for t in (patch, target)
        ]
        mask_255 = (mask[0] * 255).to(torch.uint8).numpy()
        ys, xs = np.nonzero(mask_255)
        centre = [
            int(corner + low.min() + (low.max() + 1 - low.min()) // 2)
            for corner, low in zip(TOP_LEFT, (ys, xs), strict=True)
        ]
        out = cv2.seamlessClone(*bgr, mask_255, (centre[1], centre[0]), cv2.NORMAL_CLONE)
        return to_tensor(out[..., ::-1])

    place = torch.tensor([TOP_LEFT])
    top, left = TOP_LEFT
    itself = target[..., top : top + PATCH, left : left + PATCH]
    cloned = clone(source)
    ours = poisson_blend(target, source, mask, place)
    ours_itself = poisson_blend(target, itself, mask, place)
    return [
        ("cv2.seamlessClone", cloned),
        ('compat="opencv"', poisson_blend(target, source, mask, place, compat="opencv")),
        ("ours", ours),
        ("OpenCV onto itself, x 64", amplified(clone(itself), target, 64)),
        ("ours onto itself, x 64", amplified(ours_itself, target, 64)),
    ]


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    scene = make_scene()
    for draw in (regions, gradients, opencv):
        sheet(draw(*scene)).save(out / f"blend_{draw.__name__}.webp", quality=90)


if __name__ == "__main__":
    main()
