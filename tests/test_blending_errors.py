# SPDX-License-Identifier: Apache-2.0
"""What a user of Poisson blending reads: the type and the exact text of every error."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from ssad_kernels import poisson_blend, poisson_blend_

NAN, INF = float("nan"), float("inf")
DTYPES = "uint8 or float16 or bfloat16 or float32 or float64"
F32 = torch.zeros(2, 3, 8, 9)
U8 = torch.zeros(2, 3, 8, 9, dtype=torch.uint8)
PLACE = torch.zeros(2, 2, dtype=torch.int64)
MASK = torch.ones(2, 8, 9, dtype=torch.bool)
OPENCV = {"target": U8, "source": U8, "compat": "opencv"}


@pytest.mark.parametrize("form", [poisson_blend, poisson_blend_], ids=lambda form: form.__name__)
@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"target": [1.0]}, TypeError, "`target` must be a tensor, got list"),
        ({"source": None}, TypeError, "`source` must be a tensor, got NoneType"),
        ({"mask": [[True]]}, TypeError, "`mask` must be a tensor, got list"),
        ({"top_left": (0, 0)}, TypeError, "`top_left` must be a tensor, got tuple"),
        ({"top_left": None}, TypeError, "`top_left` must be a tensor, got NoneType"),
        ({"sizes": [[1, 2]]}, TypeError, "`sizes` must be a tensor, got list"),
        ({"source_index": 1}, TypeError, "`source_index` must be a tensor, got int"),
        ({"source_box": [0]}, TypeError, "`source_box` must be a tensor, got list"),
        (
            {"gradient": 1},
            TypeError,
            "`gradient` must be one of source, mixed, average, monochrome, or a tensor of their "
            "numbers, got int",
        ),
        (
            {"mask": MASK[:, :7]},
            ValueError,
            "`mask` must cover the source (8, 9) where no sizes are given, got (7, 9)",
        ),
        ({"source_gain": "1"}, TypeError, "`source_gain` must be a tensor, got str"),
        ({"target_gain": [1.0]}, TypeError, "`target_gain` must be a tensor, got list"),
        ({"target": F32.int()}, TypeError, f"`target` must have dtype {DTYPES}, got int32"),
        ({"source": F32.int()}, TypeError, f"`source` must have dtype {DTYPES}, got int32"),
        ({"source": U8}, TypeError, "`source` must have dtype float32, got uint8"),
        (
            {"mask": MASK.long()},
            TypeError,
            "`mask` must have dtype bool or uint8 or float32, got int64",
        ),
        ({"top_left": PLACE.int()}, TypeError, "`top_left` must have dtype int64, got int32"),
        ({"sizes": PLACE.float()}, TypeError, "`sizes` must have dtype int64, got float32"),
        ({"gradient": PLACE[:, 0].int()}, TypeError, "`gradient` must have dtype int64, got int32"),
        (
            {"source_gain": PLACE[:, 0]},
            TypeError,
            "`source_gain` must have dtype float16 or bfloat16 or float32 or float64, got int64",
        ),
        ({"target": F32[0]}, ValueError, "`target` must have shape (N, C, H, W), got (3, 8, 9)"),
        ({"source": F32[0]}, ValueError, "`source` must have shape (N, C, H, W), got (3, 8, 9)"),
        (
            {"source": F32[:, :1]},
            ValueError,
            "`source` must have shape (M, 3, h, w), got (2, 1, 8, 9)",
        ),
        (
            {"source": F32[..., :0]},
            ValueError,
            "`source` must have at least one pixel, (N, C, H, W), and sides below 2²⁴, "
            "got (2, 3, 8, 0)",
        ),
        (
            {"source": F32[:1]},
            ValueError,
            "`source` must hold at least N = 2 images without source_index, got 1",
        ),
        (
            {"target": torch.zeros(2, 5, 8, 9)},
            ValueError,
            "`target` must have 1 to 4 channels, (N, C, H, W), got (2, 5, 8, 9)",
        ),
        ({"mask": MASK[:1]}, ValueError, "`mask` must have shape (2, h, w), got (1, 8, 9)"),
        ({"mask": MASK[0]}, ValueError, "`mask` must have shape (2, h, w), got (8, 9)"),
        (
            {"mask": MASK[:, None].expand(2, 3, 8, 9)},
            ValueError,
            "`mask` must have shape (2, h, w), got (2, 3, 8, 9)",
        ),
        (
            {"mask": MASK[:, :0]},
            ValueError,
            "`mask` must have at least one pixel, (N, h, w), got (2, 0, 9)",
        ),
        ({"top_left": PLACE[:1]}, ValueError, "`top_left` must have shape (2, 2), got (1, 2)"),
        ({"sizes": PLACE[0]}, ValueError, "`sizes` must have shape (2, 2), got (2,)"),
        ({"source_index": PLACE}, ValueError, "`source_index` must have shape (2,), got (2, 2)"),
        ({"source_box": PLACE}, ValueError, "`source_box` must have shape (2, 4), got (2, 2)"),
        ({"gradient": PLACE}, ValueError, "`gradient` must have shape (2,), got (2, 2)"),
        ({"source_gain": F32}, ValueError, "`source_gain` must have shape (2,), got (2, 3, 8, 9)"),
        ({"source": F32.to("meta")}, ValueError, "`source` must be on device cpu, got meta"),
        ({"mask": MASK.to("meta")}, ValueError, "`mask` must be on device cpu, got meta"),
        ({"top_left": PLACE.to("meta")}, ValueError, "`top_left` must be on device cpu, got meta"),
        ({"region": "box"}, ValueError, "`region` must be one of mask, rect, got box"),
        ({"region": "opencv"}, ValueError, "`region` must be one of mask, rect, got opencv"),
        (
            {"gradient": "max"},
            ValueError,
            "`gradient` must be one of source, mixed, average, monochrome, got max",
        ),
        (
            {"solver": "fft"},
            ValueError,
            "`solver` must be one of auto, multigrid, sor, jacobi, sine, got fft",
        ),
        (
            {"solver": "sine"},
            ValueError,
            "`solver` must not be sine for a mask of any shape, got sine",
        ),
        ({"compat": "cv"}, ValueError, "`compat` must be one of None, opencv, got cv"),
        ({"tol": -1.0}, ValueError, "`tol` must be finite and not negative, got -1.0"),
        ({"tol": NAN}, ValueError, "`tol` must be finite and not negative, got nan"),
        ({"tol": INF}, ValueError, "`tol` must be finite and not negative, got inf"),
        ({"compat": "opencv"}, TypeError, "`target` must have dtype uint8, got float32"),
        (
            {**OPENCV, "region": "rect"},
            ValueError,
            "`region` must be left out with compat, got rect",
        ),
        (
            {**OPENCV, "gradient": "average"},
            ValueError,
            "`gradient` must be one of source, mixed, monochrome with compat, got average",
        ),
        (
            {**OPENCV, "solver": "sor"},
            ValueError,
            "`solver` must be one of auto, sine with compat, got sor",
        ),
        (
            {**OPENCV, "source_gain": 1.0},
            ValueError,
            "`source_gain` must be None with compat, got a gain",
        ),
        (
            {**OPENCV, "target_gain": torch.ones(2)},
            ValueError,
            "`target_gain` must be None with compat, got a gain",
        ),
    ],
)
def test_errors_say_what_is_wrong(
    form: Any, change: dict[str, Any], error: type[Exception], text: str
):
    arguments = {"target": F32, "source": F32, "mask": MASK, "top_left": PLACE, **change}
    with pytest.raises(error, match=f"^{form.__name__}: {re.escape(text)}$"):
        form(**arguments)


@pytest.mark.parametrize("name", ["target", "source", "mask", "source_gain", "target_gain"])
def test_the_form_in_place_refuses_what_requires_a_gradient(name):
    values = {"mask": torch.ones(2, 8, 9), "source_gain": torch.ones(2)}
    arguments: dict[str, Any] = {"target": F32.clone(), "source": F32, "top_left": PLACE, **values}
    arguments["target_gain"] = torch.ones(2)
    arguments[name] = arguments[name].clone().requires_grad_()
    message = (
        f"poisson_blend_: `{name}` must not require a gradient (poisson_blend has one), got True"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        poisson_blend_(**arguments)
    with torch.no_grad():
        poisson_blend_(**arguments)
    poisson_blend(**arguments)


def test_an_expanded_target_cannot_be_written():
    target = F32[:, :1].expand(2, 3, 8, 9)
    message = (
        "poisson_blend_: `target` must not be an expanded view (its pixels share memory; call "
        ".clone() first), got strides (216, 0, 9, 1)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        poisson_blend_(target, F32, MASK, PLACE)
    assert poisson_blend(target, F32, MASK, PLACE).shape == target.shape


@pytest.mark.parametrize(
    ("place", "value", "text"),
    [
        (10, "disc", "`region` must be one of mask, rect, opencv, got disc"),
        (11, "auto", "`solver` must be one of multigrid, sor, jacobi, sine, got auto"),
        (12, NAN, "`tol` must be finite and not negative, got nan"),
        (13, -1.0, "`rtol` must be finite and not negative, got -1.0"),
        (14, 0, "`max_iterations` must be in 1...2147483647, got 0"),
    ],
)
def test_arguments_of_the_op(place, value, text):
    codes = torch.zeros(2, dtype=torch.int64)
    rows = [PLACE, None, None, None, codes, None, None]
    arguments: list[Any] = [F32, F32, MASK, *rows, "mask", "multigrid", 0.0, 1e-6, 40]
    arguments[place] = value
    with pytest.raises(ValueError, match=f"^poisson_blend: {re.escape(text)}$"):
        torch.ops.ssad_kernels.poisson_blend(*arguments)
