# SPDX-License-Identifier: Apache-2.0
"""Sample arguments and tolerances of every operator, for tests and benchmarks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from ssad_kernels.testing.alpha_blending import alpha_outcomes, alpha_samples
from ssad_kernels.testing.blending import blend_outcomes, blend_samples, make_blend
from ssad_kernels.testing.cutpaste import (
    LAWS,
    PACKED_LAWS,
    cut_paste_keyed_samples,
    cut_paste_samples,
    outcomes,
    philox_samples,
    sample_cut_paste_samples,
)
from ssad_kernels.testing.images import LAYOUTS, make_images, same_bits, with_layout
from ssad_kernels.testing.labels import label_samples, mask_samples, median_samples
from ssad_kernels.testing.masking import (
    cell_masks_samples,
    composite_samples,
    make_cell_masks,
    mask_images_samples,
    refine_cells_samples,
)
from ssad_kernels.testing.masks import MASKS, make_mask
from ssad_kernels.testing.nsa import (
    NSA_LAWS,
    NSA_RECIPES,
    make_objects,
    nsa_keyed_samples,
    region_outcomes,
    regions_samples,
    sample_nsa_samples,
)
from ssad_kernels.testing.perlin import perlin_samples
from ssad_kernels.testing.poisson import poisson_samples
from ssad_kernels.testing.ranking import component_samples, count_samples, make_maps, make_spiral
from ssad_kernels.testing.similarity import (
    gms_gradient_samples,
    gms_samples,
    ssim_gradient_samples,
    ssim_samples,
)
from ssad_kernels.testing.upsample import upsample_samples

__all__ = [
    "LAWS",
    "LAYOUTS",
    "MASKS",
    "NSA_LAWS",
    "NSA_RECIPES",
    "PACKED_LAWS",
    "TOLERANCES",
    "alpha_outcomes",
    "blend_outcomes",
    "make_blend",
    "make_cell_masks",
    "make_images",
    "make_maps",
    "make_mask",
    "make_objects",
    "make_spiral",
    "outcomes",
    "region_outcomes",
    "same_bits",
    "samples",
    "tolerance",
    "with_layout",
]

Arguments = tuple[Any, ...]

# How far two backends may differ, per dtype of the images, where white is 1 (255 for uint8). All
# compute in float32, in another order of operations and with or without fused multiply-adds.
_PIXELS = {
    # Float32 sums that differ by an ulp may round to neighbouring levels.
    torch.uint8: 1.0,
    # The same, rounded to neighbours of the stored type: its spacing between 1/2 and 1.
    torch.float16: 2.0**-11,
    torch.bfloat16: 2.0**-8,
    # Four steps of colour jitter, each with a few roundings of 6e-8, and the mean of a patch.
    torch.float32: 1e-5,
    # The same with roundings of 1e-16.
    torch.float64: 1e-12,
}
_EXACT = {torch.int64: 0.0}
# The same for values within ±4 (blends are not clamped) and sides of 32 pixels at most; solvers
# stop at a residual of 1e-7, and of 1e-12 in float64.
_BLENDS = {
    torch.uint8: 1.0,
    torch.float16: 2.0**-9,
    torch.bfloat16: 2.0**-6,
    torch.float32: 5e-5,
    torch.float64: 1e-9,
}

TOLERANCES = {
    "alpha_blend": _PIXELS,
    "alpha_blend_": _PIXELS,
    "cell_masks": {},
    # The mean of up to 32 values.
    "composite": _PIXELS,
    "connected_components": {},
    "count_above": _EXACT,
    "cut_paste": _PIXELS,
    "cut_paste_": _PIXELS,
    "cut_paste_keyed": _PIXELS,
    "cut_paste_keyed_": _PIXELS,
    # Up to the exponential of the logistic.
    "difference_label": {torch.float32: 1e-6},
    # Float32 sums of sizes near 1.
    "gms_loss": {torch.float32: 1e-6, torch.float64: 1e-14},
    # Of 9 pixels at least, each up to 20 at edges.
    "gms_loss_backward": {torch.float32: 1e-6, torch.float64: 1e-14},
    "gms_map": {torch.float32: 2e-6, torch.float64: 1e-14},
    "mask_images": {},
    "median_filter": {},
    "object_mask": {},
    # The third patch is blended into what the first two left. Whether a pixel is labelled can hang
    # on the last bit of its difference.
    "nsa_keyed": {torch.uint8: 3.0, torch.float64: 1e-8, torch.float32: math.inf},
    "nsa_regions": _EXACT,
    # Tables in float64, float32 without contraction: the same bits everywhere.
    "perlin_noise": {torch.float32: 0.0},
    "philox": _EXACT,
    "poisson_blend": _BLENDS,
    "poisson_blend_": _BLENDS,
    # For values of size one and sides of 16 pixels at most. Solvers count their own iterations.
    "poisson_solve": {torch.float32: 2e-5, torch.float64: 1e-9, torch.int32: math.inf},
    # Values below 16 in halves, and below 256 for the adjoint.
    "receptive_field_upsample": {
        torch.float16: 2.0**-7,
        torch.bfloat16: 2.0**-4,
        torch.float32: 5e-5,
        torch.float64: 1e-13,
    },
    "refine_cells": _EXACT,
    # The parameters of a law are integers, or floats made by float64 + - x / alone.
    "sample_cut_paste": _EXACT,
    "sample_nsa": _EXACT,
    # Variances are differences of squares up to 4, and count if they are 1e-3.
    "ssim_map": {torch.float32: 1e-4, torch.float64: 1e-12},
    "ssim_map_backward": {torch.float32: 2e-3, torch.float64: 1e-11},
}


_SAMPLES: dict[str, Callable[[torch.device | str], dict[str, Arguments]]] = {
    "alpha_blend": alpha_samples,
    "alpha_blend_": alpha_samples,
    "cell_masks": cell_masks_samples,
    "composite": composite_samples,
    "connected_components": component_samples,
    "count_above": count_samples,
    "cut_paste": cut_paste_samples,
    "cut_paste_": cut_paste_samples,
    "cut_paste_keyed": cut_paste_keyed_samples,
    "cut_paste_keyed_": cut_paste_keyed_samples,
    "difference_label": label_samples,
    "gms_loss": gms_samples,
    "gms_loss_backward": gms_gradient_samples,
    "gms_map": gms_samples,
    "mask_images": mask_images_samples,
    "median_filter": median_samples,
    "object_mask": mask_samples,
    "nsa_keyed": nsa_keyed_samples,
    "nsa_regions": regions_samples,
    "perlin_noise": perlin_samples,
    "philox": philox_samples,
    "poisson_blend": blend_samples,
    "poisson_blend_": blend_samples,
    "poisson_solve": poisson_samples,
    "receptive_field_upsample": upsample_samples,
    "refine_cells": refine_cells_samples,
    "sample_cut_paste": sample_cut_paste_samples,
    "sample_nsa": sample_nsa_samples,
    "ssim_map": ssim_samples,
    "ssim_map_backward": ssim_gradient_samples,
}


def samples(op: str, device: torch.device | str = "cpu") -> dict[str, Arguments]:
    """Arguments for ``torch.ops.ssad_kernels.<op>``, by name; fresh tensors at each call.

    Raises:
        KeyError: for an op without samples.
    """
    return _SAMPLES[op](device)


def tolerance(op: str, dtype: torch.dtype) -> float:
    """The largest difference between backends; 0 for integers and booleans."""
    return TOLERANCES[op].get(dtype, 0.0)
