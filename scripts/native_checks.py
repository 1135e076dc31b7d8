# SPDX-License-Identifier: Apache-2.0
"""Checks of native code: `sanitizers`, `qemu`, `cuda-emulated`, `cuda-ops` and `nvcc`.

A check that cannot run here prints "skipped: <reason>" and exits with 77.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import resource_table
from resource_table import Needs

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"


def skip(reason: str) -> None:
    """Leave, saying why."""
    print(f"skipped: {reason}", flush=True)
    sys.exit(77)


def configure(folder: Path, *options: str) -> list[str]:
    """Configure a build without the Python extension; the command that builds it."""
    cmake = shutil.which("cmake") or str(ROOT / ".venv" / "bin" / "cmake")
    plain = ("-DSSAD_PYTHON=OFF", "-DSSAD_CUDA=OFF")
    subprocess.run([cmake, "-S", ROOT, "-B", folder, *plain, *options], check=True)
    return [cmake, "--build", str(folder), "--parallel", "2"]


def sanitizers() -> None:
    """Build and run the core's test program under each group of sanitizers."""
    every = ("baseline", "avx2", "avx512")
    # Threads share the work in the same way at every level.
    for group, levels in {"address,undefined": every, "thread": every[:1]}.items():
        folder = BUILD / f"sanitize-{group.replace(',', '-')}"
        build = configure(
            folder,
            "-DSSAD_TESTS=ON",
            f"-DSSAD_SANITIZE={group}",
            f"-DSSAD_X86_LEVELS={'ON' if len(levels) > 1 else 'OFF'}",
            "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
        )
        subprocess.run(build, check=True)
        subprocess.run([folder / "median_steps"], check=True, stdout=subprocess.DEVNULL)

        def run(level: str, program: Path = folder / "core_test") -> int:
            environment = {**os.environ, "SSAD_CPU_LEVEL": level}
            return subprocess.run([program], env=environment, check=False).returncode

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for level, code in zip(levels, pool.map(run, levels), strict=True):
                if code == 2:
                    print(f"{group}: this processor has no {level}")
                elif code:
                    sys.exit(f"{group}: failed at level {level}")


def configure_emulation(*options: str) -> tuple[Path, list[str]]:
    """Configure a build of the CUDA kernels for this processor; its folder and command."""
    if platform.machine() != "x86_64":
        skip("the emulation switches stacks in x86-64 assembly")
    folder = BUILD / "cuda-emulated"
    return folder, configure(folder, "-DSSAD_EMULATION=ON", "-DSSAD_X86_LEVELS=OFF", *options)


def cuda_emulated() -> None:
    """Run the CUDA kernels on this processor, plain and under sanitizers."""
    folder, build = configure_emulation()
    programs = {"cuda_test": "1", "cuda_test_sanitized": "5"}
    subprocess.run([*build, "--target", *programs], check=True)
    for program, every in programs.items():
        print(f"{program}:", flush=True)
        subprocess.run([folder / program, every], check=True)


