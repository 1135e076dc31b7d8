# SPDX-License-Identifier: Apache-2.0
"""What commands share: options, consoles, and errors in one line."""

from __future__ import annotations

import functools
import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from ssad_models.data.split import Source

console = Console()
errors = Console(stderr=True)

Data = Annotated[
    str,
    typer.Argument(
        help="A data set: its root folder, the folder of one category, or the word builtin.",
        metavar="DATA",
    ),
]
Layout = Annotated[
    str, typer.Option(help="How DATA is laid out: auto, mvtec, oct2017, lists or folders.")
]
Categories = Annotated[
    list[str] | None,
    typer.Option("--category", help="Only this category; may be given several times."),
]
Folders = Annotated[
    list[str] | None,
    typer.Option(
        "--folder",
        help="Name of a folder in DATA that is called otherwise: normal=..., normal_test=..., "
        "abnormal=..., masks=... or images=...; may be given several times.",
    ),
]
RecipeName = Annotated[
    str, typer.Option("--recipe", help="Name of a built-in recipe, or a YAML file.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Replace a setting of the recipe, as in size=128; may be given several times."
    ),
]
Proxy = Annotated[
    str | None,
    typer.Option(
        help="Task to learn: 3way, cutpaste, cutpaste-scar, union, rotation, cutout, scar or "
        "confetti. By default the recipe's."
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU if there is one.")]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Threads that make training batches. By default as many as the device needs.",
    ),
]
Seeds = Annotated[str, typer.Option(help="Seeds of training, with commas between.")]


def one_line_errors(name: str, command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the option --debug, and without it show errors as one line on stderr."""

    @functools.wraps(command)
    def run(*args: Any, debug: bool, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (typer.BadParameter, typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            say("interrupted; the same command takes the work up again")
            raise typer.Exit(130) from None
        except SystemExit:  # Lightning's answer to the same, when training has said so
            raise typer.Exit(130) from None
        except Exception as error:
            if debug:
                raise
            say(_one_line(error))
            raise typer.Exit(1) from None

    def say(text: str) -> None:
        errors.print(f"ssadk {name}: {text}", markup=False, highlight=False, soft_wrap=True)

    option = typer.Option("--debug", help="Show the traceback of an error.")
    parameter = inspect.Parameter(
        "debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, option]
    )
    signature = inspect.signature(command, eval_str=True)
    parameters = [*signature.parameters.values(), parameter]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _one_line(error: Exception) -> str:
    """What is wrong; errors that nobody foresaw say so."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split()) or type(error).__name__
    # These are raised with a message for users, or by the system.
    if isinstance(error, (OSError, ValueError, RuntimeError, ModuleNotFoundError)):
        return text
    return f"unexpected {type(error).__name__}: {text}; please report it with --debug's traceback"


def pick_device(name: str) -> str:
    """The device that `--device` means, "cpu" or "cuda".

    Raises:
        typer.BadParameter: If the name is unknown or there is no GPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        msg = f"--device must be cpu, cuda or auto, got {name!r}"
        raise typer.BadParameter(msg)
    if name == "cpu":
        return name
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        msg = "torch finds no CUDA device; use --device cpu"
        raise typer.BadParameter(msg)
    return "cpu"


def check_writable(folder: Path) -> None:
    """Find out before the work whether the output folder can be made and written; makes nothing.

    Raises:
        OSError: If it cannot; the message has the remedy.
    """
    there = next(each for each in (folder, *folder.parents, Path()) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        msg = f"{folder}: cannot be written to ({error.strerror}); choose another --out"
        raise OSError(msg) from None


def parse_seeds(text: str) -> tuple[int, ...]:
    """Numbers out of "0,1,2".

    Raises:
        typer.BadParameter: If they are not different numbers, at least 0.
    """
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        seeds = ()
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        msg = f"must be different numbers such as 0,1,2, got {text!r}"
        raise typer.BadParameter(msg)
    return seeds


def overrides(settings: list[str] | None, proxy: str | None) -> list[str]:
    """The settings that `load_recipe` takes, from the options `--set` and `--proxy`."""
    return [*(settings or ()), *([] if proxy is None else [f"proxy={proxy}"])]


def find_sources(
    data: str, layout: str, categories: list[str] | None, folders: list[str] | None
) -> list[Source]:
    """The categories of a data set.

    Raises:
        typer.BadParameter: If `--folder` is not of the form role=name.
    """
    names = {}
    for folder in folders or ():
        role, equals, name = folder.partition("=")
        if not equals or role not in ("normal", "normal_test", "abnormal", "masks", "images"):
            msg = f"--folder must be like normal=NAME, abnormal=NAME or masks=NAME, got {folder!r}"
            raise typer.BadParameter(msg)
        names[role] = name
    from ssad_models.data.sources import find

    return find(data, layout, categories or (), **names)
