# SPDX-License-Identifier: Apache-2.0
"""Gaussians fitted to features that come in batches, or from several processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from ssad_kernels import _errors
from ssad_kernels.scoring import (
    CHUNK,
    Covariance,
    GaussianFit,
    Regularizer,
    check_features,
    check_finite,
    check_options,
    empty_fit,
    fit_points,
    normalized,
    parts,
    squeezed,
)

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass
class Sums:
    """Sums over samples y = x - shift of L Gaussians, float64.

    Sums that have the same shift add: across processes with ``torch.distributed.all_reduce`` on
    each tensor but the shift.

    Attributes:
        shift: (L, D) what is subtracted, near the mean, so that the sums keep their digits.
        count: () number of samples.
        first: (L, D) Σ y.
        second: (L, D, D) Σ y yᵀ.
        third: (L, D) Σ |y|² y.
        fourth: (L,) Σ |y|⁴.
    """

    shift: Tensor
    count: Tensor
    first: Tensor
    second: Tensor
    third: Tensor
    fourth: Tensor

    @classmethod
    def zeros(cls, shift: Tensor) -> Sums:
        """No samples yet."""
        locations, dim = shift.shape
        return cls(
            shift,
            shift.new_zeros(()),
            torch.zeros_like(shift),
            shift.new_zeros(locations, dim, dim),
            torch.zeros_like(shift),
            shift.new_zeros(locations),
        )

    def add(self, points: Tensor) -> None:
        """Add (L, b, D) samples."""
        y = points - self.shift[:, None]
        squared = y.square().sum(dim=2)
        self.count += y.shape[1]
        self.first += y.sum(dim=1)
        self.second.baddbmm_(y.mT, y)
        self.third += (squared[:, None] @ y)[:, 0]
        self.fourth += squared.square().sum(dim=1)

    def merge(self, other: Sums) -> None:
        """Add the samples of other sums."""
        other = other.shifted(self.shift)
        for name in ("count", "first", "second", "third", "fourth"):
            getattr(self, name).add_(getattr(other, name))

    def shifted(self, shift: Tensor) -> Sums:
        """The sums of the same samples about another point: of y - d with d = shift - self.shift.

        |y - d|² = |y|² - 2 d·y + |d|², and the rest follows by multiplying out.
        """
        d = shift - self.shift
        n, first, second, third = self.count, self.first, self.second, self.third
        d2, along = d.square().sum(dim=1), (d * first).sum(dim=1)
        trace = second.diagonal(dim1=1, dim2=2).sum(dim=1)
        turned = (second @ d[:, :, None])[:, :, 0]
        cross = first[:, :, None] * d[:, None]
        return Sums(
            shift,
            n,
            first - n * d,
            second - cross - cross.mT + n * d[:, :, None] * d[:, None],
            third - 2 * turned + d2[:, None] * first - (trace - 2 * along + n * d2)[:, None] * d,
            self.fourth
            + 4 * (d * turned).sum(dim=1)
            + n * d2.square()
            - 4 * (d * third).sum(dim=1)
            + 2 * d2 * trace
            - 4 * d2 * along,
        )

    def located(self, part: slice) -> Sums:
        """The sums of some locations."""
        tensors = (self.first, self.second, self.third, self.fourth)
        return Sums(self.shift[part], self.count, *(tensor[part] for tensor in tensors))


def _plain(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run without gradients; in inference mode too its tensors are to be ordinary ones.

    Those of inference mode could not be added to outside of it, nor be used for gradients.
    """
    plain: Callable[_P, _R] = torch.inference_mode(False)(torch.no_grad()(method))
    return plain


