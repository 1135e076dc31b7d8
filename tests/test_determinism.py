# SPDX-License-Identifier: Apache-2.0
"""The same bytes, whatever the batch, layout, thread, worker; nearly the same on any processor."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from ssad_kernels import (
    CutPasteParams,
    KeyedDataset,
    KeyedSampler,
    cut_paste,
    make_keys,
    philox,
)
from ssad_kernels.testing import make_images, outcomes, tolerance, with_layout
from ssad_kernels.transforms import (
    Confetti,
    Cutout,
    CutPaste,
    CutPaste3Way,
    CutPasteScar,
    HardCutPaste,
    PerlinAnomaly,
    Scar,
)

TRANSFORMS = {
    "CutPaste": CutPaste(rotation=(-20, 20)),
    "CutPasteScar": CutPasteScar(),
    "HardCutPaste": HardCutPaste(),
    "Cutout": Cutout(fill="mean"),
    "Confetti": Confetti(),
    "Scar": Scar(),
    "PerlinAnomaly": PerlinAnomaly(source="structure"),
}


def digest(*tensors: Tensor) -> str:
    """Of the bytes of tensors, in the order of their dimensions."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


@pytest.fixture(params=TRANSFORMS)
def transform(request: pytest.FixtureRequest) -> Any:
    return TRANSFORMS[request.param]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32], ids=str)
def test_twice(transform, dtype):
    images, keys = make_images(8, 3, 64, 64, dtype=dtype), make_keys(1, 2, torch.arange(8))
    assert digest(*transform(images, keys)) == digest(*transform(images, keys))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32], ids=str)
def test_any_batch(transform, dtype):
    images, keys = make_images(64, 3, 48, 40, dtype=dtype), make_keys(1, 2, torch.arange(64))
    expected = digest(*transform(images, keys))
    for size in (1, 7, 64):
        parts = [transform(i, k) for i, k in zip(images.split(size), keys.split(size), strict=True)]
        assert digest(*(torch.cat(column) for column in zip(*parts, strict=True))) == expected
    alone = [transform(i, k) for i, k in zip(images, keys, strict=True)]
    assert digest(*(torch.stack(column) for column in zip(*alone, strict=True))) == expected


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize("layout", ["channels_last", "strided", "transposed"])
def test_any_layout(transform, layout, dtype):
    images, keys = make_images(9, 3, 48, 40, dtype=dtype), make_keys(1, 2, torch.arange(9))
    expected = digest(*transform(images, keys))
    assert digest(*transform(with_layout(images, layout), keys)) == expected


def estimated_milliseconds(images: Tensor, params: CutPasteParams) -> float:
    """The estimate by which the kernel starts threads, one per millisecond (cutpaste_plan.cpp)."""
    pixels = int((params.source_box[:, 2] * params.source_box[:, 3]).sum())
    return (2.0 * pixels * images.shape[1] + images[:, 0].numel() / 16.0) * 1e-6


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_any_number_of_threads(dtype, layout):
    """On batches for which two and more threads really start."""
    transform = CutPaste(area=(0.2, 0.4), rotation=(-10, 10), source="other")
    images = make_images(24, 3, 224, 224, dtype=dtype, layout=layout)
    keys = make_keys(0, 0, torch.arange(24))
    params = transform.make_params(keys, images)
    assert estimated_milliseconds(images, params) > 2.0
    found = set()
    for threads in (1, 2, 3, 16):
        torch.set_num_threads(threads)
        found.add(digest(*transform(images, keys)))
        found.add(digest(*cut_paste(images, params)))
    assert len(found) == 1


def test_any_number_of_threads_for_philox():
    keys = make_keys(0, 0, torch.arange(2000))
    found = set()
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found.add(digest(philox(keys, 1, 1024)))  # 1 ns a number: 2 ms
    assert len(found) == 1


def epochs_of(workers: int, batch_size: int, context: str | None) -> str:
    images = make_images(12, 3, 48, 48, seed=3)
    dataset = KeyedDataset(
        TensorDataset(images, torch.arange(12)), CutPaste(rotation=(-20, 20)), seed=5
    )
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=KeyedSampler(dataset, shuffle=True, seed=1),
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context=context,
    )
    found = []
    for _ in range(2):
        columns = zip(*loader, strict=True)
        found.append(digest(*(torch.cat(column) for column in columns)))
    assert found[0] != found[1]  # another epoch, another augmentation
    return "".join(found)


