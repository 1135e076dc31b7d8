# SPDX-License-Identifier: Apache-2.0
"""What a user reads: the type and the exact text of every error."""

from __future__ import annotations

import re
from collections.abc import Callable
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
    cut_paste_keyed_,
    make_keys,
    sample_cut_paste,
)
from ssad_kernels.transforms import (
    Confetti,
    CutPaste,
    CutPaste3Way,
    CutPasteScar,
    Cutout,
    Rotation,
)

NAN = float("nan")
DTYPES = "uint8 or float16 or bfloat16 or float32 or float64"
PLACES = [[0, 0, 2, 2]] * 2, [[4, 4]] * 2


def images(**change: Any) -> Tensor:
    return torch.zeros(2, 3, 8, 8, **change)


def pasted(batch: Any = None, **change: Any) -> Any:
    params = CutPasteParams.of(*PLACES)._replace(**change)
    return cut_paste_(images() if batch is None else batch, params)


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
            "must have at least one pixel, (N, C, H, W), got (2, 3, 0, 8)",
        ),
        (
            torch.zeros(2, 1, 8, 8).expand(2, 3, 8, 8),
            ValueError,
            "must not be an expanded view (its pixels share memory; call .clone() first), got "
            "strides (64, 0, 8, 1)",
        ),
        (images(requires_grad=True), ValueError, "must not require a gradient, got True"),
    ],
)
def test_images_of_the_op(batch, error, message):
    check(lambda: pasted(batch), error, f"cut_paste_: `images` {message}")


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
        ("angle", torch.zeros(2, device="meta"), ValueError, "must be on device cpu, got meta"),
    ],
)
def test_params_of_the_op(field, value, error, message):
    check(lambda: pasted(**{field: value}), error, f"cut_paste_: `{field}` {message}")


def test_images_that_require_a_gradient_are_welcome_where_none_is_recorded():
    with torch.no_grad():
        _, masks = pasted(images(requires_grad=True))
    assert masks.any()


def test_functional_form_checks_before_it_copies():
    params = CutPasteParams.of(*PLACES)
    check(lambda: cut_paste(None, params), TypeError, "cut_paste: `images` must be a tensor, got NoneType")  # noqa: E501  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda k: sample_cut_paste(k.float(), 8, 8, CutPasteLaw(), stream=0), TypeError, "`keys` must have dtype int64, got float32"),
        (lambda k: sample_cut_paste([0], 8, 8, CutPasteLaw(), stream=0), TypeError, "`keys` must be a tensor, got list"),
        (lambda k: sample_cut_paste(k[:, :2], 8, 8, CutPasteLaw(), stream=0), ValueError, "`keys` must have shape (N, 3), got (2, 2)"),
        (lambda k: sample_cut_paste(k, 0, 8, CutPasteLaw(), stream=0), ValueError, "`height` must be in 1...16777215, got 0"),
        (lambda k: sample_cut_paste(k, 8, 1 << 24, CutPasteLaw(), stream=0), ValueError, "`width` must be in 1...16777215, got 16777216"),
        (lambda k: sample_cut_paste(k, 8, 8, CutPasteLaw(), stream=70000), ValueError, "`stream` must be in 0...65535, got 70000"),
    ],
)  # fmt: skip
def test_arguments_of_sampling(call, error, message):
    keys = make_keys(0, 0, torch.arange(2))
    check(lambda: call(keys), error, f"sample_cut_paste: {message}")


@pytest.mark.parametrize(
    "change",
    [
        {"p": 1.5}, {"p": NAN}, {"area": (0.2, 0.1)}, {"area": (-0.1, 0.1)}, {"area": (0.1, 1.1)},
        {"area": (NAN, 0.1)}, {"area": (0.1,)}, {"aspect": (2.0, 3.0)}, {"aspect": (0.0, 1.0)},
        {"length": (0, 4)}, {"width": (5, 4)}, {"angle": (-400.0, 0.0)}, {"angle": (0.0, NAN)},
        {"jitter": (-0.1, 0.0, 0.0, 0.0)}, {"jitter": (0.0, 0.0, 0.0)},
        {"jitter": (0.0, float("inf"), 0.0, 0.0)},
    ],
    ids=str,
)  # fmt: skip
def test_laws_that_are_no_distribution(change):
    keys, law = make_keys(0, 0, torch.arange(2)), CutPasteLaw(**change)
    message = f"`law` must hold ranges (low, high) within their limits, got {law}"
    check(
        lambda: sample_cut_paste(keys, 8, 8, law, stream=0),
        ValueError,
        f"sample_cut_paste: {message}",
    )
    batch = images()
    check(
        lambda: cut_paste_keyed_(batch, keys, law, stream=0),
        ValueError,
        f"cut_paste_keyed_: {message}",
    )
    assert not batch.any()


