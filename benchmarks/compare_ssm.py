# SPDX-License-Identifier: Apache-2.0
"""What SSM's inference costs: ``python benchmarks/compare_ssm.py [--model MODEL]``, one thread.

First as released: the masks of a pass in batches, against a forward pass for each mask, as the
released code does it, with the same weights; once in our layers, once in those of the released
code. Then the progressive loop: its cost, and after how many rounds images and masks stop; that
means something for a trained network only, so give one (thresholds are found on half of the test
set's normal images).
"""

from __future__ import annotations

import argparse
import copy
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ssad_kernels import cell_masks, gms_map, make_keys
from ssad_models.data.builtin import test_set
from ssad_models.model_file import load
from ssad_models.recipe import load_recipe
from ssad_models.ssm.inference import SsmDetector
from ssad_models.ssm.method import SsmMethod
from ssad_models.ssm.network import ConditionalUNet
from ssad_models.ssm.recipe import SsmRecipe
from ssad_models.ssm.smoothing import smooth


class AsReleased(nn.Module):
    """The network in the order of the released code: pixels are repeated before the convolution."""

    def __init__(self, network: ConditionalUNet) -> None:
        super().__init__()
        # The released code knows nothing of channels last.
        self.net = copy.deepcopy(network).to(memory_format=torch.contiguous_format)

    def forward(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """See `ConditionalUNet`."""
        maps = [self.net.first(images)]
        for down in self.net.down:
            maps.append(down(maps[-1]))
        x = self.net.attention[0](maps.pop(), masks)
        for up, attention in zip(self.net.up, self.net.attention[1:], strict=True):
            large = up.narrow(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))
            x = attention(up.convolutions(torch.cat([large, maps.pop()], 1)), masks)
        found = self.net.last(x).tanh()
        return found[:, :-1], found[:, -1:]


@torch.no_grad()
def one_by_one(detector: SsmDetector, network: nn.Module, image: Tensor) -> Tensor:
    """The released loop over passes, sizes of cells and masks: (C, S, S) -> heat (S, S)."""
    side, cells = image.shape[-1], detector.recipe.cells
    normal, score = torch.zeros(side, side, dtype=torch.bool), torch.zeros(side, side)
    # As published for the images and cells that are published, whose areas add up to these.
    published = sum((cell / 128) ** 2 for cell in (2, 4, 8))
    limit = -0.96 / 255 / published * sum((cell / side) ** 2 for cell in cells)
    for number in range(2):
        score = torch.zeros(side, side)
        for cell in cells:
            restored = torch.zeros_like(image)
            for mask in cell_masks(make_keys(8 + number, 0, 0), side, cell)[0]:
                visible = (mask | normal).float()
                output, _ = network((image * visible)[None], visible[None, None])
                restored += output[0] * (1 - visible)
            restored = torch.where(restored == 0, image, restored)
            score += (0.25 - gms_map(restored[None], image[None])[0, 0]) * (cell / side) ** 2
        score = smooth(score[None, None], detector.recipe.sigma)[0, 0]
        if number == 0:
            block = max(cells)
            low = (score < limit).float()
            share = low.view(side // block, block, side // block, block).mean((1, 3))
            normal = (share > 0.8).repeat_interleave(block, 0).repeat_interleave(block, 1)
    return score


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and the result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def peak() -> float:
    """The most memory that this process has held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a model file of SSM; default: random weights at 128 px")
    parser.add_argument("--category", default="brick", help="of the built-in photographs")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if options.model is None:
        recipe = load_recipe("ssm-oct")
        assert isinstance(recipe, SsmRecipe)
        detector = SsmMethod().blank(recipe)
    else:
        found = load(options.model).detector
        assert isinstance(found, SsmDetector)
        detector = found
    recipe = detector.recipe
    test = test_set(options.category, 2)
    images = test.images[:, :, : recipe.size, : recipe.size].expand(-1, recipe.channels, -1, -1)
    floats = images.float() / 255
    print(f"network_width {recipe.network_width:g}, {recipe.size} px, one thread")

    before = peak()
    single = floats[:1]
    detector.released(single)
    batched = peak() - before
    scale = 0.75 * sum((cell / recipe.size) ** 2 for cell in recipe.cells)
    passes = 2 * len(recipe.cells) * recipe.parts
    peers = {"our": detector.network, "the released": AsReleased(detector.network)}
    for layers, network in peers.items():
        ratios, ours, difference = [], [], 0.0
        for _ in range(options.rounds):
            own, found = timed(lambda: detector.released(single)[0][0, 0])
            theirs, heat = timed(lambda network=network: one_by_one(detector, network, single[0]))
            ratios.append(theirs / own)
            ours.append(own)
            difference = max(difference, float((found - heat).abs().max()))
        print(
            f"as released: {statistics.median(ours):.3f} s an image, "
            f"{statistics.median(ratios):.2f} times as fast as {passes} single passes of {layers} "
            f"layers, largest difference {difference / scale:.1e} of the range of maps"
        )
    print(f"as released: {batched:.0f} MiB more memory")

    normal = floats[~test.labels]
    half = len(normal) // 2
    progressive = SsmDetector(detector.network, replace(recipe, inference="progressive"))
    progressive.learn_normal(normal[:half], 4)
    for name, several in (("normal", normal[half:]), ("anomalous", floats[test.labels][:half])):
        seconds, rounds = timed(lambda several=several: progressive.progressive(several)[1])
        rounds = rounds.flatten()
        counts = [int((rounds == number).sum()) for number in range(1, recipe.passes + 1)]
        print(
            f"progressive, {len(several)} {name} images: {seconds / len(several):.3f} s an image, "
            f"{rounds.float().mean():.2f} rounds a mask on average (of 1 to {recipe.passes}: "
            f"{', '.join(map(str, counts))})"
        )


if __name__ == "__main__":
    main()
