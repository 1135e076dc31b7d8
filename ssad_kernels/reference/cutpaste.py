# SPDX-License-Identifier: Apache-2.0
"""CutPaste on whole images: every pixel of the batch asks where it comes from.

No host synchronisation, so that it can stand in on any device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ssad_kernels._status import Status
from ssad_kernels.reference.random import philox, unit

_BITS = 16  # of the fixed-point rotation
_FAR = 1 << 24  # beyond this a coordinate is no place in an image


def cosine_and_sine(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of float64 angles within ±pi/4: Taylor series, exact to an ulp.

    Equal on every device: float64 sums and products only.
    """
    z = x * x

    def series(first_power: int) -> Tensor:
        powers = range(first_power, 17, 2)
        terms = [(-1.0) ** (k // 2) / math.factorial(k) for k in powers]
        total = torch.full_like(z, terms.pop())
        for term in reversed(terms):
            total = total * z + term
        return total

    return series(0), series(1) * x


def quarter_turns(count: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines of angles that are larger by so many quarters of a turn."""
    count = (count & 3)[None]
    return (
        torch.stack([cos, -sin, -cos, sin]).gather(0, count)[0],
        torch.stack([sin, cos, -sin, -cos]).gather(0, count)[0],
    )


def rotation(angle: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of angles in degrees, (N,) int64 with 16 fractional bits."""
    degrees = torch.remainder(torch.fmod(angle.double(), 360.0), 360.0)
    degrees = torch.nan_to_num(degrees)  # such a sample is not applied
    quadrant = torch.floor((degrees + 45.0) / 90.0)
    cos, sin = cosine_and_sine((degrees - quadrant * 90.0) * (math.pi / 180.0))
    cos, sin = torch.floor(cos * 65536.0 + 0.5).long(), torch.floor(sin * 65536.0 + 0.5).long()
    return quarter_turns(quadrant.long(), cos, sin)


def canvas_size(box: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Height and width (N,) of the canvas that just holds the rotated boxes (N, 4)."""
    h, w = box[:, 2], box[:, 3]
    ceil = (1 << _BITS) - 1
    return (
        (h * cos.abs() + w * sin.abs() + ceil) >> _BITS,
        (w * cos.abs() + h * sin.abs() + ceil) >> _BITS,
    )


def _grey(rgb: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, 1, H, W), the weights of torchvision."""
    return 0.2989 * rgb[:, 0:1] + 0.587 * rgb[:, 1:2] + 0.114 * rgb[:, 2:3]


def _shift_hue(rgb: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of (N, 3, H, W) by (N, 1, 1) turns, value and chroma kept."""
    r, g, b = rgb.unbind(1)
    high, low = rgb.amax(1), rgb.amin(1)
    chroma = high - low
    scale = torch.where(chroma > 0, chroma, 1.0).reciprocal()
    hue = torch.where(
        high == r,
        (g - b) * scale,
        torch.where(high == g, (b - r) * scale + 2.0, (r - g) * scale + 4.0),
    )
    hue = torch.remainder(hue + 6.0 * torch.remainder(turns, 1.0), 6.0)
    weights = torch.stack(
        [(hue - 3.0).abs() - 1.0, 2.0 - (hue - 2.0).abs(), 2.0 - (hue - 4.0).abs()], dim=1
    )
    return low[:, None] + chroma[:, None] * weights.clamp(0.0, 1.0)


def _jitter(colour: Tensor, inside: Tensor, jitter: Tensor, order: Tensor, bound: float) -> Tensor:
    """Colour jitter of whole images (N, 1 or 3, H, W); contrast looks at the pixels ``inside``."""
    factors = jitter.to(colour.dtype)[:, :, None, None, None]
    count = inside.sum((1, 2, 3)).clamp(min=1)[:, None, None, None]
    is_rgb = colour.shape[1] == 3

    def blend(other: Tensor | float, factor: Tensor) -> Tensor:
        return (factor * colour + (1.0 - factor) * other).clamp(0.0, bound)

    for position in range(4):
        code = order[:, position, None, None, None]
        grey = _grey(colour) if is_rgb else colour
        total = torch.where(inside, grey, 0.0).sum((1, 2, 3), keepdim=True, dtype=torch.float64)
        mean = (total / count).to(colour.dtype)
        steps = [blend(0.0, factors[:, 0]), blend(mean, factors[:, 1])]
        if is_rgb:
            steps += [blend(grey, factors[:, 2]), _shift_hue(colour, factors[:, 3, 0])]
        for op, (neutral, changed) in enumerate(zip((1.0, 1.0, 1.0, 0.0), steps, strict=False)):
            colour = torch.where((code == op) & (factors[:, op] != neutral), changed, colour)
    return colour


def _jitter_images(images: Tensor, inside: Tensor, jitter: Tensor, order: Tensor) -> Tensor:
    """`_jitter` of the colour channels, in the dtype of the images; others are kept."""
    channels = 3 if images.shape[1] >= 3 else 1
    compute = torch.float64 if images.dtype == torch.float64 else torch.float32
    is_integer = images.dtype == torch.uint8
    colour = images[:, :channels].to(compute)
    colour = _jitter(colour, inside, jitter, order, 255.0 if is_integer else 1.0)
    if is_integer:
        colour = torch.floor(colour + 0.5)
    return torch.cat([colour.to(images.dtype), images[:, channels:]], dim=1)


def _turned_sizes(images: Tensor, turns: Tensor | None) -> tuple[Tensor, Tensor]:
    """Heights and widths (N,) of images that are turned."""
    n, _, height, width = images.shape
    turns = torch.zeros(n, dtype=torch.int64, device=images.device) if turns is None else turns
    is_upright = turns % 2 == 0
    return torch.where(is_upright, height, width), torch.where(is_upright, width, height)


def _move(images: Tensor, turns: Tensor | None, shift: Tensor | None) -> Tensor:
    """Each image of a batch by `torch.rot90` and then by `torch.roll`, in the corner of a canvas.

    What lies beyond its size on the canvas, which holds the batch upright and turned, is repeated.
    """
    n, channels, height, width = images.shape
    at = torch.arange(max(height, width), device=images.device)
    y, x = (  # in the turned image, (N, side) each
        (at if shift is None else at - shift[:, axis, None] % size[:, None]) % size[:, None]
        for axis, size in enumerate(_turned_sizes(images, turns))
    )
    y, x = torch.broadcast_tensors(y[:, :, None], x[:, None, :])
    if turns is not None:
        rows = torch.stack([y, x, height - 1 - y, height - 1 - x])
        columns = torch.stack([x, width - 1 - y, width - 1 - x, y])
        turn = (turns & 3)[None, :, None, None].expand(1, *y.shape)
        y, x = rows.gather(0, turn)[0], columns.gather(0, turn)[0]
    places = (y * width + x).flatten(1)[:, None].expand(n, channels, -1)
    return images.flatten(2).gather(2, places).reshape(n, channels, len(at), len(at))


def _plan(images: Tensor, params: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Status before pasting, and clipped parameters that are safe to compute with."""
    source_index, box, target, angle, jitter, _, apply, turns, _ = params
    n, _, height, width = images.shape
    far = (box.abs() >= _FAR).any(1) | (target.abs() >= _FAR).any(1)
    box, target = box.clamp(-_FAR, _FAR), target.clamp(-_FAR, _FAR)
    canvas = torch.stack(canvas_size(box, *rotation(angle)), dim=1)

    def visible(
        corner: Tensor, extent: Tensor, height: Tensor | int, width: Tensor | int
    ) -> tuple[Tensor, Tensor]:
        """Whether a rectangle meets an image, and whether it lies within."""
        (y, x), (bottom, right) = corner.unbind(1), (corner + extent).unbind(1)
        meets = (y < height) & (x < width) & (bottom > 0) & (right > 0)
        return meets, (y >= 0) & (x >= 0) & (bottom <= height) & (right <= width)

    cut_meets, cut_within = visible(box[:, :2], box[:, 2:], *_turned_sizes(images, turns))
    canvas_meets, canvas_within = visible(target, canvas, height, width)
    status = torch.where(cut_within & canvas_within, Status.APPLIED, Status.CLIPPED)
    bad_source = (source_index < 0) | (source_index >= n)
    status = torch.where(cut_meets & canvas_meets & ~far & ~bad_source, status, Status.NO_PLACE)
    status = torch.where((box[:, 2:] <= 0).any(1), Status.EMPTY, status)
    finite = angle.isfinite() & (jitter.abs() <= 1e6).all(1)
    status = torch.where(finite, status, Status.NOT_FINITE)
    status = torch.where(apply, status, Status.GATED)
    return status, box, target, canvas


def cut_paste_(images: Tensor, *params: Any) -> tuple[Tensor, Tensor]:
    """See `ssad_kernels.cut_paste_`: writes ``images``, returns mask and status."""
    source_index, _, _, angle, jitter, order, _, turns, shift = params
    n, channels, height, width = images.shape
    status, box, target, canvas = _plan(images, params)
    ys = torch.arange(height, device=images.device)[:, None]
    xs = torch.arange(width, device=images.device)

    def per_sample(rows: Tensor) -> Tensor:
        return rows[:, None, None]

    # Cut: the jittered source image of every sample.
    top, left, h, w = (per_sample(column) for column in box.unbind(1))
    source = images[source_index.clamp(0, max(n - 1, 0))]
    source_h, source_w = (per_sample(size) for size in _turned_sizes(source, turns))
    if turns is not None or shift is not None:
        source = _move(source, turns, shift)

    def is_cut(y: Tensor, x: Tensor) -> Tensor:
        in_box = (y >= top) & (y < top + h) & (x >= left) & (x < left + w)
        return in_box & (y >= 0) & (y < source_h) & (x >= 0) & (x < source_w)

    rows, columns = (torch.arange(size, device=images.device) for size in source.shape[2:])
    inside = is_cut(rows[:, None], columns)
    source = _jitter_images(source, inside[:, None], jitter, order)

    # Paste: twice the distance from the canvas centre, turned back into the box.
    cos, sin = (per_sample(value) for value in rotation(angle))
    dy = 2 * (ys - per_sample(target[:, 0])) + 1 - per_sample(canvas[:, 0])
    dx = 2 * (xs - per_sample(target[:, 1])) + 1 - per_sample(canvas[:, 1])
    from_y = top + ((dy * cos + dx * sin + (h << _BITS)) >> (_BITS + 1))
    from_x = left + ((dx * cos - dy * sin + (w << _BITS)) >> (_BITS + 1))
    is_active = (status == Status.APPLIED) | (status == Status.CLIPPED)
    mask = (is_cut(from_y, from_x) & per_sample(is_active))[:, None]  # (N, 1, H, W)

    at = from_y.clamp(0, len(rows) - 1) * len(columns) + from_x.clamp(0, len(columns) - 1)
    at = at.reshape(n, 1, height * width).expand(n, channels, -1)
    pasted = source.flatten(2).gather(2, at).reshape(images.shape)
    images.copy_(torch.where(mask, pasted, images))
    nothing = is_active & ~mask.flatten(1).any(1)
    return mask, torch.where(nothing, Status.EMPTY, status).to(torch.int8)


def _permutation(rank: Tensor) -> Tensor:
    """(N, 4): the permutations of 0...3 with these ranks (N,) in lexicographic order."""
    order = [rank // 6, rank % 6 // 2, rank % 2, torch.zeros_like(rank)]
    for i in (2, 1, 0):
        for later in range(i + 1, 4):
            order[later] = order[later] + (order[later] >= order[i])
    return torch.stack(order, dim=1)


def sample_cut_paste(
    keys: Tensor,
    stream: int,
    height: int,
    width: int,
    p: float,
    scar: bool,
    area: Sequence[float],
    aspect: Sequence[float],
    length: Sequence[int],
    side: Sequence[int],
    angle: Sequence[float],
    jitter: Sequence[float],
    other_source: bool,
) -> tuple[Tensor, ...]:
    """See `ssad_kernels.sample_cut_paste`."""
    bits = philox(keys, stream, 16)
    numbers = unit(bits)
    n = keys.shape[0]

    def between(low: float | Tensor, high: float | Tensor, slot: int) -> Tensor:
        return low + (high - low) * numbers[:, slot]

    def below(count: int | Tensor, slot: int) -> Tensor:
        return count * bits[:, slot] >> 32

    def round_side(value: Tensor) -> Tensor:
        return torch.floor(value + 0.5).long().clamp(min=1)

    if scar:
        h = length[0] + below(length[1] - length[0] + 1, 1)
        w = side[0] + below(side[1] - side[0] + 1, 3)
    else:
        pixels = between(area[0], area[1], 1) * (float(height) * float(width))
        is_flat = bits[:, 2] < 1 << 31
        one = torch.ones_like(pixels)
        ratio = between(
            torch.where(is_flat, aspect[0], one), torch.where(is_flat, one, aspect[1]), 3
        )
        h, w = round_side((pixels * ratio).sqrt()), round_side((pixels / ratio).sqrt())
    angles = between(angle[0], angle[1], 4).float()
    zero = torch.zeros_like(h)
    canvas_h, canvas_w = canvas_size(torch.stack([zero, zero, h, w], 1), *rotation(angles))
    fits = (h <= height) & (w <= width) & (canvas_h <= height) & (canvas_w <= width)

    def place(limit: int, extent: Tensor, slot: int, otherwise: int) -> Tensor:
        return torch.where(fits, below((limit - extent + 1).clamp(min=1), slot), otherwise)

    box = torch.stack([place(height, h, 5, 0), place(width, w, 6, 0), h, w], dim=1)
    target = torch.stack(
        [place(height, canvas_h, 7, height), place(width, canvas_w, 8, width)], dim=1
    )
    factors = []
    for k, strength in enumerate(jitter):
        centre = 0.0 if k == 3 else 1.0
        low_factor = centre - strength if k == 3 else max(centre - strength, 0.0)
        factors.append(between(low_factor, centre + strength, 9 + k))
    step = 1 + below(n - 1, 14) if other_source and n > 1 else zero
    return (
        (torch.arange(n, device=keys.device) + step) % max(n, 1),
        box,
        target,
        angles,
        torch.stack(factors, dim=1).float(),
        _permutation(below(24, 13)),
        numbers[:, 0] < p,
    )


def sample_hard(
    bits: Tensor,
    order: Tensor,
    height: int,
    width: int,
    turn_p: float,
    permute_p: float,
    jitter_p: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Order, turns and shift of a hard law, from five random numbers (N, 5) and the drawn order."""
    numbers = unit(bits)

    def one_of_three(slot: int) -> Tensor:
        return 1 + (3 * bits[:, slot] >> 32)

    quarters = one_of_three(1) if height == width else 2
    turns = (numbers[:, 0] < turn_p) * quarters
    halves = (numbers[:, 2] < permute_p) * one_of_three(3)  # 1, 2 or both, 3
    shift = torch.stack([(halves & 1) * (height // 2), (halves >> 1) * (width // 2)], dim=1)
    return torch.where(numbers[:, 4:] < jitter_p, order, -1), turns, shift
