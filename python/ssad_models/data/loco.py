# SPDX-License-Identifier: Apache-2.0
"""Defects that are annotated one by one, with how much of each is enough, as in MVTec LOCO."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ssad_models.data.folders import mask_files
from ssad_models.data.images import DataError, read_image
from ssad_models.data.split import Defects, Sample
from ssad_models.data.threads import worker_threads
from ssad_models.names import printable

CONFIG = "defects_config.json"
"""The file of a category that says what the pixel values of its annotations stand for."""


class Saturation(NamedTuple):
    """How much of a kind of defect is enough.

    Attributes:
        threshold: Pixels, or if relative a share of the defect's area.
        is_relative: Which of them.
    """

    threshold: float
    is_relative: bool


class _Defect(NamedTuple):
    places: torch.Tensor  # (P,) int32 pixels, row by row; 4 bytes for each marked one
    saturation: float  # pixels


@dataclass(frozen=True)
class Annotations:
    """The annotated defects of test images; see `split.Annotations`.

    Attributes:
        defects: Of each image.
        sizes: (N, 2) int64 height and width of the files in pixels.
    """

    defects: Sequence[Sequence[_Defect]]
    sizes: torch.Tensor

    def __iter__(self) -> Iterator[Defects]:
        """Of one image after another: the masks of a whole test set may not fit into memory."""
        for defects, (h, w) in zip(self.defects, self.sizes.tolist(), strict=True):
            masks = torch.zeros(len(defects), h * w, dtype=torch.bool)
            for mask, defect in zip(masks, defects, strict=True):
                mask[defect.places.long()] = True
            saturation = torch.tensor([d.saturation for d in defects], dtype=torch.float64)
            yield Defects(masks.reshape(len(masks), 1, h, w), saturation)


def read_config(path: Path) -> dict[int, Saturation]:
    """Read a file `CONFIG`: a list of objects with what counts of each pixel value.

    Returns:
        By pixel value.

    Raises:
        DataError: If the file is no such list, names a value twice, or has a threshold <= 0.
    """
    found: dict[int, Saturation] = {}
    try:
        for entry in json.loads(path.read_text(encoding="utf-8")):
            value, saturation = _entry(entry)
            if value in found:
                msg = f"a pixel value must be named once, got {value} again"
                raise ValueError(msg)
            found[value] = saturation
    except (KeyError, TypeError, ValueError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        msg = (
            f"{printable(path)}: must list objects with pixel_value, saturation_threshold and "
            f"relative_saturation, got: {what}; correct it, or move it away to do without sPRO"
        )
        raise DataError(msg) from error
    return found


def _entry(entry: Mapping[str, Any]) -> tuple[int, Saturation]:
    threshold, is_relative = float(entry["saturation_threshold"]), entry["relative_saturation"]
    if not isinstance(is_relative, bool):
        msg = f"relative_saturation must be true or false, got {is_relative!r}"
        raise TypeError(msg)
    if not 0 < threshold < float("inf"):
        msg = f"saturation_threshold must be above 0, got {threshold:g}"
        raise ValueError(msg)
    return int(entry["pixel_value"]), Saturation(threshold, is_relative)


def read_annotations(
    samples: Sequence[Sample], sizes: torch.Tensor, config: Mapping[int, Saturation]
) -> Annotations:
    """Read the defects of samples, in their original size.

    Args:
        samples: Each mask file is one defect, marked with one grey value above 0; one without any
            marked pixel is no defect.
        sizes: (N, 2) int64, the sizes of the images, which those of the masks must be.
        config: See `read_config`.

    Raises:
        DataError: If a file is damaged, has another size, several grey values, or one that the
            configuration lacks.
    """

    def read(row: int) -> list[_Defect]:
        mask, size = samples[row].mask, sizes[row].tolist()
        found = [] if mask is None else [_read(path, size, config) for path in mask_files(mask)]
        return [defect for defect in found if len(defect.places)]

    with worker_threads(min(8, os.cpu_count() or 1)) as pool:
        return Annotations(tuple(pool.map(read, range(len(samples)))), sizes)


def _read(path: Path, size: list[int], config: Mapping[int, Saturation]) -> _Defect:
    grey = read_image(path, 1)[0]
    if list(grey.shape) != size:
        expected, got = (f"{w} x {h}" for h, w in (size, grey.shape))
        msg = (
            f"{printable(path)}: a mask must have the size of its image, {expected}, got {got}; "
            "replace the mask"
        )
        raise DataError(msg)
    places = grey.flatten().nonzero()[:, 0]
    if len(places) == 0:
        return _Defect(places.int(), 0.0)
    values = grey.flatten()[places].unique().tolist()
    if len(values) > 1:
        msg = (
            f"{printable(path)}: must mark one defect with one grey value, got {len(values)} "
            f"({', '.join(map(str, values[:3]))}); draw each defect into a file of its own"
        )
        raise DataError(msg)
    if values[0] not in config:
        known = ", ".join(map(str, sorted(config))) or "none"
        msg = (
            f"{printable(path)}: its grey value must be a pixel_value of {CONFIG}, got "
            f"{values[0]}, where there are {known}; add it there"
        )
        raise DataError(msg)
    threshold, is_relative = config[values[0]]
    return _Defect(places.int(), threshold * len(places) if is_relative else threshold)
