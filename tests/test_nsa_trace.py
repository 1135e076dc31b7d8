# SPDX-License-Identifier: Apache-2.0
"""NSA traced on a GPU that need not be there: nothing on the way waits for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from ssad_kernels import NsaLaw, nsa_law
from ssad_kernels.transforms import FPI, NSA, PII

aten = torch.ops.aten
WAITING = {
    aten._local_scalar_dense,
    aten.item,
    aten.nonzero,
    aten.masked_select,
    aten.unique_dim,
    aten._unique2,
}
STEPS = {"sample_nsa", "nsa_regions", "difference_label"}


def graph_of(function: Any, *args: Tensor) -> torch.fx.Graph:
    graph: torch.fx.Graph = make_fx(function, tracing_mode="fake")(*args).graph
    return graph


def check(graph: torch.fx.Graph) -> set[str]:
    """Names of the library's ops in a graph, all of whose tensors stay on the GPU."""
    names = set()
    for node in graph.nodes:
        if node.op != "call_function" or not hasattr(node.target, "overloadpacket"):
            continue
        assert node.target.overloadpacket not in WAITING, node
        values = (
            node.meta["val"] if isinstance(node.meta["val"], tuple | list) else [node.meta["val"]]
        )
        inputs = [x.meta.get("val") for x in node.all_input_nodes]
        if any(isinstance(x, Tensor) and x.device.type == "cuda" for x in inputs):
            assert all(x.device.type == "cuda" for x in values if isinstance(x, Tensor)), node
        if node.target.namespace == "ssad_kernels":
            names.add(node.target.overloadpacket.__name__)
    return names


@pytest.mark.parametrize(
    ("make", "blends"),
    [
        (NSA, "poisson_blend_"),
        (lambda **options: NSA(gradient="mix", shape="ellipses", **options), "poisson_blend_"),
        (lambda **options: NSA(background="otsu", label="binary", **options), "poisson_blend_"),
        (lambda **options: NSA(background=(9, 4), compat="reference", **options), "poisson_blend_"),
        (lambda **options: NSA(gradient="swap", size="cutpaste", **options), "alpha_blend_"),
        (FPI, "alpha_blend_"),
        (PII, "poisson_blend_"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("has_bank", [False, True])
def test_transforms_hold_nothing_that_waits(make: Any, blends: str, has_bank: bool) -> None:
    def run(images: Tensor, keys: Tensor, bank: Tensor) -> Any:
        options = {"bank": bank} if has_bank else {}
        return make(return_status=True, **options)(images, keys)

    with FakeTensorMode():
        images = torch.empty(4, 3, 48, 40, dtype=torch.uint8, device="cuda")
        bank = torch.empty(5, 3, 48, 40, dtype=torch.uint8, device="cuda")
        keys = torch.empty(4, 3, dtype=torch.int64, device="cuda")
        names = check(graph_of(run, images, keys, bank))
    assert names >= STEPS | {blends}


class _Recorder:
    """Stands in for a kernel: takes note of its launch."""

    def __init__(self, launches: list[str], name: str) -> None:
        self.launches, self.name = launches, name

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        assert all(isinstance(size, int) for size in grid)  # none depends on values
        return lambda *args, **options: self.launches.append(self.name)


@pytest.mark.parametrize(
    "law", [NsaLaw(), NsaLaw(object_share=0.5, overlap=0.2), NsaLaw(shape="ellipses", overlap=0.2)]
)
def test_launchers_hold_nothing_that_waits(law: NsaLaw, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs around the kernels on a GPU; the kernels themselves are left out."""
    pytest.importorskip("triton")
    sample = pytest.importorskip("ssad_kernels.triton.nsa_sample")
    regions = pytest.importorskip("ssad_kernels.triton.nsa_regions")
    launches: list[str] = []
    for module in (sample, regions):
        for name in [name for name in vars(module) if name.endswith("_kernel")]:
            monkeypatch.setattr(module, name, _Recorder(launches, name))
    # There need be no driver, and fake tables must not be kept.
    monkeypatch.setattr(torch.cuda, "device_of", lambda tensor: torch.no_grad())
    tables = torch.empty(3, 1025, dtype=torch.float64)
    monkeypatch.setattr(sample, "_tables", lambda device: tables)
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

    with FakeTensorMode():
        keys = torch.empty(4, 3, dtype=torch.int64, device="cuda")
        source = torch.empty(5, 1, 48, 40, dtype=torch.bool, device="cuda")
        target = torch.empty(4, 1, 48, 40, dtype=torch.bool, device="cuda")
        check(graph_of(run, keys, source, target))
    assert launches == [
        "_sample_nsa_start_kernel",
        "_sample_nsa_patches_kernel",
        "_nsa_regions_kernel",
    ]
