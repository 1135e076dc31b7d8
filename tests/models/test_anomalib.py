# SPDX-License-Identifier: Apache-2.0
"""Augmentations in anomalib's place for synthetic anomalies, with and without anomalib."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("torchvision")

from fake_data import make_mvtec
from torchvision import tv_tensors
from torchvision.transforms import v2

from ssad_kernels import PixelScores
from ssad_kernels.testing import make_images
from ssad_kernels.transforms import Confetti, Cutout, CutPaste, CutPaste3Way, Scar
from ssad_models.integrations.anomalib import AnomalyGenerator


class Labels(nn.Module):
    """An augmentation with graded labels, and a status."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        label = images[..., :1, :, :] * 0
        label[..., :4, :] = 0.1
        label[..., :2, :] = 0.9
        return images + 1, label, torch.zeros(len(images), dtype=torch.int8)


@pytest.mark.parametrize("augmentation", [CutPaste(), Cutout(), Confetti(), Scar()], ids=repr)
@pytest.mark.parametrize("shape", [(3, 32, 40), (4, 3, 32, 40), (1, 3, 32, 40), (0, 3, 32, 40)])
def test_shapes_and_types(augmentation: nn.Module, shape: tuple[int, ...]) -> None:
    generator = AnomalyGenerator(augmentation)
    assert isinstance(generator, v2.Transform)
    images = torch.rand(shape)
    before = images.clone()
    augmented, masks = generator(images)
    assert torch.equal(images, before)
    assert type(augmented) is type(masks) is Tensor
    assert augmented.shape == images.shape
    assert masks.shape == (*shape[:-3], 1, 32, 40)
    assert augmented.dtype == masks.dtype == torch.float32
    assert ((masks == 0) | (masks == 1)).all()
    outside = (masks == 0).expand_as(images)
    assert torch.equal(augmented[outside], images[outside])
    if images.numel():
        assert masks.any()


def test_labels_become_masks() -> None:
    images = torch.rand(2, 3, 8, 8)
    for threshold, rows in ((0.0, 4), (0.5, 2)):
        augmented, masks = AnomalyGenerator(Labels(), threshold)(images)
        assert torch.equal(augmented, images + 1)
        assert masks.sum((1, 2, 3)).tolist() == [8 * rows] * 2


def test_draws_follow_the_seed_and_the_share() -> None:
    images = torch.rand(200, 3, 16, 16)
    generator = AnomalyGenerator(CutPaste(p=0.5))
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(generator(images))
    assert torch.equal(found[0][0], found[1][0])
    assert not torch.equal(found[0][0], found[2][0])
    changed = found[0][1].flatten(1).any(1)
    assert 70 < changed.sum() < 130
    assert torch.equal(found[0][0][~changed], images[~changed])


def test_images_that_require_a_gradient_and_other_kinds() -> None:
    generator = AnomalyGenerator(CutPaste())
    augmented, masks = generator(tv_tensors.Image(torch.rand(2, 3, 16, 16)))
    assert type(augmented) is type(masks) is Tensor
    augmented, _ = generator(torch.rand(2, 3, 16, 16, requires_grad=True))
    assert not augmented.requires_grad
    assert generator(torch.rand(3, 16, 16).half())[1].dtype == torch.float16


@pytest.mark.parametrize(
    ("augmentation", "images", "error", "text"),
    [
        (lambda x: x, None, TypeError, "`augmentation` must be a module, got function"),
        (
            CutPaste(),
            make_images(2, 3, 16, 16),
            TypeError,
            "`images` must be a tensor of floats in 0...1, got torch.uint8",
        ),
        (CutPaste(), [1.0], TypeError, "`images` must be a tensor of floats in 0...1, got list"),
        (
            CutPaste3Way(),
            torch.rand(2, 3, 16, 16),
            ValueError,
            "`augmentation` must give each image back with one mask, (2, 3, 16, 16) and "
            "(2, 1, 16, 16), got (6, 3, 16, 16) and (6,)",
        ),
    ],
)
def test_errors_say_what_is_wrong(
    augmentation: Any, images: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=f"^AnomalyGenerator: {re.escape(text)}$"):
        AnomalyGenerator(augmentation)(images)


