# SPDX-License-Identifier: Apache-2.0
"""The demonstration: four detectors on the built-in data set, in minutes on a CPU."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.utils import make_grid, save_image

import ssad_kernels
from ssad_kernels.transforms import CutPaste, CutPasteScar
from ssad_models.backbones import Lite0, Torchvision
from ssad_models.cutpaste import inference
from ssad_models.cutpaste.augment import Synthesis
from ssad_models.cutpaste.module import CutPasteModule, HeadModule, OnDeviceModule, feature_bank
from ssad_models.cutpaste.network import CutPasteNet
from ssad_models.cutpaste.recipe import Stage
from ssad_models.data.builtin import CATEGORIES, test_set, train_images
from ssad_models.demo.dense import train_and_score
from ssad_models.demo.results import (
    NSA,
    PATCHES,
    PRETRAINED,
    SCRATCH,
    TRANSFER,
    UNTRAINED,
    Data,
    Results,
    publish,
)
from ssad_models.model_file import versions
from ssad_models.recipe import load_recipe
from ssad_models.settings import Recipe
from ssad_models.trainer import fit_quietly


@dataclass(frozen=True)
class Settings:
    """Sizes of the demonstration. The defaults take minutes on two cores.

    Attributes:
        out: Folder for report.html, results.json and samples.png.
        seeds: Seeds of the heads on Lite0.
        scratch_seeds: How many of them ResNet-18 uses, untrained and trained.
        steps: Updates of the head on the pretrained backbone, per category and seed.
        scratch_steps: Updates of the ResNet-18, per category and seed.
        train: Normal tiles to train on, per category.
        places: Places of the test strip; 4 normal and 35 defective tiles each.
        device: "cpu" or "cuda".
        nsa_steps: Updates of NSA, per category; 600 take some ten minutes; 0 to leave it out.
        patch_steps: Updates of CutPaste on patches, per category; 0 to leave it out.
    """

    out: Path
    seeds: tuple[int, ...] = (0, 1, 2)
    scratch_seeds: int = 1
    steps: int = 100
    scratch_steps: int = 60
    train: int = 128
    places: int = 8
    device: str = "cpu"
    nsa_steps: int = 0
    patch_steps: int = 0


@torch.no_grad()
def _in_batches(
    function: Callable[[torch.Tensor], torch.Tensor | tuple[torch.Tensor, ...]],
    images: torch.Tensor,
    device: str,
    advance: Callable[[int], None],
) -> list[torch.Tensor]:
    """Each output of the function, over all images. Batches of 8 stay in a CPU's cache."""
    parts = []
    for batch in images.split(8):
        result = function(batch.to(device))
        parts.append(result if isinstance(result, tuple) else (result,))
        advance(len(batch))
    return [torch.cat(each) for each in zip(*parts, strict=True)]


