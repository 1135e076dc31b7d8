# SPDX-License-Identifier: Apache-2.0
"""`ssadk demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssad_models.commands.common import Device, Seeds, console, parse_seeds, pick_device


def demo(
    out: Annotated[Path, typer.Option(help="Folder for report.html and results.json.")] = Path(
        "demo"
    ),
    seeds: Seeds = "0,1,2",
    steps: Annotated[
        int, typer.Option(min=1, help="Updates of each pretrained model's head.")
    ] = 100,
    scratch_steps: Annotated[
        int, typer.Option(min=1, help="Updates of each network trained from scratch.")
    ] = 60,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="NSA and CutPaste on patches, too: about an hour of processor time.",
        ),
    ] = False,
    device: Device = "auto",
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Tiny sizes, to see that all runs. The numbers mean little."),
    ] = False,
) -> None:
    """Train and compare four detectors on built-in photographs; minutes on two cores, no download.

    Example: ssadk demo --out demo

    With --full there are six.
    """
    numbers, place = parse_seeds(seeds), pick_device(device)
    from dataclasses import replace

    from ssad_models.demo import Settings, run

    settings = Settings(out, numbers, steps=steps, scratch_steps=scratch_steps, device=place)
    if quick:
        settings = Settings(
            out, numbers[:2], steps=3, scratch_steps=2, train=16, places=2, device=place
        )
    if full:
        nsa_steps, patch_steps = (2, 2) if quick else (600, 600)
        settings = replace(settings, nsa_steps=nsa_steps, patch_steps=patch_steps)
    run(settings, console)
