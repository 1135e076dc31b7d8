# SPDX-License-Identifier: Apache-2.0
"""AnoSeg: networks, losses, batches, a small training, the detector, runs that are killed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("torchvision")

import training_child
from fake_data import make_mvtec
from training_steps import make_module

from ssad_kernels import make_keys
from ssad_models import model_file
from ssad_models.anoseg.augment import Synthesis
from ssad_models.anoseg.inference import AnosegDetector
from ssad_models.anoseg.loss import judged, reconstruction_loss, segmentation_loss
from ssad_models.anoseg.method import AnosegMethod
from ssad_models.anoseg.network import AnosegNet, Discriminator, Restorer, coordinates
from ssad_models.anoseg.recipe import AnosegRecipe
from ssad_models.data.sources import find
from ssad_models.data.split import Source
from ssad_models.export import export
from ssad_models.recipe import RecipeError, load_recipe
from ssad_models.run_files import CHECKPOINT, MODEL
from ssad_models.training import train


def settings(*overrides: str) -> AnosegRecipe:
    found = load_recipe("anoseg", overrides)
    assert isinstance(found, AnosegRecipe)
    return found


TINY = ("size=64", "network_width=0.05", "batch=4", "epochs=2", "detector_epochs=2")


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_networks_are_those_of_the_paper() -> None:
    network, judge = AnosegNet().eval(), Discriminator(256).eval()
    assert count(network.encoder) == 11_182_784  # ResNet-18 with two more channels
    assert count(network.image) == 10_313_859
    assert count(network.map) == 10_311_553
    assert count(judge) == 12_200_001
    convolutions = [
        layer
        for layer in network.map
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.ConvTranspose2d))
    ]
    widths = [512, 512, 256, 256, 128, 128, 128, 128, 128, 128, 128, 1]
    assert [layer.out_channels for layer in convolutions] == widths
    with torch.no_grad():
        images = torch.rand(1, 3, 256, 256)
        assert network.features(images).shape == (1, 512, 8, 8)
        found, maps = network(images)
        assert (found.shape, maps.shape) == ((1, 3, 256, 256), (1, 1, 256, 256))
        assert 0 <= maps.min() <= maps.max() <= 1
        logits, features = judge(found, maps)
        assert (logits.shape, features.shape) == ((1,), (1, 512))
        assert Restorer()(images, maps).shape == images.shape


@pytest.mark.parametrize("size", [64, 128, 512])
def test_the_discriminator_of_other_sizes(size: int) -> None:
    judge = Discriminator(size, 1, 0.05)
    logits, features = judge(torch.rand(2, 1, size, size), torch.rand(2, 1, size, size))
    assert logits.shape == (2,)
    assert features.shape == (2, 4 * 8)
    with pytest.raises(ValueError, match="`size` must be a power of two from 64 on, got 96"):
        Discriminator(96)


def test_coordinates() -> None:
    planes = coordinates(torch.zeros(2, 3, 5, 3))
    assert planes.shape == (2, 2, 5, 3)
    assert planes[1, 0, :, 2].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert planes[1, 1, 4].tolist() == [-1, 0, 1]


def test_losses() -> None:
    images, found = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    maps = torch.ones(2, 1, 4, 4)
    maps[1, :, :2] = 0
    found[1, :, :2] = 1  # where it does not matter
    assert reconstruction_loss(found, images, maps) == 0
    found[1, :, 2:] = 0.3  # a third of the normal pixels
    assert float(reconstruction_loss(found, images, maps)) == pytest.approx(0.1)
    assert float(segmentation_loss(1 - maps, maps, "l1")) == 1
    assert float(segmentation_loss(torch.ones_like(maps), maps, "l1")) == 0.25
    shares = torch.rand(maps.shape, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.binary_cross_entropy(shares, maps)
    assert float(segmentation_loss(shares, maps, "bce")) == pytest.approx(float(expected))
    assert segmentation_loss(1 - maps, maps, "bce").isfinite()
    sure = torch.tensor([20.0, 20.0])
    assert float(judged(sure, True)) < 1e-6
    assert float(judged(sure, False)) == pytest.approx(20)
    assert float(judged(sure[:0], True)) == 0


def test_half_of_a_batch_is_normal() -> None:
    recipe = settings(*TINY)
    images = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8)
    keys = make_keys(0, 0, torch.arange(5))
    inputs, maps = Synthesis(recipe)(images.clone(), keys)
    assert maps.dtype == torch.bool
    assert torch.equal(inputs[:2], images[:2])
    assert maps[:2].all()
    assert (~maps[2:]).flatten(1).any(1).all()
    changed = (inputs != images).any(1, keepdim=True)
    assert not (changed & maps).any()  # a map is 1 where nothing was pasted
    share = (~maps[2:]).float().mean((1, 2, 3))
    assert 0.01 < share.min() <= share.max() < 0.16


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("size=96", "`size` must be a power of two from 64 on, got 96"),
        ("batch=1", "`batch` must be at least 2"),
        ("precision=16-mixed", "`precision` must be 32-true or bf16-mixed"),
        ("area=[0.2, 0.1]", r"`area` must be two numbers \[low, high\] within 0 to 1"),
        ("jitter=[1, 1]", "`jitter` must be four numbers, of brightness"),
    ],
)
def test_settings_that_cannot_be(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        settings(override)


def test_each_loss_moves_its_own_network() -> None:
    """A generator's gradient passes through its discriminator and leaves nothing there."""
    for step, names in ((0, ("judge", "network")), (4, ("critic", "restorer"))):
        module = make_module(settings(*TINY))
        module.steps_per_epoch, module.first_step = 2, step
        images, maps = torch.rand(4, 3, 64, 64), torch.ones(4, 1, 64, 64)
        for name, loss in module.losses(images, maps):
            module.zero_grad()
            loss.backward()
            learning = {n.split(".")[0] for n, p in module.named_parameters() if p.grad is not None}
            assert learning == {name}
            assert name in names
        assert all(p.requires_grad for p in module.parameters())


