# SPDX-License-Identifier: Apache-2.0
"""The ops behind `ssad_kernels.labels`: what they accept and their kernels."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ssad_kernels import _backend, reference
from ssad_kernels._errors import (
    IMAGE_DTYPES,
    check_device,
    check_dtype,
    check_images,
    check_shape,
    wording,
)
from ssad_kernels._op import Limits, define_op

# The numbers are those of csrc/include/ssad/labels.h.
KINDS: dict[str, int] = {"binary": 0, "intensity": 1, "logistic": 2, "factor": 3}
MEDIAN_DTYPES = (torch.bool, torch.int16, torch.int32, *IMAGE_DTYPES)
_ELEMENTS = {**_backend.NATIVE_DTYPES, torch.bool: 5, torch.int16: 6, torch.int32: 7}
_RADII = range(1, 8)
_SIZES = range(1, 16, 2)
_CUDA_LABEL_RADIUS = 5  # see csrc/cuda/filters.h


def check_size(op: str, size: int) -> None:
    """Raise ValueError unless `size` is the side of a square window."""
    if size not in _SIZES:
        raise ValueError(wording(op, "size", "be odd and in 1...15", size))


def _check_radius(op: str, radius: int) -> None:
    if radius not in _RADII:
        raise ValueError(wording(op, "radius", "be in 1...7", radius))


def _check_median(images: Tensor, radius: int, is_square: bool, boxes: Tensor | None) -> None:
    op = "median_filter"
    check_images(op, images, dtypes=[torch.bool] if is_square else MEDIAN_DTYPES)
    if not (is_square and radius == 0):
        _check_radius(op, radius)
    if boxes is not None:
        check_dtype(op, "boxes", boxes, [torch.int64])
        check_shape(op, "boxes", boxes, (images.shape[0], 4))
        check_device(op, "boxes", boxes, images.device)


def _check_mask(images: Tensor, low: float, high: float, is_otsu: bool, size: int) -> None:
    check_images("object_mask", images)
    check_size("object_mask", size)


def _check_label(before: Tensor, after: Tensor, region: Tensor, *rest: Any) -> None:
    op = "difference_label"
    kind, steepness, midpoint, factor, _, size, radius = rest
    rows = (steepness, midpoint, factor)
    check_images(op, before, argument="before")
    n, _, h, w = before.shape
    check_dtype(op, "after", after, [before.dtype])
    check_shape(op, "after", after, tuple(before.shape))
    check_device(op, "after", after, before.device)
    check_dtype(op, "region", region, [torch.bool])
    check_shape(op, "region", region, (n, 1, h, w))
    check_device(op, "region", region, before.device)
    if kind not in KINDS:
        raise ValueError(wording(op, "kind", f"be one of {', '.join(KINDS)}", repr(kind)))
    for name, row in zip(("steepness", "midpoint", "factor"), rows, strict=True):
        if row is not None:
            check_dtype(op, name, row, [torch.float32])
            check_shape(op, name, row, (n,))
            check_device(op, name, row, before.device)
    check_size(op, size)
    _check_radius(op, radius)


def _allocate_median(images: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(images, memory_format=torch.contiguous_format)


def _allocate_mask(images: Tensor, *rest: Any) -> Tensor:
    n, _, h, w = images.shape
    return images.new_empty((n, 1, h, w), dtype=torch.bool)


def _allocate_label(before: Tensor, *rest: Any) -> Tensor:
    n, _, h, w = before.shape
    return before.new_empty((n, 1, h, w), dtype=torch.float32)


def _native_median(
    kernel: Any,
    images: Tensor,
    radius: int,
    is_square: bool,
    boxes: Tensor | None,
    out: Tensor,
    *,
    last: int,
) -> None:
    boxes = None if boxes is None else boxes.contiguous()
    kernel(
        images.data_ptr(),
        _ELEMENTS[images.dtype],
        images.shape,
        images.stride(),
        radius,
        is_square,
        0 if boxes is None else boxes.data_ptr(),
        out.data_ptr(),
        last,
    )


def _cpu_median(*args: Any) -> None:
    _native_median(_backend.native.median_filter, *args, last=torch.get_num_threads())


def _cuda_median(images: Tensor, *args: Any) -> None:
    kernel, stream = _backend.native.cuda_median_filter, _backend.stream_of(images)
    with torch.cuda.device_of(images):
        _native_median(kernel, images, *args, last=stream)


def _cuda_serves_median(images: Tensor, *_: Any) -> bool:
    return images.dtype != torch.float64


def native_bounds(dtype: torch.dtype, low: float, high: float) -> tuple[float, float]:
    """Bounds of a background as C++ takes them: those of bytes are integers of 16 bits."""
    if dtype != torch.uint8:
        return low, high
    return min(max(math.ceil(low), -1), 2000), max(min(math.floor(high), 2000), -1)


def _cpu_mask(
    images: Tensor, low: float, high: float, is_otsu: bool, size: int, out: Tensor
) -> None:
    low, high = native_bounds(images.dtype, low, high)
    _backend.native.object_mask(
        images.data_ptr(),
        _backend.NATIVE_DTYPES[images.dtype],
        images.shape,
        images.stride(),
        low,
        high,
        is_otsu,
        size,
        out.data_ptr(),
        torch.get_num_threads(),
    )


def _native_label(
    kernel: Any, before: Tensor, after: Tensor, region: Tensor, *rest: Any, last: int
) -> None:
    kind, *rows, threshold, size, radius, out = rest
    given = [None if row is None else row.contiguous() for row in rows]
    views = (before, after, region)
    kernel(
        [view.data_ptr() for view in views],
        _backend.NATIVE_DTYPES[before.dtype],
        before.shape,
        [view.stride() for view in views],
        KINDS[kind],
        [0 if row is None else row.data_ptr() for row in given],
        threshold,
        size,
        radius,
        out.data_ptr(),
        last,
    )


def _cpu_label(before: Tensor, after: Tensor, *args: Any) -> None:
    if before.stride() != after.stride():
        before, after = before.contiguous(), after.contiguous()
    kernel = _backend.native.difference_label
    _native_label(kernel, before, after, *args, last=torch.get_num_threads())


def _cuda_label(before: Tensor, *args: Any) -> None:
    kernel, stream = _backend.native.cuda_difference_label, _backend.stream_of(before)
    with torch.cuda.device_of(before):
        _native_label(kernel, before, *args, last=stream)


def _cuda_serves_label(*args: Any) -> bool:
    kind, radius = args[3], args[-1]
    return kind in ("binary", "factor") or radius == _CUDA_LABEL_RADIUS


def _triton_median(*args: Any) -> None:
    from ssad_kernels.triton.medians import launch_median  # Triton is slow to import, and optional

    launch_median(*args)


def _triton_mask(*args: Any) -> None:
    from ssad_kernels.triton.labels import launch_mask

    launch_mask(*args)


def _triton_label(*args: Any) -> None:
    from ssad_kernels.triton.labels import launch_label

    launch_label(*args)


median_filter = define_op(
    "median_filter(Tensor images, int radius, bool is_square, Tensor? boxes) -> Tensor",
    check=_check_median,
    allocate=_allocate_median,
    cpu=_cpu_median,
    cuda=_cuda_median,
    cuda_limits=Limits("elements of up to 32 bits", _cuda_serves_median),
    triton=_triton_median,
    reference=reference.labels.median_filter,
)

object_mask = define_op(
    "object_mask(Tensor images, float low, float high, bool is_otsu, int size) -> Tensor",
    check=_check_mask,
    allocate=_allocate_mask,
    cpu=_cpu_mask,
    triton=_triton_mask,
    reference=reference.labels.object_mask,
)

difference_label = define_op(
    "difference_label(Tensor before, Tensor after, Tensor region, str kind, Tensor? steepness, "
    "Tensor? midpoint, Tensor? factor, float threshold, int size, int radius) -> Tensor",
    check=_check_label,
    allocate=_allocate_label,
    cpu=_cpu_label,
    cuda=_cuda_label,
    cuda_limits=Limits(f"disks of radius {_CUDA_LABEL_RADIUS}, or none", _cuda_serves_label),
    triton=_triton_label,
    reference=reference.labels.difference_label,
)
