# SPDX-License-Identifier: Apache-2.0
"""The ops behind exact metrics: what they accept and their kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssad_kernels import _backend, reference
from ssad_kernels._errors import (
    check_device,
    check_dtype,
    check_images,
    check_shape,
    wording,
)
from ssad_kernels._op import define_op

_EVERY = (1 << 63) - 1


def _check_count(scores: Tensor, among: Tensor, ignored: Tensor | None, most: int | None) -> None:
    op = "count_above"
    check_dtype(op, "scores", scores, [torch.float32, torch.float64])
    check_shape(op, "scores", scores, ("N",))
    check_dtype(op, "among", among, [scores.dtype])
    check_shape(op, "among", among, ("M",))
    check_device(op, "among", among, scores.device)
    if ignored is not None:
        check_dtype(op, "ignored", ignored, [torch.bool])
        check_shape(op, "ignored", ignored, (among.shape[0],))
        check_device(op, "ignored", ignored, scores.device)
    if most is not None and most < 1:
        raise ValueError(wording(op, "most", "be at least 1", most))


def _check_components(masks: Tensor) -> None:
    op = "connected_components"
    check_images(op, masks, argument="masks", dtypes=[torch.bool])
    channels, h, w = masks.shape[1:]
    if channels != 1 or h * w >= 1 << 31:
        must = "have one channel and below 2³¹ pixels, (N, 1, H, W)"
        raise ValueError(wording(op, "masks", must, tuple(masks.shape)))


def _allocate_count(scores: Tensor, *rest: Any) -> Tensor:
    return scores.new_empty((scores.shape[0], 2), dtype=torch.int64)


def _allocate_components(masks: Tensor) -> tuple[Tensor, Tensor]:
    labels = masks.new_empty(masks.shape, dtype=torch.int32)
    return labels, masks.new_empty((masks.shape[0],), dtype=torch.int64)


def _cpu_count(
    scores: Tensor, among: Tensor, ignored: Tensor | None, most: int | None, out: Tensor
) -> None:
    scores, among = scores.contiguous(), among.contiguous()
    ignored = None if ignored is None else ignored.contiguous()
    _backend.native.count_above(
        [
            scores.data_ptr(),
            among.data_ptr(),
            0 if ignored is None else ignored.data_ptr(),
            out.data_ptr(),
        ],
        _backend.NATIVE_DTYPES[scores.dtype],
        len(scores),
        len(among),
        _EVERY if most is None else most,
        torch.get_num_threads(),
    )


def _cpu_components(masks: Tensor, labels: Tensor, counts: Tensor) -> None:
    masks = masks.contiguous()
    n, _, h, w = masks.shape
    _backend.native.connected_components(
        masks.data_ptr(),
        (n, h, w),
        labels.data_ptr(),
        counts.data_ptr(),
        torch.get_num_threads(),
    )


def _triton_count(*args: Any) -> None:
    from ssad_kernels.triton.ranking import launch  # Triton is slow to import, and optional

    launch(*args)


def _triton_components(*args: Any) -> None:
    from ssad_kernels.triton.components import launch

    launch(*args)


count_above = define_op(
    "count_above(Tensor scores, Tensor among, Tensor? ignored, int? most) -> Tensor",
    check=_check_count,
    allocate=_allocate_count,
    cpu=_cpu_count,
    triton=_triton_count,
    reference=reference.ranking.count_above,
)

connected_components = define_op(
    "connected_components(Tensor masks) -> (Tensor labels, Tensor counts)",
    check=_check_components,
    allocate=_allocate_components,
    cpu=_cpu_components,
    triton=_triton_components,
    reference=reference.ranking.connected_components,
)
