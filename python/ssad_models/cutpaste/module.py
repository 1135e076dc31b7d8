# SPDX-License-Identifier: Apache-2.0
"""Training of CutPaste, as Lightning modules."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.utils.data import TensorDataset

from ssad_kernels import make_keys
from ssad_models.cutpaste.augment import Batch, Synthesis
from ssad_models.cutpaste.network import CutPasteNet
from ssad_models.cutpaste.recipe import Stage
from ssad_models.trainer import TrainingModule


class CutPasteModule(TrainingModule):
    """Learn the proxy task by cross-entropy, stage by stage.

    Batches are what `synthesize` returns: inputs (N, C, H, W) uint8 or float 0..1, and labels (N,).
    Stage, mode and learning rate follow from the number of the step alone, so that a run can be
    resumed anywhere. Defaults are those of the paper (Li et al., appendix A.1).

    Args:
        network: What to train.
        stages: What learns, for how long and how fast. In a "head" stage the backbone is in
            evaluation mode and gets no gradient.
        synthesize: Makes the batches.
        optimizer: "sgd", as in the paper, or "adam", which learns something from scratch in
            hundreds of steps where SGD needs thousands.
        momentum: Of SGD.
        weight_decay: L2 penalty.
        freeze_batch_norm: Leave the backbone's batch norms as they are.
    """

    def __init__(
        self,
        network: CutPasteNet,
        stages: Sequence[Stage],
        synthesize: Synthesis | None = None,
        *,
        optimizer: str = "sgd",
        momentum: float = 0.9,
        weight_decay: float = 3e-5,
        freeze_batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.stages = tuple(stages)
        self.synthesize = synthesize if synthesize is not None else Synthesis()
        self.optimizer, self.momentum, self.weight_decay = optimizer, momentum, weight_decay
        self.frozen_norms = [
            layer
            for layer in network.backbone.modules()
            if freeze_batch_norm and isinstance(layer, nn.BatchNorm2d)
        ]
        for norm in self.frozen_norms:
            norm.requires_grad_(False)
        self._entered: Stage | None = None

    def stage_at(self, step: int) -> tuple[Stage, int]:
        """The stage of a step, and its first step."""
        start = 0
        for stage in self.stages[:-1]:
            if step < start + stage.steps:
                return stage, start
            start += stage.steps
        return self.stages[-1], start

    def rate_at(self, step: int) -> float:
        """Learning rate of a step; 0 after the last."""
        stage, start = self.stage_at(step)
        return stage.lr * (1 + math.cos(math.pi * (step - start) / stage.steps)) / 2

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Enter the stage of this step."""
        stage, start = self.stage_at(self.step)
        if self.step == start:
            # What the momentum has gathered belongs to another learning rate.
            self.trainer.optimizers[0].state.clear()
        if stage is not self._entered:
            self._entered = stage
            self.network.train()
            self.network.backbone.train(stage.train == "all")
            for norm in self.frozen_norms:
                norm.eval()

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """What the loss is taken of: inputs (N, C, H, W) -> (N, classes)."""
        stage, _ = self.stage_at(self.step)
        with torch.set_grad_enabled(stage.train == "all"):
            maps = self.network.backbone(inputs)
        return self.network.classify(maps)

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Cross-entropy of one batch; logs loss, accuracy of the proxy task, and learning rate."""
        inputs, labels = batch
        logits = self.logits(inputs)
        loss = nn.functional.cross_entropy(logits, labels)
        self.log("train/loss", loss)
        self.log("train/accuracy", (logits.argmax(1) == labels).float().mean())
        self.log("step", float(self.step))  # Lightning takes it for the axis of the others
        self.log("train/lr", self.rate_at(self.step))
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One optimiser for all stages; a parameter without gradient is left alone."""
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        decay = self.weight_decay
        optimizer = (
            torch.optim.SGD(parameters, 1.0, momentum=self.momentum, weight_decay=decay)
            if self.optimizer == "sgd"
            else torch.optim.Adam(parameters, 1.0, weight_decay=decay, fused=True)
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.rate_at(step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class OnDeviceModule(CutPasteModule):
    """Augments on the device of the network: batches are `(images, samples)`.

    Images are (N, C, H, W), and samples their (N,) int64 ids.

    Args:
        seed: Of the augmentation.
        others: As of `CutPasteModule`.
    """

    def __init__(
        self,
        network: CutPasteNet,
        stages: Sequence[Stage],
        synthesize: Synthesis,
        *,
        seed: int,
        optimizer: str = "sgd",
    ) -> None:
        super().__init__(network, stages, synthesize, optimizer=optimizer)
        self.seed = seed

    def on_after_batch_transfer(
        self, batch: Batch, dataloader_idx: int
    ) -> tuple[torch.Tensor, ...]:
        """`(images, samples)` -> inputs and labels."""
        images, samples = batch
        return self.synthesize(images, make_keys(self.seed, self.current_epoch, samples))


class HeadModule(CutPasteModule):
    """Trains neck and head alone, on batches `(maps, labels)` from `feature_bank`.

    The backbone is frozen, so its feature maps of a fixed set of augmented images are computed
    once.
    """

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """Feature maps (N, C, h, w) -> (N, classes)."""
        return self.network.classify(inputs)


@torch.no_grad()
def feature_bank(
    backbone: nn.Module,
    images: torch.Tensor,
    copies: int,
    seed: int,
    synthesize: Synthesis | None = None,
    batch_size: int = 8,
) -> TensorDataset:
    """Feature maps of augmented images, for `HeadModule`.

    Args:
        backbone: Frozen, in evaluation mode.
        images: (N, C, H, W) on the backbone's device.
        copies: How often each image is augmented, differently each time.
        seed: Of the augmentation.
        synthesize: Makes the batches, by default of the three-way task.
        batch_size: Images per forward pass, before augmentation. Small batches are faster on a CPU.

    Returns:
        N · copies · classes pairs of maps (C', h, w) and a label.
    """
    synthesize = synthesize if synthesize is not None else Synthesis()
    samples = torch.arange(len(images), device=images.device)
    maps, labels = [], []
    for copy in range(copies):
        for part in samples.split(batch_size):
            batch, label = synthesize(images[part], make_keys(seed, copy, part))
            maps.append(backbone(batch))
            labels.append(label)
    return TensorDataset(torch.cat(maps), torch.cat(labels))
