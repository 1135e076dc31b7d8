# SPDX-License-Identifier: Apache-2.0
"""Poisson blending on whole images: every pixel of the target asks where in the patch it lies.

The textbook's equation: at every unknown p, the sum over the neighbours q in the image of
(u_p - u_q - v_pq) is zero. On each edge the guidance is v = a ds + b dt, with ds and dt the
differences of the source and of the target along it. So u has the Laplacian div(a ds) + div(b dt),
a sum of two symmetric maps: the backward pass applies the same ones. No host synchronisation, so
that it can stand in on any device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from ssad_kernels._status import Status, is_applied
from ssad_kernels.reference.poisson import poisson_solve

_FAR = 1 << 24  # beyond this a coordinate is no place in an image
_MIXED, _AVERAGE, _MONOCHROME = 1, 2, 3
_DIMS = (-2, -1)  # of an image: edges downwards, edges to the right
Coefficients = list[tuple[Tensor, Tensor]]
# From a right-hand side, unknowns (N, H, W) and known values to the solution and (N, C) statuses.
Solve = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


class Taps(NamedTuple):
    """Where the lines of the target lie in the source: (N, H) for rows, (N, W) for columns."""

    lower: Tensor
    upper: Tensor
    fraction: Tensor


class Plan(NamedTuple):
    """What to solve.

    Attributes:
        status: (N,) int64, as far as it is known before solving.
        image: (N,) the source image, clamped to those that there are.
        rows: of the target in the source.
        columns: likewise.
        patch: (N, 1, H, W) bool, the pixels that the patch covers.
        weight: (N, 1, H, W) float64, the mask; for "opencv" the eroded one.
        support: (N, 1, H, W) bool, where the mask is above zero.
        unknowns: (N, 1, H, W) bool; none in samples that are not applied.
    """

    status: Tensor
    image: Tensor
    rows: Taps
    columns: Taps
    patch: Tensor
    weight: Tensor
    support: Tensor
    unknowns: Tensor


def _interior(pixels: Tensor) -> Tensor:
    """The inside of the bounding box of (N, 1, H, W) bool: the box without its outermost pixels."""
    height, width = pixels.shape[-2:]

    def between(line: Tensor, at: Tensor, dim: int) -> Tensor:
        first = torch.where(line, at, at.numel()).amin(dim, keepdim=True)
        last = torch.where(line, at, -1).amax(dim, keepdim=True)
        return (at > first) & (at < last)

    ys, xs = (torch.arange(length, device=pixels.device) for length in (height, width))
    return between(pixels.any(-1, keepdim=True), ys[:, None], -2) & between(
        pixels.any(-2, keepdim=True), xs, -1
    )


def _erode(weight: Tensor) -> Tensor:
    """The smallest of the 7 x 7 values around each pixel; zero lies beyond the image."""
    return -max_pool2d(-pad(weight, (3, 3, 3, 3)), 7, stride=1)


def _locate(
    length: int, start: Tensor, size: Tensor, corner: Tensor, extent: Tensor, limit: int
) -> tuple[Tensor, Taps]:
    """The patch's coordinate of each line of the target, and where the source has it."""
    at = torch.arange(length, device=start.device) - start[:, None]
    extent, corner = extent[:, None].clamp(min=1), corner[:, None]
    position = (at + 0.5) * extent.double() / size[:, None].clamp(min=1) - 0.5
    position = torch.minimum(position.clamp(min=0.0), extent - 1.0)
    lower = position.floor()
    upper = torch.minimum(lower + 1.0, extent - 1.0)
    near, far = ((corner + tap.long()).clamp(0, limit - 1) for tap in (lower, upper))
    return at, Taps(near, far, position - lower)


def _rows_of(values: Tensor, index: Tensor, dim: int) -> Tensor:
    """Rows (dim 2) or columns (dim 3) of (N, C, H, W), others for each sample."""
    shape = list(values.shape)
    shape[dim] = index.shape[1]
    index = index[:, None, :, None] if dim == 2 else index[:, None, None, :]
    return values.gather(dim, index.expand(shape))


