# SPDX-License-Identifier: Apache-2.0
"""The demonstration: four detectors on the built-in data set, in minutes on a CPU."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from torch.utils.data import DataLoader, TensorDataset
from torchvision.utils import make_grid, save_image

import ssad_kernels
from ssad_kernels.transforms import CutPaste, CutPasteScar
from ssad_models import evaluate
from ssad_models.backbones import Lite0, ResNet18
from ssad_models.cutpaste import inference
from ssad_models.cutpaste.module import CutPasteModule, HeadModule, feature_bank
from ssad_models.cutpaste.network import CutPasteNet
from ssad_models.data.builtin import CATEGORIES, TestSet, test_set, train_images
from ssad_models.trainer import fit_quietly

UNTRAINED, SCRATCH = "ResNet-18 + GDE", "ResNet-18 + CutPaste"
PRETRAINED, TRANSFER = "Lite0 + GDE", "Lite0 + CutPaste"
METHODS = (UNTRAINED, SCRATCH, PRETRAINED, TRANSFER)
LEGEND = """\
ResNet-18: random weights, trained from scratch. Lite0: EfficientNet-Lite0 with ImageNet weights,
frozen, with a head on its levels 4 to 6.
GDE: log-distance to a Gaussian of the pooled features; nothing is trained.
CutPaste: the network (on Lite0, the head alone) is trained to recognise CutPaste and Scar; the
score is the GDE plus the log-odds of the head, both in units of their spread on normal tiles; the
odds count the less, the worse the head does on augmented tiles that it was not trained on.
A strength is in grey levels, or in pixels for blur (sigma) and warp (shift)."""


@dataclass(frozen=True)
class Settings:
    """Sizes of the demonstration. The defaults take minutes on two cores.

    Attributes:
        out: Folder for results.json and samples.png.
        seeds: Seeds of the heads on Lite0.
        scratch_seeds: How many of them ResNet-18 uses, untrained and trained.
        steps: Updates of the head on the pretrained backbone, per category and seed.
        scratch_steps: Updates of the ResNet-18, per category and seed.
        train: Normal tiles to train on, per category.
        places: Places of the test strip; 4 normal and 35 defective tiles each.
        device: "cpu" or "cuda".
    """

    out: Path
    seeds: tuple[int, ...] = (0, 1, 2)
    scratch_seeds: int = 1
    steps: int = 100
    scratch_steps: int = 60
    train: int = 128
    places: int = 8
    device: str = "cpu"


@dataclass(frozen=True)
class Data:
    """Tiles of one category."""

    train: torch.Tensor
    test: TestSet

    def split(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Three quarters of the training tiles to train on, the rest to see how well it went."""
        held_out = torch.arange(len(self.train)) % 4 == 0
        return self.train[~held_out], self.train[held_out]