many_workers = pytest.mark.filterwarnings(
    "ignore:This DataLoader will create .* worker processes:UserWarning",
    "ignore:This process .* is multi-threaded, use of fork:DeprecationWarning",
)


@many_workers
@pytest.mark.parametrize(
    ("workers", "batch_size", "context"),
    [(0, 1, None), (0, 12, None), (1, 4, "fork"), (4, 3, "fork"), (1, 6, "spawn")],
)
def test_any_number_of_persistent_workers(workers, batch_size, context):
    # The parent has started threads: a pool of its own would now hang in a forked worker.
    torch.set_num_threads(2)
    CutPaste(area=(0.5, 0.5), aspect=(1, 1))(make_images(8, 3, 256, 256))
    assert epochs_of(workers, batch_size, context) == epochs_of(0, 5, None)


_LEVELS = """
import hashlib
import torch
from ssad_kernels import cut_paste, make_keys, sample_cut_paste, philox
from ssad_kernels.testing import LAWS, make_images, outcomes

params, _ = outcomes()
n = len(params.angle)
pixels, exact = [], hashlib.sha256()
for dtype in (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64):
    for channels in (1, 3, 4):
        images = make_images(n, channels, 13, 11, dtype=dtype)
        image, mask, status = cut_paste(images, params, return_status=True)
        pixels.append(image[:-1])  # the last row has extreme factors
        exact.update(mask.numpy().tobytes() + status.numpy().tobytes())
keys = make_keys(1, 2, torch.arange(500))
for law in LAWS.values():
    drawn = sample_cut_paste(keys, 200, 150, law, stream=1)
    for column in drawn[:7]:
        exact.update(column.numpy().tobytes())
exact.update(philox(keys, 3, 70).numpy().tobytes())
images = make_images(16, 3, 96, 96, dtype=torch.float32)
pixels.append(cut_paste(images, sample_cut_paste(keys[:16], 96, 96, LAWS["paper"], stream=1))[0])
torch.save((exact.hexdigest(), pixels), PATH)
"""


@pytest.mark.native
@pytest.mark.parametrize("level", ["avx2", "avx512"])
def test_any_instruction_set(level: str, at_level: Callable[[str, str], Any]):
    """Decisions are identical; pixels within a level, or 1e-5, or a rounding of the dtype."""
    exact, pixels = at_level(_LEVELS, level)
    expected_exact, expected = at_level(_LEVELS, "baseline")
    assert exact == expected_exact
    for got, want in zip(pixels, expected, strict=True):
        atol = tolerance("cut_paste", want.dtype)
        torch.testing.assert_close(got, want, rtol=0, atol=atol, equal_nan=True)


@pytest.mark.native
def test_an_unknown_instruction_set_says_so(run_python: Callable[..., str]):
    code = """
try:
    import ssad_kernels
except Exception as error:
    print(type(error).__name__, error)
"""
    printed = run_python(code, SSAD_CPU_LEVEL="sse9", SSAD_REQUIRE_NATIVE="1")
    assert "SSAD_CPU_LEVEL must be baseline, avx2 or avx512" in printed
    assert "got sse9" in printed


def test_three_way_in_parts():
    images, keys = make_images(10, 3, 64, 64), make_keys(1, 2, torch.arange(10))
    whole, _ = CutPaste3Way()(images, keys)
    parts = [
        CutPaste3Way()(i, k)[0].reshape(3, -1, 3, 64, 64)
        for i, k in zip(images.split(3), keys.split(3), strict=True)
    ]
    assert torch.equal(torch.cat(parts, dim=1).reshape(whole.shape), whole)


def test_every_outcome_alone_and_in_its_batch():
    """Where no patch comes from another image, a sample does not notice the others."""
    params, _ = outcomes()
    n = len(params.angle)
    images = make_images(n, 3, 13, 11, dtype=torch.float32)
    expected = cut_paste(images, params, return_status=True)
    own = (params.source_index == torch.arange(n)).nonzero().flatten().tolist()
    assert len(own) > 15
    for i in own:
        row = params.map(lambda rows, i=i: rows[i : i + 1])
        row = row._replace(source_index=torch.zeros(1, dtype=torch.int64))
        alone = cut_paste(images[i : i + 1], row, return_status=True)
        for got, want in zip(alone, expected, strict=True):
            assert digest(got[0]) == digest(want[i])
