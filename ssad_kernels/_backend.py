# SPDX-License-Identifier: Apache-2.0
"""Which implementations can run here, and why the others cannot."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssad_kernels._errors import wording

BACKENDS: tuple[str, ...] = ("auto", "cpu", "cuda", "triton", "reference")

# Dtype of csrc/include/ssad/view.h.
NATIVE_DTYPES = {
    torch.uint8: 0,
    torch.float16: 1,
    torch.bfloat16: 2,
    torch.float32: 3,
    torch.float64: 4,
}

# What to try for tensors of a device, in order; any other device has the reference alone.
_CANDIDATES = {
    ("auto", "cpu"): ("cpu", "reference"),
    ("auto", "cuda"): ("cuda", "triton", "reference"),
    ("cpu", "cpu"): ("cpu",),
    ("cuda", "cuda"): ("cuda", "triton"),
    ("triton", "cuda"): ("triton",),
    ("triton", "cpu"): ("triton",),  # under TRITON_INTERPRET=1
}

# What the `use_backend` blocks that are open ask for, in the order in which they were entered.
_requests: list[list[str]] = [["auto"]]
_lock = threading.Lock()


def _load_native() -> tuple[Any, str]:
    try:
        native = importlib.import_module("ssad_kernels._native")
    except ImportError as error:
        if os.environ.get("SSAD_REQUIRE_NATIVE") == "1" or "SSAD_CPU_LEVEL" in str(error):
            raise
        why = str(error)
        if (Path(__file__).parent.parent / "CMakeLists.txt").exists():
            why += (
                "; this is the source tree: start Python in another folder to get the installed "
                "package, or build the extension here, see CONTRIBUTING.md"
            )
        reason = f"the C++ extension could not be loaded ({why})"
        warnings.warn(
            f"ssad_kernels: {reason}; every op runs its slow reference on the CPU",
            RuntimeWarning,
            stacklevel=2,
        )
        return None, reason
    return native, ""


native, native_reason = _load_native()

if native is not None and native.cuda_build == "emulated":
    BACKENDS += ("cuda-emulated",)
    _CANDIDATES["cuda-emulated", "cpu"] = ("cuda-emulated",)


def active() -> str:
    """The backend that `use_backend` asked for, "auto" outside of it."""
    return _requests[-1][0]


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run every op on one backend, for tests, comparisons and debugging.

    Process-global, not per thread: autograd runs backward passes on threads of its own. Where
    blocks overlap, the one entered last decides.

    Args:
        name: "auto" (the default order: for CPU tensors "cpu", then "reference"; for CUDA tensors
            native CUDA, then Triton, then "reference" with one warning), "cpu" (C++ kernels),
            "cuda" (CUDA tensors must find a GPU kernel, native or Triton), "triton" or "reference".
            Where the extension was built for that, see CONTRIBUTING.md, "cuda-emulated" runs the
            native CUDA kernels on CPU tensors, slowly.

    Raises:
        ValueError: for an unknown name.
        RuntimeError: from the op, when the backend asked for cannot run it.
    """
    if name not in BACKENDS:
        raise ValueError(wording("use_backend", "name", f"be one of {', '.join(BACKENDS)}", name))
    request = [name]  # a list, so that equal requests are told apart
    with _lock:
        _requests.append(request)
    try:
        yield
    finally:
        with _lock:
            _requests[:] = [other for other in _requests if other is not request]


def candidates(device_type: str) -> tuple[str, ...]:
    """The backends to try for tensors on a device, best first."""
    name = active()
    if name == "reference":
        return ("reference",)
    return _CANDIDATES.get((name, device_type), ("reference",) if name == "auto" else ())


def is_interpreted() -> bool:
    """Whether Triton kernels run on the CPU, in Triton's interpreter."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def unavailable(backend: str, device_type: str) -> str:
    """Why a backend cannot run on tensors of a device; empty when it can."""
    if backend == "cpu":
        return native_reason
    if backend == "triton":
        if importlib.util.find_spec("triton") is None:
            return "triton is not installed"
        if is_interpreted():
            return ""
        if device_type == "cpu":
            return "Triton kernels run on CPU tensors only with TRITON_INTERPRET=1"
        return "" if torch.cuda.is_available() else "torch finds no GPU"
    if backend == "cuda":
        return _why_no_native_cuda()
    return ""


def _why_no_native_cuda() -> str:
    if native is None:
        return native_reason
    if native.cuda_build != "nvcc":
        return "this build has no CUDA C++ kernels"
    version, driver, compiled, gpus = native.cuda_runtime()
    if driver == 0:
        return "there is no CUDA driver"
    if driver // 1000 < version // 1000:  # a driver serves all versions of its major one
        names = (f"{v // 1000}.{v % 1000 // 10}" for v in (driver, version))
        return "the driver is for CUDA {}, the kernels are for {}".format(*names)
    if not torch.cuda.is_available() or not gpus:
        return "torch finds no GPU"
    for gpu in gpus:
        # Machine code runs on later GPUs of its major version, PTX on all later ones.
        is_covered = any(c // 10 == gpu // 10 and c <= gpu for c in compiled)
        if not is_covered and gpu < compiled[-1]:
            capability = f"{gpu // 10}.{gpu % 10}"
            return f"there is no kernel for a GPU of compute capability {capability}"
    return ""


def may_be_native_cuda(device_type: str) -> bool:
    """Whether native CUDA kernels, if any are built, are among what tensors of a device may run."""
    if native is None or active() in ("triton", "reference"):
        return False
    if device_type == "cuda":
        return bool(native.cuda_build == "nvcc")
    return active() == "cuda-emulated"


def shared_bytes_of(device: torch.device | int | None) -> int:
    """What a block can have of a GPU's shared memory."""
    gpu: Any = torch.cuda.get_device_properties(device)
    # What every GPU has, where torch does not tell (before 2.7).
    return int(getattr(gpu, "shared_memory_per_block_optin", 48 * 1024))


def stream_of(tensor: Tensor) -> int:
    """The current stream of a tensor's GPU; 0 on a CPU, where CUDA kernels are emulated."""
    return torch.cuda.current_stream(tensor.device).cuda_stream if tensor.is_cuda else 0
