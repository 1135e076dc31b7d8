# SPDX-License-Identifier: Apache-2.0
"""When native CUDA kernels run, and why they do not: with what a machine tells made up."""

from __future__ import annotations

import importlib.util
import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import ssad_kernels
from ssad_kernels import _backend, _op, poisson, use_backend

COMPILED = [75, 80, 86, 89, 90, 100, 120]


def use_machine(
    monkeypatch: pytest.MonkeyPatch,
    *,
    build: str = "nvcc",
    driver: int = 13000,
    gpus: tuple[int, ...] = (90,),
    has_torch_gpu: bool = True,
    shared: int = 227 * 1024,
) -> None:
    """Replace what the extension and torch say of the build and the machine."""
    native = SimpleNamespace(
        cuda_build=build,
        cpu_level="baseline",
        cuda_runtime=lambda: (13000, driver, COMPILED, list(gpus)),
        cuda_multigrid_bytes=lambda side: 43844 if side <= 64 else 157400,
    )
    monkeypatch.setattr(_backend, "native", native)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_torch_gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
    monkeypatch.setattr(torch.cuda, "get_device_name", "GPU {}".format)
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda _: SimpleNamespace(shared_memory_per_block_optin=shared),
    )
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "triton")
    for op in _op._OPS.values():
        monkeypatch.setattr(op, "_chosen", {})


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        ({"build": "none"}, "this build has no CUDA C++ kernels"),
        ({"build": "emulated"}, "this build has no CUDA C++ kernels"),
        ({"driver": 0, "gpus": ()}, "there is no CUDA driver"),
        (
            {"driver": 12080, "gpus": ()},
            "the driver is for CUDA 12.8, the kernels are for 13.0",
        ),
        ({"has_torch_gpu": False}, "torch finds no GPU"),
        ({"gpus": ()}, "torch finds no GPU"),
        ({"gpus": (90, 70)}, "there is no kernel for a GPU of compute capability 7.0"),
        ({"gpus": (110,)}, "there is no kernel for a GPU of compute capability 11.0"),
    ],
)
def test_backends_says_why_native_cuda_cannot_run(monkeypatch, machine, reason):
    use_machine(monkeypatch, **machine)
    assert ssad_kernels.backends()["poisson_solve"]["cuda"] == reason
    with pytest.warns(RuntimeWarning, match=re.escape(f"cuda: {reason}")):
        assert make_op(None).choose("cuda")[0] == "reference"


@pytest.mark.parametrize("gpus", [(75,), (80, 87, 89), (103,), (121, 130)])
def test_backends_says_what_native_cuda_serves(monkeypatch, gpus):
    use_machine(monkeypatch, driver=13010, gpus=gpus)
    row = ssad_kernels.backends()["poisson_solve"]
    what = "float32, pixels a side: multigrid to 128, jacobi to 64, sor to 32, sine to 128"
    assert row["cuda"] == f"ready ({what})"
    assert _op._OPS["poisson_solve"].choose("cuda")[0] == "cuda"


def test_backends_says_on_which_gpus_planes_are_smaller(monkeypatch):
    use_machine(monkeypatch, gpus=(86, 89), shared=99 * 1024)
    what = "multigrid to 128 (64 on GPU 0, GPU 1), jacobi to 64"
    assert what in ssad_kernels.backends()["poisson_solve"]["cuda"]


@pytest.mark.parametrize(
    ("shared", "side", "backend"),
    [(99, 64, "cuda"), (99, 65, "triton"), (163, 65, "cuda"), (163, 129, "triton")],
)
def test_large_planes_run_where_shared_memory_holds_them(monkeypatch, shared, side, backend):
    use_machine(monkeypatch, shared=shared * 1024)
    rhs, mask, *rest = arguments(side, 9)
    on_gpu = SimpleNamespace(
        dtype=rhs.dtype, shape=rhs.shape, is_cuda=True, device=torch.device("cuda", 0)
    )
    monkeypatch.setattr(poisson, "has_memory", lambda tensor: tensor is on_gpu)
    op = make_op(_op.Limits("small planes", poisson._cuda_serves), "triton")
    assert op.choose("cuda", on_gpu, mask, *rest)[0] == backend


