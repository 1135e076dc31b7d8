# SPDX-License-Identifier: Apache-2.0
"""Gaussian scores against scikit-learn, dense float64 inverses and exact rational arithmetic."""

from __future__ import annotations

import io
import re
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssad_kernels.reference import scoring as reference
from ssad_kernels.scoring import GaussianFit, gaussian_fit, gaussian_score

COVARIANCES = ("ridge", "ledoit_wolf")
# Both sides of n = D, and n = D itself: the factor form and the dense form.
SHAPES = ((5, 40), (39, 40), (40, 40), (41, 40), (200, 40))


def samples(rows: int, columns: int, *, seed: int = 0, dtype=torch.float64) -> Tensor:
    """Return correlated vectors around a common mean, of norm about 10, like pooled features."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    decay = torch.logspace(0, -2, columns, dtype=torch.float64)
    return (draw * decay + 10 * torch.linspace(-1, 1, columns, dtype=torch.float64)).to(dtype)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return float(((actual.double() - expected).abs() / expected.abs()).max())


def dense_covariance(fit: GaussianFit) -> Tensor:
    if fit.rows.shape[0] == 0:
        return torch.linalg.inv(fit.factor.mT @ fit.factor)
    identity = torch.eye(fit.rows.shape[1], dtype=fit.rows.dtype)
    return fit.rows.mT @ fit.rows + fit.residual_variance * identity


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_default_is_the_one_component_mixture_of_scikit_learn(rows, columns):
    mixture = pytest.importorskip("sklearn.mixture")
    unit = torch.nn.functional.normalize
    training, features = samples(rows, columns), samples(30, columns, seed=1)
    oracle = mixture.GaussianMixture(1, covariance_type="full", reg_covar=1e-6)
    oracle.fit(unit(training).numpy())
    whitened = (unit(features).numpy() - oracle.means_[0]) @ oracle.precisions_cholesky_[0]

    fit = gaussian_fit(training)

    torch.testing.assert_close(
        dense_covariance(fit), torch.from_numpy(oracle.covariances_[0]), rtol=0, atol=1e-12
    )
    expected = torch.from_numpy((whitened**2).sum(axis=1))
    assert relative_error(gaussian_score(features, fit), expected) < 1e-8


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_ledoit_wolf_is_that_of_scikit_learn(rows, columns, normalize):
    covariance = pytest.importorskip("sklearn.covariance")
    training, features = samples(rows, columns), samples(30, columns, seed=1)
    fit = gaussian_fit(training, covariance="ledoit_wolf", normalize=normalize)
    scores = gaussian_score(features, fit)

    if normalize:
        training, features = (torch.nn.functional.normalize(x) for x in (training, features))
    oracle = covariance.LedoitWolf().fit(training.numpy())

    expected = torch.from_numpy(oracle.covariance_)
    torch.testing.assert_close(
        dense_covariance(fit), expected, rtol=0, atol=1e-13 * float(expected.abs().max())
    )
    assert relative_error(scores, torch.from_numpy(oracle.mahalanobis(features.numpy()))) < 1e-8


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_equals_the_dense_inverse_for_every_dtype(rows, columns, covariance, dtype):
    training = samples(rows, columns, dtype=dtype)
    features = samples(30, columns, seed=1, dtype=dtype)
    features = torch.cat([features, training])  # training rows: nothing beside the span of the fit

    scores = gaussian_score(features, gaussian_fit(training, covariance=covariance))

    assert scores.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    expected = reference.gaussian_score(features, training, covariance=covariance)
    assert relative_error(scores, expected) < (1e-7 if dtype == torch.float64 else 1e-6)


@settings(deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    log_scale=st.integers(-6, 6),
    normalize=st.booleans(),
    covariance=st.sampled_from(COVARIANCES),
    seed=st.integers(0, 2**16),
)
def test_any_shape_and_scale_equals_the_dense_inverse(
    rows, columns, log_scale, normalize, covariance, seed
):
    scale = 10.0**log_scale
    training, features = (samples(n, columns, seed=seed + n) * scale for n in (rows, rows + 1))
    # Relative to the data, or the dense inverse of the oracle is what goes wrong.
    options = {"ridge": 1e-6 * (1 if normalize else scale**2), "normalize": normalize}
    if covariance == "ledoit_wolf":  # singular ones are for the error tests
        points = torch.nn.functional.normalize(training) if normalize else training
        eigenvalues = torch.linalg.eigvalsh(reference.ledoit_wolf_covariance(points))
        assume(eigenvalues[0] > 1e-9 * eigenvalues[-1])

    fit = gaussian_fit(training, covariance=covariance, **options)
    scores = gaussian_score(features, fit)

    expected = reference.gaussian_score(features, training, covariance=covariance, **options)
    assert fit.rows.shape == (rows if rows < columns else 0, columns)
    # A one-column unit vector can equal the mean: then both are zero up to rounding.
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-12)


def exact_score(feature: list[float], training: list[list[float]], ridge: float) -> float:
    """Return the score in rational arithmetic, by Gauss-Jordan elimination."""
    rows = [[Fraction(value) for value in row] for row in training]
    size, count = len(feature), len(rows)
    mean = [sum(column) / count for column in zip(*rows, strict=True)]
    centred = [[a - b for a, b in zip(row, mean, strict=True)] for row in rows]
    offset = [Fraction(a) - b for a, b in zip(feature, mean, strict=True)]
    system = [
        [sum(row[i] * row[j] for row in centred) / count for j in range(size)] + [offset[i]]
        for i in range(size)
    ]
    for i in range(size):
        system[i][i] += Fraction(ridge)
    for i in range(size):
        system[i] = [value / system[i][i] for value in system[i]]
        for j in range(size):
            if j != i:
                factor = system[j][i]
                system[j] = [a - factor * b for a, b in zip(system[j], system[i], strict=True)]
    return float(sum(a * row[-1] for a, row in zip(offset, system, strict=True)))


def test_large_features_keep_their_digits_where_textbook_woodbury_loses_them():
    training, features = samples(4, 7) * 1e3, samples(5, 7, seed=1) * 1e3
    features[0] = training[0]
    expected = torch.tensor(
        [exact_score(row, training.tolist(), 1e-6) for row in features.tolist()],
        dtype=torch.float64,
    )
    factor = (training - training.mean(0)) / 2
    offsets = features - training.mean(0)
    inner = torch.linalg.inv(1e-6 * torch.eye(4, dtype=torch.float64) + factor @ factor.mT)
    along = offsets @ factor.mT
    woodbury = (offsets.square().sum(1) - ((along @ inner) * along).sum(1)) / 1e-6
    assert relative_error(woodbury, expected) > 1e-5

    scores = gaussian_score(features, gaussian_fit(training, normalize=False))

    assert relative_error(scores, expected) < 1e-6


def test_float32_features_in_a_tight_cluster_keep_their_digits():
    """A network that maps all normal images close together: float32 arithmetic is 5e-4 off."""
    training, features = ((10 + 1e-3 * samples(n, 40, seed=n)).float() for n in (20, 30))
    scores = gaussian_score(features, gaussian_fit(training))
    assert relative_error(scores, reference.gaussian_score(features, training)) < 1e-6


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_fewer_rows_than_columns_never_make_a_square_matrix(covariance, largest_tensor):
    rows, columns = 6, 500
    training = samples(rows, columns)
    with largest_tensor as largest:
        fit = gaussian_fit(training, covariance=covariance)
        gaussian_score(training, fit)
    assert largest.elements == rows * columns
    stored = sum(tensor.untyped_storage().nbytes() for tensor in fit)
    assert stored <= 8 * (rows + 2) * (columns + rows)


@pytest.mark.parametrize("rows", [7, 8, 9, 15])
def test_repeated_rows_cross_from_the_factor_form_to_the_dense_form(rows):
    """Repeating rows changes neither mean nor covariance, only the form of the fit."""
    training, features = samples(rows, 16), samples(5, 16, seed=1)
    factored, dense = gaussian_fit(training), gaussian_fit(training.repeat(3, 1))
    assert len(factored.rows) == len(factored.factor) == rows
    assert len(dense.rows) == 0
    torch.testing.assert_close(
        gaussian_score(features, factored), gaussian_score(features, dense), rtol=1e-9, atol=0
    )


def test_factor_inverts_although_centring_leaves_a_zero_eigenvalue():
    fit = gaussian_fit(samples(30, 100))
    inner = fit.rows @ fit.rows.mT + fit.residual_variance * torch.eye(30, dtype=torch.float64)
    whitened = fit.factor @ inner @ fit.factor.mT
    torch.testing.assert_close(whitened, torch.eye(30, dtype=torch.float64), rtol=0, atol=1e-9)


def test_normalisation_ignores_length_and_is_remembered_by_the_fit():
    training, features = samples(20, 30), samples(5, 30, seed=1)
    fit, plain = gaussian_fit(training), gaussian_fit(training, normalize=False)
    torch.testing.assert_close(
        gaussian_score(features * 7, fit), gaussian_score(features, fit), rtol=1e-9, atol=0
    )
    assert (gaussian_score(features * 7, plain) > 10 * gaussian_score(features, plain)).all()


@pytest.mark.parametrize("rows", [10, 40])
def test_scores_stay_finite_where_rounding_exceeds_the_ridge(rows):
    for seed in range(20):
        twice = samples(rows, 15, seed=seed).repeat(1, 2) * 1e8  # half of the eigenvalues are zero
        fit = gaussian_fit(twice.repeat(2, 1) if rows == 10 else twice, normalize=False)
        scores = gaussian_score(twice, fit)
        assert scores.isfinite().all()
        assert (scores < 2 * rows).all()  # no training row is further away than √n deviations


def test_nearly_isotropic_data_shrink_all_the_way():
    axes = torch.tensor([[1.0, 0.0], [0.0, 1.01]], dtype=torch.float64)
    fit = gaussian_fit(torch.cat([axes, -axes]), covariance="ledoit_wolf", normalize=False)
    variance = (1 + 1.01**2) / 4
    expected = variance * torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(dense_covariance(fit), expected)


def test_zero_vectors_stay_zero_under_normalisation():
    fit = gaussian_fit(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    torch.testing.assert_close(fit.mean, torch.tensor([0.3, 0.4], dtype=torch.float64))
    zero = torch.zeros(1, 2, requires_grad=True)
    score = gaussian_score(zero, fit)
    # (0, 0) and (0.6, 0.8) lie one standard deviation, 0.5, from their mean.
    torch.testing.assert_close(score, torch.tensor([1.0]), rtol=1e-5, atol=0)
    (gradient,) = torch.autograd.grad(score.sum(), zero)
    assert gradient.isfinite().all()


def test_one_training_vector_leaves_the_ridge_alone():
    training = torch.tensor([[3.0, 4.0, 0.0]])
    fit = gaussian_fit(training, ridge=0.5)
    expected = torch.tensor([0.0, 2.0 / 0.5])  # unit vectors at a right angle: distance √2
    scores = gaussian_score(torch.cat([training, torch.tensor([[0.0, 0.0, 2.0]])]), fit)
    torch.testing.assert_close(scores, expected)


def test_no_rows_score_to_no_rows():
    fit = gaussian_fit(samples(5, 8))
    scores = gaussian_score(torch.empty(0, 8), fit)
    assert scores.shape == (0,)
    assert scores.dtype == torch.float32


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("rows", [5, 50])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_row_spoils_its_own_score_only(rows, normalize, value):
    fit = gaussian_fit(samples(rows, 20), normalize=normalize)
    features = samples(9, 20, seed=1)
    expected = gaussian_score(features, fit)
    features[4, 3] = value
    scores = gaussian_score(features, fit)
    assert not scores[4].isfinite()
    good = torch.arange(9) != 4
    assert torch.equal(scores[good], expected[good])


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("rows", [20, 90])
def test_repeating_a_call_repeats_its_bytes(rows, covariance):
    training, features = samples(rows, 64), samples(33, 64, seed=1)
    first, second = (gaussian_fit(training, covariance=covariance) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(gaussian_score(features, first), gaussian_score(features, second))


@pytest.mark.parametrize("rows", [20, 90])
def test_a_score_does_not_depend_on_the_rest_of_the_batch_beyond_rounding(rows):
    fit, features = gaussian_fit(samples(rows, 64)), samples(33, 64, seed=1)
    one_by_one = torch.cat([gaussian_score(row[None], fit) for row in features])
    torch.testing.assert_close(gaussian_score(features, fit), one_by_one, rtol=1e-10, atol=0)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("rows", [4, 20])
def test_gradient(rows, normalize):
    fit = gaussian_fit(samples(rows, 6), ridge=1e-2, normalize=normalize)
    features = samples(3, 6, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: gaussian_score(x, fit), features)
    assert torch.autograd.gradgradcheck(lambda x: gaussian_score(x, fit), features)


def test_fit_takes_features_that_require_a_gradient():
    fit = gaussian_fit(samples(5, 8).requires_grad_())
    assert not any(tensor.requires_grad for tensor in fit)


@pytest.mark.parametrize("rows", [5, 50])
def test_score_compiles_to_one_graph(rows):
    """One graph also means: no value of a tensor is read on the host."""
    fit, features = gaussian_fit(samples(rows, 20)), samples(7, 20, seed=1)
    compiled = torch.compile(gaussian_score, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        compiled(features, fit), gaussian_score(features, fit), rtol=1e-12, atol=0
    )


def test_autocast_does_not_lower_the_precision():
    fit, features = gaussian_fit(samples(5, 20)), samples(7, 20, seed=1, dtype=torch.float32)
    expected = gaussian_score(features, fit)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gaussian_score(features, fit), expected)


@pytest.mark.parametrize("as_dict", [True, False])
def test_a_fit_survives_a_checkpoint(as_dict):
    fit, features = gaussian_fit(samples(5, 20), covariance="ledoit_wolf"), samples(7, 20, seed=1)
    file = io.BytesIO()
    torch.save({"fit": fit._asdict() if as_dict else fit}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)["fit"]
    restored = GaussianFit(**loaded) if as_dict else loaded
    assert isinstance(restored, GaussianFit)
    assert torch.equal(gaussian_score(features, restored), gaussian_score(features, fit))


def test_a_fit_moves_between_devices():
    fit = gaussian_fit(samples(5, 20)).to("meta")
    assert {tensor.device.type for tensor in fit} == {"meta"}
    assert gaussian_score(torch.empty(3, 20, device="meta"), fit).shape == (3,)


DTYPES = "have dtype float16 or bfloat16 or float32 or float64"
RIDGE = "`ridge` must be positive and finite"
SINGULAR = {"covariance": "ledoit_wolf"}, ValueError, "`features` must have a non-singular"


@pytest.mark.parametrize(
    ("features", "options", "error", "text"),
    [
        ([[1.0]], {}, TypeError, "`features` must be a tensor, got list"),
        (torch.ones(3, 2).int(), {}, TypeError, f"`features` must {DTYPES}, got int32"),
        (torch.ones(3), {}, ValueError, "`features` must have shape (n, D) or (n, L, D), got (3,)"),
        (torch.ones(0, 2), {}, ValueError, "at least one row and one column, got shape (0, 2)"),
        (torch.ones(2, 0), {}, ValueError, "at least one row and one column, got shape (2, 0)"),
        (
            torch.tensor([[1.0, float("nan")], [1.0, 2.0], [float("inf"), 0.0]]),
            {},
            ValueError,
            "`features` must be finite, got NaN or infinity in 2 of 3 rows",
        ),
        (
            torch.ones(3, 2),
            {"covariance": "oas"},
            ValueError,
            "`covariance` must be 'ridge' or 'ledoit_wolf', got 'oas'",
        ),
        (torch.ones(3, 2), {"ridge": 0}, ValueError, f"{RIDGE}, got 0"),
        (torch.ones(3, 2), {"ridge": -1e-6}, ValueError, f"{RIDGE}, got -1e-06"),
        (torch.ones(3, 2), {"ridge": float("nan")}, ValueError, f"{RIDGE}, got nan"),
        (torch.ones(3, 2), {"ridge": float("inf")}, ValueError, f"{RIDGE}, got inf"),
        (torch.ones(1, 4), *SINGULAR),
        (torch.ones(9, 4), *SINGULAR),
        (samples(2, 4), *SINGULAR),
        (samples(2, 2), *SINGULAR),
    ],
)
def test_fit_says_what_is_wrong(features, options, error, text):
    with pytest.raises(error, match=f"^gaussian_fit: .*{re.escape(text)}"):
        gaussian_fit(features, **options)


@pytest.mark.parametrize(
    ("features", "error", "text"),
    [
        (None, TypeError, "be a tensor, got NoneType"),
        (torch.ones(3, 8).bool(), TypeError, f"{DTYPES}, got bool"),
        (torch.ones(3, 8, 1), ValueError, "have shape (m, 8), got (3, 8, 1)"),
        (torch.ones(3, 5), ValueError, "have shape (m, 8), got (3, 5)"),
        (torch.ones(3, 8, device="meta"), ValueError, "be on device cpu, got meta"),
    ],
)
def test_score_says_what_is_wrong(features, error, text):
    fit = gaussian_fit(samples(5, 8))
    with pytest.raises(error, match=f"^gaussian_score: `features` must {re.escape(text)}$"):
        gaussian_score(features, fit)


def test_a_fit_is_shown_by_its_shapes():
    shown = "GaussianFit(mean=(8,), rows=(5, 8), factor=(5, 5), residual_variance=(), normalize=())"
    assert repr(gaussian_fit(samples(5, 8))) == shown
