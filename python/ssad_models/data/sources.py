# SPDX-License-Identifier: Apache-2.0
"""Finds the data sets that a path holds, whatever their layout."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ssad_models.data import folders, lists, loco
from ssad_models.data.cache import decode
from ssad_models.data.images import DataError
from ssad_models.data.split import Advance, Sample, Source, Split
from ssad_models.names import printable

LAYOUTS = {
    "builtin": "the word builtin instead of a path: photographs that come with scikit-image",
    "mvtec": "train/good, test/KIND, perhaps ground_truth/KIND, in one folder or one a category",
    "oct2017": "train/NORMAL, test/NORMAL, test/CNV, test/DME, test/DRUSEN",
    "lists": "text files that name images: norm_…_train.txt, norm_…_test.txt, anomaly_…_test.txt",
    "folders": "folders normal, normal_test, abnormal and masks, of which only the first is needed",
}
"""Names of the layouts and what they look like."""

_Choices = dict[str, Callable[[], Source]]


@dataclass(frozen=True)
class FileSource:
    """One category of a data set of image files; a `Source`.

    Attributes:
        name: Of the category.
        train_samples: Normal images, at least one.
        test_samples: Test images; none if the data set has no test set.
        saturations: By pixel value of masks of single defects; empty if defects are not told apart.
    """

    name: str
    train_samples: Sequence[Sample]
    test_samples: Sequence[Sample] = ()
    saturations: Mapping[int, loco.Saturation] = field(default_factory=dict)

    def train(self, size: int, channels: int, advance: Advance | None = None) -> Split:
        """Normal training images; see `Source` and `decode`."""
        return decode(self.train_samples, size, channels, advance)

    def test(self, size: int, channels: int, advance: Advance | None = None) -> Split | None:
        """Test images, or None; see `Source`, `decode` and `loco.read_annotations`."""
        if not self.test_samples:
            return None
        split = decode(self.test_samples, size, channels, advance)
        if not self.saturations or split.masks is None:
            return split
        found = loco.read_annotations(self.test_samples, split.sizes, self.saturations)
        return replace(split, annotations=found)

    def counts(self) -> tuple[int, int]:
        """Number of training and of test images."""
        return len(self.train_samples), len(self.test_samples)

    def fingerprint(self) -> str:
        """Hash of the training files' names, sizes and times; see `Source`."""
        return _fingerprint(self.train_samples)

    def test_fingerprint(self) -> str:
        """Hash of the test files' and masks' names, sizes and times; see `Source`."""
        return _fingerprint(self.test_samples, repr(self.saturations) if self.saturations else "")


def _fingerprint(samples: Sequence[Sample], more: str = "") -> str:
    digest = hashlib.sha256(more.encode())
    for sample in sorted(samples, key=lambda sample: (sample.kind, sample.name)):
        masks = [] if sample.mask is None else folders.mask_files(sample.mask)
        files = [path.stat() for path in (sample.path, *masks)]
        stamps = [(file.st_size, file.st_mtime_ns) for file in files]
        digest.update(repr((sample.kind, sample.name, stamps)).encode())
    return digest.hexdigest()[:16]


