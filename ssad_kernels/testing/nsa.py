# SPDX-License-Identifier: Apache-2.0
"""Recipes, object masks and sample arguments of the ops that draw NSA's patches."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ssad_kernels.nsa import NsaParams
from ssad_kernels.nsa_keyed import pack_style
from ssad_kernels.nsa_law import NsaLaw, pack_law, sample_nsa
from ssad_kernels.nsa_steps import NsaStyle
from ssad_kernels.random import make_keys
from ssad_kernels.testing.images import make_images

Arguments = tuple[Any, ...]


class NsaRecipe(NamedTuple):
    """How the released code treats a class.

    Attributes:
        side: of the images, pixels.
        law: what patches are drawn from, for object masks if ``extent`` is not None.
        extent: shares of the sides that the class's object usually covers, as made up here.
    """

    side: int
    law: NsaLaw
    extent: tuple[float, float] | None


def _recipe(
    height: tuple[float, float],
    width: tuple[float, float],
    patches: int,
    object_share: float | None = None,
    extent: tuple[float, float] | None = None,
    **change: Any,
) -> NsaRecipe:
    overlap = None if object_share is None else 0.25
    law = NsaLaw(
        height=height, width=width, patches=patches, object_share=object_share, overlap=overlap
    )
    return NsaRecipe(224, law._replace(**change), extent)


def _texture() -> NsaRecipe:
    return _recipe((0.03, 0.40), (0.03, 0.40), 4, resize=(0.5, 2.0))._replace(side=256)


_BIG = (0.03, 0.40)

NSA_RECIPES = {
    "bottle": _recipe(_BIG, _BIG, 3, 0.70, (0.9, 0.9)),
    "cable": _recipe((0.05, 0.40), (0.05, 0.40), 3),
    "capsule": _recipe((0.03, 0.15), _BIG, 3, 0.70, (0.35, 0.85)),
    "hazelnut": _recipe((0.03, 0.35), (0.03, 0.35), 3, 0.70, (0.65, 0.6)),
    "metal_nut": _recipe(_BIG, _BIG, 3, 0.50, (0.85, 0.85)),
    "pill": _recipe((0.03, 0.20), _BIG, 3, 0.70, (0.45, 0.8)),
    "screw": _recipe((0.03, 0.12), (0.03, 0.12), 4, 0.50, (0.12, 0.75)),
    "toothbrush": _recipe(_BIG, (0.03, 0.20), 3, 0.25, (0.9, 0.3)),
    "transistor": _recipe(_BIG, _BIG, 3),
    "zipper": _recipe(_BIG, (0.03, 0.20), 4, 0.70, (1.4, 0.5)),
    "carpet": _texture(),
    "grid": _texture(),
    "leather": _texture(),
    "tile": _texture(),
    "wood": _texture(),
    "rCXR": _recipe(_BIG, _BIG, 3, 0.70, (0.95, 0.85), overlap=0.70, offset=0.05, scale=0.03),
}


def make_objects(
    n: int, height: int, width: int, extent: tuple[float, float], *, seed: int = 0
) -> Tensor:
    """Object masks (n, 1, height, width) bool: ellipses near the middle, a little turned and moved.

    Args:
        n: how many.
        height: in pixels.
        width: in pixels.
        extent: height and width of the ellipses as shares of the sides.
        seed: equal seeds give equal masks.
    """
    generator = torch.Generator().manual_seed(seed)
    change = torch.rand(n, 4, generator=generator, dtype=torch.float64)[:, :, None, None] - 0.5
    y = (torch.arange(height)[:, None] + 0.5) / height * 2 - 1 - 0.1 * change[:, 0]
    x = (torch.arange(width) + 0.5) / width * 2 - 1 - 0.1 * change[:, 1]
    turn, size = change[:, 2] * math.pi / 6, 1 + 0.1 * change[:, 3]
    along = (y * turn.cos() + x * turn.sin()) / (extent[0] * size)
    across = (x * turn.cos() - y * turn.sin()) / (extent[1] * size)
    return (along**2 + across**2 < 1)[:, None]


NSA_LAWS = {
    "paper": NsaLaw(),
    "released": NsaLaw(is_reference=True, resize=(0.5, 2.0), patches=4),
    "uniform": NsaLaw(size="uniform", resize=None, height=(0.1, 0.4), patches=2, p=0.5),
    "cutpaste": NsaLaw(size="cutpaste", same_source=True, patches=1),
    "square": NsaLaw(size="square", height=(0.05, 0.2), shift=False, core=0.5, patches=1),
    "same-place": NsaLaw(shift=False, object_share=0.3, overlap=0.3),
    "ellipses": NsaLaw(shape="ellipses"),
    "objects": NsaLaw(object_share=0.5, overlap=0.25, patches=4, proposals=7),
    "released-objects": NsaLaw(object_share=0.6, overlap=0.5, patches=4, is_reference=True),
    "ellipses-objects": NsaLaw(shape="ellipses", object_share=0.4, overlap=0.2, proposals=9),
    "released-ellipses": NsaLaw(shape="ellipses", overlap=0.3, is_reference=True),
}


def sample_nsa_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``sample_nsa``, by name."""
    keys = make_keys(-3, (1 << 32) - 1, torch.arange(17, device=device) * 0x1_0000_0001 - 7)
    found: dict[str, Arguments] = {}
    source = make_objects(17, 64, 48, (0.8, 0.7), seed=1).to(device)
    target = make_objects(17, 64, 48, (0.7, 0.8), seed=2).to(device)
    for name, law in NSA_LAWS.items():
        is_tested = law.object_share is not None or law.overlap is not None
        masks = (source, target) if is_tested else (None, None)
        found[name] = (keys, 5, 64, 48, -1, *masks, pack_law("testing", law))
    objects = pack_law("testing", NSA_LAWS["objects"])
    paper = pack_law("testing", NSA_LAWS["paper"])
    found["bank"] = (keys, 5, 64, 48, 3, source[:3], target, objects)
    strided = torch.stack([source, source], dim=4)[..., 0]
    found["strided"] = (keys[::3], 5, 64, 48, 17, strided, target[::3], objects)
    found["empty-batch"] = (keys[:0], 0, 64, 48, 3, source[:3], target[:0], objects)
    found["one-sample"] = (keys[:1], 65535, 64, 48, -1, source[:1], target[:1], objects)
    for side in (1, 13):
        found[f"side-{side}"] = (keys, 1, side, side, -1, None, None, paper)
    return found


