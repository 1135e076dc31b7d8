# SPDX-License-Identifier: Apache-2.0
"""Code traced on GPU tensors that have no memory, with no GPU needed, and what its graph may hold.

A tensor on the CPU would be a copy to the host or from it: both wait for the device, and neither
can be captured in a CUDA graph. So would whatever reads a value, and a shape that hangs on one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves

from ssad_kernels import _backend

aten = torch.ops.aten
WAITING = {
    aten._local_scalar_dense,
    aten.item,
    aten.nonzero,
    aten.masked_select,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.repeat_interleave,
    aten.is_nonzero,
    aten.equal,
}


def graph_of(function: Callable[..., Any], *args: Tensor) -> torch.fx.Graph:
    """What a function does to fake tensors."""
    graph: torch.fx.Graph = make_fx(function, tracing_mode="fake")(*args).graph
    return graph


def check_graph(graph: torch.fx.Graph) -> set[str]:
    """Names of the library's ops in a graph that never waits; fails for another."""
    names = set()
    for node in graph.nodes:
        for value in tree_leaves(node.meta.get("val")):
            assert not isinstance(value, Tensor) or value.is_cuda, (node.format_node(), value)
        packet = getattr(node.target, "overloadpacket", None)
        # Repeats by a number are no data.
        is_waiting = packet in WAITING and node.target is not aten.repeat_interleave.self_int
        assert not is_waiting, node.format_node()
        if getattr(node.target, "namespace", "") == "ssad_kernels":
            names.add(packet.__name__)
    return names


def faked(op: str, args: tuple[Any, ...]) -> list[Any]:
    """Arguments of an op as its kernels get them, with fake tensors; in a `FakeTensorMode`."""
    schema = getattr(torch.ops.ssad_kernels, op).default._schema

    def fake(value: Any, kind: str) -> Any:
        if isinstance(value, Tensor):
            options: dict[str, Any] = {"dtype": value.dtype, "device": "cuda"}
            return torch.empty_strided(value.shape, value.stride(), **options)
        return [float(x) for x in value] if kind == "List[float]" else value

    kinds = (str(argument.type) for argument in schema.arguments)
    return [fake(value, kind) for value, kind in zip(args, kinds, strict=True)]


class _Native:
    """Stands in for the extension: takes note of what is called, but for sizes of memory."""

    def __init__(self, launches: list[str], extension: Any) -> None:
        self.launches, self.extension = launches, extension

    def __getattr__(self, name: str) -> Any:
        if name.endswith("_size"):
            return getattr(self.extension, name)
        return lambda *args: self.launches.append(name)


def _fake_tables(device: torch.device) -> Tensor:
    return torch.empty(3, 1025, dtype=torch.float64, device=device)


@contextlib.contextmanager
def recorded_launches() -> Iterator[list[str]]:
    """The names of the kernels that are launched, Triton's and the extension's; none runs."""
    from triton.runtime.jit import JITFunction

    from ssad_kernels.triton import nsa_sample

    launches: list[str] = []

    def run(self: Any, *args: Any, grid: tuple[int, ...], warmup: bool, **options: Any) -> None:
        assert all(isinstance(size, int) for size in grid)  # none depends on values
        launches.append(self.__name__)

    with (
        mock.patch.object(JITFunction, "run", run),
        # There need be no driver.
        mock.patch.object(torch.cuda, "device_of", return_value=contextlib.nullcontext()),
        # Brought to each GPU once, before any capture; fake ones must not be kept.
        mock.patch.object(nsa_sample, "_tables", _fake_tables),
        mock.patch.object(_backend, "native", _Native(launches, _backend.native)),
        mock.patch.object(_backend, "stream_of", return_value=0),
        mock.patch.object(FakeTensor, "data_ptr", return_value=0, create=True),
    ):
        yield launches
