# SPDX-License-Identifier: Apache-2.0
"""Scores and heat maps of image files."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from ssad_models.atomic import replacing
from ssad_models.data.folders import folders_in, images_in
from ssad_models.data.images import SUFFIXES, DataError, read_image, resize
from ssad_models.data.split import Advance
from ssad_models.model_file import Model
from ssad_models.names import printable, unique_file_name
from ssad_models.overlay import overlay, write_png
from ssad_models.tiling import Blend, tile_boxes

Tile = Literal["auto", "never"]

_TILES_AT_A_TIME = 16


class Looked(NamedTuple):
    """What a model says about one image of any size.

    Attributes:
        score: Raw score, that of the most anomalous tile.
        heat: (1, H, W) float32, of the size of the image; None if not asked for.
        tiles: Number of tiles.
    """

    score: torch.Tensor
    heat: torch.Tensor | None
    tiles: int


@dataclass(frozen=True)
class Result:
    """One row of scores.csv and scores.json.

    Attributes:
        path: The file.
        score: Raw score, higher is more anomalous.
        normalized: The score in standard deviations above the mean of normal images.
        anomalous: Whether the score is above the threshold.
        tiles: Number of tiles that the image was looked at in.
        overlay: The heat map laid over the image, relative to the output folder.
        error: Why the file has no score.

    What is not known is None: without calibration, without overlay, or after an error.
    """

    path: str
    score: float | None = None
    normalized: float | None = None
    anomalous: bool | None = None
    tiles: int | None = None
    overlay: str | None = None
    error: str | None = None


def find_images(paths: Sequence[Path], skip: Path | None = None) -> list[tuple[Path, str]]:
    """List image files.

    Args:
        paths: Files, and folders that are searched to any depth, hidden and linked ones left out.
        skip: A folder to leave out, such as that of the output.

    Returns:
        Each file once, with a name: its path within the folder given, or its own name. In the order
        of `paths`, folders sorted.

    Raises:
        FileNotFoundError: If a path does not exist.
        DataError: If a folder has no image.
    """
    found: dict[Path, str] = {}
    skipped = None if skip is None else skip.resolve()
    for path in paths:
        if path.is_dir():
            inside = _images_below(path, skipped)
            if not inside:
                msg = f"{printable(path)}: must contain images ({', '.join(SUFFIXES)}), got none"
                raise DataError(msg)
            for file in inside:
                found.setdefault(file, file.relative_to(path).as_posix())
        elif path.exists():
            found.setdefault(path, path.name)
        else:
            msg = f"{printable(path)}: must be an image or a folder of images, got no such file"
            raise FileNotFoundError(msg)
    return list(found.items())


def _images_below(folder: Path, skipped: Path | None) -> list[Path]:
    resolved = folder.resolve()
    if skipped in (resolved, *resolved.parents):
        return []
    # A link may lead back to a folder that it is in.
    deeper = [inner for inner in folders_in(folder) if not inner.is_symlink()]
    return [*images_in(folder), *(file for f in deeper for file in _images_below(f, skipped))]


def look(model: Model, image: torch.Tensor, *, tile: Tile = "auto", maps: bool = True) -> Looked:
    """Score one image of any size.

    Args:
        model: The model.
        image: (C, H, W) uint8, C as the model wants it.
        tile: "auto" covers an image that is larger than the training files by tiles of their size,
            so that a defect is as large for the network as in training. "never" always looks at the
            whole image: right if it shows the same field of view in more pixels.
        maps: Whether to make the heat map.

    Returns:
        See `Looked`.
    """
    size = (image.shape[1], image.shape[2])
    boxes = tile_boxes(size, size if tile == "never" else model.meta.native_size)
    scores, heat = [], Blend(size) if maps else None
    for first in range(0, len(boxes), _TILES_AT_A_TIME):
        some = boxes[first : first + _TILES_AT_A_TIME]
        parts = [resize(image[:, y : y + h, x : x + w], model.size) for y, x, h, w in some]
        prediction = model.predict(torch.stack(parts), maps=maps)
        scores.append(prediction.score)
        if heat is not None and prediction.map is not None:
            heat.add(prediction.map, some)
    whole = None if heat is None else heat.blended()
    return Looked(torch.cat(scores).max(), whole, len(boxes))


def predict_files(
    model: Model,
    paths: Sequence[Path],
    out: Path,
    *,
    tile: Tile = "auto",
    overlays: bool = True,
    advance: Advance | None = None,
) -> list[Result]:
    """Score files and write scores.csv, scores.json and overlays/*.png.

    A file that cannot be read gets a row with the reason; the others are scored all the same.

    Args:
        model: The model.
        paths: Files and folders.
        out: Folder for the output, made if it is missing. Nothing is written elsewhere.
        tile: See `look`.
        overlays: Whether to make heat maps and write overlays.
        advance: Called after every file.

    Returns:
        One row per file.

    Raises:
        FileNotFoundError: If a path does not exist.
        DataError: If a folder has no image.
        OSError: If the output cannot be written.
    """
    files = find_images(paths, skip=out)
    out.mkdir(parents=True, exist_ok=True)
    results, taken = [], set[str]()
    for path, name in files:
        try:
            image = read_image(path, model.channels)
        except (DataError, OSError) as error:
            results.append(Result(printable(path), error=str(error)))
        else:
            seen = look(model, image, tile=tile, maps=overlays)
            where = None
            if seen.heat is not None:
                where = f"overlays/{unique_file_name(name.removesuffix(path.suffix), taken)}.png"
                _write_overlay(out / where, model, image, seen.heat)
            results.append(_row(model, path, seen, where))
        if advance is not None:
            advance(1)
    _write_csv(out / "scores.csv", results)
    _write_json(out / "scores.json", model, results)
    return results


def _row(model: Model, path: Path, seen: Looked, where: str | None) -> Result:
    calibration = model.calibration
    return Result(
        path=printable(path),
        score=float(seen.score),
        normalized=None if calibration is None else float(calibration.normalize(seen.score)),
        anomalous=None if calibration is None else bool(calibration.is_anomalous(seen.score)),
        tiles=seen.tiles,
        overlay=where,
    )


def _write_overlay(path: Path, model: Model, image: torch.Tensor, heat: torch.Tensor) -> None:
    usual = None if model.calibration is None else model.calibration.map_threshold
    # Twice what normal images reach is hottest, so that they stay dark.
    high = None if usual is None else 2 * usual
    write_png(path, overlay(image, heat, high))


def _write_csv(path: Path, results: Sequence[Result]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [field.name for field in fields(Result)])
    writer.writeheader()
    for result in results:
        writer.writerow({name: _cell(value) for name, value in asdict(result).items()})
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def _cell(value: object) -> object:
    """A relative path that a spreadsheet would take for a formula, as one that it would not."""
    formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"./{value}" if formula else value


def _write_json(path: Path, model: Model, results: Sequence[Result]) -> None:
    calibration = model.calibration
    content: dict[str, Any] = {
        "model": asdict(model.meta),
        "calibration": None if calibration is None else calibration.to_dict(),
        "images": [asdict(result) for result in results],
    }
    with replacing(path) as file:
        file.write((json.dumps(content, indent=1) + os.linesep).encode())
