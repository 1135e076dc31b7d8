# SPDX-License-Identifier: Apache-2.0
"""The whole blend as one CUDA kernel, emulated, against the CPU's kernel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import ssad_kernels as sk
from ssad_kernels import _backend, blending_op
from ssad_kernels.testing import (
    MASKS,
    blend_outcomes,
    make_blend,
    make_images,
    make_mask,
    same_bits,
)

if "cuda-emulated" not in _backend.BACKENDS:
    reason = "the extension was not built with SSAD_CUDA=EMULATED"
    pytest.skip(reason, allow_module_level=True)

ORDERS = [("forward", 0), ("reverse", 0), ("random", 0), ("random", 1)]
LEVEL = 1 / 255

emulation = _backend.native._emulation


@pytest.fixture(autouse=True)
def _order():
    emulation.set_order("random", 0)
    yield
    emulation.set_order("forward", 0)


def blend(backend: str, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
    with sk.use_backend(backend):
        blended, status = sk.poisson_blend(*args, return_status=True, **options)
    return blended, status


def compare(*args: Any, atol: float, **options: Any) -> Tensor:
    found, status = blend("cuda-emulated", *args, **options)
    expected, on_cpu = blend("cpu", *args, **options)
    assert same_bits(status, on_cpu)
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)
    return status


def problem(family: str, n: int, c: int, h: int, w: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Patches in the middle of their images, and over two of the images' sides."""
    source = make_images(n, c, h, w, dtype=dtype, seed=1)
    if dtype != torch.uint8:  # equal gradients would round to unequal ones
        source *= 0.937
    masks = torch.stack([make_mask(family, h, w, seed=i) for i in range(n)])
    places = torch.tensor([(3, 2), (-4, 1), (6, w // 2)])[torch.arange(n) % 3]
    return make_images(n, c, h + 5, w + 7, dtype=dtype), source, masks, places


# At tol 1e-4; what few edges hold is not told closer in float32, as in test_cuda_emulated_ops.py.
ALLOWED = dict.fromkeys(MASKS, 2e-3) | {"one hole": 3e-2}


@pytest.mark.parametrize("family", MASKS)
def test_every_family_of_masks_and_gradient_is_blended_as_on_the_cpu(family: str):
    args = problem(family, 8, 3, 17, 22, torch.float32)
    gradients = torch.arange(8) % 4  # places change with another period
    for region in ("mask", "rect"):
        options = {"gradient": gradients, "region": region, "tol": 1e-4}
        compare(*args, atol=ALLOWED[family] * LEVEL, **options)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16])
@pytest.mark.parametrize(("h", "w"), [(64, 64), (61, 5), (33, 40)])
def test_patches_that_take_a_large_block(dtype: torch.dtype, h: int, w: int):
    args = problem("ellipses", 2, 3, h, w, dtype)
    options = {"gradient": torch.tensor([0, 1]), "tol": 1e-3}
    atol = 1 if dtype == torch.uint8 else 2.0**-9
    status = compare(*args, atol=atol, **options)
    assert status.tolist() == [sk.Status.APPLIED.value, sk.Status.CLIPPED.value]
    compare(*args[:2], None, args[3], atol=atol, **options)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.float32])
def test_soft_masks_take_any_number_of_channels(kind: torch.dtype, channels: int):
    target, source, masks, places = problem("disc", 2, channels, 19, 23, torch.float32)
    soft = make_images(2, 1, 19, 23, seed=5)[:, 0] * masks
    mask = {torch.bool: masks, torch.uint8: soft, torch.float32: soft.float() / 255}[kind]
    compare(target, source, mask, places, atol=2e-3 * LEVEL, tol=1e-4)


def test_a_sample_that_cannot_be_blended_keeps_its_bits():
    """The last channel of one, the mask of another and the gain of a third are not finite."""
    args = make_blend(6)
    args["source"][1, 2, 5, 5] = float("nan")
    args["mask"] = args["mask"].float()
    args["mask"][1, 4:7, 4:7] = 1.0
    args["mask"][2, 3, 3] = float("nan")
    args["mask"][4] = 0.0
    gain = torch.tensor([1.0, 1.0, 1.0, float("inf"), 1.0, 1.0])
    before = args["target"].clone()
    with sk.use_backend("cuda-emulated"):
        _, status = sk.poisson_blend_(**args, source_gain=gain, return_status=True)
    left = [sk.Status.NOT_FINITE] * 3 + [sk.Status.EMPTY]
    assert status[1:5].tolist() == [s.value for s in left]
    assert same_bits(args["target"][1:5], before[1:5])
    for i in (0, 5):
        assert status[i] in (sk.Status.APPLIED.value, sk.Status.CLIPPED.value)
        assert not same_bits(args["target"][i], before[i])


