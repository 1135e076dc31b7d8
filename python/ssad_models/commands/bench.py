# SPDX-License-Identifier: Apache-2.0
"""`ssadk bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ssad_models.commands.common import Device, console, pick_device


def bench(
    device: Device = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of torch; by default as it is set.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.001, help="Time per trial.")] = 0.3,
    out: Annotated[Path | None, typer.Option(help="A JSON file for the figures, too.")] = None,
) -> None:
    """Measure a few rates on this machine: augmentations, scoring, data loading. About a minute.

    Example: ssadk bench --threads 1

    For comparisons with other libraries, with more care: make bench in the source tree.
    """
    import json
    from dataclasses import asdict

    import torch

    from ssad_models.atomic import replacing
    from ssad_models.bench import SIZE, rates
    from ssad_models.model_file import versions

    place = pick_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    console.print(_backends())
    title = (
        f"Images of {SIZE} px per second on {place}; threads of torch: {torch.get_num_threads()}"
    )
    table = Table("what", "where", title=title)
    table.add_column("per second", justify="right")
    found = []
    with console.status("Measuring"):
        for rate in rates(place, seconds=seconds):
            found.append(rate)
            table.add_row(rate.what, rate.where, f"{rate.per_second:,.0f}")
    console.print(table)
    if out is not None:
        content = {
            "versions": versions(),
            "device": place,
            "threads": torch.get_num_threads(),
            "rates": [asdict(rate) for rate in found],
        }
        with replacing(out) as file:
            file.write((json.dumps(content, indent=1) + "\n").encode())
        console.print(f"Wrote {out}.", markup=False, soft_wrap=True)


def _backends() -> Table:
    from ssad_kernels import backends

    table = Table("op", title="What runs here")
    for op, row in backends().items():
        if not table.row_count:
            for backend in row:
                table.add_column(backend, overflow="fold")
        table.add_row(op, *row.values())
    return table
