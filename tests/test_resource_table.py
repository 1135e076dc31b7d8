# SPDX-License-Identifier: Apache-2.0
"""Occupancy by hand, and that the comparison with the table sees every kind of change."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from scripts_of_the_tree import script


@pytest.fixture(name="table")
def _table() -> ModuleType:
    return script("resource_table")


@pytest.mark.parametrize(
    ("needs", "blocks"),
    [
        ((32, 0, 0, 128), (16, 16, 16)),  # 64 warps
        ((33, 0, 0, 128), (12, 12, 12)),  # 1280 registers a warp, 12 warps a partition
        ((128, 0, 41592, 256), (2, 2, 2)),  # registers
        ((16, 0, 0, 32), (32, 32, 32)),  # blocks
        ((16, 0, 0, 33), (32, 32, 32)),  # two warps each
        ((16, 0, 41592, 64), (3, 5, 5)),  # 42,624 bytes with the system's
        ((16, 0, 40 * 1024, 64), (4, 5, 5)),
        ((255, 0, 0, 512), (0, 0, 0)),  # 8 warps fit, and 16 are asked for
    ],
)
def test_blocks_of_a_multiprocessor(
    needs: tuple[int, ...], blocks: tuple[int, ...], table: ModuleType
) -> None:
    found = tuple(table.blocks_of(target, table.Needs(*needs)) for target in table.TARGETS)
    assert found == blocks


def test_rows_come_back_and_differences_are_told(
    tmp_path: Path, table: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cells(registers: int, shared: int = 64) -> list[str]:
        needs = table.Needs(registers, 0, shared, 128)
        found: list[str] = table.cells_of(dict.fromkeys(table.TARGETS, needs))
        return found

    home = tmp_path / "table.md"
    monkeypatch.setattr(table, "HOME", home)
    rows = {"a": cells(32), "b[c=d, e=f]": cells(64)}
    home.write_text("# Title\n\n" + table.section(table.TRITON, "triton 1.2.3", rows))
    assert table.committed(table.TRITON) == ("triton 1.2.3", rows)
    assert table.committed(table.CUDA) == ("", {})
    assert table.differences(table.TRITON, rows) == []
    assert table.differences(table.TRITON, {**rows, "g": cells(32)}) == ["g: not in the table"]
    del rows["b[c=d, e=f]"]
    assert table.differences(table.TRITON, rows) == ["b[c=d, e=f]: in the table alone"]
    home.write_text(table.section(table.TRITON, "triton 1.2.3", rows))
    assert table.differences(table.TRITON, {"a": cells(40)}) == [
        "a: registers, sm_80 / 90 / 100: 32 / 32 / 32 became 40 / 40 / 40 (worse)",
        "a: blocks per SM: 16 / 16 / 16 became 12 / 12 / 12 (worse)",
        "a: occupancy: 100 % / 100 % / 100 % became 75 % / 75 % / 75 % (worse)",
    ]
    assert table.differences(table.TRITON, {"a": cells(32, 16)}) == [
        "a: shared bytes: 64 / 64 / 64 became 16 / 16 / 16"
    ]
