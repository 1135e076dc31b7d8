# SPDX-License-Identifier: Apache-2.0
"""Triton kernels compiled for GPUs that need not be there."""

from __future__ import annotations

import os
from typing import Any

import pytest

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("TRITON_INTERPRET=1 makes kernels that do not compile", allow_module_level=True)
pytest.importorskip("triton")
variants = pytest.importorskip("ssad_kernels.triton._variants")
MODULES = [
    pytest.importorskip(f"ssad_kernels.triton.{name}")
    for name in (
        "alpha_blending",
        "components",
        "cutpaste",
        "labels",
        "medians",
        "random",
        "ranking",
        "sampling",
        "upsample",
    )
]
VARIANTS = [variant for module in MODULES for variant in module.VARIANTS]


@pytest.mark.parametrize("capability", [80, 90, 100])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_no_registers_are_spilled(variant: Any, capability: int) -> None:
    kernel = variant.compile(capability)
    needs = variants.resources(kernel)
    print(f"sm_{capability} {variant}: {needs}")
    assert needs.stack == 0
    assert needs.shared <= 48 * 1024  # what a block gets without asking for more
    if not variant.options.get("enable_fp_fusion", True):
        assert "fma." not in kernel.asm["ptx"]


def test_float64_is_rounded_correctly() -> None:
    (kernel,) = (
        variant.compile(80)
        for variant in VARIANTS
        if str(variant).startswith("_sample_cut_paste") and not variant.constants["is_scar"]
    )
    ptx = kernel.asm["ptx"]
    assert "sqrt.rn.f64" in ptx
    assert "div.rn.f64" in ptx
    assert "approx" not in ptx


# One per kernel: Triton compiles another kernel when an integer is 1, or does not fit 32 bits.
ONE_EACH = {variant.kernel.__name__: variant for variant in VARIANTS}


@pytest.mark.parametrize("name", ONE_EACH)
def test_integers_that_are_one(name: str) -> None:
    variant = ONE_EACH[name]
    known = {*variant.constants, *variant.pointers}
    names = [param.name for param in variant.kernel.params if not param.annotation_type]
    ones = {name: 1 for name in names if name not in known}
    variant._replace(constants={**variant.constants, **ones}).compile(80)


@pytest.mark.parametrize("name", ONE_EACH)
def test_integers_of_64_bits(name: str) -> None:
    kernel = ONE_EACH[name]._replace(integer="i64").compile(80)
    assert variants.resources(kernel).stack == 0