def plan(
    target: Tensor,
    source: Tensor,
    mask: Tensor | None,
    top_left: Tensor,
    sizes: Tensor | None,
    source_index: Tensor | None,
    source_box: Tensor | None,
    gradient: Tensor,
    source_gain: Tensor | None,
    target_gain: Tensor | None,
    region: str,
) -> Plan:
    """What each sample solves, without looking at a value of an image."""
    n, _, height, width = target.shape
    count, _, source_height, source_width = source.shape
    device = target.device
    index = torch.arange(n, device=device) if source_index is None else source_index
    if source_box is not None:
        corner, extent = source_box.clamp(-_FAR, _FAR).split(2, dim=1)
        size = extent if sizes is None else sizes.clamp(-_FAR, _FAR)
    else:
        sides = torch.full_like(index, source_height), torch.full_like(index, source_width)
        size = torch.stack(sides, dim=1) if sizes is None else sizes.clamp(-_FAR, _FAR)
        corner, extent = torch.zeros_like(size), size
    start = top_left.clamp(-_FAR, _FAR)
    end = start + size

    def within(low: Tensor, high: Tensor, h: int, w: int) -> Tensor:
        return (low >= 0).all(1) & (high[:, 0] <= h) & (high[:, 1] <= w)

    is_placed = (start[:, 0] < height) & (start[:, 1] < width) & (end > 0).all(1)
    is_placed &= (size < _FAR).all(1) & (index >= 0) & (index < count)
    is_placed &= within(corner, corner + extent, source_height, source_width)
    if mask is not None:
        is_placed &= (size[:, 0] <= mask.shape[1]) & (size[:, 1] <= mask.shape[2])

    ys, rows = _locate(height, start[:, 0], size[:, 0], corner[:, 0], extent[:, 0], source_height)
    xs, columns = _locate(width, start[:, 1], size[:, 1], corner[:, 1], extent[:, 1], source_width)
    covered = (ys >= 0) & (ys < size[:, :1]), (xs >= 0) & (xs < size[:, 1:])
    patch = (covered[0][:, :, None] & covered[1][:, None, :])[:, None]
    weight = torch.ones(patch.shape, dtype=torch.float64, device=device)
    if mask is not None:
        weight = mask[:, None].double() / (255.0 if mask.dtype == torch.uint8 else 1.0)
        weight = _rows_of(weight, ys.clamp(0, mask.shape[1] - 1), 2)
        weight = _rows_of(weight, xs.clamp(0, mask.shape[2] - 1), 3)
    is_finite = ~(weight.isnan() & patch).flatten(1).any(1)
    for gain in (source_gain, target_gain):
        if gain is not None:
            is_finite &= gain.isfinite()
    support = patch & (weight > 0.0)
    if region == "opencv":  # the outermost pixels of a patch do not count
        is_inner = (ys > 0) & (ys < size[:, :1] - 1), (xs > 0) & (xs < size[:, 1:] - 1)
        support = support & (is_inner[0][:, :, None] & is_inner[1][:, None, :])[:, None]
    weight = torch.where(support, weight.clamp(0.0, 1.0), 0.0)
    if region == "opencv":
        weight = _erode(weight)
    unknowns = support if region == "mask" else _interior(support)

    is_whole = within(start, end, height, width)
    status = torch.where(is_whole, Status.APPLIED, Status.CLIPPED)
    status = torch.where(is_finite, status, Status.NOT_FINITE)
    status = torch.where(unknowns.flatten(1).any(1), status, Status.EMPTY)
    status = torch.where(is_placed, status, Status.NO_PLACE)
    status = torch.where((size < 1).any(1) | (extent < 1).any(1), Status.EMPTY, status)
    is_gated = (gradient < 0) | (gradient > _MONOCHROME)
    if region == "opencv":
        is_gated |= gradient == _AVERAGE
    status = torch.where(is_gated, Status.GATED, status)
    unknowns = unknowns & is_applied(status)[:, None, None, None]
    index = index.clamp(0, max(count - 1, 0))
    return Plan(status, index, rows, columns, patch, weight, support, unknowns)


def _along(values: Tensor, taps: Taps, dim: int) -> Tensor:
    lower, upper = (_rows_of(values, tap, dim) for tap in (taps.lower, taps.upper))
    fraction = taps.fraction.to(values.dtype)
    fraction = fraction[:, None, :, None] if dim == 2 else fraction[:, None, None, :]
    # A pixel without weight may be NaN.
    return torch.where(fraction > 0.0, (1.0 - fraction) * lower + fraction * upper, lower)


