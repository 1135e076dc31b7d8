# SPDX-License-Identifier: Apache-2.0
"""Scripts of the source tree as modules."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def script(name: str) -> ModuleType:
    """Import a script; skip the test where there is none."""
    if not (SCRIPTS / f"{name}.py").is_file():
        pytest.skip("the source tree is not here")
    if str(SCRIPTS) not in sys.path:
        sys.path.append(str(SCRIPTS))
    return importlib.import_module(name)
