# SPDX-License-Identifier: Apache-2.0
"""Triton kernels compiled for GPUs that need not be there."""

from __future__ import annotations

import functools
import os
from typing import Any

import pytest
from scripts_of_the_tree import script

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("TRITON_INTERPRET=1 makes kernels that do not compile", allow_module_level=True)
triton = pytest.importorskip("triton")
variants = pytest.importorskip("ssad_kernels.triton._variants")
VARIANTS = variants.every()


@functools.cache
def compiled(name: str, capability: int) -> tuple[Any, Any]:
    """A variant, compiled once for all tests, and what it needs."""
    kernel = VARIANTS[name].compile(capability)
    return kernel, variants.resources(kernel)


@pytest.mark.parametrize("capability", [80, 90, 100])
@pytest.mark.parametrize("name", VARIANTS)
def test_no_registers_are_spilled(name: str, capability: int) -> None:
    kernel, needs = compiled(name, capability)
    assert needs.stack == 0
    assert needs.shared <= 48 * 1024  # what a block gets without asking for more
    if not VARIANTS[name].options.get("enable_fp_fusion", True):
        assert "fma." not in kernel.asm["ptx"]


def test_needs_are_those_of_the_table() -> None:
    table = script("resource_table")
    tool, _ = table.committed(table.TRITON)
    if tool != f"triton {triton.__version__}":
        pytest.skip(f"benchmarks/gpu_resources.md is by {tool}")
    found = {
        name: table.cells_of({t: table.Needs(*compiled(name, t)[1]) for t in table.TARGETS})
        for name in VARIANTS
    }
    unlike = table.differences(table.TRITON, found)
    assert not unlike, table.outdated(unlike)


def test_float64_is_rounded_correctly() -> None:
    kernel, _ = compiled("_sample_cut_paste_draw_kernel[is_scar=False]", 80)
    ptx = kernel.asm["ptx"]
    assert "sqrt.rn.f64" in ptx
    assert "div.rn.f64" in ptx
    assert "approx" not in ptx


# One per kernel: Triton compiles another kernel when an integer is 1, or does not fit 32 bits.
ONE_EACH = {variant.kernel.__name__: variant for variant in VARIANTS.values()}


@pytest.mark.parametrize("name", ONE_EACH)
def test_integers_that_are_one(name: str) -> None:
    variant = ONE_EACH[name]
    known = {*variant.constants, *variant.pointers}
    names = [param.name for param in variant.kernel.params if not param.annotation_type]
    ones = {name: 1 for name in names if name not in known}
    variant._replace(constants={**variant.constants, **ones}).compile(80)


@pytest.mark.parametrize("name", [name for name in ONE_EACH if not ONE_EACH[name].is_narrow])
def test_integers_of_64_bits(name: str) -> None:
    kernel = ONE_EACH[name]._replace(integer="i64").compile(80)
    assert variants.resources(kernel).stack == 0
