# SPDX-License-Identifier: Apache-2.0
"""Anomaly scores of a trained network: how badly it restores what it is not shown."""

from __future__ import annotations

import torch
from torch import nn

from ssad_kernels import cell_masks, composite, gms_map, make_keys, refine_cells
from ssad_models.ssm.network import ConditionalUNet, restore
from ssad_models.ssm.recipe import SCALES, SsmRecipe
from ssad_models.ssm.smoothing import smooth
from ssad_models.views import pixels

PASSES = 2
"""Of the released code."""

# Of the released code, which has one size of images: a pixel looks normal whose score is below
# -0.96 of 255 levels. Scores are -0.75...0.25 times the sum of the weights of cells.
_SEED, _SHARE = 8, 0.8
_LEVEL = -0.96 / 255 / sum((cell / 128) ** 2 for cell in (2, 4, 8))
_VALUES = 3 << 20
"""Of a feature map of full size, over all masks shown to the network at once: what a CPU's caches
hold. Elsewhere it is but a bound of memory, 16 times as high."""
_SIDE = 256
"""Of the images for which `sigma` of "progressive" is meant."""


class SsmDetector(nn.Module):
    """A trained network: images to scores and heat maps.

    Args:
        network: Trained; it is put in evaluation mode.
        recipe: Its settings of inference.
    """

    low: torch.Tensor
    high: torch.Tensor
    tau: torch.Tensor

    def __init__(self, network: ConditionalUNet, recipe: SsmRecipe) -> None:
        super().__init__()
        self.network, self.recipe = network, recipe
        # Of normal images that it was not trained on, see `learn_normal`.
        self.register_buffer("low", torch.zeros(2))
        self.register_buffer("high", torch.ones(2))
        self.register_buffer("tau", torch.zeros(len(recipe.cells)))
        self.eval()

    def check_exportable(self) -> None:
        """Raise for any image.

        Raises:
            ValueError: Always.
        """
        msg = "export: models of ssm cannot be exported: what they look at depends on what they saw"
        raise ValueError(msg)

    @torch.no_grad()
    def learn_normal(self, images: torch.Tensor, batch_size: int) -> None:
        """Find the scale of scores, and the errors at which cells look normal.

        The released code scales both parts of the score to 0..1 on its test set; here normal images
        do, so that the score of one image does not depend on others.

        Args:
            images: (N, C, S, S) uint8 or float 0..1, N at least 1, best such as it was not trained
                on.
            batch_size: How many to look at together.
        """
        device = self.tau.device
        if self.recipe.inference == "progressive":
            found = []
            for batch in images.split(batch_size):
                shown = pixels(batch.to(device))
                masks = self._boards(shown)
                repeated = shown.repeat_interleave(masks.shape[1], 0)
                errors = self._errors_of(repeated, masks.flatten(0, 1)[:, None]).view(masks.shape)
                # Each pixel is hidden in one of the two masks of its cells.
                found.append((errors * ~masks).unflatten(1, (-1, 2)).sum(2))
            for i, cell in enumerate(self.recipe.cells):
                whole = torch.cat([errors[:, i] for errors in found])
                means = nn.functional.avg_pool2d(whole, cell).flatten()
                self.tau[i] = means.sort().values[int(self.recipe.quantile * (len(means) - 1))]
            return
        parts = [_parts(*self.released(batch.to(device))) for batch in images.split(batch_size)]
        self.low, self.high = torch.cat(parts).aminmax(dim=0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, C, S, S) uint8 or float 0..1 -> (N,) float32."""
        return self.look(images)[0]

    def score_and_heat(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same images -> scores, and maps (N, 1, S, S)."""
        return self.look(images)

    def look(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What `score_and_heat` returns; heat is 0 where an image is restored perfectly."""
        if self.recipe.inference == "progressive":
            heat, _ = self.progressive(images)
            return heat.amax((1, 2, 3)), heat
        heat, distance = self.released(images)
        spread = (self.high - self.low).clamp_min(1e-12)
        score = ((_parts(heat, distance) - self.low) / spread).sum(1)
        perfect = (1 / SCALES - 1) * sum(self._areas(images.shape[-1]))
        return score, (heat - perfect).clamp_min(0)

    @torch.no_grad()
    def released(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As the released code does it: for each size of cells each third hidden once; then again.

        The second time the largest cells are visible of which most pixels looked normal the first.
        Scores are weighted by the area of a cell, and those of what is restored perfectly are
        negative, as there. The masks of a pass go in batches.

        Args:
            images: (N, C, S, S) uint8 or float 0..1.

        Returns:
            Heat (N, 1, S, S), and squared errors (N,), means over pixels added up over cells.
        """
        images = pixels(images)
        n, sizes, side = len(images), len(self.recipe.cells), images.shape[-1]
        areas = self._areas(side)
        weights, level = images.new_tensor(areas), _LEVEL * sum(areas)
        heat = images.new_zeros(())
        distance = images.new_zeros(n)
        for number in range(PASSES):
            masks = self._thirds(images, number)
            if number > 0:
                masks, _ = refine_cells(
                    heat, masks, max(self.recipe.cells), threshold=level, share=_SHARE
                )
            repeated = images.repeat_interleave(sizes, 0)
            restored = self._restore(repeated, masks.view(n * sizes, -1, side, side))
            similar = gms_map(restored, repeated, scales=SCALES).view(n, sizes, side, side)
            heat = ((1 / SCALES - similar) * weights[:, None, None]).sum(1, keepdim=True)
            heat = smooth(heat, self.recipe.sigma, rows_only=self.recipe.compat == "reference")
            squares = (restored - repeated).square().mean((1, 2, 3))
            distance = squares.view(n, sizes).sum(1)
        return heat, distance

    @torch.no_grad()
    def progressive(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As the paper has it: hide half of the cells, uncover those that look normal, again.

        Each image and mask stops by itself, when no further cell looks normal. What the paper
        leaves open is ours: the number of passes, the threshold, the smoothing.

        Args:
            images: (N, C, S, S) uint8 or float 0..1.

        Returns:
            Heat (N, 1, S, S), and how often the image was looked at with each of M masks, (N, M)
            int64.
        """
        images = pixels(images)
        n, side = len(images), images.shape[-1]
        masks = self._boards(images).flatten(0, 1)
        count = len(masks) // n
        cells = torch.tensor(self.recipe.cells, device=images.device)
        cells = cells.repeat_interleave(2).repeat(n)
        limits = self.tau.repeat_interleave(2).repeat(n)
        source = torch.arange(n, device=images.device).repeat_interleave(count)
        errors = torch.zeros_like(masks, dtype=images.dtype)
        rounds = torch.zeros(len(masks), dtype=torch.int64, device=images.device)
        active = torch.arange(len(masks), device=images.device)
        for _ in range(self.recipe.passes):
            if not len(active):
                break
            before = masks[active][:, None]
            found = self._errors_of(images[source[active]], before)
            after, left = refine_cells(
                found[:, None], before, cells[active], threshold=limits[active]
            )
            masks[active] = after[:, 0]
            errors[active] = found * ~after[:, 0]
            rounds[active] += 1
            active = active[(after != before).flatten(1).any(1) & (left > 0)]
        heat = errors.view(n, count, side, side).mean(1, keepdim=True)
        return heat, rounds.view(n, count)

    def _areas(self, side: int) -> list[float]:
        """Of the cells, in parts of an image of this side."""
        return [(cell / side) ** 2 for cell in self.recipe.cells]

    def _thirds(self, images: torch.Tensor, number: int) -> torch.Tensor:
        """Masks (N, sizes * parts, S, S) bool of a pass, the same for all images."""
        n, side = len(images), images.shape[-1]
        keys = make_keys(_SEED + number, 0, 0, device=images.device)
        parts = self.recipe.parts
        masks = [cell_masks(keys, side, cell, parts=parts) for cell in self.recipe.cells]
        return torch.cat(masks, 1).expand(n, -1, -1, -1).contiguous()

    def _boards(self, images: torch.Tensor) -> torch.Tensor:
        """Masks (N, sizes * 2, S, S) bool: for each size a chess board and its complement."""
        n, side = len(images), images.shape[-1]
        keys = make_keys(_SEED, 0, 0, device=images.device)
        cells = self.recipe.cells
        masks = [cell_masks(keys, side, cell, parts=2, kind="checkerboard") for cell in cells]
        return torch.cat(masks, 1).expand(n, -1, -1, -1).contiguous()

    def _restore(self, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """(M, C, S, S) and masks (M, P, S, S) bool -> (M, C, S, S), each pixel as guessed."""
        limit = _VALUES if images.device.type == "cpu" else 16 * _VALUES
        count = max(1, limit // (masks[0].numel() * self.network.width))
        parts = []
        for some, behind in zip(images.split(count), masks.split(count), strict=True):
            outputs, _ = restore(self.network, some, behind)
            parts.append(composite(outputs, behind, some))
        return torch.cat(parts)

    def _errors_of(self, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """(M, C, S, S) and masks (M, 1, S, S) bool -> smoothed errors (M, S, S)."""
        restored = self._restore(images, masks)
        errors = 1 - gms_map(restored, images, scales=SCALES)
        return smooth(errors, self.recipe.sigma * images.shape[-1] / _SIDE)[:, 0]


def _parts(heat: torch.Tensor, distance: torch.Tensor) -> torch.Tensor:
    """What the released score is made of: the highest heat, and the squared errors, (N, 2)."""
    return torch.stack([heat.amax((1, 2, 3)), distance], 1)