def emulated_site() -> Path:
    """Build an extension whose CUDA kernels run on this processor; the folder to import it from."""
    tools = ROOT / ".venv" / "bin"
    pybind11 = subprocess.run(
        [tools / "python", "-m", "pybind11", "--cmakedir"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.strip()
    folder, build = configure_emulation(
        "-DSSAD_PYTHON=ON",
        "-DSSAD_CUDA=EMULATED",
        f"-Dpybind11_DIR={pybind11}",
        f"-DPython_EXECUTABLE={tools / 'python'}",
    )
    subprocess.run([*build, "--target", "_native"], check=True)
    site = folder / "site"
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(
        ROOT / "ssad_kernels", site / "ssad_kernels", ignore=shutil.ignore_patterns("*.so")
    )
    shutil.copy(next(folder.glob("_native.*.so")), site / "ssad_kernels")
    return site


def cuda_ops() -> None:
    """Test the operators with an extension whose CUDA kernels run on this processor."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(emulated_site()),  # before the installed package
        "OMP_NUM_THREADS": "1",
        "SSAD_REQUIRE_NATIVE": "1",
    }
    pytest = ROOT / ".venv" / "bin" / "pytest"
    tests = [pytest, "-p", "no:benchmark", "tests/cuda_emulated"]
    subprocess.run(tests, cwd=ROOT, env=environment, check=True)


# Threads and dynamic shared bytes of a block, which the launcher chooses and ptxas does not see:
# kThreads and kBytes (of sweeps kFineBytes) of Layout<kSide> and SineLayout<kSide>; of blends
# BlendLayout<kSide>::bytes for RGB and a bool mask.
LAUNCHES = {
    "blend_patches<64>": (256, 78932),
    "blend_patches<32>": (64, 23636),
    "solve_planes<128>": (512, 157384),
    "solve_planes<64>": (256, 43844),
    "solve_planes<32>": (64, 14532),
    "sor_planes<32>": (64, 6468),
    "jacobi_planes<64>": (256, 21572),
    "jacobi_planes<32>": (64, 6468),
    "sine_planes<128>": (256, 65520),
    "sine_planes<64>": (256, 16368),
    "sine_planes<32>": (64, 4080),
    "sine_tables<128>": (128, 0),
    "filter_masks": (256, 1840),
    "filter_disks<1>": (256, 35216),
    "filter_disks<2>": (256, 37568),
    "filter_disks<3>": (256, 39952),
    "filter_disks<4>": (256, 42368),
    "filter_disks<5>": (256, 44816),
    "filter_disks<6>": (256, 47296),
    "filter_disks<7>": (256, 49808),
    "label_tiles<0>": (256, 3888),
    "label_tiles<5>": (256, 57888),
}


def nvcc_version() -> str:
    """The compiler, as the table of resources names it."""
    shown = subprocess.run(["nvcc", "--version"], stdout=subprocess.PIPE, text=True, check=True)
    release = re.search(r"release (\S+),", shown.stdout)
    return f"nvcc {release.group(1)}" if release else "nvcc"


def wheel_extension(folder: Path) -> Path:
    """The extension in the wheel of dist, taken out into a folder."""
    wheels = sorted((ROOT / "dist").glob("*.whl"))
    if not wheels:
        skip("no wheel in dist; run `make wheel` first")
    with zipfile.ZipFile(wheels[-1]) as archive:
        name = next(n for n in archive.namelist() if n.startswith("ssad_kernels/_native."))
        return Path(archive.extract(name, folder))


def compiled_kernels() -> list[tuple[str, int, Needs]]:
    """What each CUDA kernel in the wheel takes for each target; none if nvcc was not there."""
    own = (ROOT / ".venv").glob("lib/python*/site-packages/triton/backends/nvidia/bin/cuobjdump")
    tool = shutil.which("cuobjdump") or next(own, None)
    if tool is None:
        skip("cuobjdump is not installed (CUDA toolkit, or triton)")
    extension = wheel_extension(BUILD / "nvcc")
    report = subprocess.run(
        [tool, "-res-usage", extension], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    found = []
    for part in report.split("\narch = sm_")[1:]:
        # Its shared bytes are those of the system; kernels have none of a fixed size.
        kernels = r"Function (\w+):\s+REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)"
        for name, registers, stack, local in re.findall(kernels, part):
            # The last component of a mangled name, and the template's argument if it has one.
            component = re.search(r"\d+([a-z_]+)(?:ILi(\d+)E)?E", name)
            short, argument = component.groups() if component else (name, None)
            short += f"<{argument}>" if argument else ""
            if short not in LAUNCHES:
                sys.exit(f"nvcc: LAUNCHES must say how {short} is launched")
            threads, shared = LAUNCHES[short]
            needs = Needs(int(registers), int(stack) + int(local), shared, threads)
            found.append((short, int(part[: part.index("\n")]), needs))
    return found


def rows_of(kernels: Sequence[tuple[str, int, Needs]]) -> dict[str, list[str]]:
    """Their rows in the table of resources."""
    found: dict[str, dict[int, Needs]] = {}
    for name, target, needs in kernels:
        found.setdefault(name, {})[target] = needs
    return {name: resource_table.cells_of(by_target) for name, by_target in found.items()}


def nvcc() -> None:
    """Fail on CUDA kernels that spill, or take what the table of resources does not say."""
    kernels = compiled_kernels()
    if not kernels:
        skip("the wheel has no CUDA kernels, as nvcc is not installed (CUDA toolkit)")
    for name, target, needs in kernels:
        print(f"{name:20} sm_{target:<4} {needs}")
    if any(needs.stack > 0 for *_, needs in kernels):
        sys.exit("nvcc: a kernel spills registers")
    known, _ = resource_table.committed(resource_table.CUDA)
    if known != nvcc_version():
        print(f"not compared with benchmarks/gpu_resources.md, which is by {known}")
        return
    unlike = resource_table.differences(resource_table.CUDA, rows_of(kernels))
    if unlike:
        sys.exit(resource_table.outdated(unlike))


def qemu() -> None:
    """Load the wheel's extension on an emulated Westmere: no AVX, so a stray one is fatal."""
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        skip("qemu-x86_64 is not installed (Debian package qemu-user)")
    extension = wheel_extension(BUILD / "qemu")
    script = [os.path.realpath(sys.executable), ROOT / "tests/native/extension.py", extension]

    def output(command: list[object], level: str) -> str:
        environment = {**os.environ, "SSAD_CPU_LEVEL": level}
        return subprocess.run(
            [str(part) for part in command],
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    emulated = output([emulator, "-cpu", "Westmere", *script], "")
    here = output(list(script), "baseline")
    print(emulated, end="")
    if emulated != here:
        sys.exit(f"qemu: the emulated processor disagrees with this one:\n{here}")


if __name__ == "__main__":
    {
        "sanitizers": sanitizers,
        "qemu": qemu,
        "cuda-emulated": cuda_emulated,
        "cuda-ops": cuda_ops,
        "nvcc": nvcc,
    }[sys.argv[1]]()
