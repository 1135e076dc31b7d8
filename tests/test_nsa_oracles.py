# SPDX-License-Identifier: Apache-2.0
"""NSA's law and regions against what shares nothing with them: NumPy, one sample at a time.

With ``SSAD_HYPOTHESIS=stress`` 20,000 samples are drawn of each recipe, otherwise a few hundred.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import pytest
import torch

from ssad_kernels import NsaLaw, NsaParams, make_keys, nsa_regions, sample_nsa, use_backend
from ssad_kernels.testing import NSA_LAWS, NSA_RECIPES, make_objects

ALPHA = 1e-4
IS_STRESSED = os.environ.get("SSAD_HYPOTHESIS") == "stress"
MANY, FEW = (20_000, 20_000) if IS_STRESSED else (1500, 100)
MASKS = 40  # of objects, drawn from by all samples
LIKE_CARPET = ("grid", "leather", "tile", "wood")
RECIPES = [name for name in NSA_RECIPES if IS_STRESSED or name not in LIKE_CARPET]


def differ(a: np.ndarray, b: np.ndarray) -> float:
    """Kolmogorov and Smirnov's distance of two samples, over its bound at `ALPHA`."""
    values = np.union1d(a, b)
    a, b = np.sort(a), np.sort(b)
    shares = [np.searchsorted(x, values, side="right") / len(x) for x in (a, b)]
    bound = math.sqrt(-math.log(ALPHA / 2) / 2 * (1 / len(a) + 1 / len(b)))
    return float(np.abs(shares[0] - shares[1]).max() / bound)


def resize(mask: np.ndarray, h: int, w: int) -> np.ndarray:
    """Bilinear, half-pixel centres, above one half; rounded, as the half is met exactly."""
    ys = (np.arange(h) + 0.5) * mask.shape[0] / h - 0.5
    xs = (np.arange(w) + 0.5) * mask.shape[1] / w - 0.5
    rows = np.array([np.interp(xs, np.arange(mask.shape[1]), row) for row in mask.astype(float)])
    whole = np.array([np.interp(ys, np.arange(mask.shape[0]), column) for column in rows.T]).T
    return whole.round(9) > 0.5


