# SPDX-License-Identifier: Apache-2.0
"""Score maps of feature positions, brought to the resolution of the image.

Liznerski, Ruff, Vandermeulen, Franks, Kloft and Müller, "Explainable Deep One-Class
Classification", ICLR 2021.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ssad_kernels import _backend, reference
from ssad_kernels._errors import FLOATS, check_images, check_pair, check_tensor, wording
from ssad_kernels._op import define_op

_OP = "receptive_field_upsample"
_LARGEST = 1 << 13  # of kernels and strides
_FARTHEST = 1 << 24  # of offsets


def receptive_field_upsample(
    scores: Tensor,
    size: int | tuple[int, int],
    *,
    kernel: int | tuple[int, int],
    stride: int | tuple[int, int],
    offset: float | tuple[float, float],
    sigma: float | tuple[float, float] | None = None,
    normalise: bool = False,
) -> Tensor:
    """Place a Gaussian kernel, as large as the receptive field, on the centre of each feature.

    Feature (u, v) with the score s adds ``s g(i) g(j)`` to the pixels of its receptive field, whose
    centre is ``(offset + stride u, offset + stride v)``; i and j count a field's pixels from its
    top-left corner. If `kernel` is odd then ``g(i) = exp(-(i - c)² / 2 sigma²)``, c the middle. If
    it is even, g is that of one pixel less with the middle twice, halved, so that four pixels share
    the peak. This is a transposed convolution with one Gaussian, cropped to the image.

    Args:
        scores: (N, C, h, w), C = 1...4, of a float dtype, any values and strides.
        size: (H, W) of the result in pixels, or a number for both. Any size: the kernels are
            cropped, and pixels that none of them reaches are 0.
        kernel: side of the receptive field in pixels, 1...8192; a pair (y, x) where they differ, as
            with all that follow.
        stride: pixels from one feature to the next, 1...8192. Not larger than `kernel`, or there
            are pixels between the fields that are 0.
        offset: pixel on which the middle of the first feature's field lies. Fields begin at whole
            pixels, so for an odd kernel the middle is ⌊offset⌋, for an even one ⌊offset⌋ + 0.5:
            there 3.0 and 3.5 give the same map. `receptive_field` computes these three.
        sigma: standard deviation of the kernel in pixels, > 0. Default: 10 for kernels from 32 on,
            log10(0.45 kernel + 1) + 0.25 for smaller ones.
        normalise: divide by the upsampled map of ones: then each pixel is a weighted mean of
            scores, and a constant map stays so. Otherwise its level is multiplied by about
            sum(g)² / stride², and less near the borders. Where no kernel reaches, or the taps of an
            axis add up to less than 2⁻¹⁰²² (the smallest normal float64; more than 37 `sigma` from
            the middle), there is nothing to divide by, and pixels are 0 all the same.

    Returns:
        (N, C, H, W), contiguous, of the dtype of `scores`.

    Raises:
        TypeError: `scores` that are not a tensor of a float dtype.
        ValueError: shapes that do not fit, or a number out of its range.

    Gradient: with respect to `scores`; it is the adjoint of this linear map, at the same speed, and
    has a gradient itself. Determinism: bitwise within a backend and instruction set, in any batch,
    layout, and for any number of threads; forwards and backwards. Numbers: float32 arithmetic,
    float64 for float64 scores. A score that is not finite makes pixels of its own field so, and no
    others.

    Source: FCDD's upsampling, its sigma included; with ``kernel=32, stride=4, offset=15.5`` also
    that of CutPaste's patch model.

    Example:
        >>> import torch
        >>> scores = torch.zeros(1, 1, 28, 28)
        >>> scores[0, 0, 14, 14] = 1
        >>> heat = receptive_field_upsample(scores, 224, kernel=62, stride=8, offset=3.5)
        >>> (heat == heat.max()).nonzero()[:, 2:].tolist()
        [[115, 115], [115, 116], [116, 115], [116, 116]]
        >>> float(heat.max())
        0.25
    """
    check_tensor(_OP, "scores", scores)
    kernels = check_pair(_OP, "kernel", kernel, int)
    strides = check_pair(_OP, "stride", stride, int)
    offsets = check_pair(_OP, "offset", offset, float)
    for value in offsets:
        if not abs(value) < _FARTHEST:  # a NaN too
            raise ValueError(wording(_OP, "offset", "lie within ±2²⁴", value))
    sigmas = (
        (_default_sigma(kernels[0]), _default_sigma(kernels[1]))
        if sigma is None
        else check_pair(_OP, "sigma", sigma, float)
    )
    start = [math.floor(o) - (k - 1) // 2 for o, k in zip(offsets, kernels, strict=True)]
    sizes = check_pair(_OP, "size", size, int)
    upsampled: Tensor = _upsample(scores, sizes, kernels, strides, start, sigmas, normalise, False)
    return upsampled


def _default_sigma(kernel: int) -> float:
    return 10.0 if kernel >= 32 else math.log10(0.45 * kernel + 1) + 0.25


def _check(
    scores: Tensor, size: Any, kernel: Any, stride: Any, start: Any, sigma: Any, *_: Any
) -> None:
    check_images(_OP, scores, argument="scores", dtypes=FLOATS)
    for name, pair in (("kernel", kernel), ("stride", stride)):
        for value in pair:
            if not 1 <= value <= _LARGEST:
                raise ValueError(wording(_OP, name, f"be in 1...{_LARGEST}", value))
    for value in size:
        if not 1 <= value < _FARTHEST:
            raise ValueError(wording(_OP, "size", "be at least 1 and below 2²⁴", value))
    for value in sigma:
        if not 0 < value < math.inf:
            raise ValueError(wording(_OP, "sigma", "be finite and > 0", value))


def _allocate(scores: Tensor, size: Any, *_: Any) -> Tensor:
    return scores.new_empty((*scores.shape[:2], *size))


def _cpu(scores: Tensor, *rest: Any) -> None:
    *numbers, normalise, is_adjoint, out = rest
    _backend.native.upsample(
        scores.data_ptr(),
        _backend.NATIVE_DTYPES[scores.dtype],
        scores.shape,
        scores.stride(),
        *numbers,
        normalise,
        is_adjoint,
        out.data_ptr(),
        torch.get_num_threads(),
    )


def _triton(*args: Any) -> None:
    from ssad_kernels.triton.upsample import launch  # Triton is slow to import, and optional

    launch(*args)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    scores, _, *numbers, is_adjoint = inputs
    ctx.numbers = (scores.shape[2:], *numbers, not is_adjoint)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    return _upsample(gradient, *ctx.numbers), *(None,) * 7


_upsample = define_op(
    f"{_OP}(Tensor scores, SymInt[2] size, int[2] kernel, int[2] stride, int[2] start, "
    "float[2] sigma, bool normalise, bool is_adjoint) -> Tensor",
    check=_check,
    allocate=_allocate,
    cpu=_cpu,
    triton=_triton,
    reference=reference.upsample.receptive_field_upsample,
    setup_context=_save_for_backward,
    backward=_backward,
)
