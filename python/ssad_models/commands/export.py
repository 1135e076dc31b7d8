# SPDX-License-Identifier: Apache-2.0
"""`ssadk export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssad_models.commands.common import check_writable, console


def export(
    model: Annotated[
        Path, typer.Argument(help="A model file that ssadk train wrote, or the folder of its run.")
    ],
    out: Annotated[
        Path, typer.Option(help="File to write: .onnx for ONNX, .pt2 for torch.export.")
    ] = Path("model.onnx"),
) -> None:
    """Write a model for use without this package, with its threshold, and check its outputs.

    Example: ssadk export runs/bottle/seed0/model.pt --out bottle.onnx

    It takes (N, C, S, S) uint8 images; the file beside it, OUT.json, tells sizes and meanings.
    """
    check_writable(out.parent)
    from ssad_models.export import export as write
    from ssad_models.model_file import load
    from ssad_models.runs import one_model_file

    differences = write(load(one_model_file(model)), out)
    console.print(f"Wrote {out} and {out.name}.json.", markup=False, soft_wrap=True)
    for runtime, difference in differences.items():
        console.print(
            f"Outputs in {runtime} agree with the model's to {difference:.1g}.", soft_wrap=True
        )
    if not differences:
        console.print("Outputs were not compared: pip install onnxruntime", soft_wrap=True)
