# SPDX-License-Identifier: Apache-2.0
"""Registration of operators: schema, checks, allocation and one kernel per backend."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from ssad_kernels import _backend

Kernel = Callable[..., Any]

# Must stay alive: torch forgets the operators of a Library that is collected.
_LIBRARY = torch.library.Library("ssad_kernels", "DEF")
_OPS: dict[str, _Op] = {}
_NATIVE_CUDA = ("cuda", "cuda-emulated")  # one kernel, on a GPU and on a CPU


class Limits(NamedTuple):
    """Which calls a kernel serves; the others go to the next backend.

    Attributes:
        what: the same in words, such as "float32", or what finds them for this machine's GPUs.
        serves: whether it serves these arguments; looks at metadata only.
    """

    what: str | Callable[[], str]
    serves: Callable[..., bool]

    def words(self) -> str:
        """Which calls."""
        return self.what if isinstance(self.what, str) else self.what()


class _Op:
    """An operator's kernels, by backend."""

    def __init__(
        self, name: str, kernels: dict[str, Kernel], cuda_limits: Limits | None = None
    ) -> None:
        self.name = name
        self.kernels = kernels
        self.cuda_limits = cuda_limits
        self._chosen: dict[tuple[str, str, bool], tuple[str, Kernel]] = {}

    def why_not(self, backend: str, device_type: str, *, is_served: bool = True) -> str:
        """Why a backend cannot run calls that native CUDA serves, or not; empty when it can."""
        if backend not in self.kernels:
            return f"{self.name} has no {backend} kernel"
        reason = _backend.unavailable(backend, device_type)
        if not (is_served or reason) and backend in _NATIVE_CUDA and self.cuda_limits:
            reason = f"its kernel serves {self.cuda_limits.words()} only"
        return reason

    def choose(self, device_type: str, *args: Any) -> tuple[str, Kernel]:
        """The backend and kernel that run for tensors of a device and, if given, these arguments.

        All that counts of the arguments is whether native CUDA serves them.
        """
        is_served = True
        if args and self.cuda_limits is not None and _backend.may_be_native_cuda(device_type):
            is_served = self.cuda_limits.serves(*args)
        key = (_backend.active(), device_type, is_served)
        if key not in self._chosen:
            self._chosen[key] = self._choose(device_type, is_served=is_served)
        return self._chosen[key]

    def _choose(self, device_type: str, *, is_served: bool) -> tuple[str, Kernel]:
        reasons = []
        for backend in _backend.candidates(device_type):
            reason = self.why_not(backend, device_type, is_served=is_served)
            if reason:
                reasons.append(f"{backend}: {reason}")
                continue
            if backend == "reference" and device_type == "cuda" and reasons:
                warnings.warn(
                    f"ssad_kernels.{self.name} runs its slow reference on CUDA tensors "
                    f"({'; '.join(reasons)})",
                    RuntimeWarning,
                    stacklevel=4,
                )
            return backend, self.kernels[backend]
        why = "; ".join(reasons) or f"it does not serve {device_type} tensors"
        msg = f"{self.name}: backend `{_backend.active()}` cannot run on {device_type} ({why})"
        raise RuntimeError(msg)


def define_op(
    schema: str,
    *,
    check: Callable[..., None],
    allocate: Callable[..., Any],
    reference: Kernel,
    cpu: Kernel | None = None,
    cuda: Kernel | None = None,
    cuda_limits: Limits | None = None,
    triton: Kernel | None = None,
    setup_context: Kernel | None = None,
    backward: Kernel | None = None,
) -> Any:
    """Register ``torch.ops.ssad_kernels.<name>`` and return it.

    Args:
        schema: the operator's schema, its name first.
        check: raises for bad arguments; looks at metadata only, so it serves fake tensors too.
        allocate: new tensors for the outputs, uninitialised; also the fake kernel.
        reference: pure torch, ``reference(*args) -> outputs``; runs wherever nothing else does.
        cpu: C++, ``kernel(*args, *outputs)`` that fills the allocated outputs.
        cuda: the same in CUDA C++; tensors are of the GPU, and nothing waits for it.
        cuda_limits: which calls ``cuda`` serves, if not all.
        triton: the same in Triton.
        setup_context: with ``backward``, as `torch.library.register_autograd` takes them.
        backward: the gradient, in differentiable torch and ops.
    """
    name = schema[: schema.index("(")]
    kernels = {"cpu": cpu, "triton": triton, "reference": reference}
    kernels |= dict.fromkeys(_NATIVE_CUDA, cuda)
    has = {backend: kernel for backend, kernel in kernels.items() if kernel is not None}
    op = _Op(name, has, cuda_limits)
    _OPS[name] = op

    is_in_place = "(a!)" in schema

    def run(*args: Any, device_type: str) -> Any:
        check(*args)
        backend, kernel = op.choose(device_type, *args)
        if is_in_place:  # autograd must notice if it has saved what is overwritten here
            torch.autograd.graph.increment_version(args[0])
        if backend == "reference":
            return kernel(*args)
        outputs = allocate(*args)
        kernel(*args, *(outputs if isinstance(outputs, tuple) else (outputs,)))
        return outputs

    def run_reference(*args: Any) -> Any:
        check(*args)
        if is_in_place:
            torch.autograd.graph.increment_version(args[0])
        return reference(*args)

    def fake(*args: Any) -> Any:
        check(*args)
        return allocate(*args)

    _LIBRARY.define(schema, tags=torch.Tag.pt2_compliant_tag)
    _LIBRARY.impl(name, run_reference, "CompositeExplicitAutograd")
    _LIBRARY.impl(name, functools.partial(run, device_type="cpu"), "CPU")
    _LIBRARY.impl(name, functools.partial(run, device_type="cuda"), "CUDA")
    torch.library.register_fake(f"ssad_kernels::{name}", fake, lib=_LIBRARY)
    if backward is not None:
        torch.library.register_autograd(
            f"ssad_kernels::{name}", backward, setup_context=setup_context, lib=_LIBRARY
        )
    return getattr(torch.ops.ssad_kernels, name).default


def backends() -> dict[str, dict[str, str]]:
    """What runs where: for each operator and backend "ready", or the reason why it is not.

    Returns:
        ``{op: {"cpu": ..., "cuda": ..., "triton": ..., "reference": ...}}``; "cpu" names the
        instruction set that was chosen when the library was loaded, "cuda" which calls its kernel
        serves if it does not serve all: "ready (float32)".
    """
    table = {}
    for name, op in sorted(_OPS.items()):
        remarks = {"cpu": getattr(_backend.native, "cpu_level", "")}
        if op.cuda_limits is not None:
            remarks |= dict.fromkeys(_NATIVE_CUDA, op.cuda_limits.words())
        row = {}
        for backend in _backend.BACKENDS[1:]:
            device = "cuda" if backend in ("cuda", "triton") else "cpu"
            ready = f"ready ({remarks[backend]})" if backend in remarks else "ready"
            row[backend] = op.why_not(backend, device) or ready
        table[name] = row
    return table
