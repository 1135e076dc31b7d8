# SPDX-License-Identifier: Apache-2.0
"""Importing the library is cheap and touches nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest


def test_import_starts_nothing_and_loads_only_torch_and_numpy(run_python: Callable[..., str]):
    code = """
import os, sys, threading
import numpy, torch, torch.utils.data

def tasks():
    folder = "/proc/self/task"
    return len(os.listdir(folder)) if os.path.isdir(folder) else threading.active_count()

before, modules = tasks(), set(sys.modules)
import ssad_kernels, ssad_kernels.transforms, ssad_kernels.testing
assert tasks() == before, (before, tasks())
assert threading.active_count() == 1
assert not torch.cuda.is_initialized()
loaded = {name.partition(".")[0] for name in set(sys.modules) - modules}
unwanted = loaded & {"triton", "torchvision", "lightning", "pytorch_lightning", "torchmetrics",
                     "PIL", "cv2", "scipy", "sklearn", "skimage", "hypothesis", "pytest"}
assert not unwanted, unwanted
assert "torch._inductor" not in set(sys.modules) - modules
assert "torch._dynamo" not in set(sys.modules) - modules
ssad_kernels.backends()
assert "triton" not in set(sys.modules) - modules
assert not torch.cuda.is_initialized()
"""
    assert run_python(code) == ""


def test_import_takes_less_than_a_fifth_of_a_second_beyond_torch(run_python: Callable[..., str]):
    """Of the processor's time, in the fastest of a few runs."""
    code = """
import time
import numpy, torch
start = time.process_time()
import ssad_kernels
print(time.process_time() - start)
"""
    seconds: list[float] = []
    for _ in range(5):
        seconds.append(float(run_python(code)))
        if min(seconds) < 0.2:
            return
    pytest.fail(f"importing took {seconds} seconds")
