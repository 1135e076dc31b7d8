# SPDX-License-Identifier: Apache-2.0
"""Poisson blending against equations built edge by edge for SciPy, and against mathematics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ssad_kernels import poisson_blend
from ssad_kernels.testing import MASKS, make_mask

sparse = pytest.importorskip("scipy.sparse")
linalg = pytest.importorskip("scipy.sparse.linalg")

GRADIENTS = ("source", "mixed", "average", "monochrome")
GREY = (0.299, 0.587, 0.114)


def photographs(seed: int, count: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    """Smooth values and some noise, in about 0...1, (count, channels, height, width)."""
    generator = np.random.default_rng(seed)
    coarse = torch.from_numpy(generator.random((count, channels, 4, 4)))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return np.asarray(smooth.numpy() + 0.05 * generator.standard_normal(smooth.shape))


def resized(patch: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """By torchvision's rule; the op computes its own coordinates."""
    options: dict[str, Any] = {"mode": "bilinear", "align_corners": False, "antialias": False}
    return np.asarray(
        torch.nn.functional.interpolate(torch.from_numpy(patch)[None], size, **options)[0]
    )


def guidance(code: str, s: float, t: float, source_gain: float, target_gain: float) -> float:
    """The guidance of an edge on which the source differs by s and the target by t."""
    s, t = source_gain * s, target_gain * t
    if code == "mixed":
        return s if abs(s) > abs(t) else t
    return (s + t) / 2 if code == "average" else s


def blend_edge_by_edge(
    target: np.ndarray,
    patch: np.ndarray,
    mask: np.ndarray | None,
    top_left: tuple[int, int],
    region: str,
    gradient: str,
    gains: tuple[float, float] = (1.0, 1.0),
) -> np.ndarray:
    """An image (C, H, W) and a patch (C, h, w), by dictionaries of pixels and elimination."""
    channels, height, width = target.shape
    covered = {
        (y + top_left[0], x + top_left[1]): (y, x)
        for y, x in np.ndindex(patch.shape[1:])
        if 0 <= y + top_left[0] < height and 0 <= x + top_left[1] < width
    }
    value = {p: 1.0 if mask is None else float(mask[at]) for p, at in covered.items()}
    support = {p for p in covered if value[p] > 0}
    unknowns = sorted(support)
    if region == "rect":
        ys, xs = sorted({y for y, _ in support}), sorted({x for _, x in support})
        unknowns = [(y, x) for y in range(ys[0] + 1, ys[-1]) for x in range(xs[0] + 1, xs[-1])]
    number = {p: i for i, p in enumerate(unknowns)}
    if not unknowns:
        return target

    if gradient == "monochrome":
        weights = GREY if channels >= 3 else (1.0,)
        grey = sum(w * patch[c] for c, w in enumerate(weights))
        patch = np.broadcast_to(grey, patch.shape)
    rows, columns, entries = [], [], []
    right = np.zeros((len(unknowns), channels))
    for p, i in number.items():
        for q in ((p[0] - 1, p[1]), (p[0] + 1, p[1]), (p[0], p[1] - 1), (p[0], p[1] + 1)):
            if not (0 <= q[0] < height and 0 <= q[1] < width):
                continue
            rows, columns, entries = [*rows, i], [*columns, i], [*entries, 1.0]
            if q in number:
                rows, columns, entries = [*rows, i], [*columns, number[q]], [*entries, -1.0]
            inside = [value[r] for r in (p, q) if r in support]
            w = float(np.mean(inside)) if inside and p in covered and q in covered else 0.0
            for c in range(channels):
                t = float(target[c][p] - target[c][q])
                v = (1 - w) * t
                if w > 0:
                    s = float(patch[c][covered[p]] - patch[c][covered[q]])
                    v += w * guidance(gradient, s, t, *gains)
                right[i, c] += v + (0.0 if q in number else target[c][q])
    system = sparse.csc_matrix((entries, (rows, columns)), shape=(len(unknowns),) * 2)
    out = target.copy()
    is_whole = len(unknowns) == height * width
    if is_whole:  # unique up to a constant: fix one value, then the mean
        system = system.tolil()
        system[0] = 0.0
        system[0, 0] = 1.0
        right[0] = 0.0
    u = linalg.spsolve(system.tocsc(), right).reshape(len(unknowns), channels)
    ys, xs = np.array(unknowns).T
    for c in range(channels):
        shift = target[c].mean() - u[:, c].mean() if is_whole else 0.0
        out[c][ys, xs] = u[:, c] + shift
    return out


