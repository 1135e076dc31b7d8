# SPDX-License-Identifier: Apache-2.0
"""NSA, FPI and PII: what is wrong is said in words."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ssad_kernels import NsaLaw, make_keys, sample_nsa
from ssad_kernels.testing import make_images, same_bits
from ssad_kernels.transforms import FPI, NSA, PII

KEYS = make_keys(5, 2, torch.arange(6))


@pytest.fixture
def images() -> Tensor:
    return make_images(6, 3, 64, 64)


@pytest.fixture
def bank() -> Tensor:
    return make_images(5, 3, 64, 64, seed=1)


BAD = [
    ({"height": (0.4, 0.03)}, "`height` must be a range"),
    ({"width": (0.1, 0.6)}, "`width` must be a range"),
    ({"size": "poisson"}, "`size` must be one of gamma"),
    ({"shape": "star"}, "`shape` must be one of rectangle, ellipses"),
    ({"gradient": "both"}, "`gradient` must be one of source"),
    ({"gradient": "average", "compat": "reference"}, "`gradient` must not be average with compat"),
    ({"label": "soft"}, "`label` must be one of logistic"),
    ({"source": "bank"}, "`source` must be one of other, same"),
    ({"region": "disc"}, "`region` must be one of mask, rect"),
    ({"compat": "opencv"}, "`compat` must be one of None, reference"),
    ({"background": 20}, "`background` must be (grey, tolerance)"),
    ({"background": (20, -1)}, "`background` must be (grey, tolerance)"),
    ({"factor": (0.5, 1.5)}, "`factor` must be a range"),
    ({"resize": (0, 1)}, "`resize` must be a range"),
    ({"p": 2}, "`p` must be in 0...1"),
    ({"stream": 256}, "`stream` must be in 0...255"),
    ({"patches": 0}, "patches"),
    ({"proposals": 0}, "proposals"),
    ({"object_share": 2.0}, "object_share"),
    ({"overlap": -1.0}, "overlap"),
    ({"spread": -1.0}, "spread"),
    ({"core": 2.0}, "core"),
    ({"scale": 2.0}, "scale"),
    ({"tolerance": -1.0}, "tolerance"),
    ({"steepness": -1.0}, "steepness"),
]


@pytest.mark.parametrize(("options", "text"), BAD, ids=lambda value: str(value)[:30])
def test_options(options, text):
    with pytest.raises(ValueError, match="NSA: ") as caught:
        NSA(**options)
    assert text in str(caught.value)


def test_banks_that_do_not_suit(images, bank):
    with pytest.raises(TypeError, match="NSA: `bank` must be a tensor, got list"):
        NSA(bank=[1])
    for wrong, text in (
        (bank[..., :-1], r"`bank` must have images like those to be changed, \(3, 64, 64\)"),
        (bank[:, :1], r"`bank` must have images like those to be changed, \(3, 64, 64\)"),
        (bank[:0], "`bank` must hold at least one image"),
    ):
        with pytest.raises(ValueError, match=f"NSA: {text}"):
            NSA()(images, KEYS, bank=wrong)
    with pytest.raises(TypeError, match="NSA: `bank` must have dtype uint8, got float32"):
        NSA()(images, KEYS, bank=bank.float())
    with pytest.raises(ValueError, match="FPI: `half_size` must be a range"):
        FPI(half_size=0.1)
    with pytest.raises(TypeError, match="NSA: `images` must have dtype uint8, got float32"):
        NSA(compat="reference")(images.float(), KEYS)


def test_the_bank_may_be_the_images_that_are_written(images: Tensor) -> None:
    keys = make_keys(0, 0, torch.arange(6))
    wanted = NSA(gradient="swap", patches=4)(images, keys, bank=images.clone())
    got = NSA(gradient="swap", patches=4, inplace=True)(images, keys, bank=images)
    assert all(same_bits(x, y) for x, y in zip(got, wanted, strict=True))


ODD = (
    *(
        None,
        "x",
        b"x",
        [1],
        (1, 2, 3),
        {},
        object(),
        float("nan"),
        -1,
        1j,
        (None, None),
        [[1], [2]],
    ),
    *(np.float32(0.5), np.array([0.1, 0.2]), torch.tensor(0.5), True),
)


@pytest.mark.parametrize("make", [NSA, FPI, PII])
def test_options_of_odd_types_are_refused_by_name_or_work(make: Any) -> None:
    images, keys = make_images(2, 3, 32, 32), make_keys(0, 0, torch.arange(2))
    names = {*inspect.signature(NSA).parameters, *inspect.signature(make).parameters} - {"options"}
    refused = []
    for name, value in itertools.product(sorted(names), ODD):
        try:
            transform = make(**{name: value})
        except (TypeError, ValueError) as error:
            refused.append((name, str(error)))
        else:
            transform(images, keys)
    for name, text in refused:
        is_unknown = name == "half_size" and "unexpected keyword" in text
        assert is_unknown or text.startswith(f"{make.__name__}: `{name}` must "), text
    assert len(refused) > 200


@pytest.mark.parametrize(
    "change", [{"object_share": -1.0}, {"overlap": -1}, {"resize": (0, 0)}, {"resize": (0.0, 1.0)}]
)
def test_laws_whose_numbers_would_stand_for_none(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="sample_nsa: `law` must be a distribution"):
        sample_nsa(make_keys(0, 0, 1), 32, 32, NsaLaw(**change), stream=0)


def test_masks_of_a_bank_without_a_bank(images: Tensor) -> None:
    masks = torch.ones(6, 1, 64, 64, dtype=torch.bool)
    keys = make_keys(0, 0, torch.arange(6))
    with pytest.raises(
        ValueError, match="NSA: `bank_masks` must be given with a bank, got no bank"
    ):
        NSA()(images, keys, masks=masks, bank_masks=masks)
