# SPDX-License-Identifier: Apache-2.0
"""What the recipes of all methods share: their common settings, and how settings are checked."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")


class RecipeError(ValueError):
    """A recipe that cannot be found, read or used; the message says which value, and what helps."""


# A check returns the value in its proper type, or raises ValueError with what it must be.
Check = Callable[[Any], Any]


def setting(check: Check, default: Any = dataclasses.MISSING) -> Any:
    """A field of a recipe, with the check of its values.

    A default is for what was added later: it must mean what was done before, so that recipes and
    models of earlier can be read.
    """
    return dataclasses.field(default=default, metadata={"check": check})


def one_of(*choices: Any) -> Check:
    """One of a few values."""

    def check(value: Any) -> Any:
        # YAML reads 1 and true as equal.
        if value not in choices or isinstance(value, bool):
            raise ValueError("one of " + ", ".join(map(str, choices)))
        return value

    return check


def integer(low: int, high: int) -> Check:
    """A whole number in low..high."""

    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            msg = f"a whole number {low} to {high}"
            raise ValueError(msg)
        return value

    return check


def number(low: float, high: float) -> Check:
    """A number in low..high."""

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


def optional(check: Check) -> Check:
    """The same, or null."""

    def checked(value: Any) -> Any:
        try:
            return None if value is None else check(value)
        except ValueError as error:
            msg = f"null or {error}"
            raise ValueError(msg) from None

    return checked


def list_of(check: Check, what: str) -> Check:
    """A list of at least one item."""

    def checked(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or not value:
            msg = f"a list of {what}, at least one"
            raise ValueError(msg)
        return tuple(check(item) for item in value)

    return checked


def pair(low: float, high: float) -> Check:
    """Two numbers in low..high, the second at least the first."""

    def check(value: Any) -> tuple[float, float]:
        must = f"two numbers [low, high] within {low:g} to {high:g}"
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            raise ValueError(must)
        try:
            both = tuple(number(low, high)(each) for each in value)
        except ValueError:
            raise ValueError(must) from None
        if both[0] > both[1]:
            raise ValueError(must)
        return both

    return check


def boolean(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        msg = "true or false"
        raise ValueError(msg)
    return value


def text(value: Any) -> str:
    """Any text."""
    if not isinstance(value, str):
        msg = "a text"
        raise ValueError(msg)
    return value


def categories(value: Any) -> dict[str, dict[str, Any]]:
    """Settings by category; they are checked with the recipe that they become."""
    if not isinstance(value, Mapping) or not all(isinstance(v, Mapping) for v in value.values()):
        msg = "a mapping of categories to settings"
        raise ValueError(msg)
    return {str(category): dict(settings) for category, settings in value.items()}


T = TypeVar("T")
R = TypeVar("R", bound="Recipe")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of an error about a word: the known one that is most like it, if one is."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.7)
    return f"; did you mean `{near[0]}`?" if near else ""


def checked(cls: type[T], values: Mapping[Any, Any], where: str) -> T:
    """Make a dataclass of values for all of its fields.

    Args:
        cls: Its fields are made by `setting`.
        values: One for each field that has no default.
        where: What the values are from, for errors.

    Raises:
        RecipeError: If a key is unknown or missing, or a value has a wrong type or range.
    """
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    checks = {f.name: f.metadata["check"] for f in fields}
    for key in values:
        if key not in checks:
            hint = did_you_mean(str(key), checks) or f"; there are {', '.join(checks)}"
            msg = f"{where}: `{key}` is not a setting{hint}"
            raise RecipeError(msg)
    required = [f.name for f in fields if f.default is dataclasses.MISSING]
    missing = [key for key in required if key not in values]
    if missing:
        msg = f"{where}: `{missing[0]}` is missing; set it, or name a `base` that has it"
        raise RecipeError(msg)
    key = ""
    try:
        result = {}
        for key, value in values.items():
            result[key] = checks[key](value)
        return cls(**result)
    except RecipeError as error:
        msg = f"{where}: {error}"
        raise RecipeError(msg) from None
    except (ValueError, TypeError) as error:
        msg = f"{where}: `{key}` must be {error}, got {values[key]!r}"
        raise RecipeError(msg) from None


def shared_out(total: int, shares: Sequence[int]) -> list[int]:
    """A whole number in parts that are as their shares, rounded; at least 1 each."""
    parts: list[int] = []
    for place, share in enumerate(accumulate(shares), start=1):
        end = min(total * share // sum(shares), total - len(shares) + place)
        parts.append(max(1, end - sum(parts)))
    return parts


class Plan(NamedTuple):
    """How long a training is.

    Attributes:
        steps: Updates.
        steps_per_epoch: Steps between two checkpoints.
        whole_passes: Whether an epoch is one pass over the images, its last batch smaller where
            they do not divide; otherwise batches are full and passes follow on each other.
    """

    steps: int
    steps_per_epoch: int
    whole_passes: bool


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of one training run, those of all methods. A method adds its own in a subclass.

    Attributes:
        method: A key of `ssad_models.methods.METHODS`.
        size: Side in pixels to which images are resized.
        channels: 1 or 3.
        batch: Images per step, before augmentation.
        held_out: Share of the normal images kept for the threshold, and never trained on.
        false_alarm: Share of normal images that may be called anomalous.
        precision: Lightning's flag, one of `PRECISIONS`.
        categories: Settings that replace these for single categories.
    """

    method: str = setting(text)
    size: int = setting(integer(32, 4096))
    channels: int = setting(one_of(1, 3))
    batch: int = setting(integer(1, 65536))
    held_out: float = setting(number(0.0, 0.5))
    false_alarm: float = setting(number(1e-6, 0.5))
    precision: str = setting(one_of(*PRECISIONS))
    categories: Mapping[str, Mapping[str, Any]] = setting(categories)

    @property
    def title(self) -> str:
        """How reports call what this recipe trains."""
        return self.method

    @property
    def idle_parameters(self) -> bool:
        """Whether parameters are without a gradient in some steps."""
        return False

    @property
    def loading_size(self) -> int:
        """Side in pixels to which training images are resized, if it is not `size`."""
        return self.size

    def plan(self, images: int) -> Plan:
        """How long to train on a number of images."""
        raise NotImplementedError

    def for_steps(self: R, steps: int, images: int) -> R:
        """The same settings with another length of the training, its schedules stretched to it.

        This is for recipes that count passes over the images, in `epochs` and in other settings
        whose names end so: all change alike. Others have their own; `plan` of the result tells how
        many steps there are.

        Args:
            steps: At least 1.
            images: Number of images to train on.
        """
        names = [f.name for f in dataclasses.fields(self) if f.name.endswith("epochs")]
        counts = {name: getattr(self, name) for name in names if getattr(self, name)}
        wanted = -(-steps // self.plan(images).steps_per_epoch)
        parts = shared_out(wanted, list(counts.values()))
        changed: dict[str, Any] = dict(zip(counts, parts, strict=True))
        return dataclasses.replace(self, **changed)

    def for_category(self: R, category: str) -> R:
        """The settings of one category: its own replace the general ones.

        Raises:
            RecipeError: If the recipe is not for this category.
        """
        own = self.categories.get(category, {})
        values = {**self.to_dict(), **own, "categories": {}}
        return checked(type(self), values, f"recipe of category {category!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, for checkpoints and JSON."""
        return dict(_plain(dataclasses.asdict(self).items()))


@dataclass(frozen=True, kw_only=True)
class ScalableRecipe(Recipe):
    """Of methods whose networks, trained from scratch, can be narrower or wider than published.

    Attributes:
        network_width: What channels are multiplied by, see `ssad_models.widths.scaled`; 1 is as
            published.
    """

    network_width: float = setting(number(0.001, 2.0), default=1.0)

    @property
    def width_title(self) -> str:
        """The end of a title: nothing for networks as published."""
        return "" if self.network_width == 1 else f", width {self.network_width:g}"


def _plain(items: Any) -> Iterator[tuple[str, Any]]:
    for name, value in items:
        yield name, list(value) if isinstance(value, tuple) else value