def blend(
    target: np.ndarray, source: np.ndarray, mask: np.ndarray | None, top_left: Any, **options: Any
) -> np.ndarray:
    """One image, in float64, as well as the solver can."""
    rows = {
        name: torch.tensor([options.pop(name)])
        for name in ("sizes", "source_box")
        if name in options
    }
    out = poisson_blend(
        torch.from_numpy(target)[None],
        torch.from_numpy(source)[None],
        None if mask is None else torch.from_numpy(mask)[None],
        torch.tensor([top_left]),
        strict=True,
        **{"tol": 1e-7, **options, **rows},
    )
    return np.asarray(out[0])


PLACES = {"inside": (3, 4), "corner": (-2, -3), "far corner": (9, 8), "side": (0, 6)}


@pytest.mark.parametrize("region", ["mask", "rect"])
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("family", ["none", "disc", "blobs", "holes", "noise", "scar", "soft"])
def test_the_equation(region, gradient, place, family):
    target = photographs(1, 1, 17, 18)[0]
    source = photographs(2, 1, 12, 13)[0] * 1.3
    mask: np.ndarray | None = None
    if family == "soft":
        mask = np.clip(photographs(3, 1, 12, 13, 1)[0, 0] * 3 - 1, 0, 1).astype(np.float32)
    elif family != "none":
        mask = make_mask(family, 12, 13, seed=4).numpy()
    options = {"region": region, "gradient": gradient}
    expected = blend_edge_by_edge(target, source, mask, place, **options)
    got = blend(target, source, mask, place, **options)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-8)
    unchanged = (expected == target).all(0)
    assert (got == target).all(0)[unchanged].all()


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_the_whole_image_keeps_its_mean(gradient):
    target, source = photographs(5, 2, 9, 11)
    expected = blend_edge_by_edge(target, source, None, (0, 0), "mask", gradient)
    got = blend(target, source, None, (0, 0), gradient=gradient)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-8)
    np.testing.assert_allclose(got.mean((1, 2)), target.mean((1, 2)), rtol=1e-9)
    with_mask = blend(target, source, np.ones((9, 11), bool), (0, 0), gradient=gradient)
    np.testing.assert_allclose(with_mask, expected, rtol=0, atol=1e-8)


