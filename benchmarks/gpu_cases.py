# SPDX-License-Identifier: Apache-2.0
"""What `make gpu` measures on a GPU: ours, a peer, and how far their results may differ.

Every case is built for a device, so that the tests build and time small ones on a CPU.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness import optional, quartiles, require
from perlin_peers import Separable, our_vectors
from ssad_kernels import make_keys, median_filter, perlin_noise, poisson_blend, poisson_solve
from ssad_kernels.testing import make_images, make_mask
from ssad_kernels.transforms import NSA, CutPaste, PerlinAnomaly
from upsample_peers import GEOMETRIES, convolution, products, upsample

Call = Callable[[], Tensor]
_ROUND_SECONDS = 0.01


class GpuCase(NamedTuple):
    """One operation on a GPU, against one peer.

    Attributes:
        op, shape: as text.
        items: images of a call; times are told per image.
        ours, theirs: do the work once; theirs may be of a CPU.
        peer: name of what ours is compared with.
        tolerance: largest difference of the results, in their own unit.
        is_on_cpu: whether the peer is timed there.
    """

    op: str
    shape: str
    items: int
    ours: Call
    peer: str
    theirs: Call
    tolerance: float
    is_on_cpu: bool = False


def seconds(call: Call, device: str, repeats: int) -> float:
    """Time of one of so many calls: between two events of a GPU's stream, or of a CPU's clock."""
    if device == "cpu":
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        return (time.perf_counter() - start) / repeats
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeats):
        call()
    end.record()
    end.synchronize()  # the host has only launched the work so far
    return begin.elapsed_time(end) / 1000 / repeats


def measure(case: GpuCase, device: str, rounds: int = 20) -> dict[str, Any]:
    """A row of the results: times of both, taken in turns, after their results were compared."""
    difference = (case.ours().cpu().double() - case.theirs().cpu().double()).abs().max().item()
    row: dict[str, Any] = {"op": case.op, "shape": case.shape, "peer": case.peer}
    row |= {"items": case.items, "difference": difference, "tolerance": case.tolerance}
    if not difference <= case.tolerance:
        return row | {"skipped": f"results differ by {difference:.3g}"}
    sides = [(case.ours, device), (case.theirs, "cpu" if case.is_on_cpu else device)]
    repeats = []
    for call, where in sides:
        once = statistics.median(seconds(call, where, 1) for _ in range(3))  # warms up as well
        repeats.append(max(1, math.ceil(_ROUND_SECONDS / max(once, 1e-6))))
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for taken, (call, where), count in zip(times, sides, repeats, strict=True):
            taken.append(seconds(call, where, count))
    ratios = [theirs / ours for ours, theirs in zip(*times, strict=True)]
    in_us = [[t * 1e6 / case.items for t in quartiles(taken)] for taken in times]
    return row | {"ours_us": in_us[0], "peer_us": in_us[1], "speed_up": quartiles(ratios)}


def sine_matrix(n: int, device: str) -> tuple[Tensor, Tensor]:
    """The sine transform of n points, its own inverse, and the eigenvalues of its modes."""
    k = torch.arange(1, n + 1, device=device).double()
    matrix = (k[:, None] * k * math.pi / (n + 1)).sin() * math.sqrt(2 / (n + 1))
    return matrix.float(), 2 * (k * math.pi / (n + 1)).cos() - 2


def _inner(rhs: Tensor, boundary: Tensor) -> Tensor:
    """The right-hand side of the inner pixels, with what is known around them."""
    right = rhs[..., 1:-1, 1:-1].clone()
    right[..., 0, :] -= boundary[..., 0, 1:-1]
    right[..., -1, :] -= boundary[..., -1, 1:-1]
    right[..., :, 0] -= boundary[..., 1:-1, 0]
    right[..., :, -1] -= boundary[..., 1:-1, -1]
    return right


def solve_with_products(rhs: Tensor, boundary: Tensor) -> Call:
    """Sine transforms as torch's matrix products, made before."""
    device = str(rhs.device)
    rows, high = sine_matrix(rhs.shape[-2] - 2, device)
    columns, wide = sine_matrix(rhs.shape[-1] - 2, device)
    scale = (1 / (high[:, None] + wide)).float()

    def solve() -> Tensor:
        out = boundary.clone()
        modes = rows @ _inner(rhs, boundary) @ columns * scale
        out[..., 1:-1, 1:-1] = rows @ modes @ columns
        return out

    return solve