class Results:
    """Scores, by (method, category), one per seed."""

    def __init__(self, data: dict[str, Data]) -> None:
        self.data = data
        self.scores: dict[tuple[str, str], list[torch.Tensor]] = {}
        self.tables: dict[tuple[str, str], list[dict[evaluate.Cell, float]]] = {}

    def add(self, method: str, category: str, scores: torch.Tensor) -> None:
        """Scores of all test tiles of a category, (N,), from one more seed."""
        table = evaluate.auroc_table(scores.cpu(), self.data[category].test)
        self.scores.setdefault((method, category), []).append(scores.cpu())
        self.tables.setdefault((method, category), []).append(table)

    def table(self, method: str, category: str) -> dict[evaluate.Cell, float]:
        """AUROC of each cell, mean over seeds."""
        tables = self.tables[method, category]
        return {cell: sum(t[cell] for t in tables) / len(tables) for cell in tables[0]}

    def mean(self, method: str, categories: Sequence[str], kind: str | None = None) -> float:
        """Mean AUROC over categories and cells, or over the cells of one kind."""
        values = [
            auroc
            for category in categories
            for cell, auroc in self.table(method, category).items()
            if kind in (None, cell[0])
        ]
        return sum(values) / len(values)

    def compare(self, method: str, baseline: str, categories: Sequence[str]) -> evaluate.Difference:
        """Paired bootstrap, method minus baseline."""
        sides = [
            [
                [evaluate.place_wins(s, self.data[c].test) for s in self.scores[name, c]]
                for c in categories
            ]
            for name in (method, baseline)
        ]
        return evaluate.paired_bootstrap(*sides)


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
    """Train, evaluate, print, and write results.json and samples.png into `settings.out`.

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
    seconds = time.perf_counter() - started
    comparisons = _report(results, console)
    _write_json(settings, results, comparisons, seconds)
    console.print(f"\n{seconds:.0f} s. Wrote {settings.out / 'results.json'} and samples.png.")
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
    images = len(data.train) + len(data.test.images)
    task = progress.add_task(
        f"{category}: pretrained features", total=images + 3 * len(data.train) * len(settings.seeds)
    )
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
        module = HeadModule(network, settings.steps, seed)
        loader = DataLoader(bank, min(96, len(bank)), shuffle=True, drop_last=True)
        fit_quietly(module, loader, settings.steps, device, lambda: progress.advance(heads))
        network.eval().to(device)
        detector = inference.fit(pooled[0], _proxy(network, held_out))
        with torch.no_grad():
            test = inference.Views(pooled[1], inference.log_odds(network.classify(test_maps)))
        results.add(TRANSFER, category, inference.score(test, detector))


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
    network = CutPasteNet(ResNet18(), dims=(128, 128))
    images = len(data.train) + len(data.test.images)
    scores = progress.add_task(f"{category}: ResNet-18 features", total=2 * images)
    steps = progress.add_task(f"{category}: CutPaste from scratch", total=settings.scratch_steps)

    def look(tiles: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features, logits = network(tiles)
        return features, inference.log_odds(logits)

    def views(tiles: torch.Tensor) -> inference.Views:
        network.eval().to(device)
        advance = partial(progress.advance, scores)
        return inference.Views(*_in_batches(look, tiles, device, advance))

    density = ssad_kernels.gaussian_fit(views(data.train).features)
    untrained = inference.density_score(views(data.test.images).features, density)
    results.add(UNTRAINED, category, untrained)

    # Crops of half the side cost a quarter, and Adam gets further in so few steps. The paper's
    # SGD on whole images needs thousands.
    network.train()
    module = CutPasteModule(network, settings.scratch_steps, seed, crop=64, optimizer="adam")
    tiles, held_out = data.split()
    dataset = TensorDataset(tiles, torch.arange(len(tiles)))
    loader = DataLoader(dataset, 8, shuffle=True, drop_last=True)
    fit_quietly(module, loader, settings.scratch_steps, device, lambda: progress.advance(steps))
    features = views(data.train).features
    bank = feature_bank(network.backbone, held_out.to(device), copies=1, seed=seed)
    detector = inference.fit(features, _proxy(network, bank))
    results.add(SCRATCH, category, inference.score(views(data.test.images), detector))


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


def _report(results: Results, console: Console) -> dict[str, evaluate.Difference]:
    """Print a row per category, kind and strength, the means, and the comparisons; return those."""
    table = Table(title="Image AUROC in %, mean of the seeds; 50 is chance")
    for heading in ("category", "kind", "strength"):
        table.add_column(heading)
    for method in METHODS:
        table.add_column(method, justify="right")
    categories = list(results.data)
    for category in categories:
        tables = [results.table(method, category) for method in METHODS]
        for kind, strength in tables[0]:
            values = [f"{100 * t[kind, strength]:.1f}" for t in tables]
            table.add_row(category, kind, f"{strength:g}", *values)
        means = [f"{100 * results.mean(method, [category]):.1f}" for method in METHODS]
        table.add_row(category, "mean", "", *means, style="bold", end_section=True)
    for kind in dict.fromkeys(kind for kind, _ in tables[0]):
        row = [f"{100 * results.mean(method, categories, kind):.1f}" for method in METHODS]
        table.add_row("all", kind, "mean", *row)
    means = [f"{100 * results.mean(method, categories):.1f}" for method in METHODS]
    table.add_row("all", "mean", "", *means, style="bold")
    console.print(table)
    console.print(LEGEND, highlight=False)

    comparisons = {}
    for method, baseline in ((TRANSFER, PRETRAINED), (SCRATCH, UNTRAINED), (TRANSFER, SCRATCH)):
        table = Table(
            "category", "points", "95 % interval", "", title=f"{method} against {baseline}"
        )
        for scope in (*categories, "all"):
            chosen = categories if scope == "all" else [scope]
            difference = results.compare(method, baseline, chosen)
            comparisons[f"{method} - {baseline} | {scope}"] = difference
            mean, low, high = (f"{100 * value:+.1f}" for value in difference)
            style = {"below": "red", "above": "green"}.get(difference.verdict, "")
            table.add_row(scope, mean, f"{low} to {high}", difference.verdict, style=style)
        console.print(table)
    final = comparisons[f"{TRANSFER} - {PRETRAINED} | all"]
    mean, low, high = (f"{100 * value:+.1f}" for value in final)
    seeds = len(results.scores[TRANSFER, categories[0]])
    console.print(
        f"{TRANSFER} is {'' if final.verdict == 'below' else 'not '}below {PRETRAINED}: "
        f"{mean} points of AUROC, {low} to {high} ({seeds} seeds).",
        style="bold",
        highlight=False,
    )
    return comparisons


def _write_json(
    settings: Settings,
    results: Results,
    comparisons: dict[str, evaluate.Difference],
    seconds: float,
) -> None:
    rows = []
    for category in results.data:
        tables = {method: results.table(method, category) for method in METHODS}
        for kind, strength in tables[METHODS[0]]:
            auroc = {method: tables[method][kind, strength] for method in METHODS}
            rows.append({"category": category, "kind": kind, "strength": strength, "auroc": auroc})
    content = {
        "settings": {**asdict(settings), "out": str(settings.out)},
        "seconds": round(seconds, 1),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
        },
        "mean_auroc": {method: results.mean(method, list(results.data)) for method in METHODS},
        "rows": rows,
        "comparisons": {
            name: {**d._asdict(), "verdict": d.verdict} for name, d in comparisons.items()
        },
    }
    path = settings.out / "results.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
