# SPDX-License-Identifier: Apache-2.0
"""Receptive fields, against published tables and against gradients."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssad_kernels import ReceptiveField, receptive_field


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
    return [layer, nn.BatchNorm2d(outputs), nn.ReLU()]


def vgg11_cut() -> nn.Module:
    """VGG-11-BN up to its sixth convolution, with a 1 x 1 head: FCDD's default."""
    pool = nn.MaxPool2d(2, 2)
    layers = [*conv(3, 8), pool, *conv(8, 8), pool, *conv(8, 8), *conv(8, 8), pool]
    return nn.Sequential(*layers, *conv(8, 8), *conv(8, 8), nn.Conv2d(8, 1, 1))


def cnn224() -> nn.Module:
    """FCDD's light network: pools of three pixels that overlap."""
    pool = nn.MaxPool2d(3, 2, 1)
    layers = [*conv(3, 4, 5), pool, *conv(4, 4, 5), pool, *conv(4, 4), *conv(4, 4), pool]
    return nn.Sequential(*layers, *conv(4, 4), nn.Conv2d(4, 1, 1))


@pytest.mark.parametrize(
    ("build", "expected"),
    [(vgg11_cut, ReceptiveField(62, 8, 3.5)), (cnn224, ReceptiveField(59, 8, 0.0))],
)
def test_tables_of_fcdd(build, expected):
    module = build()
    assert module(torch.zeros(2, 3, 224, 224)).shape[2:] == (28, 28)
    assert receptive_field(module.eval()) == expected


def test_windows_without_padding():
    """The 57 x 57 windows of 32 pixels of CutPaste's patch model."""
    field = receptive_field(nn.Sequential(nn.Conv2d(3, 4, 8, 4), nn.Conv2d(4, 4, 7), nn.ReLU()))
    assert field == ReceptiveField(32, 4, 15.5)


class Block(nn.Module):
    """As torchvision writes residual blocks."""

    def __init__(self, inputs: int, outputs: int, stride: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.LeakyReLU(inplace=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.relu(self.bn1(self.conv1(x))))
        out += x if self.downsample is None else self.downsample(x)
        return functional.leaky_relu(out)


class Functional(nn.Module):
    """Layers as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 2, 3, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.pad(x, (1, 2, 0, 3))
        x = functional.conv2d(x, self.weight, None, (2, 1), (1, 2), dilation=2)
        return functional.avg_pool2d(functional.max_pool2d(x.tanh(), 3, stride=1), (1, 2))


class Padded(nn.Module):
    """Branches whose middles differ."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Conv2d(2, 2, 4, padding="same", dilation=2)
        self.pool = nn.Sequential(nn.ZeroPad2d((0, 2, 2, 0)), nn.AvgPool2d(3, 1))
        self.dilated = nn.Conv2d(2, 2, 3, padding=2, dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.same(x), self.pool(x).tanh() + self.dilated(x) * 0.5], 1)


