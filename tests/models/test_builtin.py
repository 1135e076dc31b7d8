# SPDX-License-Identifier: Apache-2.0
"""The built-in data set: disjoint, deterministic, exact masks, true strengths."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("skimage")
pytest.importorskip("torchvision")

import itertools

from ssad_models.data import builtin, defects

CATEGORIES = list(builtin.CATEGORIES)
KINDS = list(defects.KINDS)


def tile(channels: int = 1) -> defects.Floats:
    """Mid-grey structure far from 0 and 255, so that nothing clips at low strengths."""
    rng = np.random.default_rng(0)
    rough = defects.ndimage.gaussian_filter(rng.normal(size=(128, 128, channels)), (2, 2, 0))
    return np.asarray(128 + 10 * rough / rough.std())


def drawn(kind: str, strength: float, channels: int = 1) -> tuple[defects.Floats, defects.Bools]:
    """Change and mask of one defect on `tile`."""
    changed, mask = defects.apply(kind, (1, 2), tile(channels), strength, tile(channels)[::-1])
    return changed - tile(channels), mask


def test_strips_are_apart_and_hold_a_tile() -> None:
    strips = sorted(builtin.TRAIN_STRIPS + builtin.TEST_STRIPS)
    assert all(right - left >= builtin.TILE for left, right in strips)
    gaps = [b[0] - a[1] for a, b in itertools.pairwise(strips)]
    assert gaps == [builtin.GAP] * 2
    assert strips[1] in builtin.TEST_STRIPS


@pytest.mark.parametrize("category", CATEGORIES)
def test_train_and_test_tiles_share_no_pixel(
    category: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A photograph whose value is its own column shows where a tile was cut, lighting and noise off.
    columns = np.broadcast_to(np.arange(512)[None, :, None], (512, 512, 1))
    monkeypatch.setattr(builtin, "_photograph", lambda _: columns)
    seeds = [(0, i) for i in range(200)]

    def used(strips: tuple[tuple[int, int], ...]) -> set[int]:
        def cut(seed: builtin.Seed) -> set[int]:
            rng = np.random.default_rng(seed)
            left, right = strips[rng.integers(len(strips))]
            rng.integers(512 - builtin.TILE + 1)
            x = int(rng.integers(left, right - builtin.TILE + 1))
            scene = builtin._scene(category, seed, seed, strips)
            assert scene.shape == (128, 128, 1)
            return set(range(x, x + builtin.TILE))

        return set().union(*map(cut, seeds))

    train, test = used(builtin.TRAIN_STRIPS), used(builtin.TEST_STRIPS)
    assert min(abs(a - b) for a in train for b in test) > builtin.GAP
    assert len(train) > 250
    assert len(test) > 150


@pytest.mark.parametrize("category", CATEGORIES)
def test_deterministic_and_independent_of_size(category: str) -> None:
    few, many = builtin.train_images(category, 3), builtin.train_images(category, 5)
    assert torch.equal(few, many[:3])
    assert few.dtype == torch.uint8
    assert few.shape == (3, 3 if category == "ihc" else 1, 128, 128)
    assert not torch.equal(many[0], many[1])
    first, second = builtin.test_set(category, 2, 2), builtin.test_set(category, 2, 2)
    assert torch.equal(first.images, second.images)
    assert first.masks is not None
    assert second.masks is not None
    assert torch.equal(first.masks, second.masks)


def test_test_set_is_balanced() -> None:
    test = builtin.test_set("brick", places=2, exposures=3)
    assert len(test.images) == 2 * 3 + 2 * 7 * 5
    assert test.kinds[:6] == ("good",) * 6
    assert test.labels.tolist() == [False] * 6 + [True] * 70
    assert len(set(test.names)) == len(test)
    assert test.masks is not None
    assert not test.masks[:6].any()
    assert test.masks[6:].flatten(1).any(1).all()
    cells: dict[tuple[str, float], list[int]] = {}
    for kind, strength, place in zip(
        test.kinds, test.strengths.tolist(), test.groups.tolist(), strict=True
    ):
        cells.setdefault((kind, strength), []).append(place)
    assert cells.pop(("good", 0.0)) == [0, 0, 0, 1, 1, 1]
    assert set(cells) == {(k, s) for k in KINDS for s in defects.KINDS[k][1]}
    assert all(places == [0, 1] for places in cells.values())


@pytest.mark.parametrize(("category", "channels"), [("brick", 3), ("ihc", 1), ("ihc", 3)])
def test_source_converts_and_counts(category: str, channels: int) -> None:
    source = builtin.BuiltinSource(category, training_tiles=3, places=1, exposures=2)
    advanced: list[int] = []
    train = source.train(64, channels, advanced.append)
    test = source.test(64, channels, advanced.append)
    assert (len(train), len(test)) == source.counts() == (3, 37)
    assert sum(advanced) == 40
    assert train.images.shape == (3, channels, 64, 64)
    assert train.images.dtype == test.images.dtype == torch.uint8
    assert train.groups.tolist() == [0, 1, 2]
    assert test.images.is_shared()
    assert test.masks is not None
    assert test.masks.shape == (37, 1, 64, 64)
    assert test.masks.flatten(1).any(1).tolist() == test.labels.tolist()
    assert test.sizes.unique().tolist() == [128]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("category", ["gravel", "ihc"])
def test_pixels_outside_the_mask_are_untouched(category: str, kind: str) -> None:
    for strength in defects.KINDS[kind][1]:
        image, mask, clean = builtin.defective_tile(category, kind, strength, 0)
        assert image.shape == clean.shape
        changed = (image != clean).any(0, keepdim=True)
        assert not (changed & ~mask).any()
        # Inside, rounding and the sensor's limits may swallow a change of half a level, not a
        # strong one.
        if strength == defects.KINDS[kind][1][-1]:
            assert changed[mask].float().mean() > 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_place_and_shape_do_not_depend_on_strength(kind: str) -> None:
    ladder = defects.KINDS[kind][1]
    masks = [drawn(kind, strength)[1] for strength in ladder]
    for weak, strong in itertools.pairwise(masks):
        # A stronger defect shows in more pixels; a displaced or blurred pixel may by chance come
        # out alike.
        assert (weak & strong).sum() > 0.8 * weak.sum()
        assert strong.sum() > 0.9 * weak.sum()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_mask_is_exactly_what_changed(kind: str, channels: int) -> None:
    for strength in defects.KINDS[kind][1]:
        change, mask = drawn(kind, strength, channels)
        size = np.abs(change).max(axis=-1)
        assert (size[~mask] == 0).all()
        assert (size[mask] >= 0.5).all()


@pytest.mark.parametrize("strength", defects.GREY_LEVELS)
def test_strength_is_the_change_in_grey_levels(strength: float) -> None:
    for kind in ("scratch", "hole"):
        change, mask = drawn(kind, strength)
        np.testing.assert_allclose(np.abs(change[mask]), strength)
    change, _ = drawn("hole", strength)
    assert change.min() == pytest.approx(-strength)
    change, _ = drawn("stain", strength, channels=3)
    assert np.abs(change).max() == pytest.approx(
        strength, rel=0.02
    )  # the peak falls between pixels
    change, _ = drawn("shift", strength, channels=3)
    assert np.abs(change).max() == pytest.approx(strength)


@pytest.mark.parametrize("kind", ["texture", "shift"])
def test_strength_is_the_root_mean_square(kind: str) -> None:
    # At 32 levels and above the brightest pixels clip at 255; pixels below half a level leave the
    # mask.
    for strength in defects.GREY_LEVELS[:3]:
        change, mask = drawn(kind, strength)
        assert np.sqrt(np.mean(change[mask] ** 2)) == pytest.approx(strength, rel=0.15)


def test_blur_and_warp_mean_pixels() -> None:
    for sigma in defects.PIXELS:
        change, mask = drawn("blur", sigma)
        expected = defects.ndimage.gaussian_filter(tile(), (sigma, sigma, 0), mode="reflect")
        np.testing.assert_allclose((tile() + change)[mask], expected[mask])
    # On a ramp of 1.5 levels per pixel, the change of the value is 1.5 times the displacement.
    rows, columns = 1.5 * np.indices((128, 128), dtype=np.float64)
    for distance in defects.PIXELS[2:]:
        moved = []
        for ramp in (rows, columns):
            changed, _ = defects.apply("warp", (1, 2), ramp[..., None] + 30, distance, tile())
            moved.append(changed[..., 0] - 30 - ramp)
        assert np.hypot(*moved).max() / 1.5 == pytest.approx(distance, rel=0.05)


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match="`category` must be one of brick"):
        builtin.train_images("wood", 1)
    with pytest.raises(ValueError, match="`kind` must be one of scratch"):
        builtin.defective_tile("brick", "dent", 4.0, 0)
    with pytest.raises(RuntimeError, match="`tile` must have structure"):
        defects.apply("blur", (0,), np.full((128, 128, 1), 100.0), 1.0, tile())
