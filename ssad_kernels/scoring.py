# SPDX-License-Identifier: Apache-2.0
"""Anomaly scores: Gaussians fitted to the features of normal images (GDE)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ssad_kernels import _errors

Covariance = Literal["ridge", "ledoit_wolf"]

# Elements of a chunk: 4 MiB in float64, which together with its results stays in a cache.
CHUNK = 1 << 19


class GaussianFit(NamedTuple):
    """A Gaussian in the eigenbasis of its covariance, or one for each of L locations.

    ``r = min(n, D)`` directions are stored. Every direction orthogonal to the basis has the same
    variance, so no (D, D) matrix is kept when n < D. All floating point tensors are float64. The
    class is known to ``torch.load(weights_only=True)`` once ``ssad_kernels`` is imported; a
    checkpoint that should open without it takes ``fit._asdict()``, and ``GaussianFit(**saved)``
    restores the fit.

    Attributes:
        mean: (D,) or (L, D) centre.
        basis: (r, D) or (L, r, D) orthonormal rows.
        variance: (r,) or (L, r) variance along each row, > 0.
        residual_variance: () or (L,) variance along every direction orthogonal to the rows, > 0 (of
            no effect when r = D).
        normalize: () bool, whether features are scaled to unit length first.
    """

    mean: Tensor
    basis: Tensor
    variance: Tensor
    residual_variance: Tensor
    normalize: Tensor

    def to(self, device: torch.device | str) -> GaussianFit:
        """Return the fit on `device`."""
        return GaussianFit(*(tensor.to(device) for tensor in self))


torch.serialization.add_safe_globals([GaussianFit])


@torch.no_grad()
def gaussian_fit(
    features: Tensor,
    *,
    covariance: Covariance = "ridge",
    ridge: float = 1e-6,
    normalize: bool = True,
) -> GaussianFit:
    """Fit a Gaussian to the features of normal images, or one to each location of their maps.

    With ``covariance="ridge"`` the covariance is the maximum-likelihood one (divided by n) plus
    `ridge` on the diagonal. With the defaults this is the density estimator of Sohn et al. and of
    CutPaste, and equals scikit-learn's one-component ``GaussianMixture`` with ``reg_covar=1e-6`` on
    unit vectors. With ``covariance="ledoit_wolf"`` it is (1 - s) S + s (tr S / D) I, S being the
    maximum-likelihood covariance and s the shrinkage of Ledoit and Wolf, as in scikit-learn's
    ``LedoitWolf``; `ridge` is not used.

    The cost per Gaussian is O(n D min(n, D)) time and O(D min(n, D)) memory, and beyond the
    features and the fit only some MiB are needed, however many locations there are. An offline
    step: it synchronises with the host, has no gradient, and is deterministic for one device and
    number of threads. For features that come in batches see `GaussianAccumulator`.

    Args:
        features: (n, D) for one Gaussian or (n, L, D) for one at each of L locations, none of the
            sizes 0, float16, bfloat16, float32 or float64, finite. The arithmetic is float64 for
            all of them.
        covariance: How the covariance is regularised.
        ridge: Added to the diagonal; positive, in squared feature units.
        normalize: Scale each vector to unit length first, here and in `gaussian_score`. A zero
            vector stays zero.

    Returns:
        The fit, on the device of `features`.

    Raises:
        TypeError: `features` is not a floating point tensor of the dtypes above.
        ValueError: `features` has another shape or a value that is not finite; `covariance` is
            unknown; `ridge` is not positive and finite; or the Ledoit-Wolf covariance is singular,
            as for identical vectors or n = 2 ≤ D (scikit-learn then takes the pseudo-inverse, to
            which everything outside the span of the training features looks normal).

    Sources:
        Sohn et al., "Learning and evaluating representations for deep one-class classification",
        ICLR 2021. Li et al., "CutPaste", CVPR 2021, §2.3 and appendix A.5. Ledoit and Wolf, "A
        well-conditioned estimator for large-dimensional covariance matrices", J. Multivariate
        Analysis 88, 2004.
    """
    op = "gaussian_fit"
    check_features(op, features, ("n", "L", "D"))
    if features.numel() == 0:
        must = "have at least one row and one column"
        raise ValueError(_errors.wording(op, "features", must, f"shape {tuple(features.shape)}"))
    check_options(op, covariance, ridge)
    check_finite(op, features)
    per_location = features.dim() == 3
    fit = fit_points(
        op,
        [features if per_location else features[:, None]],
        covariance,
        ridge,
        torch.tensor(bool(normalize), device=features.device),
    )
    return fit if per_location else squeezed(fit)


def gaussian_score(features: Tensor, fit: GaussianFit) -> Tensor:
    """Score features by their squared Mahalanobis distance to a fitted Gaussian.

    Twice the negative log-likelihood less a constant, so it ranks as the negative log-likelihood.
    The arithmetic is float64, also under autocast. A row that is not finite scores NaN or infinity,
    itself only. No host synchronisation. Differentiable with respect to `features`; the gradient of
    a zero vector is that of the vector without normalisation. Repeating a call repeats its bytes; a
    row's score in another batch agrees to float64 rounding, not to the bit, because the matrix
    product may order its sums by the size of the batch.

    With one Gaussian a location, locations are scored some at a time, so that without a gradient no
    more than a few MiB is needed beside `features` and the result.

    Args:
        features: (m, D), or (m, L, D) if `fit` has L locations, float16, bfloat16, float32 or
            float64; m = 0 gives an empty result.
        fit: What `gaussian_fit` or `GaussianAccumulator.fit` returned, on the device of `features`.

    Returns:
        (m,) or (m, L) scores ≥ 0, higher is more anomalous; float64 for float64 `features`, else
        float32.

    Raises:
        TypeError: `features` is not a floating point tensor of the dtypes above.
        ValueError: `features` has another rank, width, number of locations or device than `fit`
            asks for.
    """
    op = "gaussian_score"
    check_features(op, features, ("m", *fit.mean.shape))
    _errors.check_device(op, "features", features, fit.mean.device)
    dtype = torch.promote_types(features.dtype, torch.float32)
    if fit.mean.dim() == 1:
        return _distance(features, fit).to(dtype)
    scores = [
        _distance(features[:, part].transpose(0, 1), _locations(fit, part)).to(dtype)
        for part in _parts(fit.mean.shape[0], max(len(features), fit.basis.shape[1]), features)
    ]
    return torch.cat(scores).T


def _distance(features: Tensor, fit: GaussianFit) -> Tensor:
    """Squared Mahalanobis distances (..., m) of (..., m, D) features."""
    offset = normalized(features.double(), fit.normalize) - fit.mean.unsqueeze(-2)
    along = offset @ fit.basis.mT
    score = (along.square() / fit.variance.unsqueeze(-2)).sum(dim=-1)
    if fit.basis.shape[-2] < fit.basis.shape[-1]:
        # Not |offset|² - |along|²: that difference loses as many digits as the condition number
        # has, the norm of the remainder only half of them.
        remainder = offset - along @ fit.basis
        score = score + remainder.square().sum(dim=-1) / fit.residual_variance.unsqueeze(-1)
    return score


def fit_points(
    op: str, batches: Sequence[Tensor], covariance: Covariance, ridge: float, unit: Tensor
) -> GaussianFit:
    """Fit a Gaussian to each location of (n, L, D) features, given as batches of n.

    Only some locations at a time exist in float64 beside the fit.
    """
    count, (locations, dim) = sum(map(len, batches)), batches[0].shape[1:]
    fit = empty_fit(locations, min(count, dim), dim, unit)
    for part in _parts(locations, count, batches[0]):
        points = torch.cat([batch[:, part].transpose(0, 1).double() for batch in batches], dim=1)
        points = normalized(points, unit)
        mean = points.mean(dim=1)
        centred = points - mean.unsqueeze(1)
        eigenvalues, basis = _principal_axes(centred)
        fourth = centred.square().sum(dim=2).square().mean(dim=1)
        moments = Moments(count, dim, eigenvalues, fourth)
        values = (mean, basis, *regularized(op, moments, covariance, ridge))
        for whole, value in zip(fit, values, strict=False):
            whole[part] = value
    return fit


def empty_fit(locations: int, rank: int, dim: int, unit: Tensor) -> GaussianFit:
    """A fit of L locations whose values are to be written."""

    def empty(*shape: int) -> Tensor:
        return torch.empty(locations, *shape, dtype=torch.float64, device=unit.device)

    return GaussianFit(empty(dim), empty(rank, dim), empty(rank), empty(), unit)


def squeezed(fit: GaussianFit) -> GaussianFit:
    """The only location of a fit, as a fit without locations."""
    mean, basis, variance, residual_variance, unit = fit
    return GaussianFit(mean[0], basis[0], variance[0], residual_variance[0], unit)


def _locations(fit: GaussianFit, part: slice) -> GaussianFit:
    mean, basis, variance, residual_variance, unit = fit
    return GaussianFit(mean[part], basis[part], variance[part], residual_variance[part], unit)


def _parts(locations: int, rows: int, features: Tensor) -> list[slice]:
    """Slices of locations, each with about `CHUNK` elements of (rows, D)."""
    step = max(1, CHUNK // max(1, rows * features.shape[-1]))
    return [slice(start, start + step) for start in range(0, locations, step)]


def normalized(features: Tensor, unit: Tensor) -> Tensor:
    """Scale rows to unit length where the () bool `unit` holds; zero rows stay zero."""
    length = torch.linalg.vector_norm(features, dim=-1, keepdim=True)
    return features / torch.where(unit & (length > 0), length, 1.0)


def _principal_axes(centred: Tensor) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues (L, r) and eigenvectors (L, r, D) of centredᵀ centred / n.

    r = min(n, D). When n < D, the rows are first written in an orthonormal basis of their span. The
    eigenvectors of the (n, n) Gram matrix would be cheaper, but where an eigenvalue is near zero,
    as one always is after centring, they do not map back to orthonormal directions.
    """
    count, dim = centred.shape[1:]
    if count >= dim:
        return covariance_axes(centred.mT @ centred / count)
    span, coordinates = torch.linalg.qr(centred.mT)
    eigenvalues, vectors = torch.linalg.eigh(coordinates @ coordinates.mT / count)
    return eigenvalues.clamp_min(0), vectors.mT @ span.mT


