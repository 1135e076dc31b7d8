# SPDX-License-Identifier: Apache-2.0
"""Does what is learnt depend on how NSA's samples are made?

``python benchmarks/compare_nsa.py --train``

Trains the same network for as many steps on samples of this library, in three variants, and on
those of the released pipeline rebuilt from OpenCV, scikit-image and NumPy, on the built-in
photographs, and compares image and pixel AUROC. Appends a line of JSON per run to a file, and runs
only what is not yet in it, so it can be stopped and started, and run in several processes with
``--category``. Without ``--train`` it only prints the comparison.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

import nsa_peers
from ssad_kernels import make_keys
from ssad_kernels.transforms import NSA
from ssad_models.comparison import Difference, group_wins, paired_bootstrap
from ssad_models.data.builtin import CATEGORIES, test_set, train_images
from ssad_models.evaluate import evaluate
from ssad_models.nsa.loss import map_loss
from ssad_models.nsa.method import NsaMethod
from ssad_models.nsa.recipe import NsaRecipe
from ssad_models.recipe import load_recipe

Batch = tuple[Tensor, Tensor]
_RESULTS = Path(__file__).parent / "results" / "nsa-training.jsonl"
_PEER = nsa_peers.CLASSES["carpet"]  # the settings of the recipe "nsa-builtin"
_OPTIONS: dict[str, Any] = {
    "patches": 4,
    "resize": (0.5, 2.0),
    "gradient": "mixed",
    "steepness": _PEER.steepness,
    "midpoint": _PEER.midpoint,
}
MASK, RECT = 'region="mask" (default)', 'region="rect"'
REFERENCE, RELEASED = 'compat="reference"', "released pipeline"


def _ours(transform: NSA, images: Tensor, keys: Tensor) -> Batch:
    inputs, labels = transform(images, keys)
    return inputs, labels


def _released(images: Tensor, keys: Tensor) -> Batch:
    """One after another; the source of an image is the one before it."""
    rng = np.random.default_rng(keys[0].abs().tolist())
    arrays = images.permute(0, 2, 3, 1).contiguous().numpy()
    made = [
        nsa_peers.reference_nsa(image, arrays[i - 1], rng, _PEER) for i, image in enumerate(arrays)
    ]
    inputs = torch.from_numpy(np.stack([image for image, _ in made])).permute(0, 3, 1, 2)
    return inputs, torch.from_numpy(np.stack([label for _, label in made]))[:, None]


VARIANTS: dict[str, Callable[[Tensor, Tensor], Batch]] = {
    MASK: partial(_ours, NSA(**_OPTIONS)),
    RECT: partial(_ours, NSA(**_OPTIONS, region="rect")),
    REFERENCE: partial(_ours, NSA(**_OPTIONS, compat="reference")),
    RELEASED: _released,
}
PAIRS = (*((variant, RELEASED) for variant in (MASK, RECT, REFERENCE)), (RECT, MASK))


def _train(images: Tensor, synthesize: Callable[..., Batch], steps: int, seed: int) -> Any:
    """The network after ``steps`` batches of 16, with Adam along a cosine; products in bfloat16."""
    recipe = load_recipe("nsa-builtin")
    assert isinstance(recipe, NsaRecipe)
    method = NsaMethod()
    module = method.module(recipe, seed)
    network = module.network.train()
    optimizer = torch.optim.Adam(network.parameters(), recipe.lr, fused=True)
    order = torch.Generator().manual_seed(seed)
    for step in range(steps):
        rate = recipe.lr_end + (recipe.lr - recipe.lr_end) * (
            0.5 + 0.5 * math.cos(math.pi * step / steps)
        )
        optimizer.param_groups[0]["lr"] = rate
        rows = torch.randperm(len(images), generator=order)[: recipe.batch]
        inputs, labels = synthesize(images[rows], make_keys(seed, step, rows))
        with torch.autocast("cpu", torch.bfloat16):
            loss = map_loss(network, inputs, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return method.fit(module, images, torch.arange(0), torch.arange(0), recipe)


def _run(category: str, variant: str, seed: int, steps: int, places: int) -> dict[str, Any]:
    images = train_images(category, 128).expand(-1, 3, -1, -1).contiguous()
    test = test_set(category, places)
    start = time.perf_counter()
    detector = _train(images, VARIANTS[variant], steps, seed)
    seconds = time.perf_counter() - start
    tiles = test.images.expand(-1, 3, -1, -1).split(16)
    parts = [detector.score_and_heat(part) for part in tiles]
    scores, maps = (torch.cat(each) for each in zip(*parts, strict=True))
    metrics = evaluate(test, scores, maps).metrics
    return {
        "category": category,
        "variant": variant,
        "seed": seed,
        "steps": steps,
        "seconds": round(seconds),
        "pixel_auroc": metrics["pixel_auroc"].value,
        "wins": group_wins(scores, test).tolist(),
    }


def _differences(
    runs: list[dict[str, Any]], variant: str, baseline: str
) -> tuple[Difference, float, float]:
    """Of image AUROC with its interval, and of pixel AUROC with its standard error."""
    done = {(run["category"], run["variant"], run["seed"]): run for run in runs}
    both = [
        (category, seed)
        for category, name, seed in done
        if name == variant and (category, baseline, seed) in done
    ]
    categories = sorted({category for category, _ in both})

    def wins(name: str) -> list[list[Tensor]]:
        return [
            [
                torch.tensor(done[each, name, seed]["wins"], dtype=torch.float64)
                for category, seed in both
                if category == each
            ]
            for each in categories
        ]

    pixels = np.array(
        [
            done[category, variant, seed]["pixel_auroc"]
            - done[category, baseline, seed]["pixel_auroc"]
            for category, seed in both
        ]
    )
    error = pixels.std(ddof=1) / math.sqrt(len(pixels)) if len(pixels) > 1 else float("nan")
    return paired_bootstrap(wins(variant), wins(baseline)), float(pixels.mean()), float(error)


def main(
    *,
    train: bool = False,
    category: Annotated[list[str] | None, typer.Option()] = None,
    seeds: int = 3,
    steps: int = 600,
    places: int = 8,
    results: Path = _RESULTS,
) -> None:
    """Train what is not in the file, if asked to, and print the comparison."""
    runs = (
        [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    )
    done = {(run["category"], run["variant"], run["seed"], run["steps"]) for run in runs}
    for seed in range(seeds) if train else ():
        for each in category or CATEGORIES:
            for variant in VARIANTS:
                if (each, variant, seed, steps) in done:
                    continue
                runs.append(_run(each, variant, seed, steps, places))
                with results.open("a") as file:
                    file.write(json.dumps(runs[-1]) + "\n")
    print(f"{'':52} image AUROC (95 % interval)   pixel AUROC (± s.e.)")
    trained = {run["variant"] for run in runs}
    for variant, baseline in PAIRS:
        if {variant, baseline} <= trained:
            image, pixel, error = _differences(runs, variant, baseline)
            print(
                f"{f'{variant} against {baseline}':52} {100 * image.mean:+.1f} "
                f"({100 * image.low:+.1f} to {100 * image.high:+.1f})   "
                f"{100 * pixel:+.1f} ± {100 * error:.1f}"
            )


if __name__ == "__main__":
    typer.run(main)
