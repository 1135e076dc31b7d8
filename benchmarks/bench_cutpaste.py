# SPDX-License-Identifier: Apache-2.0
"""``pytest benchmarks/bench_cutpaste.py``: CutPaste against its peers, one thread each."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from cases import ROWS
from harness import Row, run, timer


@pytest.mark.benchmark(timer=timer)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_cutpaste(benchmark: BenchmarkFixture, row: Row) -> None:
    """Measure one row."""
    run(benchmark, row)
