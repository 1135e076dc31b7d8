# SPDX-License-Identifier: Apache-2.0
"""Registration of operators: schema, checks, allocation and one kernel per backend."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch

from ssad_kernels import _backend

Kernel = Callable[..., Any]

# Must stay alive: torch forgets the operators of a Library that is collected.
_LIBRARY = torch.library.Library("ssad_kernels", "DEF")
_OPS: dict[str, _Op] = {}


class _Op:
    """An operator's kernels, by backend."""

    def __init__(self, name: str, kernels: dict[str, Kernel]) -> None:
        self.name = name
        self.kernels = kernels
        self._chosen: dict[tuple[str, str], tuple[str, Kernel]] = {}

    def why_not(self, backend: str, device_type: str) -> str:
        if backend not in self.kernels:
            return f"{self.name} has no {backend} kernel"
        return _backend.unavailable(backend, device_type)

    def choose(self, device_type: str) -> tuple[str, Kernel]:
        """The backend and kernel that run for tensors of a device."""
        key = (_backend.active(), device_type)
        if key not in self._chosen:
            self._chosen[key] = self._choose(device_type)
        return self._chosen[key]

    def _choose(self, device_type: str) -> tuple[str, Kernel]:
        reasons = []
        for backend in _backend.candidates(device_type):
            reason = self.why_not(backend, device_type)
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
        triton: the same in Triton.
        setup_context: with ``backward``, as `torch.library.register_autograd` takes them.
        backward: the gradient, in differentiable torch and ops.
    """
    name = schema[: schema.index("(")]
    kernels = {"cpu": cpu, "triton": triton, "reference": reference}
    op = _Op(name, {backend: kernel for backend, kernel in kernels.items() if kernel is not None})
    _OPS[name] = op

    is_in_place = "(a!)" in schema

    def run(*args: Any, device_type: str) -> Any:
        check(*args)
        backend, kernel = op.choose(device_type)
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
        instruction set that was chosen when the library was loaded.
    """
    level = f"ready ({_backend.native.cpu_level})" if _backend.native is not None else ""
    table = {}
    for name, op in sorted(_OPS.items()):
        row = {}
        for backend in _backend.BACKENDS[1:]:
            device = "cpu" if backend in ("cpu", "reference") else "cuda"
            ready = level if backend == "cpu" else "ready"
            row[backend] = op.why_not(backend, device) or ready
        table[name] = row
    return table
