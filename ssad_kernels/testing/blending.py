# SPDX-License-Identifier: Apache-2.0
"""Sample arguments of Poisson blending."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssad_kernels._errors import IMAGE_DTYPES, dtype_name
from ssad_kernels._status import Status
from ssad_kernels.testing.images import LAYOUTS, make_images
from ssad_kernels.testing.masks import make_mask

Arguments = tuple[Any, ...]

_NAN, _INF = float("nan"), float("inf")
_FAR = 1 << 62
_MAX = (1 << 63) - 1
_WHOLE = (0, 0, 8, 9)

# Every way in which a sample can come out, for images of 13 x 11 pixels, a batch of all rows,
# sources of 8 x 9 pixels and masks of 9 x 9: (top_left, size, index, box, code, source gain, target
# gain, family of the mask), with its status for the regions "mask" and "rect".
_OUTCOMES = (
    (((2, 1), (8, 9), 0, _WHOLE, 0, 1.0, 1.0, "square"), 0),
    (((3, 1), (7, 9), 0, (0, 0, 7, 9), 1, 1.5, 1.0, "ellipses"), 0),  # another image's source
    (((1, 2), (9, 6), 2, (1, 2, 5, 4), 2, 1.0, -0.5, "disc"), 0),  # larger than its box
    (((4, 4), (5, 5), 3, _WHOLE, 3, 0.5, 1.0, "full"), 0),  # smaller than its box
    (((-2, -3), (8, 9), 4, _WHOLE, 0, 1.0, 1.0, "blobs"), 16),
    (((8, 6), (9, 9), 5, (2, 2, 1, 1), 1, 1.0, 0.5, "full"), 16),  # a constant
    (((0, 0), (9, 9), 6, _WHOLE, 0, 0.0, 1.0, "horseshoe"), 0),
    (((1, 1), (8, 9), 7, _WHOLE, 4, 1.0, 1.0, "full"), 1),
    (((1, 1), (0, 9), 7, _WHOLE, -1, 1.0, 1.0, "full"), 1),
    (((1, 1), (0, 9), 99, _WHOLE, 0, 1.0, 1.0, "full"), 3),
    (((1, 1), (5, -4), 9, _WHOLE, 0, 1.0, 1.0, "full"), 3),
    (((1, 1), (5, 5), 10, (2, 2, 0, 3), 0, 1.0, 1.0, "full"), 3),
    (((1, 1), (8, 9), 99, _WHOLE, 0, 1.0, 1.0, "full"), 2),
    (((1, 1), (8, 9), -1, _WHOLE, 0, 1.0, 1.0, "full"), 2),
    (((13, 1), (8, 9), 13, _WHOLE, 0, 1.0, 1.0, "full"), 2),
    (((1, -9), (8, 9), 14, _WHOLE, 0, 1.0, 1.0, "full"), 2),
    (((_FAR, -_FAR), (8, 9), 15, _WHOLE, 0, 1.0, 1.0, "full"), 2),
    (((1, 1), (10, 9), 16, _WHOLE, 0, 1.0, 1.0, "full"), 2),  # larger than its mask
    (((-_MAX, 1), (_MAX, 3), 17, _WHOLE, 0, 1.0, 1.0, "full"), 2),
    (((1, 1), (5, 5), 18, (1, 1, 8, 3), 0, 1.0, 1.0, "full"), 2),
    (((1, 1), (5, 5), 19, (-1, 0, 3, 3), 0, 1.0, 1.0, "full"), 2),
    (((1, 1), (5, 5), 20, (1, 1, _MAX, 3), 0, 1.0, 1.0, "full"), 2),
    (((1, 1), (8, 9), 21, _WHOLE, 0, _NAN, 1.0, "empty"), 3),
    (((1, 1), (8, 9), 22, _WHOLE, 0, _NAN, 1.0, "full"), 5),
    (((1, 1), (8, 9), 23, _WHOLE, 0, 1.0, _INF, "full"), 5),
    # Only what a mask has beyond its patch, or its patch beyond the image.
    (((1, 1), (2, 2), 24, _WHOLE, 0, 1.0, 1.0, "corner"), 3),
    (((8, 1), (8, 9), 25, _WHOLE, 0, 1.0, 1.0, "corner"), 3),
)


def _mask(family: str, seed: int) -> Tensor:
    if family == "corner":
        mask = torch.zeros(9, 9, dtype=torch.bool)
        mask[5:, 5:] = True
        return mask
    return make_mask(family, 9, 9, seed=seed)


def blend_outcomes(
    device: torch.device | str = "cpu",
) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """Masks and rows that reach every status, for a batch of as many 13 x 11 images, N = 27.

    Returns:
        Masks (N, 9, 9) bool; top_left, sizes, source_index, source_box, gradient, source_gain and
        target_gain for sources of 8 x 9 pixels; and the status (N,) int8 that each row must get.
    """
    samples = [sample for sample, _ in _OUTCOMES]
    *columns, families = zip(*samples, strict=True)
    dtypes = [torch.int64] * 5 + [torch.float64] * 2
    rows = tuple(
        torch.tensor(column, dtype=dtype, device=device)
        for column, dtype in zip(columns, dtypes, strict=True)
    )
    masks = torch.stack([_mask(family, i) for i, family in enumerate(families)]).to(device)
    expected = [int(Status(status)) for _, status in _OUTCOMES]
    return masks, rows, torch.tensor(expected, dtype=torch.int8, device=device)


def _options(region: str, dtype: torch.dtype, solver: str | None = None) -> Arguments:
    """The last five arguments: exact, so that only roundings differ."""
    if solver is None:
        solver = "multigrid" if region == "mask" else "sine"
    return region, solver, 0.0, 1e-12 if dtype == torch.float64 else 1e-7, 40


def _rows(n: int, device: torch.device | str, **change: Any) -> Arguments:
    names = ("sizes", "source_index", "source_box", "gradient", "source_gain", "target_gain")
    places = torch.tensor([(2, 1), (-3, 4), (0, 0), (5, -2)], device=device)
    found: dict[str, Any] = dict.fromkeys(names)
    found["gradient"] = torch.arange(n, device=device) % 4
    found.update(change)
    return places[torch.arange(n) % 4], *(found[name] for name in names)


def _sources(n: int, c: int, dtype: torch.dtype, layout: str, device: torch.device | str) -> Tensor:
    """Floats are not whole levels: equal gradients would round to unequal ones, either way."""
    images = make_images(n, c, 8, 9, dtype=dtype, layout=layout, seed=3, device=device)
    return images if dtype == torch.uint8 else images.mul_(0.937)


def blend_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``poisson_blend`` and ``poisson_blend_``, by name."""
    f32 = torch.float32
    masks, rows, _ = blend_outcomes(device)
    n = len(masks)
    found: dict[str, Arguments] = {}
    for dtype in IMAGE_DTYPES:
        images = [make_images(n, 3, 13, 11, dtype=dtype, device=device)]
        images.append(_sources(n, 3, dtype, "contiguous", device))
        for region in ("mask", "rect"):
            name = f"{region}-{dtype_name(dtype)}"
            found[name] = (*images, masks, *rows, *_options(region, dtype))
            images = [image.clone() for image in images]

    def some(
        c: int = 3, dtype: torch.dtype = f32, layout: str = "contiguous", n: int = 8
    ) -> tuple[Tensor, Tensor]:
        return (
            make_images(n, c, 13, 11, dtype=dtype, layout=layout, seed=2, device=device),
            _sources(n, c, dtype, layout, device),
        )

    soft = make_images(8, 1, 8, 9, seed=4, device=device)[:, 0]
    hard = soft > 90
    for channels in (1, 2, 4):
        options = _options("mask", f32)
        found[f"channels-{channels}"] = (*some(channels), hard, *_rows(8, device), *options)
    for layout in LAYOUTS[1:]:
        arguments = (*some(layout=layout), hard, *_rows(8, device), *_options("mask", f32))
        found[layout] = arguments
        found[f"{layout}-rect"] = (*some(layout=layout), None, *_rows(8, device))
        found[f"{layout}-rect"] += _options("rect", f32)
    for solver in ("sor", "jacobi"):
        options = ("mask", solver, 0.0, 1e-7, 20000)
        found[solver] = (*some(1), hard, *_rows(8, device), *options)
    for name, mask in (("soft-uint8", soft), ("soft-float", soft.float() / 128 - 0.25)):
        for region in ("mask", "rect"):
            options = _options(region, f32)
            found[f"{name}-{region}"] = (*some(), mask, *_rows(8, device), *options)
    strided = soft.mT.contiguous().mT
    found["strided-mask"] = (*some(), strided, *_rows(8, device), *_options("mask", f32))
    found["no-mask"] = (*some(), None, *_rows(8, device), *_options("mask", f32, "sine"))
    box = torch.tensor([(1, 2, 6, 5), (0, 0, 8, 9)] * 4, device=device)
    sizes = torch.tensor([(11, 4), (6, 13), (13, 11), (3, 3)] * 2, device=device)
    for name, more in (("box", {}), ("resize", {"sizes": sizes})):
        change = {"source_box": box, **more}
        for dtype in (torch.uint8, f32):
            arguments = (*some(dtype=dtype), None, *_rows(8, device, **change))
            found[f"{name}-{dtype_name(dtype)}"] = (*arguments, *_options("mask", dtype, "sine"))
    whole = {"gradient": torch.arange(4, device=device)}
    target, source = some(n=4)
    arguments = (source, target[:, :, :8, :9].clone(), None, *_rows(4, device, **whole))
    found["whole-image"] = (*arguments, *_options("mask", f32, "sine"))
    found["whole-image"][3].zero_()
    fine, bad = some()  # in sources only, as no NaN may come out: opcheck compares by equality
    bad[1, 0, 4, 6], bad[0, 2, 3, 3], bad[4, 1, 0, 0] = _NAN, _INF, -_INF
    arguments = (fine, bad, hard, *_rows(8, device))
    found["not-finite"] = (*arguments, *_options("mask", f32))
    nan_mask = soft.float() / 255
    nan_mask[2, 3, 3] = nan_mask[5, 0, 0] = _NAN
    found["nan-mask"] = (*some(), nan_mask, *_rows(8, device), *_options("mask", f32))
    for name, shape in (("opencv", None), ("opencv-mask", make_mask("ellipses", 26, 27))):
        large = [make_images(4, 3, side, side + 1, seed=side, device=device) for side in (30, 26)]
        drawn = None if shape is None else shape.expand(4, 26, 27).to(device)
        codes = torch.tensor([0, 1, 3, 2], device=device)
        arguments = (*large, drawn, *_rows(4, device, gradient=codes))
        found[name] = (*arguments, *_options("opencv", torch.uint8))
    found["empty-batch"] = (*some(n=0), hard[:0], *_rows(0, device), *_options("mask", f32))
    one = (*some(n=1), hard[:1], *_rows(1, device))
    found["one-sample"] = (*one, *_options("rect", f32))
    return found


def make_blend(
    n: int = 6, dtype: torch.dtype = torch.float32, layout: str = "contiguous"
) -> dict[str, Any]:
    """Arguments of `poisson_blend`: images of 19 x 17, sources of 12 x 11, masks, and places."""
    families = ("disc", "blobs", "noise", "square", "ellipses", "holes")
    places = torch.tensor([(3, 2), (-2, 8), (7, 6), (0, 0), (11, -3), (4, 4)])
    return {
        "target": make_images(n, 3, 19, 17, dtype=dtype, layout=layout),
        "source": make_images(n, 3, 12, 11, dtype=dtype, layout=layout, seed=1),
        "mask": torch.stack([make_mask(families[i % 6], 12, 11, seed=i) for i in range(n)]),
        "top_left": places[torch.arange(n) % 6],
    }
