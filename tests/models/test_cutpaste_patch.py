# SPDX-License-Identifier: Apache-2.0
"""CutPaste on patches: training on crops, scores of windows, maps, and all commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("lightning")
pytest.importorskip("typer")
pytest.importorskip("torchvision")

import torch
from fake_data import make_mvtec
from made_up import made_up
from typer.testing import CliRunner

from ssad_kernels import gaussian_fit, gaussian_score, receptive_field_upsample
from ssad_models import model_file
from ssad_models.backbones import make_backbone
from ssad_models.calibration import calibrate
from ssad_models.commands import app
from ssad_models.cutpaste import patch_inference
from ssad_models.cutpaste.network import CutPasteNet
from ssad_models.cutpaste.patch_inference import PatchDetector, Windows, fit_locations, fit_shared
from ssad_models.cutpaste.patch_method import is_published, windows_of
from ssad_models.cutpaste.patch_recipe import PATCH_BACKBONES, CutPastePatchRecipe
from ssad_models.evaluate import evaluate
from ssad_models.export import export
from ssad_models.methods import METHODS
from ssad_models.model_file import Meta, Model
from ssad_models.recipe import RecipeError, load_recipe
from ssad_models.report import Run
from ssad_models.reproduce import compare

WINDOWS = Windows(size=48, window=32, stride=4, sigma=3.0)
SMALL = (
    "size=48",
    "backbone=patch-resnet64",
    "head=[8, 8]",
    "batch=8",
    "stages=[{train: all, steps: 2, lr: 0.001}]",
    "steps_per_epoch=2",
)


def recipe_of(*overrides: str) -> CutPastePatchRecipe:
    return cast(CutPastePatchRecipe, load_recipe("cutpaste-patch-builtin", [*SMALL, *overrides]))


def network(backbone: str = "patch-resnet64") -> CutPasteNet:
    torch.manual_seed(0)
    return CutPasteNet(make_backbone(backbone), (8, 8)).eval()


def images(n: int = 6, channels: int = 3, side: int = 48) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n)
    coarse = torch.rand(n, channels, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    noise = torch.rand(n, channels, side, side, generator=generator)
    return ((0.8 * smooth + 0.2 * noise) * 255).to(torch.uint8)


def crops(tiles: torch.Tensor) -> torch.Tensor:
    """All windows, (N, 25, C, 32, 32)."""
    views = tiles.unfold(2, 32, 4).unfold(3, 32, 4).permute(0, 2, 3, 1, 4, 5)
    return views.flatten(1, 2)


def test_the_recipe_is_the_papers() -> None:
    recipe = cast(CutPastePatchRecipe, load_recipe("cutpaste-patch"))
    assert (recipe.size, recipe.crop, recipe.window, recipe.stride) == (256, 64, 32, 4)
    assert windows_of(recipe).side == 57
    assert not recipe.normalise
    aligned = {c for c in recipe.categories if recipe.for_category(c).density == "location"}
    objects = "bottle cable capsule metal_nut pill toothbrush transistor zipper"
    assert aligned == set(objects.split())
    for category in ("hazelnut", "screw", "carpet", "mine"):
        assert recipe.for_category(category).density == "shared"
    assert is_published(recipe)
    for crop, window, side in ((32, 32, 57), (64, 64, 49)):
        changes = [f"crop={crop}", f"window={window}"]
        other = cast(CutPastePatchRecipe, load_recipe("cutpaste-patch", changes))
        assert windows_of(other).side == side
        assert not is_published(other)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("crop=null", "`crop` must be the side of the patches to train on, got null"),
        ("window=300", "`window` must be at most `size`, 256, got 300"),
        ("stride=5", "`stride` must be at most `window`, 32, and divide 224"),
        ("stride=56", "`stride` must be at most `window`, 32, and divide 224"),
        ("density=all", "`density` must be one of shared, location, got 'all'"),
        ("score=density+head", "`score` must be one of density, got 'density+head'"),
        ("backbone=vgg", "`backbone` must be one of resnet18-small"),
    ],
)
def test_mistakes_are_named(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe("cutpaste-patch", [override])
    assert message in str(raised.value)


def test_the_stem_for_small_images() -> None:
    assert {"resnet18-small", "resnet18", "patch-resnet128"} <= set(PATCH_BACKBONES)
    backbone = make_backbone("resnet18-small")
    shape = backbone.climb(torch.zeros(1, 3, 32, 32), {1})[1].shape
    assert shape == (1, 64, 32, 32)
    for name in ("patch-resnet64", "resnet18-small"):
        with pytest.raises(ValueError, match=f"of {name} must be|the weights must fit {name}"):
            make_backbone(name, "missing.pth")


def test_training_sees_crops() -> None:
    recipe = recipe_of("crop=40")
    module = METHODS["cutpaste-patch"].module(recipe, 0)
    inputs, labels = module.synthesize(images(), torch.arange(18).view(6, 3))
    assert inputs.shape == (18, 3, 40, 40)
    assert labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6


@pytest.mark.parametrize(
    ("backbone", "channels"), [("patch-resnet64", 1), ("patch-resnet64", 3), ("resnet18", 3)]
)
def test_windows_are_looked_at_one_by_one(backbone: str, channels: int) -> None:
    """Whether they are evaluated densely or not: as if each were an image."""
    net, tiles = network(backbone), images(2, channels)
    with torch.no_grad():
        found = patch_inference.window_features(net, tiles, WINDOWS)
        expected = torch.stack([net.look(crop)[1] for crop in crops(tiles)])
    assert found.shape == (2, expected.shape[2], 5, 5)
    torch.testing.assert_close(found.flatten(2).mT, expected, rtol=1e-4, atol=1e-5)


def test_one_density_of_all_windows() -> None:
    net, tiles = network(), images(9)
    rows = torch.tensor([0, 2, 3, 5, 6, 7, 8])
    with torch.no_grad():
        features = torch.stack([net.look(crop)[1] for crop in crops(tiles)])
    fit = fit_shared(net, tiles, rows, WINDOWS)
    expected = gaussian_score(features.flatten(0, 1), gaussian_fit(features[rows].flatten(0, 1)))
    detector = PatchDetector(net, WINDOWS, fit)
    assert not detector.per_location
    found = detector.window_scores(tiles)
    torch.testing.assert_close(found.flatten(), expected, rtol=1e-3, atol=1e-2)


def test_a_density_of_each_window(monkeypatch: pytest.MonkeyPatch) -> None:
    net, tiles = network(), images(9)
    rows = torch.tensor([0, 2, 3, 5, 6, 7, 8])
    monkeypatch.setattr(patch_inference, "_BAND", 7 * 5 * 64 * 2)  # two rows of windows at a time
    monkeypatch.setattr(patch_inference, "_PART", 7 * 64 * 3)
    fit = fit_locations(net, tiles, rows, WINDOWS)
    assert fit.mean.shape == (25, 64)
    assert fit.rows.shape == (25, 7, 64)
    detector = PatchDetector(net, WINDOWS, fit)
    assert detector.per_location
    with torch.no_grad():
        features = torch.stack([net.look(crop)[1] for crop in crops(tiles)])
        found = detector.window_scores(tiles)
    expected = gaussian_score(features, gaussian_fit(features[rows]))
    # Of what it was fitted to the distances are differences of nearly equal numbers.
    torch.testing.assert_close(found.flatten(1), expected, rtol=5e-3, atol=0.5)
    assert float(found[[1, 4]].min()) > 10 * float(found[rows].max())


@pytest.mark.parametrize("normalise", [False, True])
def test_maps_are_upsampled_scores(normalise: bool) -> None:
    windows = WINDOWS._replace(normalise=normalise)
    tiles = images(10)
    detector = PatchDetector(
        network(), windows, fit_shared(network(), tiles, torch.arange(10), windows)
    )
    scores, heat = detector.score_and_heat(tiles)
    expected = receptive_field_upsample(
        detector.window_scores(tiles),
        48,
        kernel=32,
        stride=4,
        offset=15.5,
        sigma=3,
        normalise=normalise,
    )
    assert heat.shape == (10, 1, 48, 48)
    torch.testing.assert_close(heat, expected, rtol=1e-4, atol=1e-3)
    assert torch.equal(scores, heat.amax((1, 2, 3)))
    with torch.no_grad():
        assert torch.equal(detector(tiles), scores)
        torch.testing.assert_close(detector(tiles.float() / 255), scores, rtol=1e-3, atol=1e-2)


def test_a_defect_is_found_where_it_is() -> None:
    normal = images(24)
    net = network()
    detector = PatchDetector(net, WINDOWS, fit_shared(net, normal[:20], torch.arange(20), WINDOWS))
    odd = normal[20:].clone()
    odd[:, :, 30:42, 8:20] = torch.randint(0, 256, (4, 3, 12, 12), dtype=torch.uint8)
    before, after = (detector.score_and_heat(tiles) for tiles in (normal[20:], odd))
    assert (after[0] > before[0]).all()
    rise = (after[1] - before[1])[:, 0]
    assert float(rise[:, 30:42, 8:20].mean()) > 3 * float(rise[:, :12, 32:].mean())


@pytest.mark.parametrize("density", ["shared", "location"])
def test_saved_and_loaded(tmp_path: Path, density: str) -> None:
    recipe = recipe_of(f"density={density}")
    tiles, method = images(10), METHODS["cutpaste-patch"]
    rows = torch.arange(10)
    detector = method.fit(method.module(recipe, 0), tiles, rows, rows[:0], recipe)
    detector.requires_grad_(False)
    model = Model(detector, None, recipe.to_dict(), Meta("c", (48, 48), seed=0))
    model_file.save(tmp_path / "model.pt", model)
    found = model_file.load(tmp_path / "model.pt").predict(tiles)
    expected = model.predict(tiles)
    assert torch.equal(found.score, expected.score)
    assert found.map is not None
    assert expected.map is not None
    assert torch.equal(found.map, expected.map)


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_exported(tmp_path: Path, suffix: str) -> None:
    if suffix == ".onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    recipe = recipe_of()
    tiles, method = images(24), METHODS["cutpaste-patch"]
    rows = torch.arange(24)
    detector = method.fit(method.module(recipe, 0), tiles, rows, rows[:0], recipe)
    detector.requires_grad_(False)
    with torch.no_grad():
        calibration = calibrate(cast(Any, detector)(tiles))
    model = Model(detector, calibration, recipe.to_dict(), Meta("c", (48, 48), seed=0))
    (difference,) = export(model, tmp_path / f"model{suffix}", tiles[:3]).values()
    assert difference <= 1e-4


def test_a_density_of_each_window_is_not_exported(tmp_path: Path) -> None:
    recipe = recipe_of("density=location")
    tiles, method = images(10), METHODS["cutpaste-patch"]
    rows = torch.arange(10)
    detector = method.fit(method.module(recipe, 0), tiles, rows, rows[:0], recipe)
    model = Model(detector, None, recipe.to_dict(), Meta("c", (48, 48), seed=0))
    with pytest.raises(ValueError, match=r"a density per location cannot be exported.*use density"):
        export(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_results_beside_the_paper() -> None:
    recipe = load_recipe("cutpaste-patch")
    test = made_up(("good", "hole") * 5)
    maps = test.images.float()
    evaluation = evaluate(test, maps.amax((1, 2, 3)), maps, resamples=5)
    runs = [Run("patches", "carpet", evaluation, 0)]
    image, pixel = compare(runs, recipe)
    assert tuple(image.headings) == ("category", "ours", "3-way")
    assert tuple(pixel.headings) == ("category", "ours", "diff.", "Patches", "GradCAM")
    assert pixel.rows[0] == ["carpet", "100.0", "+1.7", "98.3±0.0", "-"]
    assert "patches" in image.note
    changed = compare(runs, load_recipe("cutpaste-patch", ["window=64"]))[1]
    assert "diff." not in changed.headings


def ssadk(*arguments: object, code: int = 0) -> str:
    """Run a command and return what it printed, on lines as wide as need be."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "1000"})
    assert result.exit_code == code, result.output
    return result.output


