# SPDX-License-Identifier: Apache-2.0
"""Count what Triton kernels read and write, in Triton's interpreter (TRITON_INTERPRET=1).

Run as a script, it prints the rows of benchmarks/gpu_resources.md as JSON.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from triton.runtime.interpreter import interpreter_builder

import ssad_kernels as sk
from ssad_kernels.testing import make_images
from ssad_kernels.triton import labels, medians

SECTOR = 32  # bytes
_TERABYTES = 3.0  # a second, of an H100
Sectors = NDArray[np.uint64]


class Counter:
    """Sectors of the accesses of all launches."""

    def __init__(self) -> None:
        self.launches = self.by_access = self.by_program = 0
        self.read: list[Sectors] = []
        self.written: list[Sectors] = []
        self._of_the_program: dict[str, list[Sectors]] = {"read": [], "written": []}

    def add(self, kind: str, pointers: Any, mask: Any) -> None:
        """Count one access of a program."""
        chosen = np.broadcast_to(mask.data, pointers.data.shape)
        sectors = np.unique(pointers.data[chosen] // SECTOR)
        self.by_access += len(sectors)
        self._of_the_program[kind].append(sectors)

    def end_program(self) -> None:
        """Sum up what the program that ran last has touched."""
        for kind, found in self._of_the_program.items():
            if found:
                sectors = np.unique(np.concatenate(found))
                self.by_program += len(sectors)
                getattr(self, kind).append(sectors)
                found.clear()


@contextlib.contextmanager
def counting() -> Iterator[Counter]:
    """Count all accesses of the kernels that run in the context."""
    counter, builder = Counter(), interpreter_builder
    kept = {name: getattr(builder, name) for name in _HOOKS}
    for name, make in _HOOKS.items():
        setattr(builder, name, make(counter, kept[name]))
    try:
        yield counter
        counter.end_program()
    finally:
        for name in _HOOKS:
            delattr(builder, name)  # the class has it


def _on_load(counter: Counter, load: Callable[..., Any]) -> Callable[..., Any]:
    def hook(pointers: Any, mask: Any, *rest: Any) -> Any:
        counter.add("read", pointers, mask)
        return load(pointers, mask, *rest)

    return hook


def _on_store(counter: Counter, store: Callable[..., Any]) -> Callable[..., Any]:
    def hook(pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        counter.add("written", pointers, mask)
        return store(pointers, value, mask, *rest)

    return hook


def _on_atomic(counter: Counter, atomic: Callable[..., Any]) -> Callable[..., Any]:
    def hook(operation: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        counter.add("read", pointers, mask)
        counter.add("written", pointers, mask)
        return atomic(operation, pointers, value, mask, *rest)

    return hook


def _on_launch(counter: Counter, begin: Callable[..., Any]) -> Callable[..., Any]:
    def hook(*grid: int) -> Any:
        counter.launches += 1
        return begin(*grid)

    return hook


def _on_program(counter: Counter, begin: Callable[..., Any]) -> Callable[..., Any]:
    def hook(*place: int) -> Any:
        counter.end_program()
        return begin(*place)

    return hook


_HOOKS = {
    "create_masked_load": _on_load,
    "create_masked_store": _on_store,
    "create_atomic_rmw": _on_atomic,
    "set_grid_dim": _on_launch,
    "set_grid_idx": _on_program,
}


def _within(found: Sequence[Sectors], tensors: Sequence[Tensor]) -> int:
    """How many different sectors lie in the tensors' memory."""
    sectors = np.unique(np.concatenate(found))
    inside = np.zeros(len(sectors), bool)
    for tensor in tensors:
        storage = tensor.untyped_storage()
        begin = storage.data_ptr() // SECTOR
        end = (storage.data_ptr() + storage.nbytes() - 1) // SECTOR
        inside |= (sectors >= begin) & (sectors <= end)
    return int(inside.sum())


class Case(NamedTuple):
    """A call of an op. `pixels` are those of the images that it makes or changes."""

    op: str
    args: tuple[Any, ...]
    pixels: int


