# SPDX-License-Identifier: Apache-2.0
"""Anomaly scores of a CutPaste network: density of its features, and the verdict of its head."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import nn

from ssad_kernels import GaussianFit, gaussian_fit, gaussian_score
from ssad_models.cutpaste.network import CutPasteNet

Shrinkage = Literal["ridge", "ledoit_wolf"]


class Views(NamedTuple):
    """What a network says about images.

    Attributes:
        features: (N, D) pooled features of the backbone.
        odds: (N,) log-odds of "augmented" against "normal", from the head.
    """

    features: torch.Tensor
    odds: torch.Tensor


class Proxy(NamedTuple):
    """How the head does on images held out from training, see `fit`.

    Attributes:
        odds: (M,) log-odds, see `log_odds`.
        labels: (M,) int64, 0 normal, others augmented; both kinds must occur.
    """

    odds: torch.Tensor
    labels: torch.Tensor


class Detector(NamedTuple):
    """Fitted without any anomalous image, see `fit`. All statistics are float64.

    Attributes:
        density: The Gaussian of the features.
        distance: (2,) mean and standard deviation of the log-distances of held-out normal images.
        odds: (2,) the same of their log-odds.
        weight: () weight of the log-odds in the score, 0..1.
    """

    density: GaussianFit
    distance: torch.Tensor
    odds: torch.Tensor
    weight: torch.Tensor


def log_odds(logits: torch.Tensor) -> torch.Tensor:
    """Logits (N, K), class 0 normal -> log of P(any other class) / P(class 0), (N,).

    Unlike the probability it does not saturate, so that sure cases can still be ranked.
    """
    return logits[:, 1:].logsumexp(dim=1) - logits[:, 0]


def density_score(features: torch.Tensor, density: GaussianFit) -> torch.Tensor:
    """Log of the squared Mahalanobis distance, (N, D) -> (N,); the ranking of the paper's score.

    Li et al., section 2.3, use the distance itself. The logarithm changes no ranking and makes
    distances comparable with log-odds: of a normal image's distance the spread is then a few per
    cent, not orders of magnitude.
    """
    return gaussian_score(features, density).clamp_min(1e-12).log()


def _standardize(score: torch.Tensor, moments: torch.Tensor) -> torch.Tensor:
    mean, deviation = moments
    return torch.div(score.double() - mean, deviation)


def _moments(score: torch.Tensor) -> torch.Tensor:
    deviation, mean = torch.std_mean(score.double())
    return torch.stack([mean, deviation.clamp_min(1e-12)])


def fit_density(features: torch.Tensor, shrinkage: Shrinkage = "ridge") -> Detector:
    """Fit the paper's detector, (N, D) features of normal images: the head has no say."""
    unscaled = torch.tensor([0.0, 1.0], dtype=torch.float64, device=features.device)
    density = gaussian_fit(features, covariance=shrinkage)
    return Detector(density, unscaled, unscaled.clone(), unscaled[0].clone())


def fit(
    features: torch.Tensor, proxy: Proxy, folds: int = 4, shrinkage: Shrinkage = "ridge"
) -> Detector:
    """Fit a detector to normal images and to the proxy task.

    Distances are standardised by those of held-out images, fold by fold: with more features than
    images a Gaussian puts all images that it was fitted on at about the same distance, and any
    other far outside.

    The head is trusted as far as it has learned its task: with A the AUROC of the log-odds on
    held-out augmented against normal images, its weight is (2A - 1)², 1 for a sure head and 0 for
    one that guesses.

    Args:
        features: (N, D) pooled features of plain normal images, N at least 2 · folds.
        proxy: The head's verdicts on images that it was not trained on.
        folds: Number of parts that are held out in turn.
        shrinkage: Of the covariance.

    Returns:
        The detector, on the device of the features; its Gaussian is fitted to all images.
    """
    fold = torch.arange(len(features), device=features.device) % folds
    held_out = [
        density_score(features[fold == k], gaussian_fit(features[fold != k], covariance=shrinkage))
        for k in range(folds)
    ]
    normal, augmented = (proxy.odds[(proxy.labels > 0) == side] for side in (False, True))
    skill = (augmented[:, None] - normal[None, :]).double().sign().mean().clamp_min(0)
    density = gaussian_fit(features, covariance=shrinkage)
    return Detector(density, _moments(torch.cat(held_out)), _moments(normal), skill**2)


