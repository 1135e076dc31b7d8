# SPDX-License-Identifier: Apache-2.0
"""Augmentations that make anomalies, as modules for data loaders and for batches on any device."""

from ssad_kernels.transforms.baselines import Confetti, Cutout, Rotation, Scar
from ssad_kernels.transforms.cutpaste import CutPaste, CutPaste3Way, CutPasteScar
from ssad_kernels.transforms.fpi import FPI, PII
from ssad_kernels.transforms.hard_cutpaste import HardCutPaste
from ssad_kernels.transforms.masking import CellMasking
from ssad_kernels.transforms.nsa import NSA
from ssad_kernels.transforms.perlin import PerlinAnomaly

__all__ = [
    "FPI",
    "NSA",
    "PII",
    "CellMasking",
    "Confetti",
    "CutPaste",
    "CutPaste3Way",
    "CutPasteScar",
    "Cutout",
    "HardCutPaste",
    "PerlinAnomaly",
    "Rotation",
    "Scar",
]
