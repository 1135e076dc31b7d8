# SPDX-License-Identifier: Apache-2.0
"""NSA, FPI and PII: networks, views, a small training, the detector."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("torchvision")

import csv

from fake_data import make_mvtec

from ssad_kernels import make_keys
from ssad_models import model_file
from ssad_models.data.sources import find
from ssad_models.data.split import Source
from ssad_models.nsa.augment import Synthesis
from ssad_models.nsa.inference import NsaDetector
from ssad_models.nsa.loss import map_loss
from ssad_models.nsa.method import NsaMethod
from ssad_models.nsa.module import NsaModule
from ssad_models.nsa.network import DenseNet, Pixels, resnet18_body
from ssad_models.nsa.recipe import NsaRecipe
from ssad_models.nsa.wide_resnet import wide_resnet_body
from ssad_models.recipe import RecipeError, load_recipe
from ssad_models.run_files import CHECKPOINT, CURVES, MODEL
from ssad_models.training import train
from ssad_models.views import centre_crop, random_crop, random_flip, random_turn

OBJECTS = (
    *("bottle", "cable", "capsule", "hazelnut", "metal_nut"),
    *("pill", "screw", "toothbrush", "transistor", "zipper"),
)
TEXTURES = ("carpet", "grid", "leather", "tile", "wood")


def settings(name: str = "nsa-builtin", *overrides: str) -> NsaRecipe:
    found = load_recipe(name, overrides)
    assert isinstance(found, NsaRecipe)
    return found


def test_the_network_is_that_of_the_paper() -> None:
    body = resnet18_body()
    assert sum(p.numel() for p in body.parameters()) == 11_497_712
    network = DenseNet(Pixels("imagenet"), body).eval()
    with torch.no_grad():
        for side in (64, 128, 224, 256):
            images = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8)
            maps = network(images)
            assert maps.shape == (1, 1, side, side)
            assert 0 <= maps.min() <= maps.max() <= 1
            torch.testing.assert_close(network(images / 255), maps)
        grey = DenseNet(Pixels("none", 1), resnet18_body(1), "relu")
        assert grey(torch.rand(2, 1, 64, 96)).shape == (2, 1, 64, 96)
    with pytest.raises(ValueError, match="`final` must be one of sigmoid, relu, got 'tanh'"):
        DenseNet(Pixels("none"), body, "tanh")
    stem, deconvolution = (layer.weight.detach() for layer in (body[0], body[-1]))
    assert float(stem.std()) == pytest.approx(math.sqrt(2 / (64 * 49)), rel=0.05)  # fan-out
    assert deconvolution.abs().max() <= 1 / math.sqrt(49)  # torch's own, uniform


@pytest.mark.parametrize(("depth", "widest"), [(16, 256), (19, 256)])
def test_the_wide_network(depth: int, widest: int) -> None:
    body = wide_resnet_body(1, depth)
    assert body(torch.rand(1, 1, 64, 96)).shape == (1, 1, 64, 96)
    convolutions = [m for m in body.modules() if isinstance(m, torch.nn.Conv2d)]
    assert max(c.out_channels for c in convolutions) == widest
    assert all(c.bias is None for c in convolutions)
    assert wide_resnet_body(3, depth, outputs=5)(torch.rand(2, 3, 32, 32)).shape[1] == 5
    with pytest.raises(ValueError, match="`depth` must be one of 16, 19, got 18"):
        wide_resnet_body(1, 18)


def test_pixels() -> None:
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    own = Pixels("image")(images)
    torch.testing.assert_close(own.mean((1, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(own.std((1, 2, 3)), torch.ones(2), atol=1e-3, rtol=0)
    assert Pixels("image")(torch.zeros(1, 1, 4, 4)).abs().max() == 0
    assert torch.equal(Pixels("none")(images), images / 255)
    with pytest.raises(ValueError, match="of 1 channels must be image or none, got imagenet"):
        Pixels("imagenet", 1)


def test_views_follow_from_the_key() -> None:
    images = torch.randint(0, 256, (6, 3, 40, 40), dtype=torch.uint8)
    keys = make_keys(3, 0, torch.arange(6))
    turned = random_turn(images, keys, 5)
    assert torch.equal(turned[2:3], random_turn(images[2:3], keys[2:3], 5))
    assert torch.equal(random_turn(images, keys, 0), images)
    flipped = random_flip(images, keys)
    which = [torch.equal(f, i.flip(1)) for f, i in zip(flipped, images, strict=True)]
    assert 0 < sum(which) < 6
    assert all(torch.equal(flipped[i], images[i]) for i in range(6) if not which[i])
    assert torch.equal(centre_crop(images, 20), images[:, :, 10:30, 10:30])
    crops = random_crop(images, keys, 30)
    assert crops.shape == (6, 3, 30, 30)


def test_turning_is_nearest_and_about_the_centre() -> None:
    image = torch.zeros(400, 1, 65, 65)
    image[:, :, 32, 32] = 1
    image[:, :, 32, 52] = 2
    keys = make_keys(0, 0, torch.arange(400))
    turned = random_turn(image, keys, 30)
    assert (turned[:, 0, 32, 32] == 1).all()
    assert set(turned.unique().tolist()) == {0, 1, 2}
    found = [(t[0] == 2).nonzero().float().mean(0) - 32 for t in turned]
    angles = torch.tensor([math.degrees(math.atan2(-y, x)) for y, x in found])
    angles = angles[angles.isfinite()]  # where the nearest of no pixel was this one
    assert len(angles) > 300
    assert angles.abs().max() < 32
    assert abs(angles.mean()) < 3
    assert angles.std() == pytest.approx(30 / math.sqrt(3), rel=0.1)


@pytest.mark.parametrize("name", ["nsa", "fpi", "pii"])
@pytest.mark.parametrize("category", [*OBJECTS, *TEXTURES])
def test_every_category_of_the_paper(name: str, category: str) -> None:
    own = settings(name).for_category(category)
    assert own.for_category("anything") == own  # it is settled
    texture = category in TEXTURES
    assert own.size == (264 if texture else 256)
    assert (own.crop, own.margin) == ((256, None) if texture else (224, 230))
    assert own.plan(209).steps_per_epoch == 4
    if name == "nsa":
        assert own.gradient == ("mixed" if texture else "source")
        assert own.resize == ((0.5, 2.0) if texture else (0.7, 1.3))
    else:
        assert own.resize is None
        assert (own.shift, own.label) == (False, "factor")
        assert own.gradient == ("uniform" if name == "fpi" else "scaled")
    reference = settings(name, "compat=reference").for_category(category)
    assert (reference.loading_size, reference.size) == (264 if texture else 256, 256)


def test_the_table_of_the_paper() -> None:
    """Row by row what the authors' code has, checked by sums that a slip would change."""
    table = {c: settings("nsa").for_category(c) for c in (*OBJECTS, *TEXTURES)}
    images = {
        "bottle": 209,
        "cable": 224,
        "capsule": 219,
        "hazelnut": 391,
        "metal_nut": 220,
        "pill": 267,
        "screw": 320,
        "toothbrush": 60,
        "transistor": 213,
        "zipper": 240,
        "carpet": 280,
        "grid": 264,
        "leather": 245,
        "tile": 230,
        "wood": 247,
    }
    assert sum(own.plan(images[c]).steps for c, own in table.items()) == 24_320
    assert sum(own.epochs * images[c] for c, own in table.items()) == 1_384_720
    at_zero = {c: 1 / (1 + math.exp(own.steepness * own.midpoint)) for c, own in table.items()}
    for category, label in [
        *[("bottle", 0.119), ("capsule", 0.119), ("metal_nut", 0.088)],
        *[("screw", 0.047), ("toothbrush", 0.076)],
    ]:
        assert at_zero[category] == pytest.approx(label, abs=5e-4)
    assert sum(own.patches for own in table.values()) == 3 * 8 + 4 * 7
    assert {c for c, own in table.items() if own.rotation} == {
        *("bottle", "hazelnut", "metal_nut", "screw")
    }
    assert {c: own.background for c, own in table.items() if own.background} == {
        **dict.fromkeys(("bottle", "capsule", "screw", "zipper"), (200, 60)),
        **dict.fromkeys(("hazelnut", "metal_nut", "pill", "toothbrush"), (20, 20)),
    }
    chest = settings("nsa-cxr").for_category("male")
    assert chest.plan(1973).steps == 7440
    assert (chest.channels, chest.overlap, chest.offset) == (1, 0.7, 0.05)


