# SPDX-License-Identifier: Apache-2.0
"""``pytest benchmarks/bench_ranking.py``: exact metrics of maps and components, one thread each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from harness import Case, Error, Row, Target, optional, require, run, timer
from metric_peers import adeval, adeval_values, ndimage, scene, sorted_in_torch
from ssad_kernels import aupro, auroc, average_precision, connected_components

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "shared"))

from ranking_oracles import aupro as aupro_oracle

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

cv2, sklearn = optional("cv2"), optional("sklearn.metrics")
classification = optional("torchmetrics.functional.classification")
LIMITS = (0.3, 0.05, 0.01)
N, SIDE = 48, 512


def _case(
    op: str,
    ours: Callable[[], object],
    peer: str,
    theirs: Callable[[], object],
    error: Callable[[], Error] | None,
    target: Target | None = None,
) -> Case:
    return Case(op, f"{N}x1x{SIDE}x{SIDE}", "float32", N, ours, peer, theirs, error, target)


def _aupro_case(peer: str) -> Case:
    maps, masks = scene(N, SIDE)
    arrays = maps[:, 0].numpy(), masks[:, 0].numpy()
    peers: dict[str, tuple[Callable[[], float], float, str]] = {
        "global sort, NumPy": (lambda: aupro_oracle(*arrays, LIMITS)[0], 1e-9, ""),
        "anomalib's way, torch": (lambda: sorted_in_torch(maps, masks), 1e-9, "one limit"),
        "ADEval, 1000 bins": (lambda: adeval_values(maps, masks)["aupro"], 1.0, "one limit"),
    }
    theirs, tolerance, note = peers[peer]
    if "ADEval" in peer:
        require(adeval, "ADEval")

    def error() -> Error:
        found = aupro(maps, masks, LIMITS)
        if peer.startswith("global"):
            expected = torch.tensor(aupro_oracle(*arrays, LIMITS), dtype=torch.float64)
            stretched = aupro(torch.exp(10 * maps.double()), masks, LIMITS)
            assert torch.equal(stretched, found)
            return Error(float((found - expected).abs().max()), "AUPRO", tolerance, note)
        return Error(abs(float(found[0]) - theirs()), "AUPRO", tolerance, note)

    target = Target(15, "AUPRO is 15 times as fast") if "anomalib" in peer else None
    return _case("AUPRO", lambda: aupro(maps, masks, LIMITS), peer, theirs, error, target)


def _ranking_case(metric: str, peer: str) -> Case:
    maps, masks = scene(N, SIDE)
    ours = {"AUROC": auroc, "AP": average_precision}[metric]
    if peer == "scikit-learn":
        require(sklearn, peer)
        flat, truth = maps.numpy().ravel(), masks.numpy().ravel()
        of = {"AUROC": "roc_auc_score", "AP": "average_precision_score"}[metric]
        theirs, tolerance = (lambda: getattr(sklearn, of)(truth, flat)), 1e-9
    else:
        require(classification, peer)
        scores, targets = maps.flatten(), masks.flatten().long()
        of = {"AUROC": "binary_auroc", "AP": "binary_average_precision"}[metric]
        theirs, tolerance = (lambda: getattr(classification, of)(scores, targets)), 1e-3

    def error() -> Error:
        return Error(abs(float(ours(maps, masks)) - float(theirs())), metric, tolerance)

    return _case(f"pixel {metric}", lambda: ours(maps, masks), peer, theirs, error)


def _components_case(peer: str, *, is_whole: bool = False) -> Case:
    """Image by image, as the peers do, with all labels kept; or the whole batch at once."""
    _, masks = scene(N, SIDE)
    planes = masks[:, 0].numpy()
    parts = [masks] if is_whole else masks.split(1)
    if peer == "SciPy":
        require(ndimage, peer)
        touching = np.ones((3, 3))

        def label(plane: np.ndarray) -> tuple[np.ndarray, int]:
            labels, count = ndimage.label(plane, touching)
            return labels, int(count)
    else:
        require(cv2, "opencv-python-headless")

        def label(plane: np.ndarray) -> tuple[np.ndarray, int]:
            count, labels = cv2.connectedComponents(plane.view(np.uint8), connectivity=8)
            return labels, count - 1

    def error() -> Error:
        counts = [label(plane)[1] for plane in planes]
        wrong = connected_components(masks)[1] != torch.tensor(counts)
        return Error(float(wrong.sum()), "images", 0)

    return _case(
        f"connected components, {'whole batch' if is_whole else 'by image'}",
        lambda: [connected_components(part) for part in parts],
        peer,
        lambda: [label(plane) for plane in planes],
        error,
    )


_BUILDERS: dict[str, Callable[[], Case]] = {
    **{
        f"aupro-{peer}": partial(_aupro_case, peer)
        for peer in ("global sort, NumPy", "anomalib's way, torch", "ADEval, 1000 bins")
    },
    **{
        f"{metric}-{peer}": partial(_ranking_case, metric, peer)
        for metric in ("AUROC", "AP")
        for peer in ("scikit-learn", "torchmetrics")
    },
    **{f"components-{peer}": partial(_components_case, peer) for peer in ("SciPy", "OpenCV")},
    "components-OpenCV-batch": partial(_components_case, "OpenCV", is_whole=True),
}
ROWS = [Row(name, build) for name, build in _BUILDERS.items()]


@pytest.mark.benchmark(timer=timer)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_ranking(benchmark: BenchmarkFixture, row: Row) -> None:
    """Measure one row."""
    run(benchmark, row, rounds=5)
