# SPDX-License-Identifier: Apache-2.0
"""Measures one case against one peer so that the ratio survives a noisy machine.

Every round times the peer and then ours, back to back, in the same process and for about the same
time. The speed-up of a row is the median of the rounds' ratios, so whatever slows the machine for
longer than a round slows both. Times are CPU times of the process: on an idle machine the wall time
of single-threaded work, on a shared one without the others' share. Cases of several workers take
wall times instead.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import gc
import importlib
import importlib.metadata
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

Call = Callable[[], object]

_ROUND_SECONDS = 0.005  # at least, per side; a quicker call is repeated
_WARM_SECONDS = 1.0  # a slow peer is not called five times to know that it is
timer = time.process_time
_PACKAGES = (
    "ssad-kernels",
    "torch",
    "torchvision",
    "numpy",
    "opencv-python-headless",
    "fpie",
    "pie-torch",
    "pillow",
    "scikit-image",
    "scikit-learn",
    "scipy",
    "pytest-benchmark",
)


class Error(NamedTuple):
    """How far a peer's result is from ours."""

    value: float
    unit: str  # of the value, such as "levels"
    tolerance: float  # beyond this the two do not compute the same thing, and the row fails
    note: str = ""


class Target(NamedTuple):
    """A claim that the report checks: the speed-up must be at least ``minimum``."""

    minimum: float
    text: str


class Case(NamedTuple):
    """One operation on one input, ours against one peer.

    Attributes:
        op: name of the operation.
        shape, dtype: of the input, as text.
        items: how many images or rows one call handles; times are reported per item.
        ours: does the work once, through the public API.
        peer: name of the library or formulation that ours is compared with.
        theirs: does the same work once.
        error: compares the results, run once before the timing; None if nothing can be compared.
        target: what is claimed against this peer.
        timer: seconds; the test that runs the case gives the same one to the benchmark.
        peer_share: part of the work that ``theirs`` does, where all of it would take too long; the
            peer's times are divided by it.
    """

    op: str
    shape: str
    dtype: str
    items: int
    ours: Call
    peer: str
    theirs: Call
    error: Callable[[], Error] | None = None
    target: Target | None = None
    timer: Callable[[], float] = timer
    peer_share: float = 1.0


class Row(NamedTuple):
    """A case that is built only when it runs.

    Attributes:
        name: for the test's id.
        build: returns the case; raises ImportError if the peer is not installed.
    """

    name: str
    build: Callable[[], Case]


def run(benchmark: BenchmarkFixture, row: Row, rounds: int = 40) -> None:
    """Build and measure a row, or skip it with the reason why its peer is absent."""
    try:
        case = row.build()
    except ImportError as error:
        pytest.skip(f"{row.name}: {error}")
    measure(benchmark, case, rounds)


def measure(benchmark: BenchmarkFixture, case: Case, rounds: int) -> None:
    """Check the peer's result, time rounds of (peer, ours), and fill ``benchmark.extra_info``.

    Raises:
        AssertionError: if the results differ by more than the stated tolerance.
    """
    error = case.error() if case.error else None
    if error:
        assert error.value <= error.tolerance, f"{case.op} against {case.peer}: {error}"
    memory = {"ours": peak_memory(case.ours), "peer": peak_memory(case.theirs)}
    once = [_seconds(call, case.timer) for call in (case.ours, case.theirs)]
    our_calls, peer_calls = (max(1, round(max(_ROUND_SECONDS, *once) / each)) for each in once)
    peer_seconds: list[float] = []

    def ours() -> None:
        for _ in range(our_calls):
            case.ours()

    def before_round() -> None:
        start = case.timer()
        for _ in range(peer_calls):
            case.theirs()
        peer_seconds.append((case.timer() - start) / peer_calls / case.peer_share)

    benchmark.group = f"{case.op} {case.shape} {case.dtype}"
    gc.collect()
    run_rounds: Any = benchmark.pedantic  # untyped upstream
    run_rounds(ours, setup=before_round, rounds=rounds, warmup_rounds=2)
    our_seconds = [seconds / our_calls for seconds in _data(benchmark)]
    peer_seconds = peer_seconds[-rounds:]  # without the warm-up
    ratios = [b / a for a, b in zip(our_seconds, peer_seconds, strict=True)]
    per_item = 1e6 / case.items
    benchmark.extra_info.update(
        {
            "op": case.op,
            "shape": case.shape,
            "dtype": case.dtype,
            "items": case.items,
            "calls_per_round": our_calls,
            "peer": case.peer,
            "ours_us": [seconds * per_item for seconds in quartiles(our_seconds)],
            "peer_us": [seconds * per_item for seconds in quartiles(peer_seconds)],
            "speed_up": quartiles(ratios),
            "error": error._asdict() if error else None,
            "peak_memory_mib": {who: size / 2**20 for who, size in memory.items()},
            "target": case.target._asdict() if case.target else None,
            "environment": environment(),
        }
    )


def optional(module: str) -> Any:
    """The module, or None where it is not installed."""
    with contextlib.suppress(ImportError):
        return importlib.import_module(module)
    return None


def require(module: Any, package: str) -> None:
    """Raise ImportError if an optional module is missing."""
    if module is None:
        msg = f"{package} is not installed"
        raise ImportError(msg)


def quartiles(values: list[float]) -> list[float]:
    """The first quartile, the median and the third quartile."""
    return statistics.quantiles(values, n=4, method="inclusive")


def _data(benchmark: BenchmarkFixture) -> list[float]:
    stats: Any = benchmark.stats
    data: list[float] = stats.stats.data
    return data


def _seconds(call: Call, timer: Callable[[], float]) -> float:
    """The shortest of a few calls, which also warm it up."""
    seconds: list[float] = []
    while len(seconds) < 5 and sum(seconds) < _WARM_SECONDS:
        start = timer()
        call()
        seconds.append(timer() - start)
    return max(min(seconds), 1e-7)


def peak_memory(call: Call) -> int:
    """Bytes by which one call raises the resident memory at its peak, results included.

    Linux only, elsewhere 0. Freed memory that the allocator still holds is given back first, so
    that it cannot hide an allocation.
    """
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        reset.write_text("5")  # sets the peak to the present
    except (AttributeError, OSError):  # another C library, or no such file
        return 0
    before = _status_bytes(status, "VmRSS")
    result = call()
    peak = _status_bytes(status, "VmHWM")
    del result
    return max(0, peak - before)


def _status_bytes(status: Path, field: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


@cache
def environment() -> dict[str, Any]:
    """Where and with what the rows were measured."""
    import ssad_kernels

    cv2 = optional("cv2")

    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD") or "none",
        "dirty": bool(_git("status", "--porcelain")),
        "cpu": _cpu_name(),
        "python": platform.python_version(),
        "threads": {"torch": torch.get_num_threads(), "opencv": cv2 and cv2.getNumThreads()},
        "backend": ssad_kernels.backends()["cut_paste_"]["cpu"],
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
