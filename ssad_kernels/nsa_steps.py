# SPDX-License-Identifier: Apache-2.0
"""Natural synthetic anomalies step by step: draw patches, blend them in, label what changed.

Schlüter, Tan, Hou and Kainz, "Natural Synthetic Anomalies for Self-Supervised Anomaly Detection and
Localization", ECCV 2022.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ssad_kernels._arrays import has_memory
from ssad_kernels._status import Status, is_applied
from ssad_kernels.alpha_blending import alpha_blend_
from ssad_kernels.blending import poisson_blend_
from ssad_kernels.blending_op import unshared
from ssad_kernels.labels import Kind, difference_label
from ssad_kernels.nsa import NsaParams, nsa_regions
from ssad_kernels.nsa_law import NsaLaw, largest_patch, sample_nsa
from ssad_kernels.random import STREAMS, philox

Gradient = Literal["source", "mixed", "average", "monochrome", "mix", "scaled", "swap", "uniform"]
Background = tuple[float, float] | Literal["otsu"] | None

_CODES = {"source": 0, "mixed": 1, "average": 2, "monochrome": 3, "scaled": 1}
_COPIES = ("swap", "uniform")  # what solves nothing
_NO_CODE = -1  # a sample that `poisson_blend_` is to leave alone
LABEL_RADIUS = 5  # of the label's disk


class NsaStyle(NamedTuple):
    """How patches get into an image, and how the image is labelled.

    Attributes:
        gradient: how a patch is blended: by `poisson_blend` with "source", "mixed", "average" or
            "monochrome" gradients; with "mix", one of the first two by the toss of a coin; with
            "scaled", mixed gradients, those of the patch times f and those of the image times
            1 - f. "uniform" takes f of the patch and 1 - f of the image; "swap" copies.
        region: of `poisson_blend`.
        background: what is no object, see `object_mask`; None: there are no objects.
        label: see `difference_label`, as for what follows.
        steepness: of the logistic label, per grey level.
        midpoint: of the logistic label, in grey levels.
        tolerance: in grey levels.
        size: of the square median.
    """

    gradient: Gradient = "source"
    region: Literal["mask", "rect"] = "mask"
    background: Background = None
    label: Kind = "logistic"
    steepness: float = 1 / 6
    midpoint: float = 15.0
    tolerance: float = 1.0
    size: int = 5


class Draw(NamedTuple):
    """All that is random in a sample of NSA, FPI or PII.

    Attributes:
        patches: where the patches come from and go to, see `NsaParams`.
        gradient: (N,) int64, the code of `poisson_blend_`; without meaning where nothing is solved.
    """

    patches: NsaParams
    gradient: Tensor


def draw_nsa(
    keys: Tensor,
    height: int,
    width: int,
    law: NsaLaw,
    gradient: str,
    *,
    stream: int,
    sources: int | None,
    masks: Tensor | None,
    source_masks: Tensor | None,
) -> Draw:
    """Patches and gradients of a batch, see `sample_nsa` and `NsaStyle`."""
    patches = sample_nsa(
        keys,
        height,
        width,
        law,
        stream=stream,
        sources=sources,
        source_masks=source_masks,
        target_masks=masks,
    )
    if gradient == "mix":
        codes = philox(keys, stream + STREAMS["coin"], 1)[:, 0] >> 31
    else:
        n = keys.shape[0]
        codes = torch.full((n,), _CODES.get(gradient, 0), dtype=torch.int64, device=keys.device)
    return Draw(patches, codes)


def apply_nsa(
    images: Tensor,
    draw: Draw,
    law: NsaLaw,
    style: NsaStyle,
    *,
    bank: Tensor | None = None,
    masks: Tensor | None = None,
    source_masks: Tensor | None = None,
    is_written: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and status of what was drawn; ``is_written``: in the images' memory."""
    patches = draw.patches
    height, width = images.shape[2:]
    regions, shapes = nsa_regions(
        patches,
        height,
        width,
        source_masks=source_masks,
        target_masks=masks,
        side=largest_patch(law, height, width),
        paste="label" if style.gradient in _COPIES else "blend",
        is_reference=law.is_reference,
    )
    before = images.clone() if is_written else images
    out = images if is_written else images.clone()
    sources = before
    if bank is not None:  # later patches are cut from it as it was, also if it lies in that memory
        sources = unshared(out, bank) if is_written else bank
    outcomes = {}
    for k in _numbers_in_use(patches):
        mask = None if shapes is None else shapes[:, k]
        outcomes[k] = _blend(out, sources, mask, draw, k, style, law.is_reference)
    label = difference_label(
        before,
        out,
        regions,
        kind=style.label,
        steepness=style.steepness,
        midpoint=style.midpoint,
        factor=patches.factor if style.label == "factor" else 1.0,
        tolerance=style.tolerance,
        size=style.size,
        radius=LABEL_RADIUS,
    )
    return out, label, _status_of(patches, outcomes)


