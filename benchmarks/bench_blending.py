# SPDX-License-Identifier: Apache-2.0
"""``pytest benchmarks/bench_blending.py``: blending against OpenCV, SciPy, fpie and pie-torch."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

import blend_peers as peers
from harness import Case, Error, Row, Target, require, run, timer
from ssad_kernels import alpha_blend, alpha_blend_, poisson_blend, poisson_blend_
from ssad_kernels.testing import make_mask

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

SIZE = 256  # of the targets
SIDES = (32, 64, 96, 128, 192)
FAMILIES = ("disc", "ellipses", "blobs", "holes", "scar")
FLAGS = {"source": "NORMAL_CLONE", "mixed": "MIXED_CLONE", "monochrome": "MONOCHROME_TRANSFER"}
_TOP_LEFT = (30, 40)


class Work(NamedTuple):
    """A batch, and the same as lists of what the peers take."""

    target: Tensor  # (N, 3, SIZE, SIZE) uint8
    source: Tensor  # (N, 3, side, side) uint8
    mask: Tensor  # (N, side, side) bool; a rim of a pixel is not set
    top_left: Tensor  # (N, 2)
    jobs: list[peers.Job]


def _photographs(n: int, side: int, seed: int) -> Tensor:
    """Smooth colours with some noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 8, 8, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    images += 0.05 * torch.randn(images.shape, generator=generator)
    return (255 * images).clamp_(0, 255).to(torch.uint8)


@cache
def make_work(family: str, side: int, n: int) -> Work:
    """The mask of each sample is another one of the family; "full" has no rim."""
    masks = torch.stack([make_mask(family, side, side, seed=i) for i in range(n)])
    masks[:, [0, -1]] = False
    masks[:, :, [0, -1]] = False
    if family == "full":
        masks[:] = True
    target, source = _photographs(n, SIZE, 1), _photographs(n, side, 2)
    top_left = torch.tensor(_TOP_LEFT).repeat(n, 1)
    hwc = [images.permute(0, 2, 3, 1).contiguous().numpy() for images in (target, source)]
    uint8 = (masks * np.uint8(255)).to(torch.uint8).numpy()
    jobs = [peers.Job(t, s, m, _TOP_LEFT) for t, s, m in zip(*hwc, uint8, strict=True)]
    return Work(target, source, masks, top_left, jobs)


@cache
def _exact(family: str, side: int, n: int) -> list[Any]:
    return peers.blend_with_scipy(make_work(family, side, n).jobs)


def _largest(ours: Tensor, theirs: list[Any]) -> float:
    """The largest difference between images (N, 3, H, W) and a list of (H, W, 3)."""
    stacked = torch.from_numpy(np.stack(theirs).astype(np.float64)).permute(0, 3, 1, 2)
    return (ours.double() - stacked).abs().max().item()


def _float_error(work: Work, exact: list[Any], **options: Any) -> float:
    """How far ours is from the exact solution before rounding, in grey levels."""
    images = (work.target.float() / 255, work.source.float() / 255)
    return _largest(255 * poisson_blend(*images, work.mask, work.top_left, **options), exact)


def _against_opencv(
    op: str, side: int, minimum: float, gradient: str = "source", compat: str | None = None
) -> Case:
    require(peers.cv2, "opencv-python-headless")
    peers.cv2.setNumThreads(1)
    n = 64
    work = make_work("full", side, n)
    options: dict[str, Any] = {"gradient": gradient}
    options |= {"compat": compat} if compat else {"region": "rect"}
    blend = poisson_blend if op == "poisson_blend" else poisson_blend_
    target = work.target.clone()
    theirs = partial(peers.blend_with_opencv, work.jobs, FLAGS[gradient])

    def error() -> Error:
        if compat:
            out = poisson_blend(work.target, work.source, None, work.top_left, **options)
            off = np.stack(theirs()).astype(int) - out.permute(0, 2, 3, 1).numpy()
            share = 100 * np.count_nonzero(off) / (n * 3 * side**2)
            return Error(
                float(abs(off).max()), "levels", 1.0, f"{share:.2g} % of the pixels differ"
            )
        few = slice(0, 2)
        if gradient != "source":  # whole levels, so that both choose the same gradients
            exact, ours = (
                poisson_blend(
                    work.target[few].to(dtype),
                    work.source[few].to(dtype),
                    None,
                    work.top_left[few],
                    **options,
                )
                for dtype in (torch.float64, torch.float32)
            )
            return Error((exact - ours).abs().max().item(), "levels", 0.5, "ours, to float64")
        inner = torch.zeros_like(work.mask[few])
        inner[:, 1:-1, 1:-1] = True
        masks = (inner * np.uint8(255)).to(torch.uint8).numpy()
        jobs = [job._replace(mask=m) for job, m in zip(work.jobs, masks, strict=False)]
        images = (work.target[few].float() / 255, work.source[few].float() / 255)
        ours = 255 * poisson_blend(*images, None, work.top_left[few], region="rect")
        return Error(
            _largest(ours, peers.blend_with_scipy(jobs)), "levels", 0.5, "ours, to SciPy's"
        )

    return Case(
        f"{op}, {compat or 'rectangle'}, {gradient}",
        f"{n}x3x{SIZE}x{SIZE}, patch {side}",
        "uint8",
        n,
        lambda: blend(target, work.source, None, work.top_left, **options),
        f"OpenCV seamlessClone {FLAGS[gradient]}",
        theirs,
        error,
        Target(minimum, f"{side} px: at least {minimum:g} x OpenCV"),
    )


