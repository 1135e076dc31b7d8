# SPDX-License-Identifier: Apache-2.0
"""The examples in docstrings run and print what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import ssad_kernels

MODULES = [
    info.name
    for info in pkgutil.walk_packages(ssad_kernels.__path__, "ssad_kernels.")
    if not info.name.startswith(("ssad_kernels._", "ssad_kernels.triton"))
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.FAIL_FAST)
    assert result.failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [t for name in MODULES for t in finder.find(importlib.import_module(name))]
    assert any(test.examples for test in found)
