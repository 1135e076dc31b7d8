# SPDX-License-Identifier: Apache-2.0
"""Whole augmentations captured in a CUDA graph: replayed with new keys in place, as eager ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from ssad_kernels import make_keys, testing
from ssad_kernels.transforms import FPI, NSA, PII, CutPaste, CutPaste3Way, CutPasteScar

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")


def run_aside(function: Any) -> Any:
    """Call it on another stream, as a capture wants of its warming up."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        results = function()
    torch.cuda.current_stream().wait_stream(stream)
    return results


@pytest.mark.parametrize(
    "make",
    [
        CutPaste,
        CutPasteScar,
        CutPaste3Way,
        lambda: NSA(gradient="mixed", return_status=True),
        lambda: NSA(background="otsu", patches=2),
        FPI,
        PII,
    ],
)
def test_a_captured_augmentation_replays_with_new_keys(make: Any, no_filling: None) -> None:
    images = testing.make_images(6, 3, 64, 64, device="cuda")
    transform: nn.Module = make()
    keys = make_keys(1, 0, torch.arange(6, device="cuda"))
    for _ in range(2):  # kernels are compiled and tables brought to the GPU at the first call
        run_aside(lambda: transform(images, keys))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = transform(images, keys)
    for epoch in (1, 2):
        fresh = make_keys(1, epoch, torch.arange(6, device="cuda"))
        keys.copy_(fresh)
        graph.replay()
        torch.cuda.synchronize()
        for found, expected in zip(captured, transform(images, fresh), strict=True):
            assert torch.equal(found, expected)


@pytest.fixture
def no_filling() -> Any:
    """What is allocated in a capture is not filled first, which may not be captured."""
    torch.utils.deterministic.fill_uninitialized_memory = False
    yield
    torch.utils.deterministic.fill_uninitialized_memory = True
