# SPDX-License-Identifier: Apache-2.0
"""The edge of the library: what users hold, as a batch of tensors, and back."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from ssad_kernels._errors import wording

Restore = Callable[[Tensor], Any]
_Forward = TypeVar("_Forward", bound=Callable[..., Any])


def as_batch(op: str, images: Any) -> tuple[Tensor, Restore, Restore]:
    """View images of any accepted kind as a batch.

    Args:
        op: name for error messages.
        images: tensor or tv_tensor (N, C, H, W) or (C, H, W), NumPy array (H, W, C), or CuPy array
            (H, W, C) or (N, C, H, W).

    Returns:
        The batch (N, C, H, W), sharing memory with ``images``; a function that gives an image batch
        the kind of the input again; and the same for a batch of masks (N, 1, H, W).

    Raises:
        TypeError: for any other kind, such as a PIL image.
        ValueError: for another number of dimensions.
    """
    if isinstance(images, np.ndarray):
        if images.ndim != 3:
            raise ValueError(
                wording(op, "images", "have shape (H, W, C), grey ones too", images.shape)
            )
        if not images.flags.writeable or min(images.strides) < 0:
            images = images.copy()  # torch cannot hold it
        # Views cost a tenth in NumPy of what they cost in torch.
        batch = torch.from_numpy(images.transpose(2, 0, 1)[np.newaxis])
        return batch, _to_numpy, _to_numpy
    if is_cupy(images):
        tensor = as_tensor(images)
        if tensor.dim() == 3:
            return tensor.permute(2, 0, 1)[None], _channels_last, _channels_last
        if tensor.dim() != 4:
            must = "have shape (H, W, C), grey ones too, or (N, C, H, W)"
            raise ValueError(wording(op, "images", must, images.shape))
        return tensor, _same, _same
    if not isinstance(images, Tensor):
        must = "be a tensor, or a NumPy or CuPy array (PIL images: torchvision's v2.ToImage first)"
        raise TypeError(wording(op, "images", must, type(images).__name__))
    if images.dim() not in (3, 4):
        must = "have shape (N, C, H, W) or (C, H, W)"
        raise ValueError(wording(op, "images", must, tuple(images.shape)))
    is_single = images.dim() == 3
    batch = images.unsqueeze(0) if is_single else images
    if type(images) is Tensor:
        restore = _first if is_single else _same
        return batch, restore, restore
    return _tv_batch(batch.as_subclass(Tensor), images, is_single)


def plain(tensor: Tensor) -> Tensor:
    """A tv_tensor as the tensor that it is, sharing its memory; any other tensor unchanged."""
    tv_tensors = sys.modules.get("torchvision.tv_tensors")
    is_tv = tv_tensors is not None and isinstance(tensor, tv_tensors.TVTensor)
    return tensor.as_subclass(Tensor) if is_tv else tensor


def is_cupy(value: Any) -> bool:
    """Whether this is an array of CuPy, which is loaded then."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(value, cupy.ndarray)


def as_tensor(value: Any) -> Any:
    """A CuPy array as a tensor that shares its memory; anything else unchanged."""
    if not is_cupy(value):
        return value
    if min(value.strides, default=0) < 0:
        value = value.copy()  # torch cannot hold it
    return from_dlpack(value)


def takes_cupy(forward: _Forward) -> _Forward:
    """Let a transform of CuPy arrays run on CuPy's current stream, and return CuPy arrays."""

    @functools.wraps(forward)
    def run(self: Any, images: Any, *args: Any, **options: Any) -> Any:
        if not is_cupy(images):
            return forward(self, images, *args, **options)
        cupy, gpu = sys.modules["cupy"], images.device.id
        with torch.cuda.stream(_stream(cupy.cuda.get_current_stream(gpu).ptr, gpu)):
            results = forward(self, images, *args, **options)
            return tuple(cupy.from_dlpack(result) for result in results)

    return cast(_Forward, run)


def _stream(address: int, gpu: int) -> Any:
    """A stream of CuPy's as one of torch's; CUDA has two addresses for its default stream."""
    if address in (0, 1):
        return torch.cuda.default_stream(gpu)
    return torch.cuda.ExternalStream(address, device=gpu)


def has_memory(tensor: Tensor) -> bool:
    """Whether a tensor has values and an address, as one that is traced or compiled has not."""
    return type(tensor) in (Tensor, torch.nn.Parameter) and not torch.compiler.is_compiling()


def _same(batch: Tensor) -> Tensor:
    return batch


def _first(batch: Tensor) -> Tensor:
    return batch.squeeze(0)


def _channels_last(batch: Tensor) -> Tensor:
    return batch[0].movedim(-3, -1)


def _to_numpy(batch: Tensor) -> Any:
    return batch.numpy()[0].swapaxes(-3, -1).swapaxes(-3, -2)  # (..., C, H, W) to (..., H, W, C)


def _tv_batch(batch: Tensor, like: Tensor, is_single: bool) -> tuple[Tensor, Restore, Restore]:
    """A tensor subclass; tv_tensors are only met where torchvision is loaded already."""
    tv_tensors = sys.modules.get("torchvision.tv_tensors")
    unbatch = _first if is_single else _same
    if tv_tensors is None or not isinstance(like, tv_tensors.TVTensor):
        return batch, unbatch, unbatch
    return (
        batch,
        lambda images: tv_tensors.wrap(unbatch(images), like=like),
        lambda masks: tv_tensors.Mask(unbatch(masks)),
    )
