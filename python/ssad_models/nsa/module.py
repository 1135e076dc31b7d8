# SPDX-License-Identifier: Apache-2.0
"""Training of NSA, FPI and PII, as a Lightning module."""

from __future__ import annotations

import logging
import math

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler

from ssad_models.data.loader import Synthesize
from ssad_models.nsa.loss import map_loss
from ssad_models.nsa.network import DenseNet
from ssad_models.trainer import TrainingModule

log = logging.getLogger(__name__)

Batch = tuple[torch.Tensor, torch.Tensor]


class NsaModule(TrainingModule):
    """Learn the labels of all pixels, with Adam.

    The learning rate follows from the number of the step alone, so that a run can be resumed
    anywhere. Defaults are those of NSA's authors.

    Args:
        network: What to train.
        synthesize: Makes the batches: inputs (N, C, H, W), and labels (N, 1, H, W).
        epochs: How many there are; `steps_per_epoch` is how long each is.
        lr: Learning rate of the first epoch.
        lr_end: What it falls to from epoch to epoch along half a cosine.
        intensity: Whether labels are in grey levels, see `map_loss`.
    """

    def __init__(
        self,
        network: DenseNet,
        synthesize: Synthesize,
        *,
        epochs: int,
        lr: float = 1e-3,
        lr_end: float = 1e-6,
        intensity: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.synthesize = network, synthesize
        self.epochs, self.lr, self.lr_end = epochs, lr, lr_end
        self.intensity = intensity
        # Whether any label was above zero, and whether that was looked at.
        self._labelled: torch.Tensor | bool = False
        self._is_told = False

    def rate_at(self, step: int) -> float:
        """Learning rate of a step: the same all through an epoch."""
        share = (step // self.steps_per_epoch) / self.epochs
        return self.lr_end + (self.lr - self.lr_end) * (1 + math.cos(math.pi * share)) / 2

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Loss of one batch; logs it and the learning rate."""
        inputs, labels = batch
        if not self._is_told:
            self._labelled = (labels > 0).any() | self._labelled
        loss = map_loss(self.network, inputs, labels, intensity=self.intensity)
        self.log("train/loss", loss)
        self.log("step", float(self.step))  # Lightning takes it for the axis of the others
        self.log("train/lr", self.rate_at(self.step))
        return loss

    def on_train_epoch_end(self) -> None:
        """Warn after the first epoch if nothing was labelled in it."""
        if not self._is_told and not bool(self._labelled):
            log.warning(
                "no patch has changed an image in the first epoch, so that there is nothing to "
                "learn: objects may be too small for the patches, or the images all alike; look "
                "at them with `ssadk augment`, or find settings with `ssadk calibrate`"
            )
        self._is_told = True

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam without weight decay."""
        optimizer = torch.optim.Adam(self.network.parameters(), 1.0, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.rate_at(step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
