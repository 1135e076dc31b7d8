# SPDX-License-Identifier: Apache-2.0
"""Philox against the known answers of its authors, and as a source of random numbers."""

from __future__ import annotations

import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ssad_kernels import make_keys, philox
from ssad_kernels.random import STREAMS, random_keys, uniform
from ssad_kernels.reference import random as reference

# Random123, tests/kat_vectors, philox4x32 with 10 rounds: counter, key, result.
KNOWN_ANSWERS = {
    "zeros": ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    "ones": (
        [0xFFFFFFFF] * 4,
        [0xFFFFFFFF] * 2,
        [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
    ),
    "pi": (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
}
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
ALPHA = 1e-4


def signed(low: int, high: int) -> int:
    """Two 32-bit words as the int64 with the same bits."""
    value = high << 32 | low
    return value - (1 << 64) if value >> 63 else value


def chi_square_is_small(counts: Tensor) -> bool:
    """Whether counts of equally likely outcomes pass at `ALPHA` (Wilson and Hilferty, 1931)."""
    expected = counts.sum() / len(counts)
    statistic = float(((counts - expected) ** 2 / expected).sum())
    free = len(counts) - 1
    normal = 3.719016485455709  # the 1 - ALPHA quantile
    return statistic < free * (1 - 2 / (9 * free) + normal * math.sqrt(2 / (9 * free))) ** 3


@pytest.mark.parametrize("name", KNOWN_ANSWERS)
def test_reference_cipher_gives_the_known_answers(name):
    counter, key, expected = KNOWN_ANSWERS[name]
    words = reference._cipher(
        tuple(torch.tensor(word) for word in counter), tuple(torch.tensor(word) for word in key)
    )
    assert [int(word) for word in words] == expected


@pytest.mark.parametrize("name", KNOWN_ANSWERS)
def test_op_gives_the_known_answers(name, device):
    """The block is the low half of the first counter word, the stream its high half."""
    counter, key, expected = KNOWN_ANSWERS[name]
    block, stream = counter[0] & 0xFFFF, counter[0] >> 16
    row = [signed(*key), counter[1], signed(*counter[2:])]
    numbers = philox(torch.tensor([row], device=device), stream, 4 * (block + 1))
    assert numbers[0, 4 * block :].tolist() == expected


@given(rows=st.lists(st.tuples(INT64, INT64, INT64), max_size=5), stream=st.integers(0, 65535))
def test_kernel_equals_reference(device, rows, stream):
    keys = torch.tensor(rows, dtype=torch.int64, device=device).reshape(-1, 3)
    for count in (0, 1, 6, 16):
        actual = philox(keys, stream, count)
        assert actual.shape == (len(rows), count)
        assert torch.equal(actual, reference.philox(keys, stream, count))


def test_fewer_numbers_and_fewer_samples_are_a_part_of_more():
    keys = make_keys(1, 2, torch.arange(10))
    many = philox(keys, 3, 50)
    assert torch.equal(philox(keys, 3, 13), many[:, :13])
    assert torch.equal(philox(keys[[7, 2]], 3, 50), many[[7, 2]])


@pytest.mark.parametrize("word", ["seed", "epoch", "sample", "stream"])
def test_every_word_of_the_key_changes_the_numbers(word):
    """Each single bit of it gives other numbers."""
    bits = {"seed": 64, "epoch": 32, "sample": 64, "stream": 16}[word]
    seen = {tuple(philox(make_keys(0, 0, 0), 0, 4)[0].tolist())}
    for bit in range(bits):
        value = signed((1 << bit) & 0xFFFFFFFF, 1 << bit >> 32)
        parts = {"seed": 0, "epoch": 0, "sample": 0, "stream": 0, word: value}
        stream = parts.pop("stream")
        seen.add(tuple(philox(make_keys(**parts), stream, 4)[0].tolist()))
    assert len(seen) == bits + 1


def test_numbers_are_uniform():
    numbers = philox(make_keys(123, 0, torch.arange(1000)), 7, 256).flatten()
    assert numbers.min() >= 0
    assert numbers.max() < 1 << 32
    for shift in (0, 8, 16, 24):
        assert chi_square_is_small(torch.bincount(numbers >> shift & 255, minlength=256))


def test_streams_neighbouring_samples_and_positions_are_independent():
    ids = torch.arange(100_000)
    keys = make_keys(5, 1, ids)
    first, other = (philox(keys, stream, 2) >> 28 for stream in (3, 4))
    pairs = {
        "streams": (first[:, 0], other[:, 0]),
        "samples": (first[:-1, 0], first[1:, 0]),
        "positions": (first[:, 0], first[:, 1]),
    }
    for name, (a, b) in pairs.items():
        assert chi_square_is_small(torch.bincount(16 * a + b, minlength=256)), name


def test_uniform_excludes_both_ends():
    numbers = uniform(make_keys(0, 0, torch.arange(100)), 1, 100)
    assert numbers.dtype == torch.float64
    assert 0.0 < numbers.min() < 0.001
    assert 0.999 < numbers.max() < 1.0
    assert (0 + 0.5) * 2.0**-32 > 0.0
    assert ((1 << 32) - 1 + 0.5) * 2.0**-32 < 1.0


def test_streams_of_the_library_are_disjoint():
    # Each transform owns its number, and, if below 128, that number + "colours", plus 256 times an
    # option.
    own = [number for name, number in STREAMS.items() if name != "colours"]
    all_streams = own + [number + STREAMS["colours"] for number in own if number < 128]
    assert len(set(all_streams)) == len(all_streams)
    assert all(0 <= stream < 256 for stream in all_streams)


def test_make_keys():
    assert make_keys(-1, 7, 3).tolist() == [[-1, 7, 3]]
    assert make_keys(4, 5, torch.tensor([9, -2])).tolist() == [[4, 5, 9], [4, 5, -2]]
    assert make_keys(4, 5, torch.zeros(0, dtype=torch.int64)).shape == (0, 3)
    assert make_keys(4, 5, 6).dtype == torch.int64
    assert make_keys(0, 0, torch.arange(2), device="meta").device.type == "meta"


def test_random_keys_follow_torch_and_differ():
    torch.manual_seed(3)
    first = random_keys(1000)
    assert first.shape == (1000, 3)
    assert len(first[:, 0].unique()) == 1000
    torch.manual_seed(3)
    assert torch.equal(random_keys(1000), first)
    assert not torch.equal(random_keys(1000), first)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: philox([[0, 0, 0]], 0, 1),
            TypeError,
            "philox: `keys` must be a tensor, got list",
        ),
        (
            lambda: philox(torch.zeros(1, 3), 0, 1),
            TypeError,
            "philox: `keys` must have dtype int64, got float32",
        ),
        (
            lambda: philox(torch.zeros(3, dtype=torch.int64), 0, 1),
            ValueError,
            "philox: `keys` must have shape (N, 3), got (3,)",
        ),
        (
            lambda: philox(torch.zeros(2, 4, dtype=torch.int64), 0, 1),
            ValueError,
            "philox: `keys` must have shape (N, 3), got (2, 4)",
        ),
        (
            lambda: philox(make_keys(0, 0, 0), 65536, 1),
            ValueError,
            "philox: `stream` must be in 0...65535, got 65536",
        ),
        (
            lambda: philox(make_keys(0, 0, 0), -1, 1),
            ValueError,
            "philox: `stream` must be in 0...65535, got -1",
        ),
        (
            lambda: philox(make_keys(0, 0, 0), 0, 262145),
            ValueError,
            "philox: `count` must be in 0...262144, got 262145",
        ),
        (
            lambda: philox(make_keys(0, 0, 0), 0, -1),
            ValueError,
            "philox: `count` must be in 0...262144, got -1",
        ),
        (
            lambda: make_keys(0, 0, torch.zeros(2)),
            TypeError,
            "make_keys: `sample` must have dtype int64, got float32",
        ),
        (
            lambda: make_keys(0, 0, torch.zeros(2, 1, dtype=torch.int64)),
            ValueError,
            "make_keys: `sample` must have shape (N,), got (2, 1)",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 1 << 32, 1), ValueError, "make_keys: `epoch` must be in 0...4294967295"),
        ((0, -1, 1), ValueError, "make_keys: `epoch` must be in 0...4294967295"),
        ((1 << 64, 0, 1), ValueError, "make_keys: `seed` must be a 64-bit integer"),
        ((0, 0, 1.7), TypeError, "`sample` must be an integer or a tensor .N,. int64, got float"),
        ((0, 0, [1, 2]), TypeError, "`sample` must be an integer or a tensor .N,. int64, got list"),
        ((1.9, 0, 1), TypeError, "cannot be interpreted as an integer"),
    ],
)
def test_keys_that_would_alias(arguments, error, message):
    with pytest.raises(error, match=message):
        make_keys(*arguments)


def test_unsigned_seeds_keep_their_bits():
    assert torch.equal(make_keys((1 << 64) - 1, 0, 1), make_keys(-1, 0, 1))
