# SPDX-License-Identifier: Apache-2.0
"""Checks of the native core outside of torch: `sanitizers` and `qemu`.

A check that cannot run here prints "skipped: <reason>" and exits with 77.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"


def skip(reason: str) -> None:
    """Leave, saying why."""
    print(f"skipped: {reason}", flush=True)
    sys.exit(77)


def sanitizers() -> None:
    """Build and run the core's test program under each group of sanitizers."""
    tools = ROOT / ".venv" / "bin"
    for group in ("address,undefined", "thread"):
        folder = BUILD / f"sanitize-{group.replace(',', '-')}"
        options = [
            "-DSSAD_PYTHON=OFF",
            "-DSSAD_TESTS=ON",
            f"-DSSAD_SANITIZE={group}",
            "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
        ]
        cmake = shutil.which("cmake") or str(tools / "cmake")
        subprocess.run([cmake, "-S", ROOT, "-B", folder, *options], check=True)
        subprocess.run([cmake, "--build", folder, "--parallel", "2"], check=True)
        for level in ("baseline", "avx2", "avx512", ""):
            environment = {**os.environ, "SSAD_CPU_LEVEL": level}
            done = subprocess.run([folder / "core_test"], env=environment, check=False)
            if done.returncode == 2:
                print(f"{group}: this processor has no {level}")
            elif done.returncode:
                sys.exit(f"{group}: failed at level {level or 'default'}")


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
    {"sanitizers": sanitizers, "qemu": qemu}[sys.argv[1]]()