@given(
    st.sampled_from(MASKS),
    st.sampled_from(GRADIENTS),
    st.sampled_from(["mask", "rect"]),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(-4, 9), st.integers(-4, 9)),
    st.tuples(st.sampled_from([-1.0, 0.5, 2.0]), st.sampled_from([0.5, 1.0])),
    st.integers(1, 4),
    st.integers(0, 1000),
)
def test_any_equation(family, gradient, region, size, place, gains, channels, seed):
    target = photographs(seed, 1, 10, 11, channels)[0]
    source = photographs(seed + 1, 1, *size, channels)[0]
    mask = make_mask(family, *size, seed=seed).numpy() if seed % 3 else None
    out, status = poisson_blend(
        torch.from_numpy(target)[None],
        torch.from_numpy(source)[None],
        None if mask is None else torch.from_numpy(mask)[None],
        torch.tensor([place]),
        region=region,
        gradient=gradient,
        source_gain=gains[0],
        target_gain=gains[1],
        tol=1e-7,
        return_status=True,
    )
    if int(status) % 16:
        np.testing.assert_array_equal(out[0].numpy(), target)
        return
    expected = blend_edge_by_edge(target, source, mask, place, region, gradient, gains)
    np.testing.assert_allclose(out[0].numpy(), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("box", [(2, 3, 9, 7), (0, 0, 16, 15), (5, 1, 1, 2), (3, 3, 12, 11)])
@pytest.mark.parametrize("size", [(12, 11), (5, 14), (30, 30)])
def test_a_box_is_resized_as_by_interpolate(box, size):
    target, source = photographs(6, 1, 20, 19)[0], photographs(7, 1, 16, 15)[0]
    y, x, h, w = box
    patch = resized(np.ascontiguousarray(source[:, y : y + h, x : x + w]), size)
    expected = blend_edge_by_edge(target, patch, None, (-3, 2), "mask", "source")
    got = blend(target, source, None, (-3, 2), source_box=box, sizes=size)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("gradient", ["source", "mixed", "average"])
def test_fpie_solves_the_same_equation_away_from_the_border(gradient):
    """4 u_p less its neighbours in the mask = neighbours outside + gradients on all four edges."""
    target, source = photographs(8, 2, 18, 16)
    mask = make_mask("ellipses", 18, 16, seed=2).numpy()
    mask[[0, -1]] = mask[:, [0, -1]] = False
    u = blend(target, source, mask, (0, 0), gradient=gradient)
    pick = {
        "source": lambda s, t: s,
        "mixed": lambda s, t: np.where(np.abs(s) > np.abs(t), s, t),
        "average": lambda s, t: (s + t) / 2,
    }[gradient]
    right, left = np.zeros_like(u), 4 * u
    for shift, axis in ((1, 1), (-1, 1), (1, 2), (-1, 2)):
        s, t = (image - np.roll(image, shift, axis) for image in (source, target))
        right += pick(s, t) + np.where(
            np.roll(mask, shift, axis - 1), 0, np.roll(target, shift, axis)
        )
        left -= np.where(np.roll(mask, shift, axis - 1), np.roll(u, shift, axis), 0)
    np.testing.assert_allclose(left[:, mask], right[:, mask], rtol=0, atol=1e-8)
    np.testing.assert_array_equal(u[:, ~mask], target[:, ~mask])


@pytest.mark.parametrize("family", ["disc", "blobs", "noise", "horseshoe", "scar", "frame"])
def test_the_membrane_stays_within_its_frame(family):
    """The maximum principle: u less the source lies between its values on the boundary."""
    target, source = photographs(9, 2, 20, 20)
    if family == "frame":
        mask, unknown = None, np.zeros((20, 20), bool)
        unknown[1:-1, 1:-1] = True
    else:
        mask = unknown = make_mask(family, 20, 20, seed=1).numpy()
    region = "rect" if mask is None else "mask"
    membrane = blend(target, source, mask, (0, 0), region=region) - source
    padded = np.pad(unknown, 1)
    around = padded[2:, 1:-1] | padded[:-2, 1:-1] | padded[1:-1, 2:] | padded[1:-1, :-2]
    frame = (target - source)[:, around & ~unknown]
    assert (membrane[:, unknown] <= frame.max(1)[:, None] + 1e-8).all()
    assert (membrane[:, unknown] >= frame.min(1)[:, None] - 1e-8).all()


@pytest.mark.parametrize("region", ["mask", "rect"])
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_invariances(region, gradient):
    target, source = photographs(10, 1, 15, 17)[0], photographs(11, 1, 10, 9)[0]
    mask = make_mask("blobs", 10, 9, seed=5).numpy()
    top, left = place = (6, -1)
    options: dict[str, Any] = {"region": region, "gradient": gradient}
    expected = blend(target, source, mask, place, **options)

    def check(got: np.ndarray, want: np.ndarray) -> None:
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-8)

    check(blend(target, source + 5.0, mask, place, **options), expected)
    check(blend(target + 3.0, source, mask, place, **options), expected + 3.0)
    check(blend(target * -2.0, source * -2.0, mask, place, **options), expected * -2.0)
    images = [image.swapaxes(1, 2).copy() for image in (target, source)]
    check(blend(*images, mask.T.copy(), (left, top), **options), expected.swapaxes(1, 2))
    images = [image[:, ::-1].copy() for image in (target, source)]
    flipped = (15 - 10 - top, left)
    check(blend(*images, mask[::-1].copy(), flipped, **options), expected[:, ::-1])


def test_a_known_solution():
    """A source that is the target plus a ramp, inside a frame: the ramp's frame is cancelled."""
    target = torch.zeros(1, 1, 6, 8)
    source = torch.arange(8.0).expand(1, 1, 6, 8)
    mask = torch.zeros(1, 6, 8, dtype=torch.bool)
    mask[:, :, 3] = True  # a column: each pixel between zeros, Laplacian of a ramp is zero
    out: Tensor = poisson_blend(target, source, mask, torch.tensor([[0, 0]]), tol=1e-4)
    torch.testing.assert_close(out, target, rtol=0, atol=1e-5)
    kink = (source - 3.0).abs()
    out = poisson_blend(target, kink, mask, torch.tensor([[0, 0]]), tol=1e-4)
    torch.testing.assert_close(out[0, 0, :, 3], torch.full((6,), -1.0), rtol=0, atol=1e-5)