def _draem(folder: Path) -> Any:
    models = pytest.importorskip("anomalib.models")
    textures = folder / "dtd"  # empty, but there: nothing is downloaded
    textures.mkdir()
    return models.Draem(dtd_dir=textures, evaluator=False, visualizer=False)


# anomalib's own dependencies warn of each other.
@pytest.mark.filterwarnings("ignore")
def test_it_gives_what_the_generator_of_anomalib_gives() -> None:
    generators = pytest.importorskip("anomalib.data.utils.generators")
    theirs = generators.PerlinAnomalyGenerator(probability=1.0)
    ours = AnomalyGenerator(CutPaste())
    for shape in ((3, 64, 64), (2, 3, 64, 64)):
        images = torch.rand(shape)
        for got, want in zip(ours(images), theirs(images), strict=True):
            assert type(got) is type(want)
            assert got.shape == want.shape
            assert got.dtype == want.dtype
            assert got.device == want.device


@pytest.mark.filterwarnings("ignore")
def test_draem_trains_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pytest.importorskip("anomalib.data")
    draem = _draem(tmp_path)
    draem.augmenter = AnomalyGenerator(CutPaste())
    monkeypatch.setattr(draem, "log", lambda *_, **__: None)
    seen = []
    draem.loss.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    batch = data.ImageBatch(image=torch.rand(2, 3, 64, 64))
    loss = draem.training_step(batch)["loss"]
    loss.backward()
    assert loss.isfinite()
    images, _, masks, _ = seen[0]
    assert torch.equal(images, batch.image)
    assert masks.shape == (2, 1, 64, 64)
    assert masks.flatten(1).any(1).all()
    assert all(p.grad is not None for p in draem.model.parameters() if p.requires_grad)


@pytest.mark.filterwarnings("ignore")
def test_an_evaluator_has_the_metrics_of_the_maps_of_a_detector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = pytest.importorskip("anomalib.models")
    from anomalib.data import MVTecAD
    from anomalib.engine import Engine
    from anomalib.metrics import Evaluator

    from ssad_models.integrations.anomalib_metrics import AUPRO, ImageAUROC, IoUMax, PixelAUROC

    batches = []

    class Recorder(PixelAUROC):
        def update(self, batch: Any) -> None:
            batches.append((batch.anomaly_map, batch.gt_mask))
            super().update(batch)

    root = make_mvtec(tmp_path / "data", ["bottle"], train=8)
    evaluator = Evaluator(
        test_metrics=[Recorder(), AUPRO(limits=0.05, prefix="low_"), IoUMax(), ImageAUROC()]
    )
    model = models.Padim(
        backbone="resnet18",
        layers=["layer1"],
        pre_trained=False,
        n_features=20,
        post_processor=False,
        evaluator=evaluator,
        visualizer=False,
    )
    data = MVTecAD(root, "bottle", train_batch_size=4, eval_batch_size=5, num_workers=0)
    engine = Engine(accelerator="cpu", default_root_dir=tmp_path, logger=False)
    engine.fit(model, data)
    batches.clear()
    [found] = engine.test(model, data)
    scores = PixelScores()
    for maps, masks in batches:
        scores.update(maps.reshape(-1, 1, *maps.shape[-2:]), masks[:, None].bool())
    expected = {
        "Recorder": scores.auroc(),
        "low_AUPRO": scores.aupro([0.05])[0],
        "IoUMax": scores.iou_max(),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value), abs=1e-6), name
    assert 0 <= found["ImageAUROC"] <= 1
    assert max(float(maps.max()) for maps, _ in batches) > 1  # nothing was clamped
