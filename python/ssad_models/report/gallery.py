# SPDX-License-Identifier: Apache-2.0
"""Test images to look at, the worst mistakes first."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import torch
from torchvision.transforms.v2 import functional

from ssad_models.data.split import Split
from ssad_models.overlay import overlay

SIDE = 192
"""Pictures are reduced to this many pixels; on a page they are smaller still."""


@dataclass(frozen=True)
class Picture:
    """One test image as the page shows it.

    Attributes:
        name: Of the image in its split.
        kind: Of its defect, "good" for a normal image.
        anomalous: Whether it has a defect.
        score: Its anomaly score.
        error: 0..1, see `gallery`.
        image: The image, as a data URI.
        mask: The true mask; None if there is none.
        heat: The image under its heat map; None if there is none.
    """

    name: str
    kind: str
    anomalous: bool
    score: float
    error: float
    image: str
    mask: str | None
    heat: str | None


def gallery(
    test: Split, scores: torch.Tensor, maps: torch.Tensor | None = None, count: int = 12
) -> tuple[Picture, ...]:
    """Pick test images and encode them, the largest error first.

    The error of an anomalous image is the share of normal images that score above it, that of a
    normal image the share of anomalous ones below it; ties count half. Half of the pictures are the
    worst anomalous images, a quarter the worst normal ones, and a quarter the best anomalous ones.

    Args:
        test: The test set.
        scores: (N,) finite, one per image; higher means more anomalous.
        maps: (N, 1, S, S) anomaly of every pixel on one scale for all images, or None.
        count: How many pictures at most.

    Returns:
        The pictures, each image of the test set at most once.
    """
    scores = scores.detach().cpu().double()
    errors = _errors(scores, test.labels)
    order = (-errors).argsort(stable=True)
    normal, anomalous = order[~test.labels[order]], order[test.labels[order]]
    quarter = count // 4
    worst = anomalous[: count - 2 * quarter]
    best = anomalous[len(worst) :][-quarter:] if quarter else anomalous[:0]
    rows = torch.cat([normal[:quarter], worst, best])
    hottest = None if maps is None else _hottest(maps)
    pictures = []
    for row in rows[(-errors[rows]).argsort(stable=True)].tolist():
        image = test.images[row]
        heat = None if maps is None else overlay(image, maps[row].cpu(), hottest)
        mask = None if test.masks is None else test.masks[row]
        pictures.append(
            Picture(
                name=test.names[row],
                kind=test.kinds[row],
                anomalous=bool(test.labels[row]),
                score=float(scores[row]),
                error=float(errors[row]),
                image=_data_uri(image, "JPEG"),
                mask=None if mask is None else _data_uri(mask.to(torch.uint8) * 255, "PNG"),
                heat=None if heat is None else _data_uri(heat, "JPEG"),
            )
        )
    return tuple(pictures)


def _errors(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(N,) float64, see `gallery`."""
    difference = scores[labels][:, None] - scores[~labels][None, :]
    mistakes = (difference < 0).double() + 0.5 * (difference == 0)
    errors = torch.zeros_like(scores)
    errors[labels], errors[~labels] = mistakes.mean(1), mistakes.mean(0)
    return errors


def _hottest(maps: torch.Tensor) -> float:
    """The same colour scale for all pictures, or every normal image would have a hot spot."""
    flat = maps.detach().flatten().float().cpu()
    return float(flat[:: flat.numel() // 1_000_000 | 1].quantile(0.999))


def _data_uri(image: torch.Tensor, form: str) -> str:
    """(C, H, W) uint8 -> "data:image/…"."""
    picture = functional.to_pil_image(image)
    picture.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    picture.save(stream, form, quality=85, optimize=True)
    return f"data:image/{form.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"
