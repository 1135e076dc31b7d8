# SPDX-License-Identifier: Apache-2.0
"""benchmarks/gpu_resources.md: how its rows are computed, written, read and compared.

Needs nothing but Python, so that a lane without torch can compare its rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

HOME = Path(__file__).resolve().parent.parent / "benchmarks" / "gpu_resources.md"
TARGETS = (80, 90, 100)  # compute capability 8.0, 9.0, 10.0

# "Technical specifications per compute capability" in NVIDIA's CUDA C++ Programming Guide, of a
# multiprocessor. They are the same for all targets but for the shared memory.
_WARPS, _BLOCKS, _REGISTERS, _LANES = 64, 32, 65536, 32
_SHARED = {80: 164 * 1024, 90: 228 * 1024, 100: 228 * 1024}
_OF_THE_SYSTEM = 1024  # bytes of shared memory of each block
# What is handed out at a time, from cuda_occupancy.h of the CUDA toolkit. Each of four partitions
# of a multiprocessor has a fourth of the registers.
_PARTITIONS, _REGISTER_UNIT, _SHARED_UNIT = 4, 256, 128

TRITON, CUDA, TRAFFIC = "Triton kernels", "CUDA C++ kernels", "Traffic"
CUDA_TRAFFIC = "Traffic of CUDA C++ kernels"
_PER_TARGET = " / ".join(str(target) for target in TARGETS)
_NEEDS = (
    "kernel",
    "threads",
    f"registers, sm_{_PER_TARGET}",
    "stack and spills",
    "shared bytes",
    "blocks per SM",
    "occupancy",
)
COLUMNS = {
    TRITON: _NEEDS,
    CUDA: _NEEDS,
    TRAFFIC: (
        "op: case",
        "launches",
        "compulsory bytes",
        "by program ÷",
        "by access ÷",
        "floor (model), µs per megapixel",
    ),
    CUDA_TRAFFIC: (
        "op: case",
        "launches",
        "compulsory bytes",
        "by block ÷",
        "by access ÷",
        "shared words per pixel and iteration",
        "wavefronts per pixel and iteration",
        "wavefronts per pixel",
        "most ways",
        "floors (model), µs per megapixel: memory / shared",
    ),
}
_MORE_IS_BETTER = ("blocks per SM", "occupancy")


class Needs(NamedTuple):
    """What a kernel takes: of each thread registers and bytes of stack, of each block the rest."""

    registers: int
    stack: int
    shared: int
    threads: int


def blocks_of(target: int, needs: Needs) -> int:
    """How many blocks a multiprocessor holds at a time."""
    warps = _round_up(needs.threads, _LANES) // _LANES
    registers = _round_up(_LANES * needs.registers, _REGISTER_UNIT)
    by_registers = _REGISTERS // _PARTITIONS // registers * _PARTITIONS // warps
    shared = _round_up(needs.shared + _OF_THE_SYSTEM, _SHARED_UNIT)
    return min(_BLOCKS, _WARPS // warps, by_registers, _SHARED[target] // shared)


def _round_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


def cells_of(by_target: Mapping[int, Needs]) -> list[str]:
    """The row of a kernel without its name."""
    needs = [by_target[target] for target in TARGETS]
    blocks = [blocks_of(target, by_target[target]) for target in TARGETS]
    warps = _round_up(needs[0].threads, _LANES) // _LANES
    return [
        str(needs[0].threads),
        _joined(one.registers for one in needs),
        _joined(one.stack for one in needs),
        _joined(one.shared for one in needs),
        _joined(blocks),
        _joined(f"{100 * warps * count / _WARPS:.0f} %" for count in blocks),
    ]


def _joined(values: Iterable[object]) -> str:
    return " / ".join(map(str, values))


def section(heading: str, tool: str, rows: Mapping[str, Sequence[str]]) -> str:
    """A section of the table, from its heading on."""
    columns = COLUMNS[heading]
    lines = [columns, ["---"] * len(columns), *([name, *cells] for name, cells in rows.items())]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"## {heading}\n\nBy {tool}.\n\n{table}\n"


def committed(heading: str) -> tuple[str, dict[str, list[str]]]:
    """The tool that a section is by, and its rows by the names of the kernels."""
    text = HOME.read_text()
    found = re.search(
        rf"^## {re.escape(heading)}\n\nBy (.*)\.\n\n((?:\|.*\n)*)", text, re.MULTILINE
    )
    if found is None:
        return "", {}
    rows = [line.strip("| ").split(" | ") for line in found.group(2).splitlines()[2:]]
    return found.group(1), {name: cells for name, *cells in rows}


def differences(heading: str, rows: Mapping[str, Sequence[str]]) -> list[str]:
    """Where rows are not those of the table; a line each, which says what became worse."""
    _, known = committed(heading)
    lines = [f"{name}: in the table alone" for name in known if name not in rows]
    for name, cells in rows.items():
        if name not in known:
            lines.append(f"{name}: not in the table")
            continue
        for column, before, now in zip(COLUMNS[heading][1:], known[name], cells, strict=True):
            if before != now:
                worse = " (worse)" if _is_worse(column, before, now) else ""
                lines.append(f"{name}: {column}: {before} became {now}{worse}")
    return lines


def _is_worse(column: str, before: str, now: str) -> bool:
    pairs = zip(*(map(float, re.findall(r"[\d.]+", text)) for text in (before, now)), strict=True)
    return any((a > b) if column in _MORE_IS_BETTER else (a < b) for a, b in pairs)


def outdated(lines: Sequence[str]) -> str:
    """The message about differences."""
    return "\n".join([*lines, "make gpu-resources writes benchmarks/gpu_resources.md anew"])
