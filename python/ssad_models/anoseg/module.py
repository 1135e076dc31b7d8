# SPDX-License-Identifier: Apache-2.0
"""Training of AnoSeg, then of its detector, as one Lightning module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ssad_models.anoseg.loss import judged, reconstruction_loss, segmentation_loss
from ssad_models.anoseg.network import AnosegNet, Discriminator, Restorer
from ssad_models.anoseg.recipe import AnosegRecipe
from ssad_models.data.loader import Synthesize
from ssad_models.trainer import TrainingModule
from ssad_models.views import pixels

Batch = tuple[torch.Tensor, torch.Tensor]
_GENERATORS = ("network", "restorer")


class AnosegModule(TrainingModule):
    """Two trainings in turn, each of a generator and a discriminator that take turns in every step.

    First the network of maps learns. Then it stays as it is, and the detector learns, if it is to.
    Training and learning rate follow from the number of the step alone, so that a run can be
    resumed anywhere.

    Args:
        recipe: Its settings.
        synthesize: Makes the batches, see `ssad_models.anoseg.augment.Synthesis`.

    Attributes:
        network: Images to reconstructions and maps.
        judge: Its discriminator.
        restorer: The detector's generator; None without detector.
        critic: The detector's discriminator; None without.
        names: Of those there are.
        averages: Of the generators' weights, by their names here; empty unless asked for.
    """

    def __init__(self, recipe: AnosegRecipe, synthesize: Synthesize) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.recipe, self.synthesize = recipe, synthesize
        channels, width = recipe.channels, recipe.network_width
        self.network = AnosegNet(channels, width)
        self.judge = Discriminator(recipe.size, channels, width)
        self.restorer: Restorer | None = None
        self.critic: Discriminator | None = None
        if recipe.detector_epochs:
            self.restorer = Restorer(channels, width)
            self.critic = Discriminator(recipe.size, channels, width)
        named = ("network", "judge", "restorer", "critic")
        self.names = tuple(name for name in named if getattr(self, name) is not None)
        self.averages = nn.ModuleDict()
        if recipe.ema is not None:
            decay = get_ema_multi_avg_fn(recipe.ema)
            for name in set(_GENERATORS) & set(self.names):
                average = AveragedModel(getattr(self, name), multi_avg_fn=decay, use_buffers=True)
                self.averages[name] = average.requires_grad_(False).eval()

    def is_detecting(self, step: int) -> bool:
        """Whether it is the detector that learns in a step."""
        return step >= self.recipe.epochs * self.steps_per_epoch

    def rate_at(self, step: int) -> float:
        """Learning rate of a step: steady, then along a line to 0 over the last half."""
        first = self.recipe.epochs * self.steps_per_epoch
        steps = first
        if self.is_detecting(step):
            step, steps = step - first, self.recipe.detector_epochs * self.steps_per_epoch
        return self.recipe.lr * min(1.0, 2 * (1 - step / max(1, steps)))

    def used(self, name: str) -> nn.Module:
        """A generator as it is used: the average of its weights if there is one."""
        if name in self.averages:
            return cast(AveragedModel, self.averages[name]).module
        return cast(nn.Module, getattr(self, name))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Put what does not learn now into evaluation mode."""
        detecting = self.is_detecting(self.step)
        self.network.train(not detecting)
        self.judge.train(not detecting)
        self.averages.eval()

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """A step of a discriminator, then one of its generator; logs loss and learning rate."""
        rate = self.rate_at(self.step)
        inputs, maps = batch
        self.log("step", float(self.step))  # Lightning takes it for the axis of the others
        self.log("train/lr", rate)
        loss = torch.zeros(())
        for name, loss in self.losses(pixels(inputs), maps.to(torch.float32)):
            self._update(name, loss, rate)
        self.log("train/loss", loss.detach())
        return loss.detach()

    def losses(
        self, images: torch.Tensor, maps: torch.Tensor
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """What learns in this step, by name, and its loss; each is to be updated before the next.

        Args:
            images: (N, C, S, S) float 0..1, the first N // 2 normal ones.
            maps: (N, 1, S, S) float, 1 where nothing was pasted.
        """
        detecting = self.is_detecting(self.step)
        return self._detector_losses(images, maps) if detecting else self._map_losses(images, maps)

    def _map_losses(
        self, images: torch.Tensor, maps: torch.Tensor
    ) -> Iterator[tuple[str, torch.Tensor]]:
        found, found_maps = self.network(images)
        real = self.judge(images, maps)[0]
        fake = self.judge(found.detach(), found_maps.detach())[0]
        yield "judge", judged(real, True) + judged(fake, False)
        with _held(self.judge):
            fooled = judged(self.judge(found, found_maps)[0], True)
            yield (
                "network",
                segmentation_loss(found_maps, maps, self.recipe.map_loss)
                + self.recipe.reconstruction * reconstruction_loss(found, images, maps)
                + self.recipe.adversarial * fooled,
            )

    def _detector_losses(
        self, images: torch.Tensor, maps: torch.Tensor
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """The generator sees normal images alone, the discriminator all."""
        restorer, critic = cast(Restorer, self.restorer), cast(Discriminator, self.critic)
        half = len(images) // 2
        normal, clean = images[:half], maps[:half]
        with torch.no_grad():
            found_maps = self.used("network")(normal)[1]
        restored = restorer(normal, found_maps)
        real = judged(critic(normal, clean)[0], True)
        fake = judged(critic(restored.detach(), found_maps)[0], False)
        pasted = judged(critic(images[half:], maps[half:])[0], False)
        # Normal images are the real ones of two losses, against restored ones and pasted ones.
        yield "critic", (real + fake) + (real + pasted)
        with _held(critic):
            logits, features = critic(restored, found_maps)
            wanted = critic(normal, clean)[1]
            yield (
                "restorer",
                judged(logits, True)
                + self.recipe.features * nn.functional.mse_loss(features, wanted)
                + nn.functional.l1_loss(restored, normal),
            )

    def _update(self, name: str, loss: torch.Tensor, rate: float) -> None:
        """A step of one network, and of its average."""
        place = self.names.index(name)
        network = cast(nn.Module, getattr(self, name))
        plain = cast(list[Optimizer], self.optimizers(use_pl_optimizer=False))[place]
        for group in plain.param_groups:
            group["lr"] = rate
        plain.zero_grad()
        self.manual_backward(loss)
        if self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), self.recipe.clip)
        # Lightning counts the steps of its own optimisers: here one for each batch.
        is_generator = name in _GENERATORS
        (cast(list[LightningOptimizer], self.optimizers())[place] if is_generator else plain).step()
        if name in self.averages:
            cast(AveragedModel, self.averages[name]).update_parameters(network)

    def configure_optimizers(self) -> list[Optimizer]:
        """Adam for each network, in the order of `names`."""
        options: dict[str, Any] = {"lr": self.recipe.lr, "betas": self.recipe.momenta}
        return [
            torch.optim.Adam(getattr(self, name).parameters(), **options, fused=True)
            for name in self.names
        ]


@contextmanager
def _held(network: nn.Module) -> Iterator[None]:
    """Let gradients pass through a network that keeps none."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
