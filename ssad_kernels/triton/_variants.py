# SPDX-License-Identifier: Apache-2.0
"""Which specialisations of the kernels to compile without a GPU, for tests and resource tables."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from triton.compiler import ASTSource


class Variant(NamedTuple):
    """One specialisation of a kernel, as its launcher would ask for it.

    Attributes:
        kernel: the ``@triton.jit`` function.
        pointers: Triton's type of each pointer, "*u8", by argument; integers are "i32".
        constants: values of the ``tl.constexpr`` arguments, and of integers that are 1.
        options: options of the launch.
    """

    kernel: Any
    pointers: Mapping[str, str]
    constants: Mapping[str, Any]
    options: Mapping[str, Any] = {}

    @property
    def name(self) -> str:
        """The kernel's name and the type of its first pointer."""
        return f"{self.kernel.__name__}[{next(iter(self.pointers.values()))[1:]}]"

    def source(self) -> ASTSource:
        """What `triton.compile` takes."""
        signature, attributes = {}, {}
        for param in self.kernel.params:
            if param.name in self.constants:
                signature[param.name] = "constexpr"
            elif param.name in self.pointers:
                signature[param.name] = self.pointers[param.name]
                # PyTorch's allocations are aligned to more than the 16 bytes that Triton looks for.
                attributes[(param.num,)] = [["tt.divisibility", 16]]
            else:
                signature[param.name] = param.annotation_type or "i32"
        return ASTSource(self.kernel, signature, dict(self.constants), attributes)
