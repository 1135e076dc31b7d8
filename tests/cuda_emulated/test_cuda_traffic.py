# SPDX-License-Identifier: Apache-2.0
"""How much memory the CUDA kernels move, counted in the emulation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scripts_of_the_tree import script

from ssad_kernels import _backend

if "cuda-emulated" not in _backend.BACKENDS:
    reason = "the extension was not built with SSAD_CUDA=EMULATED"
    pytest.skip(reason, allow_module_level=True)


@pytest.fixture(name="traffic", scope="module")
def _traffic() -> Any:
    return script("cuda_traffic")


def test_traffic_is_that_of_the_table(traffic: Any, capsys: pytest.CaptureFixture[str]) -> None:
    table = script("resource_table")
    found = {name: traffic.row(case) for name, case in traffic.cases().items()}
    with capsys.disabled():
        print()
        for name, case in traffic.cases().items():
            counts = traffic.count(case.op, case.args)
            file, line = counts.worst
            print(f"{name}: {counts.ways} ways at most, as in {Path(file).name}:{line}")
    unlike = table.differences(table.CUDA_TRAFFIC, found)
    assert not unlike, table.outdated(unlike)


def test_multigrid_reads_and_writes_few_words_of_few_banks(traffic: Any) -> None:
    for name, case in traffic.cases().items():
        if "multigrid" not in name:
            continue
        before, after = (traffic.count(case.op, args) for args in case.one_more)
        # Beyond 64 pixels the direction is read where it was shared, not in registers.
        assert (after.words - before.words) / case.pixels <= (26 if "128 x" in name else 24)
        assert after.ways <= 2


def test_images_are_read_and_written_little_more_than_once(traffic: Any) -> None:
    for name, case in traffic.cases().items():
        if not name.startswith("poisson_solve"):
            counts = traffic.count(case.op, case.args)
            assert counts.by_block <= 1.3 * counts.compulsory, name


def test_nothing_is_counted_unless_asked_for(traffic: Any) -> None:
    case = next(iter(traffic.cases().values()))
    traffic.count(case.op, case.args)
    with traffic.sk.use_backend("cuda-emulated"):
        getattr(traffic.torch.ops.ssad_kernels, case.op)(*case.args)
    counts = _backend.native._emulation.take_counts()
    assert counts["launches"] == counts["sectors_read"] == len(counts["shared"]) == 0
    assert counts["threads"] > 0
