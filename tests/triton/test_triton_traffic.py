# SPDX-License-Identifier: Apache-2.0
"""How much memory the Triton kernels move, counted in the interpreter."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scripts_of_the_tree import script

if os.environ.get("TRITON_INTERPRET") != "1":
    reason = "Triton kernels run on CPU tensors only with TRITON_INTERPRET=1"
    pytest.skip(reason, allow_module_level=True)
triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")


@pytest.fixture(name="traffic", scope="module")
def _traffic() -> ModuleType:
    return script("triton_traffic")


@triton.jit
def _copy_kernel(a, b, n, stride, block: tl.constexpr):
    at = tl.program_id(0) * block + tl.arange(0, block)
    value = tl.load(a + at * stride, mask=at < n, other=0.0)
    value += tl.load(a + at * stride, mask=at < n, other=0.0)
    tl.store(b + at, value, mask=at < n)


@pytest.mark.parametrize(
    ("n", "stride", "read", "written"),
    [
        (64, 1, 8, 8),  # eight floats a sector
        (60, 1, 8, 8),
        (16, 8, 16, 2),  # a sector each
        (64, 4, 32, 8),
        (64, 0, 4, 8),  # the same one for each of four programs
    ],
)
def test_sectors(n: int, stride: int, read: int, written: int, traffic: ModuleType) -> None:
    a, b = torch.zeros(256), torch.zeros(64)
    assert a.data_ptr() % traffic.SECTOR == b.data_ptr() % traffic.SECTOR == 0
    with traffic.counting() as counter:
        _copy_kernel[(4,)](a, b, n, stride, 16)
    assert counter.launches == 1
    assert counter.by_program == read + written
    assert counter.by_access == 2 * read + written
    with traffic.counting() as other:
        pass
    assert other.by_access == 0
    assert counter.by_access == 2 * read + written


def test_traffic_is_that_of_the_table(traffic: Any) -> None:
    table = script("resource_table")
    with np.errstate(invalid="ignore"):
        found = {name: traffic.row(case) for name, case in traffic.cases().items()}
    unlike = table.differences(table.TRAFFIC, found)
    assert not unlike, table.outdated(unlike)
