# SPDX-License-Identifier: Apache-2.0
"""What metrics refuse, and how they say it."""

from __future__ import annotations

import math
import re

import pytest
import torch

from ssad_kernels import (
    DefectScores,
    PixelScores,
    aupro,
    auroc,
    average_precision,
    count_above,
    f1_max,
    iou,
    spro,
)

ROW, TRUTH = torch.zeros(4), torch.zeros(4, dtype=torch.bool)
MAPS, MASKS = torch.zeros(2, 1, 4, 5), torch.zeros(2, 1, 4, 5, dtype=torch.bool)
DEFECTS, IMAGE, AREAS = MASKS[:1], torch.zeros(1, dtype=torch.int64), torch.ones(1)
FLOATS = "float16 or bfloat16 or float32 or float64"


def refused(function, message, *args, **options):
    with pytest.raises((TypeError, ValueError)) as caught:
        function(*args, **options)
    assert f"{caught.type.__name__} {caught.value}" == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [1]}, "TypeError scores must be a tensor, got list"),
        ({"scores": ROW.half()},
         "TypeError scores must have dtype float32 or float64, got float16"),
        ({"scores": ROW[None]}, "ValueError scores must have shape (N,), got (1, 4)"),
        ({"among": ROW.double()}, "TypeError among must have dtype float32, got float64"),
        ({"among": ROW.to("meta")}, "ValueError among must be on device cpu, got meta"),
        ({"ignored": ROW}, "TypeError ignored must have dtype bool, got float32"),
        ({"ignored": TRUTH[:3]}, "ValueError ignored must have shape (4,), got (3,)"),
        ({"ignored": 0}, "TypeError ignored must be a tensor, got int"),
        ({"most": 0}, "ValueError most must be at least 1, got 0"),
    ],
)  # fmt: skip
def test_counts(change, message):
    message = re.sub(r"Error (\w+) ", r"Error count_above: `\1` ", message, count=1)
    refused(count_above, message, **{"scores": ROW, "among": ROW, **change})


@pytest.mark.parametrize("metric", [auroc, average_precision, f1_max])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": 3}, "TypeError scores must be a tensor, got int"),
        ({"scores": ROW.int()}, f"TypeError scores must have dtype {FLOATS}, got int32"),
        ({"targets": ROW}, "TypeError targets must have dtype bool, got float32"),
        ({"targets": TRUTH[:2]}, "ValueError targets must have shape (4,), got (2,)"),
        ({"targets": TRUTH.to("meta")}, "ValueError targets must be on device cpu, got meta"),
    ],
)
def test_rankings(metric, change, message):
    message = re.sub(r"Error (\w+) ", rf"Error {metric.__name__}: `\1` ", message, count=1)
    refused(metric, message, **{"scores": ROW, "targets": TRUTH, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"maps": None}, "TypeError maps must be a tensor, got NoneType"),
        ({"maps": MAPS.long()}, f"TypeError maps must have dtype {FLOATS}, got int64"),
        ({"maps": MAPS[:, 0]}, "ValueError maps must have shape (N, 1, H, W), got (2, 4, 5)"),
        ({"masks": MAPS}, "TypeError masks must have dtype bool, got float32"),
        ({"masks": MASKS[:1]}, "ValueError masks must have shape (2, 1, 4, 5), got (1, 1, 4, 5)"),
    ],
)
def test_maps(change, message):
    arguments = {"maps": MAPS, "masks": MASKS, **change}
    for op, function in (
        ("aupro", aupro),
        ("iou", lambda maps, masks: iou(maps, masks, 0.5)),
        ("PixelScores.update", PixelScores().update),
    ):
        named = re.sub(r"Error (\w+) ", rf"Error {op}: `\1` ", message, count=1)
        refused(function, named, **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"defects": MAPS[:1]}, "TypeError defects must have dtype bool, got float32"),
        ({"defects": DEFECTS[..., 1:]},
         "ValueError defects must have shape (D, 1, 4, 5), got (1, 1, 4, 4)"),
        ({"image": IMAGE.int()}, "TypeError image must have dtype int64, got int32"),
        ({"image": IMAGE + 2},
         "ValueError image must be in 0...1, an image for each defect, got [2]"),
        ({"saturation": AREAS.int()}, f"TypeError saturation must have dtype {FLOATS}, got int32"),
        ({"saturation": ROW}, "ValueError saturation must have shape (1,), got (4,)"),
        ({"saturation": AREAS * 0}, "ValueError saturation must be > 0, got [0.0]"),
        ({"saturation": AREAS * math.nan}, "ValueError saturation must be > 0, got [nan]"),
        ({"limits": "0.3"}, "TypeError limits must be one or several numbers, got '0.3'"),
        ({"limits": None}, "TypeError limits must be one or several numbers, got None"),
        ({"limits": ()}, "ValueError limits must be in 0 < limit <= 1, one at least, got []"),
        ({"limits": (0.0,)},
         "ValueError limits must be in 0 < limit <= 1, one at least, got [0.0]"),
    ],
)  # fmt: skip
def test_defects(change, message):
    message = re.sub(r"Error (\w+) ", r"Error spro: `\1` ", message, count=1)
    given = {"maps": MAPS, "defects": DEFECTS, "image": IMAGE, "saturation": AREAS, **change}
    refused(spro, message, **given)


def test_collections():
    must = "must be added first, got none"
    refused(PixelScores().auroc, f"ValueError PixelScores.state: `maps` {must}")
    refused(DefectScores().spro, f"ValueError DefectScores.state: `maps` {must}")
    must = "ValueError PixelScores: `limit` must come with `pixels`, got 0.3 and None"
    refused(PixelScores, must, limit=0.3)
    must = "ValueError PixelScores: `limits` must be in 0 < limit <= 1, one at least, got [2.0]"
    refused(PixelScores, must, limit=2, pixels=10)
    must = "ValueError PixelScores: `pixels` must be at least 1, got 0"
    refused(PixelScores, must, limit=0.1, pixels=0)
    must = "ValueError PixelScores.merge: `other` must have limit None and pixels None"
    refused(PixelScores().merge, f"{must}, got 0.1 and 9", PixelScores(limit=0.1, pixels=9))
    must = "ValueError PixelScores.aupro: `limits` must be in 0 < limit <= 1, one at least"
    refused(PixelScores().aupro, f"{must}, got [1.5]", [1.5])
    scores = PixelScores()
    scores.update(MAPS, MASKS)
    limited, anomalous = PixelScores(limit=0.1, pixels=80), MASKS.clone()
    anomalous[0, 0, 0, :2] = True
    limited.update(anomalous * 1.0, anomalous)
    must = "`limit` must be None for any metric but AUPRO, got 0.1"
    refused(limited.f1_max, f"ValueError PixelScores.f1_max: {must}")
    kept = limited.aupro([0.1])
    must = "ValueError PixelScores: `pixels` must be an upper bound of the number of normal pixels"
    refused(
        limited.update, f"{must}, got 80 for 118", MAPS.repeat(2, 1, 1, 1), MASKS.repeat(2, 1, 1, 1)
    )
    assert kept.tolist() == limited.aupro([0.1]).tolist() == [1.0]
    must = "ValueError normal_quantile: `level` must be in 0 < level <= 1, got 0.0"
    refused(scores.normal_quantile, must, 0.0)