def find(
    path: str | Path,
    layout: str = "auto",
    categories: Sequence[str] = (),
    *,
    normal: str | None = None,
    normal_test: str | None = None,
    abnormal: str | None = None,
    masks: str | None = None,
    images: str | None = None,
) -> list[Source]:
    """List the categories of a data set; nothing is decoded yet.

    Args:
        path: A folder, or "builtin".
        layout: A key of `LAYOUTS`, or "auto" to tell from what is there.
        categories: Names to choose; by default all, in alphabetical order.
        normal: Names of folders for the layout "folders", see `folders.folders`.
        normal_test: Likewise.
        abnormal: Likewise.
        masks: Likewise.
        images: Folder of the images for the layout "lists"; by default that of the lists.

    Returns:
        At least one source.

    Raises:
        DataError: If the layout is not clear, a category does not exist, or files are missing; see
            also `folders` and `lists`.
        ValueError: If `layout` is unknown.
    """
    path = Path(path)
    if layout == "auto":
        named = normal or normal_test or abnormal or masks
        layout = "folders" if named else _recognise(path)
    choices: _Choices
    match layout:
        case "builtin":
            choices = _builtin()
        case "mvtec":
            each = [path] if _is_mvtec(path) else _meant_as_mvtec(path)
            choices = {_name(folder): partial(_mvtec, folder) for folder in each}
        case "oct2017":
            choices = {_name(path): partial(_files, folders.oct2017, path)}
        case "lists":
            root = path / images if images else path
            choices = {
                name: partial(_listed, name, files, root)
                for name, files in lists.find_lists(path, _name(path)).items()
            }
        case "folders":
            own = partial(
                folders.folders,
                normal=normal,
                normal_test=normal_test,
                abnormal=abnormal,
                masks=masks,
            )
            choices = {_name(path): partial(_files, own, path)}
        case _:
            msg = f"find: `layout` must be auto or one of {', '.join(LAYOUTS)}, got {layout!r}"
            raise ValueError(msg)
    if not choices:
        msg = (
            f"{printable(path)}: must have the layout {layout} ({LAYOUTS[layout]}), got none of it"
        )
        raise DataError(msg)
    return [choices[name]() for name in _chosen(path, list(choices), categories)]


def _files(listing: Callable[[Path], folders.Samples], folder: Path) -> FileSource:
    return FileSource(_name(folder), *listing(folder))


def _mvtec(folder: Path) -> FileSource:
    source, config = _files(folders.mvtec, folder), folder / loco.CONFIG
    return replace(source, saturations=loco.read_config(config)) if config.is_file() else source


def _listed(name: str, files: dict[tuple[bool, str], Path], images: Path) -> FileSource:
    return FileSource(name, *lists.read_lists(files, images))


def _builtin() -> _Choices:
    # scikit-image takes a while to import and is not needed for files.
    from ssad_models.data.builtin import CATEGORIES, BuiltinSource

    return {name: partial(BuiltinSource, name) for name in CATEGORIES}


def _name(folder: Path) -> str:
    """The name that the user gave, be it a link's; it must fit into reports and JSON."""
    return printable(folder.resolve().name if folder.name in ("", "..") else folder.name)


def _is_mvtec(folder: Path) -> bool:
    return (folder / "train" / "good").is_dir()


def _meant_as_mvtec(path: Path) -> list[Path]:
    """Categories, also those whose train/good is misspelt: listing them tells what is missing."""
    found = folders.folders_in(path)
    return [f for f in found if (f / "train").is_dir() or (f / "test").is_dir()]


def _recognise(path: Path) -> str:
    """The layout of a path, if there is one and only one that fits."""
    if str(path) == "builtin":
        return "builtin"
    if not path.is_dir():
        msg = f"{printable(path)}: must be a folder, or the word builtin, got no such folder"
        raise DataError(msg)
    fits = {
        "mvtec": _is_mvtec(path) or any(map(_is_mvtec, folders.folders_in(path))),
        "oct2017": (path / "train" / "NORMAL").is_dir(),
        "lists": bool(lists.find_lists(path, _name(path))),
        "folders": (path / "normal").is_dir(),
    }
    found = [layout for layout, fit in fits.items() if fit]
    if not found and folders.images_in(path):
        return "folders"
    if len(found) == 1:
        return found[0]
    known = "; ".join(f"{name} ({what})" for name, what in LAYOUTS.items())
    msg = (
        f"{printable(path)}: must have one known layout, got {' and '.join(found) or 'none'}; "
        f"arrange the files or name the layout: {known}"
    )
    raise DataError(msg)


def _chosen(path: Path, names: list[str], categories: Sequence[str]) -> Sequence[str]:
    wanted = [printable(category) for category in categories]
    for category in wanted:
        if category not in names:
            known = ", ".join(names)
            msg = f"{printable(path)}: a category must be one of {known}, got {category}"
            raise DataError(msg)
        if wanted.count(category) > 1:
            msg = f"{printable(path)}: a category must be named once, got {category} again"
            raise DataError(msg)
    return wanted or sorted(names)
