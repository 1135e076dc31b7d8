# SPDX-License-Identifier: Apache-2.0
"""compat="opencv" against cv2.seamlessClone, and against its steps written out in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssad_kernels import Status, poisson_blend
from ssad_kernels.testing import make_mask

fft = pytest.importorskip("scipy.fft")

GRADIENTS = ("source", "mixed", "monochrome")
CASES = range(6)


def photograph(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A smooth image with some noise, (height, width, 3) uint8."""
    coarse = torch.from_numpy(generator.random((1, 3, 5, 5)) * 300 - 20)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0]
    noisy = smooth.numpy().transpose(1, 2, 0) + 6 * generator.standard_normal((height, width, 3))
    return np.asarray(noisy.clip(0, 255).astype(np.uint8))


def bounding_box(mask: np.ndarray) -> tuple[slice, slice]:
    ys, xs = np.nonzero(mask)
    return slice(ys.min(), ys.max() + 1), slice(xs.min(), xs.max() + 1)


def without_frame(mask: np.ndarray) -> np.ndarray:
    inner = np.zeros_like(mask)
    inner[1:-1, 1:-1] = mask[1:-1, 1:-1]
    return inner


def grey_of(rgb: np.ndarray) -> np.ndarray:
    """OpenCV's fixed point: 15 bits, rounded."""
    total = rgb.astype(np.int64) @ np.array([9798, 19235, 3735])
    return np.asarray((total + (1 << 14)) >> 15)