def score(views: Views, detector: Detector) -> torch.Tensor:
    """Anomaly score (N,), float64: both views in units of their spread on normal images, summed.

    The density alone (`density_score`) is the paper's score. It is blind to what normal images vary
    in anyway, and the head is blind to what pasting never does, such as blur; the sum misses less
    than either. The log-odds count by the detector's weight.
    """
    distance = density_score(views.features, detector.density)
    odds = _standardize(views.odds, detector.odds)
    return _standardize(distance, detector.distance) + detector.weight * odds


class Density(nn.Module):
    """A `GaussianFit` as buffers, which may be loaded in other sizes."""

    mean: torch.Tensor

    def __init__(self, fitted: GaussianFit) -> None:
        super().__init__()
        for name, tensor in fitted._asdict().items():
            self.register_buffer(name, tensor)

    def fitted(self) -> GaussianFit:
        """The Gaussian, or one for each location."""
        return GaussianFit(*(self.get_buffer(name) for name in GaussianFit._fields))

    def _load_from_state_dict(
        self, state_dict: dict[str, torch.Tensor], prefix: str, *args: object
    ) -> None:
        # The number of directions depends on the number of images that it was fitted to.
        for name in GaussianFit._fields:
            if (saved := state_dict.get(prefix + name)) is not None:
                setattr(self, name, saved.new_empty(saved.shape, device=self.mean.device))
        super()._load_from_state_dict(state_dict, prefix, *args)


class CutPasteDetector(nn.Module):
    """A trained network with its density: images to scores, and to heat maps.

    Its state dict is all that it has learned. The forward pass can be exported.

    Args:
        network: Trained; it is put in evaluation mode.
        detector: What `fit` or `fit_density` returned; None to load a state later.
    """

    def __init__(self, network: CutPasteNet, detector: Detector | None = None) -> None:
        super().__init__()
        self.network = network
        if detector is None:
            detector = fit_density(torch.eye(2))
        self.density = Density(detector.density)
        self.register_buffer("distance", detector.distance)
        self.register_buffer("odds", detector.odds)
        self.register_buffer("weight", detector.weight)
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 1 or 3, S, S) uint8 or float 0..1 -> scores (N,) float32, see `score`."""
        features, logits = self.network(images)
        return self._score(features, logits)

    def _score(self, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        buffers = (self.get_buffer(name) for name in ("distance", "odds", "weight"))
        detector = Detector(self.density.fitted(), *buffers)
        return score(Views(features, log_odds(logits)), detector).float()

    def heat_map(self, images: torch.Tensor) -> torch.Tensor:
        """Where the head sees something pasted: GradCAM (Selvaraju et al., arXiv 1610.02391).

        The paper names neither layer nor target (section 4.2). Here the layer is the last with
        positions, and the target the log-odds of "augmented" against "normal", so that a normal
        image is not explained by what makes it normal.

        Args:
            images: (N, 1 or 3, S, S) uint8 or float 0..1.

        Returns:
            (N, 1, S, S) float32, at least 0; the scale is the same for all images.
        """
        return self.score_and_heat(images)[1]

    @torch.no_grad()
    def score_and_heat(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What `forward` and `heat_map` return, from one pass through the backbone."""
        maps, features = self.network.look(images)
        logits, heat = self.explain(maps, images.shape[-2:])
        return self._score(features, logits), heat

    @torch.no_grad()
    def explain(
        self, maps: torch.Tensor, size: tuple[int, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps of the backbone (N, C, h, w) -> logits, and heat maps (N, 1, *size)."""
        local = self.network.neck(maps)
        # Only the head is differentiated, also where the caller has switched gradients off.
        with torch.inference_mode(False), torch.enable_grad():
            leaf = local.clone().requires_grad_()
            logits = self.network.classify_local(leaf)
            (slope,) = torch.autograd.grad(log_odds(logits).sum(), leaf)
        weight = slope.mean((2, 3), keepdim=True)
        cam = (weight * local).sum(1, keepdim=True).relu().float()
        heat = nn.functional.interpolate(cam, size, mode="bilinear", align_corners=False)
        return logits.detach(), heat
