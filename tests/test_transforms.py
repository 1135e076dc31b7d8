# SPDX-License-Identifier: Apache-2.0
"""The transforms: every kind of image, keys, replay, state."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import default_collate

from ssad_kernels import CutPasteParams, Status, cut_paste, make_keys
from ssad_kernels.testing import make_images
from ssad_kernels.transforms import CutPaste, CutPaste3Way, CutPasteScar, HardCutPaste

TRANSFORMS = {
    "CutPaste": lambda **o: CutPaste(rotation=(-30, 30), **o),
    "CutPasteScar": lambda **o: CutPasteScar((4, 9), (2, 4), **o),
    "HardCutPaste": lambda **o: HardCutPaste(jitter=0.1, **o),
}
KEYS = make_keys(3, 1, torch.arange(4))


@pytest.fixture(params=TRANSFORMS)
def make(request: pytest.FixtureRequest) -> Any:
    return TRANSFORMS[request.param]


def same(first: Any, second: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float64])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_batch(make, channels, dtype):
    images = make_images(4, channels, 33, 40, dtype=dtype)
    before = images.clone()
    result, masks = make()(images, KEYS)
    assert torch.equal(images, before)
    assert result.dtype == dtype
    assert masks.dtype == torch.bool
    assert masks.shape == (4, 1, 33, 40)
    assert masks.flatten(1).any(1).all()
    changed = (result != images).any(1, keepdim=True)
    assert changed.any()
    assert not (changed & ~masks).any()


def test_one_image_is_a_batch_of_one(make):
    images = make_images(1, 3, 33, 40)
    result, masks = make()(images, KEYS[:1])
    for keys in (KEYS[:1], KEYS[0], KEYS[0].tolist(), tuple(KEYS[0].tolist())):
        image, mask = make()(images[0], keys)
        assert torch.equal(image, result[0])
        assert torch.equal(mask, masks[0])
        assert mask.shape == (1, 33, 40)


def test_keys_of_a_batch_may_be_a_nested_list(make):
    images = make_images(4, 3, 33, 40)
    assert same(make()(images, KEYS.tolist()), make()(images, KEYS))


def test_layout_is_kept(make):
    images = make_images(4, 3, 33, 40)
    expected = make()(images, KEYS)
    result = make()(images.to(memory_format=torch.channels_last), KEYS)
    assert result[0].is_contiguous(memory_format=torch.channels_last)
    assert same(result, expected)


@pytest.mark.parametrize("kind", ["plain", "read-only", "flipped", "strided", "float"])
def test_numpy_images(make, kind):
    tensor = make_images(1, 3, 33, 40)
    array = np.ascontiguousarray(tensor[0].permute(1, 2, 0).numpy())
    if kind == "read-only":
        array.flags.writeable = False
    elif kind == "flipped":
        array = array[::-1, :, ::-1].copy()[::-1, :, ::-1]
        assert min(array.strides) < 0
    elif kind == "strided":
        array = np.repeat(np.repeat(array, 2, 0), 2, 1)[::2, ::2]
    elif kind == "float":
        array = array.astype(np.float32) / np.float32(255)
        tensor = torch.from_numpy(array).permute(2, 0, 1)[None]
    before = array.copy()
    image, mask = make()(array, KEYS[0])
    assert isinstance(image, np.ndarray)
    assert isinstance(mask, np.ndarray)
    assert image.dtype == array.dtype
    assert mask.dtype == np.bool_
    assert mask.shape == (33, 40, 1)
    np.testing.assert_array_equal(array, before)
    expected, expected_mask = make()(tensor, KEYS[:1])
    np.testing.assert_array_equal(image, expected[0].permute(1, 2, 0).numpy())
    np.testing.assert_array_equal(mask[..., 0], expected_mask[0, 0].numpy())


def test_tv_tensors(make):
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")
    images = make_images(4, 3, 33, 40)
    expected = make()(images, KEYS)
    for kind in (tv_tensors.Image, tv_tensors.Video):
        result, masks = make()(kind(images), KEYS)
        assert type(result) is kind
        assert type(masks) is tv_tensors.Mask
        assert same((result, masks), expected)
    image, mask = make()(tv_tensors.Image(images[0]), KEYS[0])
    assert type(image) is tv_tensors.Image
    assert type(mask) is tv_tensors.Mask
    assert image.shape == (3, 33, 40)
    assert mask.shape == (1, 33, 40)


def test_other_tensor_subclasses_lose_their_type_only(make):
    class Photograph(Tensor):
        pass

    images = make_images(4, 3, 33, 40)
    result = make()(images.as_subclass(Photograph), KEYS)
    assert same(result, make()(images, KEYS))


def test_in_a_torchvision_pipeline(make):
    v2 = pytest.importorskip("torchvision.transforms.v2")
    pipeline = v2.Compose([v2.RandomHorizontalFlip(1.0), make()])
    image, mask = pipeline(make_images(1, 3, 33, 40)[0])
    assert image.shape == (3, 33, 40)
    assert mask.any()
    torch.manual_seed(5)
    first = pipeline(make_images(1, 3, 33, 40)[0])
    torch.manual_seed(5)
    assert same(pipeline(make_images(1, 3, 33, 40)[0]), first)


def test_results_collate(make):
    transform = make(return_status=True)
    images = make_images(4, 3, 33, 40)
    batch = default_collate([transform(i, k) for i, k in zip(images, KEYS, strict=True)])
    expected = transform(images, KEYS)
    assert torch.equal(batch[0], expected[0])
    assert torch.equal(batch[1], expected[1])
    assert torch.equal(batch[2].flatten(), expected[2])
    arrays = [i.permute(1, 2, 0).numpy() for i in images]
    of_arrays = default_collate([make()(a, k) for a, k in zip(arrays, KEYS, strict=True)])
    assert torch.equal(of_arrays[0].permute(0, 3, 1, 2), expected[0])


def test_params_replay(make):
    transform = make()
    images = make_images(4, 3, 33, 40)
    params = transform.make_params(KEYS, images)
    assert isinstance(params, CutPasteParams)
    expected = transform(images, KEYS)
    for _ in range(2):
        assert same(transform(images, params=params), expected)
    assert same(cut_paste(images, params), expected)
    other = 255 - images  # the same places in other images
    assert torch.equal(transform(other, params=params)[1], expected[1])
    single = params.map(lambda rows: rows[:1])
    assert torch.equal(transform(images[0], params=single)[0], expected[0][0])


def test_without_keys_torchs_generator_decides(make):
    transform, images = make(), make_images(4, 3, 33, 40)
    torch.manual_seed(1)
    first, second = transform(images), transform(images)
    torch.manual_seed(1)
    assert same(transform(images), first)
    assert same(transform(images), second)
    assert not torch.equal(first[1], second[1])
    assert not torch.equal(first[1][0], first[1][1])


def test_with_keys_it_is_left_alone(make):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    make()(make_images(4, 3, 33, 40), KEYS)
    assert torch.equal(torch.get_rng_state(), state)


def test_keys_decide_alone(make):
    transform, images = make(), make_images(4, 3, 33, 40)
    result, masks = transform(images, KEYS)
    shuffled = torch.tensor([2, 0, 3, 1])
    again, same_masks = transform(images[shuffled], KEYS[shuffled])
    assert torch.equal(again, result[shuffled])
    assert torch.equal(same_masks, masks[shuffled])
    for change in (make_keys(4, 1, KEYS[:, 2]), make_keys(3, 2, KEYS[:, 2])):
        assert not torch.equal(transform(images, change)[1], masks)


def test_streams_draw_other_numbers(make):
    images = make_images(4, 3, 33, 40)
    first, second = make(stream=0), make(stream=1)
    assert not torch.equal(first(images, KEYS)[1], second(images, KEYS)[1])
    assert first.stream != CutPaste(stream=1).stream


def test_gate(make):
    images = make_images(64, 1, 33, 40)
    keys = make_keys(0, 0, torch.arange(64))
    never, no_masks, status = make(p=0.0, return_status=True)(images, keys)
    assert torch.equal(never, images)
    assert not no_masks.any()
    assert (status == Status.GATED).all()
    _, always, status = make(p=1.0, return_status=True)(images, keys)
    assert always.flatten(1).any(1).all()
    assert (status == Status.APPLIED).all()
    _, masks, status = make(p=0.5, return_status=True)(images, keys)
    applied = masks.flatten(1).any(1)
    assert torch.equal(applied, status == Status.APPLIED)
    assert 10 < int(applied.sum()) < 54
    # Which ones the gate keeps does not move where they are changed.
    assert torch.equal(masks[applied], always[applied])


def test_inplace(make):
    images = make_images(4, 3, 33, 40)
    expected = make()(images, KEYS)
    result, masks = make(inplace=True)(images, KEYS)
    assert result is images
    assert same((images, masks), expected)
    array = make_images(1, 3, 33, 40)[0].permute(1, 2, 0).contiguous().numpy()
    image, _ = make(inplace=True)(array, KEYS[0])
    assert np.shares_memory(image, array)


def test_other_source_comes_from_another_image():
    images = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 3, 32, 32) * 60
    result, masks = CutPaste(source="other", jitter=0.0)(images.contiguous(), KEYS)
    changed = (result != images).any(1, keepdim=True)
    assert torch.equal(changed, masks)
    alone, _ = CutPaste(source="other", jitter=0.0)(images[:1].contiguous(), KEYS[:1])
    assert torch.equal(alone, images[:1])


def test_jitter_is_one_number_or_four():
    images = make_images(4, 3, 33, 40)
    one, four = CutPaste(jitter=0.1), CutPaste(jitter=(0.1, 0.1, 0.1, 0.1))
    assert same(one(images, KEYS), four(images, KEYS))
    plain = CutPaste(jitter=0)(images, KEYS)
    assert torch.equal(plain[1], one(images, KEYS)[1])
    assert not torch.equal(plain[0], one(images, KEYS)[0])


def test_state_copies_and_pickles(make):
    transform = make(p=0.7, stream=3)
    assert transform.state_dict() == {}
    assert list(transform.parameters()) == []
    images = make_images(4, 3, 33, 40)
    expected = transform(images, KEYS)
    assert same(copy.deepcopy(transform)(images, KEYS), expected)
    assert same(pickle.loads(pickle.dumps(transform))(images, KEYS), expected)
    assert same(transform.eval()(images, KEYS), expected)


def test_print(make):
    text = repr(make(p=0.25))
    assert text.startswith(type(make()).__name__ + "(p=0.25, ")
    assert "jitter=(0.1, 0.1, 0.1, 0.1)" in text


# Three-way


def test_three_ways_in_one_batch():
    images = make_images(4, 3, 64, 64)
    before = images.clone()
    transform = CutPaste3Way()
    tripled, labels = transform(images, KEYS)
    assert torch.equal(images, before)
    assert tripled.shape == (12, 3, 64, 64)
    assert labels.dtype == torch.int64
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert torch.equal(tripled[:4], images)
    assert torch.equal(tripled[4:8], CutPaste()(images, KEYS)[0])
    assert torch.equal(tripled[8:], CutPasteScar()(images, KEYS)[0])


def test_three_ways_as_a_triplet():
    images = make_images(4, 3, 64, 64)
    expected, _ = CutPaste3Way()(images, KEYS)
    triplet = CutPaste3Way(output="triplet")(images, KEYS)
    assert torch.equal(torch.cat(triplet), expected)
    single = CutPaste3Way(output="triplet")(images[1], KEYS[1])
    assert [image.shape for image in single] == [(3, 64, 64)] * 3
    assert torch.equal(torch.stack(single), expected[1::4])
    arrays = CutPaste3Way(output="triplet")(images[1].permute(1, 2, 0).numpy(), KEYS[1])
    assert all(isinstance(array, np.ndarray) for array in arrays)
    np.testing.assert_array_equal(arrays[2], single[2].permute(1, 2, 0).numpy())
    collated = default_collate([CutPaste3Way(output="triplet")(i, k) for i, k in zip(images, KEYS, strict=True)])  # noqa: E501  # fmt: skip
    assert torch.equal(torch.cat(collated), expected)


def test_three_ways_keep_the_layout_and_take_their_own_options():
    images = make_images(4, 3, 64, 64, layout="channels_last")
    gated = CutPaste3Way(CutPaste(p=0.0), CutPasteScar((30, 30), (5, 5), rotation=(0, 0)))
    tripled, _ = gated(images, KEYS)
    assert tripled.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(tripled[4:8], images)
    assert not torch.equal(tripled[8:], images)
    empty, labels = CutPaste3Way()(images[:0], KEYS[:0])
    assert empty.shape == (0, 3, 64, 64)
    assert labels.shape == (0,)
    triplet = CutPaste3Way(output="triplet")(images[:0], KEYS[:0])
    assert [part.shape for part in triplet] == [(0, 3, 64, 64)] * 3


def test_three_ways_without_keys_and_with_tv_tensors():
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")
    image = tv_tensors.Image(make_images(1, 3, 64, 64)[0])
    torch.manual_seed(2)
    first = CutPaste3Way(output="triplet")(image)
    assert [type(part) for part in first] == [tv_tensors.Image] * 3
    torch.manual_seed(2)
    assert same(CutPaste3Way(output="triplet")(image), first)


def test_three_way_labels_what_was_not_pasted_as_normal():
    images = torch.randint(0, 256, (8, 3, 20, 20), dtype=torch.uint8)
    keys = make_keys(0, 0, torch.arange(8))
    out, labels = CutPaste3Way(CutPaste(p=0.5))(images, keys)
    changed = (out.reshape(3, 8, -1) != images.reshape(1, 8, -1)).any(2).flatten()
    assert torch.equal(labels > 0, changed)
    assert 0 < int((labels[8:16] == 0).sum()) < 8
    assert (labels[16:] == 0).any()  # a scar of up to 25 pixels does not always fit
