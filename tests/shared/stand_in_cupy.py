# SPDX-License-Identifier: Apache-2.0
"""A stand-in for CuPy: its arrays' protocols and attributes, over memory of the CPU."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor


class ndarray:  # noqa: N801  # CuPy's name
    """What the library asks of a `cupy.ndarray`."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.device = SimpleNamespace(id=1)

    shape = property(lambda self: tuple(self.tensor.shape))
    ndim = property(lambda self: self.tensor.dim())
    strides = property(
        lambda self: tuple(step * self.tensor.element_size() for step in self.tensor.stride())
    )

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        address = (self.tensor.data_ptr(), False)
        return {"shape": self.shape, "strides": self.strides, "data": address, "version": 3}

    def __dlpack_device__(self) -> Any:
        return self.tensor.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        return self.tensor.__dlpack__(**options)

    def __len__(self) -> int:
        return len(self.tensor)

    def transpose(self, *axes: int) -> ndarray:
        return ndarray(self.tensor.permute(*axes))


class Flipped(ndarray):
    """An array that runs backwards, as tensors cannot: it is stored forwards."""

    strides = property(lambda self: (-1,))

    def copy(self) -> ndarray:
        return ndarray(self.tensor.flip(0))


def make_cupy(address: int) -> ModuleType:
    """A module whose current stream has an address."""
    module = ModuleType("cupy")
    module.ndarray = ndarray  # type: ignore[attr-defined]
    module.from_dlpack = lambda x: ndarray(torch.from_dlpack(x))  # type: ignore[attr-defined]
    stream = SimpleNamespace(ptr=address)
    module.cuda = SimpleNamespace(  # type: ignore[attr-defined]
        get_current_stream=lambda gpu: stream if gpu == 1 else None
    )
    return module
