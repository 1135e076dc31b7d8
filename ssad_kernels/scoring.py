# SPDX-License-Identifier: Apache-2.0
"""Anomaly scores: a Gaussian fitted to the features of normal images (GDE)."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ssad_kernels import _errors


class GaussianFit(NamedTuple):
    """A Gaussian in the eigenbasis of its covariance; ``r = min(n, D)`` directions are stored.

    Every direction orthogonal to the basis has the same variance, so no (D, D) matrix is kept when
    n < D. All floating point tensors are float64. The class is known to
    ``torch.load(weights_only=True)`` once ``ssad_kernels`` is imported; a checkpoint that should
    open without it takes ``fit._asdict()``, and ``GaussianFit(**saved)`` restores the fit.

    Attributes:
        mean: (D,) centre.
        basis: (r, D) orthonormal rows.
        variance: (r,) variance along each row, > 0.
        residual_variance: () variance along every direction orthogonal to the rows, > 0 (of no
            effect when r = D).
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
    covariance: Literal["ridge", "ledoit_wolf"] = "ridge",
    ridge: float = 1e-6,
    normalize: bool = True,
) -> GaussianFit:
    """Fit a Gaussian to the features of normal images.

    With ``covariance="ridge"`` the covariance is the maximum-likelihood one (divided by n) plus
    `ridge` on the diagonal. With the defaults this is the density estimator of Sohn et al. and of
    CutPaste, and equals scikit-learn's one-component ``GaussianMixture`` with ``reg_covar=1e-6`` on
    unit vectors. With ``covariance="ledoit_wolf"`` it is (1 - s) S + s (tr S / D) I, S being the
    maximum-likelihood covariance and s the shrinkage of Ledoit and Wolf, as in scikit-learn's
    ``LedoitWolf``; `ridge` is not used.

    The cost is O(n D min(n, D)) time and O(n D + min(n, D)²) memory. An offline step: it
    synchronises with the host, has no gradient, and is deterministic for one device and number of
    threads.

    Args:
        features: (n, D) with n ≥ 1, D ≥ 1, float16, bfloat16, float32 or float64, finite. The
            arithmetic is float64 for all of them.
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
        ICLR 2021. Li et al., "CutPaste", CVPR 2021, §2.3. Ledoit and Wolf, "A well-conditioned
        estimator for large-dimensional covariance matrices", J. Multivariate Analysis 88, 2004.
    """
    op = "gaussian_fit"
    _check_features(op, features, ("n", "D"))
    count, dim = features.shape
    if count < 1 or dim < 1:
        must = "have at least one row and one column"
        raise ValueError(_errors.wording(op, "features", must, f"shape {tuple(features.shape)}"))
    if covariance not in ("ridge", "ledoit_wolf"):
        must = "be 'ridge' or 'ledoit_wolf'"
        raise ValueError(_errors.wording(op, "covariance", must, repr(covariance)))
    if not 0 < ridge < math.inf:
        raise ValueError(_errors.wording(op, "ridge", "be positive and finite", ridge))
    bad_rows = int((~features.isfinite().all(dim=1)).sum())
    if bad_rows:
        got = f"NaN or infinity in {bad_rows} of {count} rows"
        raise ValueError(_errors.wording(op, "features", "be finite", got))

    unit = torch.tensor(bool(normalize), device=features.device)
    points = _normalized(features.double(), unit)
    mean = points.mean(dim=0)
    centred = points - mean
    eigenvalues, basis = _principal_axes(centred)
    if covariance == "ridge":
        variance, residual_variance = eigenvalues + ridge, eigenvalues.new_tensor(ridge)
    else:
        shrinkage = _ledoit_wolf_shrinkage(centred, eigenvalues)
        residual_variance = shrinkage * eigenvalues.sum() / dim
        variance = (1 - shrinkage) * eigenvalues + residual_variance
        # For n < D, too: centring leaves an eigenvalue of zero, so the residual variance is in it.
        if not variance.min() > dim * torch.finfo(torch.float64).eps * variance.max():
            must = (
                "have a non-singular Ledoit-Wolf covariance (give more varied rows, or "
                "covariance='ridge')"
            )
            got = f"shrinkage {shrinkage.item():.3g} for shape {tuple(features.shape)}"
            raise ValueError(_errors.wording(op, "features", must, got))
    return GaussianFit(mean, basis, variance, residual_variance, unit)


