# SPDX-License-Identifier: Apache-2.0
"""Sample arguments and tolerances of every operator, for tests and benchmarks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ssad_kernels._errors import IMAGE_DTYPES
from ssad_kernels._status import Status
from ssad_kernels.cutpaste import CutPasteParams
from ssad_kernels.cutpaste_law import CutPasteLaw, pack_law
from ssad_kernels.random import make_keys

Arguments = tuple[Any, ...]

# How far two backends may differ, per dtype of the images, where white is 1 (255 for uint8). All
# compute in float32, in another order of operations and with or without fused multiply-adds.
_PIXELS = {
    # Float32 sums that differ by an ulp may round to neighbouring levels.
    torch.uint8: 1.0,
    # The same, rounded to neighbours of the stored type: its spacing between 1/2 and 1.
    torch.float16: 2.0**-11,
    torch.bfloat16: 2.0**-8,
    # Four steps of colour jitter, each with a few roundings of 6e-8, and the mean of a patch.
    torch.float32: 1e-5,
    # The same with roundings of 1e-16.
    torch.float64: 1e-12,
}
_EXACT = {torch.int64: 0.0}

TOLERANCES = {
    "cut_paste": _PIXELS,
    "cut_paste_": _PIXELS,
    "cut_paste_keyed": _PIXELS,
    "cut_paste_keyed_": _PIXELS,
    "philox": _EXACT,
    # For values of size one and sides of 16 pixels at most. Solvers count their own iterations.
    "poisson_solve": {torch.float32: 2e-5, torch.float64: 1e-9, torch.int32: math.inf},
    # The parameters of a law are integers, or floats made by float64 + - x / alone.
    "sample_cut_paste": _EXACT,
}


def make_images(
    n: int,
    channels: int,
    height: int,
    width: int,
    *,
    dtype: torch.dtype = torch.uint8,
    layout: str = "contiguous",
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Random images.

    Args:
        n: number of images.
        channels: of each.
        height: in pixels.
        width: in pixels.
        dtype: uint8 in 0...255, or a float in 0...1.
        layout: "contiguous", "channels_last", "strided" (every other pixel of a larger image) or
            "transposed" (height and width swapped in memory).
        seed: equal seeds give equal images in every layout.
        device: where they are.

    Returns:
        (n, channels, height, width).

    Raises:
        ValueError: for another layout.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (n, channels, height, width)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    if dtype != torch.uint8:
        images = (images.double() / 255.0).to(dtype)
    return with_layout(images.to(device), layout)


def with_layout(images: Tensor, layout: str) -> Tensor:
    """A copy of images (N, C, H, W) with other strides; for ``layout`` see `make_images`."""
    if layout == "contiguous":
        return images.clone(memory_format=torch.contiguous_format)
    if layout == "channels_last":
        return images.clone(memory_format=torch.channels_last)
    if layout == "transposed":
        return images.mT.clone(memory_format=torch.contiguous_format).mT
    if layout == "strided":
        n, channels, height, width = images.shape
        larger = images.new_zeros((n, channels, 2 * height, 2 * width + 1))
        view = larger[:, :, ::2, 1::2]
        view.copy_(images)
        return view
    msg = f"with_layout: unknown layout {layout!r}"
    raise ValueError(msg)


LAYOUTS = ("contiguous", "channels_last", "strided", "transposed")


def _params(device: torch.device | str, rows: Iterable[Arguments]) -> CutPasteParams:
    """Parameters from rows (source_index, box, target, angle, jitter, order, apply)."""
    columns = list(zip(*rows, strict=True))
    dtypes = [torch.int64] * 3 + [torch.float32] * 2 + [torch.int64, torch.bool]
    tensors = [
        torch.tensor(column, dtype=dtype, device=device)
        for column, dtype in zip(columns, dtypes, strict=True)
    ]
    return CutPasteParams(*tensors)


_KEEP = (1.0, 1.0, 1.0, 0.0)
_ORDER = (0, 1, 2, 3)
_NAN, _INF = float("nan"), float("inf")

# Every way in which a sample can come out, for images of 13 x 11 pixels and a batch of all rows;
# each row with its status.
_OUTCOMES = (
    ((0, (1, 2, 5, 4), (6, 3), 0.0, (1.1, 0.9, 1.05, 0.07), (3, 1, 0, 2), True), 0),
    ((1, (0, 0, 6, 3), (2, 1), 33.0, (0.9, 1.1, 0.95, -0.1), (0, 2, 3, 1), True), 0),
    ((2, (3, 3, 4, 4), (4, 4), 0.0, _KEEP, _ORDER, True), 0),  # overlaps itself
    ((0, (2, 1, 3, 6), (5, 2), 90.0, _KEEP, _ORDER, True), 0),  # from another image
    ((4, (-2, -3, 6, 7), (4, 4), 0.0, (1.3, 1.0, 1.0, 0.0), _ORDER, True), 16),
    ((5, (5, 5, 4, 4), (11, -2), 0.0, _KEEP, _ORDER, True), 16),
    ((6, (9, 7, 9, 9), (-3, -4), 210.0, (1.0, 1.2, 1.0, 0.2), _ORDER, True), 16),
    ((7, (0, 0, 13, 11), (0, 0), 180.0, (0.5, 0.5, 0.5, 0.5), (2, 3, 1, 0), True), 0),
    ((8, (1, 1, 3, 3), (2, 2), 0.0, _KEEP, _ORDER, False), 1),
    ((9, (1, 1, 3, 3), (13, 2), 0.0, _KEEP, _ORDER, True), 2),
    ((99, (1, 1, 3, 3), (2, 2), 0.0, _KEEP, _ORDER, True), 2),
    ((-1, (1, 1, 3, 3), (2, 2), 0.0, _KEEP, _ORDER, True), 2),
    ((12, (20, 1, 3, 3), (2, 2), 0.0, _KEEP, _ORDER, True), 2),
    ((13, (1, 1, 3, 3), (1 << 62, -(1 << 63)), 0.0, _KEEP, _ORDER, True), 2),
    ((14, (1, 1, (1 << 63) - 1, 3), (2, 2), 0.0, _KEEP, _ORDER, True), 2),
    ((15, (1, 1, 0, 3), (2, 2), 0.0, _KEEP, _ORDER, True), 3),
    ((16, (1, 1, 3, -4), (2, 2), 0.0, _KEEP, _ORDER, True), 3),
    # Only a corner of the canvas, which the turned square leaves free, meets the image.
    ((17, (1, 1, 8, 8), (-11, -11), 45.0, _KEEP, _ORDER, True), 3),
    ((18, (1, 1, 3, 3), (2, 2), _NAN, _KEEP, _ORDER, True), 5),
    ((19, (1, 1, 3, 3), (2, 2), -_INF, _KEEP, _ORDER, True), 5),
    ((20, (1, 1, 3, 3), (2, 2), 0.0, (1.0, _NAN, 1.0, 0.0), _ORDER, True), 5),
    ((21, (1, 1, 3, 3), (2, 2), 0.0, (1.0, 1.0, 1.0, _INF), _ORDER, True), 5),
    ((22, (1, 1, 5, 5), (7, 3), 0.0, (0.0, 0.0, 0.0, 1e6), (7, -1, 1 << 40, 2), True), 0),
    ((23, (1, 1, 5, 5), (7, 3), 1e30, (-3.0, 40.0, 7.0, -2.25), (1, 1, 0, 3), True), None),
)


def outcomes(device: torch.device | str = "cpu") -> tuple[CutPasteParams, Tensor]:
    """Parameters that reach every status, for a batch of as many 13 x 11 images, N = 24.

    Returns:
        The parameters, and the status (N,) int8 each row must get; -1 where the row only has to be
        dealt with in the same way everywhere.
    """
    expected = [-1 if status is None else int(Status(status)) for _, status in _OUTCOMES]
    params = _params(device, [row for row, _ in _OUTCOMES])
    return params, torch.tensor(expected, dtype=torch.int8, device=device)


def _cut_paste_samples(device: torch.device | str) -> dict[str, Arguments]:
    params, _ = outcomes(device)
    n = len(params.angle)
    few = CutPasteParams(*(column[:7].clone() for column in params))
    found: dict[str, Arguments] = {}
    for dtype in IMAGE_DTYPES:
        images = make_images(n, 3, 13, 11, dtype=dtype, device=device)
        found[f"outcomes-{str(dtype).removeprefix('torch.')}"] = (images, *params)
    for channels in (1, 2, 4):
        found[f"channels-{channels}"] = (make_images(7, channels, 13, 11, device=device), *few)
    for layout in LAYOUTS[1:]:
        images = make_images(7, 3, 13, 11, dtype=torch.float32, layout=layout, device=device)
        found[layout] = (images, *few)
    strided = CutPasteParams(*(torch.stack([c, c], dim=1)[:, 0] for c in few))
    found["strided-params"] = (make_images(7, 3, 13, 11, device=device), *strided)
    none = (column[:0].clone() for column in params)
    found["empty-batch"] = (make_images(0, 3, 5, 4, device=device), *none)
    pixel = CutPasteParams.of([[0, 0, 1, 1]], [[0, 0]], device=device)
    found["one-pixel"] = (make_images(1, 1, 1, 1, device=device), *pixel)
    # Values that no photograph has: black, white, and beyond.
    extreme = torch.tensor([-2.0, 0.0, 1.0, 3.0], device=device).repeat_interleave(33)
    extreme = extreme.reshape(1, 3, 4, 11)
    hue = CutPasteParams.of([[0, 0, 3, 9]], [[1, 2]], jitter=torch.tensor([[1.0, 0.9, 1.2, 0.3]]))
    found["extreme-pixels"] = (extreme, *(column.to(device) for column in hue))
    return found


LAWS = {
    "paper": CutPasteLaw(),
    "scar": CutPasteLaw(scar=True, angle=(-45.0, 45.0)),
    "rotated": CutPasteLaw(angle=(-360.0, 360.0), area=(0.0, 1.0), jitter=(3.0, 0.0, 0.5, 0.5)),
    "gated": CutPasteLaw(p=0.5, other_source=True),
}
PACKED_LAWS = {name: pack_law("testing", law) for name, law in LAWS.items()}


def _sample_cut_paste_samples(device: torch.device | str) -> dict[str, Arguments]:
    ids = torch.arange(65, device=device) * 0x1_0000_0001 - 7
    keys = make_keys(-3, (1 << 32) - 1, ids)
    found: dict[str, Arguments] = {
        name: (keys, 5, 64, 48, law) for name, law in PACKED_LAWS.items()
    }
    found["empty-batch"] = (keys[:0], 0, 8, 8, PACKED_LAWS["gated"])
    found["one-sample-of-one-pixel"] = (keys[:1], 65535, 1, 1, PACKED_LAWS["gated"])
    found["strided-keys"] = (keys[::3], 1, 7, 200, PACKED_LAWS["scar"])
    found["largest-image"] = (
        keys[:5],
        1,
        (1 << 24) - 1,
        (1 << 24) - 1,
        PACKED_LAWS["paper"],
    )
    return found


def _cut_paste_keyed_samples(device: torch.device | str) -> dict[str, Arguments]:
    ids = torch.arange(9, device=device)
    keys = make_keys(11, 2, ids)
    found: dict[str, Arguments] = {
        name: (make_images(9, 3, 33, 29, device=device), keys, 3, law)
        for name, law in PACKED_LAWS.items()
    }
    images = make_images(9, 3, 33, 29, dtype=torch.float32, layout="channels_last", device=device)
    found["channels_last"] = (images, keys, 3, PACKED_LAWS["rotated"])
    found["empty-batch"] = (images[:0].clone(), keys[:0], 3, PACKED_LAWS["paper"])
    found["one-sample"] = (images[:1].clone(), keys[:1], 3, PACKED_LAWS["gated"])
    found["too-small"] = (
        make_images(9, 1, 3, 3, device=device),
        keys,
        3,
        PACKED_LAWS["scar"],
    )
    return found


def _philox_samples(device: torch.device | str) -> dict[str, Arguments]:
    ids = torch.tensor([0, 1, -1, 1 << 32, (1 << 63) - 1, -(1 << 63)], device=device)
    keys = make_keys(-2, 3, ids)
    return {
        "block": (keys, 0, 4),
        "ragged": (keys, 65535, 7),
        "one": (keys[:1], 1, 1),
        "no-numbers": (keys, 1, 0),
        "empty-batch": (keys[:0], 1, 4),
        "strided-keys": (keys[::2], 2, 5),
        "largest-count": (keys[:1], 3, 262144),
    }


MASKS = (
    "full",
    "square",
    "disc",
    "ellipses",
    "blobs",
    "noise",
    "holes",
    "horseshoe",
    "scar",
    "checkerboard",
    "row",
    "pixel",
    "one hole",
    "empty",
)


def make_mask(family: str, height: int, width: int, *, seed: int = 0) -> Tensor:
    """A random mask (height, width) bool of a family that solvers find easy or hard.

    Args:
        family: one of `MASKS`; "square", "disc", "horseshoe" and "ellipses" leave a rim, "blobs"
            and "noise" touch the borders, "holes" is a square with pin holes.
        height: in pixels.
        width: in pixels.
        seed: equal seeds give equal masks.

    Raises:
        ValueError: for another family.
    """
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    def pixel() -> tuple[int, int]:
        y, x = random(2).tolist()
        return int(y * height), int(x * width)

    y = (torch.arange(height)[:, None] + 0.5) / height * 2 - 1
    x = (torch.arange(width) + 0.5) / width * 2 - 1
    mask = torch.zeros(height, width, dtype=torch.bool)
    square = (y.abs() < 0.95) & (x.abs() < 0.95)
    if family == "full":
        mask[:] = True
    elif family == "square":
        mask = square
    elif family == "disc":
        mask = y**2 + x**2 < 0.9
    elif family == "ellipses":
        for cy, cx, ry, rx in random(4, 4).tolist():
            distance = ((y - cy + 0.5) / (0.1 + ry / 2)) ** 2 + ((x - cx + 0.5) / (0.1 + rx)) ** 2
            mask |= distance < 1
        mask &= square
    elif family == "blobs":
        coarse = random(1, 1, 6, 6)
        mask = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0, 0] > 0.5
    elif family == "noise":
        mask = random(height, width) < 0.7
    elif family == "holes":
        mask = square
        for _ in range(max(height, width) // 4):
            mask[pixel()] = False
    elif family == "horseshoe":
        radius = y**2 + x**2
        mask = (radius < 0.9) & (radius > 0.3) & ~((x.abs() < 0.3) & (y > 0))
    elif family == "scar":
        mask = (y - x * random(1)).abs() < 5 / height
    elif family == "checkerboard":
        mask = (torch.arange(height)[:, None] + torch.arange(width)) % 2 == 0
    elif family == "row":
        mask[pixel()[0]] = True
    elif family == "pixel":
        mask[pixel()] = True
    elif family == "one hole":
        mask[:] = True
        mask[pixel()] = False
    elif family != "empty":
        msg = f"make_mask: unknown family {family!r}"
        raise ValueError(msg)
    return mask


def _poisson_samples(device: torch.device | str) -> dict[str, Arguments]:
    def problem(n: int, c: int, h: int, w: int, dtype: torch.dtype, layout: str) -> list[Tensor]:
        boundary = make_images(n, c, h, w, dtype=dtype, layout=layout, device=device)
        rhs = make_images(n, c, h, w, dtype=dtype, layout=layout, seed=1, device=device) - 0.5
        masks = [make_mask(MASKS[i % len(MASKS)], h, w, seed=i) for i in range(n)]
        stacked = torch.stack(masks) if n else torch.zeros(0, h, w, dtype=torch.bool)
        return [rhs, stacked.to(device), boundary]

    f32, f64 = torch.float32, torch.float64
    exact = ("multigrid", 0.0, 1e-7, 40)
    n = len(MASKS)
    found: dict[str, Arguments] = {
        "multigrid": (*problem(n, 2, 13, 11, f32, "contiguous"), *exact),
        "float64": (*problem(n, 1, 9, 16, f64, "contiguous"), "multigrid", 0.0, 1e-12, 40),
        "sor": (*problem(n, 1, 8, 12, f32, "contiguous"), "sor", 0.0, 1e-6, 2000),
        "jacobi": (*problem(n, 1, 7, 7, f32, "contiguous"), "jacobi", 0.0, 1e-6, 20000),
        "one-sample": (*problem(1, 1, 1, 1, f32, "contiguous"), *exact),
        "empty-batch": (*problem(0, 3, 4, 5, f32, "contiguous"), *exact),
    }
    for layout in LAYOUTS[1:]:
        found[layout] = (*problem(n, 3, 6, 9, f32, layout), *exact)
    rhs, masks, boundary = problem(n, 2, 8, 8, f32, "contiguous")
    boundary[3] = 7.0
    found["strided-mask"] = (rhs, masks.mT, boundary, *exact)
    direct = ("sine", 0.0, 0.0, 1)
    for name, h, w, dtype in (("", 12, 15, f32), ("-float64", 16, 9, f64), ("-strip", 2, 9, f32)):
        rhs, _, boundary = problem(3, 2, h, w, dtype, "contiguous")
        found[f"sine{name}"] = (rhs, None, boundary, *direct)
    for solver, sweeps in (("multigrid", 40), ("sor", 2000), ("jacobi", 20000)):
        rhs, _, boundary = problem(2, 1, 9, 7, f32, "contiguous")
        found[f"{solver}-without-mask"] = (rhs, None, boundary, solver, 0.0, 1e-6, sweeps)
    rhs, _, boundary = problem(2, 3, 11, 10, f32, LAYOUTS[-1])
    found[f"sine-{LAYOUTS[-1]}"] = (rhs, None, boundary, *direct)
    return found


_SAMPLES: dict[str, Callable[[torch.device | str], dict[str, Arguments]]] = {
    "cut_paste": _cut_paste_samples,
    "cut_paste_": _cut_paste_samples,
    "cut_paste_keyed": _cut_paste_keyed_samples,
    "cut_paste_keyed_": _cut_paste_keyed_samples,
    "philox": _philox_samples,
    "poisson_solve": _poisson_samples,
    "sample_cut_paste": _sample_cut_paste_samples,
}


def samples(op: str, device: torch.device | str = "cpu") -> dict[str, Arguments]:
    """Arguments for ``torch.ops.ssad_kernels.<op>``, by name; fresh tensors at each call.

    Raises:
        KeyError: for an op without samples.
    """
    return _SAMPLES[op](device)


def tolerance(op: str, dtype: torch.dtype) -> float:
    """The largest difference between backends; 0 for integers and booleans."""
    return TOLERANCES[op].get(dtype, 0.0)