@pytest.mark.parametrize(
    ("batch", "keys", "stream", "error", "message"),
    [
        (None, make_keys(0, 0, 0), 0, TypeError, "`images` must be a tensor, got NoneType"),
        (images(), None, 0, TypeError, "`keys` must be a tensor, got NoneType"),
        (images(), torch.zeros(2, 3), 0, TypeError, "`keys` must have dtype int64, got float32"),
        (images(), make_keys(0, 0, 0), 0, ValueError, "`keys` must have shape (2, 3), got (1, 3)"),
        (images(), make_keys(0, 0, 0)[0], 0, ValueError, "`keys` must have shape (N, 3), got (3,)"),
        (
            images(),
            torch.zeros(2, 3, dtype=torch.int64, device="meta"),
            0,
            ValueError,
            "`keys` must be on device cpu, got meta",
        ),
        (
            images(),
            make_keys(0, 0, torch.arange(2)),
            -1,
            ValueError,
            "`stream` must be in 0...65535, got -1",
        ),
        (
            images(requires_grad=True),
            make_keys(0, 0, torch.arange(2)),
            0,
            ValueError,
            "`images` must not require a gradient, got True",
        ),
    ],
)
def test_arguments_of_the_keyed_form(batch, keys, stream, error, message):
    check(
        lambda: cut_paste_keyed_(batch, keys, CutPasteLaw(), stream=stream),
        error,
        f"cut_paste_keyed_: {message}",
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CutPaste(area=(0.2, 0.1)), "CutPaste: `area` must be a range (low, high) with 0.0 <= low <= high <= 1.0, got (0.2, 0.1)"),
        (lambda: CutPaste(area=(0.1, NAN)), "CutPaste: `area` must be a range (low, high) with 0.0 <= low <= high <= 1.0, got (0.1, nan)"),
        (lambda: CutPaste(area=(0.1, 0.2, 0.3)), "CutPaste: `area` must be a range (low, high) with 0.0 <= low <= high <= 1.0, got (0.1, 0.2, 0.3)"),
        (lambda: CutPaste(aspect=(0.0, 2.0)), "CutPaste: `aspect` must be a range (low, high) with 0.001 <= low <= high <= 1000.0, got (0.0, 2.0)"),
        (lambda: CutPaste(aspect=(2.0, 3.0)), "CutPaste: `aspect` must contain 1, got (2.0, 3.0)"),
        (lambda: CutPaste(rotation=(-400, 0)), "CutPaste: `rotation` must be a range (low, high) with -360.0 <= low <= high <= 360.0, got (-400, 0)"),
        (lambda: CutPaste(p=1.1), "CutPaste: `p` must be in 0...1, got 1.1"),
        (lambda: CutPaste(p=NAN), "CutPaste: `p` must be in 0...1, got nan"),
        (lambda: CutPaste(jitter=-0.1), "CutPaste: `jitter` must be one number >= 0, or four (brightness, contrast, saturation, hue), got -0.1"),
        (lambda: CutPaste(jitter=(0.1, 0.1)), "CutPaste: `jitter` must be one number >= 0, or four (brightness, contrast, saturation, hue), got (0.1, 0.1)"),
        (lambda: CutPaste(jitter=(0, 0, 0, 0.6)), "CutPaste: `jitter` must have a hue of at most 0.5 turns, got (0, 0, 0, 0.6)"),
        (lambda: CutPaste(source="both"), "CutPaste: `source` must be \"same\" or \"other\", got 'both'"),
        (lambda: CutPaste(stream=256), "CutPaste: `stream` must be in 0...255, got 256"),
        (lambda: CutPasteScar(length=(0, 4)), "CutPasteScar: `length` must be a range (low, high) with 1 <= low <= high <= 1048576, got (0, 4)"),
        (lambda: CutPasteScar(width=(5, 4)), "CutPasteScar: `width` must be a range (low, high) with 1 <= low <= high <= 1048576, got (5, 4)"),
        (lambda: CutPasteScar(p=-1), "CutPasteScar: `p` must be in 0...1, got -1"),
        (lambda: CutPaste3Way(output="list"), "CutPaste3Way: `output` must be \"batch\" or \"triplet\", got 'list'"),
        (lambda: Cutout(fill="blue"), "Cutout: `fill` must be \"grey\", \"mean\" or \"random\", got 'blue'"),
        (lambda: Cutout(area=(0.5, 0.4)), "Cutout: `area` must be a range (low, high) with 0.0 <= low <= high <= 1.0, got (0.5, 0.4)"),
        (lambda: Cutout(p=2), "Cutout: `p` must be in 0...1, got 2"),
        (lambda: Confetti(pieces=(0, 4)), "Confetti: `pieces` must be a range (low, high) with 1 <= low <= high <= 1000, got (0, 4)"),
        (lambda: Confetti(side=(4, 2)), "Confetti: `side` must be a range (low, high) with 1 <= low <= high <= 1048576, got (4, 2)"),
        (lambda: Confetti(stream=-1), "Confetti: `stream` must be in 0...255, got -1"),
    ],
)  # fmt: skip
def test_options_of_transforms(make, message):
    check(make, ValueError, message)


