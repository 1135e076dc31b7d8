# SPDX-License-Identifier: Apache-2.0
"""Sample arguments of the ops that paste, draw parameters and draw numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ssad_kernels._errors import IMAGE_DTYPES
from ssad_kernels._status import Status
from ssad_kernels.cutpaste import CutPasteParams
from ssad_kernels.cutpaste_law import CutPasteLaw, pack_law
from ssad_kernels.random import make_keys
from ssad_kernels.testing.images import LAYOUTS, make_images

Arguments = tuple[Any, ...]


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


def cut_paste_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``cut_paste`` and ``cut_paste_``, by name."""
    params, _ = outcomes(device)
    n = len(params.angle)
    few = params.map(lambda rows: rows[:7].clone())
    found: dict[str, Arguments] = {}
    for dtype in IMAGE_DTYPES:
        images = make_images(n, 3, 13, 11, dtype=dtype, device=device)
        found[f"outcomes-{str(dtype).removeprefix('torch.')}"] = (images, *params)
    for channels in (1, 2, 4):
        found[f"channels-{channels}"] = (make_images(7, channels, 13, 11, device=device), *few)
    for layout in LAYOUTS[1:]:
        images = make_images(7, 3, 13, 11, dtype=torch.float32, layout=layout, device=device)
        found[layout] = (images, *few)
    strided = few.map(lambda rows: torch.stack([rows, rows], dim=1)[:, 0])
    found["strided-params"] = (make_images(7, 3, 13, 11, device=device), *strided)
    none = params.map(lambda rows: rows[:0].clone())
    found["empty-batch"] = (make_images(0, 3, 5, 4, device=device), *none)
    pixel = CutPasteParams.of([[0, 0, 1, 1]], [[0, 0]], device=device)
    found["one-pixel"] = (make_images(1, 1, 1, 1, device=device), *pixel)
    # Values that no photograph has: black, white, and beyond.
    extreme = torch.tensor([-2.0, 0.0, 1.0, 3.0], device=device).repeat_interleave(33)
    extreme = extreme.reshape(1, 3, 4, 11)
    hue = CutPasteParams.of([[0, 0, 3, 9]], [[1, 2]], jitter=torch.tensor([[1.0, 0.9, 1.2, 0.3]]))
    found["extreme-pixels"] = (extreme, *hue.map(lambda rows: rows.to(device)))
    return found | _moved_samples(few)


def _moved_samples(params: CutPasteParams) -> dict[str, Arguments]:
    """The same with source images that are turned, shifted and both; for seven samples."""
    device = params.angle.device
    turns = torch.tensor([1, 2, 3, 4, -1, 1 << 40, -(1 << 63)], device=device)
    shift = [[0, 0], [6, 5], [-3, 0], [0, 40], [1 << 62, -(1 << 62)], [13, 11], [-(1 << 63), 1]]
    moved = params._replace(turns=turns, shift=torch.tensor(shift, device=device))
    found: dict[str, Arguments] = {}
    for dtype in (torch.uint8, torch.float32):
        name = str(dtype).removeprefix("torch.")
        found[f"moved-{name}"] = (make_images(7, 3, 13, 11, dtype=dtype, device=device), *moved)
    packed = make_images(7, 3, 13, 11, layout="channels_last", device=device)
    found["moved-channels_last"] = (packed, *moved)
    found["moved-square"] = (make_images(7, 1, 12, 12, device=device), *moved)
    found["turned"] = (make_images(7, 3, 13, 11, device=device), *moved._replace(shift=None))
    found["shifted"] = (make_images(7, 3, 13, 11, device=device), *moved._replace(turns=None))
    strided = moved.map(lambda rows: torch.stack([rows, rows], dim=1)[:, 0])
    found["moved-strided-params"] = (make_images(7, 3, 13, 11, device=device), *strided)
    none = moved.map(lambda rows: rows[:0].clone())
    found["moved-empty-batch"] = (make_images(0, 3, 5, 4, device=device), *none)
    return found


LAWS = {
    "paper": CutPasteLaw(),
    "scar": CutPasteLaw(scar=True, angle=(-45.0, 45.0)),
    "rotated": CutPasteLaw(angle=(-360.0, 360.0), area=(0.0, 1.0), jitter=(3.0, 0.0, 0.5, 0.5)),
    "gated": CutPasteLaw(p=0.5, other_source=True),
    "hard": CutPasteLaw(angle=(-45.0, 45.0), turn_p=0.5, permute_p=0.5, jitter_p=0.5),
}
PACKED_LAWS = {name: pack_law("testing", law) for name, law in LAWS.items()}


def sample_cut_paste_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``sample_cut_paste``, by name."""
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


def cut_paste_keyed_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``cut_paste_keyed`` and ``cut_paste_keyed_``, by name."""
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


def philox_samples(device: torch.device | str) -> dict[str, Arguments]:
    """Arguments of ``philox``, by name."""
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
