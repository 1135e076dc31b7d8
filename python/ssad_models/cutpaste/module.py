# SPDX-License-Identifier: Apache-2.0
"""Training of CutPaste, as Lightning modules."""

from __future__ import annotations

from typing import Literal

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.utils.data import TensorDataset

from ssad_kernels import make_keys
from ssad_kernels.transforms import CutPaste3Way
from ssad_models.cutpaste.augment import random_crop
from ssad_models.cutpaste.network import CutPasteNet

Batch = tuple[torch.Tensor, torch.Tensor]


class CutPasteModule(LightningModule):
    """Three-way CutPaste: tell normal images, CutPaste and Scar apart, by cross-entropy.

    Batches are `(images, samples)`: (N, C, H, W) uint8 or float 0..1, and (N,) int64 ids. Images
    are shifted and augmented on the device, by keys (seed, epoch, sample id), so a run does not
    depend on batch size or workers. Defaults are those of the paper (Li et al., appendix A.1).

    Args:
        network: What to train. Parameters that need no gradient are left out.
        steps: Updates in all; the learning rate falls to 0 over them along half a cosine.
        seed: Of the augmentation.
        crop: Side of a random crop to train on; None for whole images, shifted by up to an eighth
            of their side.
        optimizer: "sgd" with momentum 0.9, as in the paper, or "adam", which learns something from
            scratch in hundreds of steps where SGD needs thousands.
        lr: Learning rate; by default 0.03 for SGD and 0.001 for Adam.
        weight_decay: L2 penalty.
    """

    def __init__(
        self,
        network: CutPasteNet,
        steps: int,
        seed: int = 0,
        *,
        crop: int | None = None,
        optimizer: Literal["sgd", "adam"] = "sgd",
        lr: float | None = None,
        weight_decay: float = 3e-5,
    ) -> None:
        super().__init__()
        self.network = network
        self.steps, self.seed, self.crop = steps, seed, crop
        self.optimizer = optimizer
        self.lr = lr if lr is not None else {"sgd": 0.03, "adam": 0.001}[optimizer]
        self.weight_decay = weight_decay
        self.augment = CutPaste3Way()

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """`(images, samples)` -> (3N, C, h, w) images and (3N,) class labels."""
        images, samples = batch
        return augmented(
            images, make_keys(self.seed, self.current_epoch, samples), self.augment, self.crop
        )

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """What the loss is taken of: images (N, C, H, W) -> (N, 3)."""
        return self.network(inputs)[1]  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Cross-entropy of one augmented batch; logs loss and accuracy of the proxy task."""
        inputs, labels = batch
        logits = self.logits(inputs)
        loss = nn.functional.cross_entropy(logits, labels)
        self.log("train/loss", loss)
        self.log("train/accuracy", (logits.argmax(1) == labels).float().mean())
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser, and one cosine counted in steps."""
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        optimizer = (
            torch.optim.SGD(parameters, self.lr, momentum=0.9, weight_decay=self.weight_decay)
            if self.optimizer == "sgd"
            else torch.optim.Adam(parameters, self.lr, weight_decay=self.weight_decay)
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class HeadModule(CutPasteModule):
    """The first stage of transfer (Li et al., appendix A.4): only neck and head learn.

    The backbone is frozen, so its feature maps of a fixed set of augmented images are computed
    once, by `feature_bank`, and batches are `(maps, labels)` from there.
    """

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Nothing: the bank is augmented already."""
        return batch

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """Feature maps (N, C, h, w) -> (N, 3)."""
        return self.network.classify(inputs)


def augmented(
    images: torch.Tensor, keys: torch.Tensor, transform: CutPaste3Way, crop: int | None
) -> Batch:
    """Shift or crop, then CutPaste and Scar: (N, C, H, W) -> (3N, C, h, w) and labels (3N,)."""
    side = min(images.shape[-2:])
    size, pad = (side, side // 8) if crop is None else (crop, 0)
    tripled, labels = transform(random_crop(images, keys, size, pad), keys)
    return tripled, labels


@torch.no_grad()
def feature_bank(
    backbone: nn.Module, images: torch.Tensor, copies: int, seed: int, batch_size: int = 8
) -> TensorDataset:
    """Feature maps of augmented images, for `HeadModule`.

    Args:
        backbone: Frozen, in evaluation mode.
        images: (N, C, H, W) on the backbone's device.
        copies: How often each image is augmented, differently each time.
        seed: Of the augmentation.
        batch_size: Images per forward pass, before augmentation. Small batches are faster on a CPU.

    Returns:
        3 · N · copies pairs of maps (C', h, w) and a label 0..2.
    """
    transform = CutPaste3Way()
    samples = torch.arange(len(images), device=images.device)
    maps, labels = [], []
    for copy in range(copies):
        for part in samples.split(batch_size):
            batch, label = augmented(images[part], make_keys(seed, copy, part), transform, None)
            maps.append(backbone(batch))
            labels.append(label)
    return TensorDataset(torch.cat(maps), torch.cat(labels))
