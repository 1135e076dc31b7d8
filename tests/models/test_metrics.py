# SPDX-License-Identifier: Apache-2.0
"""Metric classes: batches, processes, checkpoints, and their use by anomalib."""

from __future__ import annotations

import copy
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("torchmetrics")

from torchmetrics import MetricCollection

import ssad_kernels
from ssad_kernels.testing import make_maps
from ssad_models import metrics

LIMITS = (0.3, 0.05)
N = 9


def pixel_metrics() -> dict[str, Any]:
    return {
        "auroc": metrics.PixelAUROC(),
        "ap": metrics.PixelAveragePrecision(),
        "f1": metrics.PixelF1Max(),
        "aupro": metrics.AUPRO(LIMITS),
        "iou": metrics.IoU(0.5),
        "iou_normal": metrics.IoU(quantile=0.99, per_image=True),
        "iou_max": metrics.IoUMax(),
    }


def expected(maps: Tensor, masks: Tensor) -> dict[str, Tensor]:
    scores = ssad_kernels.PixelScores()
    scores.update(maps, masks)
    return {
        "auroc": scores.auroc(),
        "ap": scores.average_precision(),
        "f1": scores.f1_max(),
        "aupro": scores.aupro(LIMITS),
        "iou": scores.iou(0.5).pooled,
        "iou_normal": scores.iou(scores.normal_quantile(0.99)).per_image,
        "iou_max": scores.iou_max(),
    }


def batches(size: int = 4) -> list[tuple[Tensor, Tensor]]:
    maps, masks = make_maps(N, 20, 26)
    return list(zip(maps.split(size), masks.split(size), strict=True))


def test_batches_give_what_the_whole_gives() -> None:
    collection = MetricCollection(pixel_metrics())
    for maps, masks in batches():
        collection.update(maps[:, 0], masks[:, 0].int())  # without the channel, as 0 and 1
    found = collection.compute()
    for name, value in expected(*make_maps(N, 20, 26)).items():
        assert torch.equal(found[name], value), name
    collection.reset()
    first = batches()[0]
    assert torch.equal(collection(*first)["aupro"], expected(*first)["aupro"])


def test_image_metrics() -> None:
    scores = torch.randn(30) * 9
    targets = torch.arange(30) % 3 == 0
    for ours, function in (
        (metrics.ImageAUROC(), ssad_kernels.auroc),
        (metrics.ImageAveragePrecision(), ssad_kernels.average_precision),
        (metrics.ImageF1Max(), ssad_kernels.f1_max),
    ):
        for some in torch.arange(30).split(7):
            ours.update(scores[some], targets[some].long())
        assert torch.equal(ours.compute(), function(scores, targets))


def test_image_metrics_keep_what_they_were_given() -> None:
    metric, scores, targets = metrics.ImageAUROC(), torch.arange(4.0), torch.arange(4) > 1
    metric.update(scores, targets)
    targets.logical_not_()
    assert metric.compute() == 1
    with pytest.raises(ValueError, match=r"ImageAUROC: `targets` must have shape \(4,\), got \(3,"):
        metric.update(scores, targets[:3])
    with pytest.raises(TypeError, match="ImageAUROC: `scores` must have dtype"):
        metric.update(scores.long(), targets)


def test_options_are_checked_at_once() -> None:
    with pytest.raises(ValueError, match="AUPRO: `limits` must be in 0 < limit <= 1"):
        metrics.AUPRO(2.0)
    with pytest.raises(ValueError, match="SPRO: `limits` must be in 0 < limit <= 1"):
        metrics.SPRO([0.5, 0.0])
    with pytest.raises(ValueError, match="IoU: `quantile` must be in 0 < quantile <= 1, got 7"):
        metrics.IoU(quantile=7)


def test_spro() -> None:
    maps, masks = make_maps(6, 20, 26)
    image = torch.arange(6)
    saturation = 0.5 * masks.flatten(1).sum(1) + 1
    metric = metrics.SPRO(LIMITS)
    for some in (slice(0, 4), slice(4, 6)):
        metric.update(maps[some], masks[some], image[: len(maps[some])], saturation[some])
    whole = ssad_kernels.spro(maps, masks, image, saturation, LIMITS)
    torch.testing.assert_close(metric.compute(), whole, rtol=0, atol=1e-14)
    assert metrics.SPRO().limits == 0.05


def test_one_limit_is_a_number() -> None:
    maps, masks = make_maps(N, 20, 26)
    value = metrics.AUPRO(0.05)(maps, masks)
    assert value.shape == ()
    assert value == ssad_kernels.aupro(maps, masks, [0.05])[0]


