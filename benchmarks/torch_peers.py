# SPDX-License-Identifier: Apache-2.0
"""CutPaste in plain torch: batched, and one image at a time. See `peers`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from peers import GREY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from peers import Params, Sample


def torch_cut_paste(images: Tensor, params: Params) -> Tensor:
    """Paste into ``images`` (N, 3, H, W) in place with plain torch ops; return the masks.

    The patches of the batch are one ragged list of pixels (patches padded to the largest one move
    several times as much), and every step of the jitter runs over all of them: brightness,
    contrast and saturation are one blend with per-sample factors, the hue shift runs on the samples
    whose turn it is. Unrotated patches, torchvision's tensor formulas without rounding in between.
    """
    n, channels, height, width = images.shape
    size = height * width
    device = images.device
    box, target, jitter, order = params.source_box, params.target, params.jitter, params.order
    areas = box[:, 2] * box[:, 3]
    sample = torch.repeat_interleave(areas)

    def spread(values: Tensor) -> Tensor:
        """One value per sample to one per pixel; on a CPU ten times as fast as indexing."""
        return values.index_select(0, sample)

    local = torch.arange(sample.numel(), device=device) - spread(areas.cumsum(0) - areas)
    row = local.div(spread(box[:, 3]), rounding_mode="floor")
    start = row * width + local - row * spread(box[:, 3])
    plane = torch.arange(n, device=device) * (channels * size)
    source = start + spread(plane + box[:, 0] * width + box[:, 1])
    place = start + spread(plane + target[:, 0] * width + target[:, 1])
    flat = images.view(-1)
    bound = 1.0 if images.is_floating_point() else 255.0
    pixels = torch.stack([flat.index_select(0, source + i * size) for i in range(3)]).float()
    weights = pixels.new_tensor(GREY)
    for step in order.unbind(1):
        factor = jitter.gather(1, step[:, None])[:, 0]
        is_hue = step == 3
        factor = torch.where(is_hue, 1.0, factor)
        grey = weights @ pixels
        mean = torch.segment_reduce(grey, "mean", lengths=areas)
        grey *= spread(torch.where(step == 2, 1.0 - factor, 0.0))
        grey += spread(torch.where(step == 1, 1.0 - factor, 0.0) * mean)
        pixels = pixels.mul_(spread(factor)).add_(grey).clamp_(0.0, bound)
        chosen = spread(is_hue).nonzero()[:, 0]
        shift = spread(jitter[:, 3]).index_select(0, chosen)
        pixels.index_copy_(1, chosen, _shift_hue(pixels.index_select(1, chosen), shift))
    if not images.is_floating_point():
        pixels.round_()
    for i, values in enumerate(pixels.to(images.dtype)):
        flat.index_copy_(0, place + i * size, values)
    masks = torch.zeros(n, 1, height, width, dtype=torch.bool, device=device)
    masks.view(-1).index_fill_(0, place - spread(plane - plane // channels), True)
    return masks


def torch_loop_cut_paste(images: Tensor, samples: Sequence[Sample]) -> Tensor:
    """Paste into ``images`` (N, 3, H, W) in place, one image at a time, with plain torch ops.

    On a CPU this beats the batched form, whose intermediate results do not fit the cache.
    """
    masks = torch.zeros(len(images), 1, *images.shape[-2:], dtype=torch.bool)
    bound = 1.0 if images.is_floating_point() else 255.0
    weights = torch.tensor(GREY)
    for image, mask, sample in zip(images, masks, samples, strict=True):
        y, x, h, w = sample.box
        patch = image[:, y : y + h, x : x + w].to(torch.float32, copy=True).view(3, -1)
        for step in sample.order:
            factor = sample.jitter[step]
            if step == 3:
                patch = _shift_hue(patch, torch.tensor(factor))
                continue
            if step:
                grey = weights @ patch
                base = grey.mean() if step == 1 else grey
                patch.mul_(factor).add_(base, alpha=1.0 - factor)
            else:
                patch.mul_(factor)
            if factor > 1.0:
                patch.clamp_(0.0, bound)
        if not images.is_floating_point():
            patch.round_()
        y, x = sample.target
        image[:, y : y + h, x : x + w] = patch.view(3, h, w)
        mask[:, y : y + h, x : x + w] = True
    return masks


def _shift_hue(pixels: Tensor, shift: Tensor) -> Tensor:
    """Shift the hue of ``pixels`` (3, P) by ``shift`` (P,) or () turns, within a sixth of a turn.

    The rule is that of `OpenCVCutPaste._hue`.
    """
    low, high = pixels.amin(0), pixels.amax(0)  # aminmax(dim=0) takes seven times as long
    limit = (high - low) * (1.0 - 6.0 * shift.abs())
    sign = shift.sign()
    red, green, blue = pixels
    change = torch.stack((blue - green, red - blue, green - red)).mul_(sign)
    change -= torch.minimum(torch.maximum(change, -limit), limit)
    return change.add_(pixels).clamp_(low, high)
