# SPDX-License-Identifier: Apache-2.0
"""Run every test lane and say of each whether it ran, was skipped (and why), or failed."""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

LANES = {
    "lint": "ruff, mypy --strict, clang-format",
    "suite": "wheel built without torch, installed, whole suite",
    "reference": "op tests with every kernel replaced by its reference",
    "triton": "Triton kernels in the interpreter",
    "cpu-torch": "the same wheel under CPU-only torch, no torchvision, no triton",
    "sanitizers": "native core under address, undefined-behaviour and thread sanitizers",
    "qemu": "baseline instruction set on an emulated processor without AVX",
    "cuda-emulated": "CUDA kernels run on this processor, threads in any order, against the CPU's",
    "cuda-ops": "operators whose CUDA kernels run on this processor, against the CPU's",
    "nvcc": "CUDA kernels in the wheel: no spills, needs as in the table",
    "demo": "end to end at a reduced size",
}
# Of C++ alone, so they run beside the others, which begin by waiting for downloads.
BESIDE = ("sanitizers", "cuda-emulated")
LAST = 30  # lines of a failed lane, printed again at the end
# The wheel has code for those of the table of resources, and PTX for others; all take minutes more.
GPUS = "80;90-real;100-real"
FREE = 12  # GB of disk for a clean clone: two environments with torch, builds, what tests write


class Result(NamedTuple):
    """How a lane ended."""

    status: str
    why: str
    seconds: float
    output: list[str]


def run(lane: str, *, show: bool = True) -> Result:
    """Run one lane, showing what it prints at once or collecting it."""
    process = subprocess.Popen(
        ["make", "--no-print-directory", f"lane-{lane}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"GPUS": GPUS, **os.environ},
    )
    start, why, output = time.monotonic(), "", []
    for line in process.stdout or ():
        output.append(line)
        if show:
            print(line, end="", flush=True)
        if line.startswith("skipped:"):
            why = line.removeprefix("skipped:").strip()
    status = "ran" if process.wait() == 0 else "skipped" if why else "FAILED"
    return Result(status, why, time.monotonic() - start, output)


def main() -> int:
    """Run all lanes; 1 if one failed."""
    if importlib.util.find_spec("venv") is None or shutil.which("make") is None:
        print("needed: python3 with venv, make and a C++17 compiler")
        return 1
    free = shutil.disk_usage(".").free / 1e9
    if free < FREE and not Path(".venv").exists():
        print(f"needed: {FREE} GB of free disk, got {free:.1f}")
        return 1
    results = {}
    with ThreadPoolExecutor(1) as pool:
        # Without a cmake of the system's they need the one that the environment brings.
        early = BESIDE if shutil.which("cmake") else ()
        beside = {lane: pool.submit(run, lane, show=False) for lane in early}
        for lane, what in LANES.items():
            print(f"\n=== {lane}: {what}", flush=True)
            if lane in beside:
                results[lane] = beside[lane].result()
                print(*results[lane].output, sep="", flush=True)
            else:
                results[lane] = run(lane)
    print("\n=== lanes")
    for lane, (status, why, seconds, _) in results.items():
        print(f"{lane:13} {status}{f' ({why})' if why else ''}, {seconds:.0f} s")
    for lane, result in results.items():
        if result.status == "FAILED":
            print(f"\n=== {lane} ended with")
            print(*result.output[-LAST:], sep="", end="\n\n")
    ended = [result.status for result in results.values()]
    failed, skipped = ended.count("FAILED"), ended.count("skipped")
    print(f"{len(ended) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
