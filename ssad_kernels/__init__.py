# SPDX-License-Identifier: Apache-2.0
"""Fast kernels for self-supervised visual anomaly detection, as torch operators."""

from importlib.metadata import PackageNotFoundError, version

from ssad_kernels._backend import use_backend
from ssad_kernels._op import backends
from ssad_kernels._status import Status
from ssad_kernels.alpha_blending import alpha_blend, alpha_blend_
from ssad_kernels.blending import poisson_blend, poisson_blend_
from ssad_kernels.components import connected_components
from ssad_kernels.cutpaste import CutPasteParams, cut_paste, cut_paste_
from ssad_kernels.cutpaste_law import (
    CutPasteLaw,
    cut_paste_keyed,
    cut_paste_keyed_,
    sample_cut_paste,
)
from ssad_kernels.data import EpochIndex, KeyedDataset, KeyedSampler
from ssad_kernels.dense import dense_patch_scores, flop_ratio, patch_features
from ssad_kernels.labels import difference_label, median_filter, object_mask
from ssad_kernels.masking import cell_masks, composite, mask_images, refine_cells
from ssad_kernels.nsa import NsaParams, nsa_regions
from ssad_kernels.nsa_keyed import nsa_keyed
from ssad_kernels.nsa_law import NsaLaw, largest_patch, sample_nsa
from ssad_kernels.nsa_steps import NsaStyle
from ssad_kernels.perlin import perlin_noise
from ssad_kernels.pixel_scores import IoU, PixelScores, aupro, iou, iou_max
from ssad_kernels.poisson import PoissonInfo, poisson_solve
from ssad_kernels.random import make_keys, philox
from ssad_kernels.ranking import auroc, average_precision, count_above, f1_max
from ssad_kernels.receptive_field import ReceptiveField, receptive_field
from ssad_kernels.saturated import DefectScores, spro
from ssad_kernels.scoring import GaussianFit, gaussian_fit, gaussian_score
from ssad_kernels.scoring_accumulator import GaussianAccumulator
from ssad_kernels.similarity import gms_loss, gms_map, ssim_map
from ssad_kernels.upsample import receptive_field_upsample

try:
    __version__ = version("ssad-kernels")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "unknown"

__all__ = [
    "CutPasteLaw",
    "CutPasteParams",
    "DefectScores",
    "EpochIndex",
    "GaussianAccumulator",
    "GaussianFit",
    "IoU",
    "KeyedDataset",
    "KeyedSampler",
    "NsaLaw",
    "NsaParams",
    "NsaStyle",
    "PixelScores",
    "PoissonInfo",
    "ReceptiveField",
    "Status",
    "alpha_blend",
    "alpha_blend_",
    "aupro",
    "auroc",
    "average_precision",
    "backends",
    "cell_masks",
    "composite",
    "connected_components",
    "count_above",
    "cut_paste",
    "cut_paste_",
    "cut_paste_keyed",
    "cut_paste_keyed_",
    "dense_patch_scores",
    "difference_label",
    "f1_max",
    "flop_ratio",
    "gaussian_fit",
    "gaussian_score",
    "gms_loss",
    "gms_map",
    "iou",
    "iou_max",
    "largest_patch",
    "make_keys",
    "mask_images",
    "median_filter",
    "nsa_keyed",
    "nsa_regions",
    "object_mask",
    "patch_features",
    "perlin_noise",
    "philox",
    "poisson_blend",
    "poisson_blend_",
    "poisson_solve",
    "receptive_field",
    "receptive_field_upsample",
    "refine_cells",
    "sample_cut_paste",
    "sample_nsa",
    "spro",
    "ssim_map",
    "use_backend",
]
