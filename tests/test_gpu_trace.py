# SPDX-License-Identifier: Apache-2.0
"""What runs on a GPU, traced without one: nothing on the way waits for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from gpu_trace import check_graph, faked, graph_of, recorded_launches
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from ssad_kernels import (
    GaussianFit,
    NsaLaw,
    _op,
    cell_masks,
    composite,
    dense_patch_scores,
    make_keys,
    nsa_law,
    patch_features,
    receptive_field_upsample,
    refine_cells,
    testing,
)
from ssad_kernels.transforms import (
    FPI,
    NSA,
    PII,
    CellMasking,
    Confetti,
    Cutout,
    CutPaste,
    CutPaste3Way,
    CutPasteScar,
    HardCutPaste,
    PerlinAnomaly,
    Rotation,
    Scar,
)

if not torch.backends.cuda.is_built():
    pytest.skip("this torch knows no CUDA tensors", allow_module_level=True)

STEPS = {"sample_nsa", "nsa_regions", "difference_label"}


def trace(function: Callable[..., Any], *shapes: tuple[tuple[int, ...], torch.dtype]) -> set[str]:
    """The library's ops in a function of CUDA tensors, which never waits for them."""
    with FakeTensorMode():
        args = [torch.empty(shape, dtype=dtype, device="cuda") for shape, dtype in shapes]
        return check_graph(graph_of(function, *args))


IMAGES = ((4, 3, 48, 48), torch.uint8)
BANK = ((5, 3, 48, 48), torch.uint8)
KEYS = ((4, 3), torch.int64)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[x > 0],
        lambda x: x.sum().item(),
        lambda x: x.cpu() + 1,
        lambda x: x + torch.ones(4).cuda(),
        lambda x: x.new_tensor([1.0, 2.0, 3.0, 4.0]) + x,
        lambda x: x.repeat_interleave(x.long()),
    ],
)
def test_what_waits_is_found(function: Callable[[Tensor], Any]) -> None:
    waits = AssertionError, DataDependentOutputException, DynamicOutputShapeException
    with pytest.raises(waits):
        trace(function, ((4,), torch.float32))