def row(case: Case) -> list[str]:
    """The cells of a case."""
    with sk.use_backend("triton"), _tiles_of_a_gpu(), counting() as counter:
        outputs = getattr(torch.ops.ssad_kernels, case.op)(*case.args)
    outputs = outputs if isinstance(outputs, tuple | list) else (outputs,)
    given = [value for value in case.args if isinstance(value, Tensor)]
    written = [*outputs, *given[: case.op.endswith("_")]]
    compulsory = SECTOR * (_within(counter.read, given) + _within(counter.written, written))
    floor = compulsory / case.pixels / _TERABYTES  # bytes / (terabytes / s) = 1e-12 s
    return [
        str(counter.launches),
        str(compulsory),
        f"{SECTOR * counter.by_program / compulsory:.2f}",
        f"{SECTOR * counter.by_access / compulsory:.2f}",
        f"{floor:.2f}",
    ]


@contextlib.contextmanager
def _tiles_of_a_gpu() -> Iterator[None]:
    """The interpreter has larger tiles of windows, which would share more."""
    kept = medians.MEDIAN_BLOCK
    medians.MEDIAN_BLOCK = labels.MEDIAN_BLOCK = medians.GPU_MEDIAN_BLOCK
    try:
        yield
    finally:
        medians.MEDIAN_BLOCK = labels.MEDIAN_BLOCK = kept


_SIDE = 64
_FEW = 16  # rows where each pixel brings its window, which takes the interpreter its time


def cases() -> dict[str, Case]:
    """What is counted, by the names of the table's rows."""
    found = {}
    for dtype, name in ((torch.uint8, "uint8"), (torch.float32, "float32")):
        images = make_images(2, 3, _SIDE, _SIDE, dtype=dtype)
        other = make_images(2, 3, _SIDE, _SIDE, dtype=dtype, seed=1)
        shape = f"{name}, 3 x {_SIDE} x {_SIDE}"
        pixels = len(images) * _SIDE * _SIDE
        boxes = torch.tensor([[3, 5, 30, 40], [20, 9, 40, 30]])
        places = torch.tensor([[21, 11], [7, 30]])
        plain = sk.CutPasteParams.of(boxes, places)
        turned = sk.CutPasteParams.of(boxes, places, angle=torch.tensor([30.0, -75.0]))
        for patch, params in (("patch of 1200 px", plain), ("the same, rotated", turned)):
            args = (images.clone(), *params)
            found[f"cut_paste_: {shape}, {patch}"] = Case("cut_paste_", args, pixels)
        alpha, mask = torch.tensor([0.3, 0.8], dtype=torch.float64), torch.ones(2, 30, 40).bool()
        sizes = torch.tensor([[30, 40]] * 2)
        whole = torch.tensor([[0, 0, 30, 40]] * 2)
        args = (images.clone(), other, mask, places, sizes, None, whole, alpha, False)
        found[f"alpha_blend_: {shape}, patch of 1200 px"] = Case("alpha_blend_", args, pixels)
        found[f"object_mask: {shape}, bounds"] = Case(
            "object_mask", (images[:1], 15.0, 360.0, False, 7), pixels // 2
        )
        before, after = images[:1, :, :_FEW].contiguous(), other[:1, :, :_FEW].contiguous()
        region, rows = torch.ones(1, 1, _FEW, _SIDE, dtype=torch.bool), (torch.ones(1),) * 2
        for kind, given in (("binary", (None, None)), ("logistic", rows)):
            found[f"difference_label: {name}, 3 x {_FEW} x {_SIDE}, {kind}"] = Case(
                "difference_label",
                (before, after, region, kind, *given, None, 3.0, 5, 5),
                region.numel(),
            )
    scores = make_images(1, 1, 15, 15, dtype=torch.float32)
    found[f"receptive_field_upsample: float32, 15 x 15 to {_SIDE} x {_SIDE}, 9 px, stride 4"] = (
        Case(
            "receptive_field_upsample",
            (scores, (_SIDE, _SIDE), (9, 9), (4, 4), (0, 0), (2.0, 2.0), False, False),
            _SIDE * _SIDE,
        )
    )
    grey = make_images(1, 1, _SIDE, _SIDE)
    few = grey[:, :, :_FEW].contiguous()
    found[f"median_filter: uint8, {_FEW} x {_SIDE}, disk of radius 5"] = Case(
        "median_filter", (few, 5, False, None), few.numel()
    )
    found[f"connected_components: {_SIDE} x {_SIDE}, 40 % noise"] = Case(
        "connected_components", (grey < 102,), grey.numel()
    )
    return found


if __name__ == "__main__":
    with np.errstate(invalid="ignore"):
        print(json.dumps({name: row(case) for name, case in cases().items()}))
