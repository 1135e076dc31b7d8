# SPDX-License-Identifier: Apache-2.0
"""Medians, object masks and labels: what they promise, beyond agreeing with the reference."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ssad_kernels import difference_label, median_filter, object_mask, use_backend
from ssad_kernels.testing import LAYOUTS, MASKS, make_images, make_mask, with_layout

NAN = float("nan")


def pair(n: int = 6, h: int = 40, w: int = 70, dtype: torch.dtype = torch.uint8) -> list[Tensor]:
    before = make_images(n, 3, h, w, dtype=dtype)
    after = make_images(n, 3, h, w, dtype=dtype, seed=1)
    masks = [make_mask(MASKS[i % len(MASKS)], h, w, seed=i) for i in range(n)]
    return [before, after, torch.stack(masks)[:, None]]


def test_footprints_have_the_pixels_of_the_papers():
    """A lone window of ones is just enough where it holds more than half of the footprint."""
    for radius, pixels in zip(range(1, 8), (5, 13, 29, 49, 81, 113, 149), strict=True):
        image = torch.zeros(1, 1, 15, 15)
        offsets = torch.arange(15) - 7
        disk = offsets[:, None] ** 2 + offsets**2 <= radius**2
        assert int(disk.sum()) == pixels
        ones = disk.nonzero()[: pixels // 2]
        image[0, 0, ones[:, 0], ones[:, 1]] = 1
        assert median_filter(image, radius=radius)[0, 0, 7, 7] == 0
        y, x = disk.nonzero()[pixels // 2]
        image[0, 0, y, x] = 1
        assert median_filter(image, radius=radius)[0, 0, 7, 7] == 1


@given(
    st.integers(1, 40), st.integers(1, 90), st.integers(1, 7), st.integers(0, 99),
    st.sampled_from([torch.bool, torch.uint8, torch.int32, torch.bfloat16, torch.float32]),
)  # fmt: skip
def test_any_size_of_median(h, w, radius, seed, dtype):
    images = make_images(1, 1, h, w, seed=seed)
    images = images > 120 if dtype == torch.bool else images.to(dtype)
    top, left = seed % h, seed * 7 % w
    boxes = torch.tensor([[top, left, seed % 17, seed % 29]])
    for box in (None, boxes):
        expected = median_filter(images, radius=radius, boxes=box)
        with use_backend("reference"):
            assert torch.equal(median_filter(images, radius=radius, boxes=box), expected)


@given(
    st.integers(1, 40), st.integers(1, 80), st.integers(0, 999), st.sampled_from(MASKS),
    st.sampled_from(["binary", "intensity", "logistic"]), st.booleans(),
)  # fmt: skip
def test_any_label(h, w, seed, family, kind, is_float):
    """Wherever the region is, the kernel's shortcuts leave no trace."""
    before, after = (make_images(1, 2, h, w, seed=seed + i) for i in range(2))
    if is_float:
        before, after = before.float() / 255, after.float() / 255
    region = make_mask(family, h, w, seed=seed)[None, None]
    options: dict[str, Any] = {"kind": kind, "tolerance": 20.0, "size": 3 + 2 * (seed % 7)}
    options["radius"] = 1 + seed % 7
    found = difference_label(before, after, region, **options)
    with use_backend("reference"):
        expected = difference_label(before, after, region, **options)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 if kind == "logistic" else 0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.float64])
def test_alone_and_in_a_batch(dtype):
    before, after, region = pair(dtype=dtype)
    label = difference_label(before, after, region)
    mask = object_mask(before, "otsu")
    median = median_filter(before, radius=4)
    for i in range(len(before)):
        one = slice(i, i + 1)
        assert torch.equal(difference_label(before[one], after[one], region[one]), label[one])
        assert torch.equal(object_mask(before[one], "otsu"), mask[one])
        assert torch.equal(median_filter(before[one], radius=4), median[one])


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_any_layout(layout):
    before, after, region = pair()
    moved = with_layout(before, layout)
    assert torch.equal(median_filter(moved, radius=3), median_filter(before, radius=3))
    assert torch.equal(object_mask(moved, (128, 10)), object_mask(before, (128, 10)))
    found = difference_label(moved, after, with_layout(region, layout))
    assert torch.equal(found, difference_label(before, after, region))


def test_any_number_of_threads():
    before, after, region = pair(24, 128, 128)
    found = set()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results = (
            difference_label(before, after, region),
            object_mask(before, "otsu"),
            median_filter(before, radius=5),
        )
        found.add(hashlib.sha256(b"".join(r.numpy().tobytes() for r in results)).hexdigest())
    assert len(found) == 1


