# SPDX-License-Identifier: Apache-2.0
"""Recipes: every setting of a training run, read from YAML and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ssad_models.anoseg.recipe import AnosegRecipe
from ssad_models.cutpaste.patch_recipe import CutPastePatchRecipe
from ssad_models.cutpaste.recipe import CutPasteRecipe
from ssad_models.nsa.recipe import NsaRecipe
from ssad_models.settings import Recipe, RecipeError, checked, did_you_mean
from ssad_models.ssm.recipe import SsmRecipe

__all__ = ["BUILT_IN", "METHODS", "Recipe", "RecipeError", "load_recipe", "recipe_of"]

BUILT_IN = Path(__file__).parent / "recipes"

METHODS: dict[str, type[Recipe]] = {
    "anoseg": AnosegRecipe,
    "cutpaste": CutPasteRecipe,
    "cutpaste-patch": CutPastePatchRecipe,
    "nsa": NsaRecipe,
    "fpi": NsaRecipe,
    "pii": NsaRecipe,
    "ssm": SsmRecipe,
}
"""The settings of each method."""


def recipe_of(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Check values and make a recipe of them.

    Args:
        values: One for each setting of the method, as `Recipe.to_dict` gives them.
        where: What the values are from, for errors.

    Raises:
        RecipeError: If a key is unknown or missing, or a value has a wrong type or range.
    """
    method = values.get("method")
    if "method" in values and method not in METHODS:
        msg = f"{where}: `method` must be one of {', '.join(METHODS)}, got {method!r}"
        raise RecipeError(msg)
    return checked(METHODS.get(str(method), Recipe), values, where)


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    A file may name another recipe as its `base`, and then needs only what differs. What it sets
    holds for every category, also for those that the base makes an exception of. Exceptions of its
    own are added to the base's, unless `categories` is empty.

    Args:
        name_or_path: Name of a recipe of this package, such as "cutpaste", or a YAML file.
        overrides: Settings that replace the file's, such as "size=128" or
            "stages=[{train: all, steps: 100, lr: 0.01}]"; the values are YAML. They hold for every
            category, too.

    Raises:
        RecipeError: If the file cannot be read, or a setting is unknown or wrong.
    """
    values = _read(name_or_path, ())
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            msg = f"a setting must have the form key=value, got {override!r}"
            raise RecipeError(msg)
        values = _over({key.strip(): _parse(text, f"setting {override!r}")}, values)
    recipe = recipe_of(values, str(name_or_path))
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
        names = sorted(file.stem for file in BUILT_IN.glob("*.yaml"))
        reason = getattr(error, "strerror", None) or "not a text file"
        msg = (
            f"a recipe must be a YAML file or one of {', '.join(names)}, "
            f"got {name_or_path} ({reason}){did_you_mean(str(name_or_path), names)}"
        )
        raise RecipeError(msg) from None
    values = _parse(text, str(path))
    if not isinstance(values, dict):
        msg = f"{path}: a recipe must be a mapping of settings, got {type(values).__name__}"
        raise RecipeError(msg)
    base = values.pop("base", None)
    return values if base is None else _over(values, _read(str(base), (*heirs, path)))


def _over(upper: dict[str, Any], lower: dict[str, Any]) -> dict[str, Any]:
    """The lower settings with the upper ones in their place, for every category."""
    above, below = _exceptions(upper), _exceptions(lower)
    merged = {**lower, **upper}
    if "categories" in upper and not above:
        return merged  # none, or nothing that can be merged
    if above is not None and below is not None:
        merged["categories"] = {
            category: {
                **{
                    key: value for key, value in below.get(category, {}).items() if key not in upper
                },
                **above.get(category, {}),
            }
            for category in {**below, **above}
        }
    return merged


def _exceptions(values: dict[str, Any]) -> dict[Any, dict[Any, Any]] | None:
    """What is set for single categories; None if it is nothing that can be merged."""
    found = values.get("categories", {})
    mergeable = isinstance(found, dict) and all(isinstance(v, dict) for v in found.values())
    return found if mergeable else None


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        msg = f"{where}{line}: must be YAML, got {getattr(error, 'problem', None) or error}"
        raise RecipeError(msg) from None
