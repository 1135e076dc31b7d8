# SPDX-License-Identifier: Apache-2.0
"""The commands of `ssadk`. Imported only once the optional dependencies are known to be there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
errors = Console(stderr=True)


@app.callback()
def ssadk() -> None:
    """Self-supervised visual anomaly detection: augmentations, detectors, evaluation."""


def _seeds(text: str) -> tuple[int, ...]:
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        seeds = ()
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        msg = f"must be different numbers such as 0,1,2, got {text!r}"
        raise typer.BadParameter(msg)
    return seeds


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for results.json and samples.png.")] = Path(
        "demo"
    ),
    seeds: Annotated[str, typer.Option(help="Seeds of training, with commas between.")] = "0,1,2",
    steps: Annotated[
        int, typer.Option(min=1, help="Updates of each pretrained model's head.")
    ] = 100,
    scratch_steps: Annotated[
        int, typer.Option(min=1, help="Updates of each network trained from scratch.")
    ] = 60,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Tiny sizes, to see that all runs. The numbers mean little."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Train and compare four detectors on built-in photographs; minutes on two cores, no download.

    Example: ssadk demo --out demo
    """
    import torch

    from ssad_models.demo import Settings, run

    if device not in ("auto", "cpu", "cuda"):
        msg = f"--device must be cpu, cuda or auto, got {device!r}"
        raise typer.BadParameter(msg)
    if device == "cuda" and not torch.cuda.is_available():
        msg = "torch finds no CUDA device; use --device cpu"
        raise typer.BadParameter(msg)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = Settings(out, _seeds(seeds), steps=steps, scratch_steps=scratch_steps, device=device)
    if quick:
        settings = Settings(
            out, _seeds(seeds)[:2], steps=3, scratch_steps=2, train=16, places=2, device=device
        )
    try:
        run(settings, Console(soft_wrap=False))
    except (OSError, ModuleNotFoundError) as error:
        if debug:
            raise
        errors.print(f"ssadk demo: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
