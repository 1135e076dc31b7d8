# SPDX-License-Identifier: Apache-2.0
"""A step of each method as published on a GPU that need not be there: nothing goes to the host."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gpu_trace import WAITING
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from training_steps import loss_of, make_module, make_recipe

if not torch.backends.cuda.is_built():
    pytest.skip("this torch knows no CUDA tensors", allow_module_level=True)


class OnTheDevice(TorchDispatchMode):
    """Fails for what reads a value on the host, or has a tensor there; notes the library's ops."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self.ours: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, results)) if isinstance(x, Tensor)]
        assert func.overloadpacket not in WAITING, func
        assert all(x.device.type == self.device for x in tensors), func
        if func.namespace == "ssad_kernels":
            self.ours.add(func.overloadpacket.__name__)
        return results


def fake(value: Tensor) -> Tensor:
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="cuda")


def move(module: nn.Module) -> None:
    """Replace parameters and buffers by fake ones, which `Module.to` cannot."""
    for layer in module.modules():
        for name, weight in layer._parameters.items():
            if weight is not None:
                layer._parameters[name] = nn.Parameter(fake(weight), weight.requires_grad)
        for name, value in layer._buffers.items():
            if value is not None:
                layer._buffers[name] = fake(value)


CUTPASTE = {"philox", "cut_paste_keyed_"}
NSA = {"philox", "sample_nsa", "nsa_regions", "poisson_blend_", "difference_label"}
FPI = {"philox", "sample_nsa", "nsa_regions", "alpha_blend_", "difference_label"}


SSM = {"philox", "cell_masks", "mask_images", "composite", "gms_loss", "ssim_map"}


METHODS: list[tuple[str, list[str], str | None, set[str]]] = [
    ("cutpaste", [], None, CUTPASTE),
    ("nsa", [], "carpet", NSA),
    ("fpi", [], "carpet", FPI),
    ("cutpaste-lite0", ["weights=random"], None, CUTPASTE),
    ("cutpaste-patch", [], "carpet", CUTPASTE),
    ("nsa-cxr", [], None, NSA | {"object_mask"}),
    ("pii", [], "carpet", NSA),
    ("ssm", [], None, SSM),
]


@pytest.mark.parametrize(("name", "overrides", "category", "ops"), METHODS)
def test_a_step_stays_on_the_gpu(
    name: str, overrides: list[str], category: str | None, ops: set[str]
) -> None:
    """All but the backward pass, which torch runs for CUDA tensors where there is a driver."""
    recipe = make_recipe(name, *overrides, category=category)
    module = make_module(recipe)
    with FakeTensorMode(), torch.device("cuda"):
        move(module)
        images = torch.empty(4, recipe.channels, recipe.size, recipe.size, dtype=torch.uint8)
        samples = torch.empty(4, dtype=torch.int64)
        optimizer = module.configure_optimizers()["optimizer"]
        with OnTheDevice("cuda") as mode:
            loss = loss_of(module, images, samples)
            for weight in module.parameters():
                weight.grad = torch.empty_like(weight) if weight.requires_grad else None
            optimizer.step()
        assert loss.shape == ()
    assert mode.ours == ops


@pytest.mark.parametrize(("name", "overrides", "category", "ops"), METHODS[:3])
def test_a_backward_pass_never_waits(
    name: str, overrides: list[str], category: str | None, ops: set[str]
) -> None:
    """On tensors without memory, of a device that is not the CPU."""
    recipe = make_recipe(name, *overrides, category=category)
    module = make_module(recipe).to("meta")
    with torch.device("meta"):
        images = torch.empty(4, recipe.channels, recipe.size, recipe.size, dtype=torch.uint8)
        samples = torch.empty(4, dtype=torch.int64)
        with OnTheDevice("meta") as mode:
            loss_of(module, images, samples).backward()
    learning = [p for p in module.parameters() if p.grad is not None]
    assert learning
    assert all(p.grad.device.type == "meta" for p in learning)
    assert mode.ours == ops


@pytest.mark.parametrize("step", [0, 5], ids=["maps", "detector"])
def test_adversaries_stay_on_the_gpu(step: int) -> None:
    """Both trainings of AnoSeg, whose optimisers take turns."""
    recipe = make_recipe("anoseg", "epochs=5")
    module = make_module(recipe)
    module.first_step = step
    with FakeTensorMode(), torch.device("cuda"):
        move(module)
        images = torch.empty(4, recipe.channels, recipe.size, recipe.size, dtype=torch.uint8)
        keys = torch.empty(4, 3, dtype=torch.int64)
        with OnTheDevice("cuda") as mode:
            inputs, maps = module.synthesize(images, keys)
            losses = dict(module.losses(inputs / 255, maps.float()))
    assert set(losses) == ({"critic", "restorer"} if step else {"judge", "network"})
    assert all(loss.shape == () for loss in losses.values())
    assert mode.ours == {"cut_paste_keyed_"}
