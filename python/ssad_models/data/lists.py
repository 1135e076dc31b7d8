# SPDX-License-Identifier: Apache-2.0
"""Data sets given by text files that name images, as NSA's for chest X-rays."""

from __future__ import annotations

import re
from pathlib import Path

from ssad_models.data.folders import Samples
from ssad_models.data.images import DataError
from ssad_models.data.split import Sample
from ssad_models.names import printable

# Such as norm_MaleAdultPA_train_curated_list.txt and anomaly_MaleAdultPA_test_curated_list.txt.
_NAME = re.compile(
    r"(?P<label>normal|norm|abnormal|anomaly)_((?P<category>.+)_)?(?P<split>train|test)(_.*)?\.txt"
)


def find_lists(folder: Path, usual: str) -> dict[str, dict[tuple[bool, str], Path]]:
    """The lists of a folder.

    Args:
        folder: Where to look.
        usual: The category of lists whose names have none.

    Returns:
        For each category, the file of each (anomalous, "train" or "test").

    Raises:
        DataError: If two lists are for the same.
    """
    found: dict[str, dict[tuple[bool, str], Path]] = {}
    for path in sorted(folder.glob("*.txt")):
        if match := _NAME.fullmatch(path.name):
            own = found.setdefault(printable(match["category"] or usual), {})
            part = match["label"] in ("abnormal", "anomaly"), match["split"]
            if part in own:
                msg = (
                    f"{printable(path)}: must be the only list of its kind, got "
                    f"{printable(own[part].name)}, too; join them"
                )
                raise DataError(msg)
            own[part] = path
    return found


def read_lists(files: dict[tuple[bool, str], Path], images: Path) -> Samples:
    """Read the lists of one category.

    Args:
        files: See `find_lists`. A list of anomalous training images is of no use here.
        images: Folder that the names in the lists are relative to.

    Raises:
        DataError: If there is no list of normal training images, a list is empty or names a file
            twice or one that does not exist, or a test image is among the training images.
    """
    if (False, "train") not in files:
        other = next(iter(files.values()))
        msg = f"{printable(other)}: must have a list norm_…_train.txt beside it, got none; add it"
        raise DataError(msg)
    seen: set[Path] = set()
    train = _read(files[False, "train"], images, seen)
    test = []
    for anomalous in (False, True):
        if path := files.get((anomalous, "test")):
            test += _read(path, images, seen, anomalous=anomalous)
    return train, test


def _read(path: Path, images: Path, seen: set[Path], *, anomalous: bool = False) -> list[Sample]:
    """The samples of one list, whose files, links resolved, are added to those `seen`."""
    kind = "anomaly" if anomalous else "good"
    samples = []
    # Names are bytes to the file system, and a text editor may have put a mark before them.
    lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not name:
            continue
        where = f"{printable(path)}, line {number}"
        file = images / name
        if not file.is_file():
            msg = (
                f"{where}: must name an image in {printable(images)}, got {printable(name)}; "
                "correct the name, or name the folder of the images"
            )
            raise DataError(msg)
        resolved = file.resolve()
        if resolved in seen:
            msg = f"{where}: an image must be named once, got {printable(name)} again; remove it"
            raise DataError(msg)
        seen.add(resolved)
        samples.append(Sample(file, printable(name).lstrip("/"), kind, anomalous))
    if not samples:
        msg = f"{printable(path)}: must name images, one a line, got none; add them"
        raise DataError(msg)
    return samples