def test_the_learning_rate_of_both_trainings() -> None:
    module = make_module(settings("epochs=4", "detector_epochs=2", "lr=1"))
    module.steps_per_epoch = 2
    rates = [module.rate_at(step) for step in range(12)]
    assert rates == [1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 1, 1, 1, 0.5]
    assert [module.is_detecting(step) for step in (7, 8)] == [False, True]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return find(make_mvtec(tmp_path_factory.mktemp("data"), ("nut",), train=12))[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, source: Source) -> Path:
    out = tmp_path_factory.mktemp("finished")
    train(settings(*TINY, "ema=0.5", "clip=1"), source, out, save_seconds=0, tensorboard=False)
    return out


def test_a_training_leaves_a_detector(finished: Path, source: Source) -> None:
    model = model_file.load(finished / MODEL)
    assert isinstance(model.detector, AnosegDetector)
    test = source.test(64, 3)
    assert test is not None
    prediction = model.predict(test.images)
    assert prediction.map is not None
    assert prediction.map.shape == (len(test), 1, 64, 64)
    assert 0 <= prediction.map.min() <= prediction.map.max() <= 1
    assert (prediction.score > 0).all()
    torch.testing.assert_close(model.detector(test.images[:2] / 255), prediction.score[:2])
    # The average of the weights is what is used.
    state = torch.load(finished / CHECKPOINT, weights_only=True)["state_dict"]
    name = "image.0.weight"
    used = model.detector.network.state_dict()[name]
    assert torch.equal(used, state[f"averages.network.module.{name}"])
    assert not torch.equal(used, state[f"network.{name}"])


def test_the_score_of_the_detector() -> None:
    recipe = settings(*TINY, "alpha=2", "beta=3")
    detector = AnosegMethod().blank(recipe)
    assert detector.restorer is not None
    assert detector.critic is not None
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        maps = detector.network(images)[1]
        restored = detector.restorer(images, maps)
        wanted = detector.critic(images, torch.ones(2, 1, 64, 64))[1]
        found = detector.critic(restored, maps)[1]
        expected = 2 * ((found - wanted) ** 2).mean(1) + 3 * ((restored - images) ** 2).mean(
            (1, 2, 3)
        )
    scores, heat = detector.score_and_heat(images)
    torch.testing.assert_close(scores, expected)
    torch.testing.assert_close(heat, 1 - maps)
    alone = AnosegMethod().blank(settings(*TINY[:-1], "detector_epochs=0"))
    scores, heat = alone.score_and_heat(images)
    torch.testing.assert_close(scores, heat.mean((1, 2, 3)))


def test_a_detector_is_exported(finished: Path, tmp_path: Path) -> None:
    model = model_file.load(finished / MODEL)
    assert export(model, tmp_path / "model.pt2")["torch.export"] < 1e-4


def test_killed_and_resumed(finished: Path, source: Source, tmp_path: Path) -> None:
    """Both optimisers, averages and both trainings go on as if nothing had happened."""
    chance, kills, out = random.Random(1), 0, tmp_path / "out"
    while not (out / MODEL).exists():
        process = training_child.start(settings(*TINY, "ema=0.5", "clip=1"), source, out)
        before = (out / CHECKPOINT).stat().st_mtime_ns if (out / CHECKPOINT).exists() else 0
        while process.is_alive() and kills < 4:
            changed = (out / CHECKPOINT).exists() and (
                (out / CHECKPOINT).stat().st_mtime_ns != before
            )
            if changed:  # another epoch is done, and the next one begun
                process.join(chance.uniform(0, 0.2))
                process.kill()
                kills += 1
                break
            process.join(0.02)
        process.join()
    assert kills >= 2
    ours, theirs = (torch.load(path / MODEL, weights_only=True) for path in (out, finished))
    assert ours["state"].keys() == theirs["state"].keys()
    for name, tensor in ours["state"].items():
        assert torch.equal(tensor, theirs["state"][name]), name