@pytest.mark.parametrize("name", pixel_metrics())
def test_copies_pickles_and_checkpoints(name: str) -> None:
    first, second, *_ = batches()
    metric = pixel_metrics()[name]
    metric.persistent(True)
    metric.update(*first)
    loaded = pixel_metrics()[name]
    loaded.persistent(True)
    loaded.load_state_dict(metric.state_dict())
    others = [copy.deepcopy(metric), pickle.loads(pickle.dumps(metric)), loaded]
    metric.update(*second)
    for other in others:
        other.update(*second)
        assert torch.equal(other.compute(), metric.compute())


Shares = list[list[tuple[Tensor, Tensor]]]
"""Batches of each process."""


def _worker(rank: int, folder: str, shares: Shares) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    collection = MetricCollection({**pixel_metrics(), "image": metrics.ImageAUROC()})
    found: Any = {}
    for maps, masks in shares[rank]:
        for name, metric in collection.items(keep_base=True):
            metric.update(*(_of_images(maps, masks) if name == "image" else (maps, masks)))
    try:
        found = {name: metric.compute() for name, metric in collection.items(keep_base=True)}
    except ValueError as error:
        found = str(error)
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def _of_images(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    return maps.amax((1, 2, 3)), masks.flatten(1).any(1)


def in_two_processes(folder: Path, shares: Shares) -> list[Any]:
    import multiprocessing

    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_worker, args=(i, str(folder), shares)) for i in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


needs_processes = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="torch has no processes"
)


@needs_processes
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("split", ["both", "first", "second"])
def test_two_processes_see_each_others_images(
    tmp_path: Path, split: str, dtype: torch.dtype
) -> None:
    some = [(maps.to(dtype), masks) for maps, masks in batches(2)]  # of 2 images and of 1
    shares: Shares = {
        "both": [some[0::2], some[1::2]],
        "first": [some, []],
        "second": [[], some],
    }[split]
    maps, masks = (torch.cat(column) for column in zip(*shares[0], *shares[1], strict=True))
    wanted = {**expected(maps, masks), "image": ssad_kernels.auroc(*_of_images(maps, masks))}
    for found in in_two_processes(tmp_path, shares):
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-14)


@needs_processes
@pytest.mark.filterwarnings("ignore")
def test_processes_with_unlike_scores(tmp_path: Path) -> None:
    first, second, *_ = batches(2)
    wide = second[0].double() + 1e-12
    wanted = expected(torch.cat([first[0].double(), wide]), torch.cat([first[1], second[1]]))
    for found in in_two_processes(tmp_path, [[first], [(wide, second[1])]]):
        torch.testing.assert_close(found["auroc"], wanted["auroc"], rtol=0, atol=1e-14)


@needs_processes
@pytest.mark.filterwarnings("ignore")
def test_processes_without_any_image(tmp_path: Path) -> None:
    for found in in_two_processes(tmp_path, [[], []]):
        assert "`update` must be called first, in one process at least, got no call" in found
    with pytest.raises(ValueError, match=r"^AUPRO: `update` must be"):
        metrics.AUPRO().compute()


class _StandIn:
    """What anomalib's mixin does: fields of a batch become arguments."""

    default_fields: tuple[str, ...]

    def __init__(self, fields: Any = None, prefix: str = "", **options: Any) -> None:
        self.fields = fields or self.default_fields
        self.name = prefix + type(self).__name__
        super().__init__(**options)

    def update(self, batch: Any) -> None:
        super().update(*(getattr(batch, field) for field in self.fields))  # type: ignore[misc]


NAMES = [
    "AUPRO", "ImageAUROC", "ImageAveragePrecision", "ImageF1Max", "IoU", "IoUMax", "PixelAUROC",
    "PixelAveragePrecision", "PixelF1Max",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_real", [False, True])
def test_in_anomalib(name: str, is_real: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if is_real:
        pytest.importorskip("anomalib.metrics")
    else:
        stand_in = types.ModuleType("anomalib.metrics")
        stand_in.AnomalibMetric = _StandIn  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "anomalib", types.ModuleType("anomalib"))
        monkeypatch.setitem(sys.modules, "anomalib.metrics", stand_in)
    monkeypatch.delitem(sys.modules, "ssad_models.integrations.anomalib_metrics", raising=False)
    from ssad_models.integrations import anomalib_metrics

    maps, masks = make_maps(N, 20, 26)
    batch = types.SimpleNamespace(
        anomaly_map=maps,
        gt_mask=masks[:, 0],
        pred_score=maps.amax((1, 2, 3)),
        gt_label=masks.flatten(1).any(1),
    )
    metric, plain = getattr(anomalib_metrics, name)(), getattr(metrics, name)()
    metric.update(batch)
    if name.startswith("Image"):
        plain.update(batch.pred_score, batch.gt_label)
    else:
        plain.update(maps, masks)
    assert metric.name == name
    assert torch.equal(metric.compute(), plain.compute())
    monkeypatch.delitem(sys.modules, "ssad_models.integrations.anomalib_metrics", raising=False)
