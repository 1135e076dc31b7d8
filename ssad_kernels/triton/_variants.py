# SPDX-License-Identifier: Apache-2.0
"""Compiling kernels without a GPU, for tests and resource tables."""

import importlib
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel


class Resources(NamedTuple):
    """What a kernel takes: registers and bytes of stack a thread, shared bytes and threads a block.

    Nothing here keeps arrays on the stack, so that any stack means spilled registers.
    """

    registers: int
    stack: int
    shared: int
    threads: int


class Variant(NamedTuple):
    """One specialisation of a kernel, as its launcher would ask for it.

    Attributes:
        kernel: the ``@triton.jit`` function.
        pointers: Triton's type of each pointer, "*u8", by argument.
        constants: values of the ``tl.constexpr`` arguments, and of integers that are 1.
        options: options of the launch.
        integer: Triton's type of all other integers.
        is_narrow: whether its launcher sees to it that integers fit 32 bits.
    """

    kernel: Any
    pointers: Mapping[str, str]
    constants: Mapping[str, Any]
    options: Mapping[str, Any] = {}
    integer: str = "i32"
    is_narrow: bool = False

    def compile(self, capability: int) -> CompiledKernel:
        """Compile for a compute capability, 80 for sm_80."""
        signature, attributes = {}, {}
        for param in self.kernel.params:
            if param.name in self.constants:
                signature[param.name] = "constexpr"
            elif param.name in self.pointers:
                signature[param.name] = self.pointers[param.name]
                # PyTorch's allocations are aligned to more than the 16 bytes that Triton looks for.
                attributes[(param.num,)] = [["tt.divisibility", 16]]
            else:
                signature[param.name] = param.annotation_type or self.integer
        source = ASTSource(self.kernel, signature, dict(self.constants), attributes)
        return triton.compile(source, GPUTarget("cuda", capability, 32), dict(self.options))


def resources(kernel: CompiledKernel) -> Resources:
    """Read a compiled kernel's needs with the cuobjdump that Triton brings along."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        report = subprocess.run(
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    usage = {key: int(value) for key, value in re.findall(r"\b(REG|STACK):(\d+)", report)}
    needs = kernel.metadata  # shared memory is all dynamic; the report's is the system's
    return Resources(usage["REG"], usage["STACK"], needs.shared, 32 * needs.num_warps)


def every() -> dict[str, Variant]:
    """All variants of all kernels, by names that say in what those of a kernel differ."""
    folder, kernels = Path(__file__).parent, dict[str, list[Variant]]()
    for path in sorted(folder.glob("[a-z]*.py")):
        module = importlib.import_module(f"{__package__}.{path.stem}")
        for variant in getattr(module, "VARIANTS", ()):
            kernels.setdefault(variant.kernel.__name__, []).append(variant)
    return {
        f"{kernel}[{', '.join(label)}]" if label else kernel: variant
        for kernel, variants in kernels.items()
        for label, variant in zip(_labels(variants), variants, strict=True)
    }


def _labels(variants: Sequence[Variant]) -> list[tuple[str, ...]]:
    """What tells variants of a kernel apart, in as few arguments as they come."""
    facets = [{**v.pointers, **v.constants, **v.options} for v in variants]
    labels: list[tuple[str, ...]] = [()] * len(variants)
    for name in {name: None for own in facets for name in own}:
        longer = [
            (*label, f"{name}={own[name]}".replace("*", "")) if name in own else label
            for label, own in zip(labels, facets, strict=True)
        ]
        if len(set(longer)) > len(set(labels)):
            labels = longer
    return labels
