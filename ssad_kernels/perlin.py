# SPDX-License-Identifier: Apache-2.0
"""Gradient noise, of which DRAEM and its successors cut the masks of synthetic anomalies.

Perlin, "Improving noise", SIGGRAPH 2002; Zavrtanik, Kristan and Skočaj, "DRAEM", ICCV 2021.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssad_kernels import _backend, reference
from ssad_kernels._errors import (
    check_device,
    check_dtype,
    check_pair,
    check_shape,
    check_tensor,
    wording,
)
from ssad_kernels._op import define_op
from ssad_kernels._status import raise_for_status
from ssad_kernels.random import check_keys, check_stream

_OP = "perlin_noise"


def perlin_noise(
    keys: Tensor,
    size: int | tuple[int, int],
    cells: Tensor,
    *,
    angle: Tensor | None = None,
    stream: int,
    strict: bool = False,
    return_status: bool = False,
) -> Any:
    """Gradient noise on a lattice of its own for each sample, within ±1.

    The image is divided into ``cells``, a sample's number of rows and columns, with a random unit
    vector at each corner. A pixel's value is the interpolation, by the fade t³ (6 t² - 15 t + 10)
    along both axes, of the four products of its cell's vectors with the offsets from their corners,
    in cells; times √2. Pixel p of an axis of n pixels and r cells lies at p r / n: pixel 0 on a
    node, where noise is 0.

    Args:
        keys: (N, 3) int64, see `make_keys`. The vector of node k (row by row, r_x + 1 a row) is
            turned from down towards right by (b + ½) 2⁻³² turns, b being number k of
            ``philox(keys, stream, ...)``.
        size: (H, W) in pixels, or a number for both; any numbers below 2²⁴.
        cells: (N, 2) int64 ``(r_y, r_x)``, 1...128 each. They need not divide ``size``.
        angle: (N,) float32 degrees: the noise is turned about the image's centre, as `cut_paste`
            turns patches, pixels by nearest neighbour; what lay outside is 0. Default: not turned.
        stream: 0...65535, separates operations that draw for the same sample.
        strict: raise if a sample has a status other than APPLIED; waits for the device.
        return_status: also return what became of each sample, (N,) int8, see `Status`.

    Returns:
        (N, 1, H, W) float32; then the status if asked for: NOT_FINITE for an angle that is not,
        NO_PLACE for ``cells`` out of range. The noise of such a sample is 0.

    Raises:
        TypeError: for a wrong dtype or kind.
        ValueError: for a wrong shape, device, size or stream.
        RuntimeError: with ``strict``.

    Gradient: none. Determinism: the same bits on every device and instruction set, in any batch,
    for any number of threads; without host synchronisation. So what exceeds a threshold is the same
    everywhere too. Numbers: tables in float64, products and sums in float32 without contraction;
    within 1e-6 of the definition; a zero has any sign.

    Source: DRAEM's noise, for any size. DRAEM turns it by bilinear interpolation.

    Example:
        >>> import torch
        >>> from ssad_kernels import make_keys
        >>> keys = make_keys(0, 0, torch.arange(2))
        >>> noise = perlin_noise(keys, (96, 128), torch.tensor([[2, 4], [8, 1]]), stream=0)
        >>> noise.shape, bool((noise[:, 0, 0, 0] == 0).all()), bool((noise.abs() <= 1).all())
        (torch.Size([2, 1, 96, 128]), True, True)
    """
    for name, value in (("keys", keys), ("cells", cells)):
        check_tensor(_OP, name, value)
    if angle is not None:
        check_tensor(_OP, "angle", angle)
    noise, status = _noise(keys, stream, check_pair(_OP, "size", size, int), cells, angle)
    if strict:
        raise_for_status(_OP, status)
    return (noise, status) if return_status else noise


def _check(keys: Tensor, stream: int, size: Any, cells: Tensor, angle: Tensor | None) -> None:
    check_keys(_OP, keys)
    check_stream(_OP, stream)
    if len(size) != 2:
        raise ValueError(wording(_OP, "size", "hold two numbers, (H, W)", tuple(size)))
    for value in size:
        if not 1 <= value < 1 << 24:
            raise ValueError(wording(_OP, "size", "be at least 1 and below 2²⁴", value))
    n = keys.shape[0]
    check_dtype(_OP, "cells", cells, [torch.int64])
    check_shape(_OP, "cells", cells, (n, 2))
    check_device(_OP, "cells", cells, keys.device)
    if angle is not None:
        check_dtype(_OP, "angle", angle, [torch.float32])
        check_shape(_OP, "angle", angle, (n,))
        check_device(_OP, "angle", angle, keys.device)


def _allocate(keys: Tensor, stream: int, size: Any, *_: Any) -> tuple[Tensor, Tensor]:
    n = keys.shape[0]
    noise = keys.new_empty((n, 1, *size), dtype=torch.float32)
    return noise, keys.new_empty((n,), dtype=torch.int8)


def _cpu(
    keys: Tensor, stream: int, size: Any, cells: Tensor, angle: Tensor | None, *outputs: Tensor
) -> None:
    rows = [None if row is None else row.contiguous() for row in (keys, cells, angle)]
    _backend.native.perlin_noise(
        [0 if row is None else row.data_ptr() for row in rows],
        stream,
        keys.shape[0],
        size,
        [output.data_ptr() for output in outputs],
        torch.get_num_threads(),
    )


def _triton(*args: Any) -> None:
    from ssad_kernels.triton.perlin import launch  # Triton is slow to import, and optional

    launch(*args)


_noise = define_op(
    f"{_OP}(Tensor keys, int stream, SymInt[2] size, Tensor cells, Tensor? angle) "
    "-> (Tensor noise, Tensor status)",
    check=_check,
    allocate=_allocate,
    cpu=_cpu,
    triton=_triton,
    reference=reference.perlin.perlin_noise,
)
