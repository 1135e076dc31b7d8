# SPDX-License-Identifier: Apache-2.0
"""Checks of native code outside of torch: `sanitizers`, `qemu`, `cuda-emulated` and `nvcc`.

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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"


def skip(reason: str) -> None:
    """Leave, saying why."""
    print(f"skipped: {reason}", flush=True)
    sys.exit(77)


def configure(folder: Path, *options: str) -> list[str]:
    """Configure a build without the Python extension; the command that builds it."""
    cmake = shutil.which("cmake") or str(ROOT / ".venv" / "bin" / "cmake")
    subprocess.run([cmake, "-S", ROOT, "-B", folder, "-DSSAD_PYTHON=OFF", *options], check=True)
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


def cuda_emulated() -> None:
    """Run the CUDA kernels on this processor, plain and under sanitizers."""
    if platform.machine() != "x86_64":
        skip("the emulation switches stacks in x86-64 assembly")
    folder = BUILD / "cuda-emulated"
    build = configure(folder, "-DSSAD_EMULATION=ON", "-DSSAD_X86_LEVELS=OFF")
    programs = {"cuda_test": "1", "cuda_test_sanitized": "5"}
    subprocess.run([*build, "--target", *programs], check=True)
    for program, every in programs.items():
        print(f"{program}:", flush=True)
        subprocess.run([folder / program, every], check=True)


def nvcc() -> None:
    """Compile the CUDA kernels; print what each takes of a multiprocessor; fail on spills."""
    if shutil.which("nvcc") is None:
        skip("nvcc is not installed (CUDA toolkit)")
    folder = BUILD / "nvcc"
    build = configure(folder, "-DSSAD_CUDA=ON", "-DCMAKE_CUDA_FLAGS=-Xptxas -v")
    command = [*build, "--target", "ssad_cuda", "--clean-first"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stdout)
    kernels = re.findall(
        r"Compiling entry function '(\w+)' for '(\w+)'.*?(\d+) bytes stack frame, "
        r"(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers([^\n]*)",
        done.stdout,
        flags=re.DOTALL,
    )
    if not kernels:
        sys.exit(f"nvcc: no kernel found in:\n{done.stdout}")
    bad = False
    for name, target, stack, stores, loads, registers, rest in kernels:
        # A mangled name ends with its last component and the template's arguments.
        short = re.sub(r"^.*?\d+([a-z_]+)ILi(\d+)E.*$", r"\1<\2>", name)
        static = re.search(r"(\d+) bytes smem", rest)
        print(
            f"{short:20} {target:7} {registers:>4} registers, {stack} bytes of stack, "
            f"{stores} + {loads} bytes spilled, {static.group(1) if static else 0} static shared"
        )
        bad |= int(stack) + int(stores) + int(loads) > 0
    if bad:
        sys.exit("nvcc: a kernel spills registers")


def qemu() -> None:
    """Load the wheel's extension on an emulated Westmere: no AVX, so a stray one is fatal."""
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        skip("qemu-x86_64 is not installed (Debian package qemu-user)")
    wheels = sorted((ROOT / "dist").glob("*.whl"))
    if not wheels:
        skip("no wheel in dist; run `make wheel` first")
    with zipfile.ZipFile(wheels[-1]) as archive:
        name = next(n for n in archive.namelist() if n.startswith("ssad_kernels/_native."))
        extension = archive.extract(name, BUILD / "qemu")
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
        "nvcc": nvcc,
    }[sys.argv[1]]()
