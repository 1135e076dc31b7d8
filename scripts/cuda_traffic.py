# SPDX-License-Identifier: Apache-2.0
"""Count what CUDA kernels read and write, in an extension that emulates them (SSAD_CUDA=EMULATED).

Run as a script, it prints the rows of benchmarks/gpu_resources.md as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

import ssad_kernels as sk
from ssad_kernels import _backend
from ssad_kernels.testing import make_images, make_mask

SECTOR = 32  # bytes
# Of an H100, a second; shared memory serves a wavefront, 128 bytes, at a time.
_TERABYTES, _SHARED_TERABYTES, _WAVEFRONT = 3.0, 29.0, 128


class Case(NamedTuple):
    """A call of an op. `pixels` are those of the images that it makes or changes."""

    op: str
    args: tuple[Any, ...]
    pixels: int
    # The arguments of two calls of which the second does one iteration more, if the op iterates.
    one_more: tuple[tuple[Any, ...], tuple[Any, ...]] | None = None


class Counts(NamedTuple):
    """What a call did."""

    launches: int
    compulsory: int  # bytes
    by_block: int
    by_access: int
    words: int
    wavefronts: int
    ways: int
    worst: tuple[str, int]  # a line where the most lanes wait for each other


def count(op: str, args: tuple[Any, ...]) -> Counts:
    """Run an op and count."""
    emulation = _backend.native._emulation
    args = tuple(value.clone() if isinstance(value, Tensor) else value for value in args)
    emulation.set_order("forward", 0)
    emulation.count_traffic()
    emulation.take_counts()
    try:
        with sk.use_backend("cuda-emulated"):
            outputs = getattr(torch.ops.ssad_kernels, op)(*args)
        found = emulation.take_counts()
    finally:
        emulation.set_order("forward", 0)
    outputs = outputs if isinstance(outputs, tuple | list) else (outputs,)
    results = [*outputs, *args[: op.endswith("_")]]
    shared = found["shared"]
    written = _within(found["written"], results)
    scratch = set(found["written"]) - written
    worst = max(shared, key=lambda place: (shared[place][2], place), default=("", 0))
    return Counts(
        launches=found["launches"],
        compulsory=SECTOR * (len(set(found["read"]) - scratch) + len(written)),
        by_block=SECTOR * found["block_sectors"],
        by_access=SECTOR * (found["sectors_read"] + found["sectors_written"]),
        words=sum(words for words, _, _ in shared.values()),
        wavefronts=sum(wavefronts for _, wavefronts, _ in shared.values()),
        ways=shared[worst][2] if shared else 0,
        worst=worst,
    )


def _within(sectors: Iterable[int], tensors: Sequence[Tensor]) -> set[int]:
    """The sectors that lie in the tensors' memory."""
    inside: set[int] = set()
    for tensor in tensors:
        if tensor.numel() > 0:
            storage = tensor.untyped_storage()
            begin, end = storage.data_ptr(), storage.data_ptr() + storage.nbytes() - 1
            inside.update(range(begin // SECTOR, end // SECTOR + 1))
    return inside.intersection(sectors)


def row(case: Case) -> list[str]:
    """The cells of a case."""
    found = count(case.op, case.args)
    of_iteration = ["-", "-"]
    if case.one_more:
        before, after = (count(case.op, args) for args in case.one_more)
        of_iteration = [
            f"{(after.words - before.words) / case.pixels:.1f}",
            f"{(after.wavefronts - before.wavefronts) / case.pixels:.2f}",
        ]
    memory = found.compulsory / _TERABYTES / case.pixels  # 1e-12 s a pixel: µs a megapixel
    shared = _WAVEFRONT * found.wavefronts / _SHARED_TERABYTES / case.pixels
    return [
        str(found.launches),
        str(found.compulsory),
        f"{found.by_block / found.compulsory:.2f}",
        f"{found.by_access / found.compulsory:.2f}",
        *of_iteration,
        f"{found.wavefronts / case.pixels:.2f}",
        str(found.ways),
        f"{memory:.2f} / {shared:.2f}",
    ]


_ITERATIONS = 8


_IMAGE = 256  # a side


def _iterations(solver: str, side: int, family: str) -> Case:
    rhs, boundary = make_images(2, 1, side, side, dtype=torch.float32).split(1)
    mask = make_mask(family, side, side)[None]

    def args(iterations: int) -> tuple[Any, ...]:
        return rhs - 0.5, mask, boundary, solver, 0.0, 0.0, iterations

    return Case("poisson_solve", args(_ITERATIONS), side * side, (args(1), args(2)))


def _sines(side: int) -> Case:
    rhs, boundary = make_images(2, 1, side, side, dtype=torch.float32).split(1)
    return Case("poisson_solve", (rhs, None, boundary, "sine", 0.0, 0.0, 1), side * side)


def _blend(side: int, dtype: torch.dtype) -> Case:
    target, source = make_images(2, 3, _IMAGE, _IMAGE, dtype=dtype).split(1)
    mask = torch.ones(1, side, side, dtype=torch.bool)
    box = torch.tensor([[40, 70, side, side]])
    place, gradient = torch.tensor([[101, 30]]), torch.zeros(1, dtype=torch.int64)
    rows = (mask, place, None, None, box, gradient, None, None)
    tol = 0.1 if dtype == torch.uint8 else 0.1 / 255  # a tenth of a grey level
    stop = ("mask", "multigrid", tol, 0.0, 40)
    return Case("poisson_blend_", (target, source, *rows, *stop), 3 * side * side)


def _label(dtype: torch.dtype) -> Case:
    before, after = make_images(2, 3, _IMAGE, _IMAGE, dtype=dtype).split(1)
    region, row = torch.ones(1, 1, _IMAGE, _IMAGE, dtype=torch.bool), torch.ones(1)
    threshold = 3.0 if dtype == torch.uint8 else 3.0 / 255
    args = (before, after, region, "logistic", row, row, None, threshold, 5, 5)
    return Case("difference_label", args, _IMAGE * _IMAGE)


def cases() -> dict[str, Case]:
    """What is counted, by the names of the table's rows."""
    found = {
        f"poisson_solve: {solver}, {_ITERATIONS} iterations, {side} x {side}, {family}": (
            _iterations(solver, side, family)
        )
        for solver, side, families in (
            ("multigrid", 128, ("full", "disc")),
            ("multigrid", 64, ("full", "disc", "noise")),
            ("multigrid", 32, ("full", "disc", "noise")),
            ("jacobi", 64, ("disc",)),
            ("sor", 32, ("disc",)),
        )
        for family in families
    }
    for side in (32, 64, 128):
        found[f"poisson_solve: sine, {side} x {side}"] = _sines(side)
    grey = make_images(1, 1, _IMAGE, _IMAGE)
    images = f"{_IMAGE} x {_IMAGE}"
    found[f"median_filter: uint8, {images}, disk of radius 5"] = Case(
        "median_filter", (grey, 5, False, None), grey.numel()
    )
    found[f"median_filter: bool, {images}, square of 5"] = Case(
        "median_filter", (grey > 99, 2, True, None), grey.numel()
    )
    for dtype, name in ((torch.uint8, "uint8"), (torch.float32, "float32")):
        found[f"difference_label: {name}, 3 x {images}, logistic"] = _label(dtype)
        for side in (32, 64):
            patch = f"{name}, 3 x {side} x {side} in {images}"
            found[f"poisson_blend_: {patch}"] = _blend(side, dtype)
    return found


if __name__ == "__main__":
    print(json.dumps({name: row(case) for name, case in cases().items()}))
