# SPDX-License-Identifier: Apache-2.0
"""CutPaste against what shares nothing with it: NumPy slices, torchvision, plain geometry."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ssad_kernels import CutPasteParams, cut_paste
from ssad_kernels.testing import make_images

ORDERS = list(itertools.permutations(range(4)))
# Off zero on each axis, so that no step is skipped: brightness, contrast, saturation, hue.
FACTORS = [(1.09, 0.93, 1.06, 0.08), (0.91, 1.1, 0.9, -0.1), (0.4, 2.0, 0.0, 0.5)]


@pytest.fixture(scope="module")
def functional() -> Any:
    return pytest.importorskip("torchvision.transforms.v2.functional")


def paste_with_numpy(
    images: np.ndarray, source: int, sample: int, box: list[int], target: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The pasted image and its mask, by slices of the part that lies in both images."""
    _, _, height, width = images.shape
    (y, x, h, w), (to_y, to_x) = box, target
    top = max(0, -y, -to_y)
    left = max(0, -x, -to_x)
    bottom = min(h, height - y, height - to_y)
    right = min(w, width - x, width - to_x)
    result, mask = images[sample].copy(), np.zeros((1, height, width), dtype=bool)
    if bottom > top and right > left:
        patch = images[source, :, y + top : y + bottom, x + left : x + right]
        result[:, to_y + top : to_y + bottom, to_x + left : to_x + right] = patch
        mask[:, to_y + top : to_y + bottom, to_x + left : to_x + right] = True
    return result, mask


@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 3),
            st.lists(st.integers(-5, 12), min_size=2, max_size=2),
            st.lists(st.integers(1, 12), min_size=2, max_size=2),
            st.lists(st.integers(-5, 12), min_size=2, max_size=2),
        ),
        min_size=4,
        max_size=4,
    ),
    channels=st.integers(1, 4),
)
def test_plain_patches_equal_numpy_slices(rows, channels):
    images = make_images(4, channels, 10, 9)
    boxes = [corner + size for _, corner, size, _ in rows]
    targets = [target for *_, target in rows]
    sources = torch.tensor([source for source, *_ in rows])
    pasted, masks = cut_paste(images, CutPasteParams.of(boxes, targets, source_index=sources))
    for i, (source, _, _, target) in enumerate(rows):
        expected, mask = paste_with_numpy(images.numpy(), source, i, boxes[i], target)
        np.testing.assert_array_equal(masks[i].numpy(), mask)
        np.testing.assert_array_equal(pasted[i].numpy(), expected)


@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.lists(st.integers(-5, 12), min_size=2, max_size=2),
            st.lists(st.integers(1, 12), min_size=2, max_size=2),
            st.lists(st.integers(-5, 12), min_size=2, max_size=2),
            st.integers(-5, 9),
            st.lists(st.integers(-30, 30), min_size=2, max_size=2),
        ),
        min_size=3,
        max_size=3,
    ),
    channels=st.integers(1, 4),
    size=st.tuples(st.integers(1, 11), st.integers(1, 11)),
)
def test_moved_patches_equal_numpy(rows, channels, size):
    """Boxes may leave the turned image, which has another shape, and lie over seams."""
    images = make_images(3, channels, *size)
    sources, corners, sizes, targets, turns, shifts = (list(c) for c in zip(*rows, strict=True))
    boxes = [corner + extent for corner, extent in zip(corners, sizes, strict=True)]
    params = CutPasteParams.of(
        boxes, targets, source_index=torch.tensor(sources), turns=turns, shift=shifts
    )
    pasted, masks = cut_paste(images, params)
    for i, source in enumerate(sources):
        turned = np.rot90(images[source].numpy(), turns[i], (1, 2))
        moved = np.roll(turned, shifts[i], (1, 2))
        # The slices take one shape for all: so large that the target's border is not met first.
        room = np.zeros((2, channels, 24, 24), np.uint8)
        room[0, :, : size[0], : size[1]] = images[i].numpy()
        y, x, h, w = boxes[i]
        patch = moved[:, max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)]
        _, patch_h, patch_w = patch.shape
        room[1, :, :patch_h, :patch_w] = patch
        to = [targets[i][0] + max(-y, 0), targets[i][1] + max(-x, 0)]
        expected, mask = paste_with_numpy(room, 1, 0, [0, 0, patch_h, patch_w], to)
        np.testing.assert_array_equal(masks[i].numpy(), mask[:, : size[0], : size[1]])
        np.testing.assert_array_equal(pasted[i].numpy(), expected[:, : size[0], : size[1]])