TRANSFORMS = [CutPaste(), CutPasteScar(), Cutout(), Confetti()]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize(
    ("given", "keys", "error", "message"),
    [
        ("an image", None, TypeError, "`images` must be a tensor or a NumPy array (PIL images: use torchvision's PILToTensor first), got str"),
        (torch.zeros(8, 8), None, ValueError, "`images` must have shape (N, C, H, W) or (C, H, W), got (8, 8)"),
        (np.zeros((8, 8)), None, ValueError, "`images` must have shape (H, W, C), got (8, 8)"),
        (np.zeros((8, 8, 5)), None, ValueError, "`images` must have 1 to 4 channels, (N, C, H, W), got (1, 5, 8, 8)"),
        (images(dtype=torch.int64), None, TypeError, f"`images` must have dtype {DTYPES}, got int64"),
        (torch.zeros(5, 8, 8), None, ValueError, "`images` must have 1 to 4 channels, (N, C, H, W), got (1, 5, 8, 8)"),
        (images(), make_keys(0, 0, 0), ValueError, "`keys` must have one row per image, (2, 3), got (1, 3)"),
        (images(), [0, 0, 0], ValueError, "`keys` must have one row per image, (2, 3), got (1, 3)"),
        (images(), torch.zeros(2, 3), TypeError, "`keys` must have dtype int64, got float32"),
        (images(), torch.zeros(2, 2, dtype=torch.int64), ValueError, "`keys` must have shape (N, 3), got (2, 2)"),
        (images(), torch.zeros(2, 3, dtype=torch.int64, device="meta"), ValueError, "`keys` must be on device cpu, got meta"),
    ],
)  # fmt: skip
def test_calls_of_transforms(transform, given, keys, error, message):
    check(lambda: transform(given, keys), error, f"{type(transform).__name__}: {message}")


def test_pil_images_are_told_the_way():
    image = pytest.importorskip("PIL.Image").new("RGB", (8, 8))
    must = "must be a tensor or a NumPy array (PIL images: use torchvision's PILToTensor first)"
    check(lambda: CutPaste()(image), TypeError, f"CutPaste: `images` {must}, got Image")


def test_rotation_asks_for_square_images():
    check(
        lambda: Rotation()(torch.zeros(2, 3, 8, 9)),
        ValueError,
        "Rotation: `images` must be square, (N, C, H, H), got (2, 3, 8, 9)",
    )
    check(
        lambda: Rotation()(torch.zeros(2, 3, 8, 8, dtype=torch.int32)),
        TypeError,
        "Rotation: `images` must be an image tensor, got torch.int32",
    )
    check(lambda: Rotation()("x"), TypeError, "Rotation: `images` must be an image tensor, got str")


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