def test_without_the_extension_that_is_the_reason(monkeypatch):
    monkeypatch.setattr(_backend, "native", None)
    monkeypatch.setattr(_backend, "native_reason", "the C++ extension could not be loaded (gone)")
    row = ssad_kernels.backends()["poisson_solve"]
    assert row["cuda"] == row["cpu"] == "the C++ extension could not be loaded (gone)"


def arguments(
    height: int, width: int, dtype: torch.dtype = torch.float32, solver: str = "multigrid"
) -> tuple[Any, ...]:
    planes = torch.empty(2, 3, height, width, dtype=dtype, device="meta")
    mask = torch.empty(2, height, width, dtype=torch.bool, device="meta")
    return planes, mask, planes, solver, 0.1, 0.0, 40


SERVED = [
    arguments(64, 64),
    arguments(128, 65),
    arguments(1, 64),
    arguments(33, 2),
    arguments(64, 9, solver="jacobi"),
    arguments(32, 32, solver="sor"),
    arguments(128, 3, solver="sine"),
]
NOT_SERVED = [
    arguments(129, 64),
    arguments(3, 129),
    arguments(8, 8, torch.float64),
    arguments(8, 8, torch.float64, solver="sine"),
    arguments(65, 8, solver="jacobi"),
    arguments(8, 33, solver="sor"),
    arguments(129, 8, solver="sine"),
]


def make_op(serves: _op.Limits | None, *others: str) -> _op._Op:
    kernels = {name: lambda *_: None for name in ("cuda", *others, "reference")}
    return _op._Op("probe", kernels, serves)


@pytest.mark.parametrize("args", SERVED)
def test_native_cuda_comes_first_where_it_serves(monkeypatch, args):
    use_machine(monkeypatch)
    op = make_op(_op.Limits("small planes", poisson._cuda_serves), "triton")
    assert op.choose("cuda", *args)[0] == "cuda"
    with use_backend("cuda"):
        assert op.choose("cuda", *args)[0] == "cuda"
    with use_backend("triton"):
        assert op.choose("cuda", *args)[0] == "triton"


@pytest.mark.parametrize("args", NOT_SERVED)
def test_what_native_cuda_does_not_serve_goes_to_the_next_backend(monkeypatch, args):
    use_machine(monkeypatch)
    limits = _op.Limits("small planes", poisson._cuda_serves)
    with_triton, without = make_op(limits, "triton"), make_op(limits)
    assert with_triton.choose("cuda", *args)[0] == "triton"
    reasons = r"\(cuda: its kernel serves small planes only; triton: probe has no triton kernel\)$"
    with pytest.warns(RuntimeWarning, match=reasons):
        assert without.choose("cuda", *args)[0] == "reference"
    assert without.choose("cuda", *SERVED[0])[0] == "cuda"
    with use_backend("cuda"):
        assert with_triton.choose("cuda", *args)[0] == "triton"
        with pytest.raises(RuntimeError, match=reasons):
            without.choose("cuda", *args)


def never(*_: Any) -> bool:
    raise AssertionError


def test_limits_are_asked_only_where_native_cuda_may_run(monkeypatch):
    """They may look into the extension."""
    use_machine(monkeypatch, build="none")
    op = make_op(_op.Limits("nothing", never), "triton", "cpu")
    args = SERVED[0]
    assert op.choose("cuda", *args)[0] == "triton"
    assert op.choose("cpu", *args)[0] == "cpu"
    use_machine(monkeypatch)
    for backend in ("triton", "reference"):
        with use_backend(backend):
            assert op.choose("cuda", *args)[0] == backend
    monkeypatch.setattr(_backend, "native", None)
    monkeypatch.setattr(_backend, "native_reason", "the C++ extension could not be loaded (gone)")
    monkeypatch.setattr(op, "_chosen", {})
    assert op.choose("cuda", *args)[0] == "triton"
