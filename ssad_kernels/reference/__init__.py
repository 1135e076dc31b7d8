# SPDX-License-Identifier: Apache-2.0
"""Readable, pure torch implementations: what the kernels are tested against, and the fallback."""

from ssad_kernels.reference import blending, cutpaste, labels, poisson, random

__all__ = ["blending", "cutpaste", "labels", "poisson", "random"]