def regions_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``nsa_regions``, by name."""
    keys = make_keys(4, 0, torch.arange(9, device=device))
    source = make_objects(5, 40, 56, (0.8, 0.7), seed=1).to(device)
    target = make_objects(9, 40, 56, (0.7, 0.8), seed=2).to(device)
    found: dict[str, Arguments] = {}
    for name, law in NSA_LAWS.items():
        law = law._replace(same_source=False, patches=4)
        params = sample_nsa(
            keys, 40, 56, law, stream=2, sources=5, source_masks=source, target_masks=target
        )
        end = (source, target, law.is_reference)
        if law.shape == "ellipses" or law.object_share is not None:
            found[name] = (*params[:5], 40, 56, 56, *end, False)
            found[f"{name}-label"] = (*params[:5], 40, 56, 56, *end, True)
        else:
            found[name] = (*params[:5], 40, 56, 20, None, None, law.is_reference, True)
    params, shape = region_outcomes(device)
    found["outcomes"] = (*params[:5], *shape, 16, None, None, False, False)
    masks = (torch.ones(4, 1, *shape, dtype=torch.bool, device=device) for _ in range(2))
    found["outcomes-masks"] = (*params[:5], *shape, 16, *masks, True, False)
    found["empty-batch"] = (*(row[:0] for row in params[:5]), *shape, 16, None, None, False, False)
    strided = (torch.stack([row, row], dim=-1)[..., 0] for row in params[:5])
    found["strided"] = (*strided, *shape, 16, None, None, False, False)
    single = (row[:1].clone() for row in params[:5])
    found["one-sample"] = (*single, *shape, 16, None, None, False, False)
    return found


_FAR = (1 << 63) - 1
_NAN, _INF = float("nan"), float("inf")


def region_outcomes(device: torch.device | str = "cpu") -> tuple[NsaParams, tuple[int, int]]:
    """Parameters that no law draws, N = 4 and P = 3, and the images' size (24, 20).

    In each sample the first patch is within, and the others are not: beyond the image, of another
    sign or size than there is, of no source, or with ellipses of no number.
    """
    good = (2, 3, 12, 10)
    box = [
        [good, (20, 3, 12, 10), (_FAR, 3, 12, 10)],
        [good, (2, -1, 12, 10), (2, 3, _FAR, -10)],
        [good, (0, 0, 17, 10), (0, 0, 0, 10)],
        [good, good, (1, 1, 8, 8)],
    ]
    fine = (6.0, 5.0, 5.0, 4.0, 30.0)
    no_number = [(_NAN, 5.0, 5.0, 4.0, 30.0), (6.0, _INF, 5.0, 4.0, 30.0)]
    no_number += [(6.0, 5.0, 0.0, 4.0, _NAN), (6.0, 5.0, 5.0, -1.0, _INF)]
    ellipse = [[(fine, fine), (fine, no_number[i]), (no_number[i], fine)] for i in range(4)]
    apply = torch.ones(4, 3, dtype=torch.bool, device=device)
    apply[3, 1] = False
    params = NsaParams(
        torch.tensor([0, 1, 3, 2], device=device),
        torch.tensor([[good] * 3] * 4, device=device),
        torch.tensor(box, device=device),
        torch.tensor(ellipse, dtype=torch.float64, device=device),
        apply,
        torch.full((4,), 0.5, dtype=torch.float64, device=device),
        torch.zeros(4, dtype=torch.int8, device=device),
    )
    return params, (24, 20)


_KEYED: dict[str, tuple[NsaLaw, NsaStyle]] = {
    "source": (NsaLaw(), NsaStyle()),
    "mixed": (NsaLaw(patches=4, resize=(0.5, 2.0)), NsaStyle("mixed", label="intensity")),
    "average": (NsaLaw(p=0.5), NsaStyle("average", region="rect", label="binary")),
    "ellipses": (NsaLaw(shape="ellipses", size="uniform"), NsaStyle("monochrome")),
    "rect": (NsaLaw(shape="ellipses", size="uniform"), NsaStyle("mix", region="rect")),
    "scaled": (NSA_LAWS["square"], NsaStyle("scaled", label="factor", tolerance=0.0, size=1)),
    "uniform": (NSA_LAWS["square"], NsaStyle("uniform", label="factor", tolerance=0.0, size=1)),
    "swap": (NSA_LAWS["cutpaste"], NsaStyle("swap")),
    "objects": (NSA_LAWS["objects"], NsaStyle(background=(110.0, 40.0))),
    "otsu": (NSA_LAWS["objects"], NsaStyle("swap", background="otsu")),
    "released": (NSA_LAWS["released"], NsaStyle("mix")),
    "released-scaled": (NSA_LAWS["released-ellipses"], NsaStyle("scaled", label="factor")),
    "released-uniform": (NSA_LAWS["released-objects"], NsaStyle("uniform", label="factor")),
}


def nsa_keyed_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``nsa_keyed``, by name."""

    def make(
        name: str, images: Tensor, *given: Tensor | None, stream: int = 7, step: int = 1
    ) -> Arguments:
        law, style = _KEYED[name]
        keys = make_keys(3, 1, torch.arange(step * images.shape[0], device=device))[::step]
        return (images, keys, *given, stream, *pack_style(law, style))

    images = make_images(5, 3, 48, 40, device=device)
    bank = make_images(4, 3, 48, 40, device=device, seed=1)
    objects = make_objects(9, 48, 40, (0.8, 0.7)).to(device)
    found = {
        name: make(name, images, None if law.same_source else bank, None, None)
        for name, (law, style) in _KEYED.items()
        if style.background is None
    }
    for name in ("objects", "otsu", "released-objects"):
        key = name if name in _KEYED else "released-uniform"
        found[name] = make(key, images, None, objects[:5] if key != name else None, None)
    found["masks"] = make("released-uniform", images, bank, objects[:5], objects[5:])
    found["bank-objects"] = make("objects", images, bank, None, objects[5:])
    last = images.to(memory_format=torch.channels_last)
    found["strided"] = make("mixed", last, bank[..., :], None, None, step=2)
    for dtype, channels in ((torch.float64, 1), (torch.float64, 4)):
        parts = (
            make_images(3, channels, 32, 40, dtype=dtype, device=device, seed=s) for s in (1, 2)
        )
        found[f"{dtype}-{channels}"] = make("mixed", *parts, None, None)
    found["empty-batch"] = make("source", images[:0], bank, None, None)
    found["one-sample"] = make("source", images[:1], bank, None, None)
    found["small"] = make("source", images[..., :7, :5].contiguous(), None, None, None)
    return found
