# SPDX-License-Identifier: Apache-2.0
"""The examples of the README run, one after another in one interpreter, as a reader would."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"
if not README.is_file():
    pytest.skip("the source tree is not here", allow_module_level=True)


def test_the_examples_run(run_python):
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    checks = """
assert anomalous.shape == images.shape and masks.any((1, 2, 3)).all()
assert batch.shape == (4, 3, 256, 256) and batch_masks.shape == (4, 1, 256, 256)
assert status.tolist() == [16] and scores.shape == (16,)
print("ran")
"""
    assert run_python("\n".join(blocks) + checks).splitlines()[-1] == "ran"
