# SPDX-License-Identifier: Apache-2.0
"""`make gpu`: tests, compute-sanitizer and benchmarks on the GPU of this machine.

Writes benchmarks/results/<name of the GPU>.json and .md. Without a GPU it says so and exits with
77. A part that cannot run is named with the reason; if one fails, the exit status is 1.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SANITIZERS = ("memcheck", "racecheck", "synccheck")
# A launch or more of each kind of kernel; under a sanitizer each takes a hundred times its time.
CHOSEN = (
    "test_kernel_equals_reference and cuda and (poisson_solve or poisson_blend_ or cut_paste_ or "
    "median_filter or nsa_regions or upsample or cell_masks or refine_cells)"
)
HEADER = ("op", "shape", "ours, µs", "peer", "peer, µs", "speed-up", "largest difference")


def why_no_gpu() -> str:
    """The reason why nothing can run here; empty if there is a GPU."""
    try:
        import torch
    except ImportError:
        return "torch is not installed"
    if not torch.backends.cuda.is_built():
        return "this torch is built without CUDA"
    return "" if torch.cuda.is_available() else "torch finds no GPU"


def pytest_command(*arguments: str) -> list[str]:
    """Run pytest of this environment; not as a module, which would hide the installed package."""
    return [str(Path(sys.executable).with_name("pytest")), "-q", "-p", "no:benchmark", *arguments]


def environment(**more: str) -> dict[str, str]:
    """For tests on the GPU alone."""
    own = {"SSAD_TEST_DEVICE": "cuda", "SSAD_REQUIRE_NATIVE": "1", "OMP_NUM_THREADS": "1"}
    own |= {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # the tests ask torch for determinism
    return {**os.environ, **own, **more}


def sanitizer_command(tool: str, program: str) -> list[str]:
    """Run the chosen tests under one of compute-sanitizer's tools."""
    options = ["--tool", tool, "--error-exitcode", "9", "--target-processes", "all"]
    tests = pytest_command("tests/test_registration.py", "-k", CHOSEN)
    return [program, *options, *tests]


def file_name(gpu: str) -> str:
    """The name of a GPU as that of a file: "NVIDIA H100 80GB HBM3" -> "nvidia-h100-80gb-hbm3"."""
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-") or "gpu"


def table(results: Mapping[str, Any]) -> str:
    """A page of results, as `benchmark` writes them."""
    where = results["environment"]
    lines = [
        f"# {results['gpu']}",
        "",
        f"Measured on {where['date']} at commit {where['commit']}"
        f"{', with changes' if where['dirty'] else ''}: torch {where['torch']}, "
        f"CUDA {where['cuda']}, {where['cpu']}. "
        "Medians (first and third quartile), by CUDA events; on the CPU by its clock, on "
        f"{where['threads']} threads. Written by `make gpu`.",
        "",
        _line(HEADER),
        _line("---" for _ in HEADER),
    ]
    skipped = []
    for row in results["rows"]:
        if "skipped" in row:
            what = f"{row['op']}, {row['shape']}, against {row['peer']}: " if "op" in row else ""
            skipped.append(f"- {what}{row['skipped']}")
            continue
        cells = [row["op"], row["shape"], _spread(row["ours_us"]), row["peer"]]
        cells += [_spread(row["peer_us"]), _spread(row["speed_up"]), f"{row['difference']:.2g}"]
        lines.append(_line(cells))
    skipped += [f"- {part}: {outcome}" for part, outcome in results["parts"].items()]
    return "\n".join([*lines, "", *skipped, ""])


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _spread(quartiles: Sequence[float]) -> str:
    low, middle, high = (f"{value:.3g}" for value in quartiles)
    return f"{middle} ({low} to {high})"


def run_part(command: Sequence[str], variables: Mapping[str, str]) -> str:
    """Run a command; "passed" or how it failed."""
    print("$", " ".join(command), flush=True)
    code = subprocess.run(command, cwd=ROOT, env=dict(variables), check=False).returncode
    return "passed" if code == 0 else f"FAILED with exit status {code}"


def run_tests() -> dict[str, str]:
    """The suite on the GPU, then the chosen part of it under sanitizers; how each ended."""
    outcomes = {"suite": run_part(pytest_command("tests"), environment())}
    program = shutil.which("compute-sanitizer")
    for tool in SANITIZERS:
        if program is None:
            outcomes[tool] = "skipped: compute-sanitizer is not installed (CUDA toolkit)"
            continue
        # Torch's own allocator hides the ends of tensors from the tools.
        variables = environment(PYTORCH_NO_CUDA_MEMORY_CACHING="1")
        outcomes[tool] = run_part(sanitizer_command(tool, program), variables)
    return outcomes


def benchmark(gpu: str, device: str, parts: Mapping[str, str], **size: int) -> dict[str, Any]:
    """Measure all cases, and say where and with what."""
    import torch

    sys.path.append(str(ROOT / "benchmarks"))
    import gpu_cases
    import harness

    known = harness.environment()
    where = {name: known[name] for name in ("date", "commit", "dirty", "cpu", "python")}
    where |= {"torch": torch.__version__, "cuda": torch.version.cuda or "none"}
    where |= {"threads": torch.get_num_threads()}
    rows = gpu_cases.run(device, **size)
    return {"gpu": gpu, "environment": where, "parts": dict(parts), "rows": rows}


def write(results: Mapping[str, Any], folder: Path) -> Path:
    """Write JSON and table; the path of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{file_name(results['gpu'])}.md"
    page.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    page.write_text(table(results))
    return page


def main() -> int:
    """Run all parts; 77 without a GPU, 1 if one failed."""
    reason = why_no_gpu()
    if reason:
        print(f"skipped: make gpu needs a GPU, and {reason}")
        return 77
    import torch

    parts = run_tests()
    has_failed = any(outcome.startswith("FAILED") for outcome in parts.values())
    if has_failed:
        print("no times are taken where tests fail")
    else:
        results = benchmark(torch.cuda.get_device_name(), "cuda", parts)
        print(f"wrote {write(results, RESULTS).relative_to(ROOT)} and the .json beside it")
    for part, outcome in parts.items():
        print(f"{part:10} {outcome}")
    return int(has_failed)


if __name__ == "__main__":
    sys.exit(main())
