# SPDX-License-Identifier: Apache-2.0
"""Measures one case against one peer so that the ratio survives a noisy machine.

Every round times the peer and then ours, back to back in the same process. The speed-up of a row is
the median of the rounds' ratios: whatever slows the machine for longer than one round slows both.
"""

from __future__ import annotations

import ctypes
import datetime
import gc
import importlib.metadata
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytest_benchmark.fixture import BenchmarkFixture

Call = Callable[[], object]

_ROUND_SECONDS = 0.01  # a round repeats a call for about this long, so that the clock's grain is nil
_PACKAGES = (
    "ssad-kernels",
    "torch",
    "torchvision",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "scikit-learn",
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


class Row(NamedTuple):
    """A case that is built only when it runs.

    Attributes:
        name: for the test's id.
        build: returns the case; raises ImportError if the peer is not installed.
    """

    name: str
    build: Callable[[], Case]


def measure(benchmark: BenchmarkFixture, case: Case, rounds: int = 60) -> None:
    """Check the peer's result, time rounds of (peer, ours), and fill ``benchmark.extra_info``.

    Raises:
        AssertionError: if the results differ by more than the stated tolerance.
    """
    error = case.error() if case.error else None
    if error:
        assert error.value <= error.tolerance, f"{case.op} against {case.peer}: {error}"
    memory = {"ours": peak_memory(case.ours), "peer": peak_memory(case.theirs)}
    ours, our_calls = _repeated(case.ours)
    theirs, peer_calls = _repeated(case.theirs)
    peer_seconds: list[float] = []

    def before_round() -> None:
        start = time.perf_counter()
        theirs()
        peer_seconds.append((time.perf_counter() - start) / peer_calls)

    benchmark.group = f"{case.op} {case.shape} {case.dtype}"
    gc.collect()
    benchmark.pedantic(ours, setup=before_round, rounds=rounds, warmup_rounds=3)
    our_seconds = [seconds / our_calls for seconds in benchmark.stats.stats.data]
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


def quartiles(values: list[float]) -> list[float]:
    """The first quartile, the median and the third quartile."""
    return statistics.quantiles(values, n=4, method="inclusive")


def _repeated(call: Call) -> tuple[Call, int]:
    """``call`` as often as fits a round, and that number; warms the call up on the way."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    count = max(1, round(_ROUND_SECONDS / min(seconds)))
    if count == 1:
        return call, 1

    def repeated() -> None:
        for _ in range(count):
            call()

    return repeated, count


def peak_memory(call: Call) -> int:
    """Bytes by which one call raises the resident memory at its peak, results included.

    Linux only, elsewhere 0. Freed memory that the allocator still holds is given back first, so
    that it cannot hide an allocation.
    """
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return 0
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    reset.write_text("5")
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
    import cv2
    import ssad_kernels

    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD") or "none",
        "dirty": bool(_git("status", "--porcelain")),
        "cpu": _cpu_name(),
        "python": platform.python_version(),
        "threads": {"torch": torch.get_num_threads(), "opencv": cv2.getNumThreads()},
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
