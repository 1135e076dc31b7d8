# SPDX-License-Identifier: Apache-2.0
"""Anomaly scores: Gaussians fitted to the features of normal images (GDE)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ssad_kernels import _errors

Covariance = Literal["ridge", "ledoit_wolf"]

# Elements of a chunk: 2 MiB in float64, which with what is made of it stays in a cache.
CHUNK = 1 << 18


class GaussianFit(NamedTuple):
    """A Gaussian with covariance Σ, or one for each of L locations.

    From n < D features Σ is AᵀA + vI with A (n, D), and no (D, D) matrix is made. Otherwise its
    inverse is stored as FᵀF. All floating point tensors are float64. The class is known to
    ``torch.load(weights_only=True)`` once ``ssad_kernels`` is imported; a checkpoint that should
    open without it takes ``fit._asdict()``, and ``GaussianFit(**saved)`` restores the fit.

    Attributes:
        mean: (D,) or (L, D) centre.
        rows: (n, D) or (L, n, D) the A of above; (0, D) or (L, 0, D) when n ≥ D.
        factor: (k, k) or (L, k, k), k = min(n, D). When n < D, FᵀF is the inverse of AAᵀ + vI,
            otherwise of Σ.
        residual_variance: () or (L,) v > 0, the variance along what is orthogonal to all rows.
        normalize: () bool, whether features are scaled to unit length first.
    """

    mean: Tensor
    rows: Tensor
    factor: Tensor
    residual_variance: Tensor
    normalize: Tensor

    def __repr__(self) -> str:
        """Of shapes; the numbers would fill the screen."""
        shapes = (f"{name}={tuple(value.shape)}" for name, value in self._asdict().items())
        return f"GaussianFit({', '.join(shapes)})"

    def to(self, device: torch.device | str) -> GaussianFit:
        """Return the fit on `device`."""
        return GaussianFit(*(tensor.to(device) for tensor in self))


torch.serialization.add_safe_globals([GaussianFit])


@torch.inference_mode(False)  # whose tensors could not be used for gradients
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
    locations, rows = fit.mean.shape[0], max(len(features), fit.factor.shape[1])
    scores = [
        _distance(features[:, part].transpose(0, 1), _locations(fit, part)).to(dtype)
        for part in parts(locations, rows * fit.mean.shape[1])
    ]
    return torch.cat(scores).T


def _distance(features: Tensor, fit: GaussianFit) -> Tensor:
    """Squared Mahalanobis distances (..., m) of (..., m, D) features."""
    offset = normalized(features.double(), fit.normalize) - fit.mean.unsqueeze(-2)
    if fit.rows.shape[-2] == 0:
        return (offset @ fit.factor.mT).square().sum(dim=-1)
    # The distance is the minimum over z of |z|² + |x - Aᵀz|² / v, which is at (AAᵀ + vI)⁻¹ A x: a
    # sum of squares, where an error of z shows in its square only. (|x|² - |FAx|²) / v would be
    # less work, but that difference loses as many digits as the condition number of Σ has.
    z = offset @ fit.rows.mT @ fit.factor.mT @ fit.factor
    remainder = offset - z @ fit.rows
    rest = remainder.square().sum(dim=-1) / fit.residual_variance.unsqueeze(-1)
    return z.square().sum(dim=-1) + rest


def fit_points(
    op: str, batches: Sequence[Tensor], covariance: Covariance, ridge: float, unit: Tensor
) -> GaussianFit:
    """Fit a Gaussian to each location of (n, L, D) features, given as batches of n.

    Only some locations at a time exist in float64 beside the fit.
    """
    count, (locations, dim) = sum(map(len, batches)), batches[0].shape[1:]
    fit = empty_fit(locations, count, dim, unit)
    for part in parts(locations, count * dim):
        some = [batch[:, part].transpose(0, 1).double() for batch in batches]
        points = normalized(some[0] if len(some) == 1 else torch.cat(some, dim=1), unit)
        mean = points.mean(dim=1)
        centred = points - mean.unsqueeze(1)
        lengths = centred.square().sum(dim=2)
        regularize = Regularizer(op, count, lengths.square().mean(dim=1), covariance, ridge)
        if count >= dim:
            values = (mean, centred[:, :0], *regularize.dense(centred.mT @ centred / count))
        else:
            values = (mean, *regularize.low_rank(centred))
        for whole, value in zip(fit, values, strict=False):
            whole[part] = value
    return fit


def empty_fit(locations: int, count: int, dim: int, unit: Tensor) -> GaussianFit:
    """A fit of L locations to n features each, whose values are to be written."""

    def empty(*shape: int) -> Tensor:
        return torch.empty(locations, *shape, dtype=torch.float64, device=unit.device)

    rank = min(count, dim)
    rows = empty(count if count < dim else 0, dim)
    return GaussianFit(empty(dim), rows, empty(rank, rank), empty(), unit)


def squeezed(fit: GaussianFit) -> GaussianFit:
    """The only location of a fit, as a fit without locations."""
    mean, rows, factor, residual_variance, unit = fit
    return GaussianFit(mean[0], rows[0], factor[0], residual_variance[0], unit)


def _locations(fit: GaussianFit, part: slice) -> GaussianFit:
    mean, rows, factor, residual_variance, unit = fit
    return GaussianFit(mean[part], rows[part], factor[part], residual_variance[part], unit)


def parts(locations: int, elements: int) -> list[slice]:
    """Slices of locations that make about `CHUNK` elements, with so many elements for each."""
    step = max(1, CHUNK // max(1, elements))
    return [slice(start, start + step) for start in range(0, locations, step)]


def normalized(features: Tensor, unit: Tensor) -> Tensor:
    """Scale rows to unit length where the () bool `unit` holds; zero rows stay zero."""
    length = torch.linalg.vector_norm(features, dim=-1, keepdim=True)
    return features / torch.where(unit & (length > 0), length, 1.0)


@dataclass(frozen=True)
class Regularizer:
    """Makes covariances Σ = a S + v I from maximum-likelihood ones S, one for each of L locations.

    Attributes:
        op: For errors.
        count: Number n of samples.
        fourth: (L,) mean of the fourth powers of the samples' distances from their mean.
        covariance: "ridge" or "ledoit_wolf".
        ridge: The v of "ridge", which has a = 1.
    """

    op: str
    count: int
    fourth: Tensor
    covariance: Covariance
    ridge: float

    def dense(self, sample: Tensor) -> tuple[Tensor, Tensor]:
        """S (L, D, D) -> the F and v of `GaussianFit`."""
        dim = sample.shape[1]
        trace = sample.diagonal(dim1=1, dim2=2).sum(dim=1)
        scale, residual = torch.ones_like(trace), torch.full_like(trace, self.ridge)
        if self.covariance == "ledoit_wolf":
            identity = torch.eye(dim, dtype=sample.dtype, device=sample.device)
            spread = (sample - (trace / dim)[:, None, None] * identity).square().sum(dim=(1, 2))
            squared = sample.square().sum(dim=(1, 2))
            scale, residual = self._ledoit_wolf(dim, trace, squared, spread)
        eigenvalues, vectors = torch.linalg.eigh(sample)
        variance = scale[:, None] * eigenvalues.clamp_min(0) + residual[:, None]
        self._check(dim, variance.amin(dim=1), variance.amax(dim=1))
        return (vectors * variance.rsqrt()[:, None]).mT, residual

    def low_rank(self, centred: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Samples less their mean, (L, n, D) -> the A, F and v of `GaussianFit`."""
        count, dim = centred.shape[1:]
        gram = centred @ centred.mT / count  # has the trace and the norm of S
        trace = gram.diagonal(dim1=1, dim2=2).sum(dim=1)
        scale, residual = torch.ones_like(trace), torch.full_like(trace, self.ridge)
        if self.covariance == "ledoit_wolf":
            squared = gram.square().sum(dim=(1, 2))
            scale, residual = self._ledoit_wolf(dim, trace, squared, squared - trace**2 / dim)
            # Centring leaves S an eigenvalue of zero, so the smallest of Σ is v.
            self._check(dim, residual, scale * squared.sqrt() + residual)
        inner = gram.mul_(scale[:, None, None])
        inner.diagonal(dim1=1, dim2=2).add_(residual[:, None])
        factor, failed = torch.linalg.cholesky_ex(inner)
        if failed.any():
            # Rounding exceeds v. It does not exceed this, and z of `_distance` is a minimiser only.
            enough = 4 * count * torch.finfo(inner.dtype).eps * scale * trace
            inner.diagonal(dim1=1, dim2=2).add_(((failed > 0) * enough)[:, None])
            factor = torch.linalg.cholesky(inner)
        identity = torch.eye(count, dtype=inner.dtype, device=inner.device).expand_as(inner)
        inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
        return centred * (scale / count).sqrt()[:, None, None], inverse, residual

    def _ledoit_wolf(
        self, dim: int, trace: Tensor, squared: Tensor, spread: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return 1 - s and s tr S / D with Ledoit and Wolf's s = min(b², d²) / d² in [0, 1].

        d², the `spread`, is the squared distance of S from (tr S / D) I, and b² the mean squared
        distance of the n one-sample covariances x xᵀ from S, over n. That takes the lengths of the
        rows x and the squared norm of S, which its Gram matrix has too, so no (D, D) matrix is
        needed. (The factor 1 / D of the paper's norms cancels.)
        """
        noise = ((self.fourth - squared) / self.count).clamp_min(0)
        # Where S is already a multiple of the identity, every s gives S; scikit-learn takes 0.
        shrinkage = torch.where(spread > 0, torch.minimum(noise, spread) / spread, 0.0)
        return 1 - shrinkage, shrinkage * trace / dim

    def _check(self, dim: int, smallest: Tensor, largest: Tensor) -> None:
        singular = ~(smallest > dim * torch.finfo(torch.float64).eps * largest)
        if self.covariance == "ledoit_wolf" and singular.any():
            must = (
                "have a non-singular Ledoit-Wolf covariance (give more varied rows, or "
                "covariance='ridge')"
            )
            got = f"{int(singular.sum())} singular from n = {self.count}, D = {dim}"
            raise ValueError(_errors.wording(self.op, "features", must, got))


def check_features(
    op: str, features: Tensor, shape: tuple[int | str, ...], argument: str = "features"
) -> None:
    """Raise unless `features` is floating and of `shape`; one with "L" may lack that dimension."""
    _errors.check_tensor(op, argument, features)
    _errors.check_dtype(op, argument, features, _errors.FLOATS)
    if "L" in shape and features.dim() != 3:
        if features.dim() != 2:
            must = "have shape (n, D) or (n, L, D)"
            raise ValueError(_errors.wording(op, argument, must, tuple(features.shape)))
        return
    _errors.check_shape(op, argument, features, shape)


def check_options(op: str, covariance: str, ridge: float) -> None:
    """Raise ValueError unless the options of a fit make sense."""
    if covariance not in ("ridge", "ledoit_wolf"):
        must = "be 'ridge' or 'ledoit_wolf'"
        raise ValueError(_errors.wording(op, "covariance", must, repr(covariance)))
    if not 0 < ridge < math.inf:
        raise ValueError(_errors.wording(op, "ridge", "be positive and finite", ridge))


def check_finite(op: str, features: Tensor, argument: str = "features") -> None:
    """Raise ValueError if a row of `features` is not finite."""
    rows = max(1, CHUNK // features[0].numel())
    bad = sum(int((~part.isfinite().all(dim=-1)).sum()) for part in features.split(rows))
    if bad:
        got = f"NaN or infinity in {bad} of {features[..., 0].numel()} rows"
        raise ValueError(_errors.wording(op, argument, "be finite", got))
