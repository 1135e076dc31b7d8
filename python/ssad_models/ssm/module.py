# SPDX-License-Identifier: Apache-2.0
"""Training of SSM, as a Lightning module."""

from __future__ import annotations

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler

from ssad_kernels import composite
from ssad_models.data.loader import Synthesize
from ssad_models.ssm.loss import Weights, restoration_loss
from ssad_models.ssm.network import ConditionalUNet, restore
from ssad_models.ssm.recipe import SsmRecipe
from ssad_models.trainer import TrainingModule
from ssad_models.views import pixels

Batch = tuple[torch.Tensor, torch.Tensor]


class SsmModule(TrainingModule):
    """Restore each part of an image from the others, with Adam.

    The learning rate follows from the number of the step alone, so that a run can be resumed
    anywhere.

    Args:
        network: What to train.
        synthesize: Makes the batches, see `ssad_models.ssm.augment.Synthesis`.
        recipe: Its settings of losses and rates.
    """

    def __init__(self, network: ConditionalUNet, synthesize: Synthesize, recipe: SsmRecipe) -> None:
        super().__init__()
        self.network, self.synthesize, self.recipe = network, synthesize, recipe
        self.weights = Weights(recipe.pixels, recipe.gms, recipe.ssim, recipe.masks)

    def rate_at(self, step: int) -> float:
        """Learning rate of a step: the same all through an epoch."""
        share = (step // self.steps_per_epoch) / self.recipe.epochs
        return float(self.recipe.lr * 0.1 ** sum(share >= drop for drop in self.recipe.drops))

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Loss of one batch; logs it and the learning rate."""
        images, visible = batch
        images = pixels(images)
        outputs, found = restore(self.network, images, visible)
        restored = composite(outputs, visible, images)
        loss = restoration_loss(images, restored, visible.to(found.dtype), found, self.weights)
        self.log("train/loss", loss)
        self.log("step", float(self.step))  # Lightning takes it for the axis of the others
        self.log("train/lr", self.rate_at(self.step))
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with an L2 penalty."""
        optimizer = torch.optim.Adam(
            self.network.parameters(), 1.0, weight_decay=self.recipe.weight_decay, fused=True
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.rate_at(step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
