# SPDX-License-Identifier: Apache-2.0
"""torch.compile: public functions and transforms are one graph, with the results of eager calls."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import ssad_kernels
from ssad_kernels import testing
from ssad_kernels.transforms import (
    FPI,
    NSA,
    CellMasking,
    Confetti,
    Cutout,
    CutPaste,
    CutPaste3Way,
    HardCutPaste,
    PerlinAnomaly,
)


def _compiled_cut_paste(images: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
    law = ssad_kernels.CutPasteLaw(p=0.8)
    height, width = images.shape[2:]
    params = ssad_kernels.sample_cut_paste(keys, height, width, law, stream=3)
    pasted, masks, status = ssad_kernels.cut_paste(images, params, return_status=True)
    keyed, keyed_masks = ssad_kernels.cut_paste_keyed_(images.clone(), keys, law, stream=4)
    return pasted, masks, status, keyed, keyed_masks, ssad_kernels.philox(keys, 1, 6)


def _compiled_in_place(images: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
    batch = images + 0
    params = ssad_kernels.CutPasteParams.of(
        torch.tensor([[1, 1, 4, 5]]).expand(len(keys), 4), torch.zeros(len(keys), 2).long()
    )
    return ssad_kernels.cut_paste_(batch, params)


def _compiled_blending(images: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
    source, place = images[:, :, 2:14, 5:17], keys[:, 1:] * 0 + 3
    mask = source[:, 0] > 60
    blended, status = ssad_kernels.poisson_blend(
        images, source, mask, place, gradient="mixed", source_gain=1.5, return_status=True
    )
    moved = ssad_kernels.poisson_blend_(images + 0, source, None, place, region="rect")
    return blended, status, moved


def _compiled_nsa(images: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
    law = ssad_kernels.NsaLaw(size="uniform", shape="ellipses", object_share=0.3)
    masks = images[:, :1] > 90
    height, width = images.shape[2:]
    options = {"source_masks": masks, "target_masks": masks}
    params = ssad_kernels.sample_nsa(keys, height, width, law, stream=3, **options)
    region, shapes = ssad_kernels.nsa_regions(params, height, width, **options)
    style = ssad_kernels.NsaStyle("mixed", background=(100.0, 50.0))
    keyed = ssad_kernels.nsa_keyed(images, keys, law, style, stream=4)
    return (*params, region, shapes, *keyed)


def _compiled_nsa_transforms(images: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
    transform = NSA(bank=images, gradient="mix", return_status=True)
    return transform(images, keys) + FPI()(images, keys)


def _compiled_perlin(images: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
    cells = 1 + keys[:, 1:] * 0
    noise = ssad_kernels.perlin_noise(keys, images.shape[2:], cells + 2, stream=3)
    foreground = images[:, :1] > 30
    mixed = PerlinAnomaly(bank=images.flip(0), return_status=True)(
        images, keys, foreground=foreground
    )
    return (noise, *mixed, *PerlinAnomaly(source="structure")(images, keys))


def _compiled_transforms(images: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
    results = CutPaste(rotation=(-9, 9))(images, keys), CutPaste3Way()(images, keys)
    others = Cutout(fill="random")(images, keys), Confetti((1, 2))(images, keys)
    hard = (HardCutPaste()(images, keys),)
    return tuple(tensor for result in results + others + hard for tensor in result)


def _compiled_masking(images: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
    inputs, masks, target = CellMasking()(images, keys)
    pair = ssad_kernels.cell_masks(
        keys, (images.shape[2], images.shape[3]), 4, parts=2, kind="checkerboard"
    )
    composed = ssad_kernels.composite(inputs.float(), masks[:, :, 0], target.float())
    refined = ssad_kernels.refine_cells(composed[:, :1], pair, 4, threshold=90.0, share=0.5)
    return inputs, masks, target, composed, *refined


@pytest.mark.parametrize(
    ("function", "heights"),
    [
        (_compiled_cut_paste, (24, 31)),
        (_compiled_in_place, (24, 31)),
        (_compiled_blending, (24, 31)),
        (_compiled_masking, (24, 31)),
        (_compiled_nsa, (24, 31)),
        (_compiled_nsa_transforms, (24,)),
        (_compiled_perlin, (24, 31)),
        (_compiled_transforms, (24,)),  # large graphs
    ],
)
def test_public_functions_compile_to_one_graph(
    function: Callable[..., tuple[Tensor, ...]], heights: tuple[int, ...]
):
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for n, height in enumerate(heights, start=3):
        images = testing.make_images(n, 3, height, 28)
        keys = ssad_kernels.make_keys(1, 0, torch.arange(n))
        for got, want in zip(compiled(images, keys), function(images, keys), strict=True):
            assert torch.equal(got, want)


def _poisson_loss(target: Tensor, source: Tensor, mask: Tensor, top_left: Tensor) -> Tensor:
    out = ssad_kernels.poisson_blend(
        target, source, mask, top_left, gradient="mixed", source_gain=0.9
    )
    moved = ssad_kernels.poisson_blend_(
        out.detach() * 1.0, source.detach(), None, top_left, region="rect"
    )
    return out.square().sum() + moved.sum()


def _alpha_loss(target: Tensor, source: Tensor, mask: Tensor, top_left: Tensor) -> Tensor:
    out = ssad_kernels.alpha_blend(target, source, mask, top_left, alpha=0.9)
    moved = ssad_kernels.alpha_blend_(out.detach() * 1.0, source.detach(), None, top_left)
    return out.square().sum() + moved.sum()


@pytest.mark.parametrize("loss", [_poisson_loss, _alpha_loss])
def test_blending_compiles_to_one_graph_with_its_gradient(loss: Callable[..., Tensor]):
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    problem = testing.make_blend(n=3)
    results = []
    for function in (loss, compiled):
        leaves = [problem[name].clone().requires_grad_() for name in ("target", "source")]
        value = function(*leaves, problem["mask"], problem["top_left"])
        value.backward()
        results.append((value.detach(), *(leaf.grad for leaf in leaves)))
    torch.testing.assert_close(results[1], results[0])
