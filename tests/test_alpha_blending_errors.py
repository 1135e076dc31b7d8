# SPDX-License-Identifier: Apache-2.0
"""What a user of alpha blending reads; what it shares with `poisson_blend` is tested there."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from ssad_kernels import alpha_blend, alpha_blend_

F32 = torch.zeros(2, 3, 8, 9)
U8 = torch.zeros(2, 3, 8, 9, dtype=torch.uint8)
PLACE = torch.zeros(2, 2, dtype=torch.int64)
MASK = torch.ones(2, 8, 9, dtype=torch.bool)


@pytest.mark.parametrize("form", [alpha_blend, alpha_blend_], ids=lambda form: form.__name__)
@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"target": [1.0]}, TypeError, "`target` must be a tensor, got list"),
        ({"source": None}, TypeError, "`source` must be a tensor, got NoneType"),
        ({"mask": [[True]]}, TypeError, "`mask` must be a tensor, got list"),
        ({"top_left": None}, TypeError, "`top_left` must be a tensor, got NoneType"),
        ({"alpha": "1"}, TypeError, "`alpha` must be a tensor, got str"),
        ({"alpha": None}, TypeError, "`alpha` must be a tensor, got NoneType"),
        ({"source": U8}, TypeError, "`source` must have dtype float32, got uint8"),
        (
            {"alpha": PLACE[:, 0]},
            TypeError,
            "`alpha` must have dtype float16 or bfloat16 or float32 or float64, got int64",
        ),
        ({"sizes": PLACE.float()}, TypeError, "`sizes` must have dtype int64, got float32"),
        (
            {"mask": MASK.long()},
            TypeError,
            "`mask` must have dtype bool or uint8 or float32, got int64",
        ),
        ({"target": F32[0]}, ValueError, "`target` must have shape (N, C, H, W), got (3, 8, 9)"),
        (
            {"source": F32[:, :1]},
            ValueError,
            "`source` must have shape (M, 3, h, w), got (2, 1, 8, 9)",
        ),
        (
            {"source": F32[:1]},
            ValueError,
            "`source` must hold at least N = 2 images without source_index, got 1",
        ),
        (
            {"mask": MASK[:, :7]},
            ValueError,
            "`mask` must cover the source (8, 9) where no sizes are given, got (7, 9)",
        ),
        ({"mask": MASK[0]}, ValueError, "`mask` must have shape (2, h, w), got (8, 9)"),
        ({"top_left": PLACE[:1]}, ValueError, "`top_left` must have shape (2, 2), got (1, 2)"),
        ({"source_box": PLACE}, ValueError, "`source_box` must have shape (2, 4), got (2, 2)"),
        ({"alpha": F32}, ValueError, "`alpha` must have shape (2,), got (2, 3, 8, 9)"),
        ({"source": F32.to("meta")}, ValueError, "`source` must be on device cpu, got meta"),
        (
            {"alpha": torch.ones(2, device="meta")},
            ValueError,
            "`alpha` must be on device cpu, got meta",
        ),
        ({"compat": "opencv"}, ValueError, "`compat` must be one of None, reference, got opencv"),
        (
            {"compat": "reference"},
            ValueError,
            "`compat` must be None for images that are not uint8, got reference",
        ),
    ],
)
def test_errors_say_what_is_wrong(
    form: Any, change: dict[str, Any], error: type[Exception], text: str
):
    arguments = {"target": F32, "source": F32, "mask": MASK, "top_left": PLACE, **change}
    with pytest.raises(error, match=f"^{form.__name__}: {re.escape(text)}$"):
        form(**arguments)


@pytest.mark.parametrize("name", ["target", "source", "mask", "alpha"])
def test_the_form_in_place_refuses_what_requires_a_gradient(name):
    values = {"mask": torch.ones(2, 8, 9), "alpha": torch.ones(2)}
    arguments: dict[str, Any] = {"target": F32.clone(), "source": F32, "top_left": PLACE, **values}
    arguments[name] = arguments[name].clone().requires_grad_()
    message = f"alpha_blend_: `{name}` must not require a gradient (alpha_blend has one), got True"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        alpha_blend_(**arguments)
    with torch.no_grad():
        alpha_blend_(**arguments)
    alpha_blend(**arguments)


def test_an_expanded_target_cannot_be_written():
    target = F32[:, :1].expand(2, 3, 8, 9)
    message = (
        "alpha_blend_: `target` must not be an expanded view (its pixels share memory; call "
        ".clone() first), got strides (216, 0, 9, 1)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        alpha_blend_(target, F32, MASK, PLACE)
    assert alpha_blend(target, F32, MASK, PLACE).shape == target.shape
