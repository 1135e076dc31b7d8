# SPDX-License-Identifier: Apache-2.0
"""Fast kernels for self-supervised visual anomaly detection, as torch operators."""

from ssad_kernels._backend import use_backend
from ssad_kernels._op import backends
from ssad_kernels._status import Status
from ssad_kernels.cutpaste import (
    CutPasteLaw,
    CutPasteParams,
    cut_paste,
    cut_paste_,
    sample_cut_paste,
)
from ssad_kernels.random import make_keys, philox

__all__ = [
    "CutPasteLaw",
    "CutPasteParams",
    "Status",
    "backends",
    "cut_paste",
    "cut_paste_",
    "make_keys",
    "philox",
    "sample_cut_paste",
    "use_backend",
]