_LEVELS = """
import torch
from ssad_kernels.testing import samples
found = []
for op in ("median_filter", "object_mask", "difference_label"):
    for args in samples(op).values():
        found.append(getattr(torch.ops.ssad_kernels, op)(*args))
torch.save(found, PATH)
"""


@pytest.mark.native
@pytest.mark.parametrize("level", ["avx2", "avx512"])
def test_any_instruction_set_gives_the_same_bits(level: str, at_level: Callable[[str, str], Any]):
    for got, want in zip(at_level(_LEVELS, level), at_level(_LEVELS, "baseline"), strict=True):
        assert torch.equal(got.view(torch.uint8), want.view(torch.uint8))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_nan_reaches_its_windows_and_no_other(dtype):
    images = make_images(2, 2, 20, 31, dtype=dtype)
    clean = median_filter(images, radius=2)
    images[0, 1, 0, 7] = images[0, 1, 12, 20] = NAN
    found = median_filter(images, radius=2)
    with use_backend("reference"):
        assert torch.equal(found.isnan(), median_filter(images, radius=2).isnan())
    assert torch.equal(found.isnan().sum((2, 3)), torch.tensor([[0, 22], [0, 0]]))
    assert torch.equal(torch.where(found.isnan(), clean, found), clean)


def test_infinities_are_numbers_and_zero_has_no_sign():
    image = torch.full((1, 1, 9, 9), float("inf"))
    image[..., :4] = -float("inf")
    image[..., 4] = -0.0
    found = median_filter(image, radius=1)[0, 0, 4]
    assert found.tolist() == [-float("inf")] * 4 + [0.0] + [float("inf")] * 4
    assert not found[4].signbit()


def test_what_lies_outside_of_a_box_keeps_its_bits():
    images = make_images(3, 2, 17, 19, dtype=torch.float32)
    images[0, 0, 0, 0], images[1, 1, 16, 18] = NAN, -0.0
    boxes = torch.tensor([[5, 6, 4, 3], [0, 0, 0, 9], [20, 2, 4, 4]])
    found = median_filter(images, radius=2, boxes=boxes)
    inside = torch.zeros_like(images, dtype=torch.bool)
    inside[0, :, 5:9, 6:9] = True
    bits = images.view(torch.int32)
    assert torch.equal(found.view(torch.int32)[~inside], bits[~inside])
    assert torch.equal(found[inside], median_filter(images, radius=2)[inside])


@pytest.mark.parametrize("kind", ["binary", "intensity", "logistic", "factor"])
def test_empty_regions_and_equal_images_have_no_label(kind):
    before, after, region = pair()
    zeros = torch.zeros(6, 1, 40, 70)
    assert torch.equal(difference_label(before, after, region & False, kind=kind), zeros)
    assert torch.equal(difference_label(before, before, region | True, kind=kind), zeros)
    broken = before.float() / 255
    broken[:, 0, ::3] = NAN
    broken[:, 0, 1::3] = float("inf")
    assert torch.equal(difference_label(broken, broken, region | True, kind=kind), zeros)


def test_a_nan_counts_as_no_difference():
    before, after, region = pair(3, dtype=torch.float32)
    region = region | True
    clean = difference_label(before, after, region)
    after[1, 2, 11, 12] = NAN
    found = difference_label(before, after, region)
    assert found.isfinite().all()
    assert torch.equal(found[::2], clean[::2])
    replaced = torch.where(after.isnan().any(1, keepdim=True), before, after)
    assert torch.equal(found, difference_label(before, replaced, region))


def test_each_sample_has_its_own_parameters():
    before, after, region = pair(4)
    steepness, midpoint, factor = (torch.rand(4, dtype=torch.float64) for _ in range(3))
    options = {"steepness": steepness, "midpoint": 60 * midpoint}
    label = difference_label(before, after, region | True, **options)
    weights = difference_label(before, after, region | True, kind="factor", factor=factor)
    for i in range(4):
        one = (before[i : i + 1], after[i : i + 1], region[i : i + 1] | True)
        same = {name: float(value[i]) for name, value in options.items()}
        assert torch.equal(difference_label(*one, **same), label[i : i + 1])
        same = {"kind": "factor", "factor": float(factor[i])}
        assert torch.equal(difference_label(*one, **same), weights[i : i + 1])


