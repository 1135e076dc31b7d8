# SPDX-License-Identifier: Apache-2.0
"""Cutout, Scar, Confetti and Rotation, the proxy tasks that CutPaste is compared with."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import default_collate

from ssad_kernels import cut_paste, make_keys, use_backend
from ssad_kernels.testing import make_images, with_layout
from ssad_kernels.transforms import Confetti, Cutout, CutPaste, Rotation, Scar
from ssad_kernels.transforms.baselines import RectangleParams

DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)
KEYS = make_keys(3, 1, torch.arange(6))
TRANSFORMS = {"Cutout": Cutout, "Confetti": Confetti}


@pytest.fixture(params=TRANSFORMS)
def make(request: pytest.FixtureRequest) -> type[Cutout] | type[Confetti]:
    return TRANSFORMS[request.param]


def white_of(images: Tensor) -> float:
    return 255.0 if images.dtype == torch.uint8 else 1.0


def paint_one_by_one(images: Tensor, params: RectangleParams) -> tuple[Tensor, Tensor]:
    """An oracle: each rectangle is a slice."""
    result, mask = images.clone(), torch.zeros_like(images[:, :1], dtype=torch.bool)
    for i, (boxes, colours) in enumerate(zip(params.box.tolist(), params.colour, strict=True)):
        for (y, x, h, w), colour in zip(boxes, colours * white_of(images), strict=True):
            if images.dtype == torch.uint8:
                colour = torch.floor(colour + 0.5)
            inside = np.s_[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)]
            if h > 0 and w > 0:
                result[i][(slice(None), *inside)] = colour.to(images.dtype)[:, None, None]
                mask[i, 0][inside] = True
    return result, mask


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_rectangles_equal_slices(make, channels, dtype):
    images = make_images(6, channels, 29, 34, dtype=dtype)
    before = images.clone()
    transform = make(fill="random") if make is Cutout else make()
    params = transform.make_params(KEYS, images)
    result, masks = transform(images, KEYS)
    expected, expected_masks = paint_one_by_one(images, params)
    assert torch.equal(result, expected)
    assert torch.equal(masks, expected_masks)
    assert torch.equal(images, before)
    assert result.dtype == dtype
    assert masks.dtype == torch.bool


def test_params_by_hand_may_leave_the_image():
    images = make_images(1, 3, 8, 9)
    box = torch.tensor([[[-2, 5, 4, 9], [6, -3, 5, 5], [1, 1, 0, 3], [20, 20, 3, 3]]])
    params = RectangleParams(box, torch.rand(1, 4, 3, dtype=torch.float64))
    for actual, expected in zip(
        Confetti()(images, params=params), paint_one_by_one(images, params), strict=True
    ):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_fills_of_cutout(dtype):
    images = make_images(6, 3, 32, 32, dtype=dtype)
    colours = {}
    for fill in ("grey", "mean", "random"):
        result, masks = Cutout(fill=fill)(images, KEYS)
        assert masks.flatten(1).any(1).all()
        inside = [image[:, mask[0]] for image, mask in zip(result, masks, strict=True)]
        assert all(torch.equal(pixels, pixels[:, :1].expand_as(pixels)) for pixels in inside)
        colours[fill] = torch.stack([pixels[:, 0] for pixels in inside])
    assert (colours["grey"] == (128 if dtype == torch.uint8 else 0.5)).all()
    mean = images.double().mean((2, 3))
    expected = torch.floor(mean + 0.5) if dtype == torch.uint8 else mean
    assert torch.equal(colours["mean"], expected.to(dtype))
    assert len(colours["random"].unique()) > 12
    assert colours["random"].min() >= 0
    assert colours["random"].max() <= white_of(images)


def test_cutout_draws_as_cutpaste_does():
    images = torch.zeros(500, 1, 64, 64, dtype=torch.uint8)
    keys = make_keys(0, 0, torch.arange(500))
    _, masks = Cutout(area=(0.1, 0.12), aspect=(1.0, 1.0))(images, keys)
    area = masks.sum((1, 2, 3)) / 64**2
    assert area.min() > 0.095
    assert area.max() < 0.125
    assert Cutout().stream != CutPaste().stream
    _, gated = Cutout(p=0.25)(images, keys)
    _, always = Cutout()(images, keys)
    applied = gated.flatten(1).any(1)
    assert abs(int(applied.sum()) - 125) < 3.9 * math.sqrt(500 * 0.25 * 0.75)
    assert torch.equal(gated[applied], always[applied])


def test_number_and_sides_of_confetti():
    images = torch.zeros(3000, 1, 64, 64, dtype=torch.uint8)
    keys = make_keys(0, 0, torch.arange(3000))
    params = Confetti((3, 6), (2, 5)).make_params(keys, images)
    exists = (params.box[..., 2:] > 0).all(2)
    counts = torch.bincount(exists.sum(1), minlength=7)
    assert counts[:3].tolist() == [0, 0, 0]
    assert ((counts[3:] - 750).abs() < 4.1 * math.sqrt(3000 * 0.25 * 0.75)).all()
    sides = params.box[exists][:, 2:]
    assert (int(sides.min()), int(sides.max())) == (2, 5)
    corners = params.box[exists]
    assert (corners[:, :2] >= 0).all()
    assert (corners[:, :2] + corners[:, 2:] <= 64).all()
    assert (corners[:, 0] + corners[:, 2] == 64).any()
    assert ((params.colour > 0) & (params.colour < 1)).all()


def test_gate_of_confetti_keeps_the_other_draws():
    images = make_images(400, 3, 32, 32)
    keys = make_keys(0, 0, torch.arange(400))
    result, masks = Confetti(p=0.5)(images, keys)
    always, always_masks = Confetti()(images, keys)
    applied = masks.flatten(1).any(1)
    assert abs(int(applied.sum()) - 200) < 3.9 * math.sqrt(400 * 0.25)
    assert torch.equal(result[applied], always[applied])
    assert torch.equal(masks[applied], always_masks[applied])
    assert torch.equal(result[~applied], images[~applied])
    assert not Confetti(p=0.0)(images, keys)[1].any()


def test_pieces_that_do_not_fit_are_left_out():
    images = make_images(6, 3, 5, 40)
    result, masks = Confetti(side=(6, 8))(images, KEYS)
    assert torch.equal(result, images)
    assert not masks.any()
    _, masks = Cutout(area=(1.0, 1.0), aspect=(1.0, 1.0))(images, KEYS)
    assert not masks.any()


def test_channels_move_no_rectangle(make):
    masks = [make()(make_images(6, channels, 29, 34), KEYS)[1] for channels in (1, 3, 4)]
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[0], masks[2])


def test_draws_are_the_same_with_the_reference(make):
    images = make_images(6, 3, 29, 34)
    expected = make()(images, KEYS)
    with use_backend("reference"):
        actual = make()(images, KEYS)
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_kinds_layouts_keys_and_state(make):
    images, transform = make_images(6, 3, 29, 34), make()
    result, masks = transform(images, KEYS)
    for layout in ("channels_last", "strided", "transposed"):
        again = transform(with_layout(images, layout), KEYS)
        assert torch.equal(again[0], result)
        assert torch.equal(again[1], masks)
    image, mask = transform(images[2], KEYS[2])
    assert torch.equal(image, result[2])
    assert torch.equal(mask, masks[2])
    array, array_mask = transform(images[2].permute(1, 2, 0).numpy(), KEYS[2])
    np.testing.assert_array_equal(array, result[2].permute(1, 2, 0).numpy())
    assert array_mask.shape == (29, 34, 1)
    for copied in (copy.deepcopy(transform), pickle.loads(pickle.dumps(transform))):
        assert torch.equal(copied(images, KEYS)[0], result)
    collated = default_collate([transform(i, k) for i, k in zip(images, KEYS, strict=True)])
    assert torch.equal(collated[0], result)
    replayed = transform(images, params=transform.make_params(KEYS, images))
    assert torch.equal(replayed[0], result)
    assert not torch.equal(make(stream=1)(images, KEYS)[1], masks)
    torch.manual_seed(0)
    unkeyed = transform(images)
    torch.manual_seed(0)
    assert torch.equal(transform(images)[0], unkeyed[0])


def test_tv_tensors(make):
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")
    image, mask = make()(tv_tensors.Image(make_images(1, 3, 29, 34)[0]), KEYS[0])
    assert type(image) is tv_tensors.Image
    assert type(mask) is tv_tensors.Mask


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rotation_turns_counter_clockwise(dtype):
    images = make_images(3, 2, 7, 7, dtype=dtype)
    turned, labels = Rotation()(images, KEYS[:3])
    assert turned.shape == (12, 2, 7, 7)
    assert labels.dtype == torch.int64
    assert labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert torch.equal(turned[:3], images)
    # What was on the right is on top after a quarter turn.
    assert torch.equal(turned[3:6, :, 0], images[:, :, :, -1])
    assert torch.equal(turned[6:9], images.flip(2, 3))
    assert torch.equal(turned[9:, :, :, 0], images[:, :, -1])


def test_rotation_of_one_image_and_of_none():
    image = make_images(1, 3, 5, 5)[0]
    turned, labels = Rotation()(image)
    assert torch.equal(turned, Rotation()(image[None])[0])
    assert labels.tolist() == [0, 1, 2, 3]
    turned, labels = Rotation()(torch.zeros(0, 3, 5, 5))
    assert turned.shape == (0, 3, 5, 5)
    assert labels.shape == (0,)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_scar_is_one_colour_where_cutpaste_scar_would_paste(channels, dtype):
    images = make_images(6, channels, 48, 40, dtype=dtype)
    transform = Scar()
    params = transform.make_params(KEYS, images)
    result, masks = transform(images, KEYS)
    assert torch.equal(masks, cut_paste(images, params.place)[1])
    assert torch.equal(result.where(~masks, images), images.where(~masks, images))
    assert (masks.flatten(1).sum(1) >= 10 * 2 * 0.8).all()
    colours = params.colour * white_of(images)
    if dtype == torch.uint8:
        colours = torch.floor(colours + 0.5)
    for i in range(6):
        painted = result[i][:, masks[i, 0]]
        assert torch.equal(painted, colours[i].to(dtype)[:, None].expand_as(painted))


def test_colours_of_scars_are_spread_and_their_channels_move_no_scar():
    keys = make_keys(5, 0, torch.arange(400))
    grey, colour = (Scar().make_params(keys, torch.zeros(400, c, 64, 64)) for c in (1, 3))
    for ours, theirs in zip(grey.place, colour.place, strict=True):
        assert ours is theirs is None or torch.equal(ours, theirs)
    # The mean of 400 uniform numbers has a standard deviation of 0.0144.
    assert (colour.colour.mean(0) - 0.5).abs().max() < 4 * 0.0144


@pytest.mark.parametrize(
    "transform", [Cutout(), Confetti(), Scar()], ids=lambda t: type(t).__name__
)
def test_images_are_checked_with_parameters_too(transform):
    params = transform.make_params(KEYS, make_images(6, 3, 48, 40))
    with pytest.raises(TypeError, match=f"^{type(transform).__name__}: `images` must have dtype"):
        transform(torch.zeros(6, 3, 48, 40, dtype=torch.int64), params=params)


def test_a_gated_scar_leaves_the_image_as_it_was():
    images = make_images(6, 3, 48, 40)
    result, masks = Scar(p=0.0)(images, KEYS)
    assert torch.equal(result, images)
    assert not masks.any()
