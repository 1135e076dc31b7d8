# SPDX-License-Identifier: Apache-2.0
"""Augmentations that make anomalies, as modules for data loaders and for batches on any device."""

from ssad_kernels.transforms.baselines import Confetti, Cutout, Rotation, Scar
from ssad_kernels.transforms.cutpaste import CutPaste, CutPaste3Way, CutPasteScar

__all__ = ["Confetti", "CutPaste", "CutPaste3Way", "CutPasteScar", "Cutout", "Rotation", "Scar"]