@pytest.mark.parametrize("size", [(14, 14), (11, 17)])
@pytest.mark.parametrize("angle", [0.0, 30.0, 225.0])
def test_a_moved_patch_is_that_of_a_moved_image(size, angle):
    """Recoloured and turned as one that is cut from a copy which was turned and shifted before."""
    images = make_images(2, 3, *size)
    for turns, shift in itertools.product(range(4), [(0, 0), (7, 5), (-1, 8)]):
        moved = torch.roll(torch.rot90(images[:1], turns, (2, 3)), shift, (2, 3))
        h, w = moved.shape[2:]
        box = [2, 1, h - 5, w - 6]
        room = torch.zeros(2, 3, 17, 17, dtype=torch.uint8)
        room[0, :, :h, :w] = moved[0]
        room[1, :, : size[0], : size[1]] = images[1]
        options = {
            "source_index": torch.tensor([0, 0]),
            "angle": torch.full((2,), angle),
            "jitter": torch.tensor([[1.2, 0.7, 1.3, 0.1]] * 2),
            "apply": torch.tensor([False, True]),
        }
        target = [[1, 2]] * 2
        expected, expected_masks = cut_paste(room, CutPasteParams.of([box] * 2, target, **options))
        params = CutPasteParams.of(
            [box] * 2, target, **options, turns=[turns] * 2, shift=[list(shift)] * 2
        )
        pasted, masks = cut_paste(images, params)
        assert torch.equal(masks[1], expected_masks[1, :, : size[0], : size[1]])
        assert torch.equal(pasted[1], expected[1, :, : size[0], : size[1]])


def jittered(images: Tensor, factors: tuple[float, ...], order: tuple[int, ...]) -> Tensor:
    """Whole images, pasted onto themselves."""
    n, _, height, width = images.shape
    params = CutPasteParams.of(
        [[0, 0, height, width]] * n,
        [[0, 0]] * n,
        jitter=torch.tensor([factors]).repeat(n, 1),
        order=torch.tensor([order]).repeat(n, 1),
    )
    return cut_paste(images, params)[0]


def jittered_by_torchvision(
    functional: Any, images: Tensor, factors: tuple[float, ...], order: tuple[int, ...]
) -> Tensor:
    steps = (
        functional.adjust_brightness,
        functional.adjust_contrast,
        functional.adjust_saturation,
        functional.adjust_hue,
    )
    for code in order:
        images = steps[code](images, torch.tensor(factors)[code].item())  # float32, as the op's
    return images


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "".join(map(str, order)))
@pytest.mark.parametrize("factors", FACTORS, ids=str)
def test_jitter_of_floats_equals_torchvision(functional, factors, order):
    """To float32 rounding, which torchvision's hue has for float64 images as well.

    The factor 2 for contrast enlarges what was rounded before.
    """
    for dtype in (torch.float32, torch.float64):
        images = make_images(2, 3, 21, 17, dtype=dtype)
        expected = jittered_by_torchvision(functional, images, factors, order)
        torch.testing.assert_close(jittered(images, factors, order), expected, rtol=0, atol=4e-6)


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "".join(map(str, order)))
@pytest.mark.parametrize("factors", FACTORS, ids=str)
def test_jitter_of_integers_equals_torchvision_on_floats_rounded_once(functional, factors, order):
    images = make_images(2, 3, 21, 17)
    floats = jittered_by_torchvision(functional, images.double() / 255.0, factors, order)
    difference = (jittered(images, factors, order).double() - 255.0 * floats).abs()
    # Steps work in sixty-fourths of a level, unless a factor is beyond 0...2.
    is_mild = all(0.0 <= factor < 2.0 for factor in factors[:3])
    assert difference.max() <= 0.5 + (0.1 if is_mild else 255 * 4e-6)


