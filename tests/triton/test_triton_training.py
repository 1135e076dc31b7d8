# SPDX-License-Identifier: Apache-2.0
"""A step of each method has the same loss with Triton's kernels, interpreted, as on the CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch

import ssad_kernels as sk
from ssad_kernels import testing

if os.environ.get("TRITON_INTERPRET") != "1":
    reason = "Triton kernels run on CPU tensors only with TRITON_INTERPRET=1"
    pytest.skip(reason, allow_module_level=True)
pytest.importorskip("triton")
pytest.importorskip("lightning")
from training_steps import make_module, make_recipe, take_step

SMALL = (
    *("size=64", "crop=64", "margin=null", "channels=1", "normalize=none"),
    *("height=[0.05, 0.08]", "width=[0.05, 0.08]"),
)


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    # The interpreter computes with NumPy, which warns where infinity meets infinity.
    with np.errstate(invalid="ignore"):
        yield


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("cutpaste", ("size=32", "head=[8]")),
        ("nsa", (*SMALL, "patches=1")),
        ("fpi", SMALL),
        ("ssm-oct", ("size=32", "network_width=0.1", "channels=1", "cells=[8]")),
    ],
)
def test_a_step_has_the_loss_of_the_cpu(name: str, overrides: tuple[str, ...]) -> None:
    recipe = make_recipe(name, *overrides)
    images = testing.make_images(2, recipe.channels, recipe.size, recipe.size)
    outcomes = []
    for backend in ("cpu", "triton"):
        module = make_module(recipe)
        before = [weight.detach().clone() for weight in module.parameters()]
        with sk.use_backend(backend):
            loss = take_step(module, images, torch.arange(2))
        assert not all(map(torch.equal, before, module.parameters()))
        outcomes.append(loss)
    # Batch norm of a few noisy pixels makes more of a grey level than its share.
    torch.testing.assert_close(outcomes[1], outcomes[0], rtol=1e-2, atol=1e-3)
