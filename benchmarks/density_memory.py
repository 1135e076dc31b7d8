# SPDX-License-Identifier: Apache-2.0
"""Prints the peak memory of fitting one Gaussian per location, and of scoring.

``python benchmarks/density_memory.py [LOCATIONS]``; by default 57 x 57 locations of 512 features,
200 images: the patch detector of CutPaste, in 5 GB.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import torch

from ssad_kernels import gaussian_fit, gaussian_score

IMAGES, WIDTH = 200, 512


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(locations: int) -> dict[str, float]:
    """MiB of the features, the fit, and the peak over what the process had before either."""
    small = torch.rand(4, 2, WIDTH)
    gaussian_score(small, gaussian_fit(small))  # loads what is loaded once
    before = _resident()
    features = torch.empty(IMAGES, locations, WIDTH)
    generator = torch.Generator().manual_seed(0)
    for image in features:
        image.normal_(generator=generator).relu_()
    fit = gaussian_fit(features)
    fitted = _peak() - before
    gaussian_score(features[:1], fit)
    scored = _peak() - before
    held = features.nbytes + sum(tensor.nbytes for tensor in fit)
    sizes = {"features": features.nbytes, "fit": held - features.nbytes}
    sizes |= {"peak of fitting": fitted, "peak of scoring": scored}
    return {name: size / 2**20 for name, size in sizes.items()} | {"peak / held": scored / held}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 57 * 57), indent=2))