@pytest.mark.parametrize("code", range(4), ids=["brightness", "contrast", "saturation", "hue"])
@pytest.mark.parametrize("factors", FACTORS, ids=str)
def test_one_step_on_integers_is_within_a_level_of_torchvision(functional, factors, code):
    """Which truncates where the op rounds."""
    alone = tuple(
        factor if i == code else neutral
        for i, (factor, neutral) in enumerate(zip(factors, (1.0, 1.0, 1.0, 0.0), strict=True))
    )
    images = make_images(2, 3, 21, 17)
    expected = jittered_by_torchvision(functional, images, alone, (code,))
    difference = jittered(images, alone, (0, 1, 2, 3)).int() - expected.int()
    assert difference.abs().max() <= 1
    # Truncation darkens by half a level; torchvision's hue rounds.
    assert difference.float().mean() < (0.05 if code == 3 else 0.6)


def test_four_steps_on_integers_drift_from_torchvision_by_its_truncations(functional):
    """Half a level a step on average; hue and contrast enlarge what was lost before."""
    images = make_images(2, 3, 21, 17)
    for factors, order in itertools.product(FACTORS[:2], ORDERS):
        expected = jittered_by_torchvision(functional, images, factors, order)
        difference = jittered(images, factors, order).int() - expected.int()
        assert difference.abs().max() <= 8
        assert 0.5 < difference.float().mean() < 2.5


@pytest.mark.parametrize("code", [0, 1])
def test_jitter_of_grey_images_equals_torchvision(functional, code):
    factors, order = (1.2, 0.7, 1.0, 0.0), (code, 1 - code, 2, 3)
    images = make_images(2, 1, 21, 17, dtype=torch.float32)
    expected = jittered_by_torchvision(functional, images, factors, order[:2])
    torch.testing.assert_close(jittered(images, factors, order), expected, rtol=0, atol=4e-6)


def test_contrast_refers_to_the_patch_alone(functional):
    images = make_images(1, 3, 20, 20, dtype=torch.float32)
    jitter = torch.tensor([[1.0, 0.5, 1.0, 0.0]])
    params = CutPasteParams.of([[2, 3, 6, 7]], [[12, 11]], jitter=jitter)
    pasted, _ = cut_paste(images, params)
    expected = functional.adjust_contrast(images[:, :, 2:8, 3:10], 0.5)
    torch.testing.assert_close(pasted[:, :, 12:18, 11:18], expected, rtol=0, atol=1e-6)


def rotated_patch(height: int, width: int, angle: float) -> tuple[Tensor, Tensor]:
    """A patch of distinct numbers, turned; and the mask, on a canvas with room all around."""
    size = 2 * (height + width)
    images = torch.zeros(2, 1, size, size, dtype=torch.float64)
    numbers = torch.arange(1, height * width + 1, dtype=torch.float64).reshape(height, width)
    images[0, 0, :height, :width] = numbers
    params = CutPasteParams.of(
        [[0, 0, height, width]] * 2,
        [[0, 0], [2, 3]],
        source_index=torch.tensor([0, 0]),
        angle=torch.full((2,), angle),
    )
    pasted, masks = cut_paste(images, params)
    return pasted[1, 0, 2:, 3:], masks[1, 0, 2:, 3:]


@pytest.mark.parametrize(("height", "width"), [(5, 8), (7, 7), (1, 6), (12, 3)])
@pytest.mark.parametrize("turns", [-4, -1, 0, 1, 2, 3, 4, 9])
def test_quarter_turns_are_exact(height, width, turns):
    pasted, mask = rotated_patch(height, width, 90.0 * turns)
    numbers = torch.arange(1, height * width + 1, dtype=torch.float64).reshape(height, width)
    expected = torch.rot90(numbers, turns)
    h, w = expected.shape
    assert torch.equal(pasted[:h, :w], expected)
    assert mask[:h, :w].all()
    assert int(mask.sum()) == height * width