def random_network(seed: int) -> nn.Module:
    """A chain of layers drawn at random; convolutions of two channels."""
    draw = random.Random(seed)
    layers: list[nn.Module] = []
    strides = 1
    for _ in range(draw.randint(2, 5)):
        stride = draw.choice([1, 1, 2, (1, 2), 3]) if strides < 6 else 1
        strides *= stride if isinstance(stride, int) else 2
        kernel = (draw.randint(1, 5), draw.randint(1, 5))
        padding = (draw.randint(0, kernel[0] // 2), draw.randint(0, kernel[1] // 2))
        dilation = draw.choice([1, 1, 2, (1, 3)])
        kind = draw.choice(["conv", "conv", "average", "maximum", "block"])
        if kind == "conv":
            layers += [nn.Conv2d(2, 2, kernel, stride, padding, dilation), nn.Softplus()]
        elif kind == "average":
            layers.append(nn.AvgPool2d(kernel, stride, padding))
        elif kind == "maximum":
            layers.append(nn.MaxPool2d(kernel, stride, padding))
        else:
            layers.append(Block(2, 2, 1 if isinstance(stride, tuple) else stride))
    return nn.Sequential(*layers)


def pair(value: float | tuple[float, float]) -> tuple[float, float]:
    return value if isinstance(value, tuple) else (value, value)


def gradient_support(module: nn.Module, side: int) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """The first and last pixel, of each axis, that the middle feature depends on; its place."""
    images = torch.randn(48, 2, side, side, dtype=torch.float64, requires_grad=True)
    features = module.double().eval()(images)
    v, u = features.shape[2] // 2, features.shape[3] // 2
    (gradient,) = torch.autograd.grad(features[:, :, v, u].abs().sum(), images)
    seen = gradient.ne(0).any(0).any(0)
    ends = []
    for dim in (1, 0):
        places = seen.any(dim).nonzero().flatten()
        ends.append((int(places[0]), int(places[-1])))
    return ends, (v, u)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{f"random-{seed}": lambda seed=seed: random_network(seed) for seed in range(24)},
    "functional": Functional,
    "padded": Padded,
    "residual": lambda: nn.Sequential(Block(2, 4, 2), Block(4, 4, 1), Block(4, 2, 1, dilation=2)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_exactly_the_field(name):
    module = NETWORKS[name]()
    field = receptive_field(module.eval())
    ends, feature = gradient_support(module, 96)
    rows = zip(ends, feature, pair(field.size), pair(field.stride), pair(field.offset), strict=True)
    for (first, last), index, size, stride, offset in rows:
        middle = offset + stride * index
        low, high = middle - (size - 1) / 2, middle + (size - 1) / 2
        assert (first, last) == (max(low, 0), min(high, 95))


def test_the_module_stays_as_it_is():
    module = nn.Sequential(vgg11_cut().eval(), nn.Dropout().train())
    before = {name: value.clone() for name, value in module.state_dict().items()}
    receptive_field(module)
    assert module[1].training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_networks_of_torchvision():
    models = pytest.importorskip("torchvision.models")
    resnet = models.resnet18().eval()
    layers = [resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool]
    assert receptive_field(nn.Sequential(*layers)) == ReceptiveField(11, 4, 0.0)
    layers += [resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4]
    assert receptive_field(nn.Sequential(*layers)) == ReceptiveField(435, 32, 0.0)
    vgg = models.vgg11_bn().eval()
    assert receptive_field(vgg.features[:21]) == ReceptiveField(62, 8, 3.5)


class Tuple(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Sizes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, : x.shape[2] // 2]


class Unequal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.MaxPool2d(2), nn.MaxPool2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) + self.b(x)


class Applied(nn.Module):
    """A function, with a buffer."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("ones", torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.ones)


UNREADABLE = "receptive_field: `module` must be made of layers whose field can be read, got "


@pytest.mark.parametrize(
    ("module", "error", "text"),
    [
        (
            "resnet18",
            TypeError,
            "receptive_field: `module` must be a torch.nn.Module, got str",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.AdaptiveAvgPool2d(1))),
            ValueError,
            f"{UNREADABLE}`1.0` (AdaptiveAvgPool2d)",
        ),
        (nn.ConvTranspose2d(1, 1, 2), ValueError, f"{UNREADABLE}`module` (ConvTranspose2d)"),
        (Sizes(), ValueError, f"{UNREADABLE}getattr at `getattr_1`"),
        (
            Tuple(),
            ValueError,
            "receptive_field: `module` must return one feature map, got (input_1, input_1)",
        ),
        (
            Unequal(),
            ValueError,
            "receptive_field: `module` must join branches of one stride, got [2, 4] at `add`",
        ),
    ],
)
def test_errors(module, error, text):
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        receptive_field(module)


BATCH = "with the statistics of the batch, as in training mode"


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.BatchNorm2d(2), f"`0` (BatchNorm2d) {BATCH}"),
        (nn.BatchNorm2d(2, track_running_stats=False).eval(), f"`0` (BatchNorm2d) {BATCH}"),
        (nn.SyncBatchNorm(2), f"`0` (SyncBatchNorm) {BATCH}"),
        (
            nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"),
            "`0` (Conv2d) with circular padding",
        ),
        (nn.CircularPad2d(1), "`0` (CircularPad2d)"),
        (nn.MaxPool2d(2, return_indices=True), "`0` (MaxPool2d) with return_indices"),
        (
            Applied(lambda x, ones: functional.batch_norm(x, ones, ones, training=True)),
            f"batch_norm at `batch_norm` {BATCH}",
        ),
        (
            Applied(lambda x, ones: functional.batch_norm(x, ones, ones, None, None, True)),
            f"batch_norm at `batch_norm` {BATCH}",
        ),
        (
            Applied(lambda x, _: functional.pad(x, (1, 1, 1, 1), "circular")),
            "pad at `pad` with circular padding",
        ),
        (
            Applied(lambda x, _: functional.pad(x, (1, 1, 1, 1), mode="circular")),
            "pad at `pad` with circular padding",
        ),
        (
            Applied(lambda x, _: torch.cat([x, x], 2)),
            "cat at `cat` along dimension 2, not the channels",
        ),
        (
            Applied(lambda x, _: torch.cat([x, x], dim=-1)),
            "cat at `cat` along dimension -1, not the channels",
        ),
        (
            Applied(lambda x, _: torch.cat([x, x])),
            "cat at `cat` along dimension 0, not the channels",
        ),
    ],
)
def test_layers_that_would_be_misread_are_named(layer, text):
    with pytest.raises(ValueError, match=f"^{re.escape(UNREADABLE + text)}$"):
        receptive_field(nn.Sequential(layer))


def test_layers_like_those_that_would_be_misread():
    for function in (
        lambda x, ones: functional.batch_norm(x, ones, ones),
        lambda x, _: functional.pad(x, (0, 0, 0, 0), "reflect"),
        lambda x, _: torch.cat([x, x], 1),
        lambda x, _: torch.cat((x, x), dim=-3),
    ):
        assert receptive_field(Applied(function)) == ReceptiveField(1, 1, 0.0)


def test_what_depends_on_its_input_cannot_be_traced():
    text = "receptive_field: `module` must be traceable by torch.fx, got TraceError: "
    with pytest.raises(ValueError, match=f"^{re.escape(text)}"):
        receptive_field(Branching())


def test_functions_and_differing_axes():
    # Rows: 3 taps every 2nd, stride 2, then 3, 1. Columns: 5 taps every 2nd, 3, then 2 with stride.
    size, offset = (5 + 2 * 2, 9 + 2 + 1), (2 - 1 + 2, 4 - 2 - 1 + 1 + 0.5)
    assert receptive_field(Functional()) == ReceptiveField(size, 2, offset)
