# SPDX-License-Identifier: Apache-2.0
"""What the Triton kernels of NSA promise beyond the samples of their ops."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch

import ssad_kernels as sk
from ssad_kernels import NsaLaw
from ssad_kernels.nsa_law import pack_law
from ssad_kernels.testing import make_objects, samples, tolerance

if os.environ.get("TRITON_INTERPRET") != "1":
    reason = "Triton kernels run on CPU tensors only with TRITON_INTERPRET=1"
    pytest.skip(reason, allow_module_level=True)
masks = pytest.importorskip("ssad_kernels.triton.nsa_masks")
nsa_sample = pytest.importorskip("ssad_kernels.triton.nsa_sample")

LAW = NsaLaw(
    shape="ellipses", size="uniform", height=(0.2, 0.4), width=(0.2, 0.4), patches=2,
    object_share=0.15, overlap=0.1, resize=(0.7, 1.3), proposals=20,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    # The interpreter computes with NumPy, which warns where infinity meets infinity.
    with np.errstate(invalid="ignore"):
        yield


@pytest.mark.parametrize("is_reference", [False, True])
def test_patches_need_several_tiles(is_reference: bool) -> None:
    height, width = 2 * masks.ROWS.value + 20, 2 * masks.COLUMNS.value + 30
    law = LAW._replace(is_reference=is_reference, resize=None)
    keys = sk.make_keys(1, 0, torch.arange(2))
    objects = make_objects(4, height, width, (0.6, 0.9))
    arguments = (keys, 4, height, width, -1, objects[:2], objects[2:], pack_law("test", law))
    outcomes = []
    for backend in ("reference", "triton"):
        with sk.use_backend(backend):
            params = torch.ops.ssad_kernels.sample_nsa(*arguments)
            region, paste = torch.ops.ssad_kernels.nsa_regions(
                *params[:5], height, width, 170, *arguments[5:7], is_reference, False
            )
        outcomes.append((*params, region, paste))
    expected, found = outcomes
    assert all(map(torch.equal, found, expected))
    boxes = expected[2][expected[4]]
    assert (boxes[:, 2] > masks.ROWS.value).any()
    assert (boxes[:, 3] > masks.COLUMNS.value).any()


def test_proposals_are_looked_at_in_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows and places beyond the first block of them are taken, and the first that suits."""
    monkeypatch.setattr(nsa_sample, "_BLOCK", 8)
    monkeypatch.setattr(nsa_sample, "_PLACES", 4)
    law = NsaLaw(height=(0.1, 0.15), width=(0.1, 0.15), patches=2, object_share=0.5, overlap=0.5)
    keys = sk.make_keys(3, 0, torch.arange(10))  # the first kernel needs two programs
    objects = make_objects(20, 60, 60, (0.25, 0.6))
    arguments = (keys, 4, 60, 60, -1, objects[:10], objects[10:], pack_law("test", law))
    expected = torch.ops.ssad_kernels.sample_nsa(*arguments)
    with sk.use_backend("triton"):
        found = torch.ops.ssad_kernels.sample_nsa(*arguments)
    assert all(map(torch.equal, found, expected))
    short = pack_law("test", law._replace(proposals=8))
    few = torch.ops.ssad_kernels.sample_nsa(*arguments[:-1], short)
    assert expected[4].sum() > few[4].sum()  # some patches have needed more than eight


def test_objects_are_bytes_that_are_not_zero() -> None:
    objects = make_objects(8, 48, 40, (0.6, 0.7))
    odd = (objects.byte() * 6).view(torch.bool)
    law = pack_law("test", NsaLaw(object_share=0.5, overlap=0.5, patches=2))
    keys = sk.make_keys(3, 0, torch.arange(4))
    with sk.use_backend("triton"):
        for found, expected in zip(
            torch.ops.ssad_kernels.sample_nsa(keys, 4, 48, 40, -1, odd[:4], odd[4:], law),
            torch.ops.ssad_kernels.sample_nsa(keys, 4, 48, 40, -1, objects[:4], objects[4:], law),
            strict=True,
        ):
            assert torch.equal(found, expected)


@pytest.mark.parametrize("name", ["uniform", "swap", "masks"])
def test_keyed_samples_that_are_mixed(name: str) -> None:
    """Of samples that are blended by a solver, see the tests of `poisson_blend_`."""
    arguments = samples("nsa_keyed")[name]
    expected = torch.ops.ssad_kernels.nsa_keyed(*arguments)
    with sk.use_backend("triton"):
        out, label, status = torch.ops.ssad_kernels.nsa_keyed(*arguments)
    assert torch.equal(status, expected[2])
    difference = (out.double() - expected[0].double()).abs().max()
    assert difference <= tolerance("alpha_blend", out.dtype)
    assert (label - expected[1]).abs().max() <= tolerance("difference_label", label.dtype)