def _along_adjoint(gradient: Tensor, taps: Taps, dim: int, length: int) -> Tensor:
    shape = list(gradient.shape)
    shape[dim] = length
    fraction = taps.fraction.to(gradient.dtype)
    fraction = fraction[:, None, :, None] if dim == 2 else fraction[:, None, None, :]
    total = gradient.new_zeros(shape)
    for tap, part in ((taps.lower, (1.0 - fraction) * gradient), (taps.upper, fraction * gradient)):
        index = tap[:, None, :, None] if dim == 2 else tap[:, None, None, :]
        total = total.scatter_add(dim, index.expand_as(part), part)
    return total


def _grey_weights(channels: int) -> tuple[float, ...]:
    if channels < 3:
        return (1.0,) + (0.0,) * (channels - 1)
    return (0.299, 0.587, 0.114) + (0.0,) * (channels - 3)


def paste(source: Tensor, where: Plan, gradient: Tensor) -> Tensor:
    """The source's values in the place of the target's pixels, (N, C, H, W); grey if asked for."""
    pasted = _along(_along(source[where.image], where.rows, 2), where.columns, 3)
    parts = enumerate(_grey_weights(pasted.shape[1]))
    grey = torch.stack([w * pasted[:, c] for c, w in parts if w]).sum(0)[:, None]
    return torch.where(gradient[:, None, None, None] == _MONOCHROME, grey, pasted)


def paste_adjoint(values: Tensor, where: Plan, gradient: Tensor, source: Tensor) -> Tensor:
    """The transpose of `paste`: from (N, C, H, W) to the shape of the source."""
    total = values.sum(1, keepdim=True)
    grey = torch.cat([w * total for w in _grey_weights(values.shape[1])], dim=1)
    values = torch.where(gradient[:, None, None, None] == _MONOCHROME, grey, values)
    values = _along_adjoint(values, where.columns, 3, source.shape[3])
    values = _along_adjoint(values, where.rows, 2, source.shape[2])
    return values.new_zeros(source.shape).index_add(0, where.image, values)


def _paste_opencv(source: Tensor, where: Plan, gradient: Tensor) -> Tensor:
    """`paste` with whole levels, and OpenCV's grey: 15-bit fixed point."""
    pasted = (_along(_along(source[where.image], where.rows, 2), where.columns, 3) + 0.5).floor()
    grey = pasted[:, :1]
    if pasted.shape[1] >= 3:
        parts = zip((9798.0, 19235.0, 3735.0), pasted.unbind(1), strict=False)
        total = torch.stack([w * channel for w, channel in parts]).sum(0)[:, None]
        grey = ((total + 16384.0) / 32768.0).floor()
    return torch.where(gradient[:, None, None, None] == _MONOCHROME, grey, pasted)