def test_what_does_not_converge_keeps_its_bits():
    args = make_blend(2)
    rows = args["top_left"], None, None, None, torch.zeros(2, dtype=torch.int64), None, None
    for backend in ("cuda-emulated", "cpu"):
        target = args["target"].clone()
        with sk.use_backend(backend):
            status = torch.ops.ssad_kernels.poisson_blend_(
                target, args["source"], args["mask"], *rows, "mask", "multigrid", 0.0, 0.0, 1
            )
        assert (status == sk.Status.NOT_CONVERGED.value).all()
        assert same_bits(target, args["target"])


def test_only_unknown_pixels_are_written():
    target, source, masks, _ = problem("noise", 2, 3, 20, 18, torch.uint8)
    places = torch.tensor([(2, 3), (0, 5)])
    found, _ = blend("cuda-emulated", target, source, masks, places)
    inside = torch.zeros_like(target, dtype=torch.bool)
    for i, (y, x) in enumerate(places.tolist()):
        inside[i, :, y : y + 20, x : x + 18] = masks[i]
    assert same_bits(found[~inside], target[~inside])
    assert (found != target)[inside].float().mean() > 0.5


def test_a_target_that_is_not_finite_inside_a_mask_does_not_matter():
    target, source, masks, places = problem("square", 1, 1, 12, 12, torch.float32)
    inner = masks[0] & (torch.nn.functional.avg_pool2d(masks.float(), 3, 1, 1)[0] > 0.99)
    target[0, 0, 3:15, 2:14][inner] = float("nan")
    status = compare(target, source, masks, places, atol=2e-3 * LEVEL, tol=1e-4)
    assert status.item() == sk.Status.APPLIED.value
    _, status = blend("cuda-emulated", target, source, masks, places, gradient="mixed")
    assert status.item() == sk.Status.NOT_FINITE.value


def test_bits_are_the_same_in_any_order_of_threads_and_any_batch():
    args = make_blend(6)
    options = {"gradient": torch.tensor([0, 1, 2, 3, 0, 1]), "tol": 1e-3}
    expected, status = blend("cuda-emulated", *args.values(), **options)
    for order, seed in ORDERS:
        emulation.set_order(order, seed)
        found, again = blend("cuda-emulated", *args.values(), **options)
        assert same_bits(found, expected)
        assert same_bits(again, status)
    for i in (1, 4):
        one = [value[i : i + 1] for value in args.values()]
        code = options["gradient"][i : i + 1]
        assert same_bits(blend("cuda-emulated", *one, gradient=code, tol=1e-3)[0][0], expected[i])


def test_every_outcome_is_that_of_the_cpu():
    masks, rows, expected = blend_outcomes()
    n = len(masks)
    target = make_images(n, 3, 13, 11, dtype=torch.bfloat16)
    source = make_images(n, 3, 8, 9, dtype=torch.bfloat16, seed=3)
    with sk.use_backend("cuda-emulated"):
        op = torch.ops.ssad_kernels.poisson_blend
        out, status = op(target, source, masks, *rows, "mask", "multigrid", 0.0, 1e-7, 40)
    assert same_bits(status, expected)
    left = (status != sk.Status.APPLIED.value) & (status != sk.Status.CLIPPED.value)
    assert same_bits(out[left], target[left])


def served(h: int, w: int, dtype: torch.dtype = torch.uint8, **change: Any) -> bool:
    given: dict[str, Any] = {"side": 256, "mask": None, "sizes": None, "solver": "sine"} | change
    side = given["side"]
    target = torch.empty(2, 3, side, side, dtype=dtype, device="meta")
    source = torch.empty(2, 3, h, w, dtype=dtype, device="meta")
    rest = None, given["sizes"], None, None, None, None, None, "mask", given["solver"], 0.1, 0.0, 40
    return blending_op._cuda_serves(target, source, given["mask"], *rest)


def test_what_is_served_follows_from_the_shapes():
    sizes = torch.empty(2, 2, dtype=torch.int64, device="meta")
    mask = torch.empty(2, 64, 64, dtype=torch.bool, device="meta")
    assert served(64, 64)
    assert served(1, 64, torch.bfloat16)
    assert served(64, 3, solver="multigrid")
    assert served(256, 256, sizes=sizes, mask=mask)
    assert served(256, 256, sizes=sizes, side=60)
    assert not served(65, 64)
    assert not served(8, 8, torch.float64)
    assert not served(8, 8, solver="sor")
    assert not served(8, 8, solver="jacobi")
    assert not served(8, 8, sizes=sizes)  # which may be larger than the source
