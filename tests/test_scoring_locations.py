# SPDX-License-Identifier: Apache-2.0
"""One Gaussian per location, and fits from features that come in batches."""

from __future__ import annotations

import io
import pickle
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssad_kernels import GaussianAccumulator, gaussian_fit, gaussian_score
from ssad_kernels.reference import scoring as reference

mpmath = pytest.importorskip("mpmath")

COVARIANCES = ("ridge", "ledoit_wolf")


def maps(count: int, locations: int, dim: int, *, seed: int = 0, dtype=torch.float64) -> Tensor:
    """Return correlated features (n, L, D) with another mean at each location."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(count, locations, dim, generator=generator, dtype=torch.float64)
    mixing = torch.randn(
        locations, dim, dim, generator=torch.Generator().manual_seed(9), dtype=torch.float64
    )
    mean = 3 * torch.linspace(-1, 1, locations * dim, dtype=torch.float64).view(locations, dim)
    decay = torch.logspace(0, -1.5, dim, dtype=torch.float64)
    return (torch.einsum("nld,ldk->nlk", draw * decay, mixing) / dim**0.5 + mean).to(dtype)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return float(((actual.double() - expected).abs() / expected.abs()).max())


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("count", [4, 11, 12, 40])
def test_each_location_has_the_gaussian_of_its_own_features(count, covariance, normalize):
    training, features = maps(count, 7, 12), maps(5, 7, 12, seed=1)
    options = {"covariance": covariance, "normalize": normalize}
    scores = gaussian_score(features, gaussian_fit(training, **options))
    expected = torch.stack(
        [reference.gaussian_score(features[:, k], training[:, k], **options) for k in range(7)],
        dim=1,
    )
    assert scores.shape == (5, 7)
    assert relative_error(scores, expected) < 1e-7


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    count=st.integers(1, 9),
    locations=st.integers(1, 5),
    dim=st.integers(1, 9),
    data=st.data(),
)
def test_any_batches_in_any_accumulators_give_the_fit_of_all(count, locations, dim, data):
    """Ridge, so that no covariance is singular."""
    training, features = maps(count, locations, dim), maps(3, locations, dim, seed=1)
    accumulators = [GaussianAccumulator(dim, locations, normalize=False) for _ in range(3)]
    start = 0
    while start < count:
        size = data.draw(st.integers(1, count - start))
        accumulators[data.draw(st.integers(0, 2))].update(training[start : start + size])
        start += size
    for other in accumulators[1:]:
        accumulators[0].merge(other)
    assert accumulators[0].count == count

    scores = gaussian_score(features, accumulators[0].fit(ridge=1e-3))

    expected = gaussian_score(features, gaussian_fit(training, ridge=1e-3, normalize=False))
    torch.testing.assert_close(scores, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_sums_keep_their_digits_far_from_zero(offset, covariance):
    """Raw fourth moments of 1e5 ± 1 would leave none."""
    training, features = maps(60, 1, 8)[:, 0] + offset, maps(9, 1, 8, seed=1)[:, 0] + offset
    accumulator = GaussianAccumulator(8, normalize=False)
    for batch in training.split(7):
        accumulator.update(batch)
    scores = gaussian_score(features, accumulator.fit(covariance=covariance))
    expected = gaussian_score(
        features, gaussian_fit(training, covariance=covariance, normalize=False)
    )
    assert relative_error(scores, expected) < 1e-6


@pytest.mark.parametrize("count", [4, 30])
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_all_reduced_sums_are_the_sums_of_all(covariance, count):
    """Processes with the same shift add their tensors; also those of fewer samples than columns."""
    training, features = maps(count, 3, 5), maps(4, 3, 5, seed=1)
    shift = training[0] / training[0].norm(dim=1, keepdim=True)
    parts = [GaussianAccumulator(5, 3, shift=shift) for _ in range(2)]
    parts[0].update(training[: count // 3])
    parts[1].update(training[count // 3 :])
    assert parts[0].sums is not None
    assert parts[1].sums is not None
    for name in ("count", "first", "second", "third", "fourth"):
        getattr(parts[0].sums, name).add_(getattr(parts[1].sums, name))
    scores = gaussian_score(features, parts[0].fit(covariance=covariance))
    expected = gaussian_score(features, gaussian_fit(training, covariance=covariance))
    assert relative_error(scores, expected) < 1e-7


@pytest.mark.parametrize("count", [5, 30])
def test_an_accumulator_travels_between_processes(count):
    accumulator = GaussianAccumulator(8, 2)
    accumulator.update(maps(count, 2, 8))
    copy = pickle.loads(pickle.dumps(accumulator))
    for a, b in zip(accumulator.fit(), copy.fit(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("count", [5, 30])
def test_merging_with_itself_counts_twice(count):
    accumulator = GaussianAccumulator(8)
    accumulator.update(maps(count, 1, 8)[:, 0])
    expected = accumulator.fit(ridge=1e-3)
    accumulator.merge(accumulator)
    assert accumulator.count == 2 * count
    torch.testing.assert_close(accumulator.fit(ridge=1e-3).mean, expected.mean)


def test_kept_samples_give_the_fit_of_all_to_the_bit_and_are_copies():
    training = maps(6, 3, 20, dtype=torch.float32)
    expected = gaussian_fit(training)
    accumulator = GaussianAccumulator(20, 3)
    for batch in training.split(2):
        accumulator.update(batch)
    training.zero_()
    for a, b in zip(accumulator.fit(), expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_fewer_samples_than_columns_never_make_a_square_matrix(covariance, largest_tensor):
    training = maps(4, 5, 300, dtype=torch.float32)
    with largest_tensor as largest:
        accumulator = GaussianAccumulator(300, 5)
        accumulator.update(training)
        gaussian_score(training, accumulator.fit(covariance=covariance))
    assert largest.elements == 5 * 4 * 300


def exact_score(feature: list[float], training: list[list[float]], ridge: float) -> float:
    """Return the score from a 60-digit inverse of the covariance."""
    with mpmath.workdps(60):
        points = mpmath.matrix(training)
        count, dim = points.rows, points.cols
        mean = [mpmath.fsum(points[:, j]) / count for j in range(dim)]
        centred = mpmath.matrix(count, dim)
        for i in range(count):
            for j in range(dim):
                centred[i, j] = points[i, j] - mean[j]
        covariance = centred.T * centred / count + ridge * mpmath.eye(dim)
        offset = mpmath.matrix(feature) - mpmath.matrix(mean)
        return float((offset.T * mpmath.lu_solve(covariance, offset))[0])


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_scores_of_few_samples_agree_with_sixty_digits(scale):
    """Training rows, and a row just beside: what is left of large terms that cancel."""
    training = maps(6, 2, 10) * scale
    features = torch.cat([training[:2], training[:2] * (1 + 1e-4), maps(2, 2, 10, seed=1) * scale])
    expected = torch.tensor(
        [[exact_score(f.tolist(), training[:, k].tolist(), 1e-6) for k, f in enumerate(row)]
         for row in features],
        dtype=torch.float64,
    )  # fmt: skip
    scores = gaussian_score(features, gaussian_fit(training, normalize=False))
    assert relative_error(scores, expected) < 1e-8


@pytest.mark.parametrize("count", [4, 20])
def test_gradient(count):
    fit = gaussian_fit(maps(count, 3, 6), ridge=1e-2)
    features = maps(2, 3, 6, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: gaussian_score(x, fit), features)


@pytest.mark.parametrize("count", [4, 20])
def test_a_bad_vector_spoils_its_own_score_only(count):
    fit, features = gaussian_fit(maps(count, 4, 6)), maps(3, 4, 6, seed=1)
    expected = gaussian_score(features, fit)
    features[1, 2, 0] = float("nan")
    scores = gaussian_score(features, fit)
    bad = scores.isnan()
    assert bad.nonzero().tolist() == [[1, 2]]
    assert torch.equal(scores[~bad], expected[~bad])


def test_chunks_of_locations_do_not_show(monkeypatch):
    training, features = maps(9, 11, 16), maps(3, 11, 16, seed=1)
    expected = gaussian_score(features, gaussian_fit(training))
    monkeypatch.setattr("ssad_kernels.scoring.CHUNK", 300)
    scores = gaussian_score(features, gaussian_fit(training))
    assert relative_error(scores, expected) < 1e-9


def test_a_fit_of_locations_survives_a_checkpoint():
    fit, file = gaussian_fit(maps(5, 3, 8)), io.BytesIO()
    torch.save(fit, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert all(torch.equal(a, b) for a, b in zip(loaded, fit, strict=True))


def test_a_shift_is_copied_and_has_no_gradient():
    features = maps(6, 2, 3)
    shift = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    accumulator = GaussianAccumulator(3, 2, normalize=False, shift=shift)
    accumulator.update(features)
    with torch.no_grad():
        shift += 100
    accumulator.update(features)
    assert not accumulator.sums.second.requires_grad
    assert relative_error(accumulator.fit().mean, features.mean(0)) < 1e-12


@pytest.mark.parametrize("count", [2, 9])
def test_inference_mode_does_not_show(count):
    features = maps(count, 2, 5)
    accumulator, other = GaussianAccumulator(5, 2), GaussianAccumulator(5, 2)
    with torch.inference_mode():
        accumulator.update(features.clone())
        fits = [gaussian_fit(features.clone()), accumulator.fit()]
    accumulator.update(features)
    other.update(features)
    other.merge(accumulator)
    accumulator.merge(other)
    assert accumulator.count == 5 * count
    for fit in (*fits, accumulator.fit()):
        x = maps(2, 2, 5, seed=1).requires_grad_()
        gaussian_score(x, fit).sum().backward()
        assert bool(x.grad.isfinite().all())


def test_no_rows_score_to_no_rows():
    fit = gaussian_fit(maps(5, 3, 8))
    assert gaussian_score(torch.empty(0, 3, 8), fit).shape == (0, 3)


def test_singular_locations_are_counted():
    training = maps(9, 4, 3)
    training[:, 2] = 1
    text = "`features` must have a non-singular Ledoit-Wolf covariance"
    with pytest.raises(ValueError, match=re.escape(text)):
        gaussian_fit(training, covariance="ledoit_wolf")


SHAPES = [
    (lambda: gaussian_score(torch.ones(2, 8), gaussian_fit(maps(5, 3, 8))),
     "gaussian_score: `features` must have shape (m, 3, 8), got (2, 8)"),
    (lambda: gaussian_fit(torch.ones(2, 0, 8)), "at least one row and one column"),
    (lambda: GaussianAccumulator(0), "GaussianAccumulator: `dim` must be at least 1, got 0"),
    (lambda: GaussianAccumulator(2, 0), "`locations` must be at least 1, got 0"),
    (lambda: GaussianAccumulator(2, 3, shift=torch.ones(2)), "have shape (3, 2), got (2,)"),
    (lambda: GaussianAccumulator(2, shift=torch.tensor([0, torch.nan])),
     "GaussianAccumulator: `shift` must be finite, got NaN or infinity in 1 of 1 rows"),
    (lambda: GaussianAccumulator(2).update(torch.ones(3, 4)), "have shape (b, 2), got (3, 4)"),
    (lambda: GaussianAccumulator(2).update(torch.full((1, 2), torch.nan)), "be finite, got NaN"),
    (lambda: GaussianAccumulator(2).fit(), "`features` must have been added, got none"),
    (lambda: GaussianAccumulator(2).merge(GaussianAccumulator(3)), "have dim 2, got 3"),
    (lambda: GaussianAccumulator(2).merge(GaussianAccumulator(2, normalize=False)),
     "have normalize True, got False"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "text"), SHAPES)
def test_errors(call, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        call()
