# SPDX-License-Identifier: Apache-2.0
"""Run every test lane in turn and say of each whether it ran, was skipped (and why), or failed."""

import importlib.util
import shutil
import subprocess
import sys
import time

LANES = {
    "lint": "ruff, mypy --strict, clang-format",
    "suite": "wheel built without torch, installed, whole suite",
    "reference": "op tests with every kernel replaced by its reference",
    "triton": "Triton kernels in the interpreter",
    "cpu-torch": "the same wheel under CPU-only torch, no torchvision, no triton",
    "sanitizers": "native core under address, undefined-behaviour and thread sanitizers",
    "qemu": "baseline instruction set on an emulated processor without AVX",
    "cuda-emulated": "CUDA kernels run on this processor, threads in any order, against the CPU's",
    "nvcc": "CUDA kernels compiled for sm_80, 90 and 100; none spills registers",
    "demo": "end to end at a reduced size",
}


def run(lane: str) -> tuple[str, str]:
    """Run one lane; its status and the reason if it was skipped."""
    print(f"\n=== {lane}: {LANES[lane]}", flush=True)
    process = subprocess.Popen(
        ["make", "--no-print-directory", f"lane-{lane}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    last = ""
    for line in process.stdout or ():
        print(line, end="", flush=True)
        if line.startswith("skipped:"):
            last = line.removeprefix("skipped:").strip()
    if process.wait() == 0:
        return "ran", ""
    return ("skipped", last) if last else ("FAILED", "")


def main() -> int:
    """Run all lanes; 1 if one failed."""
    if importlib.util.find_spec("venv") is None or shutil.which("make") is None:
        print("needed: python3 with venv, make and a C++17 compiler")
        return 1
    results = []
    for lane in LANES:
        start = time.monotonic()
        status, why = run(lane)
        results.append((lane, status, why, time.monotonic() - start))
    print("\n=== lanes")
    for lane, status, why, seconds in results:
        print(f"{lane:13} {status}{f' ({why})' if why else ''}, {seconds:.0f} s")
    failed = sum(status == "FAILED" for _, status, _, _ in results)
    skipped = sum(status == "skipped" for _, status, _, _ in results)
    print(f"{len(results) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
