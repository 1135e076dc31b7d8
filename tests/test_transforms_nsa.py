# SPDX-License-Identifier: Apache-2.0
"""NSA, FPI and PII: what they draw, blend and label."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ssad_kernels import KeyedDataset, KeyedSampler, Status, make_keys, median_filter, poisson_blend
from ssad_kernels.testing import make_images, same_bits
from ssad_kernels.transforms import FPI, NSA, PII

SIZE = 64
KEYS = make_keys(5, 2, torch.arange(6))
TRANSFORMS = {
    "NSA": NSA,
    "mixed": lambda **o: NSA(gradient="mixed", resize=(0.5, 2.0), patches=4, **o),
    "ellipses": lambda **o: NSA(shape="ellipses", size="uniform", **o),
    "objects": lambda **o: NSA(background=(100, 30), object_share=0.2, overlap=0.1, **o),
    "swap": lambda **o: NSA(gradient="swap", size="cutpaste", patches=1, **o),
    "reference": lambda **o: NSA(compat="reference", gradient="mix", **o),
    "FPI": FPI,
    "PII": PII,
}


@pytest.fixture(params=TRANSFORMS)
def make(request: pytest.FixtureRequest) -> Any:
    return TRANSFORMS[request.param]


@pytest.fixture
def images() -> Tensor:
    return make_images(6, 3, SIZE, SIZE)


@pytest.fixture
def bank() -> Tensor:
    return make_images(5, 3, SIZE, SIZE, seed=1)


def same(first: Any, second: Any) -> bool:
    return all(same_bits(a, b) for a, b in zip(first, second, strict=True))


def boxes_of(patches: Any, size: int) -> Tensor:
    """(N, 1, H, W) bool, where a patch was pasted."""
    inside = torch.zeros(len(patches.apply), 1, size, size, dtype=torch.bool)
    for i, row in enumerate(patches.target_box.tolist()):
        for (y, x, h, w), is_pasted in zip(row, patches.apply[i].tolist(), strict=True):
            if is_pasted:
                inside[i, 0, y : y + h, x : x + w] = True
    return inside


def test_only_what_lies_in_a_patch_changes_and_the_label_lies_where_it_changed(make, images, bank):
    before = images.clone()
    transform = make(bank=bank, return_status=True)
    out, label, status = transform(images, KEYS)
    assert torch.equal(images, before)
    assert out.dtype == torch.uint8
    assert label.shape == (6, 1, SIZE, SIZE)
    assert label.dtype == torch.float32
    applied = status == Status.APPLIED
    assert applied.any()
    assert (label.flatten(1) > 0).any(1)[applied].any()
    changed = (out != images).any(1, keepdim=True)
    masks = transform._objects(images)
    draw = transform.make_params(
        KEYS, images, bank=bank, masks=masks, bank_masks=transform.bank_masks
    )
    inside = boxes_of(draw.patches, SIZE)
    # The released code may shift a patch by a pixel to the right.
    reach = inside | inside.roll(1, 3) if transform.compat else inside
    assert not (changed & ~reach).any()
    assert not ((label > 0) & ~inside).any()
    assert torch.isfinite(label).all()
    assert not changed[~applied].any()
    assert not label[~applied].any()


def test_in_any_batch_and_in_place(make, images, bank):
    transform = make(bank=bank, return_status=True)
    whole = transform(images, KEYS)
    for i in range(6):
        one = transform(images[i : i + 1], KEYS[i : i + 1])
        assert same(one, [part[i : i + 1] for part in whole])
        image, label, _ = transform(images[i], KEYS[i])
        assert same((image, label), (whole[0][i], whole[1][i]))
    memory = images.clone()
    inplace = make(bank=bank, return_status=True, inplace=True)(memory, KEYS)
    assert inplace[0].data_ptr() == memory.data_ptr()
    assert same(inplace, whole)


def test_without_a_bank_the_others_of_the_batch_are_the_source(make, images):
    transform = make()
    draw = transform.make_params(KEYS, images, masks=transform._objects(images))
    assert (draw.patches.source_index != torch.arange(6)).all()
    assert same(transform(images, KEYS), transform(images, KEYS))
    alone, _ = transform(images[:1], KEYS[:1])  # its own source
    assert alone.shape == (1, 3, SIZE, SIZE)


def test_parameters_can_be_replayed(make, images, bank):
    transform = make(bank=bank)
    masks = transform._objects(images)
    options: dict[str, Any] = {"masks": masks, "bank_masks": transform.bank_masks}
    draw = transform.make_params(KEYS, images, bank=bank, **options)
    assert same(transform(images, params=draw), transform(images, KEYS))
    assert same(transform.apply_params(images, draw, bank=bank, **options), transform(images, KEYS))
    plain = transform.make_params(KEYS, images)  # with the transform's own bank and background
    assert same(plain.patches, draw.patches)
    assert same(transform.apply_params(images, plain), transform(images, KEYS))
    again = pickle.loads(pickle.dumps(transform))
    assert same(again(images, KEYS), transform(images, KEYS))
    assert same(copy.deepcopy(transform)(images, KEYS), transform(images, KEYS))


def test_every_kind_of_image(make, images, bank):
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")
    transform = make(bank=bank)
    image, label = transform(images[0], KEYS[0])
    array, array_label = transform(images[0].permute(1, 2, 0).numpy(), KEYS[0])
    assert isinstance(array, np.ndarray)
    np.testing.assert_array_equal(array, image.permute(1, 2, 0).numpy())
    np.testing.assert_array_equal(array_label[..., 0], label[0].numpy())
    tv, tv_label = transform(tv_tensors.Image(images[0]), KEYS[0])
    assert type(tv) is tv_tensors.Image
    assert type(tv_label) is tv_tensors.Mask
    assert same((tv, tv_label), (image, label))
    last = images.to(memory_format=torch.channels_last)
    assert same(transform(last, KEYS), transform(images, KEYS))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_floats(dtype, channels):
    images = make_images(4, channels, SIZE, SIZE, dtype=dtype)
    out, label = NSA(gradient="mixed")(images, KEYS[:4])
    assert out.dtype == dtype
    assert label.dtype == torch.float32
    assert (label > 0).any()
    assert not ((out != images).any(1, keepdim=True).logical_not() & (label > 0.99)).any()


@pytest.mark.parametrize("workers", [0, 2])
def test_in_a_data_loader(images, bank, workers):
    transform = NSA(bank=bank)
    dataset = KeyedDataset(list(images), transform, seed=9)
    loader = DataLoader(dataset, 3, sampler=KeyedSampler(images), num_workers=workers)
    out, label = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert same((out, label), transform(images, make_keys(9, 0, torch.arange(6))))


def test_a_patch_pasted_where_it_was_cut_changes_nothing(images):
    for gradient in ("source", "mixed", "monochrome", "swap", "uniform"):
        transform = NSA(source="same", shift=False, resize=None, gradient=gradient)
        grey = images[:, :1].expand(-1, 3, -1, -1).contiguous()  # for "monochrome"
        out, label = transform(grey, KEYS)
        # The rounded grey of three equal channels may be off by a rounding.
        torch.testing.assert_close(out, grey, rtol=0, atol=0)
        assert not label.any()


def test_labels(images, bank):
    options: dict[str, Any] = {"bank": bank, "patches": 1, "gradient": "mixed"}
    labels = {
        kind: NSA(**options, label=kind, steepness=0.5, midpoint=4)(images, KEYS)[1]
        for kind in ("binary", "logistic", "intensity", "factor")
    }
    transform = NSA(**options)
    draw = transform.make_params(KEYS, images, bank=bank)
    out, _ = transform(images, params=draw)
    difference = (out.double() - images.double()).abs().mean(1, keepdim=True)
    changed = (difference > 1) & boxes_of(draw.patches, SIZE)
    binary = median_filter(changed, size=5)
    assert torch.equal(labels["binary"], binary.float())
    intensity = median_filter((difference * binary).float(), radius=5)
    torch.testing.assert_close(labels["intensity"], intensity, rtol=1e-5, atol=1e-4)
    logistic = binary / (1 + torch.exp(-0.5 * (intensity - 4)))
    torch.testing.assert_close(labels["logistic"], logistic, rtol=1e-4, atol=1e-5)
    # Where something changed, a logistic label is never zero.
    assert labels["logistic"][binary].min() >= 0.1191
    factor = draw.patches.factor.float()[:, None, None, None] * binary
    torch.testing.assert_close(labels["factor"], factor)


def test_fpi_mixes(images, bank):
    transform = FPI(bank=bank)
    draw = transform.make_params(KEYS, images, bank=bank)
    out, label = transform(images, params=draw)
    f = draw.patches.factor[:, None, None, None]
    assert ((f >= 0.05) & (f <= 0.95)).all()
    mixed = (1 - f) * images.double() + f * bank[draw.patches.source_index].double()
    inside = boxes_of(draw.patches, SIZE)
    expected = torch.where(inside, mixed, images.double())
    assert (out.double() - expected).abs().max() <= 0.5 + 1e-4
    changed = (out != images).any(1, keepdim=True)
    torch.testing.assert_close(label, changed * f.float())
    y, x, h, w = draw.patches.target_box[:, 0].unbind(1)
    assert (h <= 0.4 * SIZE).all()
    centre = torch.stack([y + h // 2, x + w // 2])
    assert ((centre >= SIZE // 4 - 1) & (centre <= 3 * SIZE // 4 + 1)).all()


def test_pii_takes_the_larger_gradient_on_each_edge(images, bank):
    transform = PII(bank=bank)
    draw = transform.make_params(KEYS, images, bank=bank)
    patches = draw.patches
    out, label = transform(images, params=draw)
    box = patches.target_box[:, 0]
    expected = poisson_blend(
        images,
        bank,
        None,
        box[:, :2],
        sizes=box[:, 2:],
        source_index=patches.source_index,
        source_box=patches.source_box[:, 0],
        gradient="mixed",
        source_gain=patches.factor,
        target_gain=1 - patches.factor,
    )
    assert torch.equal(out, expected)
    changed = (out != images).any(1, keepdim=True)
    f = patches.factor.float()[:, None, None, None]
    torch.testing.assert_close(label, changed * f)


def resized(cv2: Any, source: Tensor, box: list[int], size: list[int]) -> np.ndarray:
    y, x, h, w = box
    crop = np.ascontiguousarray(source[:, y : y + h, x : x + w].permute(1, 2, 0).numpy())
    return np.asarray(cv2.resize(crop, (size[1], size[0]), interpolation=cv2.INTER_LINEAR))


@pytest.mark.parametrize("gradient", ["source", "mixed", "scaled"])
def test_the_released_code_is_seamless_clone(images, bank, gradient):
    cv2 = pytest.importorskip("cv2")
    # Of smaller patches the erosion leaves nothing, and what remains is OpenCV's rounding.
    bounds = (0.15, 0.4)
    transform = NSA(bounds, bounds, bank=bank, compat="reference", gradient=gradient, resize=None)
    draw = transform.make_params(KEYS, images, bank=bank)
    out, _ = transform(images, params=draw)
    patches = draw.patches
    for i, image in enumerate(images):
        expected = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        for k in range(patches.apply.shape[1]):
            if not patches.apply[i, k]:
                continue
            y, x, h, w = patches.target_box[i, k].tolist()
            box = patches.source_box[i, k].tolist()
            patch = resized(cv2, bank[patches.source_index[i]], box, [h, w])
            grey = 255 if gradient != "scaled" else int(np.ceil(255 * patches.factor[i].item()))
            mask = np.full((h, w), grey, np.uint8)
            flag = cv2.NORMAL_CLONE if gradient == "source" else cv2.MIXED_CLONE
            centre = (x + w - w // 2, y + h // 2)
            expected = cv2.seamlessClone(patch, expected, mask, centre, flag)
        difference = np.abs(out[i].permute(1, 2, 0).numpy().astype(int) - expected.astype(int))
        assert difference.max() <= 2  # each of three patches may be off by a rounding
        assert (difference > 0).mean() < 5e-3


def test_a_toss_of_a_coin_takes_source_or_mixed_gradients():
    images, keys = make_images(1, 1, 32, 32), make_keys(0, 0, torch.arange(2000))
    transform = NSA(gradient="mix", bank=images)
    codes = transform.make_params(keys, images.expand(2000, -1, -1, -1), bank=images).gradient
    assert set(codes.tolist()) == {0, 1}
    assert abs(codes.double().mean() - 0.5) < 0.05


def test_masks_by_hand(images, bank):
    """Objects on the left half: nothing is labelled on the right."""
    masks = torch.zeros(6, 1, SIZE, SIZE, dtype=torch.bool)
    masks[..., : SIZE // 2] = True
    transform = NSA(bank=bank, object_share=0.5, overlap=0.5, return_status=True)
    _, label, status = transform(images, KEYS, masks=masks, bank_masks=masks[:5])
    assert (status == Status.APPLIED).any()
    assert label[..., : SIZE // 2].any()
    pasted = transform(images, KEYS, masks=masks, bank_masks=torch.zeros_like(masks[:5]))
    assert (pasted[2] == Status.NO_PLACE).all()  # no source has an object
    alone = NSA(object_share=0.5, overlap=0.5)
    draw = alone.make_params(KEYS, images, masks=masks)
    assert same(alone(images, params=draw, masks=masks), alone(images, KEYS, masks=masks))
    one = NSA(bank=bank)(images[0], KEYS[0], masks=masks[0], bank_masks=masks[:5])
    array = images[0].permute(1, 2, 0).numpy(), masks[0].permute(1, 2, 0).numpy()
    other = NSA(bank=bank)(array[0], KEYS[0], masks=array[1], bank_masks=masks[:5])
    np.testing.assert_array_equal(other[0], one[0].permute(1, 2, 0).numpy())
    with pytest.raises(ValueError, match="NSA: `bank_masks` must be given with masks and a bank"):
        transform(images, KEYS, masks=masks)
    with pytest.raises(ValueError, match=r"NSA: `masks` must have shape \(6, 1, 64, 64\)"):
        transform(images, KEYS, masks=masks[..., :32], bank_masks=masks[:5])
    with pytest.raises(TypeError, match="NSA: `masks` must have dtype bool, got uint8"):
        transform(images, KEYS, masks=masks.byte(), bank_masks=masks[:5])


def test_a_single_image_needs_a_bank(images):
    for image in (images[0], images[0].permute(1, 2, 0).numpy()):
        with pytest.raises(ValueError, match="FPI: `bank` must be given for a single image"):
            FPI()(image, KEYS[0])
    NSA(source="same")(images[0], KEYS[0])


@pytest.mark.parametrize("background", [(128, 20), "otsu"])
def test_constant_images(background):
    images = torch.full((4, 3, SIZE, SIZE), 128, dtype=torch.uint8)
    out, label, status = NSA(background=background, return_status=True)(images, KEYS[:4])
    assert torch.equal(out, images)
    assert not label.any()
    assert (status != Status.APPLIED).all()


def test_a_patch_that_fits_nowhere():
    images = make_images(4, 3, 5, 5)
    for transform in (NSA(return_status=True), NSA(return_status=True, compat="reference")):
        out, label, status = transform(images, KEYS[:4])
        assert torch.equal(out, images)
        assert not label.any()
        assert (status == Status.NO_PLACE).all()


def test_p(images, bank):
    out, label, status = NSA(p=0.0, bank=bank, return_status=True)(images, KEYS)
    assert torch.equal(out, images)
    assert not label.any()
    assert (status == Status.GATED).all()


def test_nan_stays_in_its_sample(bank):
    images = make_images(6, 3, SIZE, SIZE, dtype=torch.float32)
    clean = NSA(bank=bank.float() / 255, gradient="mixed", return_status=True)
    whole = clean(images, KEYS)
    images[2] = float("nan")
    out, label, status = clean(images, KEYS)
    others = torch.arange(6) != 2
    assert same((out[others], label[others]), (whole[0][others], whole[1][others]))
    assert torch.isnan(out[2]).all()
    assert status[2] == Status.NOT_FINITE
    assert not label[2].any()
