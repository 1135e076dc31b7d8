# SPDX-License-Identifier: Apache-2.0
"""Compiling kernels without a GPU, for tests and resource tables."""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel


class Resources(NamedTuple):
    """What a kernel takes: registers and bytes of stack a thread, bytes of shared memory a block.

    Nothing here keeps arrays on the stack, so that any stack means spilled registers.
    """

    registers: int
    stack: int
    shared: int


class Variant(NamedTuple):
    """One specialisation of a kernel, as its launcher would ask for it.

    Attributes:
        kernel: the ``@triton.jit`` function.
        pointers: Triton's type of each pointer, "*u8", by argument.
        constants: values of the ``tl.constexpr`` arguments, and of integers that are 1.
        options: options of the launch.
        integer: Triton's type of all other integers.
    """

    kernel: Any
    pointers: Mapping[str, str]
    constants: Mapping[str, Any]
    options: Mapping[str, Any] = {}
    integer: str = "i32"

    def __str__(self) -> str:
        """The kernel's name, the type of its first pointer and the strides that are 1."""
        strides = [name for name in self.constants if name.startswith("stride")]
        pointer = next(iter(self.pointers.values()))[1:]
        return f"{self.kernel.__name__}[{', '.join([pointer, *strides])}]"

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
    usage = {key: int(value) for key, value in re.findall(r"\b(REG|STACK|SHARED):(\d+)", report)}
    return Resources(usage["REG"], usage["STACK"], usage["SHARED"] + kernel.metadata.shared)