@pytest.mark.parametrize(
    ("make", "blends"),
    [
        (NSA, "poisson_blend_"),
        (lambda **options: NSA(gradient="mix", shape="ellipses", **options), "poisson_blend_"),
        (lambda **options: NSA(background="otsu", label="binary", **options), "poisson_blend_"),
        (lambda **options: NSA(background=(9, 4), compat="reference", **options), "poisson_blend_"),
        (lambda **options: NSA(gradient="swap", size="cutpaste", **options), "alpha_blend_"),
        (lambda **options: NSA(inplace=True, **options), "poisson_blend_"),
        (FPI, "alpha_blend_"),
        (PII, "poisson_blend_"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("has_bank", [False, True])
def test_nsa_never_waits(make: Any, blends: str, has_bank: bool) -> None:
    def run(images: Tensor, keys: Tensor, bank: Tensor) -> Any:
        options = {"bank": bank} if has_bank else {}
        return make(return_status=True, **options)(images, keys)

    assert trace(run, IMAGES, KEYS, BANK) >= STEPS | {blends}


def test_nsa_with_masks_never_waits() -> None:
    def run(images: Tensor, keys: Tensor, masks: Tensor) -> Any:
        return NSA()(images, keys, masks=masks)

    assert trace(run, IMAGES, KEYS, ((4, 1, 48, 48), torch.bool)) >= STEPS | {"poisson_blend_"}


PERLIN = {"sample_cut_paste", "philox", "perlin_noise", "alpha_blend_"}


@pytest.mark.parametrize("side", [48, 40])
@pytest.mark.parametrize("options", [{}, {"inplace": True}, {"jitter": 0.0}])
def test_perlin_anomalies_never_wait(options: dict[str, Any], side: int) -> None:
    def run(images: Tensor, keys: Tensor, bank: Tensor, foreground: Tensor) -> Any:
        transform = PerlinAnomaly(return_status=True, **options)
        return transform(images, keys, bank=bank, foreground=foreground)

    bank, foreground = ((5, 3, side, 48), torch.uint8), ((4, 1, 48, 48), torch.bool)
    jitter = set() if "jitter" in options else {"cut_paste_"}
    assert trace(run, IMAGES, KEYS, bank, foreground) == PERLIN | jitter


@pytest.mark.parametrize(
    ("transform", "ops"),
    [
        (CutPaste(rotation=(-9, 9), source="other", p=0.5), {"cut_paste_keyed"}),
        (CutPaste(inplace=True), {"cut_paste_keyed_"}),
        (CutPasteScar(return_status=True), {"cut_paste_keyed"}),
        (CutPaste3Way(), {"cut_paste_keyed_"}),
        (CutPaste3Way(output="triplet"), {"cut_paste_keyed_"}),
        (Cutout(), {"sample_cut_paste"}),
        (Cutout(fill="mean"), {"sample_cut_paste"}),
        (Cutout(fill="random"), {"sample_cut_paste", "philox"}),
        (Confetti(), {"philox"}),
        (Scar(), {"sample_cut_paste", "cut_paste", "philox"}),
        (PerlinAnomaly(source="structure"), PERLIN | {"cut_paste_"}),
        (Rotation(), set()),
        (HardCutPaste(), {"cut_paste_keyed"}),
        (HardCutPaste(inplace=True), {"cut_paste_keyed_"}),
        (CellMasking(), {"philox", "cell_masks", "mask_images"}),
        (CellMasking(4, kind="bernoulli"), {"cell_masks", "mask_images"}),
    ],
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_transforms_never_wait(transform: nn.Module, ops: set[str], dtype: torch.dtype) -> None:
    assert trace(transform, (IMAGES[0], dtype), KEYS) == ops


def test_keys_never_wait() -> None:
    def run(images: Tensor, samples: Tensor) -> Any:
        return CutPaste()(images, make_keys(3, 1, samples))

    assert trace(run, IMAGES, ((4,), torch.int64)) == {"cut_paste_keyed"}


def test_masks_and_what_is_behind_them_never_wait() -> None:
    def run(keys: Tensor, images: Tensor, outputs: Tensor) -> Any:
        masks = cell_masks(keys, 48, 8)
        scores = images[:, :1] - composite(outputs, masks, images)[:, :1]
        return refine_cells(scores, masks, 8, threshold=0.1, share=0.8)

    shapes = ((4, 3, 48, 48), torch.float32), ((4, 3, 3, 48, 48), torch.float32)
    assert trace(run, KEYS, *shapes) == {"cell_masks", "composite", "refine_cells"}


def make_network() -> nn.Module:
    maps = nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.MaxPool2d(2)
    return nn.Sequential(*maps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6)).eval()


@pytest.mark.parametrize(
    ("mode", "locations", "rows"), [("windowed", (), 0), ("dense", (), 4), ("dense", (25,), 0)]
)
def test_dense_scores_never_wait(mode: Any, locations: tuple[int, ...], rows: int) -> None:
    sizes = (6,), (rows, 6), (rows or 6, rows or 6), ()
    options: dict[str, Any] = {"window": 16, "stride": 4, "mode": mode}
    with FakeTensorMode(), torch.device("cuda"), torch.no_grad():
        network = make_network()
        fitted = [torch.empty((*locations, *size), dtype=torch.float64) for size in sizes]
        is_unit = torch.empty((), dtype=torch.bool)
        images = torch.empty(2, 3, 32, 32)

        def run(images: Tensor, *fitted: Tensor) -> Tensor:
            assert patch_features(network, images, **options).shape == (2, 6, 5, 5)
            scores = dense_patch_scores(network, images, GaussianFit(*fitted), **options)
            return receptive_field_upsample(scores, 32, kernel=16, stride=4, offset=7.5)

        names = check_graph(graph_of(run, images, *fitted, is_unit))
    assert names == {"receptive_field_upsample"}


# The form that copies first and then calls the other is left out.
KERNELS = [
    (name, backend)
    for name, op in _op._OPS.items()
    for backend in ("cuda", "triton")
    if backend in op.kernels and f"{name}_" not in _op._OPS
]


@pytest.mark.parametrize(("op", "backend"), KERNELS)
def test_what_runs_around_a_kernel_never_waits(op: str, backend: str) -> None:
    """All that a GPU runs but the kernels themselves, which are left out."""
    pytest.importorskip("triton")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("kernels are interpreted")
    limits = _op._OPS[op].cuda_limits if backend == "cuda" else None
    every = [args for args in testing.samples(op).values() if args[0].numel()]
    served = [args for args in every if limits is None or limits.serves(*args)]
    assert served
    operator, work = getattr(torch.ops.ssad_kernels, op), 0
    most = 1 if op == "poisson_blend_" else 2  # its graph is large
    for args in served[:: max(1, len(served) // 2)][:most]:
        with recorded_launches() as launches, FakeTensorMode():
            # Op by op of the kernel's, with the outputs that the op allocates.
            def run(*given: Any) -> Any:
                outputs = operator(*given)
                every = outputs if isinstance(outputs, tuple) else (outputs,)
                _op._OPS[op].kernels[backend](*given, *every)
                return outputs

            names = check_graph(graph_of(run, *faked(op, args)))
        work += len(launches) + len(names - {op})
    assert work


@pytest.mark.parametrize(
    "law", [NsaLaw(), NsaLaw(object_share=0.5, overlap=0.2), NsaLaw(shape="ellipses", overlap=0.2)]
)
def test_patches_are_drawn_in_three_launches(law: NsaLaw) -> None:
    pytest.importorskip("triton")
    regions = pytest.importorskip("ssad_kernels.triton.nsa_regions")
    numbers = nsa_law.pack_law("test", law)
    has_masks = law.overlap is not None

    def run(keys: Tensor, source: Tensor, target: Tensor) -> Any:
        masks = (source, target) if has_masks else (None, None)
        args = (keys, 3, 48, 40, 5, *masks, numbers)
        drawn = nsa_law._allocate_sample(*args)
        nsa_law._triton_sample(*args, *drawn)
        region = keys.new_empty((4, 1, 48, 40), dtype=torch.bool)
        paste = keys.new_empty((4, 3, 40, 40), dtype=torch.bool)
        regions.launch(*drawn[:5], 48, 40, 40, *masks, False, False, region, paste)
        return drawn, region, paste

    mask = torch.bool
    with recorded_launches() as launches:
        trace(run, KEYS, ((5, 1, 48, 40), mask), ((4, 1, 48, 40), mask))
    assert launches == [
        "_sample_nsa_start_kernel",
        "_sample_nsa_patches_kernel",
        "_nsa_regions_kernel",
    ]
