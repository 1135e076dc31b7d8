# SPDX-License-Identifier: Apache-2.0
"""What other implementations give for the same maps: ``python benchmarks/compare_metrics.py``.

Prints a Markdown table: exact values, and by how much the others are off, for the maps as they are,
after two strictly increasing maps of the scores, and for maps with few levels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import conftest  # noqa: F401  # one thread for every library
from harness import optional
from metric_peers import adeval_values, hundred_thresholds, scene, sorted_in_torch
from ssad_kernels import aupro, auroc, average_precision

classification = optional("torchmetrics.functional.classification")

INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "s in 0...1": lambda s: s,
    "exp(10 s)": lambda s: torch.exp(10 * s.double()),
    "s + 20, float32": lambda s: s + 20,
    "16 levels": lambda s: (16 * s).round() / 16,
}
OTHERS: dict[str, Callable[[Tensor, Tensor], tuple[float | None, ...]]] = {
    "anomalib's AUPRO, rebuilt (sort)": lambda s, m: (None, None, sorted_in_torch(s, m)),
    "torchmetrics": lambda s, m: (
        float(classification.binary_auroc(s.flatten(), m.flatten().long())),
        float(classification.binary_average_precision(s.flatten(), m.flatten().long())),
        None,
    ),
    "ADEval, 1000 bins": lambda s, m: _adeval(s, m, 1000),
    "ADEval, 50 bins": lambda s, m: _adeval(s, m, 50),
    "100 quantiles as thresholds": lambda s, m: (None, None, hundred_thresholds(s, m)),
}


def _adeval(maps: Tensor, masks: Tensor, bins: int) -> tuple[float | None, ...]:
    found = adeval_values(maps, masks, bins)
    return found["auroc"], None, found["aupro"]


def main() -> None:
    """Print the table."""
    maps, masks = scene(24, 256)
    print("| scores | implementation | pixel AUROC | pixel AP | AUPRO 0.3 |\n| - | - | - | - | - |")
    for name, change in INPUTS.items():
        moved = change(maps)
        exact = [
            float(auroc(moved, masks)),
            float(average_precision(moved, masks)),
            float(aupro(moved, masks, [0.3])),
        ]
        print(f"| {name} | ours, exact |", " | ".join(f"{value:.5f}" for value in exact), "|")
        for other, compute in OTHERS.items():
            try:
                values = compute(moved, masks)
            except ImportError as error:
                print(f"| {name} | {other} | {error} | | |")
                continue
            cells = [
                "" if value is None else f"{value - right:+.5f}"
                for value, right in zip(values, exact, strict=True)
            ]
            print(f"| {name} | {other} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
