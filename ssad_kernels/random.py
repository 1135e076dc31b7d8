# SPDX-License-Identifier: Apache-2.0
"""Counter-based random numbers: the same for a sample on any device, in any batch and worker.

A key is a row ``(seed, epoch, sample id)``. Each operation that draws for a sample has a stream of
its own, so that two operations never share numbers.
"""

from __future__ import annotations

import operator
from typing import Any, Final

import torch
from torch import Tensor

from ssad_kernels import _backend, reference
from ssad_kernels._errors import check_dtype, check_shape, check_tensor, wording
from ssad_kernels._op import define_op

# Streams below 256 are the library's: one number per transform, plus 256 times the `stream` option.
# Coins, colours and nodes are added to it, so that they move nothing else.
STREAMS: Final = {
    "cut_paste": 1,
    "scar": 2,
    "cutout": 4,
    "confetti": 5,
    "painted_scar": 6,
    "nsa": 7,
    "fpi": 8,
    "pii": 9,
    "perlin": 10,
    "cell_masking": 11,
    "hard_cut_paste": 12,
    "nodes": 32,  # of a lattice
    "coin": 64,
    "colours": 128,
    "crop": 255,  # of the models
}
MAX_STREAM: Final = 1 << 16


def make_keys(
    seed: int,
    epoch: int,
    sample: int | Tensor,
    *,
    device: torch.device | str | None = None,
) -> Tensor:
    """Keys for a batch of samples.

    Args:
        seed: any 64-bit integer, signed or unsigned, the seed of the run.
        epoch: 0...2³²-1; another epoch gives other numbers for the same sample.
        sample: id of one sample, or ids (N,) int64.
        device: where the keys are made; by default where ``sample`` lives.

    Returns:
        (N, 3) int64 rows ``(seed, epoch, sample id)``; N = 1 for a single id.

    Raises:
        TypeError: for numbers that are no integers, or a tensor of another dtype than int64.
        ValueError: for a seed or epoch out of range, or a tensor that is not of shape (N,).
    """
    seed, epoch = operator.index(seed), operator.index(epoch)
    if not -(1 << 63) <= seed < 1 << 64:
        raise ValueError(wording("make_keys", "seed", "be a 64-bit integer", seed))
    if not 0 <= epoch < 1 << 32:
        raise ValueError(wording("make_keys", "epoch", "be in 0...4294967295", epoch))
    if seed >= 1 << 63:
        seed -= 1 << 64  # the same bits as a signed number
    if isinstance(sample, Tensor):
        return _keys_of_ids(seed, epoch, sample if device is None else sample.to(device))
    try:
        row = [seed, epoch, operator.index(sample)]
    except TypeError:
        must = "be an integer or a tensor (N,) int64"
        raise TypeError(wording("make_keys", "sample", must, type(sample).__name__)) from None
    return torch.tensor([row], dtype=torch.int64, device=device)


def _keys_of_ids(seed: int, epoch: int, ids: Tensor) -> Tensor:
    check_dtype("make_keys", "sample", ids, [torch.int64])
    check_shape("make_keys", "sample", ids, ("N",))
    return torch.stack([torch.full_like(ids, seed), torch.full_like(ids, epoch), ids], dim=1)


def random_keys(n: int, *, device: torch.device | str | None = None) -> Tensor:
    """(n, 3) int64 keys drawn from torch's default CPU generator, for use without a key."""
    seeds = torch.randint(-(1 << 63), (1 << 63) - 1, (n, 1), device="cpu")
    keys = torch.nn.functional.pad(seeds, (0, 2))
    return keys if device is None else keys.to(device, non_blocking=True)


def philox(keys: Tensor, stream: int, count: int) -> Tensor:
    """Random 32-bit integers of each key: Philox 4x32-10 (Salmon et al., SC 2011).

    The cipher's key is the seed. Its counter is (block + 2¹⁶ · stream, epoch, sample id low, high),
    and each block gives four numbers.

    Args:
        keys: (N, 3) int64.
        stream: 0...65535.
        count: numbers per key, 0...262144.

    Returns:
        (N, count) int64 in 0...2³²-1; row i depends on ``keys[i]`` and ``stream`` alone.

    Raises:
        TypeError: if ``keys`` is not an int64 tensor.
        ValueError: for a wrong shape, stream or count.

    Gradient: none. Determinism: bitwise, on every device.
    """
    check_tensor("philox", "keys", keys)
    result: Tensor = _philox(keys, stream, count)
    return result


def uniform(keys: Tensor, stream: int, count: int) -> Tensor:
    """(N, count) float64 numbers between 0 and 1, both excluded; see `philox`."""
    return reference.random.unit(philox(keys, stream, count))


def check_keys(op: str, keys: Tensor) -> None:
    """Check that ``keys`` is (N, 3) int64."""
    if keys.dtype is not torch.int64:
        check_dtype(op, "keys", keys, [torch.int64])
    if keys.dim() != 2 or keys.shape[1] != 3:
        check_shape(op, "keys", keys, ("N", 3))


def check_stream(op: str, stream: int) -> None:
    """Check that a stream number fits the counter."""
    if not 0 <= stream < MAX_STREAM:
        raise ValueError(wording(op, "stream", "be in 0...65535", stream))


def _check(keys: Tensor, stream: int, count: int) -> None:
    check_keys("philox", keys)
    check_stream("philox", stream)
    if not 0 <= count <= 4 * 65536:
        raise ValueError(wording("philox", "count", "be in 0...262144", count))


def _allocate(keys: Tensor, stream: int, count: int) -> Tensor:
    return keys.new_empty((keys.shape[0], count))


def _cpu(keys: Tensor, stream: int, count: int, out: Tensor) -> None:
    keys = keys.contiguous()
    _backend.native.philox(
        keys.data_ptr(), keys.shape[0], stream, count, out.data_ptr(), torch.get_num_threads()
    )


def _triton(*args: Any) -> None:
    from ssad_kernels.triton.random import launch

    launch(*args)


_philox = define_op(
    "philox(Tensor keys, int stream, int count) -> Tensor",
    check=_check,
    allocate=_allocate,
    cpu=_cpu,
    triton=_triton,
    reference=reference.random.philox,
)