def test_commands(tmp_path: Path) -> None:
    data = make_mvtec(tmp_path / "data", ("bottle",), size=48, train=44, test=2, kinds=("hole",))
    options = ("--recipe", "cutpaste-patch-builtin", *(o for s in SMALL for o in ("--set", s)))
    ssadk("train", data, *options, "--out", tmp_path / "runs")
    model = tmp_path / "runs" / "bottle" / "seed0" / "model.pt"
    ssadk("eval", data, tmp_path / "runs", "--out", tmp_path / "evaluation")
    results = json.loads((tmp_path / "evaluation" / "results.json").read_text())
    (run,) = results
    assert {"auroc", "pixel_auroc"} <= set(run["evaluation"]["metrics"])
    photo = data / "bottle" / "test" / "hole" / "000.png"
    ssadk("predict", photo, "--model", model, "--out", tmp_path / "predictions")
    assert list((tmp_path / "predictions" / "overlays").rglob("*.png"))
    options = tuple(o for s in SMALL for o in ("--set", s))
    reproduced = ("--data", data, "--seeds", "0", "--out", tmp_path / "reproduction")
    printed = ssadk("reproduce", "cutpaste-patch-builtin", *reproduced, *options)
    assert "Pixel AUROC" in printed
    assert "Patches" in printed
