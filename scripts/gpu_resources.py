# SPDX-License-Identifier: Apache-2.0
"""Write benchmarks/gpu_resources.md: what GPU kernels take, and how much memory they move.

The text above the tables stays, and so does a part whose tool is missing. What compares:
tests/test_triton_compile.py, tests/triton/test_triton_traffic.py,
tests/cuda_emulated/test_cuda_traffic.py, and the lane `nvcc` (scripts/native_checks.py).
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import native_checks
import resource_table
from resource_table import CUDA, CUDA_TRAFFIC, HOME, TARGETS, TRAFFIC, TRITON, Needs


def triton_section() -> str:
    """Compile all variants of the Triton kernels."""
    if importlib.util.find_spec("triton") is None:
        return _kept(TRITON, "triton is not installed")
    import triton

    from ssad_kernels.triton import _variants

    rows = {}
    for name, variant in _variants.every().items():
        found = {target: _variants.resources(variant.compile(target)) for target in TARGETS}
        rows[name] = resource_table.cells_of({t: Needs(*needs) for t, needs in found.items()})
    return resource_table.section(TRITON, f"triton {triton.__version__}", rows)


def cuda_section() -> str:
    """Compile the CUDA kernels."""
    if shutil.which("nvcc") is None:
        return _kept(CUDA, "nvcc is not installed (CUDA toolkit)")
    rows = native_checks.rows_of(native_checks.compiled_kernels())
    return resource_table.section(CUDA, native_checks.nvcc_version(), rows)


def traffic_section() -> str:
    """Count in a process of its own, where Triton is imported as an interpreter."""
    if importlib.util.find_spec("triton") is None:
        return _kept(TRAFFIC, "triton is not installed")
    rows = _rows_by("triton_traffic.py", {"TRITON_INTERPRET": "1"})
    return resource_table.section(TRAFFIC, "Triton's interpreter", rows)


def cuda_traffic_section() -> str:
    """Count with an extension of its own, whose CUDA kernels run on this processor."""
    if platform.machine() != "x86_64":
        return _kept(CUDA_TRAFFIC, "the emulation switches stacks in x86-64 assembly")
    site = {"PYTHONPATH": str(native_checks.emulated_site())}
    rows = _rows_by("cuda_traffic.py", {**site, "OMP_NUM_THREADS": "1"})
    return resource_table.section(CUDA_TRAFFIC, "the emulation of csrc/emulation", rows)


def _rows_by(script: str, environment: Mapping[str, str]) -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name(script)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    rows: dict[str, list[str]] = json.loads(done.stdout)
    return rows


def _kept(heading: str, reason: str) -> str:
    print(f"skipped: {heading}: {reason}")
    tool, rows = resource_table.committed(heading)
    kept: Mapping[str, Sequence[str]] = rows
    return resource_table.section(heading, tool, kept)


if __name__ == "__main__":
    head = HOME.read_text().partition("\n## ")[0]
    sections = [triton_section(), cuda_section(), traffic_section(), cuda_traffic_section()]
    HOME.write_text("\n".join([head, *sections]))
