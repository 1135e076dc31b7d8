# SPDX-License-Identifier: Apache-2.0
"""The benchmark cases of CutPaste, importable: ``[row.build() for row in ROWS]``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import peers
import torch
from harness import Case, Error, Row, Target
from PIL import Image
from torch import Tensor

import ssad_kernels
from ssad_kernels import CutPasteLaw, CutPasteParams, make_keys, sample_cut_paste
from ssad_kernels.random import STREAMS

SIZE = 256
_SHIFT_OF_DTYPE = {torch.uint8: 1.0, torch.float32: 255.0}  # grey levels per unit


class Work(NamedTuple):
    """A batch of images and what to paste into them."""

    images: Tensor  # (N, 3, SIZE, SIZE)
    params: CutPasteParams
    samples: list[peers.Sample]


class Formulation(NamedTuple):
    """A way to paste in place, on images in the form that suits it.

    Attributes:
        name: as printed.
        load: turns (N, 3, H, W) into that form, always a copy; not timed.
        paste: pastes in place and returns masks; timed.
        unload: turns images and masks back into (N, 3, H, W) and (N, 1, H, W) bool.
        tolerance: largest difference from ours, grey levels.
        note: where a difference comes from.
    """

    name: str
    load: Callable[[Tensor], Any]
    paste: Callable[[Any, Work], Any]
    unload: Callable[[Any, Any], tuple[Tensor, Tensor]]
    tolerance: float
    note: str = ""


def make_work(
    n: int,
    dtype: torch.dtype = torch.uint8,
    law: CutPasteLaw | None = None,
    layout: torch.memory_format = torch.contiguous_format,
) -> Work:
    """Smooth random colour images with a little noise, and parameters as the transforms draw."""
    law = CutPasteLaw() if law is None else law
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, 3, 12, 12, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic")
    images += 0.02 * torch.randn(images.shape, generator=generator)
    images = images.clamp_(0, 1)
    if dtype == torch.uint8:
        images = (255 * images).round()
    images = images.to(dtype, memory_format=layout)
    keys = make_keys(0, 0, torch.arange(n))
    params = sample_cut_paste(keys, SIZE, SIZE, law, stream=STREAMS["cut_paste"])
    return Work(images, params, peers.unpack(params))


def _load_hwc(images: Tensor) -> list[np.ndarray[Any, Any]]:
    return [image.permute(1, 2, 0).contiguous().numpy().copy() for image in images]


def _unload_hwc(images: list[Any], masks: list[Any]) -> tuple[Tensor, Tensor]:
    stacked = np.stack([np.asarray(image) for image in images])
    mask = np.stack([np.asarray(mask) for mask in masks]) > 0
    return torch.from_numpy(stacked).permute(0, 3, 1, 2), torch.from_numpy(mask)[:, None]


_opencv_paste = peers.OpenCVCutPaste(SIZE * SIZE)

OURS = Formulation(
    "ours",
    Tensor.clone,
    lambda images, work: ssad_kernels.cut_paste_(images, work.params)[1],
    lambda images, masks: (images, masks),
    0.0,
)
OPENCV = Formulation(
    "OpenCV + NumPy, per image",
    _load_hwc,
    lambda images, work: [_opencv_paste(i, s) for i, s in zip(images, work.samples, strict=True)],
    _unload_hwc,
    4.0,
    "rounds to uint8 after each step",
)
PIL = Formulation(
    "PIL + torchvision, per image",
    lambda images: [Image.fromarray(image) for image in _load_hwc(images)],
    lambda images, work: [
        peers.pil_cut_paste(i, s) for i, s in zip(images, work.samples, strict=True)
    ],
    _unload_hwc,
    32.0,
    "PIL truncates after each step and has 8-bit hue",
)
TORCH_LOOP = Formulation(
    "plain torch, per image",
    Tensor.clone,
    lambda images, work: peers.torch_loop_cut_paste(images, work.samples),
    lambda images, masks: (images, masks),
    1.0,
)
TORCH_BATCH = Formulation(
    "plain torch, batched",
    Tensor.clone,
    lambda images, work: peers.torch_cut_paste(images, work.params),
    lambda images, masks: (images, masks),
    1.0,
)


def compare(peer: Formulation, work: Work) -> Error:
    """Largest difference from ours where both masks agree, which they must unless rotated."""
    results = []
    for formulation in (OURS, peer):
        images = formulation.load(work.images)
        results.append(formulation.unload(images, formulation.paste(images, work)))
    (our_images, our_masks), (images, masks) = results
    mismatch = float((our_masks != masks).sum() / our_masks.sum())
    rotated = bool((work.params.angle != 0).any())
    assert mismatch <= (0.1 if rotated else 0.0), f"masks of {peer.name} differ: {mismatch:.2%}"
    difference = (our_images.double() - images.double()).abs() * (our_masks == masks)
    note = peer.note
    if mismatch:
        note = f"{note}; {mismatch:.1%} of mask pixels differ".lstrip("; ")
    levels = difference.max().item() * _SHIFT_OF_DTYPE[work.images.dtype]
    return Error(levels, "levels", peer.tolerance, note)


def in_place(
    variant: str, make: Callable[[], Work], peer: Formulation, target: Target | None = None
) -> Case:
    """``cut_paste_`` against a peer that pastes in place too."""
    work = make()
    ours, theirs = OURS.load(work.images), peer.load(work.images)
    n = len(work.images)
    dtype = str(work.images.dtype).removeprefix("torch.")
    return Case(
        f"cut_paste_{variant}",
        f"{n}×3×{SIZE}×{SIZE}",
        dtype,
        n,
        lambda: OURS.paste(ours, work),
        peer.name,
        lambda: peer.paste(theirs, work),
        lambda: compare(peer, work),
        target,
    )


def functional(n: int) -> Case:
    """``cut_paste`` against the least that a function can do: copy, and allocate the masks."""
    images, params, _ = make_work(n)
    return Case(
        "cut_paste",
        f"{n}×3×{SIZE}×{SIZE}",
        "uint8",
        n,
        lambda: ssad_kernels.cut_paste(images, params),
        "clone of the images + zeroed masks",
        lambda: (images.clone(), torch.zeros(n, 1, SIZE, SIZE, dtype=torch.bool)),
        target=Target(1 / 1.4, "at most 1.4 × the time of clone and masks"),
    )


def functional_opencv(n: int) -> Case:
    """``cut_paste`` against OpenCV on a copy."""
    work = make_work(n)
    theirs = OPENCV.load(work.images)
    return Case(
        "cut_paste",
        f"{n}×3×{SIZE}×{SIZE}",
        "uint8",
        n,
        lambda: ssad_kernels.cut_paste(work.images, work.params),
        f"{OPENCV.name}, on a copy",
        lambda: OPENCV.paste([image.copy() for image in theirs], work),
        lambda: compare(OPENCV, work),
    )


def sampling(n: int) -> Case:
    """Drawing parameters, against one NumPy generator for all samples."""
    keys = make_keys(0, 0, torch.arange(n))
    law = CutPasteLaw()
    transform = peers.OpenCVTransform()
    return Case(
        "sample_cut_paste",
        f"{n}",
        "",
        n,
        lambda: sample_cut_paste(keys, SIZE, SIZE, law, stream=STREAMS["cut_paste"]),
        "NumPy generator, per image",
        lambda: [transform.draw(SIZE, SIZE) for _ in range(n)],
    )


def transform() -> Case:
    """The whole transform of one image, key to image, as in a data loader."""
    from ssad_kernels.transforms import CutPaste

    image = make_work(1).images[0]
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    keys = make_keys(0, 0, 0)
    ours, theirs = CutPaste(), peers.OpenCVTransform()
    return Case(
        "transforms.CutPaste",
        f"3×{SIZE}×{SIZE}",
        "uint8",
        1,
        lambda: ours(image, keys),
        "OpenCV + NumPy, draws included",
        lambda: theirs(pixels),
        target=Target(1.0, "faster than the OpenCV transform"),
    )


def _rows() -> list[Row]:
    scar = CutPasteLaw(scar=True, angle=(-45.0, 45.0))
    still = CutPasteLaw(jitter=(0.0, 0.0, 0.0, 0.0))
    plain = partial(make_work, 64)
    variants: list[tuple[str, Callable[[], Work], dict[Formulation, Target | None]]] = [
        (
            "",
            plain,
            {
                OPENCV: Target(5.0, "at least 5 × OpenCV/NumPy"),
                PIL: Target(15.0, "at least 15 × PIL + torchvision"),
                TORCH_LOOP: None,
                TORCH_BATCH: None,
            },
        ),
        ("", partial(make_work, 1), dict.fromkeys((OPENCV, PIL, TORCH_LOOP))),
        ("", partial(plain, torch.float32), dict.fromkeys((TORCH_LOOP, TORCH_BATCH))),
        (
            ", channels-last",
            partial(plain, layout=torch.channels_last),
            dict.fromkeys((OPENCV, TORCH_LOOP)),
        ),
        (", no jitter", partial(plain, law=still), dict.fromkeys((OPENCV, TORCH_LOOP))),
        (", scar", partial(plain, law=scar), dict.fromkeys((OPENCV, PIL))),
    ]
    rows = [
        Row(f"cut_paste_{variant} {i} {peer.name}", partial(in_place, variant, make, peer, target))
        for i, (variant, make, against) in enumerate(variants)
        for peer, target in against.items()
    ]
    rows += [
        Row("cut_paste-64-clone", partial(functional, 64)),
        Row("cut_paste-64-opencv", partial(functional_opencv, 64)),
        Row("sample_cut_paste-1", partial(sampling, 1)),
        Row("sample_cut_paste-64", partial(sampling, 64)),
        Row("transform-1", transform),
    ]
    return rows


ROWS = _rows()
