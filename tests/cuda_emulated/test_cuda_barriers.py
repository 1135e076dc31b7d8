# SPDX-License-Identifier: Apache-2.0
"""Leaving out a barrier of an emulated CUDA kernel shows, as a fault or in the result."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import ssad_kernels as sk
from ssad_kernels import _backend, _op
from ssad_kernels.testing import make_images, make_mask, same_bits

if "cuda-emulated" not in _backend.BACKENDS:
    reason = "the extension was not built with SSAD_CUDA=EMULATED"
    pytest.skip(reason, allow_module_level=True)

emulation = _backend.native._emulation


def solve_planes(
    solver: str, h: int, w: int, family: str | None = None
) -> Callable[[], tuple[Tensor, ...]]:
    rhs, boundary = make_images(2, 1, h, w, dtype=torch.float32).split(1)
    mask = make_mask(family, h, w)[None] if family else None
    if family == "square":  # the coarsest of its grids has two rows, and points of both colours
        mask = torch.zeros(1, h, w, dtype=torch.bool)
        mask[:, 1:11, 1:11] = True

    def run() -> tuple[Tensor, ...]:
        op = torch.ops.ssad_kernels.poisson_solve
        return tuple(op(rhs, mask, boundary, solver, 0.0, 0.0, 1))

    return run


def filter_pixels(dtype: torch.dtype, radius: int) -> Callable[[], tuple[Tensor, ...]]:
    images = make_images(1, 1, 20, 40, dtype=torch.float32)
    images[..., 3, 4] = float("nan")
    images = images > 0.4 if dtype == torch.bool else images

    def run() -> tuple[Tensor, ...]:
        return (torch.ops.ssad_kernels.median_filter(images, radius, False, None),)

    return run


def label_changes(kind: str) -> Callable[[], tuple[Tensor, ...]]:
    before, after = make_images(2, 1, 20, 40).split(1)
    region = torch.ones(1, 1, 20, 40, dtype=torch.bool)
    row = torch.tensor([0.5])

    def run() -> tuple[Tensor, ...]:
        op = torch.ops.ssad_kernels.difference_label
        return (op(before, after, region, kind, row, row, row, 40.0, 5, 5),)

    return run


def blend_patches(
    op: str, family: str, c: int, h: int, w: int, region: str = "mask", soft: bool = False
) -> Callable[[], tuple[Tensor, ...]]:
    """One iteration for each channel; soft masks with mixed gradients."""
    margin = 0 if family == "full" else 2
    dtype = torch.uint8 if region == "opencv" else torch.float32
    target = make_images(1, c, h + margin, w + margin, dtype=dtype)
    source = make_images(1, c, h, w, dtype=dtype, seed=1)
    mask = make_mask(family, h, w)[None]
    if soft:
        mask = make_images(1, 1, h, w, seed=2)[:, 0] * mask
    place = torch.full((1, 2), margin // 2)
    rows = place, None, None, None, torch.tensor([int(soft)]), None, None
    options = region, "multigrid", 0.0, 0.5, 1

    def run() -> tuple[Tensor, ...]:
        image = target.clone()
        found = getattr(torch.ops.ssad_kernels, op)(image, source, mask, *rows, *options)
        out, status = (image, found) if op.endswith("_") else found
        assert status.item() in (0, 4, 5)
        return out, status

    return run


# By op and kernel, all of its paths.
KERNELS = {
    ("poisson_solve", "solve_planes<32>"): [
        solve_planes("multigrid", 24, 30, "noise"),
        solve_planes("multigrid", 30, 24, "full"),
        solve_planes("multigrid", 24, 30, "square"),
    ],
    ("poisson_solve", "solve_planes<64>"): [
        solve_planes("multigrid", 40, 24, "noise"),
        solve_planes("multigrid", 24, 40, "full"),
        solve_planes("multigrid", 24, 40, "square"),
    ],
    ("poisson_solve", "solve_planes<128>"): [
        solve_planes("multigrid", 66, 20, "noise"),
        solve_planes("multigrid", 20, 66, "full"),
        solve_planes("multigrid", 20, 66, "square"),
    ],
    ("poisson_solve", "sor_planes<32>"): [
        solve_planes("sor", 24, 30, "noise"),
        solve_planes("sor", 30, 24, "full"),
    ],
    ("poisson_solve", "jacobi_planes<32>"): [
        solve_planes("jacobi", 24, 30, "noise"),
        solve_planes("jacobi", 30, 24, "full"),
    ],
    ("poisson_solve", "jacobi_planes<64>"): [
        solve_planes("jacobi", 40, 24, "noise"),
        solve_planes("jacobi", 24, 40, "full"),
    ],
    ("poisson_solve", "sine_planes<32>"): [solve_planes("sine", 11, 8)],
    ("poisson_solve", "sine_planes<64>"): [solve_planes("sine", 11, 40)],
    ("poisson_solve", "sine_planes<128>"): [solve_planes("sine", 11, 66)],
    ("median_filter", "filter_disks<5>"): [filter_pixels(torch.float32, 5)],
    ("median_filter", "filter_masks"): [filter_pixels(torch.bool, 5)],
    ("difference_label", "label_tiles<5>"): [
        label_changes("intensity"),
        label_changes("logistic"),
    ],
    ("difference_label", "label_tiles<0>"): [label_changes("factor")],
    ("poisson_blend", "blend_patches<32>"): [
        blend_patches("poisson_blend", "noise", 3, 9, 12),
        blend_patches("poisson_blend", "full", 1, 12, 9),
        blend_patches("poisson_blend", "disc", 1, 14, 12, "opencv", soft=True),
    ],
    ("poisson_blend_", "blend_patches<64>"): [
        blend_patches("poisson_blend_", "noise", 2, 9, 33),
        blend_patches("poisson_blend_", "disc", 1, 33, 12, "rect", soft=True),
    ],
}


# Where a reduction is the last use of shared memory, the barrier at its end has nothing to part.
# A small block is two warps, of which one takes all rows of a small patch's mask.
UNNOTICED = {name: ["block.h"] for name in ("filter_disks<5>", "label_tiles<5>", "label_tiles<0>")}
UNNOTICED["blend_patches<32>"] = ["blend_mask.h"]


def outcome(run: Callable[[], tuple[Tensor, ...]], index: int, *, is_of_warps: bool) -> str:
    """What becomes of a run without a barrier: "" when nothing."""
    emulation.omit_barrier(index, is_of_warps)
    try:
        found = run()
    except RuntimeError as error:
        return str(error)
    finally:
        emulation.set_order("forward", 0)
    return "" if all(map(same_bits, found, run())) else "another result"


def test_all_ops_are_here():
    assert {op for op, _ in KERNELS} == {
        name for name, op in _op._OPS.items() if "cuda-emulated" in op.kernels
    }


@pytest.mark.parametrize(("op", "kernel"), KERNELS)
def test_a_barrier_that_is_left_out_shows(op: str, kernel: str, capsys: pytest.CaptureFixture[str]):
    left_out: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    with sk.use_backend("cuda-emulated"):
        for run in KERNELS[op, kernel]:
            emulation.set_order("forward", 0)
            emulation.take_counts()
            run()
            counts = emulation.take_counts()
            for is_of_warps in (False, True):
                for i in range(counts["warp_barriers" if is_of_warps else "barriers"]):
                    emulation.take_counts()
                    what = outcome(run, i, is_of_warps=is_of_warps)
                    place = emulation.take_counts()
                    file = Path(place["omitted_file"]).name
                    left_out[file, place["omitted_line"]].append(what)
    with capsys.disabled():
        print(f"\n{kernel}: barriers left out one at a time, and how many of them were missed")
        for (file, line), found in sorted(left_out.items()):
            example = next(filter(None, found), "")
            print(f"{file}:{line}: {sum(map(bool, found))} of {len(found)}, as {example}")
    unnoticed = [file for (file, _), found in left_out.items() if not any(found)]
    assert unnoticed == UNNOTICED.get(kernel, [])