class GaussianAccumulator:
    """Collects features batch by batch for the fit that `gaussian_fit` makes of all at once.

    As long as a Gaussian has had fewer than D samples the samples themselves are kept, in their
    dtype: they are smaller than a covariance, and the fit is that of `gaussian_fit` on them, to the
    bit. From D samples on only sums are kept, in float64, about the mean of the first samples; a
    fit then agrees with `gaussian_fit` to rounding. So the state never exceeds about L D² numbers,
    and an (L, D, D) array exists only if every location has had D samples.

    Accumulators can be pickled and merged, so that processes can share the work: gather them, for
    example with ``torch.distributed.all_gather_object``, and `merge` them in the order of the
    ranks. With the same `shift` in all processes no samples are kept, and the tensors of `sums`
    can be all-reduced instead.

    Args:
        dim: Width D of the features.
        locations: Number L of locations with a Gaussian each; None for one Gaussian.
        normalize: Scale each vector to unit length first, as in `gaussian_fit`.
        shift: (D,) or (L, D), finite, a guess of the mean (of unit vectors, if `normalize`): keep
            sums about it from the first sample on, an (L, D, D) array for however few samples.

    Raises:
        TypeError: `shift` is not a floating point tensor.
        ValueError: `dim` or `locations` is below 1, or `shift` has another shape or a value that is
            not finite.

    Sources:
        The updates are those of Chan, Golub and LeVeque, "Algorithms for computing the sample
        variance", The American Statistician 37, 1983, for shifted data. For Ledoit and Wolf's
        fourth moment see `gaussian_fit`.
    """

    @_plain
    def __init__(
        self,
        dim: int,
        locations: int | None = None,
        *,
        normalize: bool = True,
        shift: Tensor | None = None,
    ) -> None:
        op = "GaussianAccumulator"
        for name, value in (("dim", dim), ("locations", locations)):
            if value is not None and value < 1:
                raise ValueError(_errors.wording(op, name, "be at least 1", value))
        self.dim, self.locations, self.normalize = dim, locations, bool(normalize)
        self.sums: Sums | None = None
        self._kept: list[Tensor] = []
        if shift is not None:
            check_features(op, shift, self._shape(), "shift")
            points = shift.detach().reshape(-1, dim)
            check_finite(op, points, "shift")
            self.sums = Sums.zeros(points.to(torch.float64, copy=True))

    @property
    def count(self) -> int:
        """Number of samples of each Gaussian so far."""
        return sum(map(len, self._kept)) + (0 if self.sums is None else int(self.sums.count))

    @_plain
    def update(self, features: Tensor) -> None:
        """Add features of normal images.

        Args:
            features: (b, D), or (b, L, D) with locations, as for `gaussian_fit`; b = 0 adds
                nothing. All on one device.

        Raises:
            TypeError: `features` is not a floating point tensor.
            ValueError: `features` has another shape, device or a value that is not finite.
        """
        op = "GaussianAccumulator.update"
        check_features(op, features, ("b", *self._shape()))
        if len(features) == 0:
            return
        held = [self.sums.shift] if self.sums else self._kept
        if held:
            _errors.check_device(op, "features", features, held[0].device)
        check_finite(op, features)
        features = features if self.locations else features[:, None]
        if self.sums is None and self.count + len(features) < self.dim:
            self._kept.append(features.clone())
        else:
            self._add(features)

    @_plain
    def merge(self, other: GaussianAccumulator) -> None:
        """Add all that another accumulator has seen; it stays as it is.

        Raises:
            ValueError: `other` has another width, number of locations or normalisation.
        """
        for name in ("dim", "locations", "normalize"):
            if getattr(self, name) != getattr(other, name):
                must = f"have {name} {getattr(self, name)}"
                got = getattr(other, name)
                raise ValueError(_errors.wording("GaussianAccumulator.merge", "other", must, got))
        kept, sums = tuple(other._kept), other.sums  # which may be this one's
        for features in kept:
            self.update(features if self.locations else features[:, 0])
        if sums is not None:
            if self.sums is None:
                self._begin(sums.shift.clone())
            assert self.sums is not None
            self.sums.merge(sums)

    @_plain
    def fit(self, *, covariance: Covariance = "ridge", ridge: float = 1e-6) -> GaussianFit:
        """Fit the Gaussians to all samples so far; more can be added later.

        Args:
            covariance: As in `gaussian_fit`.
            ridge: As in `gaussian_fit`.

        Returns:
            What `gaussian_fit` returns for all features at once.

        Raises:
            ValueError: There are no samples, or as in `gaussian_fit`.
        """
        op = "GaussianAccumulator.fit"
        check_options(op, covariance, ridge)
        if not self.count:
            raise ValueError(_errors.wording(op, "features", "have been added", "none"))
        if self.sums is None:
            unit = torch.tensor(self.normalize, device=self._kept[0].device)
            fit = fit_points(op, self._kept, covariance, ridge, unit)
        else:
            fit = self._fit_sums(op, self.sums, covariance, ridge)
        return fit if self.locations else squeezed(fit)

    def _fit_sums(self, op: str, sums: Sums, covariance: Covariance, ridge: float) -> GaussianFit:
        count, dim, locations = self.count, self.dim, len(sums.shift)
        unit = torch.tensor(self.normalize, device=sums.shift.device)
        fit = empty_fit(locations, dim, dim, unit)  # of full rank, however few samples there are
        for part in parts(locations, dim**2):
            some = sums.located(part)
            mean = some.shift + some.first / count
            centred = some.shifted(mean)
            regularize = Regularizer(op, count, centred.fourth / count, covariance, ridge)
            factor, residual_variance = regularize.dense(centred.second / count)
            for whole, value in (
                (fit.mean, mean),
                (fit.factor, factor),
                (fit.residual_variance, residual_variance),
            ):
                whole[part] = value
        return fit

    def _shape(self) -> tuple[int, ...]:
        return (self.dim,) if self.locations is None else (self.locations, self.dim)

    def _begin(self, shift: Tensor) -> None:
        """Turn what is kept into sums."""
        self.sums = Sums.zeros(shift)
        kept, self._kept = self._kept, []
        for features in kept:
            self._add(features)

    def _add(self, features: Tensor) -> None:
        """Add (b, L, D) features to the sums; make these from the samples so far if need be."""
        unit = torch.tensor(self.normalize, device=features.device)
        if self.sums is None:
            first = self._kept or [features]
            total = sum(normalized(part.double(), unit).sum(dim=0) for part in first)
            assert isinstance(total, Tensor)
            self._begin(total / sum(map(len, first)))
        assert self.sums is not None
        rows = max(1, CHUNK // features[0].numel())
        for some in features.split(rows):
            self.sums.add(normalized(some.double(), unit).transpose(0, 1))
