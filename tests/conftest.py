# SPDX-License-Identifier: Apache-2.0
"""Fixtures for all tests.

SSAD_TEST_BACKEND names the backend to test, such as the reference; SSAD_TEST_DEVICE=cuda leaves out
the CPU where a test takes every device, and wants a GPU.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import ssad_kernels
from ssad_kernels import _backend

# Modules that several tests share. Not the folder of the tests, whose `triton` is not Triton.
sys.path.insert(0, str(Path(__file__).parent / "shared"))

BACKEND = os.environ.get("SSAD_TEST_BACKEND", "auto")

DEVICE = os.environ.get("SSAD_TEST_DEVICE", "")

settings.register_profile("default", deadline=None, derandomize=True, max_examples=60)
settings.register_profile("stress", deadline=None, max_examples=5000, print_blob=True)
settings.load_profile(os.environ.get("SSAD_HYPOTHESIS", "default"))


def pytest_configure() -> None:
    """Do not skip quietly what was asked for."""
    if DEVICE not in ("", "cpu", "cuda"):
        pytest.exit(f"SSAD_TEST_DEVICE must be cpu or cuda, got {DEVICE}", 2)
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.exit("SSAD_TEST_DEVICE is cuda, but torch finds no GPU", 2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what tells something of the C++ kernels alone where they do not run."""
    reason = _backend.native_reason
    if BACKEND == "reference":
        reason = "the reference is under test"
    for item in items:
        if reason and item.get_closest_marker("native"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _fresh_state() -> Iterator[None]:
    """What is allocated and not written shows as NaN; threads and random state are put back."""
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    with torch.random.fork_rng(devices=[]), ssad_kernels.use_backend(BACKEND):
        torch.manual_seed(0)
        yield
    torch.utils.deterministic.fill_uninitialized_memory = fill
    torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
    torch.set_num_threads(threads)


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(
            "cpu", marks=pytest.mark.skipif(DEVICE == "cuda", reason="the GPU is under test")
        ),
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU"),
                pytest.mark.skipif(DEVICE == "cpu", reason="the CPU is under test"),
            ],
        ),
    ],
)
def device(request: pytest.FixtureRequest) -> str:
    """Every device that there is."""
    return str(request.param)


@pytest.fixture(scope="session")
def run_python(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run code in a fresh interpreter that finds the same ssad_kernels; returns what it prints."""

    # Not the checkout, whose package would hide the installed one.
    folder = tmp_path_factory.mktemp("interpreter")

    def run(code: str, **variables: str) -> str:
        package = str(Path(ssad_kernels.__file__).parents[1])
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path, **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            pytest.fail(f"the interpreter failed:\n{done.stderr}", pytrace=False)
        return done.stdout

    return run


@pytest.fixture(scope="session")
def at_level(
    run_python: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Any]:
    """Run code at an instruction set; returns what it saves with ``torch.save(..., PATH)``."""
    folder = tmp_path_factory.mktemp("levels")
    capability = torch.backends.cpu.get_cpu_capability()
    levels = {"DEFAULT": ["baseline"], "AVX2": ["baseline", "avx2"]}

    @functools.cache
    def run(code: str, level: str) -> Any:
        if level not in levels.get(capability, ["baseline", "avx2", "avx512"]):
            pytest.skip(f"this processor has no {level}")
        path = folder / f"{len(list(folder.iterdir()))}.pt"
        ask = "\nfrom ssad_kernels import _backend\nprint(_backend.native.cpu_level)"
        chosen = run_python(f"PATH = {str(path)!r}\n{code}{ask}", SSAD_CPU_LEVEL=level)
        assert chosen.strip() == level
        return torch.load(path, weights_only=True)

    return run


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operator returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.numel())
        return result


@pytest.fixture
def largest_tensor() -> LargestTensor:
    """Records the largest tensor that is made in its context."""
    return LargestTensor()