def _ends(values: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The upper or left, and the lower or right pixel of each edge."""
    count = values.shape[dim] - 1
    return values.narrow(dim, 0, count), values.narrow(dim, 1, count)


def _is_larger(source: Tensor, target: Tensor) -> Tensor:
    """1 where the source's gradient is the larger one, 0 where it is not, NaN where none is."""
    larger = (source.abs() > target.abs()).to(source.dtype)
    return torch.where(source.isnan() | target.isnan(), math.nan, larger)


def coefficients(
    pasted: Tensor,
    target: Tensor,
    where: Plan,
    gradient: Tensor,
    source_gain: Tensor | None,
    target_gain: Tensor | None,
    region: str,
) -> Coefficients:
    """The factors (a, b) of both images' differences, for the edges downwards and to the right.

    Zero on edges without an unknown. They depend on the images only by which gradient is larger.
    """
    of_source, of_target = (
        target.new_ones(1, 1, 1, 1)
        if gain is None
        else gain.nan_to_num(0.0, 0.0, 0.0).to(target.dtype)[:, None, None, None]
        for gain in (source_gain, target_gain)
    )
    code = gradient[:, None, None, None]
    slopes = [[torch.diff(image, dim=dim) for dim in _DIMS] for image in (pasted, target)]
    if region == "opencv":  # per pixel: whether the two derivatives differ more
        down, right = ((0, 0, 0, 1), (0, 1, 0, 0))
        by_pixel = _is_larger(*(pad(right_, right) - pad(d, down) for d, right_ in slopes))

    found = []
    for k, dim in enumerate(_DIMS):
        first, second = _ends(where.weight.to(target.dtype), dim)
        if region == "opencv":
            weight = first
            larger = _ends(by_pixel, dim)[0]
        else:
            (in_first, in_second), covered = _ends(where.support, dim), _ends(where.patch, dim)
            count = in_first.to(target.dtype) + in_second.to(target.dtype)
            weight = (first + second) / count.clamp(min=1.0)
            weight = torch.where(covered[0] & covered[1], weight, 0.0)
            larger = _is_larger(of_source * slopes[0][k], of_target * slopes[1][k])
        share = torch.where(code == _MIXED, larger, torch.where(code == _AVERAGE, 0.5, 1.0))
        is_guided = weight > 0.0  # elsewhere the source may be NaN
        a = torch.where(is_guided, weight * of_source * share, 0.0)
        b = torch.where(is_guided, weight * of_target * (1.0 - share), 0.0) + (1.0 - weight)
        touches = torch.logical_or(*_ends(where.unknowns, dim))
        found.append((torch.where(touches, a, 0.0), torch.where(touches, b, 0.0)))
    return found


def laplacian(image: Tensor, factors: Sequence[Tensor]) -> Tensor:
    """div(factor grad image), with nothing beyond the image; symmetric, so its own transpose."""
    total = torch.zeros_like(image)
    for dim, factor, margin in zip(_DIMS, factors, ((0, 0, 1, 1), (1, 1, 0, 0)), strict=True):
        flow = torch.where(factor != 0.0, factor * torch.diff(image, dim=dim), 0.0)
        total = total + torch.diff(pad(flow, margin), dim=dim)
    return total


def blend(
    solve: Solve,
    compute: torch.dtype,
    target: Tensor,
    source: Tensor,
    mask: Tensor | None,
    top_left: Tensor,
    sizes: Tensor | None,
    source_index: Tensor | None,
    source_box: Tensor | None,
    gradient: Tensor,
    source_gain: Tensor | None,
    target_gain: Tensor | None,
    region: str,
) -> Tensor:
    """Blend into the target, in numbers of a dtype, with any solver; returns statuses, int64."""
    places, gains = (top_left, sizes, source_index, source_box), (source_gain, target_gain)
    where = plan(target, source, mask, *places, gradient, *gains, region)
    if source.shape[0] == 0:  # nothing can be placed, and nothing be looked up
        return where.status
    values = target.to(compute)
    pasting = _paste_opencv if region == "opencv" else paste
    pasted = pasting(source.to(compute), where, gradient)
    a, b = zip(*coefficients(pasted, values, where, gradient, *gains, region), strict=True)
    rhs = laplacian(pasted, a) + laplacian(values, b)
    u, solved = solve(rhs, where.unknowns[:, 0], values)

    status = where.status
    for failure in (Status.NOT_CONVERGED, Status.NOT_FINITE):
        failed = (solved == failure.value).any(1) & is_applied(where.status)
        status = torch.where(failed, failure, status)
    if target.dtype == torch.uint8:
        u = u.nan_to_num().clamp(0.0, 255.0)
        u = u.floor() if region == "opencv" else (u + 0.5).floor()
    is_new = where.unknowns & is_applied(status)[:, None, None, None]
    target.copy_(torch.where(is_new, u.to(target.dtype), target))
    return status


def _solve(rhs: Tensor, unknowns: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    return poisson_solve(rhs, unknowns, values, "multigrid", 0.0, 0.0, 1)[:2]


def poisson_blend_(target: Tensor, *args: Any) -> Tensor:
    """See `ssad_kernels.poisson_blend_`. Solves to rounding, whatever the last options say."""
    *arguments, _, _, _, _ = args
    return blend(_solve, torch.float64, target, *arguments).to(torch.int8)


def poisson_blend(target: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    """See `ssad_kernels.poisson_blend`."""
    out = target.clone()
    return out, poisson_blend_(out, *args)