def solve_with_fft(rhs: Tensor, boundary: Tensor, arrays: Any, as_array: Any) -> Call:
    """Sine transforms as Fourier transforms of odd extensions, by CuPy's cuFFT or NumPy."""
    h, w = rhs.shape[-2] - 2, rhs.shape[-1] - 2
    high, wide = (2 * arrays.cos(arrays.arange(1, n + 1) * (math.pi / (n + 1))) - 2 for n in (h, w))
    scale = (1 / (high[:, None] + wide) / (4 * (h + 1) * (w + 1))).astype("float32")

    def transform(x: Any, axis: int) -> Any:
        n = x.shape[axis]
        zeros = arrays.zeros_like(arrays.take(x, arrays.arange(1), axis=axis))
        odd = arrays.concatenate([zeros, x, zeros, -arrays.flip(x, axis)], axis=axis)
        whole = -arrays.fft.rfft(odd, axis=axis).imag
        return arrays.take(whole, arrays.arange(1, n + 1), axis=axis)

    def solve() -> Tensor:
        right = as_array(_inner(rhs, boundary))
        modes = transform(transform(right, -1), -2) * scale
        out = boundary.clone()
        solved = transform(transform(modes, -1), -2)
        out[..., 1:-1, 1:-1] = torch.from_dlpack(solved.astype("float32"))
        return out

    return solve


def _poisson(device: str, n: int, side: int) -> Iterator[Callable[[], GpuCase]]:
    generator = torch.Generator().manual_seed(side)
    rhs, boundary = (torch.rand(n, 3, side, side, generator=generator) for _ in range(2))
    there = rhs.to(device), boundary.to(device)
    shape = f"{n}x3x{side}x{side} float32"

    def ours() -> Tensor:
        return poisson_solve(there[0], None, there[1], solver="sine")

    def on_cpu() -> Tensor:
        return poisson_solve(rhs, None, boundary, solver="sine")

    def rectangle(peer: str, theirs: Call, is_on_cpu: bool = False) -> GpuCase:
        return GpuCase("poisson_solve, sine", shape, n, ours, peer, theirs, 0.02, is_on_cpu)

    def by_fft() -> Call:
        if device == "cpu":
            import numpy as np

            return solve_with_fft(*there, np, lambda x: x.numpy())
        cupy = optional("cupy")
        require(cupy, "CuPy (pip install cupy-cuda12x or cupy-cuda13x)")
        return solve_with_fft(*there, cupy, cupy.from_dlpack)

    yield lambda: rectangle("CuPy, cuFFT" if device != "cpu" else "NumPy", by_fft())
    yield lambda: rectangle("torch, matrix products", solve_with_products(*there))
    yield lambda: rectangle("the same on the CPU", on_cpu, True)
    masks = torch.stack([make_mask("blobs", side, side, seed=i) for i in range(n)])
    moved = there[0], masks.to(device), there[1]
    yield lambda: GpuCase(
        "poisson_solve, multigrid", shape, n, lambda: poisson_solve(*moved, solver="multigrid"),
        "the same on the CPU", lambda: poisson_solve(rhs, masks, boundary, solver="multigrid"),
        0.02, is_on_cpu=True,
    )  # fmt: skip


def _upsampling(device: str, n: int) -> Iterator[Callable[[], GpuCase]]:
    peers = {"torch conv_transpose2d": convolution, "torch, matrix products": products}
    for name, geometry in GEOMETRIES.items():
        side = geometry.features
        scores = torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(0)).to(device)
        shape = f"{n}x1x{side}x{side} to {geometry.size}x{geometry.size} float32"
        for peer, make in peers.items():
            yield lambda g=geometry, s=scores, m=make, p=peer, t=shape, o=name: GpuCase(
                f"receptive_field_upsample, {o}", t, n, lambda: upsample(g, s), p, m(g, s), 1e-2
            )


