# SPDX-License-Identifier: Apache-2.0
"""Recipes: every setting of a training run, read from YAML and checked."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

BUILT_IN = Path(__file__).parent / "recipes"

METHODS = ("cutpaste",)
PROXIES = (
    "3way", "cutpaste", "cutpaste-scar", "union", "rotation", "cutout", "scar", "confetti",
)  # fmt: skip
BACKBONES = ("lite0", "resnet18", "resnet50", *(f"efficientnet_b{i}" for i in range(8)))
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")


class RecipeError(ValueError):
    """A recipe that cannot be found, read or used; the message says which value, and what helps."""


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes:
        train: "all" layers, or the "head" (with the neck) on a backbone that stays as it is.
        steps: Updates.
        lr: Learning rate at the start; it falls to 0 over the stage along half a cosine.
    """

    train: str
    steps: int
    lr: float


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run. `load_recipe` makes them; the files say where values are from.

    Attributes:
        method: A key of `ssad_models.methods.METHODS`.
        proxy: The task that the network learns, one of `PROXIES`. "cutpaste", "cutpaste-scar",
            "cutout", "scar" (of random colour) and "confetti" are binary; "union" is CutPaste or
            CutPaste-Scar against normal.
        size: Side in pixels to which images are resized.
        channels: 1 or 3.
        backbone: One of `BACKBONES`.
        weights: None for random, "package" for lite0's ImageNet weights, or a state dict of
            torchvision's model of that name in a local file. "random" where the first stage trains
            the head alone, which None refuses, as it is hardly ever meant.
        features: What the density is fitted to: "pooled", the mean of the last maps, or "level7",
            the mean of an EfficientNet's sixth stage.
        head: Widths of the hidden layers, at least one.
        neck: Width of a 1x1 convolution before the head, None for none.
        batch: Images per step, before augmentation.
        stages: Trained one after another.
        steps_per_epoch: Steps between two checkpoints.
        optimizer: "sgd" or "adam".
        momentum: Of SGD.
        weight_decay: L2 penalty.
        freeze_batch_norm: Leave the backbone's batch norms as they are, in every stage.
        crop: Side of the random crop to train on; None for whole images.
        shift: Largest random translation of whole images, in parts of their side.
        jitter: Largest random change of brightness, contrast, saturation and hue of whole images.
        score: "density", or "density+head": plus the log-odds of the head.
        shrinkage: Of the covariance, "ridge" or "ledoit_wolf".
        held_out: Share of the normal images kept for the threshold, and never trained on.
        false_alarm: Share of normal images that may be called anomalous.
        precision: Lightning's flag, one of `PRECISIONS`.
        categories: Settings that replace these for single categories.
    """

    method: str
    proxy: str
    size: int
    channels: int
    backbone: str
    weights: str | None
    features: str
    head: tuple[int, ...]
    neck: int | None
    batch: int
    stages: tuple[Stage, ...]
    steps_per_epoch: int
    optimizer: str
    momentum: float
    weight_decay: float
    freeze_batch_norm: bool
    crop: int | None
    shift: float
    jitter: float
    score: str
    shrinkage: str
    held_out: float
    false_alarm: float
    precision: str
    categories: Mapping[str, Mapping[str, Any]]

    @property
    def steps(self) -> int:
        """Updates of all stages."""
        return sum(stage.steps for stage in self.stages)

    def for_category(self, category: str) -> Recipe:
        """The settings of one category: its own replace the general ones."""
        own = self.categories.get(category, {})
        values = {**self.to_dict(), **own, "categories": {}}
        return Recipe.from_dict(values, f"recipe of category {category!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, for checkpoints and JSON."""
        values = dataclasses.asdict(self)
        return values | {"head": list(self.head), "stages": list(values["stages"])}

    @staticmethod
    def from_dict(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
        """Check values and make a recipe of them.

        Args:
            values: One for each field, as `to_dict` gives them.
            where: What the values are from, for errors.

        Raises:
            RecipeError: If a key is unknown or missing, or a value has a wrong type or range.
        """
        return Recipe(**_checked(values, _FIELDS, where))


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    A file may name another recipe as its `base`, and then needs only what differs.

    Args:
        name_or_path: Name of a recipe of this package, such as "cutpaste", or a YAML file.
        overrides: Settings that replace the file's, such as "size=128" or
            "stages=[{train: all, steps: 100, lr: 0.01}]"; the values are YAML.

    Raises:
        RecipeError: If the file cannot be read, or a setting is unknown or wrong.
    """
    values = _read(name_or_path, ())
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            msg = f"a setting must have the form key=value, got {override!r}"
            raise RecipeError(msg)
        values[key.strip()] = _parse(text, f"setting {override!r}")
    recipe = Recipe.from_dict(values, str(name_or_path))
    for category in recipe.categories:
        recipe.for_category(category)  # so that a mistake shows now, not after hours
    return recipe


def _read(name_or_path: str | Path, heirs: tuple[Path, ...]) -> dict[str, Any]:
    """The values of a file over those of its base; `heirs` are the files that it is a base of."""
    built_in = BUILT_IN / f"{name_or_path}.yaml"
    path = built_in if built_in.is_file() else Path(name_or_path)
    if path in heirs:
        msg = f"{path}: `base` must not lead back to the file itself"
        raise RecipeError(msg)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        names = ", ".join(sorted(file.stem for file in BUILT_IN.glob("*.yaml")))
        reason = getattr(error, "strerror", None) or "not a text file"
        msg = f"a recipe must be a YAML file or one of {names}, got {name_or_path} ({reason})"
        raise RecipeError(msg) from None
    values = _parse(text, str(path))
    if not isinstance(values, dict):
        msg = f"{path}: a recipe must be a mapping of settings, got {type(values).__name__}"
        raise RecipeError(msg)
    base = values.pop("base", None)
    return values if base is None else {**_read(str(base), (*heirs, path)), **values}


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        msg = f"{where}{line}: must be YAML, got {getattr(error, 'problem', None) or error}"
        raise RecipeError(msg) from None


# A check returns the value in its proper type, or raises ValueError with what it must be.
Check = Callable[[Any], Any]


def _checked(values: Mapping[Any, Any], checks: Mapping[str, Check], where: str) -> dict[str, Any]:
    for key in values:
        if key not in checks:
            near = difflib.get_close_matches(str(key), checks, n=1)
            hint = f"; did you mean `{near[0]}`?" if near else f"; there are {', '.join(checks)}"
            msg = f"{where}: `{key}` is not a setting{hint}"
            raise RecipeError(msg)
    missing = [key for key in checks if key not in values]
    if missing:
        msg = f"{where}: `{missing[0]}` is missing; set it, or name a `base` that has it"
        raise RecipeError(msg)
    result = {}
    for key, check in checks.items():
        try:
            result[key] = check(values[key])
        except RecipeError as error:
            msg = f"{where}: {error}"
            raise RecipeError(msg) from None
        except (ValueError, TypeError) as error:
            msg = f"{where}: `{key}` must be {error}, got {values[key]!r}"
            raise RecipeError(msg) from None
    crop, size = result.get("crop"), result.get("size")
    if crop is not None and crop > size:
        msg = f"{where}: `crop` must be at most `size`, {size}, got {crop}"
        raise RecipeError(msg)
    return result


def _one_of(*choices: Any) -> Check:
    def check(value: Any) -> Any:
        # YAML reads 1 and true as equal.
        if value not in choices or isinstance(value, bool):
            raise ValueError("one of " + ", ".join(map(str, choices)))
        return value

    return check


def _integer(low: int, high: int) -> Check:
    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            msg = f"a whole number {low} to {high}"
            raise ValueError(msg)
        return value

    return check


def _number(low: float, high: float) -> Check:
    def check(value: Any) -> float:
        try:
            # YAML takes 1e-4 for a string: it wants 1.0e-4.
            number = float(value)
        except (ValueError, TypeError):
            number = float("nan")
        if isinstance(value, bool) or not low <= number <= high:
            msg = f"a number {low:g} to {high:g}"
            raise ValueError(msg)
        return number

    return check


def _optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _list(check: Check, what: str) -> Check:
    def checked(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or not value:
            msg = f"a list of {what}, at least one"
            raise ValueError(msg)
        return tuple(check(item) for item in value)

    return checked


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        msg = "true or false"
        raise ValueError(msg)
    return value


def _weights(value: Any) -> str | None:
    if not isinstance(value, str):
        msg = "null, package or the name of a file"
        raise ValueError(msg)
    return value


def _stage(value: Any) -> Stage:
    if isinstance(value, Stage):
        return value
    if not isinstance(value, Mapping):
        msg = "a list of stages {train, steps, lr}"
        raise ValueError(msg)
    checks = {
        "train": _one_of("all", "head"),
        "steps": _integer(1, 1 << 31),
        "lr": _number(0.0, 1e3),
    }
    return Stage(**_checked(value, checks, "stage"))


def _categories(value: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(value, Mapping) or not all(isinstance(v, Mapping) for v in value.values()):
        msg = "a mapping of categories to settings"
        raise ValueError(msg)
    return {str(category): dict(settings) for category, settings in value.items()}


_FIELDS: dict[str, Check] = {
    "method": _one_of(*METHODS),
    "proxy": _one_of(*PROXIES),
    "size": _integer(32, 4096),
    "channels": _one_of(1, 3),
    "backbone": _one_of(*BACKBONES),
    "weights": _optional(_weights),
    "features": _one_of("pooled", "level7"),
    "head": _list(_integer(1, 65536), "widths"),
    "neck": _optional(_integer(1, 65536)),
    "batch": _integer(1, 65536),
    "stages": _list(_stage, "stages {train, steps, lr}"),
    "steps_per_epoch": _integer(1, 1 << 31),
    "optimizer": _one_of("sgd", "adam"),
    "momentum": _number(0.0, 1.0),
    "weight_decay": _number(0.0, 1e3),
    "freeze_batch_norm": _boolean,
    "crop": _optional(_integer(32, 4096)),
    "shift": _number(0.0, 0.5),
    "jitter": _number(0.0, 0.5),
    "score": _one_of("density", "density+head"),
    "shrinkage": _one_of("ridge", "ledoit_wolf"),
    "held_out": _number(0.0, 0.5),
    "false_alarm": _number(1e-6, 0.5),
    "precision": _one_of(*PRECISIONS),
    "categories": _categories,
}
