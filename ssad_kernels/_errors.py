# SPDX-License-Identifier: Apache-2.0
"""The wording of errors, in one place: "op: `argument` must ..., got ..."."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_Number = TypeVar("_Number", int, float)
IMAGE_DTYPES = (torch.uint8, *FLOATS)


def wording(op: str, argument: str, must: str, got: object) -> str:
    """The text of every argument error of the library."""
    return f"{op}: `{argument}` must {must}, got {got}"


def dtype_name(dtype: torch.dtype) -> str:
    """Say float32 for torch.float32."""
    return str(dtype).removeprefix("torch.")


def check_tensor(op: str, argument: str, value: object) -> None:
    """Raise TypeError unless ``value`` is a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(wording(op, argument, "be a tensor", type(value).__name__))


def check_dtype(op: str, argument: str, value: Tensor, allowed: Iterable[torch.dtype]) -> None:
    """Raise TypeError unless the dtype of ``value`` is one of ``allowed``."""
    allowed = tuple(allowed)
    if value.dtype not in allowed:
        must = "have dtype " + " or ".join(dtype_name(dtype) for dtype in allowed)
        raise TypeError(wording(op, argument, must, dtype_name(value.dtype)))


def check_pair(op: str, argument: str, value: Any, kind: type[_Number]) -> tuple[_Number, _Number]:
    """A pair (y, x) as it is, and one number as both; raise TypeError for all else."""
    pair = value if isinstance(value, tuple | list) else (value, value)
    allowed = (int, torch.SymInt) if kind is int else (int, float)
    if len(pair) != 2 or not all(isinstance(one, allowed) for one in pair):
        noun = "an integer" if kind is int else "a number"
        raise TypeError(wording(op, argument, f"be {noun} or a pair of them", repr(value)))
    return pair[0], pair[1]


def check_shape(op: str, argument: str, value: Tensor, expected: Sequence[int | str]) -> None:
    """Raise ValueError unless the shape is ``expected``; a string stands for any size."""
    shape = tuple(value.shape)
    fits = len(shape) == len(expected) and all(
        isinstance(want, str) or want == size for want, size in zip(expected, shape, strict=True)
    )
    if not fits:
        trailing = "," if len(expected) == 1 else ""
        must = f"have shape ({', '.join(map(str, expected))}{trailing})"
        raise ValueError(wording(op, argument, must, shape))


def check_device(op: str, argument: str, value: Tensor, device: torch.device) -> None:
    """Raise ValueError unless ``value`` lives on ``device``."""
    if value.device != device:
        raise ValueError(wording(op, argument, f"be on device {device}", value.device))


def check_images(
    op: str,
    images: Tensor,
    *,
    argument: str = "images",
    is_written: bool = False,
    dtypes: Sequence[torch.dtype] = IMAGE_DTYPES,
) -> None:
    """Check a batch of images (N, C, H, W) with C = 1...4; one to be written has its own memory."""
    if images.dtype not in dtypes:
        check_dtype(op, argument, images, dtypes)
    if images.layout is not torch.strided:
        raise ValueError(wording(op, argument, "be a strided tensor", images.layout))
    if images.dim() != 4:
        check_shape(op, argument, images, ("N", "C", "H", "W"))
    if not 1 <= images.shape[1] <= 4:
        must = "have 1 to 4 channels, (N, C, H, W)"
        raise ValueError(wording(op, argument, must, tuple(images.shape)))
    if not (1 <= images.shape[2] < 1 << 24 and 1 <= images.shape[3] < 1 << 24):
        must = "have at least one pixel, (N, C, H, W), and sides below 2²⁴"
        raise ValueError(wording(op, argument, must, tuple(images.shape)))
    if is_written and any(
        stride == 0 and size > 1 for stride, size in zip(images.stride(), images.shape, strict=True)
    ):
        must = "not be an expanded view (its pixels share memory; call .clone() first)"
        raise ValueError(wording(op, argument, must, f"strides {images.stride()}"))
