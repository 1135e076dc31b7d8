# SPDX-License-Identifier: Apache-2.0
"""Readable, pure torch implementations: what the kernels are tested against, and the fallback."""

from ssad_kernels.reference import (
    alpha_blending,
    blending,
    cutpaste,
    labels,
    nsa,
    nsa_law,
    poisson,
    quantiles,
    random,
    ranking,
    similarity,
    upsample,
)

__all__ = [
    "alpha_blending",
    "blending",
    "cutpaste",
    "labels",
    "nsa",
    "nsa_law",
    "poisson",
    "quantiles",
    "random",
    "ranking",
    "similarity",
    "upsample",
]