def test_a_category_that_is_not_in_the_table() -> None:
    with pytest.raises(RecipeError, match=r"category 'brick'.*bottle.*ssadk calibrate.*--set"):
        settings("nsa").for_category("brick")
    own = settings("nsa", "any_category=true", "steepness=2").for_category("brick")
    assert (own.steepness, own.patches) == (2, 3)
    # What is set by hand holds for every category.
    assert settings("nsa", "epochs=7").for_category("hazelnut").epochs == 7


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("crop=100", "`crop` must be a multiple of 32, got 100"),
        ("crop=256", "`crop` must be at most `size` and `margin`, 128, got 256"),
        ("margin=200", "`margin` must be at most `size`, 128, got 200"),
        ("height=[0.4, 0.1]", "`height` must be two numbers [low, high] within 0 to 0.5"),
        ("height=0.3", "`height` must be two numbers [low, high] within 0 to 0.5"),
        ("resize=[a, 2]", "`resize` must be null or two numbers [low, high]"),
        ("background=black", "`background` must be null, otsu or [grey, tolerance]"),
        ("background=[300, 1]", "`background` must be null, otsu or [grey, tolerance]"),
        ("channels=1", "`normalize` must be image or none where `channels` is 1"),
        ("patch_size=square", "`label` must be factor where `patch_size` is square"),
        ("proxy=3way", "`proxy` is not a setting"),
        ("compat=opencv", "`compat` must be null or one of reference"),
    ],
)
def test_mistakes_are_named(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe("nsa-builtin", [override])
    assert message in str(raised.value)


def test_labels_choose_the_loss() -> None:
    assert settings("nsa-builtin", "label=intensity").final == "relu"
    four_of_five = settings("nsa-builtin", "label=intensity", "compat=reference")
    assert four_of_five.final == "sigmoid"
    network = DenseNet(Pixels("none"), torch.nn.Conv2d(3, 1, 1), "relu")
    images, labels = torch.rand(2, 3, 8, 8), torch.rand(2, 1, 8, 8) * 200
    maps = network(images)
    squared = (maps - labels).square().mean()
    torch.testing.assert_close(map_loss(network, images, labels, intensity=True), squared)
    p = network.logits(images).sigmoid()
    labels = labels / 200
    entropy = -(labels * p.log() + (1 - labels) * (1 - p).log()).mean()
    torch.testing.assert_close(map_loss(network, images, labels), entropy)


def test_the_rate_falls_from_epoch_to_epoch() -> None:
    module = NsaModule(DenseNet(Pixels("none"), torch.nn.Conv2d(3, 1, 1)), no_synthesis, epochs=4)
    module.steps_per_epoch = 3
    rates = [module.rate_at(step) for step in range(13)]
    assert rates[0] == rates[2] == 1e-3
    assert rates[3] == pytest.approx(1e-6 + 0.999e-3 * (1 + math.cos(math.pi / 4)) / 2)
    assert rates[12] == pytest.approx(1e-6)


def no_synthesis(images: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, ...]:
    raise NotImplementedError


def test_the_map_is_of_the_crop_in_the_middle() -> None:
    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(1, keepdim=True) + 1

    detector = NsaDetector(DenseNet(Pixels("none"), Mean(), "relu"), crop=32)
    images = torch.rand(2, 3, 41, 41)
    scores, heat = detector.score_and_heat(images)
    assert heat.shape == (2, 1, 41, 41)
    inside = images[:, :, 4:36, 4:36].mean(1, keepdim=True) + 1
    torch.testing.assert_close(heat[:, :, 4:36, 4:36], inside)
    assert heat.sum() == pytest.approx(float(inside.sum()))
    torch.testing.assert_close(scores, inside.mean((1, 2, 3)))
    assert torch.equal(scores, detector(images))


def test_batches() -> None:
    views = ("size=100", "margin=90", "crop=64", "flip=true", "rotation=5")
    synthesis = Synthesis(settings("nsa-builtin", *views))
    images = torch.randint(0, 256, (5, 3, 100, 100), dtype=torch.uint8)
    keys, before = make_keys(0, 1, torch.arange(5)), images.clone()
    inputs, labels = synthesis(images, keys)
    assert torch.equal(images, before)
    assert (inputs.shape, inputs.dtype) == ((5, 3, 64, 64), torch.uint8)
    assert (labels.shape, labels.dtype) == ((5, 1, 64, 64), torch.float32)
    assert 0 <= labels.min() < labels.max() <= 1
    again = synthesis(images, keys)
    assert all(torch.equal(a, b) for a, b in zip((inputs, labels), again, strict=True))
    assert not torch.equal(inputs, synthesis.plain(images, keys))


TINY = ("size=80", "crop=64", "margin=72", "batch=10", "epochs=3")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return find(make_mvtec(tmp_path_factory.mktemp("data"), ("nut",), train=44, test=3))[0]


class KilledError(Exception):
    pass


def losses(out: Path) -> list[float]:
    with (out / CURVES).open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file)]


