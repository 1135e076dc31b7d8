# SPDX-License-Identifier: Apache-2.0
"""What a user reads where masks of cells are asked for wrongly."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from ssad_kernels import cell_masks, composite, make_keys, mask_images, refine_cells
from ssad_kernels.transforms import CellMasking

KEYS = make_keys(0, 0, torch.arange(2))
NAN = float("nan")
FLOATS = "float16 or bfloat16 or float32 or float64"
PARTS = "1 to 32 parts, (N, P, H, W)"


def images(**change: Any) -> Tensor:
    return torch.zeros(2, 3, 8, 8, **change)


def masks(*shape: int, dtype: torch.dtype = torch.bool) -> Tensor:
    return torch.zeros(*(shape or (2, 3, 8, 8)), dtype=dtype)


def raises(error: type[Exception], message: str) -> Any:
    return pytest.raises(error, match=f"^{re.escape(message)}$")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"keys": [0]}, TypeError, "`keys` must be a tensor, got list"),
        ({"keys": KEYS.int()}, TypeError, "`keys` must have dtype int64, got int32"),
        ({"keys": KEYS[0]}, ValueError, "`keys` must have shape (N, 3), got (3,)"),
        ({"size": 0}, ValueError, "`height` must be in 1...16777215, got 0"),
        ({"size": (8, -1)}, ValueError, "`width` must be in 1...16777215, got -1"),
        ({"size": 8.0}, TypeError, "`size` must be an integer or a pair of them, got 8.0"),
        ({"cell": 0}, ValueError, "`cell` must be at least 1, got 0"),
        ({"cell": 2.0}, TypeError, "`cell` must be a whole number or a tensor, got float"),
        ({"cell": True}, TypeError, "`cell` must be a whole number or a tensor, got bool"),
        ({"cell": KEYS[:, 0].int()}, TypeError, "`cell` must have dtype int64, got int32"),
        ({"cell": KEYS[:1, 0]}, ValueError, "`cell` must have shape (2,), got (1,)"),
        ({"cell": KEYS[:, 0].to("meta")}, ValueError, "`cell` must be on device cpu, got meta"),
        (
            {"size": (1024, 1025), "cell": 2},
            ValueError,
            "`cell` must be at least 3 for images of 1024 x 1025 pixels, got 2",
        ),
        (
            {"size": 512, "cell": 1, "kind": "bernoulli"},
            ValueError,
            "`cell` must be at least 2 for images of 512 x 512 pixels, got 1",
        ),
        ({"parts": 0}, ValueError, "`parts` must be in 1...32, got 0"),
        ({"parts": 33}, ValueError, "`parts` must be in 1...32, got 33"),
        ({"kind": "checkerboard"}, ValueError, "`parts` must be 2 for a checkerboard, got 3"),
        (
            {"kind": "rows"},
            ValueError,
            "`kind` must be one of split, bernoulli, checkerboard, got 'rows'",
        ),
        ({"hide": 1.5}, ValueError, "`hide` must be in 0...1, got 1.5"),
        ({"hide": NAN}, ValueError, "`hide` must be in 0...1, got nan"),
        ({"stream": 1 << 16}, ValueError, "`stream` must be in 0...65535, got 65536"),
    ],
)
def test_cell_masks(change: dict[str, Any], error: type[Exception], message: str) -> None:
    given: dict[str, Any] = {"keys": KEYS, "size": 8, "cell": 2, **change}
    with raises(error, f"cell_masks: {message}"):
        cell_masks(given.pop("keys"), given.pop("size"), given.pop("cell"), **given)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": None}, TypeError, "`images` must be a tensor, got NoneType"),
        (
            {"images": images(dtype=torch.int32)},
            TypeError,
            f"`images` must have dtype uint8 or {FLOATS}, got int32",
        ),
        ({"masks": [1]}, TypeError, "`masks` must be a tensor, got list"),
        (
            {"masks": masks(dtype=torch.uint8)},
            TypeError,
            "`masks` must have dtype bool, got uint8",
        ),
        (
            {"masks": masks(2, 3, 8, 9)},
            ValueError,
            "`masks` must have shape (2, P, 8, 8), got (2, 3, 8, 9)",
        ),
        (
            {"masks": masks(2, 33, 8, 8)},
            ValueError,
            f"`masks` must have {PARTS}, got (2, 33, 8, 8)",
        ),
        ({"masks": masks(2, 0, 8, 8)}, ValueError, f"`masks` must have {PARTS}, got (2, 0, 8, 8)"),
        ({"masks": masks().to("meta")}, ValueError, "`masks` must be on device cpu, got meta"),
    ],
)
def test_mask_images(change: dict[str, Any], error: type[Exception], message: str) -> None:
    given = {"images": images(), "masks": masks(), **change}
    with raises(error, f"mask_images: {message}"):
        mask_images(**given)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"outputs": None}, TypeError, "`outputs` must be a tensor, got NoneType"),
        (
            {"outputs": torch.zeros(2, 3, 3, 8, 8).half()},
            TypeError,
            "`outputs` must have dtype float32, got float16",
        ),
        (
            {"outputs": torch.zeros(6, 3, 8, 8)},
            ValueError,
            "`outputs` must have shape (2, 3, 3, 8, 8), got (6, 3, 8, 8)",
        ),
        (
            {"images": images(dtype=torch.uint8)},
            TypeError,
            f"`images` must have dtype {FLOATS}, got uint8",
        ),
        ({"masks": masks(1, 3, 8, 8)}, ValueError,
         "`masks` must have shape (2, P, 8, 8), got (1, 3, 8, 8)"),
    ],
)  # fmt: skip
def test_composite(change: dict[str, Any], error: type[Exception], message: str) -> None:
    outputs = torch.zeros(2, 3, 3, 8, 8)
    given = {"outputs": outputs, "masks": masks(), "images": images(), **change}
    with raises(error, f"composite: {message}"):
        composite(**given)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"scores": None}, TypeError, "`scores` must be a tensor, got NoneType"),
        (
            {"scores": images()},
            ValueError,
            "`scores` must have shape (2, 1, 8, 8), got (2, 3, 8, 8)",
        ),
        (
            {"scores": images(dtype=torch.uint8)},
            TypeError,
            f"`scores` must have dtype {FLOATS}, got uint8",
        ),
        ({"cell": 0}, ValueError, "`cell` must be at least 1, got 0"),
        ({"cell": "2"}, TypeError, "`cell` must be a whole number or a tensor, got str"),
        ({"threshold": "1"}, TypeError, "`threshold` must be a number or a tensor, got str"),
        (
            {"threshold": torch.zeros(2, dtype=torch.int64)},
            TypeError,
            f"`threshold` must have dtype {FLOATS}, got int64",
        ),
        (
            {"threshold": torch.zeros(3)},
            ValueError,
            "`threshold` must have shape (2,), got (3,)",
        ),
        ({"share": 1.01}, ValueError, "`share` must be None or in 0...1, got 1.01"),
        ({"share": NAN}, ValueError, "`share` must be None or in 0...1, got nan"),
    ],
)  # fmt: skip
def test_refine_cells(change: dict[str, Any], error: type[Exception], message: str) -> None:
    given = {"scores": images()[:, :1], "masks": masks(), "cell": 2, "threshold": 0.5, **change}
    with raises(error, f"refine_cells: {message}"):
        refine_cells(**given)


SIDES = "`cells` must be a whole number in 1...16777215, or a sequence of them"
KINDS = "split, bernoulli, checkerboard"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cells": ()}, f"{SIDES}, got ()"),
        ({"cells": 0}, f"{SIDES}, got 0"),
        ({"cells": (2, 2.5)}, f"{SIDES}, got (2, 2.5)"),
        ({"cells": (2, NAN)}, f"{SIDES}, got (2, nan)"),
        ({"cells": "2"}, f"{SIDES}, got 2"),
        ({"parts": 0}, "`parts` must be in 1...32, got 0"),
        ({"parts": 2.5}, "`parts` must be a whole number, got 2.5"),
        ({"kind": "rows"}, f"`kind` must be one of {KINDS}, got 'rows'"),
        ({"kind": "checkerboard"}, "`parts` must be 2 for a checkerboard, got 3"),
        ({"hide": -0.1}, "`hide` must be in 0...1, got -0.1"),
        ({"stream": 256}, "`stream` must be in 0...255, got 256"),
    ],
)
def test_options_of_the_transform(options: dict[str, Any], message: str) -> None:
    with raises(ValueError, f"CellMasking: {message}"):
        CellMasking(**options)


def test_images_and_keys_of_the_transform() -> None:
    with raises(TypeError, f"CellMasking: `images` must have dtype uint8 or {FLOATS}, got int32"):
        CellMasking()(images(dtype=torch.int32))
    with raises(ValueError, "CellMasking: `keys` must have one row per image, (2, 3), got (1, 3)"):
        CellMasking()(images(), KEYS[:1])
    message = "`cells` must be at least 3 for images of 1024 x 1025 pixels, got 2"
    with raises(ValueError, f"CellMasking: {message}"):
        CellMasking()(torch.zeros(1, 1, 1024, 1025))