def run(settings: Settings, console: Console) -> Results:
    """Train, evaluate, print; write report.html, results.json and samples.png.

    Args:
        settings: See there.
        console: Where tables and progress bars go.

    Returns:
        All scores.

    Raises:
        ModuleNotFoundError: If the package with the pretrained weights is missing.
        OSError: If the output folder cannot be written.
    """
    settings.out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    columns = (
        TextColumn("{task.description:<44}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        pretrained = Lite0().requires_grad_(False).eval().to(settings.device)
        task = progress.add_task("Cutting tiles and drawing defects", total=len(CATEGORIES))
        data = {}
        for category in CATEGORIES:
            test = test_set(category, settings.places)
            data[category] = Data(train_images(category, settings.train), test)
            progress.advance(task)
        _save_samples(data, settings.out / "samples.png")
        results = Results(data)
        for category in CATEGORIES:
            _transfer(settings, results, category, pretrained, progress)
            for seed in settings.seeds[: settings.scratch_seeds]:
                _from_scratch(settings, results, category, seed, progress)
            count = len(data[category].train)
            for method, name, budget in (
                (NSA, "nsa-builtin", settings.nsa_steps),
                (PATCHES, "cutpaste-patch-builtin", settings.patch_steps),
            ):
                if budget:
                    recipe = load_recipe(name).for_steps(budget, count)
                    _dense(settings, results, method, recipe, category, progress)
    content = {
        "settings": {**asdict(settings), "out": str(settings.out)},
        "seconds": round(time.perf_counter() - started, 1),
        "versions": {
            **versions(),
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
        },
    }
    publish(results, content, settings.out, console)
    return results


def _transfer(
    settings: Settings,
    results: Results,
    category: str,
    backbone: Lite0,
    progress: Progress,
) -> None:
    """Both methods on the pretrained backbone, which is frozen: its maps are computed once."""
    data, device = results.data[category], settings.device
    looks = len(data.train) + 2 * len(data.test) + 3 * len(data.train) * len(settings.seeds)
    task = progress.add_task(f"{category}: pretrained features", total=looks)
    advance = partial(progress.advance, task)
    train_maps, test_maps = (
        _in_batches(backbone, tiles, device, advance)[0] for tiles in (data.train, data.test.images)
    )
    pooled = train_maps.mean((2, 3)), test_maps.mean((2, 3))
    density = ssad_kernels.gaussian_fit(pooled[0])
    results.add(PRETRAINED, category, inference.density_score(pooled[1], density))

    heads = progress.add_task(
        f"{category}: CutPaste, {len(settings.seeds)} seeds",
        total=len(settings.seeds) * settings.steps,
    )
    for seed in settings.seeds:
        bank, held_out = (
            feature_bank(backbone, tiles.to(device), copies=1, seed=seed) for tiles in data.split()
        )
        advance(len(bank) + len(held_out))
        torch.manual_seed(seed)
        network = CutPasteNet(backbone, dims=(128, 128), neck=128)
        module = HeadModule(network, [Stage("head", settings.steps, 0.03)])
        loader = DataLoader(bank, min(96, len(bank)), shuffle=True, drop_last=True)
        losses = _train(module, loader, settings.steps, device, partial(progress.advance, heads))
        network.eval().to(device)
        detector = inference.fit(pooled[0], _proxy(network, held_out))
        with torch.no_grad():
            test = inference.Views(pooled[1], inference.log_odds(network.classify(test_maps)))
        scores = inference.score(test, detector)
        maps = None
        if seed == settings.seeds[0]:
            fitted = inference.CutPasteDetector(network, detector).to(device)
            explain = partial(fitted.explain, size=data.test.images.shape[-2:])
            maps = _in_batches(explain, test_maps, device, advance)[1].cpu()
        results.add(TRANSFER, category, scores, maps=maps, seed=seed, losses=losses)


def _train(
    module: CutPasteModule,
    loader: DataLoader[Any],
    steps: int,
    device: str,
    advance: Callable[[], None],
) -> list[float]:
    """The loss of every step."""
    losses: list[float] = []

    def step() -> None:
        losses.append(float(module.trainer.callback_metrics["train/loss"]))
        advance()

    fit_quietly(module, loader, steps, device, step)
    return losses


@torch.no_grad()
def _proxy(network: CutPasteNet, bank: TensorDataset) -> inference.Proxy:
    maps, labels = bank.tensors
    return inference.Proxy(inference.log_odds(network.classify(maps)), labels)


def _from_scratch(
    settings: Settings, results: Results, category: str, seed: int, progress: Progress
) -> None:
    """ResNet-18 with random weights, and the same network after a short training."""
    data, device = results.data[category], settings.device
    torch.manual_seed(seed)
    network = CutPasteNet(Torchvision("resnet18"), dims=(128, 128))
    images = len(data.train) + len(data.test.images)
    looks = progress.add_task(f"{category}: ResNet-18 features", total=2 * images)
    steps = progress.add_task(f"{category}: CutPaste from scratch", total=settings.scratch_steps)

    def look(tiles: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features, logits = network(tiles)
        return features, inference.log_odds(logits)

    def views(tiles: torch.Tensor) -> inference.Views:
        network.eval().to(device)
        advance = partial(progress.advance, looks)
        return inference.Views(*_in_batches(look, tiles, device, advance))

    density = ssad_kernels.gaussian_fit(views(data.train).features)
    untrained = inference.density_score(views(data.test.images).features, density)
    results.add(UNTRAINED, category, untrained, seed=seed)

    # Crops of half the side cost a quarter, and Adam gets further in so few steps. The paper's
    # SGD on whole images needs thousands.
    network.train()
    stages = [Stage("all", settings.scratch_steps, 0.001)]
    module = OnDeviceModule(network, stages, Synthesis(crop=64), seed=seed, optimizer="adam")
    tiles, held_out = data.split()
    dataset = TensorDataset(tiles, torch.arange(len(tiles)))
    loader = DataLoader(dataset, 8, shuffle=True, drop_last=True)
    losses = _train(
        module, loader, settings.scratch_steps, device, partial(progress.advance, steps)
    )
    features = views(data.train).features
    bank = feature_bank(network.backbone, held_out.to(device), copies=1, seed=seed)
    detector = inference.fit(features, _proxy(network, bank))
    scores = inference.score(views(data.test.images), detector)
    results.add(SCRATCH, category, scores, seed=seed, losses=losses)


def _dense(
    settings: Settings,
    results: Results,
    method: str,
    recipe: Recipe,
    category: str,
    progress: Progress,
) -> None:
    """A method that maps anomalies, from scratch, with the first seed."""
    data, seed = results.data[category], settings.seeds[0]
    steps = recipe.plan(len(data.train)).steps
    task = progress.add_task(f"{category}: {method} from scratch", total=steps)
    advance = partial(progress.advance, task)
    found = train_and_score(recipe, data.train, data.test.images, seed, settings.device, advance)
    results.add(method, category, found.scores, maps=found.maps, seed=seed, losses=found.losses)


def _save_samples(data: dict[str, Data], path: Path) -> None:
    """Per category a row: normal tile, CutPaste and its mask, Scar and its mask, twice."""
    cells = []
    for row, tiles in enumerate(d.train[:2] for d in data.values()):
        keys = ssad_kernels.make_keys(0, row, torch.arange(len(tiles)))
        shown = [tiles]
        for transform in (CutPaste(), CutPasteScar()):
            augmented, masks = transform(tiles, keys)
            shown += [augmented, masks.to(torch.uint8) * 255]
        per_tile = [torch.stack([s[i].expand(3, -1, -1) for s in shown]) for i in range(len(tiles))]
        cells.append(torch.cat(per_tile))
    grid = make_grid(torch.cat(cells), nrow=len(cells[0]), padding=4, pad_value=128)
    save_image(grid.float() / 255, path)
