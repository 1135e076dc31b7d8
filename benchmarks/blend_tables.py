# SPDX-License-Identifier: Apache-2.0
"""``python benchmarks/blend_tables.py``: the tables on blending of docs/poisson.md and opencv.md.

Errors against exact solutions and OpenCV, large images, and how time grows with size and threads.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import blend_peers as peers
from bench_blending import FAMILIES, FLAGS, make_work
from harness import optional, peak_memory
from ssad_kernels import poisson_blend, poisson_blend_
from ssad_kernels.testing import make_mask

_LEVELS = 255.0


def _largest_errors(side: int, family: str, gradient: str) -> float:
    """In float32, in grey levels, against our own float64 solution to nine digits."""
    work = make_work(family, side, 8)
    exact, single = (
        poisson_blend(
            work.target.to(dtype) / 255,
            work.source.to(dtype) / 255,
            work.mask,
            work.top_left,
            gradient=gradient,
        )
        for dtype in (torch.float64, torch.float32)
    )
    return (exact - single).abs().max().item() * _LEVELS


def print_errors() -> None:
    """The largest error of each family of masks and side."""
    sides = (32, 64, 128, 192)
    print("| mask | " + " | ".join(f"{side} px" for side in sides) + " |")
    print("| --- " * (len(sides) + 1) + "|")
    for family in FAMILIES:
        errors = [_largest_errors(side, family, "source") for side in sides]
        print(f"| {family} | " + " | ".join(f"{error:.3f}" for error in errors) + " |")


def _photographs(rng: np.random.Generator, side: int) -> Any:
    data = optional("skimage.data")
    names = ("astronaut", "coffee", "chelsea", "immunohistochemistry", "rocket")
    image = getattr(data, names[rng.integers(len(names))])()
    y, x = (rng.integers(limit - side + 1) for limit in image.shape[:2])
    return np.ascontiguousarray(image[y : y + side, x : x + side])


class Scene(NamedTuple):
    """Patches and photographs for ours, and the same for OpenCV."""

    target: Tensor
    source: Tensor
    mask: Tensor
    top_left: Tensor
    jobs: list[peers.Job]  # in BGR

    def blend(self, **options: Any) -> Any:
        """Ours, (N, H, W, 3)."""
        out = poisson_blend(self.target, self.source, self.mask, self.top_left, **options)
        return out.permute(0, 2, 3, 1).numpy().astype(int)


def _make_scene(family: str, count: int, side: int, size: int) -> Scene:
    rng = np.random.default_rng(0)
    jobs = []
    for seed in range(count):
        mask = make_mask(family, side, side, seed=seed).numpy()
        mask[[0, -1]] = mask[:, [0, -1]] = False
        top, left = (int(c) for c in rng.integers(size - side + 1, size=2))
        images = (_photographs(rng, each)[..., ::-1].copy() for each in (size, side))
        jobs.append(peers.Job(*images, mask.astype(np.uint8) * 255, (top, left)))
    columns = [np.stack(column) for column in zip(*jobs, strict=True)]
    target, source = (
        torch.from_numpy(column[..., ::-1].copy()).permute(0, 3, 1, 2) for column in columns[:2]
    )
    return Scene(target, source, torch.from_numpy(columns[2]), torch.tensor(columns[3]), jobs)


def print_opencv(count: int = 60, side: int = 64, size: int = 112) -> None:
    """``compat="opencv"`` against OpenCV, and the regions against it, on photographs."""
    print(
        f"{count} patches of {side} px in photographs of {size} px, OpenCV {peers.cv2.__version__}"
    )
    print("| mask, gradient | compat to OpenCV | its box | rect to compat | mask to compat |")
    print("| --- | --- | --- | --- | --- |")
    for family in ("full", "disc", "blobs"):
        scene = _make_scene(family, count, side, size)
        for gradient, flag in FLAGS.items():
            theirs = np.stack(peers.blend_with_opencv(scene.jobs, flag))[..., ::-1].astype(int)
            compat = scene.blend(gradient=gradient, compat="opencv")
            off = abs(compat - theirs)
            box = 3 * sum(_box_pixels(job.mask) for job in scene.jobs)
            wrong = 100 * np.count_nonzero(off)
            cells = [f"{off.max()}, {wrong / off.size:.3f} %", f"{wrong / box:.3f} %"]
            inside = np.zeros(off.shape[:3], bool)
            for image, job in zip(inside, scene.jobs, strict=True):
                top, left = job.top_left
                image[top : top + side, left : left + side] = job.mask > 0
            for region in ("rect", "mask"):
                change = abs(scene.blend(gradient=gradient, region=region) - compat)[inside]
                cells.append(f"mean {change.mean():.1f}, 95 % {np.quantile(change, 0.95):.0f}")
            print(f"| {family}, {gradient} | " + " | ".join(cells) + " |")


def _box_pixels(mask: Any) -> int:
    ys, xs = np.nonzero(mask)
    return int((ys.max() + 1 - ys.min()) * (xs.max() + 1 - xs.min()))


def _cpu_seconds(call: Callable[[], object], repeats: int = 3) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return min(seconds)


def print_large() -> None:
    """A whole image of three channels with a mask of any shape: time and memory by size."""
    print("| side | seconds | ns per pixel and channel | scratch, floats per pixel |")
    print("| --- | --- | --- | --- |")
    for side in (1024, 2047, 2048, 2049):
        generator = torch.Generator().manual_seed(0)
        target, source = torch.rand(2, 1, 3, side, side, generator=generator)
        mask, corner = make_mask("blobs", side, side)[None], torch.zeros(1, 2, dtype=torch.int64)
        blend = partial(poisson_blend_, target, source, mask, corner)
        floats = peak_memory(blend) / 4 / side**2
        seconds = _cpu_seconds(blend)
        print(f"| {side} | {seconds:.2f} | {seconds * 1e9 / 3 / side**2:.0f} | {floats:.1f} |")


def print_scaling() -> None:
    """Time per pixel by size, and what a second thread brings beside a loop that only computes."""
    for side in (64, 192):
        work = make_work("disc", side, 16)
        blend = partial(poisson_blend_, work.target.clone(), work.source, work.mask, work.top_left)
        unknowns = int(work.mask.sum()) * 3
        nanoseconds = _cpu_seconds(blend, 9) * 1e9 / unknowns
        print(f"disc {side} px, multigrid: {nanoseconds:.1f} ns per unknown")
    work = make_work("disc", 128, 64)
    blend = partial(poisson_blend_, work.target.clone(), work.source, work.mask, work.top_left)
    gains: dict[str, list[float]] = {"poisson_blend_": [], "control loop": []}
    for _ in range(9):
        walls = {name: [0.0, 0.0] for name in gains}
        for threads in (1, 2):
            torch.set_num_threads(threads)
            walls["poisson_blend_"][threads - 1] = _wall_seconds(blend)
            walls["control loop"][threads - 1] = _wall_seconds(partial(_control, threads))
        for name, (one, two) in walls.items():
            gains[name].append(one / two)
    torch.set_num_threads(1)
    for name, values in gains.items():
        print(f"two threads, {name}: {np.median(values):.2f} x")


def _control(threads: int) -> None:
    """The same sines, by one thread or two."""
    values = np.linspace(0.0, 1.0, 1 << 14)

    def work() -> None:
        for _ in range(800 // threads):
            np.sin(values, out=np.empty_like(values))

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def _wall_seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Print all tables."""
    torch.set_num_threads(1)
    print_errors()
    if peers.cv2 is not None and optional("skimage.data") is not None:
        print_opencv()
    print_large()
    print_scaling()


if __name__ == "__main__":
    sys.exit(main())
