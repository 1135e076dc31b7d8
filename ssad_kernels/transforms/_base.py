# SPDX-License-Identifier: Apache-2.0
"""What all transforms share: options, kinds of images, keys."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ssad_kernels._arrays import as_batch, as_tensor, takes_cupy
from ssad_kernels._errors import check_device, check_images, wording
from ssad_kernels.cutpaste_law import CutPasteLaw
from ssad_kernels.random import STREAMS, check_keys, random_keys

Keys = Tensor | Sequence[int] | None


class KeyedTransform(nn.Module):
    """A transform whose draws depend on keys alone.

    Subclasses implement `make_params` and `apply_params`; `forward` is the one way in.
    """

    def __init__(self, name: str, stream: int) -> None:
        super().__init__()
        if not isinstance(stream, int):
            must = "be a whole number"
            raise TypeError(wording(type(self).__name__, "stream", must, repr(stream)))
        if not 0 <= stream < 256:
            raise ValueError(wording(type(self).__name__, "stream", "be in 0...255", stream))
        self.stream = STREAMS[name] + 256 * stream

    def make_params(self, keys: Tensor, images: Tensor) -> Any:
        """Draw parameters for a batch (N, C, H, W), one row per key (N, 3), on its device."""
        raise NotImplementedError

    def apply_params(self, images: Tensor, params: Any) -> tuple[Tensor, ...]:
        """Apply parameters to a batch (N, C, H, W); draws nothing."""
        raise NotImplementedError

    def check(self, images: Tensor, keys: Tensor | None) -> None:
        """Check dtypes and shapes; a subclass whose op does so leaves it to the op."""
        check_images(type(self).__name__, images)
        if keys is not None:
            check_keys(type(self).__name__, keys)

    def apply_keys(self, images: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
        """Draw and apply."""
        return self.apply_params(images, self.make_params(keys, images))

    @takes_cupy
    def forward(self, images: Any, keys: Keys = None, *, params: Any = None) -> tuple[Any, ...]:
        """See the class."""
        batch, restore_images, restore_masks = as_batch(type(self).__name__, images)
        if params is None:
            keys = self.keys_of(batch, keys)
            self.check(batch, keys)
            image, mask, *rest = self.apply_keys(batch, keys)
        else:
            self.check(batch, None)
            image, mask, *rest = self.apply_params(batch, params)
        return (restore_images(image), restore_masks(mask), *rest)

    def keys_of(self, batch: Tensor, keys: Keys) -> Tensor:
        """Keys for a batch as a tensor (N, 3); drawn if none are given."""
        n, name = batch.shape[0], type(self).__name__
        if keys is None:
            return random_keys(n, device=batch.device)
        keys = as_tensor(keys)
        if not isinstance(keys, Tensor):
            keys = torch.tensor(keys, dtype=torch.int64, device=batch.device)
        keys = keys.reshape(1, -1) if keys.dim() == 1 else keys
        if keys.shape[0] != n:
            must = f"have one row per image, ({n}, 3)"
            raise ValueError(wording(name, "keys", must, tuple(keys.shape)))
        if keys.device != batch.device:
            check_device(name, "keys", keys, batch.device)
        return keys


def as_numbers(value: Any) -> tuple[Any, ...]:
    """A sequence of numbers as a tuple; an empty one for anything else."""
    try:
        numbers = tuple(value)
    except TypeError:  # a tensor of one number calls itself iterable
        return ()
    return numbers if all(isinstance(x, (int, float)) for x in numbers) else ()


def check_range(
    op: str, name: str, value: Sequence[float], low: float, high: float
) -> tuple[float, float]:
    """A pair ``low <= value[0] <= value[1] <= high``; NaN fails."""
    pair = as_numbers(value)
    if len(pair) != 2 or not low <= pair[0] <= pair[1] <= high:
        limit = f" with {low} <= low <= high <= {high}" if math.isfinite(high) else ""
        raise ValueError(wording(op, name, f"be a range (low, high){limit}", value))
    return pair


def check_pixels(op: str, name: str, value: Sequence[int], high: int) -> tuple[int, int]:
    """A pair of integers ``1 <= value[0] <= value[1] <= high``."""
    pair = check_range(op, name, value, 1, high)
    if any(int(side) != side for side in pair):
        raise ValueError(wording(op, name, "hold whole numbers", value))
    return int(pair[0]), int(pair[1])


def check_aspect(op: str, value: Sequence[float]) -> tuple[float, float]:
    """A range of height over width on both sides of 1."""
    low, high = check_range(op, "aspect", value, 1e-3, 1e3)
    if not low <= 1.0 <= high:
        raise ValueError(wording(op, "aspect", "contain 1", value))
    return low, high


def patch_law(
    op: str,
    area: Sequence[float],
    aspect: Sequence[float],
    p: float,
    rotation: Sequence[float] = (0.0, 0.0),
    **others: Any,
) -> CutPasteLaw:
    """The law of patches that are a share of the image, checked."""
    return CutPasteLaw(
        p=check_probability(op, p),
        area=check_range(op, "area", area, 0.0, 1.0),
        aspect=check_aspect(op, aspect),
        angle=check_range(op, "rotation", rotation, -360.0, 360.0),
        **others,
    )


def scar_law(
    op: str,
    length: Sequence[int],
    width: Sequence[int],
    p: float,
    rotation: Sequence[float],
    jitter: tuple[float, float, float, float],
) -> CutPasteLaw:
    """The law of long thin strips, sizes in pixels, checked."""
    return CutPasteLaw(
        p=check_probability(op, p),
        scar=True,
        length=check_pixels(op, "length", length, 1 << 20),
        width=check_pixels(op, "width", width, 1 << 20),
        angle=check_range(op, "rotation", rotation, -360.0, 360.0),
        jitter=jitter,
    )


def check_number(op: str, name: str, value: float, low: float, high: float) -> float:
    """A number ``low <= value <= high``; NaN fails."""
    if not isinstance(value, (int, float)) or not low <= value <= high:
        raise ValueError(wording(op, name, f"be in {low:g}...{high:g}", value))
    return float(value)


def check_probability(op: str, p: float) -> float:
    """A number 0...1."""
    return check_number(op, "p", p, 0.0, 1.0)


def check_count(op: str, name: str, value: int, high: int) -> int:
    """A whole number 1...high."""
    if int(check_number(op, name, value, 1, high)) != value:
        raise ValueError(wording(op, name, "be a whole number", value))
    return int(value)


def check_jitter(op: str, jitter: float | Sequence[float]) -> tuple[float, float, float, float]:
    """Strengths of brightness, contrast, saturation and hue: one number or four."""
    is_one = isinstance(jitter, (int, float))
    strengths = as_numbers((jitter,) * 4 if is_one else jitter)
    if len(strengths) != 4 or not all(0.0 <= s <= 1e5 for s in strengths):
        must = "be one number >= 0, or four (brightness, contrast, saturation, hue)"
        raise ValueError(wording(op, "jitter", must, jitter))
    if strengths[3] > 0.5:
        raise ValueError(wording(op, "jitter", "have a hue of at most 0.5 turns", jitter))
    brightness, contrast, saturation, hue = strengths
    return brightness, contrast, saturation, hue


def check_flag(op: str, name: str, value: bool) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise TypeError(wording(op, name, "be True or False", repr(value)))
    return value


def check_choice(op: str, name: str, value: Any, choices: Iterable[Any]) -> None:
    """One of several words."""
    is_word = isinstance(value, str)  # an array would be compared number by number
    if not any(value is choice or (is_word and value == choice) for choice in choices):
        raise ValueError(
            wording(op, name, f"be one of {', '.join(map(str, choices))}", repr(value))
        )
