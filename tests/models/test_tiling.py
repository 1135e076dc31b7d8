# SPDX-License-Identifier: Apache-2.0
"""Tiles cover the image, overlap, and their maps join without a seam."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssad_models.tiling import OVERLAP, TOLERANCE, Blend, Box, tile_boxes

side = st.integers(1, 300)


@given(side, side, st.integers(8, 64), st.integers(8, 64))
def test_tiles_cover_the_image_and_stay_inside(height: int, width: int, h: int, w: int) -> None:
    boxes = tile_boxes((height, width), (h, w))
    covered = torch.zeros(height, width, dtype=torch.bool)
    for box in boxes:
        assert box.y >= 0
        assert box.x >= 0
        assert box.y + box.h <= height
        assert box.x + box.w <= width
        covered[box.y : box.y + box.h, box.x : box.x + box.w] = True
    assert covered.all()
    if height <= TOLERANCE * h and width <= TOLERANCE * w:
        assert boxes == [Box(0, 0, height, width)]
    else:
        assert {(box.h, box.w) for box in boxes} == {(min(h, height), min(w, width))}
    for starts, tile in (({b.y for b in boxes}, boxes[0].h), ({b.x for b in boxes}, boxes[0].w)):
        steps = [b - a for a, b in itertools.pairwise(sorted(starts))]
        assert all(step <= (1 - OVERLAP) * tile + 1 for step in steps)


def test_limit_is_a_quarter_more_than_in_training() -> None:
    assert len(tile_boxes((125, 100), (100, 100))) == 1
    assert tile_boxes((126, 100), (100, 100)) == [Box(0, 0, 100, 100), Box(26, 0, 100, 100)]


@pytest.mark.parametrize("size", [(64, 64), (200, 64), (131, 257)])
def test_blend_of_equal_maps_is_flat(size: tuple[int, int]) -> None:
    boxes = tile_boxes(size, (64, 64))
    blend = Blend(size)
    for box in boxes:
        blend.add(torch.full((1, 1, 16, 16), 3.0), [box])
    heat = blend.blended()
    assert heat.shape == (1, *size)
    torch.testing.assert_close(heat, torch.full_like(heat, 3.0))


def test_blend_is_smooth_where_tiles_disagree() -> None:
    boxes = tile_boxes((64, 150), (64, 64))
    maps = torch.arange(len(boxes), dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    blend = Blend((64, 150))
    blend.add(maps, boxes)
    heat = blend.blended()
    assert float(heat.diff(dim=2).abs().max()) < 0.2
    assert float(heat[0, 32, 0]) == 0
    assert float(heat[0, 32, -1]) == len(boxes) - 1