@pytest.mark.parametrize(
    ("kind", "name"),
    [("logistic", "steepness"), ("logistic", "midpoint"), ("factor", "factor")],
)
def test_a_sample_whose_number_is_not_finite_has_no_label(kind, name):
    before, after = make_images(4, 3, 12, 12), make_images(4, 3, 12, 12, seed=1)
    region = torch.ones(4, 1, 12, 12, dtype=torch.bool)
    row = torch.tensor([0.5, NAN, float("inf"), 1e300], dtype=torch.float64)  # too large
    label = difference_label(before, after, region, kind=kind, **{name: row})
    expected = difference_label(before, after, region, kind=kind, **{name: 0.5})
    assert torch.equal(label[0], expected[0])
    assert label[0].any()
    assert not label[1:].any()


@pytest.mark.native
def test_any_byte_but_zero_is_true():
    """As those of ``view(torch.bool)`` of other numbers."""
    from ssad_kernels import (
        NsaLaw,
        NsaParams,
        NsaStyle,
        alpha_blend,
        connected_components,
        count_above,
        make_keys,
        nsa_keyed,
        nsa_regions,
        poisson_blend,
        poisson_solve,
    )
    from ssad_kernels.testing import make_blend, make_objects

    def odd(masks: torch.Tensor) -> torch.Tensor:
        bytes_ = torch.randint(1, 256, masks.shape, dtype=torch.uint8) & -masks.to(torch.uint8)
        bytes_[masks] |= 2  # never 1
        return (bytes_ & 254).view(torch.bool)

    torch.manual_seed(0)
    masks = make_objects(3, 40, 37, (0.8, 0.7))
    before, after = make_images(3, 3, 40, 37), make_images(3, 3, 40, 37, seed=1)
    box = torch.tensor([[[2, 3, 30, 29]]]).expand(3, -1, -1)
    params = NsaParams(
        torch.arange(3),
        box,
        box,
        torch.zeros(3, 1, 0, 5, dtype=torch.float64),
        torch.ones(3, 1, dtype=torch.bool),
        torch.ones(3, dtype=torch.float64),
        torch.zeros(3, dtype=torch.int8),
    )
    problem = make_blend(n=3)
    rhs, values = torch.rand(3, 1, 40, 37), torch.rand(3, 1, 40, 37)
    keys = make_keys(0, 0, torch.arange(3))

    def results(change: Any) -> list[torch.Tensor]:
        given = change(masks)
        found = nsa_regions(
            params, 40, 37, source_masks=given, target_masks=given.flip(0), paste="label"
        )
        changed = {**problem, "mask": change(problem["mask"])}
        return [
            *found,
            difference_label(before, after, given),
            median_filter(given, radius=3),
            median_filter(given, size=5),
            poisson_blend(**changed),
            alpha_blend(**changed),
            poisson_solve(rhs, given[:, 0], values),
            *nsa_keyed(before, keys, NsaLaw(), NsaStyle(), stream=7, masks=given),
            *connected_components(given),
            count_above(rhs.flatten()[:50], rhs.flatten(), ignored=given.flatten()),
            count_above(rhs.flatten()[:50], rhs.flatten(), ignored=given.flatten(), most=9),
        ]

    assert problem["mask"].dtype == torch.bool
    assert not torch.equal(odd(masks).view(torch.uint8), masks.view(torch.uint8))
    for got, want in zip(results(odd), results(lambda given: given), strict=True):
        assert torch.equal(got, want)


def test_labels_have_no_gradient():
    before, after, region = pair(2, dtype=torch.float32)
    after.requires_grad_()
    assert not difference_label(before, after, region).requires_grad
    assert not median_filter(after, radius=1).requires_grad


IMAGES = torch.zeros(2, 3, 8, 8)
REGION = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
FLOATS = "uint8 or float16 or bfloat16 or float32 or float64"


def error(function: Callable[..., Any], *args: Any, **options: Any) -> str:
    with pytest.raises((TypeError, ValueError)) as caught:
        function(*args, **options)
    return f"{caught.type.__name__} {caught.value}"


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        ([[1]], {"radius": 1}, "TypeError images must be a tensor, got list"),
        ([IMAGES.to(torch.int64)], {"radius": 1}, "TypeError images must have dtype bool or "
         f"int16 or int32 or {FLOATS}, got int64"),
        ([IMAGES], {"size": 3}, "TypeError images must have dtype bool, got float32"),
        ([IMAGES[0]], {"radius": 1},
         "ValueError images must have shape (N, C, H, W), got (3, 8, 8)"),
        ([IMAGES], {}, "ValueError size must be given or else `radius`, got None and None"),
        ([REGION], {"size": 3, "radius": 2},
         "ValueError size must be given or else `radius`, got 3 and 2"),
        ([REGION], {"size": 4}, "ValueError size must be odd and in 1...15, got 4"),
        ([REGION], {"size": 17}, "ValueError size must be odd and in 1...15, got 17"),
        ([IMAGES], {"radius": 0}, "ValueError radius must be in 1...7, got 0"),
        ([IMAGES], {"radius": 8}, "ValueError radius must be in 1...7, got 8"),
        ([IMAGES], {"radius": 1, "boxes": [0]}, "TypeError boxes must be a tensor, got list"),
        ([IMAGES], {"radius": 1, "boxes": torch.zeros(2, 4)}, "TypeError boxes must have "
         "dtype int64, got float32"),
        ([IMAGES], {"radius": 1, "boxes": torch.zeros(1, 4).long()}, "ValueError boxes must "
         "have shape (2, 4), got (1, 4)"),
    ],
)  # fmt: skip
def test_errors_of_the_median(args, options, message):
    message = re.sub(r"Error (\w+) ", r"Error median_filter: `\1` ", message)
    assert error(median_filter, *args, **options) == message


