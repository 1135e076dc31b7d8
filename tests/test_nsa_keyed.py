# SPDX-License-Identifier: Apache-2.0
"""All of a natural synthetic anomaly in one op: the bits of its steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ssad_kernels import NsaLaw, NsaStyle, Status, make_keys, nsa_keyed, object_mask, testing
from ssad_kernels.nsa_keyed import _steps, pack_style
from ssad_kernels.testing import NSA_LAWS, make_images, make_objects, same_bits
from ssad_kernels.transforms import FPI, NSA, PII

SAMPLES = testing.samples("nsa_keyed")
GRADIENTS = ("source", "mixed", "average", "monochrome", "mix", "scaled", "swap", "uniform")
KEYS = make_keys(5, 2, torch.arange(6))


def same(first: Any, second: Any) -> bool:
    return all(same_bits(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.native
@pytest.mark.parametrize("name", SAMPLES)
def test_samples_have_the_bits_of_the_steps(name: str) -> None:
    arguments = SAMPLES[name]
    assert same(torch.ops.ssad_kernels.nsa_keyed(*arguments), _steps(*arguments))


@pytest.mark.native
@given(
    st.sampled_from(sorted(NSA_LAWS)),
    st.sampled_from(GRADIENTS),
    st.sampled_from(["mask", "rect"]),
    st.sampled_from([None, (110.0, 60.0), "otsu"]),
    st.sampled_from(["logistic", "binary", "intensity", "factor"]),
    st.integers(1, 7),
    st.tuples(st.integers(8, 70), st.integers(8, 70)),
    st.integers(0, 10_000),
)
def test_any_sample_has_the_bits_of_the_steps(
    law, gradient, region, background, label, n, size, seed
):
    drawn = NSA_LAWS[law]
    if drawn.is_reference and gradient == "average":
        gradient = "source"
    style = NsaStyle(gradient, region, background, label)
    images = make_images(n, 3, *size, seed=seed)
    bank = None if drawn.same_source or seed % 2 else make_images(3, 3, *size, seed=seed + 1)
    masks: dict[str, Tensor] = {}
    if seed % 3 == 0:
        masks["masks"] = make_objects(n, *size, (0.9, 0.8), seed=seed)
        if bank is not None:
            masks["bank_masks"] = make_objects(3, *size, (0.8, 0.9), seed=seed)
    keys = make_keys(seed, 0, torch.arange(n))
    whole = nsa_keyed(images, keys, drawn, style, stream=3, bank=bank, **masks)
    arguments = [images, keys, bank, masks.get("masks"), masks.get("bank_masks"), 3]
    if bank is not None and background is not None and not masks:
        arguments[4] = object_mask(bank, background)
    packed = pack_style(drawn, style, finds_objects=not masks)
    assert same(whole, _steps(*arguments, *packed))
    assert torch.equal(images, make_images(n, 3, *size, seed=seed))


@pytest.mark.parametrize("compat", [None, "reference"])
@pytest.mark.parametrize(
    "make",
    [
        NSA,
        lambda **o: NSA(gradient="mix", shape="ellipses", size="uniform", **o),
        lambda **o: NSA(background=(100, 30), object_share=0.2, overlap=0.1, p=0.7, **o),
        FPI,
        PII,
    ],
)
def test_a_transform_in_one_call_is_its_replay(make: Any, compat: str | None) -> None:
    images, bank = make_images(6, 3, 64, 64), make_images(5, 3, 64, 64, seed=1)
    transform = make(bank=bank, compat=compat, return_status=True)
    whole = transform(images, KEYS)
    assert (whole[2] == Status.APPLIED).any()
    params = transform.make_params(KEYS, images)
    assert same(transform.apply_params(images, params), whole)
    assert same(transform(images, params=params), whole)
    for i in range(6):
        image, label, status = transform(images[i], KEYS[i])
        assert same((image, label, status[0]), (part[i] for part in whole))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_any_number_of_threads_and_any_batch(dtype: torch.dtype) -> None:
    images = make_images(8, 3, 224, 224, dtype=dtype)  # 4 ms by the kernel's estimate
    bank = make_images(3, 3, 224, 224, dtype=dtype, seed=1)
    keys, law = make_keys(0, 0, torch.arange(8)), NsaLaw(object_share=0.3, overlap=0.1)
    style = NsaStyle("mixed", background="otsu")

    def run(rows: slice) -> tuple[Tensor, ...]:
        return nsa_keyed(images[rows], keys[rows], law, style, stream=7, bank=bank)

    whole = run(slice(None))
    for threads in (2, 3, 16):
        torch.set_num_threads(threads)
        assert same(run(slice(None)), whole)
    parts = zip(*(run(slice(i, i + 3)) for i in range(0, 8, 3)), strict=True)
    assert same((torch.cat(part) for part in parts), whole)


def test_patches_of_odd_width_at_the_right_border_are_seamless_clones() -> None:
    """A pixel to the right of its label, such a patch reaches beyond the image with its frame."""
    cv2 = pytest.importorskip("cv2")
    n, size = 800, 64
    images, bank = make_images(n, 3, size, size), make_images(4, 3, size, size, seed=1)
    keys = make_keys(1, 0, torch.arange(n))
    bounds = (0.15, 0.4)
    transform = NSA(
        bounds, bounds, shift=False, resize=None, patches=1, bank=bank, compat="reference"
    )
    draw = transform.make_params(keys, images)
    out, _ = transform(images, keys)
    tested = 0
    for i, (y, x, h, w) in enumerate(draw.patches.target_box[:, 0].tolist()):
        if w % 2 == 0 or x + w < size or not draw.patches.apply[i, 0]:
            continue
        patch = bank[draw.patches.source_index[i], :, y : y + h, x : x + w]
        arrays = (np.ascontiguousarray(a.permute(1, 2, 0).numpy()) for a in (patch, images[i]))
        mask = np.full((h, w), 255, np.uint8)
        centre = (x + w - w // 2, y + h // 2)
        expected = cv2.seamlessClone(*arrays, mask, centre, cv2.NORMAL_CLONE)
        difference = np.abs(out[i].permute(1, 2, 0).numpy().astype(int) - expected.astype(int))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 5e-3
        tested += 1
    assert tested >= 5


IMAGES, MASKS = make_images(2, 3, 16, 16), torch.ones(2, 1, 16, 16, dtype=torch.bool)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"images": None}, TypeError, "`images` must be a tensor"),
        ({"keys": [1]}, TypeError, "`keys` must be a tensor"),
        ({"keys": KEYS[:3]}, ValueError, r"`keys` must have shape \(2, 3\), got \(3, 3\)"),
        ({"bank": IMAGES.float()}, TypeError, "`bank` must have dtype uint8, got float32"),
        ({"bank": IMAGES[..., 1:]}, ValueError, "`bank` must have images like those"),
        ({"bank": IMAGES[:0]}, ValueError, "`bank` must hold at least one image"),
        ({"bank": IMAGES.to("meta")}, ValueError, "`bank` must be on device cpu"),
        ({"masks": MASKS.byte()}, TypeError, "`target_masks` must have dtype bool"),
        ({"masks": MASKS[:1]}, ValueError, r"`target_masks` must have shape \(2, 1, 16, 16\)"),
        (
            {"masks": MASKS, "bank": IMAGES, "style": NsaStyle(background=None)},
            ValueError,
            "`bank_masks` must be given for objects",
        ),
        ({"style": NsaStyle(background="otsuu")}, TypeError, "`background` must be"),
        ({"style": NsaStyle(background=(1.0,))}, TypeError, "`background` must be"),
        ({"style": NsaStyle(background=[])}, TypeError, "`background` must be"),
        ({"style": NsaStyle(background=3)}, TypeError, "`background` must be"),
        ({"bank_masks": MASKS}, ValueError, "`bank_masks` must be given for objects"),
        ({"stream": -1}, ValueError, "`stream` must be"),
        ({"law": NsaLaw(p=2.0)}, ValueError, "`law` must be a distribution"),
        ({"law": NsaLaw(same_source=True), "bank": IMAGES}, ValueError, "`bank` must be None"),
        ({"style": NsaStyle("steep")}, ValueError, "`gradient` must be one of source, mixed"),
        ({"style": NsaStyle(region="all")}, ValueError, "`region` must be one of mask, rect"),
        ({"style": NsaStyle(label="soft")}, ValueError, "`label` must be one of binary"),
        ({"style": NsaStyle(tolerance=-1.0)}, ValueError, "`style` must hold a finite steepness"),
        ({"style": NsaStyle(size=2)}, ValueError, "`size` must be odd and in 1...15"),
        ({"style": NsaStyle(background=(0, -1))}, ValueError, "`background` must hold a finite"),
        ({"images": IMAGES.float(), "law": NsaLaw(is_reference=True)}, TypeError, "dtype uint8"),
        (
            {"law": NsaLaw(is_reference=True), "style": NsaStyle("average")},
            ValueError,
            "`gradient` must not be average",
        ),
    ],
)  # fmt: skip
def test_errors(change: dict[str, Any], error: type[Exception], text: str) -> None:
    given: dict[str, Any] = {
        "images": IMAGES,
        "keys": KEYS[:2],
        "law": NsaLaw(),
        "style": NsaStyle(),
        "stream": 7,
    }
    given |= change
    images, keys, law, style = (given.pop(name) for name in ("images", "keys", "law", "style"))
    with pytest.raises(error, match=f"nsa_keyed: .*{text}"):
        nsa_keyed(images, keys, law, style, **given)


def test_banks_have_no_gradient_and_their_objects_are_found() -> None:
    bank, keys = make_images(3, 3, 16, 16).float().requires_grad_(), KEYS[:2]
    images, masks = IMAGES.float(), MASKS
    style = NsaStyle(background="otsu")
    found = nsa_keyed(images, keys, NsaLaw(), style, stream=7, bank=bank, masks=masks)
    assert not any(one.requires_grad for one in found)
    bank_masks = object_mask(bank.detach(), "otsu")
    given = nsa_keyed(
        images, keys, NsaLaw(), style, stream=7, bank=bank, masks=masks, bank_masks=bank_masks
    )
    assert all(map(torch.equal, found, given))
