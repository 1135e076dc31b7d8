# SPDX-License-Identifier: Apache-2.0
"""Data sets that tell normal from defective images by their folders."""

from __future__ import annotations

from pathlib import Path

from ssad_models.data.images import SUFFIXES, DataError
from ssad_models.data.split import Sample
from ssad_models.names import printable

Samples = tuple[list[Sample], list[Sample]]
"""Training and test samples."""

_TEST_SHARE = 5  # every fifth normal image is for testing where no folder is


def images_in(folder: Path) -> list[Path]:
    """Image files directly in a folder, sorted; hidden ones are none of the user's."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )


def mask_files(mask: Path) -> list[Path]:
    """The files of `Sample.mask`: itself, or if it is a folder those in it."""
    return images_in(mask) if mask.is_dir() else [mask]


def folders_in(folder: Path) -> list[Path]:
    """Folders directly in a folder, sorted, without hidden ones; none if it does not exist."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.is_dir())
    return sorted(path for path in found if not path.name.startswith("."))


def mvtec(folder: Path) -> Samples:
    """One category of MVTec AD or LOCO: train/good, test/KIND and, if there, ground_truth/KIND."""
    truth = folder / "ground_truth"
    test = []
    for kind in folders_in(folder / "test"):
        if kind.name == "good":
            test += _listed(kind)
        else:
            test += _listed(kind, kind.name, truth / kind.name if truth.is_dir() else None)
    return _listed(folder / "train" / "good"), test


def oct2017(folder: Path) -> Samples:
    """OCT2017: train/NORMAL and test/{NORMAL, CNV, DME, DRUSEN}; no masks."""
    test = []
    for kind in folders_in(folder / "test"):
        test += _listed(kind) if kind.name == "NORMAL" else _listed(kind, kind.name)
    return _listed(folder / "train" / "NORMAL"), test


def folders(
    root: Path,
    normal: str | None = None,
    normal_test: str | None = None,
    abnormal: str | None = None,
    masks: str | None = None,
) -> Samples:
    """List folders of the user's own.

    Args:
        root: What the other paths are relative to.
        normal: Folder of normal images; by default "normal" if there, else `root` itself.
        normal_test: Folder of normal images to test on; by default "normal_test" if there, else
            every fifth image of `normal`, unless there is nothing abnormal to test on.
        abnormal: Folder of defective images to test on, directly or in a folder for each kind; by
            default "abnormal" if there.
        masks: Folder of masks, laid out like `abnormal`; by default "masks" if there.

    Raises:
        DataError: If a folder that is given does not exist, a folder holds no image, or a mask is
            missing.
    """
    good = _listed(_folder(root, normal, "normal") or root)
    tested = _folder(root, normal_test, "normal_test")
    bad = _folder(root, abnormal, "abnormal")
    truth = _folder(root, masks, "masks")
    test = _listed(tested) if tested else []
    if bad is None:
        return good, test
    if not tested:
        test = good[_TEST_SHARE - 1 :: _TEST_SHARE]
        good = [sample for i, sample in enumerate(good, start=1) if i % _TEST_SHARE]
    kinds = folders_in(bad)
    if images_in(bad) or not kinds:
        test += _listed(bad, "abnormal", truth)
    for kind in kinds:
        test += _listed(kind, kind.name, truth and truth / kind.name)
    return good, test


def _folder(root: Path, given: str | None, usual: str) -> Path | None:
    folder = root / (given or usual)
    if folder.is_dir():
        return folder
    if given:
        msg = f"{printable(folder)}: must be a folder, got none; correct its name"
        raise DataError(msg)
    return None


def _listed(folder: Path, kind: str | None = None, masks: Path | None = None) -> list[Sample]:
    """The images of a folder, normal ones if no kind is given."""
    files = images_in(folder) if folder.is_dir() else []
    if not files:
        msg = f"{printable(folder)}: must be a folder of images ({', '.join(SUFFIXES)}), got none"
        raise DataError(msg)
    if kind is None:
        return [Sample(path, f"good/{printable(path.name)}") for path in files]
    kind = printable(kind)
    names = [f"{kind}/{printable(path.name)}" for path in files]
    if masks is None:
        return [Sample(path, name, kind, True) for path, name in zip(files, names, strict=True)]
    by_stem = {}
    if masks.is_dir():
        by_stem = {path.name: path for path in folders_in(masks) if images_in(path)}
        by_stem |= {path.stem.removesuffix("_mask"): path for path in images_in(masks)}
    missing = [path for path in files if path.stem not in by_stem]
    if missing:
        stem = printable(missing[0].stem)
        msg = (
            f"{printable(missing[0])}: must have a mask {stem}_mask.png, or a folder {stem} of "
            f"masks, in {printable(masks)}, got none; add it, or move all masks away to do without"
        )
        raise DataError(msg)
    return [
        Sample(path, name, kind, True, by_stem[path.stem])
        for path, name in zip(files, names, strict=True)
    ]