def _blend(
    out: Tensor,
    sources: Tensor,
    mask: Tensor | None,
    draw: Draw,
    k: int,
    style: NsaStyle,
    is_reference: bool,
) -> Tensor:
    """Blend patch k of each sample into it; their status."""
    patches, codes = draw
    box, apply, f = patches.target_box[:, k], patches.apply[:, k], patches.factor
    top_left, sizes = box[:, :2], box[:, 2:]
    source: dict[str, Any] = {
        "sizes": sizes,
        "source_index": patches.source_index,
        "source_box": patches.source_box[:, k],
        "return_status": True,
    }
    status: Tensor
    if style.gradient in _COPIES:
        source["alpha"] = apply.double() if style.gradient == "swap" else f * apply
        source["compat"] = "reference" if is_reference else None
        _, status = alpha_blend_(out, sources, mask, top_left, **source)
        return status
    source["gradient"] = torch.where(apply, codes, _NO_CODE)
    if is_reference:
        # It centres a patch one pixel to the right of its label if the width is odd.
        top_left = torch.stack([top_left[:, 0], top_left[:, 1] + sizes[:, 1] % 2], dim=1)
        if style.gradient == "scaled":
            mask = _grey_mask(mask, f, out.shape[2:])
        _, status = poisson_blend_(out, sources, mask, top_left, compat="opencv", **source)
        return status
    if style.gradient == "scaled":
        source |= {"source_gain": f, "target_gain": 1.0 - f}
    _, status = poisson_blend_(out, sources, mask, top_left, region=style.region, **source)
    return status


def _numbers_in_use(patches: NsaParams) -> Iterable[int]:
    """The numbers of patches that a sample has: on a CPU, where to look is cheaper than to try."""
    apply = patches.apply
    if apply.device.type != "cpu" or not has_memory(apply):
        return range(apply.shape[1])
    return [k for k, is_used in enumerate(apply.any(0).tolist()) if is_used]


def _status_of(patches: NsaParams, outcomes: dict[int, Tensor]) -> Tensor:
    """APPLIED if one patch was, else why the first one was not; ``outcomes`` by patch."""
    was_applied = torch.zeros_like(patches.status, dtype=torch.bool)
    why = patches.status
    for k, outcome in outcomes.items():
        tried = patches.apply[:, k]
        was_applied |= tried & is_applied(outcome)
        why = torch.where(tried & (why == Status.APPLIED.value), outcome, why)
    return torch.where(was_applied, Status.APPLIED.value, why)


def _grey_mask(mask: Tensor | None, factor: Tensor, size: Iterable[int]) -> Tensor:
    """A mask of uint8 whose grey is the factor, as the released code has it."""
    grey = (factor * 255.0).ceil().to(torch.uint8)[:, None, None]
    return grey.expand(-1, *size) if mask is None else grey * mask