def covariance_axes(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues (L, D) and eigenvectors (L, D, D), as rows, of covariances."""
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    return eigenvalues.clamp_min(0), vectors.mT.contiguous()


class Moments(NamedTuple):
    """What the regularisation of L covariances S needs to know.

    Attributes:
        samples: Their number n.
        dim: D.
        eigenvalues: (L, min(n, D)) of S.
        fourth: (L,) mean of the fourth powers of the samples' distances from their mean.
    """

    samples: int
    dim: int
    eigenvalues: Tensor
    fourth: Tensor


def regularized(
    op: str, moments: Moments, covariance: Covariance, ridge: float
) -> tuple[Tensor, Tensor]:
    """Return the variances (L, r) along the eigenvectors and (L,) orthogonal to them."""
    eigenvalues, dim = moments.eigenvalues, moments.dim
    if covariance == "ridge":
        return eigenvalues + ridge, torch.full_like(moments.fourth, ridge)
    shrinkage = _ledoit_wolf_shrinkage(moments)
    residual = shrinkage * eigenvalues.sum(dim=1) / dim
    variance = (1 - shrinkage)[:, None] * eigenvalues + residual[:, None]
    # For n < D, too: centring leaves an eigenvalue of zero, so the residual variance is in it.
    smallest, largest = variance.aminmax(dim=1)
    singular = ~(smallest > dim * torch.finfo(torch.float64).eps * largest)
    if singular.any():
        must = (
            "have a non-singular Ledoit-Wolf covariance (give more varied rows, or "
            "covariance='ridge')"
        )
        got = f"shrinkage {shrinkage[singular][0].item():.3g} for n = {moments.samples}, D = {dim}"
        raise ValueError(_errors.wording(op, "features", must, got))
    return variance, residual


def _ledoit_wolf_shrinkage(moments: Moments) -> Tensor:
    """Return Ledoit and Wolf's s = min(b², d²) / d² in [0, 1], (L,).

    d² is the squared distance of S from (tr S / D) I, and b² the mean squared distance of the n
    one-sample covariances x xᵀ from S, over n. Both follow from the eigenvalues of S and the
    lengths of the rows x, so no (D, D) matrix is needed. (The factor 1 / D of the paper's norms
    cancels.)
    """
    count, dim, eigenvalues, fourth = moments
    centre = eigenvalues.sum(dim=1) / dim
    spread = (eigenvalues - centre[:, None]).square().sum(dim=1)
    spread = spread + (dim - eigenvalues.shape[1]) * centre.square()
    noise = ((fourth - eigenvalues.square().sum(dim=1)) / count).clamp_min(0)
    # Where S is already a multiple of the identity, every s gives S; scikit-learn takes 0.
    return torch.where(spread > 0, torch.minimum(noise, spread) / spread, 0.0)


def check_features(op: str, features: Tensor, shape: tuple[int | str, ...]) -> None:
    """Raise unless `features` is floating and of `shape`; one with "L" may lack that dimension."""
    _errors.check_tensor(op, "features", features)
    _errors.check_dtype(op, "features", features, _errors.FLOATS)
    if "L" in shape and features.dim() != 3:
        if features.dim() != 2:
            must = "have shape (n, D) or (n, L, D)"
            raise ValueError(_errors.wording(op, "features", must, tuple(features.shape)))
        return
    _errors.check_shape(op, "features", features, shape)


def check_options(op: str, covariance: str, ridge: float) -> None:
    """Raise ValueError unless the options of a fit make sense."""
    if covariance not in ("ridge", "ledoit_wolf"):
        must = "be 'ridge' or 'ledoit_wolf'"
        raise ValueError(_errors.wording(op, "covariance", must, repr(covariance)))
    if not 0 < ridge < math.inf:
        raise ValueError(_errors.wording(op, "ridge", "be positive and finite", ridge))


def check_finite(op: str, features: Tensor) -> None:
    """Raise ValueError if a row of `features` is not finite."""
    rows = max(1, CHUNK // features[0].numel())
    bad = sum(int((~part.isfinite().all(dim=-1)).sum()) for part in features.split(rows))
    if bad:
        got = f"NaN or infinity in {bad} of {features[..., 0].numel()} rows"
        raise ValueError(_errors.wording(op, "features", "be finite", got))