class Sampler:
    """Section B2 of the method, step by step."""

    def __init__(self, law: NsaLaw, side: int, seed: int) -> None:
        self.law, self.side, self.rng = law, side, np.random.default_rng(seed)
        bounds = [[round(share * side) for share in axis] for axis in (law.height, law.width)]
        self.half = bounds
        self.full = bounds if law.is_reference else [[2 * x for x in axis] for axis in bounds]

    def half_size(self, axis: int) -> int:
        share = self.law.offset + self.rng.gamma(2, self.law.scale)
        return int(np.clip(share * self.side, *self.half[axis]))

    def window(self, half: list[int]) -> tuple[int, int, int, int]:
        low = [self.rng.integers(self.half[k][0], self.side - self.half[k][0]) for k in (0, 1)]
        starts = [max(c - p, 0) for c, p in zip(low, half, strict=True)]
        ends = [min(c + p, self.side) for c, p in zip(low, half, strict=True)]
        return starts[0], starts[1], ends[0] - starts[0], ends[1] - starts[1]

    def target_size(self, h: int, w: int) -> tuple[int, int]:
        assert self.law.resize is not None
        scale = np.clip(self.rng.normal(1, self.law.spread), *self.law.resize)
        tall = np.clip(scale * h, *self.full[0])
        wide = np.clip(int(tall * w / h), *self.full[1])
        return int(np.clip(int(wide * h / w), *self.full[0])), int(wide)

    def place(self, h: int, w: int) -> tuple[int, int]:
        y = self.rng.integers(h // 2 + 1, self.side - h // 2 - 1)
        x = self.rng.integers(w // 2 + 1, self.side - w // 2 - 1)
        return int(y - h // 2), int(x - w // 2)

    def patch(self, source: Any, target: Any) -> tuple[int, ...] | None:
        """Source box and target box; a label is added to the target."""
        law = self.law
        half = [self.half_size(0), self.half_size(1)]
        for _ in range(law.proposals):
            y, x, h, w = self.window(half)
            if source is None or source[y : y + h, x : x + w].mean() > law.object_share:
                break
        else:
            return None
        tall, wide = self.target_size(h, w)
        objects = None if source is None else resize(source[y : y + h, x : x + w], tall, wide)
        for _ in range(law.proposals):
            to_y, to_x = self.place(tall, wide)
            if objects is None:
                break
            there = target[to_y : to_y + tall, to_x : to_x + wide]
            is_solid = objects.mean() > law.object_share
            if is_solid and (objects & there).sum() / objects.sum() > law.overlap:
                break
        else:
            return None
        if (tall - 2) * (wide - 2) < 50:
            return None
        if objects is not None and not law.is_reference:
            there |= objects
        return y, x, h, w, to_y, to_x, tall, wide

    def sample(self, source: Any, target: Any) -> list[tuple[int, ...]]:
        attempts = 1 + self.rng.binomial(self.law.patches - 1, 0.5)
        patches = [self.patch(source, target) for _ in range(attempts)]
        return [patch for patch in patches if patch is not None]


def features(rows: np.ndarray, sources: Any, targets: Any) -> dict[str, np.ndarray]:
    """What is compared of boxes (n, 8)."""
    y, x, h, w, to_y, to_x, tall, wide = rows.T
    found = {"h": h, "w": w, "y": y + h / 2, "x": x + w / 2, "tall": tall, "wide": wide}
    found |= {"area": tall * wide, "to_y": to_y + tall / 2, "to_x": to_x + wide / 2}
    if sources is not None:
        overlaps = []
        for row, source, target in zip(rows, sources, targets, strict=True):
            y, x, h, w, to_y, to_x, tall, wide = row
            own = resize(source[y : y + h, x : x + w], tall, wide)
            there = target[to_y : to_y + tall, to_x : to_x + wide]
            overlaps.append((own & there).sum() / max(own.sum(), 1))
        found["overlap"] = np.array(overlaps).round(6)
    return found


@pytest.mark.parametrize("is_reference", [False, True], ids=["corrected", "released"])
@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_distributed_as_the_method_says(name, is_reference):
    side, law, extent = NSA_RECIPES[name]
    law = law._replace(is_reference=is_reference)
    n = MANY if extent is None else FEW
    sources = targets = None
    masks: dict[str, Any] = {}
    at = np.arange(n) % MASKS
    if extent is not None:
        objects = [make_objects(MASKS, side, side, extent, seed=seed) for seed in (1, 2)]
        sources, targets = (mask[:, 0].numpy()[at] for mask in objects)

    first, counts = [], []
    sampler = Sampler(law, side, seed=3)
    for i in range(n):
        pair = (None, None) if sources is None else (sources[i], targets[i].copy())
        drawn = sampler.sample(*pair)
        counts.append(len(drawn))
        first += [(i, *patch) for patch in drawn[:1]]
    expected = np.array(first)

    boxes, applied, parts = [], [], 2000
    for begin in range(0, n, parts):
        ids = torch.arange(begin, min(begin + parts, n))
        if sources is not None:
            chosen = torch.from_numpy(at[ids.numpy()])
            masks = {"source_masks": objects[0][chosen], "target_masks": objects[1][chosen]}
        params = sample_nsa(
            make_keys(5, 0, ids), side, side, law._replace(same_source=True), stream=1, **masks
        )
        boxes.append(torch.cat([params.source_box, params.target_box], dim=2))
        applied.append(params.apply)
    box, apply = torch.cat(boxes).numpy(), torch.cat(applied).numpy()
    has = apply.any(1)
    index = np.flatnonzero(has)
    actual = box[index, apply[index].argmax(1)]

    def pick(masks: Any, rows: np.ndarray) -> Any:
        return None if masks is None else masks[rows]

    # The first patch that was applied is the first attempt almost always; it is on both sides.
    want = features(expected[:, 1:], pick(sources, expected[:, 0]), pick(targets, expected[:, 0]))
    got = features(actual, pick(sources, index), pick(targets, index))
    distances = {key: differ(got[key], want[key]) for key in want}
    distances["count"] = differ(apply.sum(1), np.array(counts))
    if IS_STRESSED:
        print(name, is_reference, {key: round(value, 2) for key, value in distances.items()})
    assert max(distances.values()) < 1, distances


def ellipses_of(rows: np.ndarray, h: int, w: int, is_reference: bool) -> np.ndarray:
    y, x = np.mgrid[:h, :w] + 0.5
    union = np.zeros((h, w), bool)
    for cy, cx, semi_y, semi_x, angle in rows:
        cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        along = (y - cy) * cos + (x - cx) * sin
        across = (x - cx) * cos + (1 if is_reference else -1) * (y - cy) * sin
        union |= (along / semi_y) ** 2 + (across / semi_x) ** 2 <= 1
    return union


@pytest.mark.parametrize("has_masks", [False, True])
@pytest.mark.parametrize("name", NSA_LAWS)
def test_regions_are_those_of_the_method(name, has_masks):
    law, n, h, w = NSA_LAWS[name], 30, 64, 80
    source, target = (make_objects(n, h, w, (0.7, 0.6), seed=seed) for seed in (5, 6))
    masks = {"source_masks": source, "target_masks": target} if has_masks else {}
    params = sample_nsa(make_keys(8, 0, torch.arange(n)), h, w, law, stream=4, **masks)
    region, blend = nsa_regions(params, h, w, is_reference=law.is_reference, **masks)
    boxes = [torch.cat([params.source_box, params.target_box], 2).numpy(), params.ellipse.numpy()]
    wrong = total = 0
    for i in range(n):
        label, seen = np.zeros((h, w), bool), target[i, 0].numpy().copy()
        for j in np.flatnonzero(params.apply[i].numpy()):
            y, x, bh, bw, to_y, to_x, tall, wide = boxes[0][i, j]
            shape = np.ones((tall, wide), bool)
            if law.shape == "ellipses":
                shape = ellipses_of(boxes[1][i, j], tall, wide, law.is_reference)
            at = np.s_[to_y : to_y + tall, to_x : to_x + wide]
            own, objects = shape, np.ones_like(shape)
            if has_masks:
                image = source[params.source_index[i], 0].numpy()
                own = resize(image[y : y + bh, x : x + bw], tall, wide)
                objects = own | seen[at]
            patch = shape & objects
            whole = patch | ~objects
            whole[[0, -1]] = whole[:, [0, -1]] = False
            assert whole.sum() >= 50 - 2
            if law.is_reference:
                label[at] = patch
            else:
                label[at] |= patch
                seen[at] |= patch
            if blend is not None:
                wrong += (blend[i, j, :tall, :wide].numpy() != whole).sum()
                assert not blend[i, j, tall:].any()
                assert not blend[i, j, :, wide:].any()
        wrong += (region[i, 0].numpy() != label).sum()
        total += label.sum()
    assert total > 0
    # A cosine of 16 bits moves an ellipse by a pixel here and there.
    assert wrong <= (0.002 * total if law.shape == "ellipses" else 0)


def test_no_patches_have_no_region() -> None:
    none = torch.zeros(2, 0, 4, dtype=torch.int64)
    index = torch.zeros(2, dtype=torch.int64)
    ellipses = torch.zeros(2, 0, 0, 5, dtype=torch.float64)
    params = NsaParams(
        index, none, none, ellipses, none[:, :, 0].bool(), index.double(), index.to(torch.int8)
    )
    for backend in ("auto", "reference"):
        with use_backend(backend):
            region, masks = nsa_regions(params, 9, 8)
        assert region.shape == (2, 1, 9, 8)
        assert not region.any()
        assert masks is None