def test_it_learns_and_goes_on_where_it_was_killed(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, whole, out = settings("nsa-builtin", *TINY), tmp_path / "whole", tmp_path / "out"
    train(recipe, source, whole, tensorboard=False)
    found = losses(whole)
    assert len(found) == 3 * 3  # of 24 images, the last 4 in a batch of their own
    assert sum(found[-3:]) < 0.9 * sum(found[:3])

    step = NsaModule.training_step

    def stopping(self: NsaModule, batch: Any, index: int) -> torch.Tensor:
        if self.step == 5 and self.first_step == 0:
            raise KilledError
        return step(self, batch, index)

    monkeypatch.setattr(NsaModule, "training_step", stopping)
    with pytest.raises(KilledError):
        train(recipe, source, out, save_seconds=0, tensorboard=False)
    assert torch.load(out / CHECKPOINT, weights_only=True)["step"] == 3
    train(recipe, source, out, tensorboard=False)
    one, other = (torch.load(path / MODEL, weights_only=True)["state"] for path in (whole, out))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert losses(out) == found

    model = model_file.load(out / MODEL)
    assert model.calibration is not None
    assert (model.size, model.recipe["method"]) == (80, "nsa")
    test = source.test(80, 3)
    assert test is not None
    prediction = model.predict(test.images)
    assert prediction.map is not None
    assert prediction.map.shape == (len(test), 1, 80, 80)
    assert (prediction.map[:, :, :8] == 0).all()
    assert (prediction.score > 0).all()


def test_trained_at_one_size_and_used_at_another(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What compat=reference does to textures; by default the second size is the first."""
    sizes: list[int] = []
    look = NsaDetector.look

    def looked(self: NsaDetector, images: torch.Tensor) -> torch.Tensor:
        sizes.append(images.shape[-1])
        return look(self, images)

    monkeypatch.setattr(NsaDetector, "look", looked)
    two = ("size=64", "train_size=72", "crop=64", "epochs=1")
    for compat, size in (("reference", 64), ("null", 72)):
        out = tmp_path / compat
        recipe = settings("nsa-builtin", *two, "batch=24", f"compat={compat}", "false_alarm=0.05")
        train(recipe, source, out, tensorboard=False)
        assert set(sizes) == {size}
        assert model_file.load(out / MODEL).size == size
        sizes.clear()


@pytest.mark.parametrize("name", ["fpi-wrn", "pii-wrn", "fpi", "pii", "nsa-cxr"])
def test_the_other_recipes_make_detectors(name: str) -> None:
    recipe = settings(name, "size=64", "crop=64", "margin=null", "train_size=null")
    recipe = recipe.for_category("bottle")
    method = NsaMethod()
    first, again, other = (method.module(recipe, seed).network for seed in (1, 1, 2))
    weights = [next(network.body.parameters()) for network in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    blank = method.blank(recipe)
    blank.load_state_dict(NsaDetector(first, recipe.crop).state_dict())
    images = torch.randint(0, 256, (2, recipe.channels, 64, 64), dtype=torch.uint8)
    inputs, labels = method.module(recipe, 0).synthesize(images, make_keys(0, 0, torch.arange(2)))
    assert inputs.shape == images.shape
    assert labels.shape == (2, 1, 64, 64)
    assert blank(images).shape == (2,)