def _masked(family: str, side: int, n: int, peer: str, theirs: Any, minimum: float) -> Case:
    work = make_work(family, side, n)
    target = work.target.clone()

    def error() -> Error:
        return Error(_float_error(work, _exact(family, side, n)), "levels", 0.5, "ours, to SciPy's")

    return Case(
        f"poisson_blend_, {family}",
        f"{n}x3x{SIZE}x{SIZE}, patch {side}",
        "uint8",
        n,
        lambda: poisson_blend_(target, work.source, work.mask, work.top_left),
        peer,
        theirs,
        error,
        Target(minimum, f"{family} {side} px: at least {minimum:g} x {peer}"),
    )


def _mask_against_opencv(family: str, side: int) -> Case:
    """OpenCV solves the rectangle around the mask: an easier problem."""
    require(peers.cv2, "opencv-python-headless")
    peers.cv2.setNumThreads(1)
    jobs = make_work(family, side, 16).jobs
    theirs = partial(peers.blend_with_opencv, jobs, "NORMAL_CLONE")
    return _masked(family, side, 16, "OpenCV seamlessClone, its box", theirs, 1.0)


def _mask_against_scipy(family: str, side: int) -> Case:
    require(peers.linalg, "scipy")
    jobs = make_work(family, side, 4).jobs
    return _masked(family, side, 4, "SciPy splu", partial(peers.blend_with_scipy, jobs), 50.0)


def _mask_against_fpie(family: str, side: int) -> Case:
    require(peers.fpie, "fpie")
    if "gcc" not in peers.fpie.ALL_BACKEND:
        msg = "fpie was built without its C++ backend"
        raise ImportError(msg)
    n = 2
    jobs = make_work(family, side, n).jobs
    exact, iterations = _exact(family, side, n), 16
    images = torch.zeros(n, 3, SIZE, SIZE)
    while True:  # the fewest, to a quarter, that come as near; fpie truncates to whole levels
        result = peers.blend_with_fpie(jobs, iterations)
        images = torch.from_numpy(np.stack(result)).permute(0, 3, 1, 2)
        clipped = [image.clip(0, 255) for image in exact]
        if _largest(images, clipped) < 1.5:
            break
        iterations = iterations * 5 // 4
    theirs = partial(peers.blend_with_fpie, jobs, iterations)
    peer = "fpie (gcc), to half a level"
    return _masked(family, side, n, peer, theirs, 20.0)


def _mask_against_pietorch(family: str, side: int) -> Case:
    require(peers.pietorch, "pie-torch")
    n = 8
    work = make_work(family, side, n)
    green = peers.pietorch.construct_green_function((3, side, side), 0)
    floats = [images.float() / 255 for images in (work.target, work.source, work.mask * 255)]
    jobs = [(*images, _TOP_LEFT) for images in zip(*floats, strict=True)]
    theirs = partial(peers.blend_with_pietorch, jobs, green)
    return _masked(family, side, n, "pie-torch, at any error", theirs, 1.0)


_MASKED = {
    "opencv": (_mask_against_opencv, [(f, s) for f in FAMILIES for s in (32, 64, 128, 192)]),
    "scipy": (_mask_against_scipy, [("disc", s) for s in (32, 64, 128, 192)]),
    "fpie": (_mask_against_fpie, [("disc", s) for s in (32, 64, 128)]),
    "pietorch": (_mask_against_pietorch, [("disc", s) for s in (32, 64, 128, 192)]),
}
_MASKED["scipy"][1].extend((family, 64) for family in FAMILIES[1:])
_MASKED["fpie"][1].extend((family, 64) for family in FAMILIES[1:])


def _mixed(side: int) -> Case:
    """A patch mixed into each image by one share, without an equation."""
    require(peers.cv2, "opencv-python-headless")
    peers.cv2.setNumThreads(1)
    n, share = 64, 0.3
    work = make_work("full", side, n)
    window = tuple(slice(corner, corner + side) for corner in _TOP_LEFT)
    target = work.target.clone()
    images = [job.target.copy() for job in work.jobs]

    def theirs(images: list[Any] = images) -> list[Any]:
        for image, job in zip(images, work.jobs, strict=True):
            part = image[window]
            part[:] = peers.cv2.addWeighted(part, 1 - share, job.source, share, 0)
        return images

    def error() -> Error:
        out = alpha_blend(work.target, work.source, None, work.top_left, alpha=share)
        return Error(_largest(out, theirs([job.target.copy() for job in work.jobs])), "levels", 1.0)

    return Case(
        "alpha_blend_, rectangle",
        f"{n}x3x{SIZE}x{SIZE}, patch {side}",
        "uint8",
        n,
        lambda: alpha_blend_(target, work.source, None, work.top_left, alpha=share),
        "OpenCV addWeighted, per image",
        theirs,
        error,
    )


ROWS = [Row(f"inplace-{s}", partial(_against_opencv, "poisson_blend_", s, 20.0)) for s in SIDES]
ROWS += [
    Row(f"functional-{s}", partial(_against_opencv, "poisson_blend", s, 10.0 if s < 64 else 20.0))
    for s in SIDES
]
ROWS += [
    Row(f"mixed-{s}", partial(_against_opencv, "poisson_blend_", s, 12.0, "mixed")) for s in SIDES
]
ROWS += [
    Row(f"compat-{g}-{s}", partial(_against_opencv, "poisson_blend_", s, 8.0, g, "opencv"))
    for s in SIDES
    for g in (("source", "mixed") if s == 64 else ("source",))
]
ROWS += [
    Row(f"{peer}-{family}-{side}", partial(build, family, side))
    for peer, (build, cases) in _MASKED.items()
    for family, side in cases
]
ROWS += [Row(f"alpha-{s}", partial(_mixed, s)) for s in SIDES]


@pytest.mark.benchmark(timer=timer)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_blending(benchmark: BenchmarkFixture, row: Row) -> None:
    """Measure one row."""
    run(benchmark, row, rounds=7)
