# SPDX-License-Identifier: Apache-2.0
"""The ops of similarity maps: checks, allocation, kernels, gradients."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ssad_kernels import _backend, reference
from ssad_kernels._errors import (
    FLOATS,
    check_device,
    check_dtype,
    check_images,
    check_shape,
    wording,
)
from ssad_kernels._op import define_op
from ssad_kernels.reference.similarity import compute_type, make_taps

_MOST_SCALES = 8
_LARGEST_WINDOW = 63
_MAP, _LOSS, _GRADIENT = range(3)  # GmsKind of the native core


def _check_pair(op: str, images: Tensor, references: Tensor) -> None:
    check_images(op, images)
    check_dtype(op, "references", references, (images.dtype,))
    check_shape(op, "references", references, images.shape)
    check_images(op, references, argument="references")
    check_device(op, "references", references, images.device)
    if images.shape[2] * images.shape[3] >= 1 << 31:  # which GPU kernels count in 32 bits
        must = "have fewer than 2³¹ pixels, (N, C, H, W)"
        raise ValueError(wording(op, "images", must, tuple(images.shape)))


def _check_gradient(
    op: str, gradient: Tensor, images: Tensor, shape: tuple[int, ...] | torch.Size
) -> None:
    if images.dtype not in FLOATS:
        check_dtype(op, "images", images, FLOATS)
    check_dtype(op, "gradient", gradient, (compute_type(images),))
    check_shape(op, "gradient", gradient, shape)
    check_device(op, "gradient", gradient, images.device)


def _check_gms(op: str, images: Tensor, references: Tensor, scales: int, c: float) -> None:
    _check_pair(op, images, references)
    if not 1 <= scales <= _MOST_SCALES:
        raise ValueError(wording(op, "scales", f"be in 1...{_MOST_SCALES}", scales))
    if not 1e-12 <= c <= 1e6:  # beyond, squares of it are no float32
        raise ValueError(wording(op, "c", "be in 1e-12...1e6", c))
    least = 3 << (scales - 1)
    if images.shape[2] < least or images.shape[3] < least:
        must = f"have sides of at least {least} pixels for {scales} scales, (N, C, H, W)"
        raise ValueError(wording(op, "images", must, tuple(images.shape)))


def _check_ssim(op: str, images: Tensor, references: Tensor, window: int, sigma: float) -> None:
    _check_pair(op, images, references)
    if not (1 <= window <= _LARGEST_WINDOW and window % 2 == 1):
        raise ValueError(wording(op, "window", f"be odd and in 1...{_LARGEST_WINDOW}", window))
    if not 1e-3 <= sigma <= 1e6:  # one tap, and all alike
        raise ValueError(wording(op, "sigma", "be in 1e-3...1e6", sigma))


def _check_gms_backward(gradient: Tensor, images: Tensor, *rest: Any) -> None:
    op = "gms_loss_backward"
    _check_gms(op, images, *rest)
    _check_gradient(op, gradient, images, images.shape[:1])


def _check_ssim_backward(gradient: Tensor, images: Tensor, *rest: Any) -> None:
    op = "ssim_map_backward"
    _check_ssim(op, images, *rest)
    _check_gradient(op, gradient, images, images.shape)


def _allocate_plane(images: Tensor, *_: Any) -> Tensor:
    n, _channels, h, w = images.shape
    return images.new_empty((n, 1, h, w), dtype=compute_type(images))


def _allocate_loss(images: Tensor, *_: Any) -> Tensor:
    return images.new_empty(images.shape[:1], dtype=compute_type(images))


def _allocate_planes(images: Tensor, *_: Any) -> Tensor:
    return images.new_empty(images.shape, dtype=compute_type(images))


def _cpu_gms(
    kind: int, gradient: int, images: Tensor, references: Tensor, scales: int, c: float, out: Tensor
) -> None:
    views = images, references
    _backend.native.gms(
        kind,
        [view.data_ptr() for view in views],
        _backend.NATIVE_DTYPES[images.dtype],
        images.shape,
        [view.stride() for view in views],
        scales,
        c,
        gradient,
        out.data_ptr(),
        torch.get_num_threads(),
    )


def _cpu_gms_backward(gradient: Tensor, *args: Any) -> None:
    gradient = gradient.contiguous()
    _cpu_gms(_GRADIENT, gradient.data_ptr(), *args)


def _cpu_ssim(
    gradient: int, images: Tensor, references: Tensor, window: int, sigma: float, out: Tensor
) -> None:
    views = images, references
    _backend.native.ssim(
        [view.data_ptr() for view in views],
        _backend.NATIVE_DTYPES[images.dtype],
        images.shape,
        [view.stride() for view in views],
        make_taps(window, sigma),
        gradient,
        out.data_ptr(),
        torch.get_num_threads(),
    )


def _cpu_ssim_backward(gradient: Tensor, *args: Any) -> None:
    gradient = gradient.contiguous()
    if gradient.numel():  # else its address is that of no gradient
        _cpu_ssim(gradient.data_ptr(), *args)


def _triton_map(*args: Any) -> None:
    from ssad_kernels.triton.gms import launch_map  # Triton is slow to import, and optional

    launch_map(*args)


def _triton_loss(*args: Any) -> None:
    from ssad_kernels.triton.gms import launch_loss

    launch_loss(*args)


def _triton_loss_backward(*args: Any) -> None:
    from ssad_kernels.triton.gms_gradient import launch

    launch(*args)


def _triton_ssim(*args: Any) -> None:
    from ssad_kernels.triton.ssim import launch

    launch(None, *args)


def _triton_ssim_backward(*args: Any) -> None:
    from ssad_kernels.triton.ssim import launch

    launch(*args)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    images, references, *ctx.numbers = inputs
    ctx.save_for_backward(images, references)


def _backward(op: str, ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """Both measures are symmetric: one argument's gradient is the other's of the swapped pair."""
    images, references = ctx.saved_tensors
    call = getattr(torch.ops.ssad_kernels, op)

    def gradient_of(own: Tensor, other: Tensor) -> Tensor:
        return call(gradient, own, other, *ctx.numbers).expand_as(own).to(own.dtype)  # type: ignore[no-any-return]

    of_images, of_references, *_ = ctx.needs_input_grad
    return (
        gradient_of(images, references) if of_images else None,
        gradient_of(references, images) if of_references else None,
        None,
        None,
    )


def _no_second_derivative(ctx: Any, gradient: Tensor) -> None:
    msg = "ssad_kernels: gms_loss and ssim_map have no second derivative"
    raise NotImplementedError(msg)


_ARGUMENTS = "Tensor images, Tensor references, "
_GMS, _SSIM = f"{_ARGUMENTS}int scales, float c", f"{_ARGUMENTS}int window, float sigma"

gms_map = define_op(
    f"gms_map({_GMS}) -> Tensor",
    check=partial(_check_gms, "gms_map"),
    allocate=_allocate_plane,
    cpu=partial(_cpu_gms, _MAP, 0),
    triton=_triton_map,
    reference=reference.similarity.gms_map,
)
gms_loss = define_op(
    f"gms_loss({_GMS}) -> Tensor",
    check=partial(_check_gms, "gms_loss"),
    allocate=_allocate_loss,
    cpu=partial(_cpu_gms, _LOSS, 0),
    triton=_triton_loss,
    reference=reference.similarity.gms_loss,
    setup_context=_save_for_backward,
    backward=partial(_backward, "gms_loss_backward"),
)
define_op(
    f"gms_loss_backward(Tensor gradient, {_GMS}) -> Tensor",
    check=_check_gms_backward,
    allocate=lambda _, *args: _allocate_plane(*args),
    cpu=_cpu_gms_backward,
    triton=_triton_loss_backward,
    reference=reference.similarity.gms_loss_backward,
    backward=_no_second_derivative,
)
ssim_map = define_op(
    f"ssim_map({_SSIM}) -> Tensor",
    check=partial(_check_ssim, "ssim_map"),
    allocate=_allocate_planes,
    cpu=partial(_cpu_ssim, 0),
    triton=_triton_ssim,
    reference=reference.similarity.ssim_map,
    setup_context=_save_for_backward,
    backward=partial(_backward, "ssim_map_backward"),
)
define_op(
    f"ssim_map_backward(Tensor gradient, {_SSIM}) -> Tensor",
    check=_check_ssim_backward,
    allocate=lambda _, *args: _allocate_planes(*args),
    cpu=_cpu_ssim_backward,
    triton=_triton_ssim_backward,
    reference=reference.similarity.ssim_map_backward,
    backward=_no_second_derivative,
)
