# SPDX-License-Identifier: Apache-2.0
"""Every operator: samples, registration, fake tensors, backends."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import ssad_kernels
from ssad_kernels import _backend, _op, testing, use_backend
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

OPS = sorted(_op._OPS)
SAMPLES = [(op, name) for op in OPS for name in testing.samples(op)]
# A CPU-only torch cannot stack tensors of another device, even fake ones.
FAKE_DEVICE = "cuda" if torch.backends.cuda.is_built() else "cpu"


def operator(op: str) -> Any:
    return getattr(torch.ops.ssad_kernels, op).default


def outputs_of(op: str, args: tuple[Any, ...]) -> list[Tensor]:
    """The outputs of an op, those it writes in place included."""
    result = operator(op)(*args)
    results = list(result) if isinstance(result, (tuple, list)) else [result]
    return [args[0], *results] if op.endswith("_") else results


def test_there_are_samples_and_tolerances_for_every_op_and_no_other():
    assert sorted(testing._SAMPLES) == OPS
    assert sorted(testing.TOLERANCES) == OPS


@pytest.mark.parametrize("op", OPS)
def test_samples_cover_the_menu(op):
    shapes = [[a.shape for a in args if isinstance(a, Tensor)] for args in _sample_args(op)]
    assert any(shape[0][0] == 0 for shape in shapes)
    assert any(shape[0][0] == 1 for shape in shapes)
    tensors = [a for args in _sample_args(op) for a in args if isinstance(a, Tensor)]
    assert any(not tensor.is_contiguous() for tensor in tensors)


def _sample_args(op: str) -> list[tuple[Any, ...]]:
    return list(testing.samples(op).values())


@pytest.mark.parametrize("op", OPS)
def test_op_has_reference_and_documentation(op):
    assert callable(_op._OPS[op].kernels["reference"])
    if op.endswith("_backward"):  # a gradient, which its op documents
        assert op.removesuffix("_backward") in OPS
        return
    text = inspect.getdoc(getattr(ssad_kernels, op)) or ""
    for part in ("(N, ", "Args:", "Returns:", "Raises:", "Gradient:", "Determinism:"):
        assert part in text, part


@pytest.mark.parametrize(("op", "name"), SAMPLES)
def test_kernel_equals_reference(op, name, device):
    args = testing.samples(op, device)[name]
    with use_backend("auto"):
        actual = outputs_of(op, args)
    with use_backend("reference"):
        expected = outputs_of(op, testing.samples(op, device)[name])
    for got, want in zip(actual, expected, strict=True):
        assert got.dtype == want.dtype
        torch.testing.assert_close(
            got, want, rtol=0, atol=testing.tolerance(op, want.dtype), equal_nan=True
        )


@pytest.mark.parametrize(("op", "name"), SAMPLES)
def test_opcheck(op, name, device):
    torch.library.opcheck(operator(op), testing.samples(op, device)[name])


@pytest.mark.parametrize(("op", "name"), SAMPLES)
def test_meta_kernel_has_the_shapes_of_the_real_one(op, name):
    def to_meta(value: Any) -> Any:
        return value.to("meta") if isinstance(value, Tensor) else value

    args = testing.samples(op)[name]
    on_meta = outputs_of(op, tuple(to_meta(value) for value in args))
    for meta, real in zip(on_meta, outputs_of(op, args), strict=True):
        assert (meta.shape, meta.dtype) == (real.shape, real.dtype)
        assert meta.device.type == "meta"


def faked(args: tuple[Any, ...], device: str) -> tuple[Any, ...]:
    return tuple(
        torch.empty_strided(a.shape, a.stride(), dtype=a.dtype, device=device)
        if isinstance(a, Tensor)
        else a
        for a in args
    )


@pytest.mark.parametrize("op", OPS)
def test_ops_trace_on_a_fake_gpu(op):
    for args in _sample_args(op):
        with FakeTensorMode() as mode:
            results = outputs_of(op, faked(args, "cuda"))
        assert all(r.device.type == "cuda" and r.fake_mode is mode for r in results)


@pytest.mark.parametrize(
    "transform",
    [
        CutPaste(rotation=(-10, 10), p=0.5, source="other", return_status=True),
        CutPasteScar(),
        CutPaste3Way(),
        Cutout(fill="mean"),
        Confetti(),
        Scar(),
        PerlinAnomaly(source="structure", return_status=True),
        HardCutPaste(return_status=True),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_transforms_never_wait_for_the_gpu(transform):
    """A fake tensor has no values: whatever reads one on the host raises."""
    with FakeTensorMode():
        images = torch.empty(4, 3, 32, 32, device=FAKE_DEVICE)
        keys = torch.empty(4, 3, dtype=torch.int64, device=FAKE_DEVICE)
        for results in (transform(images, keys), transform(images)):
            assert all(result.device.type == FAKE_DEVICE for result in results)
        if not isinstance(transform, CutPaste3Way):
            params = transform.make_params(keys, images)
            columns = torch.utils._pytree.tree_leaves(params)
            assert {c.device.type for c in columns if c is not None} == {FAKE_DEVICE}


@pytest.mark.parametrize("op", OPS)
def test_the_reference_never_waits_for_the_gpu(op):
    """It stands in for a missing kernel, so it has to keep the promise as well."""
    args = _sample_args(op)[0]
    with FakeTensorMode():
        _op._OPS[op].kernels["reference"](*faked(args, FAKE_DEVICE))


@pytest.mark.native
def test_backends_lists_what_runs_and_why_not():
    table = ssad_kernels.backends()
    assert sorted(table) == OPS
    for op, row in table.items():
        assert list(row) == ["cpu", "cuda", "triton", "reference"]
        assert row["cpu"] == f"ready ({_backend.native.cpu_level})"
        assert row["reference"] == "ready"
        assert (row["cuda"] == f"{op} has no cuda kernel") == ("cuda" not in _op._OPS[op].kernels)


def test_backends_names_the_reason_for_a_missing_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    for op, row in ssad_kernels.backends().items():
        reasons = ("torch finds no GPU", "triton is not installed", f"{op} has no triton kernel")
        assert row["triton"] in reasons


@pytest.mark.native
def test_use_backend_selects_and_restores():
    op = _op._OPS["philox"]
    assert op.choose("cpu")[0] == "cpu"
    with use_backend("reference"):
        assert op.choose("cpu")[0] == "reference"
        with use_backend("auto"):
            assert op.choose("cpu")[0] == "cpu"
        assert op.choose("cpu")[0] == "reference"
    with pytest.raises(ZeroDivisionError), use_backend("cpu"):
        raise ZeroDivisionError
    assert _backend.active() == "auto"
    assert op.choose("cpu")[0] == "cpu"


def test_use_backend_rejects_unknown_names():
    must = "use_backend: `name` must be one of auto, cpu, cuda, triton, reference, got gpu"
    with pytest.raises(ValueError, match=f"^{must}$"), use_backend("gpu"):
        pass


@pytest.mark.parametrize("op", OPS)
def test_an_op_refuses_cpu_tensors_where_only_the_gpu_was_asked_for(op):
    args = next(iter(testing.samples(op).values()))
    message = rf"^{op}: backend `cuda` cannot run on cpu \(it does not serve cpu tensors\)$"
    with use_backend("cuda"), pytest.raises(RuntimeError, match=message):
        operator(op)(*args)


class _CountingReference:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *args: Any) -> None:
        self.calls += 1


def test_gpu_tensors_without_gpu_kernel_warn_once_and_run_the_reference():
    reference = _CountingReference()
    op = _op._Op("probe", {"reference": reference})
    with pytest.warns(RuntimeWarning) as caught:
        name, kernel = op.choose("cuda")
    assert (name, kernel) == ("reference", reference)
    assert [str(w.message) for w in caught] == [
        "ssad_kernels.probe runs its slow reference on CUDA tensors "
        "(cuda: probe has no cuda kernel; triton: probe has no triton kernel)"
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert op.choose("cuda") == ("reference", reference)
        assert op.choose("cpu")[0] == "reference"  # no kernel for any device: nothing to warn of


def test_asking_for_the_gpu_turns_that_warning_into_an_error():
    op = _op._Op("probe", {"reference": _CountingReference()})
    message = (
        r"^probe: backend `cuda` cannot run on cuda "
        r"\(cuda: probe has no cuda kernel; triton: probe has no triton kernel\)$"
    )
    with use_backend("cuda"), pytest.raises(RuntimeError, match=message):
        op.choose("cuda")


@pytest.mark.parametrize("op", OPS)
def test_every_op_falls_back_on_a_machine_without_gpu(op, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(_op._OPS[op], "_chosen", {})
    with pytest.warns(RuntimeWarning, match=f"^ssad_kernels.{op} runs its slow reference"):
        assert _op._OPS[op].choose("cuda")[0] == "reference"
    with use_backend("cuda"), pytest.raises(RuntimeError, match=f"^{op}: backend `cuda` cannot"):
        _op._OPS[op].choose("cuda")


_BLOCK = "import sys; sys.modules['ssad_kernels._native'] = None\n"


def test_without_the_extension_the_reference_runs_with_one_warning(run_python):
    code = f"""{_BLOCK}
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import torch, ssad_kernels
    from ssad_kernels.transforms import CutPaste
    image = torch.zeros(2, 3, 16, 16)
    for _ in range(2):
        images, masks = CutPaste()(image, ssad_kernels.make_keys(0, 0, torch.arange(2)))
