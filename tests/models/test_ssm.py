# SPDX-License-Identifier: Apache-2.0
"""SSM: network, losses, both ways to look at images, a small training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("lightning")
pytest.importorskip("torchvision")

from fake_data import make_mvtec
from training_steps import make_module

from ssad_kernels import cell_masks, gms_map, make_keys
from ssad_models import model_file
from ssad_models.data.sources import find
from ssad_models.data.split import Source
from ssad_models.overlay import overlay
from ssad_models.recipe import RecipeError, load_recipe
from ssad_models.run_files import MODEL
from ssad_models.ssm.augment import Synthesis
from ssad_models.ssm.inference import SsmDetector
from ssad_models.ssm.loss import Weights, restoration_loss
from ssad_models.ssm.method import SsmMethod
from ssad_models.ssm.network import ConditionalUNet
from ssad_models.ssm.recipe import SsmRecipe
from ssad_models.ssm.smoothing import smooth
from ssad_models.training import train

TINY = ("size=64", "network_width=0.1", "batch=4", "epochs=2", "cells=[4, 8]")


def settings(*overrides: str) -> SsmRecipe:
    found = load_recipe("ssm-oct", overrides)
    assert isinstance(found, SsmRecipe)
    return found


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_network_is_the_released_one() -> None:
    network = ConditionalUNet().eval()
    assert count(network) == 33_301_188
    assert count(network.attention) == 11_007_552
    with torch.no_grad():
        images, masks = network(torch.rand(2, 3, 48, 64), torch.ones(2, 1, 48, 64))
        assert (images.shape, masks.shape) == ((2, 3, 48, 64), (2, 1, 48, 64))
        assert -1 <= masks.min() <= masks.max() <= 1
        # There the pixels are repeated before the 1 x 1 convolution.
        up = network.up[0]
        x = torch.rand(1, 512, 3, 4)
        repeated = up.narrow(nn.functional.interpolate(x, scale_factor=2.0))
        ours = nn.functional.interpolate(up.narrow(x), scale_factor=2.0)
        torch.testing.assert_close(ours, repeated)


def test_masks_correct_what_is_visible() -> None:
    block = ConditionalUNet(1, 0.1).eval().attention[-1]
    x, masks = torch.rand(1, 8, 16, 16), torch.zeros(1, 1, 64, 64)
    masks[..., :32, :] = 1
    after = block(x, masks)
    assert torch.equal(after[:, :, 8:], x[:, :, 8:])
    assert (after[:, :, :8] != x[:, :, :8]).all()


@pytest.mark.parametrize("side", [64, 20])
def test_smoothing_is_scipys(side: int) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    maps = torch.rand(2, 1, side, side + 3, dtype=torch.float64)
    for rows_only, sigmas in ((False, (0, 0, 7, 7)), (True, (0, 0, 0, 7))):
        expected = torch.from_numpy(ndimage.gaussian_filter(maps.numpy(), sigmas))
        torch.testing.assert_close(smooth(maps, 7, rows_only=rows_only), expected)


def test_a_batch_hides_each_pixel_once() -> None:
    images = torch.randint(0, 256, (6, 3, 64, 64), dtype=torch.uint8)
    keys = make_keys(1, 0, torch.arange(6))
    same, masks = Synthesis(settings(*TINY))(images, keys)
    assert same is images
    assert masks.shape == (6, 3, 64, 64)
    assert ((~masks).sum(1) == 1).all()
    alone = Synthesis(settings(*TINY))(images[3:4], keys[3:4])[1]
    assert torch.equal(alone, masks[3:4])


def test_the_loss_adds_up() -> None:
    images, restored = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32, requires_grad=True)
    masks = torch.rand(2, 3, 32, 32).round()
    parts = [
        restoration_loss(images, restored, masks, masks / 2, Weights(*row))
        for row in torch.eye(4).tolist()
    ]
    torch.testing.assert_close(parts[0], (images - restored).square().mean())
    torch.testing.assert_close(parts[3], (masks / 2).square().mean() * 3)
    whole = restoration_loss(images, restored, masks, masks / 2, Weights(1, 1, 1, 0.5))
    torch.testing.assert_close(whole, parts[0] + parts[1] + parts[2] + 0.5 * parts[3])
    whole.backward()
    assert restored.grad is not None
    assert restored.grad.isfinite().all()
    perfect = restoration_loss(images, images, masks, masks, Weights())
    assert float(perfect) == pytest.approx(0, abs=1e-5)


def test_the_learning_rate_falls_in_steps() -> None:
    module = make_module(settings("lr=1"))
    module.steps_per_epoch = 3
    epochs = (0, 14, 15, 29, 30, 44, 45, 49)
    rates = [module.rate_at(3 * epoch + 2) for epoch in epochs]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("size=100", "`size` must be a multiple of 16, got 100"),
        ("cells=[4, 65]", "`cells` must be at most half of `size`, 64, got 65"),
        ("cells=[]", "`cells` must be a list of sides of cells in pixels"),
        ("inference=fast", "`inference` must be one of released, progressive"),
    ],
)
def test_settings_that_cannot_be(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        settings(override)


class Perfect(SsmDetector):
    """Restores what it cannot see."""

    def _restore(self, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        return images


class Blind(SsmDetector):
    """Sees nothing."""

    def _restore(self, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        return torch.where(masks.all(1, keepdim=True), images, torch.zeros(()))


def noise(n: int, side: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.rand(n, 3, side, side, generator=generator)


def test_what_is_restored_perfectly_has_the_lowest_score() -> None:
    detector = Perfect(ConditionalUNet(3, 0.1), settings())
    heat, distance = detector.released(noise(2, 128))
    lowest = -0.75 * sum((cell / 128) ** 2 for cell in (2, 4, 8))
    assert lowest == pytest.approx(-0.003845, abs=1e-6)
    torch.testing.assert_close(heat, torch.full((2, 1, 128, 128), lowest))
    assert distance.tolist() == [0, 0]
    heat = detector.score_and_heat(noise(2, 128))[1]
    torch.testing.assert_close(heat, torch.zeros_like(heat))  # as users see it


def test_heat_can_be_seen() -> None:
    """Overlays colour what is above 0."""
    detector = Blind(ConditionalUNet(3, 0.1), settings(*TINY))
    images = (noise(2) * 255).to(torch.uint8)
    _, heat = detector.score_and_heat(images)
    assert (heat > 0).all()
    shown = overlay(images[0], heat[0])
    assert (shown != images[0]).float().mean() > 0.5


@torch.no_grad()
def one_by_one(detector: SsmDetector, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The released loop: each mask by itself. The heat map (S, S), and the squared errors."""
    side, cells = image.shape[-1], detector.recipe.cells
    normal = torch.zeros(side, side, dtype=torch.bool)
    for number in range(2):
        score, error = torch.zeros(side, side), torch.zeros(())
        for cell in cells:
            masks = cell_masks(make_keys(8 + number, 0, 0), side, cell, parts=3)[0]
            restored = torch.zeros_like(image)
            for mask in masks:
                visible = (mask | normal).float()
                output, _ = detector.network((image * visible)[None], visible[None, None])
                restored += output[0] * (1 - visible)
            restored = torch.where(restored == 0, image, restored)
            similar = gms_map(restored[None], image[None], scales=4)[0, 0]
            score += (1 - 4 * similar) / 4 / (side // cell) ** 2
            error += (restored - image).square().mean()
        score = smooth(score[None, None], 7)[0, 0]
        if number == 0:
            low = (255 * score < -0.96).float()
            blocks = low.view(side // 8, 8, side // 8, 8).mean((1, 3)) > 0.8
            normal = blocks.repeat_interleave(8, 0).repeat_interleave(8, 1)
    return score, error


def test_batches_are_what_single_passes_are() -> None:
    torch.manual_seed(0)
    detector = SsmDetector(ConditionalUNet(3, 0.1), settings())
    images = noise(2, 128)
    images[1] = 0.5  # which it restores well enough to uncover some of it
    heat, distance = detector.released(images)
    for i, image in enumerate(images):
        score, error = one_by_one(detector, image)
        torch.testing.assert_close(heat[i, 0], score, atol=1e-4 * 0.0038, rtol=1e-4)
        torch.testing.assert_close(distance[i], error, atol=1e-5, rtol=1e-4)


def test_smoothing_as_released() -> None:
    torch.manual_seed(0)
    network = ConditionalUNet(3, 0.1)
    ours = SsmDetector(network, settings(*TINY)).released(noise(2))
    theirs = SsmDetector(network, settings(*TINY, "compat=reference")).released(noise(2))
    vertical = [each[0].diff(dim=2).abs().mean() for each in (ours, theirs)]
    assert vertical[1] > 2 * vertical[0]  # one direction stays rough


def test_cells_that_look_normal_are_uncovered() -> None:
    recipe = settings(*TINY, "inference=progressive")
    perfect = Perfect(ConditionalUNet(3, 0.1), recipe)
    perfect.tau.fill_(0.01)
    heat, rounds = perfect.progressive(noise(2))
    assert rounds.eq(1).all()  # then nothing is hidden
    assert heat.eq(0).all()
    assert rounds.shape == (2, 4)
    blind = Blind(ConditionalUNet(3, 0.1), recipe)
    blind.tau.fill_(1e-6)
    heat, rounds = blind.progressive(noise(2))
    assert rounds.eq(1).all()  # then nothing changes
    assert heat.gt(0).all()


def test_images_stop_by_themselves() -> None:
    torch.manual_seed(0)
    recipe = settings(*TINY, "inference=progressive", "passes=3")
    detector = SsmDetector(ConditionalUNet(3, 0.1), recipe)
    images = noise(6)
    detector.learn_normal(images[:4], 2)
    assert (detector.tau > 0).all()
    with torch.no_grad():
        maps, rounds = detector.progressive(images)
        assert 1 <= rounds.min() <= rounds.max() <= 3
        for i in range(6):
            alone = detector.progressive(images[i : i + 1])
            torch.testing.assert_close(alone[0][0], maps[i], atol=1e-5, rtol=1e-4)
            assert torch.equal(alone[1][0], rounds[i])
        scores, heat = detector.score_and_heat((images * 255).to(torch.uint8))
    assert torch.equal(scores, heat.amax((1, 2, 3)))


def test_scores_are_scaled_by_normal_images() -> None:
    torch.manual_seed(0)
    detector = SsmDetector(ConditionalUNet(3, 0.1), settings(*TINY))
    images = noise(5)
    detector.learn_normal(images, 2)
    with torch.no_grad():
        heat, distance = detector.released(images)
    parts = [
        (each - each.min()) / (each.max() - each.min()) for each in (heat.amax((1, 2, 3)), distance)
    ]
    torch.testing.assert_close(detector(images), parts[0] + parts[1], atol=1e-3, rtol=1e-3)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return find(make_mvtec(tmp_path_factory.mktemp("data"), ("nut",), train=44))[0]


@pytest.mark.parametrize("inference", ["released", "progressive"])
def test_a_training_leaves_a_detector(inference: str, source: Source, tmp_path: Path) -> None:
    recipe = settings(*TINY, f"inference={inference}")
    progressive = "" if inference == "released" else " progressive"
    assert recipe.title == f"ssm{progressive}, width 0.1"
    model = model_file.load(train(recipe, source, tmp_path, tensorboard=False))
    assert model.calibration is not None
    test = source.test(64, 3)
    assert test is not None
    prediction = model.predict(test.images)
    assert prediction.map is not None
    assert prediction.map.shape == (len(test), 1, 64, 64)
    assert prediction.score.isfinite().all()
    assert (tmp_path / MODEL).exists()


def test_previews_show_what_is_hidden() -> None:
    recipe = settings(*TINY)
    shown = SsmMethod().previews(recipe).augments["CellMasking"]
    images = torch.full((2, 3, 64, 64), 9, dtype=torch.uint8)
    hidden, masks, *_ = shown(images, make_keys(0, 0, torch.arange(2)))
    assert torch.equal(hidden, images * ~masks)
    assert 0.3 < float(masks.float().mean()) < 0.4
