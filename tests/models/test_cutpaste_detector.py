# SPDX-License-Identifier: Apache-2.0
"""The CutPaste network, its proxy tasks, its training and its scores."""

from __future__ import annotations

import itertools
import pickle

import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("torchvision")

from torch.utils.data import DataLoader, TensorDataset

from ssad_kernels import gaussian_fit, gaussian_score, make_keys
from ssad_models.cutpaste import inference
from ssad_models.cutpaste.augment import Synthesis, random_crop
from ssad_models.cutpaste.method import CutPasteMethod
from ssad_models.cutpaste.module import CutPasteModule, HeadModule, OnDeviceModule, feature_bank
from ssad_models.cutpaste.network import CutPasteNet, projection_head
from ssad_models.cutpaste.recipe import PROXIES, Stage
from ssad_models.recipe import RecipeError, load_recipe
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


@pytest.mark.parametrize("proxy", PROXIES)
def test_proxy_tasks(proxy: str) -> None:
    tiles, keys = images(8), make_keys(1, 2, torch.arange(8))
    synthesize = Synthesis(proxy, shift=0.0)
    inputs, labels = synthesize(tiles.clone(), keys)
    turns = {"3way": 3, "rotation": 4}.get(proxy, 2)
    assert inputs.shape == (8 * turns, 1, 64, 64)
    assert torch.equal(inputs[:8], tiles)
    assert sorted(set(labels.tolist())) == list(range(synthesize.classes))
    assert (labels[:8] == 0).all()
    assert (labels[8:] > 0).all()
    changed = (inputs != tiles.repeat(turns, 1, 1, 1)).flatten(1).any(1)
    assert torch.equal(changed, labels > 0)
    # Workers may be told what to make by pickle, and a batch does not depend on its company.
    again = pickle.loads(pickle.dumps(synthesize))(tiles[3:5].clone(), keys[3:5])
    assert torch.equal(again[0], inputs.view(turns, 8, 1, 64, 64)[:, 3:5].flatten(0, 1))


def test_union_alternates_between_its_two_kinds() -> None:
    tiles = images(4)
    both = [Synthesis(proxy, shift=0.0) for proxy in ("cutpaste", "cutpaste-scar")]
    for epoch in range(2):
        keys = make_keys(0, epoch, torch.arange(4))
        united = Synthesis("union", shift=0.0)(tiles.clone(), keys)[0][4:]
        pasted, scarred = (each(tiles.clone(), keys)[0][4:] for each in both)
        for i in range(4):
            expected = (pasted, scarred)[(i + epoch) % 2][i]
            assert torch.equal(united[i], expected)


def test_a_patch_that_does_not_fit_is_no_anomaly() -> None:
    inputs, labels = Synthesis("cutpaste-scar", crop=8)(images(4), make_keys(0, 0, torch.arange(4)))
    assert torch.equal(inputs[4:], inputs[:4])
    assert labels.tolist() == [0] * 8


@pytest.mark.parametrize("channels", [1, 3])
def test_whole_images_change_their_colours(channels: int) -> None:
    tiles = torch.randint(60, 200, (6, channels, 64, 64), dtype=torch.uint8)
    keys = make_keys(0, 0, torch.arange(6))
    normal = Synthesis("3way", shift=0.0, jitter=0.1)(tiles.clone(), keys)[0][:6]
    change = (normal.float() - tiles.float()).abs().mean((1, 2, 3))
    assert (change > 0).all()
    assert (change < 40).all()


class Recorded(OnDeviceModule):
    """Keeps the losses."""

    losses: list[float]

    def training_step(
        self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int
    ) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        self.losses.append(float(loss.detach()))
        return loss


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 0.03), ("adam", 0.001)])
def test_training_learns_and_repeats(optimizer: str, rate: float) -> None:
    smooth = torch.nn.functional.avg_pool2d(torch.rand(32, 1, 68, 68), 5, stride=1)
    tiles = (smooth * 255).to(torch.uint8)

    def trained() -> tuple[list[float], torch.Tensor]:
        torch.manual_seed(0)
        network = CutPasteNet(Tiny(), dims=(16, 8))
        stages = [Stage("all", 40, rate)]
        module = Recorded(network, stages, Synthesis(), seed=5, optimizer=optimizer)
        module.losses = []
        steps: list[None] = []
        loader = DataLoader(TensorDataset(tiles, torch.arange(32)), 16, shuffle=True)
        fit_quietly(module, loader, 40, "cpu", lambda: steps.append(None))
        assert len(steps) == 40
        last = module.trainer.optimizers[0].param_groups[0]["lr"]
        assert last == pytest.approx(0.0, abs=1e-9)
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
    module = HeadModule(network, [Stage("head", 3, 0.03)])
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


def test_rate_falls_over_each_stage() -> None:
    module = CutPasteModule(
        CutPasteNet(Tiny(), (4,)), [Stage("head", 4, 0.2), Stage("all", 2, 0.1)]
    )
    assert module.rate_at(0) == 0.2
    assert module.rate_at(2) == pytest.approx(0.1)
    assert module.rate_at(4) == 0.1
    assert module.rate_at(5) == pytest.approx(0.05)
    assert module.rate_at(6) == pytest.approx(0.0)


