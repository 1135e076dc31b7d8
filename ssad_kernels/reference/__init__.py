# SPDX-License-Identifier: Apache-2.0
"""Readable, pure torch implementations: what the kernels are tested against, and the fallback."""

from ssad_kernels.reference import (
    alpha_blending,
    blending,
    cutpaste,
    labels,
    masking,
    nsa,
    nsa_law,
    perlin,
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
    "masking",
    "nsa",
    "nsa_law",
    "perlin",
    "poisson",
    "quantiles",
    "random",
    "ranking",
    "similarity",
    "upsample",
]