def _medians(device: str, n: int, side: int) -> Iterator[Callable[[], GpuCase]]:
    generator = torch.Generator().manual_seed(1)
    masks = (torch.rand(n, 1, side, side, generator=generator) > 0.5).to(device)
    inner = (..., slice(2, -2), slice(2, -2))  # beyond the image kornia has zeros

    def build() -> GpuCase:
        kornia = optional("kornia")
        require(kornia, "kornia")
        theirs = lambda: kornia.filters.median_blur(masks.float(), 5)[inner]  # noqa: E731
        ours = lambda: median_filter(masks, size=5)[inner]  # noqa: E731
        return GpuCase(
            "median_filter, 5x5", f"{n}x1x{side}x{side} bool", n, ours, "kornia", theirs, 0
        )

    yield build


def _noise(device: str, n: int, side: int) -> Iterator[Callable[[], GpuCase]]:
    keys, lattice = make_keys(0, 0, torch.arange(n)), (16, 16)
    vectors = torch.stack([our_vectors(key, 0, lattice) for key in keys.split(1)]).to(device)
    cells = torch.tensor([lattice]).expand(n, 2).contiguous()
    there, products = (keys.to(device), cells.to(device)), Separable(side, side, device)
    case = "perlin_noise, 16 x 16 cells", f"{n}x1x{side}x{side} float32", n
    ours = lambda: perlin_noise(there[0], side, there[1], stream=0)  # noqa: E731
    on_cpu = lambda: perlin_noise(keys, side, cells, stream=0)  # noqa: E731
    given = "torch, matrix products of given vectors"
    yield lambda: GpuCase(*case, ours, given, lambda: products(lattice, vectors)[:, None], 5e-3)
    yield lambda: GpuCase(*case, ours, "the same on the CPU", on_cpu, 0, is_on_cpu=True)


def _augmentations(device: str, n: int, side: int) -> Iterator[Callable[[], GpuCase]]:
    images, keys = make_images(n, 3, side, side), make_keys(0, 0, torch.arange(n))
    there = images.to(device), keys.to(device)
    transforms = {"CutPaste()": CutPaste(), 'NSA(gradient="mixed")': NSA(gradient="mixed")}
    transforms |= {"PerlinAnomaly(), structure": PerlinAnomaly(source="structure")}
    for name, transform in transforms.items():
        yield lambda t=transform, o=name: GpuCase(
            o, f"{n}x3x{side}x{side} uint8", n, lambda: t(*there)[0], "the same on the CPU",
            lambda: t(images, keys)[0], math.inf if o.startswith("NSA") else 1, is_on_cpu=True,
        )  # fmt: skip
    patch, place = images.roll(1, 0)[..., : side // 4, : side // 4], torch.full((n, 2), side // 3)
    moved = there[0], patch.to(device), None, place.to(device)
    yield lambda: GpuCase(
        "poisson_blend, rectangles", f"{n}x3x{side}x{side} uint8, patches of {side // 4}", n,
        lambda: poisson_blend(*moved), "the same on the CPU",
        lambda: poisson_blend(images, patch, None, place), 1, is_on_cpu=True,
    )  # fmt: skip


def cases(device: str, *, n: int = 64, side: int = 256) -> Iterator[Callable[[], GpuCase]]:
    """What builds each case; it raises ImportError where the peer is not installed."""
    yield from _poisson(device, n, 64 if side > 64 else side)
    if side > 64:
        yield from _poisson(device, n, side)
    yield from _upsampling(device, n)
    yield from _medians(device, n, side)
    yield from _noise(device, n, side)
    yield from _augmentations(device, n, side)


def run(device: str, **size: int) -> list[dict[str, Any]]:
    """Rows of all cases, those that could not run with the reason."""
    rows: list[dict[str, Any]] = []
    for build in cases(device, **size):
        try:
            case = build()
        except ImportError as error:
            rows.append({"skipped": str(error)})
            continue
        rows.append(measure(case, device))
    return rows