class Normed(Tiny):
    """A backbone with a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(super().forward(images)).relu()


@pytest.mark.parametrize("freeze", [True, False])
def test_two_stages(freeze: bool) -> None:
    network = CutPasteNet(Normed(), dims=(8, 4))
    stages = [Stage("head", 2, 0.1), Stage("all", 2, 0.1)]
    module = CutPasteModule(network, stages, freeze_batch_norm=freeze)
    snapshots = []

    def keep() -> None:
        snapshots.append({name: t.clone() for name, t in network.state_dict().items()})

    keep()
    batches = [Synthesis()(images(4), make_keys(0, i, torch.arange(4))) for i in range(4)]
    fit_quietly(module, DataLoader(batches, None), 4, "cpu", keep)

    def changed(name: str) -> list[bool]:
        steps = itertools.pairwise(snapshots)
        return [not torch.equal(before[name], after[name]) for before, after in steps]

    assert changed("head.0.weight") == [True] * 4
    assert changed("backbone.conv.weight") == [False, False, True, True]
    assert changed("backbone.norm.running_mean") == [False, False, not freeze, not freeze]
    assert changed("backbone.norm.weight") == [False, False, not freeze, not freeze]


def fitted(*overrides: str) -> inference.CutPasteDetector:
    """A detector with an untrained network, for 64 px in grey."""
    settings = ["size=64", "channels=1", "weights=random", "head=[8, 4]", *overrides]
    recipe = load_recipe("cutpaste-lite0", settings)
    method = CutPasteMethod()
    tiles = images(24)
    return method.fit(method.module(recipe, 0), tiles, *torch.arange(24).split([16, 8]), recipe)


@pytest.mark.parametrize("score", ["density", "density+head"])
@pytest.mark.parametrize("shrinkage", ["ridge", "ledoit_wolf"])
def test_a_detector_is_its_state(score: str, shrinkage: str) -> None:
    overrides = (f"score={score}", f"shrinkage={shrinkage}")
    detector, tiles = fitted(*overrides), images(3)
    assert detector(tiles).shape == (3,)
    assert detector(tiles).dtype == torch.float32
    torch.testing.assert_close(detector(tiles / 255), detector(tiles))
    blank = CutPasteMethod().blank(load_recipe("cutpaste-lite0", ["size=64", "head=[8, 4]"]))
    blank.load_state_dict(detector.state_dict())
    assert torch.equal(blank(tiles), detector(tiles))
    if score == "density":
        features = detector.network(tiles)[0]
        expected = inference.density_score(features, detector.density.fitted())
        torch.testing.assert_close(detector(tiles), expected)


def test_a_state_of_another_network_does_not_fit() -> None:
    state = fitted().state_dict()
    blank = CutPasteMethod().blank(load_recipe("cutpaste", ["size=64"]))
    with pytest.raises(RuntimeError, match="Missing key"):
        blank.load_state_dict(state)


@pytest.mark.parametrize("neck", ["8", "null"])
def test_heat_map_is_gradcam(neck: str) -> None:
    detector, tiles = fitted(f"neck={neck}"), images(2)
    network = detector.network
    kept: list[torch.Tensor] = []
    # The plain way: a backward pass through the whole network, caught behind the neck.
    layer = network.backbone if neck == "null" else network.neck

    def catch(module: torch.nn.Module, args: object, output: torch.Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    handle = layer.register_forward_hook(catch)
    inference.log_odds(network((tiles / 255).requires_grad_())[1]).sum().backward()
    handle.remove()
    (maps,) = kept
    assert maps.grad is not None
    weighted = (maps.grad.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).relu()
    expected = torch.nn.functional.interpolate(weighted, (64, 64), mode="bilinear")
    torch.testing.assert_close(detector.heat_map(tiles), expected.detach())
    with torch.inference_mode():
        again = detector.heat_map(tiles)
    assert torch.equal(again, detector.heat_map(tiles))
    scores, heat = detector.score_and_heat(tiles)
    assert torch.equal(scores, detector(tiles))
    assert torch.equal(heat, again)
    assert again.shape == (2, 1, 64, 64)


def test_scores_do_not_depend_on_the_exporter() -> None:
    detector, tiles = fitted(), images(4)
    batch = {0: torch.export.Dim("n", min=1)}
    exported = torch.export.export(detector, (tiles,), dynamic_shapes=(batch,)).module()
    with torch.no_grad():
        for n in (1, 4):
            torch.testing.assert_close(exported(tiles[:n]), detector(tiles[:n]))


def test_level_seven_is_what_the_density_sees() -> None:
    settings = ["size=64", "backbone=efficientnet_b0", "weights=random", "head=[4]"]
    recipe = load_recipe("cutpaste-b4", settings)
    network = CutPasteMethod().module(recipe, 0).network.eval()
    with torch.no_grad():
        features, logits = network(images(2))
        x = network.backbone.normalize(images(2))
        for layer in network.backbone.layers[:7]:
            x = layer(x)
    assert features.shape == (2, 192)
    torch.testing.assert_close(features, x.mean((2, 3)))
    assert logits.shape == (2, 3)
    with pytest.raises(RecipeError, match="`features` of resnet18 must be pooled, got level7"):
        CutPasteMethod().module(load_recipe("cutpaste", ["features=level7"]), 0)


def test_a_head_on_a_random_backbone_must_be_meant() -> None:
    recipe = load_recipe("cutpaste-b4")
    with pytest.raises(RecipeError, match=r"`weights` of efficientnet_b4 must be a file.*got null"):
        CutPasteMethod().module(recipe, 0)
    CutPasteMethod().blank(recipe)


def test_weights_follow_from_the_seed() -> None:
    recipe = load_recipe("cutpaste", ["head=[8]"])
    torch.manual_seed(5)
    first, second, other = (
        CutPasteMethod().module(recipe, seed).network.head[0].weight for seed in (1, 1, 2)
    )
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)  # nobody else's random numbers are touched
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
