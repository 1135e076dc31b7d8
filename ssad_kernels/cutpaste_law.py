# SPDX-License-Identifier: Apache-2.0
"""The distribution of CutPaste's parameters, and the ops that draw from it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ssad_kernels import _backend, reference
from ssad_kernels._errors import check_device, check_images, check_shape, check_tensor, wording
from ssad_kernels._op import define_op
from ssad_kernels.cutpaste import (
    PARAM_ROWS,
    CutPasteParams,
    allocate_copy,
    allocate_masks,
    check_tensors,
    launch_triton,
    native_views,
)
from ssad_kernels.random import STREAMS, check_keys, check_stream, philox


class CutPasteLaw(NamedTuple):
    """The distribution of `CutPasteParams`; every range is closed, every draw uniform.

    Attributes:
        p: probability that a sample is applied.
        scar: draw ``length`` and ``width`` in pixels, not ``area`` and ``aspect``.
        area: range of the patch's share of the image.
        aspect: height over width; below and above 1 are equally likely.
        length: range of heights of a scar, pixels.
        width: range of widths of a scar, pixels.
        angle: range of rotations, degrees.
        jitter: largest change of brightness, contrast, saturation (factors) and hue (turns).
        other_source: cut from another image of the batch. The draw then depends on the batch.
        turn_p: probability that the source image is turned by 90, 180 or 270 degrees; by 180 if it
            is not square.
        permute_p: probability that its halves change places: top and bottom, left and right, or
            both.
        jitter_p: probability that the patch is recoloured at all.
    """

    p: float = 1.0
    scar: bool = False
    area: tuple[float, float] = (0.02, 0.15)
    aspect: tuple[float, float] = (0.3, 3.3)
    length: tuple[int, int] = (10, 25)
    width: tuple[int, int] = (2, 16)
    angle: tuple[float, float] = (0.0, 0.0)
    jitter: tuple[float, float, float, float] = (0.1, 0.1, 0.1, 0.1)
    other_source: bool = False
    turn_p: float = 0.0
    permute_p: float = 0.0
    jitter_p: float = 1.0

    @property
    def is_hard(self) -> bool:
        """Whether it draws more than all laws do, from a stream of its own."""
        return self[-3:] != (0.0, 0.0, 1.0)


def sample_cut_paste(
    keys: Tensor, height: int, width: int, law: CutPasteLaw, *, stream: int
) -> CutPasteParams:
    """Draw the parameters of a batch.

    A patch is placed so that all of it, after rotation, lies in the image; one that fits nowhere is
    aimed beyond the image, and the op will report `Status.NO_PLACE`.

    Args:
        keys: (N, 3) int64, see `make_keys`.
        height: of the images, 1...16777215.
        width: of the images, likewise.
        law: what to draw from.
        stream: 0...65535, separates operations that draw for the same sample; a law with
            ``turn_p``, ``permute_p`` or ``jitter_p`` draws from stream + 64, too.

    Returns:
        Parameters on the device of ``keys``. Row i depends on ``keys[i]`` alone, unless patches
        come from other images. ``turns`` and ``shift`` are None if the law has none.

    Raises:
        TypeError: if ``keys`` is not an int64 tensor.
        ValueError: for a wrong shape, size, stream, or a law that is no distribution.

    Gradient: none. Determinism: identical integers on every device, without host synchronisation.
    """
    check_tensor("sample_cut_paste", "keys", keys)
    rows = _sample(keys, stream, height, width, pack_law("sample_cut_paste", law))
    return _with_hard(rows, keys, stream, (height, width), law)


def cut_paste_keyed_(
    images: Tensor, keys: Tensor, law: CutPasteLaw, *, stream: int, return_status: bool = False
) -> tuple[Tensor, ...]:
    """`sample_cut_paste` and `cut_paste_` in one call, for when the parameters are not needed.

    Args:
        images: as in `cut_paste_`; written in place.
        keys: (N, 3) int64, one row per image, on the images' device.
        law: what to draw from.
        stream: 0...65535, as in `sample_cut_paste`.
        return_status: also return what became of each sample, (N,) int8.

    Returns:
        ``images`` itself and the masks (N, 1, H, W) bool; then the status if asked for.

    Raises:
        TypeError: for a wrong dtype or kind.
        ValueError: for a wrong shape, device, stream or law.

    Gradient: none. Determinism: as the two calls, whose result it equals bit for bit.
    """
    check_tensors("cut_paste_keyed_", images, ("keys", keys))
    mask, status = _cut_paste_keyed_(images, keys, stream, pack_law("cut_paste_keyed_", law))
    return (images, mask, status) if return_status else (images, mask)


def cut_paste_keyed(
    images: Tensor, keys: Tensor, law: CutPasteLaw, *, stream: int, return_status: bool = False
) -> tuple[Tensor, ...]:
    """Like `cut_paste_keyed_`, but the images given stay as they are.

    Args:
        images: (N, C, H, W), see `cut_paste_`.
        keys: (N, 3) int64, one row per image, on the images' device.
        law: what to draw from.
        stream: 0...65535, as in `sample_cut_paste`.
        return_status: also return what became of each sample, (N,) int8, see `Status`.

    Returns:
        New images (N, C, H, W) and the masks (N, 1, H, W) bool; then the status if asked for.

    Raises:
        TypeError, ValueError: as `cut_paste_keyed_`.

    Gradient: none. Determinism: the bits of `cut_paste_keyed_`.
    """
    check_tensors("cut_paste_keyed", images, ("keys", keys))
    out, mask, status = _cut_paste_keyed(images, keys, stream, pack_law("cut_paste_keyed", law))
    return (out, mask, status) if return_status else (out, mask)


# A law crosses the dispatcher as one list of numbers: as nine arguments it cost 4 µs more.
_MUST = "hold ranges (low, high) within their limits"
_LENGTHS = (1, 1, 2, 2, 2, 2, 2, 4, 1, 1, 1, 1)


def pack_law(op: str, law: CutPasteLaw) -> list[float]:
    """A law as the ops take it; ``op`` is named in the error if a range is not a pair."""
    p, scar, *ranges, other_source, turn_p, permute_p, jitter_p = law
    if any(len(pair) != n for pair, n in zip(ranges, _LENGTHS[2:-4], strict=True)):
        raise ValueError(wording(op, "law", _MUST, law))
    pairs = itertools.chain.from_iterable(ranges)
    return [p, float(scar), *pairs, float(other_source), turn_p, permute_p, jitter_p]


@functools.lru_cache
def _unpacked(op: str, *numbers: float) -> CutPasteLaw:
    """The law of a list of numbers, checked; a loader asks for the same one over and over."""
    if len(numbers) != sum(_LENGTHS):
        raise ValueError(wording(op, "law", f"hold {sum(_LENGTHS)} numbers", len(numbers)))
    p, scar, *rest, other_source, turn_p, permute_p, jitter_p = numbers
    pairs: list[Any] = list(zip(rest[:10:2], rest[1:10:2], strict=True))
    pairs[2:4] = [tuple(int(x) if x.is_integer() else x for x in pair) for pair in pairs[2:4]]
    jitter = tuple(rest[10:])
    hard = (turn_p, permute_p, jitter_p)
    given = CutPasteLaw._make((p, bool(scar), *pairs, jitter, bool(other_source), *hard))
    # One chain of comparisons, which NaN fails; the transforms say more precisely what is wrong.
    if not (
        0.0 <= p <= 1.0
        and 0.0 <= given.area[0] <= given.area[1] <= 1.0
        and 1e-3 <= given.aspect[0] <= 1.0 <= given.aspect[1] <= 1e3
        and 1 <= given.length[0] <= given.length[1] < 1 << 24
        and 1 <= given.width[0] <= given.width[1] < 1 << 24
        and all(isinstance(side, int) for side in (*given.length, *given.width))
        and -360.0 <= given.angle[0] <= given.angle[1] <= 360.0
        and all(0.0 <= strength <= 1e5 for strength in jitter)
        and all(0.0 <= share <= 1.0 for share in hard)
    ):
        raise ValueError(wording(op, "law", _MUST, given))
    return given


def _check_draws(op: str, stream: int, law: list[float]) -> None:
    check_stream(op, stream)
    if _unpacked(op, *law).is_hard:
        check_stream(op, stream + STREAMS["coin"])


def _check_sample(keys: Tensor, stream: int, height: int, width: int, law: list[float]) -> None:
    check_keys("sample_cut_paste", keys)
    for name, size in (("height", height), ("width", width)):
        if not 1 <= size < 1 << 24:
            raise ValueError(wording("sample_cut_paste", name, "be in 1...16777215", size))
    _check_draws("sample_cut_paste", stream, law)


def _allocate_sample(keys: Tensor, *args: Any) -> tuple[Tensor, ...]:
    n = keys.shape[0]
    return tuple(keys.new_empty((n, *tail), dtype=dtype) for _, dtype, tail in PARAM_ROWS)


def _cpu_sample(keys: Tensor, *args_and_outputs: Any) -> None:
    args, outputs = args_and_outputs[:-7], args_and_outputs[-7:]
    keys = keys.contiguous()
    stream, height, width, law = args
    pointers = [value.data_ptr() for value in outputs]
    _backend.native.sample_cut_paste(
        keys.data_ptr(), keys.shape[0], stream, height, width, law, pointers
    )


def _triton_sample(*args_and_outputs: Any) -> None:
    from ssad_kernels.triton.sampling import launch

    *args, law = args_and_outputs[:-7]
    unpacked: Any = _unpacked("sample_cut_paste", *law)
    launch(*args, *unpacked[:9], *args_and_outputs[-7:])


def _reference_sample(*args: Any) -> tuple[Tensor, ...]:
    keys, stream, height, width, law = args
    unpacked: Any = _unpacked("sample_cut_paste", *law)
    return reference.cutpaste.sample_cut_paste(keys, stream, height, width, *unpacked[:9])


def _with_hard(
    rows: tuple[Tensor, ...], keys: Tensor, stream: int, size: Sequence[int], law: CutPasteLaw
) -> CutPasteParams:
    """Drawn rows, and what a hard law draws on top."""
    params = CutPasteParams(*rows)
    if not law.is_hard:
        return params
    height, width = size
    bits = philox(keys, stream + STREAMS["coin"], 5)
    order, turns, shift = reference.cutpaste.sample_hard(
        bits, params.order, height, width, law.turn_p, law.permute_p, law.jitter_p
    )
    return params._replace(order=order, turns=turns, shift=shift)


_sample = define_op(
    "sample_cut_paste(Tensor keys, int stream, int height, int width, float[] law) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    check=_check_sample,
    allocate=_allocate_sample,
    cpu=_cpu_sample,
    triton=_triton_sample,
    reference=_reference_sample,
)


def _check_keyed(op: str, images: Tensor, keys: Tensor, stream: int, law: list[float]) -> None:
    check_images(op, images, is_written=op.endswith("_"))
    check_keys(op, keys)
    if keys.shape[0] != images.shape[0]:
        check_shape(op, "keys", keys, (images.shape[0], 3))
    if keys.device != images.device:
        check_device(op, "keys", keys, images.device)
    _check_draws(op, stream, law)


def _cpu_keyed(
    images: Tensor, keys: Tensor, stream: int, law: list[float], mask: Tensor, status: Tensor
) -> None:
    _cpu_keyed_copy(images, keys, stream, law, images, mask, status)


def _cpu_keyed_copy(
    images: Tensor,
    keys: Tensor,
    stream: int,
    law: list[float],
    out: Tensor,
    mask: Tensor,
    status: Tensor,
) -> None:
    keys = keys.contiguous()
    _backend.native.cut_paste_keyed(
        *native_views(images, out),
        keys.data_ptr(),
        (stream, stream + STREAMS["coin"]),
        law,
        mask.data_ptr(),
        status.data_ptr(),
        torch.get_num_threads(),
    )


def _triton_keyed(
    images: Tensor, keys: Tensor, stream: int, law: list[float], mask: Tensor, status: Tensor
) -> None:
    rows = _allocate_sample(keys)
    _triton_sample(keys, stream, *images.shape[2:], law, *rows)
    unpacked = _unpacked("cut_paste_keyed", *law)
    params = _with_hard(rows, keys, stream, images.shape[2:], unpacked)
    launch_triton(images, *params, mask, status)


def _triton_keyed_copy(images: Tensor, *args: Any) -> None:
    keys, stream, law, out, mask, status = args
    _triton_keyed(out.copy_(images), keys, stream, law, mask, status)


def _reference_keyed(
    images: Tensor, keys: Tensor, stream: int, law: list[float]
) -> tuple[Tensor, ...]:
    rows = _reference_sample(keys, stream, *images.shape[2:], law)
    unpacked = _unpacked("cut_paste_keyed", *law)
    params = _with_hard(rows, keys, stream, images.shape[2:], unpacked)
    return reference.cutpaste.cut_paste_(images, *params)


def _reference_keyed_copy(images: Tensor, *args: Any) -> tuple[Tensor, ...]:
    out = images.clone()
    return out, *_reference_keyed(out, *args)


_cut_paste_keyed_ = define_op(
    "cut_paste_keyed_(Tensor(a!) images, Tensor keys, int stream, float[] law) "
    "-> (Tensor mask, Tensor status)",
    check=functools.partial(_check_keyed, "cut_paste_keyed_"),
    allocate=allocate_masks,
    cpu=_cpu_keyed,
    triton=_triton_keyed,
    reference=_reference_keyed,
)

_cut_paste_keyed = define_op(
    "cut_paste_keyed(Tensor images, Tensor keys, int stream, float[] law) "
    "-> (Tensor out, Tensor mask, Tensor status)",
    check=functools.partial(_check_keyed, "cut_paste_keyed"),
    allocate=allocate_copy,
    cpu=_cpu_keyed_copy,
    triton=_triton_keyed_copy,
    reference=_reference_keyed_copy,
)
