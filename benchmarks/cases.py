# SPDX-License-Identifier: Apache-2.0
"""The benchmark cases of CutPaste, importable: ``[row.build() for row in ROWS]``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import peers
import ssad_kernels
import torch_peers
from harness import Case, Error, Row, Target
from ssad_kernels import CutPasteLaw, CutPasteParams, make_keys, sample_cut_paste
from ssad_kernels.random import STREAMS
from ssad_kernels.transforms import CutPaste, HardCutPaste

SIZE = 256
_LEVELS = {torch.uint8: 1.0, torch.float32: 255.0}  # grey levels per unit


class Work(NamedTuple):
    """A batch of images and what to paste into them."""

    images: Tensor  # (N, 3, SIZE, SIZE)
    params: CutPasteParams
    rows: list[CutPasteParams]  # of one image each
    samples: list[peers.Sample]


class Formulation(NamedTuple):
    """A way to paste in place, on images in the form that suits it.

    Attributes:
        name: as printed.
        load: turns (N, 3, H, W) into that form, always a copy; not timed.
        paste: pastes in place and returns masks; timed.
        unload: turns images and masks back into (N, 3, H, W) and (N, 1, H, W) bool.
        tolerance: largest difference from ours, grey levels.
        turned_tolerance: largest share of the pixels of rotated patches that differ by more,
            because another nearest neighbour was taken.
        note: where a difference comes from.
    """

    name: str
    load: Callable[[Tensor], Any]
    paste: Callable[[Any, Work], Any]
    unload: Callable[[Any, Any], tuple[Tensor, Tensor]]
    tolerance: float
    turned_tolerance: float = 0.0
    note: str = ""


def make_work(
    n: int,
    dtype: torch.dtype = torch.uint8,
    law: CutPasteLaw | None = None,
    layout: torch.memory_format = torch.contiguous_format,
    *,
    is_hard: bool = False,
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
    if is_hard:
        params = HardCutPaste().make_params(keys, images)
    rows = [params.map(lambda column, i=i: column[i : i + 1]) for i in range(n)]
    rows = [row._replace(source_index=torch.zeros(1, dtype=torch.int64)) for row in rows]
    return Work(images, params, rows, peers.unpack(params))


def _load_hwc(images: Tensor) -> list[np.ndarray[Any, Any]]:
    return [image.permute(1, 2, 0).contiguous().numpy().copy() for image in images]


def _unload_hwc(images: list[Any], masks: list[Any]) -> tuple[Tensor, Tensor]:
    stacked = np.stack([np.asarray(image) for image in images])
    mask = np.stack([np.asarray(mask) for mask in masks]) > 0
    return torch.from_numpy(stacked).permute(0, 3, 1, 2), torch.from_numpy(mask)[:, None]


def _per_image(make: Callable[[], Callable[[Any, peers.Sample], Any]]) -> Callable[..., Any]:
    """A way to paste one image, made at its first use, as a loop over the batch."""
    paste = cache(make)
    return lambda images, work: [paste()(i, s) for i, s in zip(images, work.samples, strict=True)]


OURS = Formulation(
    "ours",
    Tensor.clone,
    lambda images, work: ssad_kernels.cut_paste_(images, work.params)[1],
    lambda images, masks: (images, masks),
    0.0,
)
OURS_SINGLY = Formulation(
    "ours, one image a call",
    lambda images: list(images.clone().split(1)),
    lambda images, work: [
        ssad_kernels.cut_paste_(image, row)[1] for image, row in zip(images, work.rows, strict=True)
    ],
    lambda images, masks: (torch.cat(images), torch.cat(masks)),
    0.0,
)
OPENCV = Formulation(
    "OpenCV + NumPy, per image",
    _load_hwc,
    _per_image(peers.OpenCVCutPaste),
    _unload_hwc,
    6.0,
    0.01,
    "rounds after each step",
)
PIL = Formulation(
    "PIL + torchvision, per image",
    lambda images: [peers.pil_image.fromarray(image) for image in _load_hwc(images)],
    _per_image(peers.PILCutPaste),
    _unload_hwc,
    32.0,
    0.25,
    "truncates after each step, 8-bit HSV",
)
# A jitter of one half enlarges what was rounded before it.
OPENCV_HARD = OPENCV._replace(tolerance=16.0)
PIL_HARD = PIL._replace(tolerance=64.0)
TORCH_LOOP = Formulation(
    "plain torch, per image",
    Tensor.clone,
    lambda images, work: torch_peers.torch_loop_cut_paste(images, work.samples),
    lambda images, masks: (images, masks),
    1.0,
)
TORCH_BATCH = Formulation(
    "plain torch, batched",
    Tensor.clone,
    lambda images, work: torch_peers.torch_cut_paste(images, work.params),
    lambda images, masks: (images, masks),
    1.0,
)


def compare(ours: Formulation, peer: Formulation, work: Work) -> Error:
    """How far a peer is from ours; the masks must be equal unless patches are rotated."""
    results = []
    for formulation in (ours, peer):
        images = formulation.load(work.images)
        results.append(formulation.unload(images, formulation.paste(images, work)))
    (our_images, our_masks), (images, masks) = results
    difference = (our_images.double() - images.double()).abs().amax(1, keepdim=True)
    difference *= _LEVELS[work.images.dtype]
    if not (work.params.angle != 0).any():
        assert torch.equal(our_masks, masks), f"the masks of {peer.name} differ"
        return Error(difference.max().item(), "levels", peer.tolerance, peer.note)
    wrong = (our_masks != masks) | (difference > peer.tolerance)
    share = (wrong.sum() / our_masks.sum()).item()
    unit = f"% of pixels beyond {peer.tolerance:g} levels"
    return Error(100 * share, unit, 100 * peer.turned_tolerance, peer.note)


def in_place(
    variant: str,
    make: Callable[[], Work],
    ours: Formulation,
    peer: Formulation,
    target: Target | None = None,
) -> Case:
    """``cut_paste_`` against a peer that pastes in place too."""
    work = make()
    our_images, peer_images = ours.load(work.images), peer.load(work.images)
    n = len(work.images)
    return Case(
        f"cut_paste_{variant}",
        f"{n if ours is OURS else 1}x3x{SIZE}x{SIZE}",
        str(work.images.dtype).removeprefix("torch."),
        n,
        lambda: ours.paste(our_images, work),
        peer.name,
        lambda: peer.paste(peer_images, work),
        lambda: compare(ours, peer, work),
        target,
    )


def functional(n: int) -> Case:
    """``cut_paste`` against the least that a function can do: copy, and allocate the masks."""
    images, params, *_ = make_work(n)
    return Case(
        "cut_paste",
        f"{n}x3x{SIZE}x{SIZE}",
        "uint8",
        n,
        lambda: ssad_kernels.cut_paste(images, params),
        "clone of the images + zeroed masks",
        lambda: (images.clone(), torch.zeros(n, 1, SIZE, SIZE, dtype=torch.bool)),
        target=Target(1 / 1.4, "at most 1.4 x the time of clone and masks"),
    )


def functional_opencv(n: int) -> Case:
    """``cut_paste`` against OpenCV on a copy."""
    work = make_work(n)
    theirs = OPENCV.load(work.images)
    return Case(
        "cut_paste",
        f"{n}x3x{SIZE}x{SIZE}",
        "uint8",
        n,
        lambda: ssad_kernels.cut_paste(work.images, work.params),
        f"{OPENCV.name}, on a copy",
        lambda: OPENCV.paste([image.copy() for image in theirs], work),
        lambda: compare(OURS, OPENCV, work),
    )


def hard(n: int, peer: Formulation) -> Case:
    """The whole of AnoSeg's augmentation, draws included; peers are given theirs."""
    work = make_work(n, is_hard=True)
    theirs, transform = peer.load(work.images), HardCutPaste()
    keys = make_keys(0, 0, torch.arange(n))
    return Case(
        "transforms.HardCutPaste",
        f"{n}x3x{SIZE}x{SIZE}",
        "uint8",
        n,
        lambda: transform(work.images, keys),
        f"{peer.name}, on a copy, without draws",
        lambda: peer.paste([image.copy() for image in theirs], work),
        lambda: compare(OURS, peer, work),
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


def transform(kind: str) -> Case:
    """The whole transform of one image, key to image, as in a data loader."""
    image = make_work(1).images[0]
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    keys = cycle(make_keys(0, 0, torch.arange(1024)).split(1))  # so that all sizes of patches occur
    ours, theirs = CutPaste(), peers.OpenCVTransform()
    given = pixels if kind == "NumPy" else image
    return Case(
        f"transforms.CutPaste, {kind}",
        f"{SIZE}x{SIZE}x3" if kind == "NumPy" else f"3x{SIZE}x{SIZE}",
        "uint8",
        1,
        lambda: ours(given, next(keys)),
        "OpenCV + NumPy, draws included",
        lambda: theirs(pixels),
        target=Target(1.0, "faster than the OpenCV transform"),
    )


def _rows() -> list[Row]:
    scar = CutPasteLaw(scar=True, angle=(-45.0, 45.0))
    still = CutPasteLaw(jitter=(0.0, 0.0, 0.0, 0.0))
    plain = partial(make_work, 64)
    claims = {
        OPENCV: Target(5.0, "at least 5 x OpenCV/NumPy"),
        PIL: Target(15.0, "at least 15 x PIL + torchvision"),
    }
    variants: list[tuple[str, Callable[[], Work], tuple[Formulation, ...]]] = [
        ("", plain, (OPENCV, PIL, TORCH_LOOP, TORCH_BATCH)),
        (", one image a call", plain, (OPENCV, PIL, TORCH_LOOP)),
        ("", partial(plain, torch.float32), (TORCH_LOOP, TORCH_BATCH)),
        (
            ", channels-last",
            partial(plain, layout=torch.channels_last),
            (OPENCV, TORCH_LOOP),
        ),
        (", no jitter", partial(plain, law=still), (OPENCV, TORCH_LOOP)),
        (", scar", partial(plain, law=scar), (OPENCV, PIL)),
        (", hard", partial(plain, is_hard=True), (OPENCV_HARD, PIL_HARD)),
    ]
    rows = []
    for variant, make, against in variants:
        ours = OURS_SINGLY if "one image" in variant else OURS
        for peer in against:
            target = claims.get(peer) if make is plain and ours is OURS else None
            name = f"cut_paste_{variant}-{peer.name}".replace(", ", "-").replace(" ", "-")
            rows.append(Row(name, partial(in_place, variant, make, ours, peer, target)))
    rows += [
        Row("cut_paste-64-clone", partial(functional, 64)),
        Row("cut_paste-64-opencv", partial(functional_opencv, 64)),
        Row("hard_cut_paste-64-opencv", partial(hard, 64, OPENCV_HARD)),
        Row("hard_cut_paste-64-pil", partial(hard, 64, PIL_HARD)),
        Row("hard_cut_paste-1-opencv", partial(hard, 1, OPENCV_HARD)),
        Row("sample_cut_paste-1", partial(sampling, 1)),
        Row("sample_cut_paste-64", partial(sampling, 64)),
        Row("transform-tensor", partial(transform, "tensor")),
        Row("transform-NumPy", partial(transform, "NumPy")),
    ]
    return rows


ROWS = _rows()