@given(
    height=st.integers(1, 16),
    width=st.integers(1, 16),
    angle=st.floats(-360.0, 360.0, width=32),
)
def test_rotation_equals_its_geometry(height, width, angle):
    """Each pixel centre, turned back about the centre of the canvas, tells the pixel it shows.

    Where that point is within 0.001 pixel of an edge the fixed point (2^-17 at a distance of up to
    23 pixels) may decide either way.
    """
    pasted, mask = rotated_patch(height, width, angle)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    canvas_h = height * abs(cos) + width * abs(sin)
    canvas_w = width * abs(cos) + height * abs(sin)
    ys, xs = mask.nonzero().unbind(1)
    if len(ys):
        assert int(ys.max()) < canvas_h + 1
        assert int(xs.max()) < canvas_w + 1

    found = [
        _matches_geometry(pasted, mask, (height, width), (cos, sin), (rows, columns))
        for rows in _whole_sizes(canvas_h)
        for columns in _whole_sizes(canvas_w)
    ]
    assert any(found)


def _whole_sizes(extent: float) -> set[int]:
    """The next integer; both neighbours where the extent is an integer to within rounding."""
    return {math.ceil(extent - 1e-3), math.ceil(extent + 1e-3)}


def _matches_geometry(
    pasted: Tensor,
    mask: Tensor,
    size: tuple[int, int],
    turn: tuple[float, float],
    canvas: tuple[int, int],
) -> bool:
    (height, width), (cos, sin) = size, turn
    dy = torch.arange(mask.shape[0], dtype=torch.float64)[:, None] + 0.5 - canvas[0] / 2
    dx = torch.arange(mask.shape[1], dtype=torch.float64) + 0.5 - canvas[1] / 2
    # Counter-clockwise on a screen, where y points down.
    from_y = dy * cos + dx * sin + height / 2
    from_x = dx * cos - dy * sin + width / 2
    inside = (from_y > 0) & (from_y < height) & (from_x > 0) & (from_x < width)
    numbers = torch.floor(from_y) * width + torch.floor(from_x) + 1
    expected = torch.where(inside, numbers, 0.0)
    near_edge = ((from_y - from_y.round()).abs() < 1e-3) | ((from_x - from_x.round()).abs() < 1e-3)
    actual = torch.where(mask, pasted, 0.0)
    return bool(((actual == expected) | near_edge).all())


@pytest.mark.parametrize(("height", "width"), [(9, 14), (20, 6), (11, 11)])
@pytest.mark.parametrize("angle", [10.0, 33.0, 45.0, -20.0, 120.0, 200.5])
def test_rotated_mask_agrees_with_torchvision(functional, height, width, angle):
    """Up to one pixel along the edge: its canvas has another size, so the grids do not coincide.

    torchvision takes the canvas from corners that it rounds outwards, and one row or column more
    moves the centre by half a pixel.
    """
    _, mask = rotated_patch(height, width, angle)
    other = functional.rotate(torch.ones(1, height, width), angle, expand=True)[0] > 0
    for axis in (0, 1):
        extents = [int(m.any(1 - axis).sum()) for m in (mask, other)]
        assert abs(extents[0] - extents[1]) <= 2
    perimeter = 2 * (height + width)
    assert abs(int(mask.sum()) - int(other.sum())) <= perimeter / 4

    centred = torch.zeros_like(mask)
    rows, columns = (mask.any(1 - axis).nonzero().flatten() for axis in (0, 1))
    top = round(float(rows[0] + rows[-1] + 1 - other.shape[0]) / 2)
    left = round(float(columns[0] + columns[-1] + 1 - other.shape[1]) / 2)
    ys, xs = (other.nonzero() + torch.tensor([top, left])).clamp(min=0).unbind(1)
    centred[ys, xs] = True

    def grown(m: Tensor) -> Tensor:
        return torch.nn.functional.max_pool2d(m[None, None].float(), 3, 1, 1)[0, 0] > 0

    assert not (mask & ~grown(centred)).any()
    assert not (centred & ~grown(mask)).any()