BACKGROUND = 'background must be (grey, tolerance) or "otsu"'


@pytest.mark.parametrize(
    ("images", "background", "size", "message"),
    [
        (REGION, "otsu", 7, f"TypeError images must have dtype {FLOATS}, got bool"),
        (IMAGES[0], (1, 2), 7, "ValueError images must have shape (N, C, H, W), got (3, 8, 8)"),
        (IMAGES, "Otsu", 7, f"TypeError {BACKGROUND}, got 'Otsu'"),
        (IMAGES, 7, 7, f"TypeError {BACKGROUND}, got 7"),
        (IMAGES, (7, -1), 7, "ValueError background must hold a finite grey and a finite tolerance "
         ">= 0, got (7, -1)"),
        (IMAGES, (NAN, 1), 7, "ValueError background must hold a finite grey and a finite "
         "tolerance >= 0, got (nan, 1)"),
        (IMAGES, "otsu", 2, "ValueError size must be odd and in 1...15, got 2"),
    ],
)  # fmt: skip
def test_errors_of_object_masks(images, background, size, message):
    message = re.sub(r"Error (\w+) ", r"Error object_mask: `\1` ", message)
    assert error(object_mask, images, background, size=size) == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"before": None}, "TypeError before must be a tensor, got NoneType"),
        ({"before": REGION}, f"TypeError before must have dtype {FLOATS}, got bool"),
        ({"after": IMAGES.half()}, "TypeError after must have dtype float32, got float16"),
        ({"after": IMAGES[:1]}, "ValueError after must have shape (2, 3, 8, 8), got (1, 3, 8, 8)"),
        ({"region": IMAGES[:, :1]}, "TypeError region must have dtype bool, got float32"),
        ({"region": REGION[:, 0]}, "ValueError region must have shape (2, 1, 8, 8), got (2, 8, 8)"),
        ({"region": REGION.to("meta")}, "ValueError region must be on device cpu, got meta"),
        ({"kind": "soft"}, "ValueError kind must be one of binary, intensity, logistic, factor, "
         "got 'soft'"),
        ({"tolerance": -1.0}, "ValueError tolerance must be finite and >= 0, got -1.0"),
        ({"tolerance": NAN}, "ValueError tolerance must be finite and >= 0, got nan"),
        ({"size": 2}, "ValueError size must be odd and in 1...15, got 2"),
        ({"radius": 9}, "ValueError radius must be in 1...7, got 9"),
        ({"steepness": NAN}, "ValueError steepness must be finite, got nan"),
        ({"midpoint": torch.zeros(3)}, "ValueError midpoint must have shape (2,), got (3,)"),
        ({"midpoint": torch.zeros(2).int()}, "TypeError midpoint must have dtype float32 or "
         "float64, got int32"),
    ],
)  # fmt: skip
def test_errors_of_labels(change, message):
    message = re.sub(r"Error (\w+) ", r"Error difference_label: `\1` ", message)
    arguments = {"before": IMAGES, "after": IMAGES, "region": REGION, **change}
    assert error(difference_label, **arguments) == message


def test_numbers_of_labels_pass_no_gradient() -> None:
    before, after, region = pair()
    steepness = torch.ones(6, requires_grad=True)
    assert not difference_label(before, after, region, steepness=steepness).requires_grad


def test_a_background_that_is_an_array_is_refused() -> None:
    with pytest.raises(TypeError, match="`background` must be"):
        object_mask(make_images(1, 3, 8, 8), np.array([200.0, 20.0]))  # type: ignore[arg-type]


def test_tv_tensors_of_two_kinds_have_a_label() -> None:
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")
    before, after, region = pair()
    label = difference_label(
        tv_tensors.Image(before), tv_tensors.Image(after), tv_tensors.Mask(region)
    )
    assert torch.equal(label, difference_label(before, after, region))
