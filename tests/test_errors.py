# SPDX-License-Identifier: Apache-2.0
"""What a user reads: the type and the exact text of every error."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ssad_kernels import (
    CutPasteLaw,
    CutPasteParams,
    KeyedDataset,
    KeyedSampler,
    Status,
    cut_paste,
    cut_paste_,
    cut_paste_keyed,
    cut_paste_keyed_,
    make_keys,
    sample_cut_paste,
)
from ssad_kernels.transforms import (
    Confetti,
    Cutout,
    CutPaste,
    CutPaste3Way,
    CutPasteScar,
    HardCutPaste,
    Rotation,
    Scar,
)

NAN = float("nan")
DTYPES = "uint8 or float16 or bfloat16 or float32 or float64"
PLACES = [[0, 0, 2, 2]] * 2, [[4, 4]] * 2
KEYS = make_keys(0, 0, torch.arange(2))
HARD = CutPasteLaw(turn_p=1.0)


def images(**change: Any) -> Tensor:
    return torch.zeros(2, 3, 8, 8, **change)


FORMS = {"cut_paste_": cut_paste_, "cut_paste": cut_paste}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Callable[..., tuple[Tensor, ...]]:
    return FORMS[request.param]


def check(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        (np.zeros((2, 3, 8, 8)), TypeError, "must be a tensor, got ndarray"),
        (images(dtype=torch.int32), TypeError, f"must have dtype {DTYPES}, got int32"),
        (images(dtype=torch.bool), TypeError, f"must have dtype {DTYPES}, got bool"),
        (images(dtype=torch.complex64), TypeError, f"must have dtype {DTYPES}, got complex64"),
        (images()[0], ValueError, "must have shape (N, C, H, W), got (3, 8, 8)"),
        (images()[None], ValueError, "must have shape (N, C, H, W), got (1, 2, 3, 8, 8)"),
        (
            torch.zeros(2, 5, 8, 8),
            ValueError,
            "must have 1 to 4 channels, (N, C, H, W), got (2, 5, 8, 8)",
        ),
        (
            torch.zeros(2, 0, 8, 8),
            ValueError,
            "must have 1 to 4 channels, (N, C, H, W), got (2, 0, 8, 8)",
        ),
        (
            torch.zeros(2, 3, 0, 8),
            ValueError,
            "must have at least one pixel, (N, C, H, W), and sides below 2²⁴, got (2, 3, 0, 8)",
        ),
        (images(requires_grad=True), ValueError, "must not require a gradient, got True"),
    ],
)
def test_images_of_the_op(form, batch, error, message):
    params = CutPasteParams.of(*PLACES)
    check(lambda: form(batch, params), error, f"{form.__name__}: `images` {message}")


def test_expanded_views():
    """A grey image shown as three channels has no memory to write to, but can be read."""
    batch = images()[:, :1].expand(2, 3, 8, 8)
    params = CutPasteParams.of(*PLACES)
    message = (
        "must not be an expanded view (its pixels share memory; call .clone() first), got "
        "strides (192, 0, 8, 1)"
    )
    check(lambda: cut_paste_(batch, params), ValueError, f"cut_paste_: `images` {message}")
    out, masks = cut_paste(batch, params)
    expected, expected_masks = cut_paste(batch.contiguous(), params)
    assert torch.equal(out, expected)
    assert torch.equal(masks, expected_masks)


@pytest.mark.parametrize(
    ("field", "value", "error", "message"),
    [
        ("source_index", [0, 1], TypeError, "must be a tensor, got list"),
        (
            "source_index",
            torch.zeros(2, dtype=torch.int32),
            TypeError,
            "must have dtype int64, got int32",
        ),
        ("source_box", torch.zeros(2, 4), TypeError, "must have dtype int64, got float32"),
        (
            "source_box",
            torch.zeros(3, 4, dtype=torch.int64),
            ValueError,
            "must have shape (2, 4), got (3, 4)",
        ),
        (
            "target",
            torch.zeros(2, dtype=torch.int64),
            ValueError,
            "must have shape (2, 2), got (2,)",
        ),
        (
            "angle",
            torch.zeros(2, dtype=torch.float64),
            TypeError,
            "must have dtype float32, got float64",
        ),
        ("angle", torch.zeros(1), ValueError, "must have shape (2,), got (1,)"),
        ("jitter", torch.zeros(2, 3), ValueError, "must have shape (2, 4), got (2, 3)"),
        ("order", torch.zeros(2, 4), TypeError, "must have dtype int64, got float32"),
        ("apply", torch.ones(2), TypeError, "must have dtype bool, got float32"),
        ("turns", torch.zeros(2), TypeError, "must have dtype int64, got float32"),
        ("turns", [1, 2], TypeError, "must be a tensor, got list"),
        ("shift", torch.zeros(2).long(), ValueError, "must have shape (2, 2), got (2,)"),
        ("angle", None, TypeError, "must be a tensor, got NoneType"),
        ("angle", torch.zeros(2, device="meta"), ValueError, "must be on device cpu, got meta"),
    ],
)
def test_params_of_the_op(form, field, value, error, message):
    params = CutPasteParams.of(*PLACES)._replace(**{field: value})
    check(lambda: form(images(), params), error, f"{form.__name__}: `{field}` {message}")


def test_images_that_require_a_gradient_are_welcome_where_none_is_recorded(form):
    with torch.no_grad():
        _, masks = form(images(requires_grad=True), CutPasteParams.of(*PLACES))
    assert masks.any()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"keys": torch.zeros(2, 3)}, TypeError, "`keys` must have dtype int64, got float32"),
        ({"keys": [0]}, TypeError, "`keys` must be a tensor, got list"),
        ({"keys": KEYS[:, :2]}, ValueError, "`keys` must have shape (N, 3), got (2, 2)"),
        ({"height": 0}, ValueError, "`height` must be in 1...16777215, got 0"),
        ({"width": 1 << 24}, ValueError, "`width` must be in 1...16777215, got 16777216"),
        ({"stream": 70000}, ValueError, "`stream` must be in 0...65535, got 70000"),
        ({"stream": 65472, "law": HARD}, ValueError, "`stream` must be in 0...65535, got 65536"),
    ],
)
def test_arguments_of_sampling(change, error, message):
    arguments = {"keys": KEYS, "height": 8, "width": 8, "law": CutPasteLaw(), "stream": 0}
    check(
        lambda: sample_cut_paste(**{**arguments, **change}), error, f"sample_cut_paste: {message}"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"p": 1.5}, {"p": NAN}, {"area": (0.2, 0.1)}, {"area": (-0.1, 0.1)}, {"area": (0.1, 1.1)},
        {"area": (NAN, 0.1)}, {"area": (0.1,)}, {"aspect": (2.0, 3.0)}, {"aspect": (0.0, 1.0)},
        {"length": (0, 4)}, {"width": (5, 4)}, {"angle": (-400.0, 0.0)}, {"angle": (0.0, NAN)},
        {"jitter": (-0.1, 0.0, 0.0, 0.0)}, {"jitter": (0.0, 0.0, 0.0)},
        {"jitter": (0.0, float("inf"), 0.0, 0.0)}, {"turn_p": NAN}, {"jitter_p": 1.1},
    ],
    ids=str,
)  # fmt: skip
def test_laws_that_are_no_distribution(change):
    law = CutPasteLaw(**change)
    message = f"`law` must hold ranges (low, high) within their limits, got {law}"
    check(
        lambda: sample_cut_paste(KEYS, 8, 8, law, stream=0),
        ValueError,
        f"sample_cut_paste: {message}",
    )
    batch = images()
    for keyed in (cut_paste_keyed_, cut_paste_keyed):
        with pytest.raises(ValueError, match=f"^{keyed.__name__}: {re.escape(message)}$"):
            keyed(batch, KEYS, law, stream=0)
    assert not batch.any()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": None}, TypeError, "`images` must be a tensor, got NoneType"),
        (
            {"images": images(requires_grad=True)},
            ValueError,
            "`images` must not require a gradient, got True",
        ),
        (
            {"images": images()[0]},
            ValueError,
            "`images` must have shape (N, C, H, W), got (3, 8, 8)",
        ),
        ({"keys": None}, TypeError, "`keys` must be a tensor, got NoneType"),
        ({"keys": torch.zeros(2, 3)}, TypeError, "`keys` must have dtype int64, got float32"),
        ({"keys": KEYS[:1]}, ValueError, "`keys` must have shape (2, 3), got (1, 3)"),
        ({"keys": KEYS[0]}, ValueError, "`keys` must have shape (N, 3), got (3,)"),
        ({"keys": KEYS.to("meta")}, ValueError, "`keys` must be on device cpu, got meta"),
        ({"stream": -1}, ValueError, "`stream` must be in 0...65535, got -1"),
    ],
)
def test_arguments_of_the_keyed_form(change, error, message):
    arguments = {"images": images(), "keys": KEYS, "law": CutPasteLaw(), "stream": 0, **change}
    for keyed in (cut_paste_keyed_, cut_paste_keyed):
        check(partial(keyed, **arguments), error, f"{keyed.__name__}: {message}")


def within(low: float, high: float) -> str:
    return f"be a range (low, high) with {low} <= low <= high <= {high}"


STRENGTHS = "be one number >= 0, or four (brightness, contrast, saturation, hue)"


@pytest.mark.parametrize(
    ("transform", "option", "value", "must"),
    [
        (CutPaste, "area", (0.2, 0.1), within(0.0, 1.0)),
        (CutPaste, "area", (0.1, NAN), within(0.0, 1.0)),
        (CutPaste, "area", (0.1, 0.2, 0.3), within(0.0, 1.0)),
        (CutPaste, "area", 0.1, within(0.0, 1.0)),
        (CutPaste, "jitter", None, STRENGTHS),
        (CutPaste, "p", None, "be in 0...1"),
        (CutPasteScar, "length", 10, within(1, 1048576)),
        (CutPaste, "aspect", (0.0, 2.0), within(0.001, 1000.0)),
        (CutPaste, "aspect", (2.0, 3.0), "contain 1"),
        (CutPaste, "rotation", (-400, 0), within(-360.0, 360.0)),
        (CutPaste, "p", 1.1, "be in 0...1"),
        (CutPaste, "p", NAN, "be in 0...1"),
        (CutPaste, "jitter", -0.1, STRENGTHS),
        (CutPaste, "jitter", NAN, STRENGTHS),
        (CutPaste, "jitter", (0.1, 0.1), STRENGTHS),
        (CutPaste, "jitter", (0, 0, 0, 0.6), "have a hue of at most 0.5 turns"),
        (CutPaste, "source", "both", 'be "same" or "other"'),
        (CutPaste, "stream", 256, "be in 0...255"),
        (CutPasteScar, "length", (0, 4), within(1, 1048576)),
        (CutPasteScar, "width", (5, 4), within(1, 1048576)),
        (CutPasteScar, "rotation", (10, -10), within(-360.0, 360.0)),
        (CutPasteScar, "p", -1, "be in 0...1"),
        (CutPaste3Way, "output", "list", 'be "batch" or "triplet"'),
        (Cutout, "fill", "blue", 'be "grey", "mean" or "random"'),
        (Cutout, "area", (0.5, 0.4), within(0.0, 1.0)),
        (Cutout, "aspect", (2.0, 3.0), "contain 1"),
        (Cutout, "p", 2, "be in 0...1"),
        (Confetti, "pieces", (0, 4), within(1, 1000)),
        (Confetti, "side", (4, 2), within(1, 1048576)),
        (Confetti, "p", 7, "be in 0...1"),
        (Scar, "length", (0, 4), within(1, 1048576)),
        (Scar, "rotation", (10, -10), within(-360.0, 360.0)),
        (Confetti, "stream", -1, "be in 0...255"),
    ],
)
def test_options_of_transforms(transform, option, value, must):
    message = f"{transform.__name__}: `{option}` must {must}, got {value!r}"
    check(lambda: transform(**{option: value}), ValueError, message)


TRANSFORMS = [CutPaste(), CutPasteScar(), Cutout(), Confetti(), Scar(), HardCutPaste()]
KIND = "be a tensor, or a NumPy or CuPy array (PIL images: torchvision's v2.ToImage first)"


def _who(transform: Any, is_metadata: bool) -> str:
    """Dtypes and shapes are checked once: by the op, where a transform has one."""
    has_op = isinstance(transform, (CutPaste, CutPasteScar, HardCutPaste))
    return "cut_paste_keyed" if has_op and is_metadata else type(transform).__name__


CHANNELS = "have 1 to 4 channels, (N, C, H, W)"


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize(
    ("given", "error", "must", "got"),
    [
        ("an image", TypeError, KIND, "str"),
        (torch.zeros(8, 8), ValueError, "have shape (N, C, H, W) or (C, H, W)", "(8, 8)"),
        (np.zeros((8, 8)), ValueError, "have shape (H, W, C), grey ones too", "(8, 8)"),
        (np.zeros((8, 8, 5)), ValueError, CHANNELS, "(1, 5, 8, 8)"),
        (torch.zeros(5, 8, 8), ValueError, CHANNELS, "(1, 5, 8, 8)"),
        (images(dtype=torch.int64), TypeError, f"have dtype {DTYPES}", "int64"),
    ],
)
def test_images_of_transforms(transform, given, error, must, got):
    is_metadata = must == CHANNELS or must.startswith("have dtype")
    message = f"{_who(transform, is_metadata)}: `images` must {must}, got {got}"
    check(lambda: transform(given), error, message)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize(
    ("keys", "error", "must", "got"),
    [
        (KEYS[:1], ValueError, "have one row per image, (2, 3)", "(1, 3)"),
        ([0, 0, 0], ValueError, "have one row per image, (2, 3)", "(1, 3)"),
        (torch.zeros(2, 3), TypeError, "have dtype int64", "float32"),
        (KEYS[:, :2], ValueError, "have shape (N, 3)", "(2, 2)"),
        (KEYS.to("meta"), ValueError, "be on device cpu", "meta"),
    ],
)
def test_keys_of_transforms(transform, keys, error, must, got):
    is_metadata = must in ("have dtype int64", "have shape (N, 3)")
    message = f"{_who(transform, is_metadata)}: `keys` must {must}, got {got}"
    check(lambda: transform(images(), keys), error, message)


def test_pil_images_are_told_the_way():
    image = pytest.importorskip("PIL.Image").new("RGB", (8, 8))
    check(lambda: CutPaste()(image), TypeError, f"CutPaste: `images` must {KIND}, got Image")


def test_rotation_asks_for_square_images():
    check(
        lambda: Rotation()(torch.zeros(2, 3, 8, 9)),
        ValueError,
        "Rotation: `images` must be square, (N, C, H, H), got (2, 3, 8, 9)",
    )
    check(
        lambda: Rotation()(torch.zeros(2, 3, 8, 8, dtype=torch.int32)),
        TypeError,
        f"Rotation: `images` must have dtype {DTYPES}, got int32",
    )
    check(lambda: Rotation()("x"), TypeError, f"Rotation: `images` must {KIND}, got str")


def test_keyed_data():
    class Endless(torch.utils.data.Dataset):
        def __getitem__(self, index: int) -> Tensor:
            return torch.zeros(1, 4, 4)

    check(
        lambda: len(KeyedDataset(Endless(), CutPaste(), 0)),
        TypeError,
        "KeyedDataset: `dataset` must have a length, got Endless",
    )
    source = torch.utils.data.SequentialSampler([1, 2])
    check(
        lambda: KeyedSampler(source, shuffle=True),
        ValueError,
        "KeyedSampler: `shuffle` must be False with a sampler, got True",
    )


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
def test_an_empty_batch_comes_back_empty(transform):
    batch, masks = transform(torch.zeros(0, 3, 8, 8), torch.zeros(0, 3, dtype=torch.int64))
    assert batch.shape == (0, 3, 8, 8)
    assert masks.shape == (0, 1, 8, 8)
    assert masks.dtype == torch.bool
    assert transform(torch.zeros(0, 3, 8, 8))[0].shape == (0, 3, 8, 8)


def test_an_image_smaller_than_the_patch_is_left_alone_and_says_so():
    batch = torch.rand(3, 3, 9, 9)
    transform = CutPasteScar(return_status=True)  # at least 10 pixels long
    result, masks, status = transform(batch)
    assert torch.equal(result, batch)
    assert not masks.any()
    assert status.tolist() == [Status.NO_PLACE] * 3


def test_a_box_outside_the_image_is_clipped_or_has_no_place():
    batch = torch.rand(2, 3, 8, 8)
    params = CutPasteParams.of([[6, 6, 4, 4], [8, 0, 4, 4]], [[0, 0], [0, 0]])
    result, masks, status = cut_paste(batch, params, return_status=True)
    assert status.tolist() == [Status.CLIPPED, Status.NO_PLACE]
    assert torch.equal(result[0, :, :2, :2], batch[0, :, 6:, 6:])
    assert masks.sum((1, 2, 3)).tolist() == [4, 0]


def test_a_parameter_that_is_nan_has_a_status():
    params = CutPasteParams.of(*PLACES)._replace(angle=torch.tensor([NAN, 0.0]))
    status = cut_paste(images(), params, return_status=True)[2]
    assert status.tolist() == [Status.NOT_FINITE, Status.APPLIED]
