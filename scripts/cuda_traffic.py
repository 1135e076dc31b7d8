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
    worst = max(shared, key=lambda place: (shared[place][2], place), default=("", 0))
    return Counts(
        launches=found["launches"],
        compulsory=SECTOR * (len(found["read"]) + _within(found["written"], results)),
        by_block=SECTOR * found["block_sectors"],
        by_access=SECTOR * (found["sectors_read"] + found["sectors_written"]),
        words=sum(words for words, _, _ in shared.values()),
        wavefronts=sum(wavefronts for _, wavefronts, _ in shared.values()),
        ways=shared[worst][2] if shared else 0,
        worst=worst,
    )


def _within(sectors: Iterable[int], tensors: Sequence[Tensor]) -> int:
    """How many of the sectors lie in the tensors' memory."""
    inside: set[int] = set()
    for tensor in tensors:
        if tensor.numel() > 0:
            storage = tensor.untyped_storage()
            begin, end = storage.data_ptr(), storage.data_ptr() + storage.nbytes() - 1
            inside.update(range(begin // SECTOR, end // SECTOR + 1))
    return len(inside.intersection(sectors))


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


def _multigrid(h: int, w: int, family: str) -> Case:
    rhs, boundary = make_images(2, 1, h, w, dtype=torch.float32).split(1)
    mask = make_mask(family, h, w)[None]

    def args(iterations: int) -> tuple[Any, ...]:
        return rhs - 0.5, mask, boundary, "multigrid", 0.0, 0.0, iterations

    return Case("poisson_solve", args(_ITERATIONS), h * w, (args(1), args(2)))


def cases() -> dict[str, Case]:
    """What is counted, by the names of the table's rows."""
    return {
        f"poisson_solve: multigrid, {_ITERATIONS} iterations, {h} x {w}, {family}": _multigrid(
            h, w, family
        )
        for h, w in ((64, 64), (32, 32))
        for family in ("full", "disc", "noise")
    }


if __name__ == "__main__":
    print(json.dumps({name: row(case) for name, case in cases().items()}))