def seamless_clone(
    target: np.ndarray, source: np.ndarray, mask: np.ndarray, top_left: Any, gradient: str
) -> np.ndarray:
    """The published steps for RGB images (H, W, 3), in float64; source and mask of one size."""
    mask = without_frame(mask)
    roi = bounding_box(mask)
    at = tuple(
        slice(s.start + corner, s.stop + corner) for s, corner in zip(roi, top_left, strict=True)
    )
    if gradient == "monochrome":
        source = np.repeat(grey_of(source)[..., None], 3, axis=2)
    m = mask[roi]
    s = np.where(m[..., None] > 0, source[roi], 0).astype(np.float64)
    d = target[at].astype(np.float64)
    h, w = m.shape
    padded = np.pad(m, 3)
    f = np.min([padded[y : y + h, x : x + w] for y in range(7) for x in range(7)], axis=0)
    f = f[..., None] / 255.0

    def forward(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        around = np.pad(image, ((0, 1), (0, 1), (0, 0)), mode="reflect")
        return around[:-1, 1:] - image, around[1:, :-1] - image

    (sx, sy), (dx, dy) = forward(s), forward(d)
    if gradient == "mixed":
        keeps = np.abs(sx - sy) > np.abs(dx - dy)
        sx, sy = np.where(keeps, sx, dx), np.where(keeps, sy, dy)
    vx, vy = f * sx + (1 - f) * dx, f * sy + (1 - f) * dy
    divergence = vx[1:-1, 1:-1] - vx[1:-1, :-2] + vy[1:-1, 1:-1] - vy[:-2, 1:-1]
    edge = d.copy()
    edge[1:-1, 1:-1] = 0
    around = edge[:-2, 1:-1] + edge[2:, 1:-1] + edge[1:-1, :-2] + edge[1:-1, 2:]
    right = fft.dstn(divergence - around, type=1, axes=(0, 1))
    ys, xs = np.arange(1, h - 1)[:, None, None], np.arange(1, w - 1)[:, None]
    right /= 2 * np.cos(np.pi * ys / (h - 1)) + 2 * np.cos(np.pi * xs / (w - 1)) - 4
    u = fft.idstn(right, type=1, axes=(0, 1))
    out = target.copy()
    inner = tuple(slice(part.start + 1, part.stop - 1) for part in at)
    # Whole results come out a rounding error below: OpenCV's, in float32, on either side.
    out[inner] = np.floor(u.clip(0, 255) + 1e-9)
    return out


def case(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]:
    generator = np.random.default_rng(seed)
    h, w = generator.integers(20, 40, 2)
    target = photograph(generator, *(generator.integers(40, 50, 2)))
    source = photograph(generator, h, w)
    family = ("full", "disc", "ellipses", "blobs", "square", "grey")[seed % 6]
    if family == "grey":
        mask = make_mask("ellipses", h, w, seed=seed).numpy() * generator.integers(1, 255)
        mask = mask.astype(np.uint8)
    else:
        chosen = make_mask(family, h, w, seed=seed).numpy()
        # Where erosion leaves nothing, all results are whole, and truncated by chance.
        chosen |= make_mask("disc", h, w).numpy() if family == "blobs" else False
        mask = chosen.astype(np.uint8) * 255
    top = int(generator.integers(0, target.shape[0] - h + 1))
    left = int(generator.integers(0, target.shape[1] - w + 1))
    return target, source, mask, (top, left)


def to_batch(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]


def ours(
    target: np.ndarray, source: np.ndarray, mask: np.ndarray | None, place: Any, gradient: str
) -> np.ndarray:
    out, status = poisson_blend(
        to_batch(target),
        to_batch(source),
        None if mask is None else torch.from_numpy(mask)[None],
        torch.tensor([place]),
        gradient=gradient,
        compat="opencv",
        return_status=True,
    )
    assert int(status) in (Status.APPLIED, Status.CLIPPED)
    return np.asarray(out[0].numpy().transpose(1, 2, 0))


def assert_nearly_equal(got: np.ndarray, want: np.ndarray, share: float = 1e-3) -> None:
    off = np.abs(got.astype(int) - want.astype(int))
    assert off.max() <= 1
    assert np.count_nonzero(off) <= share * off.size


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("seed", CASES)
def test_the_published_steps(gradient, seed):
    arguments = case(seed)
    assert_nearly_equal(ours(*arguments, gradient), seamless_clone(*arguments, gradient))


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("seed", CASES)
def test_seamless_clone_itself(gradient, seed):
    cv2 = pytest.importorskip("cv2")
    target, source, mask, place = case(seed)
    flag = {
        "source": cv2.NORMAL_CLONE,
        "mixed": cv2.MIXED_CLONE,
        "monochrome": cv2.MONOCHROME_TRANSFER,
    }[gradient]
    ys, xs = bounding_box(without_frame(mask))
    centre = tuple(
        corner + s.start + (s.stop - s.start) // 2
        for corner, s in zip(place, (ys, xs), strict=True)
    )
    bgr = [np.ascontiguousarray(image[..., ::-1]) for image in (source, target)]
    # It writes to the mask that it is given.
    result = cv2.seamlessClone(*bgr, mask.copy(), (int(centre[1]), int(centre[0])), flag)
    assert_nearly_equal(ours(target, source, mask, place, gradient), result[..., ::-1])


@given(
    st.integers(0, 10_000),
    st.sampled_from(GRADIENTS),
    st.tuples(st.integers(-8, 24), st.integers(-8, 24)),
)
def test_a_patch_beyond_the_image_loses_its_frame_and_is_clipped(seed, gradient, place):
    generator = np.random.default_rng(seed)
    target, source = photograph(generator, 32, 32), photograph(generator, 24, 21)
    begin = [max(1, -corner) for corner in place]
    end = [min(side - 1, 32 - corner) for side, corner in zip((24, 21), place, strict=True)]
    # The steps take another frame away.
    part = tuple(slice(first - 1, last + 1) for first, last in zip(begin, end, strict=True))
    visible = source[part]
    mask = np.full(visible.shape[:2], 255, np.uint8)
    corner = tuple(c + b - 1 for c, b in zip(place, begin, strict=True))
    if min(visible.shape[:2]) < 5:
        return
    got = ours(target, source, None, place, gradient)
    # One sample has few pixels.
    assert_nearly_equal(got, seamless_clone(target, visible, mask, corner, gradient), 3e-3)


@pytest.mark.parametrize("place", [(-1, 5), (5, -1), (9, 5), (5, 12), (9, 12)])
@pytest.mark.parametrize("gradient", ["source", "mixed"])
def test_seamless_clone_of_a_patch_whose_frame_alone_lies_beyond_the_image(gradient, place):
    cv2 = pytest.importorskip("cv2")
    generator = np.random.default_rng(3)
    target, source = photograph(generator, 32, 32), photograph(generator, 24, 21)
    mask = np.full((24, 21), 255, np.uint8)
    flag = cv2.NORMAL_CLONE if gradient == "source" else cv2.MIXED_CLONE
    # It places the rectangle around what the frame leaves of the mask.
    centre = (place[1] + 1 + 19 // 2, place[0] + 1 + 22 // 2)
    expected = cv2.seamlessClone(source, target, mask.copy(), centre, flag)
    assert_nearly_equal(ours(target, source, None, place, gradient), expected, 3e-3)


def test_a_thin_mask_clones_nothing_and_says_applied():
    target, source, _, _ = case(1)
    mask = np.zeros(source.shape[:2], np.uint8)
    mask[8:14, 3:-3] = 255
    out, status = poisson_blend(
        to_batch(target),
        to_batch(source),
        torch.from_numpy(mask)[None],
        torch.tensor([[1, 1]]),
        compat="opencv",
        return_status=True,
    )
    assert int(status) == Status.APPLIED
    assert np.abs(out.numpy().astype(int) - to_batch(target).numpy().astype(int)).max() <= 1


@pytest.mark.parametrize("side", [3, 4])
def test_a_box_without_inside_is_empty(side):
    """The frame goes, and two pixels have no inside."""
    target, source, _, _ = case(1)
    out, status = poisson_blend(
        to_batch(target),
        to_batch(source[:side]),
        None,
        torch.tensor([[1, 1]]),
        compat="opencv",
        return_status=True,
    )
    assert int(status) == Status.EMPTY
    assert torch.equal(out, to_batch(target))


def test_a_resized_box_is_rounded_first():
    target, source, _, _ = case(2)
    size = (31, 26)
    box = torch.tensor([[2, 3, 17, 15]])
    values = torch.nn.functional.interpolate(
        to_batch(source[2:19, 3:18]).double(), size, mode="bilinear"
    )
    rounded = (values + 0.5).floor().byte()
    for gradient in ("source", "monochrome"):
        options: dict[str, Any] = {"gradient": gradient, "compat": "opencv"}
        place = torch.tensor([[4, 5]])
        got = poisson_blend(
            to_batch(target),
            to_batch(source),
            None,
            place,
            source_box=box,
            sizes=torch.tensor([size]),
            **options,
        )
        want = poisson_blend(to_batch(target), rounded, None, place, **options)
        # Ties of the interpolation may round either way.
        assert_nearly_equal(got.numpy(), want.numpy(), 1e-2)
