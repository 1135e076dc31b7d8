# SPDX-License-Identifier: Apache-2.0
"""The distribution of NSA's, FPI's and PII's patches, and the op that draws from it."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ssad_kernels import _backend, reference
from ssad_kernels._errors import check_device, check_tensor, wording
from ssad_kernels._op import define_op
from ssad_kernels.nsa import NsaParams, check_mask_kinds, check_masks, check_sides, dense
from ssad_kernels.random import check_keys, check_stream
from ssad_kernels.reference.nsa_law import AREA, ASPECT, ELLIPSES, Axis

_SIZES = ("gamma", "uniform", "cutpaste", "square")
_SHAPES = ("rectangle", "ellipses")
MAX_PATCHES, MAX_PROPOSALS = 16, 4080  # what the random numbers of a sample have places for


class NsaLaw(NamedTuple):
    """The distribution of `NsaParams`.

    The first patch of a sample is always attempted, each further one with probability 1/2. A patch
    is a window of the source, resized, at another place of the target. The window's centre is drawn
    until enough of the window shows an object, then the place until enough of the patch's object
    falls onto the target's, ``proposals`` times at most each; without object masks the first place
    is taken. A patch that finds no place is left out, as is one with less than 50 pixels to blend.

    Half sizes stay below half of the image's side, so that resized patches have a place.

    Attempted patches that find no place, in percent, for the recipes and made-up objects of
    ``ssad_kernels.testing``: from 64 proposals on more of them help nothing but thin objects, and
    those want the released code's 199.

    ==============================  =====  =====  =====  =====
    proposals                          16     32     64    200
    ==============================  =====  =====  =====  =====
    bottle                            0.1    0.1    0.1    0.1
    capsule                           6.6    0.8    0.3    0.3
    hazelnut                          3.1    0.4    0.3    0.2
    metal_nut                         0.1    0.1    0.1    0.1
    pill                              3.2    0.4    0.1    0.1
    screw (.12 of the height)        64.0   45.3   33.6   27.0
    toothbrush                        0.3    0.1    0.1    0.1
    zipper                            0.3    0.2    0.2    0.2
    rCXR                              0.1    0.1    0.1    0.1
    ==============================  =====  =====  =====  =====

    Attributes:
        p: probability that a sample is applied.
        height: bounds of a window's *half* height, shares of the image's height.
        width: of its half width, shares of the image's width.
        size: how half sizes are drawn. "gamma": ``offset + Gamma(2, scale)`` of the side, clipped
            to the bounds. "uniform": integers from the bounds, the upper one excluded. "square":
            one such integer for both axes, of ``height``. "cutpaste": a patch of 2...15 % of the
            image, half of them flat (height over width 0.3...1), half tall (1...3.3), not resized.
        offset: of "gamma".
        scale: of "gamma".
        resize: bounds of the factor of resizing, or None.
        spread: standard deviation of the factor, before it is clipped, around 1.
        patches: the most there can be, 1...16.
        object_share: share of a window, and of the resized patch, that must be exceeded by the
            source's object; None: anything goes. Without object masks this is not looked at.
        overlap: share of the patch's object that must fall onto the target's; likewise.
        shift: paste at another place; otherwise at the window's, and not resized.
        same_source: cut from the image itself.
        core: windows are centred in this central part of each axis.
        shape: "rectangle", or the union of 5 "ellipses" in it, with centres anywhere in the patch.
        proposals: 1...4080, for the window and for the place. The released code draws 199.
        factor: range of the source's weight for interpolation, one for all patches of a sample.
        is_reference: do as the released code. It bounds whole sizes after resizing with the bounds
            of half sizes, tests every patch against the target's object as it was, and has a slip
            in the rotation of ellipses.
    """

    p: float = 1.0
    height: tuple[float, float] = (0.03, 0.40)
    width: tuple[float, float] = (0.03, 0.40)
    size: Literal["gamma", "uniform", "cutpaste", "square"] = "gamma"
    offset: float = 0.03
    scale: float = 0.05
    resize: tuple[float, float] | None = (0.7, 1.3)
    spread: float = 0.5
    patches: int = 3
    object_share: float | None = None
    overlap: float | None = None
    shift: bool = True
    same_source: bool = False
    core: float = 1.0
    shape: Literal["rectangle", "ellipses"] = "rectangle"
    proposals: int = 64
    factor: tuple[float, float] = (0.05, 0.95)
    is_reference: bool = False


def sample_nsa(
    keys: Tensor,
    height: int,
    width: int,
    law: NsaLaw,
    *,
    stream: int,
    sources: int | None = None,
    source_masks: Tensor | None = None,
    target_masks: Tensor | None = None,
) -> NsaParams:
    """Draw the patches of a batch.

    Args:
        keys: (N, 3) int64, see `make_keys`.
        height: of the images, 1...16777215.
        width: likewise.
        law: what to draw from.
        stream: 0...65535, separates operations that draw for the same sample.
        sources: draw the source from this many images, each equally likely. Default: from the other
            images of the batch; then the draw depends on the batch. A batch of one is its own.
        source_masks: (M, 1, height, width) bool, where the sources show an object; M = ``sources``,
            or N.
        target_masks: (N, 1, height, width) bool, likewise; both masks or none.

    Returns:
        Parameters on the device of ``keys``, see `NsaParams`. Row i depends on ``keys[i]`` and its
        masks alone, but for a source from the batch. An image smaller than the smallest patch has
        the status NO_PLACE.

    Raises:
        TypeError: for a wrong dtype or kind.
        ValueError: for a wrong shape, device, size, stream, or a law that is no distribution.

    Gradient: none. Determinism: identical on every device, without host synchronisation.

    Example:
        >>> from ssad_kernels import make_keys
        >>> law = NsaLaw(size="square", height=(0.1, 0.1), core=0.5, shift=False, patches=1)
        >>> params = sample_nsa(make_keys(0, 0, 5), 100, 100, law, stream=0)
        >>> params.target_box[0, 0, 2:].tolist(), params.apply.tolist()
        ([20, 20], [[True]])
    """
    op = "sample_nsa"
    check_tensor(op, "keys", keys)
    check_mask_kinds(op, source_masks, target_masks)
    if sources is not None and not 1 <= sources < 1 << 31:
        raise ValueError(wording(op, "sources", "be in 1...2147483647, or None", sources))
    if sources is not None and law.same_source:
        raise ValueError(wording(op, "sources", "be None with a law of the same source", sources))
    count = -1 if sources is None else sources
    packed = pack_law(op, law)
    return NsaParams(
        *_sample(keys, stream, height, width, count, source_masks, target_masks, packed)
    )


def largest_patch(law: NsaLaw, height: int, width: int) -> int:
    """The largest side that a patch of a law can have in images of a size, pixels.

    Args:
        law: see `NsaLaw`.
        height: of the images, 1...16777215.
        width: likewise.

    Raises:
        ValueError: for a law that is no distribution, or a size out of range.
    """
    return _largest(*_law_and_axes("largest_patch", height, width, pack_law("largest_patch", law)))


_MUST = "be a distribution, see NsaLaw"
_LENGTH = 22


def pack_law(op: str, law: NsaLaw) -> list[float]:
    """A law as the op takes it: one list of numbers; ``op`` is named in the error."""
    try:
        if any(x is not None and not 0.0 <= x <= 1.0 for x in (law.object_share, law.overlap)):
            raise ValueError  # -1 stands for None
        if law.resize is not None and not law.resize[0] > 0.0:
            raise ValueError  # as do two zeros
        names = float(_SIZES.index(law.size)), float(_SHAPES.index(law.shape))
        (low_h, high_h), (low_w, high_w), (low_f, high_f) = law.height, law.width, law.factor
        low_r, high_r = (0.0, 0.0) if law.resize is None else law.resize
        share, overlap = (-1.0 if x is None else x for x in (law.object_share, law.overlap))
        flags = float(law.shift), float(law.same_source), float(law.is_reference)
        numbers = [law.p, low_h, high_h, low_w, high_w, law.offset, law.scale, low_r, high_r]
        numbers += [law.spread, law.patches, share, overlap, law.core, law.proposals, low_f, high_f]
        return [float(number) for number in (*numbers, *names, *flags)]
    except (AttributeError, TypeError, ValueError):
        raise ValueError(wording(op, "law", _MUST, law)) from None


@functools.lru_cache
def unpacked_law(op: str, *numbers: float) -> NsaLaw:
    """The law of a list of numbers, checked; a loader asks for the same one over and over."""
    if len(numbers) != _LENGTH:
        raise ValueError(wording(op, "law", f"hold {_LENGTH} numbers", len(numbers)))
    p, low_h, high_h, low_w, high_w, offset, scale, low_r, high_r = numbers[:9]
    spread, patches, share, overlap, core, proposals, low_f, high_f = numbers[9:17]
    size, shape, shift, same_source, is_reference = numbers[17:]
    has_resize = (low_r, high_r) != (0.0, 0.0)
    # One chain of comparisons, which NaN fails; the transforms say more precisely what is wrong.
    is_valid = (
        0.0 <= p <= 1.0
        and 0.0 <= low_h <= high_h <= 1.0
        and 0.0 <= low_w <= high_w <= 1.0
        and 0.0 <= offset <= 1.0
        and 0.0 <= scale <= 1.0
        and (not has_resize or 0.0 < low_r <= high_r <= 100.0)
        and 0.0 <= spread <= 100.0
        and 1 <= patches <= MAX_PATCHES
        and 1 <= proposals <= MAX_PROPOSALS
        and patches.is_integer()
        and proposals.is_integer()
        and all(x == -1.0 or 0.0 <= x <= 1.0 for x in (share, overlap))
        and 0.0 < core <= 1.0
        and 0.0 <= low_f <= high_f <= 1.0
    )
    if not is_valid:
        raise ValueError(wording(op, "law", _MUST, numbers))
    return NsaLaw(
        p=p,
        height=(low_h, high_h),
        width=(low_w, high_w),
        size=_SIZES[int(size)],  # type: ignore[arg-type]
        offset=offset,
        scale=scale,
        resize=(low_r, high_r) if has_resize else None,
        spread=spread,
        patches=int(patches),
        object_share=None if share == -1.0 else share,
        overlap=None if overlap == -1.0 else overlap,
        shift=shift != 0.0,
        same_source=same_source != 0.0,
        core=core,
        shape=_SHAPES[int(shape)],  # type: ignore[arg-type]
        proposals=int(proposals),
        factor=(low_f, high_f),
        is_reference=is_reference != 0.0,
    )


def _axis(law: NsaLaw, size: int, shares: tuple[float, float], room: int) -> Axis:
    """The bounds of a law along an axis; ``room`` is the side that has a place in the image."""
    low, high = (max(round(share * size), 1) for share in shares)
    if law.is_reference:
        full = low, high
    else:
        high = min(high, room // 2)
        full = 2 * low, 2 * high
    first = min(round((1.0 - law.core) / 2.0 * size), (size - 1) // 2)
    if law.size != "square":
        first = max(first, low)
    return Axis(size, (low, high), full, (first, size - first))


def _law_and_axes(
    op: str, height: int, width: int, numbers: list[float]
) -> tuple[NsaLaw, tuple[Axis, Axis]]:
    check_sides(op, height=height, width=width)
    law = unpacked_law(op, *numbers)
    if law.size == "square":  # of the height, also along the width
        axis = _axis(law, height, law.height, min(height, width) - 3)
        first = _axis(law, width, law.height, width - 3).centre
        return law, (axis, axis._replace(size=width, centre=first))
    rows = _axis(law, height, law.height, height - 3)
    return law, (rows, _axis(law, width, law.width, width - 3))


def _largest(law: NsaLaw, axes: tuple[Axis, Axis]) -> int:
    sizes = axes[0].size, axes[1].size
    if law.size == "cutpaste":
        side = math.ceil(math.sqrt(AREA[1] * ASPECT[1] * sizes[0] * sizes[1])) + 1
        return min(side, max(sizes))
    if law.resize is None or not law.shift:
        return max(1, *(min(2 * axis.half[1], axis.size) for axis in axes))
    return max(1, *(min(axis.full[1], axis.size) for axis in axes))


def _check_sample(
    keys: Tensor,
    stream: int,
    height: int,
    width: int,
    sources: int,
    source_masks: Tensor | None,
    target_masks: Tensor | None,
    law: list[float],
) -> None:
    op = "sample_nsa"
    check_keys(op, keys)
    check_stream(op, stream)
    check_sides(op, height=height, width=width)
    unpacked_law(op, *law)
    n = keys.shape[0]
    check_masks(op, source_masks, target_masks, (n, height, width))
    for name, value in (("source_masks", source_masks), ("target_masks", target_masks)):
        if value is not None:
            check_device(op, name, value, keys.device)
    if source_masks is not None:
        count = n if sources < 0 else sources
        if source_masks.shape[0] != count:
            must = f"hold one mask for each of {count} sources"
            raise ValueError(wording(op, "source_masks", must, source_masks.shape[0]))


def _allocate_sample(keys: Tensor, *args: Any) -> tuple[Tensor, ...]:
    law = unpacked_law("sample_nsa", *args[-1])
    n, patches = keys.shape[0], law.patches
    count = ELLIPSES if law.shape == "ellipses" else 0
    return (
        keys.new_empty((n,)),
        keys.new_empty((n, patches, 4)),
        keys.new_empty((n, patches, 4)),
        keys.new_empty((n, patches, count, 5), dtype=torch.float64),
        keys.new_empty((n, patches), dtype=torch.bool),
        keys.new_empty((n,), dtype=torch.float64),
        keys.new_empty((n,), dtype=torch.int8),
    )


@functools.lru_cache
def native_law(height: int, width: int, *numbers: float) -> tuple[tuple[int, ...], int]:
    """The bounds along both axes and the largest patch, as C++ takes them."""
    law, axes = _law_and_axes("sample_nsa", height, width, list(numbers))
    bounds = tuple(x for axis in axes for x in (axis.size, *axis.half, *axis.full, *axis.centre))
    return bounds, _largest(law, axes)


@functools.cache
def native_quantiles() -> Tensor:
    """The table of `reference.quantiles` on the CPU."""
    return reference.quantiles.table(torch.device("cpu"))


def _cpu_sample(*args_and_outputs: Any) -> None:
    args, outputs = args_and_outputs[:-7], args_and_outputs[-7:]
    keys, stream, height, width, sources, source_masks, target_masks, law = args
    _kept, addresses = dense(keys, source_masks, target_masks)
    _backend.native.sample_nsa(
        addresses[0],
        keys.shape[0],
        stream,
        sources,
        addresses[1:],
        law,
        *native_law(height, width, *law),
        native_quantiles().data_ptr(),
        [output.data_ptr() for output in outputs],
        torch.get_num_threads(),
    )


def _with_law(*args: Any) -> tuple[Any, ...]:
    """The op's arguments with the law, its bounds along both axes and the largest patch."""
    *rest, numbers = args
    height, width = args[2:4]
    law, axes = _law_and_axes("sample_nsa", height, width, numbers)
    return (*rest, law, axes, _largest(law, axes))


def _reference_sample(*args: Any) -> tuple[Tensor, ...]:
    return reference.nsa_law.sample_nsa(*_with_law(*args))


def _triton_sample(*args_and_outputs: Any) -> None:
    from ssad_kernels.triton.nsa_sample import launch  # Triton is slow to import, and optional

    args, outputs = args_and_outputs[:-7], args_and_outputs[-7:]
    launch(*_with_law(*args), *outputs)


_sample = define_op(
    "sample_nsa(Tensor keys, int stream, int height, int width, int sources, "
    "Tensor? source_masks, Tensor? target_masks, float[] law) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    check=_check_sample,
    allocate=_allocate_sample,
    cpu=_cpu_sample,
    triton=_triton_sample,
    reference=_reference_sample,
)
