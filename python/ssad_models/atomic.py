# SPDX-License-Identifier: Apache-2.0
"""Files that are either whole or not there, whatever stops the program."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to write that takes the place of `path` once the block ends without an error.

    Until then, and after an error, `path` is what it was before. The new bytes are on disk before
    the name points to them, so not even a power cut leaves half a file.

    Args:
        path: The file to create or replace; its folder is made if need be. One writer at a time.

    Yields:
        A binary file, open for writing, in the same folder, since only there a rename is atomic.

    Raises:
        OSError: If the folder cannot be written, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Always the same name, so that what a killed program left behind is overwritten by the next.
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def save_tensors(path: Path, content: Any) -> None:
    """Write what `torch.load(path, weights_only=True)` reads, whole or not at all.

    Raises:
        OSError: If the folder cannot be written, or the disk is full; what was there is untouched.
    """
    # By way of memory, since `torch.save` hides the reason when a write fails.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with replacing(path) as file:
        file.write(buffer.getbuffer())
