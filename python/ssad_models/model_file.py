# SPDX-License-Identifier: Apache-2.0
"""A trained detector, and the one file that holds all of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ssad_models.atomic import save_tensors
from ssad_models.calibration import Calibration
from ssad_models.run_files import MODEL

KIND = "ssad_models model"
FORMAT = 2
"""Rises with every change that older versions could not read."""


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result may depend on."""
    found = {"python": platform.python_version()}
    for package in ("ssad-kernels", "torch", "torchvision", "lightning"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


@dataclass(frozen=True)
class Meta:
    """Where a model comes from.

    Attributes:
        category: What it was trained on.
        native_size: Median height and width of the training files in pixels.
        seed: Of the training.
        versions: Of Python and packages.
    """

    category: str
    native_size: tuple[int, int]
    seed: int
    versions: dict[str, str] = field(default_factory=versions)


class Prediction(NamedTuple):
    """What a model says about N images. On the CPU.

    Attributes:
        score: (N,) float32, higher is more anomalous.
        normalized: (N,) float32, the score in standard deviations above the mean of normal images;
            None without calibration.
        anomalous: (N,) bool, whether the score is above the threshold; None without calibration.
        map: (N, 1, S, S) float32, higher where the image looks more anomalous; None if not asked
            for.
    """

    score: torch.Tensor
    normalized: torch.Tensor | None
    anomalous: torch.Tensor | None
    map: torch.Tensor | None


@dataclass(frozen=True)
class Model:
    """A detector with everything that is needed to use it.

    Attributes:
        detector: Module in evaluation mode: (N, C, S, S) uint8 or float 0..1 -> (N,) float32. For
            maps it has `score_and_heat`: the same images -> the scores and (N, 1, S, S).
        calibration: Threshold and normalisation; None if there were too few held-out images.
        recipe: What it was trained by, in plain types; "method", "size" (S) and "channels" (C)
            among them.
        meta: Where it comes from.
    """

    detector: nn.Module
    calibration: Calibration | None
    recipe: Mapping[str, Any]
    meta: Meta

    @property
    def size(self) -> int:
        """Side S of the images that the detector takes."""
        return int(self.recipe["size"])

    @property
    def channels(self) -> int:
        """Channels C of the images that the detector takes."""
        return int(self.recipe["channels"])

    def predict(
        self, images: torch.Tensor, *, maps: bool = True, batch_size: int = 16
    ) -> Prediction:
        """Scores and heat maps.

        Args:
            images: (N, C, S, S) uint8 or float 0..1, on any device, N at least 1.
            maps: Whether to make heat maps, which cost more than the scores.
            batch_size: Images at a time.

        Returns:
            See `Prediction`.

        Raises:
            TypeError: If the images are no tensor, or neither uint8 nor float.
            ValueError: If they have another shape, or floats are outside of 0..1.
        """
        if not isinstance(images, torch.Tensor):
            msg = f"predict: `images` must be a tensor, got {type(images).__name__}"
            raise TypeError(msg)
        if images.dtype != torch.uint8 and not images.is_floating_point():
            msg = f"predict: `images` must be uint8 or float 0..1, got {images.dtype}"
            raise TypeError(msg)
        expected = (self.channels, self.size, self.size)
        if images.dim() != 4 or tuple(images.shape[1:]) != expected or len(images) == 0:
            must = f"have shape (N, {', '.join(map(str, expected))}) with N at least 1"
            msg = f"predict: `images` must {must}, got {tuple(images.shape)}"
            raise ValueError(msg)
        if images.is_floating_point() and not (images.amin() >= 0 and images.amax() <= 1):
            span = f"{images.amin():g} to {images.amax():g}"
            msg = f"predict: `images` that are floats must lie in 0..1, got {span}"
            raise ValueError(msg)
        tensors = [*self.detector.parameters(), *self.detector.buffers()]
        device = tensors[0].device if tensors else torch.device("cpu")
        scores, heat = [], []
        for batch in images.split(batch_size):
            with torch.no_grad():
                if maps:
                    score, map_ = self.detector.score_and_heat(batch.to(device))  # type: ignore[operator]  # a method
                    heat.append(map_.float().cpu())
                else:
                    score = self.detector(batch.to(device))
            scores.append(score.float().cpu())
        score, calibration = torch.cat(scores), self.calibration
        return Prediction(
            score=score,
            normalized=None if calibration is None else calibration.normalize(score),
            anomalous=None if calibration is None else calibration.is_anomalous(score),
            map=torch.cat(heat) if maps else None,
        )


def save(path: Path, model: Model) -> None:
    """Write a model file: whole or not at all.

    Raises:
        OSError: If it cannot be written; a file that was there before is then untouched.
    """
    content = {
        "kind": KIND,
        "format": FORMAT,
        "recipe": dict(model.recipe),
        "state": {name: t.detach().cpu() for name, t in model.detector.state_dict().items()},
        "calibration": None if model.calibration is None else model.calibration.to_dict(),
        "meta": asdict(model.meta),
    }
    save_tensors(path, content)


def load(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> Model:
    """Read a model file. Nothing in it is executed.

    Args:
        path: What `save` wrote.
        device: Where to put the detector.

    Returns:
        The model, its detector in evaluation mode without gradients.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no model file, is damaged, or is of another format; the message says
            which and what to do.
    """
    from ssad_models.methods import METHODS
    from ssad_models.recipe import recipe_of

    path = Path(path)
    content = _read(path)
    with _said(path):
        recipe = recipe_of(content["recipe"])
        detector = METHODS[recipe.method].blank(recipe)
        detector.load_state_dict(content["state"])
        numbers = content["calibration"]
        return Model(
            detector=detector.eval().requires_grad_(False).to(device),
            calibration=None if numbers is None else Calibration(**numbers),
            recipe=content["recipe"],
            meta=_meta(content),
        )


def load_meta(path: str | os.PathLike[str]) -> Meta:
    """Read where a model comes from, without its weights.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: See `load`.
    """
    path = Path(path)
    content = _read(path, mmap=True)
    with _said(path):
        return _meta(content)


def _meta(content: Mapping[str, Any]) -> Meta:
    meta = content["meta"]
    return Meta(**{**meta, "native_size": tuple(meta["native_size"])})


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Say of a file that has the right form and cannot be used what to do about it."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        msg = (
            f"{path}: the model does not fit this version of ssad-kernels "
            f"({_first_line(error)}); update ssad-kernels, or train the model again"
        )
        raise ValueError(msg) from error


def _read(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """The content of a model file of this format; with `mmap`, tensors are not read yet."""
    if path.is_dir():
        msg = f"{path}: must be a model file such as {path / MODEL}, got a folder"
        raise ValueError(msg)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except OSError:
        raise
    except Exception as error:  # on a damaged file the unpickler raises almost anything
        msg = (
            f"{path}: must be a whole model file, as `ssadk train` writes it (not an export of "
            "one), got a file that cannot be read; copy it again, or train again"
        )
        raise ValueError(msg) from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        msg = f"{path}: must be a model file, as `ssadk train` writes it, got another kind of file"
        raise ValueError(msg)
    if content["format"] != FORMAT:
        remedy = "update ssad-kernels" if content["format"] > FORMAT else "train the model again"
        msg = f"{path}: the file's format must be {FORMAT}, got {content['format']}; {remedy}"
        raise ValueError(msg)
    return content


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
