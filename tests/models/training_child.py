# SPDX-License-Identifier: Apache-2.0
"""Trains in another process, which tests may kill or starve."""

from __future__ import annotations

import multiprocessing
import resource
from multiprocessing.process import BaseProcess
from pathlib import Path

from ssad_models.data.split import Source
from ssad_models.recipe import Recipe
from ssad_models.training import train

# The server has imported what takes long, so its children start at once.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["ssad_models.training", "ssad_models.data.sources"])

ERROR = "error.txt"


def start(recipe: Recipe, source: Source, out: Path, file_size: int = -1) -> BaseProcess:
    """Begin to train, saving every epoch; no file may grow beyond `file_size` bytes if positive."""
    process = _context.Process(target=_train, args=(recipe, source, out, file_size))
    process.start()
    return process


def _train(recipe: Recipe, source: Source, out: Path, file_size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    try:
        train(recipe, source, out, save_seconds=0, tensorboard=False)
    except OSError as error:
        (out / ERROR).write_text(str(error), encoding="utf-8")
