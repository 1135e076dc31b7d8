# SPDX-License-Identifier: Apache-2.0
"""Decoding, once, into memory that all workers share."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch

from ssad_models.data.folders import mask_files
from ssad_models.data.images import DataError, read_image, read_mask, resize, resize_mask
from ssad_models.data.split import Advance, Sample, Split
from ssad_models.data.threads import worker_threads
from ssad_models.names import printable

_SHARED = Path("/dev/shm")
_CGROUP = Path("/sys/fs/cgroup")
# A container's limit, what it uses of it, and the part of that which is only a cache of files.
_CGROUPS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)
_DARK = 32  # grey levels; the most that 13 bits in files of 16 come to

log = logging.getLogger(__name__)


def cache_bytes(count: int, size: int, channels: int, *, masks: bool = False) -> int:
    """Memory that `count` decoded images take, with or without their masks."""
    return count * size * size * (channels + masks)


def decode(
    samples: Sequence[Sample], size: int, channels: int, advance: Advance | None = None
) -> Split:
    """Read and resize samples, several at a time.

    Args:
        samples: At least one. If any has a mask, all anomalous ones must.
        size: Side of the squares that images and masks are resized to, pixels.
        channels: 1 for grey or 3 for RGB.
        advance: Called after every image.

    Returns:
        The samples in their order, in shared memory if that is large enough, else in memory of this
        process, which threads and forked workers see too.

    Raises:
        DataError: If a file is damaged, a mask has another size than its image, or memory is short.
    """
    has_masks = any(sample.mask is not None for sample in samples)
    needed = cache_bytes(len(samples), size, channels, masks=has_masks)
    _check_memory(needed, len(samples), size)
    images = torch.empty(len(samples), channels, size, size, dtype=torch.uint8)
    masks = torch.zeros(len(samples), 1, size, size, dtype=torch.bool) if has_masks else None
    sizes = torch.empty(len(samples), 2, dtype=torch.int64)
    brightest = [0] * len(samples)
    if _SHARED.is_dir() and needed < shutil.disk_usage(_SHARED).free:
        images.share_memory_()
        if masks is not None:
            masks.share_memory_()

    def fill(row: int) -> None:
        sample = samples[row]
        image = read_image(sample.path, channels)
        brightest[row] = int(image.max())
        images[row] = resize(image, size)
        sizes[row] = torch.tensor(image.shape[1:])
        if masks is not None and sample.mask is not None:
            for path in mask_files(sample.mask):
                masks[row] |= resize_mask(_mask_of(path, sample.path, image), size)

    with worker_threads(min(8, os.cpu_count() or 1)) as pool:
        for _ in pool.map(fill, range(len(samples))):
            if advance is not None:
                advance(1)
    if max(brightest) <= _DARK:
        log.warning(
            "%s: no pixel of this and %d more images is above %d of 255, as if files of 16 bits "
            "held 12; multiply all files by the same factor, such as 16, lest details be lost",
            printable(samples[0].path),
            len(samples) - 1,
            max(brightest),
        )
    return Split(
        images=images,
        names=tuple(sample.name for sample in samples),
        kinds=tuple(sample.kind for sample in samples),
        labels=torch.tensor([sample.anomalous for sample in samples]),
        masks=masks,
        strengths=torch.full((len(samples),), torch.nan, dtype=torch.float64),
        groups=torch.arange(len(samples)),
        sizes=sizes,
    )


def _mask_of(path: Path, image_path: Path, image: torch.Tensor) -> torch.Tensor:
    mask = read_mask(path)
    if mask.shape[1:] != image.shape[1:]:
        expected, got = (f"{t.shape[2]} x {t.shape[1]}" for t in (image, mask))
        msg = (
            f"{printable(path)}: a mask must have the size of its image {printable(image_path)}, "
            f"{expected}, got {got}; replace the mask"
        )
        raise DataError(msg)
    return mask


def _check_memory(needed: int, count: int, size: int) -> None:
    free = _free_memory()
    if needed > free:
        msg = (
            f"{count} images of {size} x {size} pixels take {needed / 2**30:.1f} GiB of memory, "
            f"got {free / 2**30:.1f} GiB; choose a smaller size or a part of the data"
        )
        raise DataError(msg)


def _free_memory() -> int:
    """Bytes that this process may still take, as far as this system tells."""
    try:
        free = _fields(Path("/proc/meminfo"))["MemAvailable"] * 1024
    except OSError:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit, used, parts, cached in _CGROUPS:
        # Without such a limit there is no file, or the word "max" in it.
        with suppress(OSError, ValueError):
            taken = int((_CGROUP / used).read_text()) - _fields(_CGROUP / parts)[cached]
            free = min(free, int((_CGROUP / limit).read_text()) - taken)
    return max(0, free)


def _fields(path: Path) -> dict[str, int]:
    """The numbers in a file of lines such as "MemFree: 12 kB" or "anon 12"."""
    lines = path.read_text(encoding="ascii").splitlines()
    return {words[0].rstrip(":"): int(words[1]) for words in map(str.split, lines)}
