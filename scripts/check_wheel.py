# SPDX-License-Identifier: Apache-2.0
"""Check a built wheel: the extension is there, and needs neither torch nor a CUDA driver."""

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

wheel = Path(sys.argv[1])
with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
    names = archive.namelist()
    extensions = [name for name in names if re.fullmatch(r"ssad_kernels/_native\..*so", name)]
    if len(extensions) != 1:
        sys.exit(f"{wheel.name}: expected one extension, found {extensions}")
    for wanted in (
        "ssad_kernels/py.typed",
        "ssad_kernels/triton/poisson.py",
        "ssad_models/cli.py",
        "ssad_models/cutpaste/paper.yaml",
        "ssad_models/nsa/paper.yaml",
        "ssad_models/recipes/cutpaste.yaml",
        "ssad_models/recipes/nsa.yaml",
        "ssad_models/report/templates/report.html",
    ):
        if wanted not in names:
            sys.exit(f"{wheel.name}: {wanted} is missing")
    library = archive.extract(extensions[0], folder)
    needed = subprocess.run(
        ["readelf", "-d", library], check=True, capture_output=True, text=True
    ).stdout
    linked = re.findall(r"NEEDED.*\[(.*)\]", needed)
    if any(word in name for name in linked for word in ("torch", "c10", "python", "cuda")):
        sys.exit(f"{wheel.name}: the extension links {linked}")
print(f"{wheel.name}: one extension, linked to {', '.join(linked)}")