assert masks.any((1, 2, 3)).all()
ours = [str(w.message) for w in caught if "ssad_kernels" in str(w.message)]
assert len(ours) == 1, ours
print(ours[0])
print(ssad_kernels.backends()["philox"]["cpu"])
"""
    warning, reason = run_python(code, SSAD_REQUIRE_NATIVE="").splitlines()
    assert warning.startswith("ssad_kernels: the C++ extension could not be loaded (")
    assert warning.endswith("); every op runs its slow reference on the CPU")
    assert reason in warning


def test_a_required_extension_that_is_missing_is_an_import_error(run_python):
    code = f"""{_BLOCK}
try:
    import ssad_kernels
except ImportError:
    print("ImportError")
"""
    assert run_python(code, SSAD_REQUIRE_NATIVE="1") == "ImportError\n"


@pytest.mark.parametrize("op", [name for name in OPS if name.endswith("_")])
def test_autograd_notices_what_is_overwritten(op):
    args = next(args for args in _sample_args(op) if args[0].dtype == torch.float32)
    images = torch.rand(args[0].shape)
    weight = torch.ones_like(images, requires_grad=True)
    product = (weight * images).sum()
    getattr(torch.ops.ssad_kernels, op)(images, *args[1:])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_overlapping_use_backend_blocks_leave_nothing_behind():
    first, second = use_backend("reference"), use_backend("cpu")
    first.__enter__()
    second.__enter__()
    assert _backend.active() == "cpu"
    first.__exit__(None, None, None)
    assert _backend.active() == "cpu"
    second.__exit__(None, None, None)
    assert _backend.active() == "auto"
