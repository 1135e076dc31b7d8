# SPDX-License-Identifier: Apache-2.0
"""Models for use without this package: torch.export programs and ONNX, threshold included."""

from __future__ import annotations

import importlib.util
import io
import json
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from ssad_models.atomic import replacing
from ssad_models.calibration import Calibration
from ssad_models.model_file import Model

SUFFIXES = (".pt2", ".onnx")
TOLERANCE = 1e-4
"""Largest difference of scores, relative to the score where that exceeds 1."""

_OPSET = 18


class Exportable(nn.Module):
    """A detector whose thresholds are part of its graph.

    Args:
        detector: (N, C, S, S) uint8 -> (N,) float32.
        calibration: Normalisation and threshold, or None.
    """

    mean: torch.Tensor
    std: torch.Tensor
    threshold: torch.Tensor

    def __init__(self, detector: nn.Module, calibration: Calibration | None) -> None:
        super().__init__()
        self.detector = detector
        self.calibrated = calibration is not None
        if calibration is not None:
            for name in ("mean", "std", "threshold"):
                self.register_buffer(name, torch.tensor(getattr(calibration, name)))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(N, C, S, S) uint8 -> score, and if calibrated normalized, both (N,), and anomalous."""
        score: torch.Tensor = self.detector(images)
        if not self.calibrated:
            return (score,)
        return score, (score - self.mean) / self.std, ~(score <= self.threshold)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `forward` returns."""
        return ("score", "normalized", "anomalous") if self.calibrated else ("score",)


def export(model: Model, path: Path, images: torch.Tensor | None = None) -> dict[str, float]:
    """Write a model in the format that the ending of the path names, and check it.

    The program takes (N, C, S, S) uint8 images of any N and returns `Exportable`'s outputs. Beside
    it, path + ".json" tells its inputs, outputs, threshold and origin.

    Args:
        model: The model; it is moved to the CPU.
        path: Ends in ".pt2" for torch.export or ".onnx" for ONNX.
        images: (N, C, S, S) uint8 to check with, N at least 2; by default made-up ones.

    Returns:
        By runtime, the largest difference of an output from that of the model itself, in units of
        the score, relative where scores exceed 1; infinite if a verdict is another one and the
        score is not at the threshold. For ONNX without ONNX Runtime nothing can be checked: empty.

    Raises:
        ValueError: If the ending is another one, or the detector cannot be exported.
        ModuleNotFoundError: If ONNX is asked for and its packages are missing.
        RuntimeError: If the outputs differ by more than `TOLERANCE`; a file that was there before
            is then untouched.
        OSError: If a file cannot be written.
    """
    if path.suffix not in SUFFIXES:
        msg = f"{path}: must end in {' or '.join(SUFFIXES)}, got {path.suffix!r}"
        raise ValueError(msg)
    check = getattr(model.detector, "check_exportable", None)
    if check is not None:
        check()
    module = Exportable(model.detector.cpu(), model.calibration).eval()
    images = _made_up(model) if images is None else images
    program = torch.export.export(
        module, (images[:2],), dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}}
    )
    content = _onnx(program, module) if path.suffix == ".onnx" else _saved(program)
    runtimes = _runtimes(path.suffix, content)
    differences = {runtime: _difference(module, run, images) for runtime, run in runtimes.items()}
    for runtime, difference in differences.items():
        if not difference <= TOLERANCE:
            msg = (
                f"{path}: outputs in {runtime} must agree with the model's to {TOLERANCE:g}, "
                f"got a difference of {difference:.2g}; nothing was written"
            )
            raise RuntimeError(msg)
    with replacing(path) as file:
        file.write(content)
    _write_description(path, model, module, differences)
    return differences


def _made_up(model: Model, count: int = 5) -> torch.Tensor:
    """Images from smooth to noisy."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, model.channels)
    coarse = torch.rand(*shape, 8, 8, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(model.size, model.size), mode="bilinear")
    noise = torch.rand(*shape, model.size, model.size, generator=generator)
    share = torch.linspace(0, 0.5, count)[:, None, None, None]
    return (torch.lerp(smooth, noise, share) * 255).round().to(torch.uint8)


def _saved(program: torch.export.ExportedProgram) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A weight in channels-last order does not count as complete; the comparison covers it.
        warnings.filterwarnings("ignore", "No complete tensor found", UserWarning)
        torch.export.save(program, buffer)
    return buffer.getvalue()


def _onnx(program: torch.export.ExportedProgram, module: Exportable) -> bytes:
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        msg = f"ONNX needs packages that are missing: pip install {' '.join(missing)}"
        raise ModuleNotFoundError(msg)
    with warnings.catch_warnings():
        # What the exporter calls is deprecated by newer releases of the packages it calls.
        warnings.simplefilter("ignore")
        onnx_program = torch.onnx.export(
            program,
            input_names=["images"],
            output_names=list(module.outputs),
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    assert onnx_program is not None
    content: bytes = onnx_program.model_proto.SerializeToString()
    return content


Outputs = tuple[torch.Tensor, ...]
Run = Callable[[torch.Tensor], Outputs]
"""Images -> what `Exportable` returns."""


def _runtimes(suffix: str, content: bytes) -> dict[str, Run]:
    """Ways to run the program."""
    if suffix == ".pt2":
        return {"torch.export": torch.export.load(io.BytesIO(content)).module()}
    if importlib.util.find_spec("onnxruntime") is None:
        return {}
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(images: torch.Tensor) -> Outputs:
        return tuple(map(torch.from_numpy, session.run(None, {"images": images.numpy()})))

    return {"ONNX Runtime": run}


@torch.no_grad()
def _difference(module: Exportable, run: Run, images: torch.Tensor) -> float:
    """Largest difference of an output, in one batch and one by one."""
    one_by_one = zip(*(run(image[None]) for image in images), strict=True)
    several = (run(images), tuple(map(torch.cat, one_by_one)))
    return max(_apart(module, module(images), got) for got in several)


def _apart(module: Exportable, expected: Outputs, got: Outputs) -> float:
    """See `export`."""
    score = expected[0].double()
    scale = score.abs().clamp_min(1)
    apart = (got[0].double() - score).abs() / scale
    if module.calibrated:
        # In units of the score, as a small deviation blows up what is but rounding.
        normalized = (got[1].double() - expected[1].double()).abs() * module.std / scale
        decided = (score - module.threshold).abs() / scale > TOLERANCE
        apart = torch.maximum(apart, normalized)
        apart[decided & (got[2] != expected[2])] = torch.inf
    return float(apart.max())


def _write_description(
    path: Path, model: Model, module: Exportable, differences: dict[str, float]
) -> None:
    meanings = {
        "score": "float32 (N,), higher is more anomalous",
        "normalized": "float32 (N,), standard deviations above the mean of normal images",
        "anomalous": "bool (N,), whether the score is above the threshold",
    }
    content = {
        "file": path.name,
        "input": {
            "name": "images",
            "dtype": "uint8",
            "shape": ["N", model.channels, model.size, model.size],
            "values": "0..255, RGB" if model.channels == 3 else "0..255, grey",
            "resize": "bilinear with antialiasing, both sides to the size, aspect not kept",
        },
        "outputs": {name: meanings[name] for name in module.outputs},
        "calibration": None if model.calibration is None else model.calibration.to_dict(),
        "largest_difference": differences,
        "meta": asdict(model.meta),
        "recipe": dict(model.recipe),
    }
    with replacing(path.with_name(path.name + ".json")) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())
