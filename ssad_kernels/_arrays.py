# SPDX-License-Identifier: Apache-2.0
"""The edge of the library: what users hold, as a batch of tensors, and back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssad_kernels._errors import wording

Restore = Callable[[Tensor], Any]


def as_batch(op: str, images: Any) -> tuple[Tensor, Restore, Restore]:
    """View images of any accepted kind as a batch.

    Args:
        op: name for error messages.
        images: tensor or tv_tensor (N, C, H, W) or (C, H, W), or NumPy array (H, W, C).

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
    if not isinstance(images, Tensor):
        must = "be a tensor or a NumPy array (PIL images: torchvision's v2.ToImage first)"
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


def has_memory(tensor: Tensor) -> bool:
    """Whether a tensor has values and an address, as one that is traced or compiled has not."""
    return type(tensor) is Tensor and not torch.compiler.is_compiling()


def _same(batch: Tensor) -> Tensor:
    return batch


def _first(batch: Tensor) -> Tensor:
    return batch.squeeze(0)


def _to_numpy(batch: Tensor) -> Any:
    return batch.numpy()[0].transpose(1, 2, 0)


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
