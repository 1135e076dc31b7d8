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


_SIDE = 256  # of images, as users have them: what tiles share at their edges weighs less there
_FEW = 16, 64  # rows and columns where each pixel brings its window, which takes its time
_COLOURS = ((1.1, 0.9, 1.05, 0.05),)  # a jitter with contrast


def cases() -> dict[str, Case]:
    """What is counted, by the names of the table's rows."""
    found = {}
    pixels = _SIDE * _SIDE
    for dtype, name in ((torch.uint8, "uint8"), (torch.float32, "float32")):
        images = make_images(1, 3, _SIDE, _SIDE, dtype=dtype)
        other = make_images(1, 3, _SIDE, _SIDE, dtype=dtype, seed=1)
        shape = f"{name}, 3 x {_SIDE} x {_SIDE}"
        box, place = torch.tensor([[13, 21, 70, 90]]), torch.tensor([[121, 91]])
        for patch, numbers in (
            ("patch of 6300 px", {}),
            ("the same, rotated", {"angle": torch.tensor([30.0])}),
            ("the same, with contrast", {"jitter": torch.tensor(_COLOURS)}),
            ("the same, over itself", {"target": torch.tensor([[60, 70]])}),
            ("the same, turned by half, shifted", {"turns": [2], "shift": [[128, 128]]}),
            ("the same, turned by a quarter", {"turns": [1]}),
        ):
            params = sk.CutPasteParams.of(box, **{"target": place, **numbers})
            args = (images.clone(), *params)
            found[f"cut_paste_: {shape}, {patch}"] = Case("cut_paste_", args, pixels)
        alpha, mask = torch.tensor([0.3], dtype=torch.float64), torch.ones(1, 70, 90).bool()
        sizes, whole = torch.tensor([[70, 90]]), torch.tensor([[0, 0, 70, 90]])
        args = (images.clone(), other, mask, place, sizes, None, whole, alpha, False)
        found[f"alpha_blend_: {shape}, patch of 6300 px"] = Case("alpha_blend_", args, pixels)
        found[f"object_mask: {shape}, bounds"] = Case(
            "object_mask", (images, 15.0, 360.0, False, 7), pixels
        )
        region = torch.ones(1, 1, _SIDE, _SIDE, dtype=torch.bool)
        found[f"difference_label: {shape}, binary"] = Case(
            "difference_label",
            (images, other, region, "binary", None, None, None, 3.0, 5, 5),
            pixels,
        )
        masks = sk.cell_masks(sk.make_keys(0, 0, 0), _SIDE, 4)
        found[f"mask_images: {shape}, 3 masks"] = Case("mask_images", (images, masks), pixels)
        rows, columns = _FEW
        few = [image[..., :rows, :columns].contiguous() for image in (images, other, region)]
        ones = (torch.ones(1),) * 2
        found[f"difference_label: {name}, 3 x {rows} x {columns}, logistic"] = Case(
            "difference_label", (*few, "logistic", *ones, None, 3.0, 5, 5), rows * columns
        )
    images = make_images(4, 3, _SIDE, _SIDE, dtype=torch.float32)
    outputs = images[:3].unsqueeze(0)
    found[f"composite: float32, 3 x 3 x {_SIDE} x {_SIDE}"] = Case(
        "composite", (outputs, masks, images[3:]), pixels
    )
    for cell in (2, 8):
        row_of = torch.tensor([cell])
        arguments = (sk.make_keys(0, 0, 0), 10, _SIDE, _SIDE, row_of, 3, "split", 0.0)
        name = f"cell_masks: {_SIDE} x {_SIDE}, 3 masks, cells of {cell}"
        found[name] = Case("cell_masks", arguments, pixels)
        rule = (row_of, torch.tensor([0.5], dtype=torch.float64), 0.8)
        name = f"refine_cells: float32, {_SIDE} x {_SIDE}, 3 masks, cells of {cell}"
        found[name] = Case("refine_cells", (images[:1, :1], masks, *rule), pixels)
    scores = make_images(1, 1, 57, 57, dtype=torch.float32)
    found[f"receptive_field_upsample: float32, 57 x 57 to {_SIDE} x {_SIDE}, 32 px, stride 4"] = (
        Case(
            "receptive_field_upsample",
            (scores, (_SIDE, _SIDE), (32, 32), (4, 4), (0, 0), (10.0, 10.0), False, False),
            pixels,
        )
    )
    lattice = sk.make_keys(0, 0, 0), 0, (_SIDE, _SIDE), torch.tensor([[16, 16]])
    for name, angle in (("upright", None), ("turned", torch.tensor([33.0]))):
        found[f"perlin_noise: {_SIDE} x {_SIDE}, 16 x 16 cells, {name}"] = Case(
            "perlin_noise", (*lattice, angle), pixels
        )
    small = 1, 3, 64, 64  # each pixel brings its window here too
    pair = tuple(make_images(*small, dtype=torch.float32, seed=seed) for seed in (0, 1))
    for op, args in (
        ("gms_map", (*pair, 4, 0.0026)),
        ("gms_loss", (*pair, 4, 0.0026)),
        ("gms_loss_backward", (torch.ones(1), *pair, 4, 0.0026)),
        ("ssim_map", (*pair, 11, 1.5)),
        ("ssim_map_backward", (torch.ones(small), *pair, 11, 1.5)),
    ):
        found[f"{op}: float32, 3 x 64 x 64"] = Case(op, args, 64 * 64)
    grey = make_images(1, 1, 64, 64)
    strip = grey[:, :, : _FEW[0]].contiguous()
    found["median_filter: uint8, 16 x 64, disk of radius 5"] = Case(
        "median_filter", (strip, 5, False, None), strip.numel()
    )
    found["connected_components: 64 x 64, 40 % noise"] = Case(
        "connected_components", (grey < 102,), grey.numel()
    )
    return found


if __name__ == "__main__":
    with np.errstate(invalid="ignore"):
        print(json.dumps({name: row(case) for name, case in cases().items()}))