def gaussian_score(features: Tensor, fit: GaussianFit) -> Tensor:
    """Score features by their squared Mahalanobis distance to a fitted Gaussian.

    Twice the negative log-likelihood less a constant, so it ranks as the negative log-likelihood.
    The arithmetic is float64, also under autocast. A row that is not finite scores NaN or infinity,
    itself only. No host synchronisation. Differentiable with respect to `features`; the gradient of
    a zero vector is that of the vector without normalisation. Repeating a call repeats its bytes; a
    row's score in another batch agrees to float64 rounding, not to the bit, because the matrix
    product may order its sums by the size of the batch.

    Args:
        features: (m, D), float16, bfloat16, float32 or float64; m = 0 gives an empty result.
        fit: What `gaussian_fit` returned, on the device of `features`.

    Returns:
        (m,) scores ≥ 0, higher is more anomalous; float64 for float64 `features`, else float32.

    Raises:
        TypeError: `features` is not a floating point tensor of the dtypes above.
        ValueError: `features` has another rank, width or device than `fit` asks for.
    """
    op = "gaussian_score"
    _check_features(op, features, ("m", fit.mean.shape[0]))
    _errors.check_device(op, "features", features, fit.mean.device)

    offset = _normalized(features.double(), fit.normalize) - fit.mean
    along = offset @ fit.basis.mT
    score = (along.square() / fit.variance).sum(dim=1)
    if fit.basis.shape[0] < fit.basis.shape[1]:
        # Not |offset|² - |along|²: that difference loses as many digits as the condition number
        # has, the norm of the remainder only half of them.
        remainder = offset - along @ fit.basis
        score = score + remainder.square().sum(dim=1) / fit.residual_variance
    return score.to(torch.promote_types(features.dtype, torch.float32))


def _check_features(op: str, features: Tensor, shape: tuple[int | str, ...]) -> None:
    _errors.check_tensor(op, "features", features)
    _errors.check_dtype(op, "features", features, _errors.FLOATS)
    _errors.check_shape(op, "features", features, shape)


def _normalized(features: Tensor, unit: Tensor) -> Tensor:
    """Scale rows to unit length where the () bool `unit` holds; zero rows stay zero."""
    length = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features / torch.where(unit & (length > 0), length, 1.0)


def _principal_axes(centred: Tensor) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues (r,) and eigenvectors (r, D) of centredᵀ centred / n, r = min(n, D).

    When n < D, the rows are first written in an orthonormal basis of their span. The eigenvectors
    of the (n, n) Gram matrix would be cheaper, but where an eigenvalue is near zero, as one always
    is after centring, they do not map back to orthonormal directions.
    """
    count, dim = centred.shape
    if count < dim:
        span, coordinates = torch.linalg.qr(centred.mT)
        eigenvalues, vectors = torch.linalg.eigh(coordinates @ coordinates.mT / count)
        basis = vectors.mT @ span.mT
    else:
        eigenvalues, vectors = torch.linalg.eigh(centred.mT @ centred / count)
        basis = vectors.mT.contiguous()
    return eigenvalues.clamp_min(0), basis


def _ledoit_wolf_shrinkage(centred: Tensor, eigenvalues: Tensor) -> Tensor:
    """Return Ledoit and Wolf's s = min(b², d²) / d² in [0, 1], as a () tensor.

    d² is the squared distance of S from (tr S / D) I, and b² the mean squared distance of the n
    one-sample covariances x xᵀ from S, over n. Both follow from the eigenvalues of S and the
    lengths of the rows x, so no (D, D) matrix is needed. (The factor 1 / D of the paper's norms
    cancels.)
    """
    count, dim = centred.shape
    centre = eigenvalues.sum() / dim
    spread = (eigenvalues - centre).square().sum() + (dim - len(eigenvalues)) * centre.square()
    fourth = centred.square().sum(dim=1).square().mean()
    noise = ((fourth - eigenvalues.square().sum()) / count).clamp_min(0)
    # Where S is already a multiple of the identity, every s gives S; scikit-learn takes 0.
    return torch.where(spread > 0, torch.minimum(noise, spread) / spread, 0.0)
