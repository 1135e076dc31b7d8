# SPDX-License-Identifier: Apache-2.0
"""Which pixels a feature sees: receptive fields, read off a network's layers."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple, TypeVar

from torch import fx, nn

from ssad_kernels import pointwise
from ssad_kernels._errors import wording

_OP = "receptive_field"
_Number = TypeVar("_Number", int, float)


class ReceptiveField(NamedTuple):
    """The receptive fields of a feature map; what `receptive_field_upsample` asks for.

    Attributes:
        size: side of a field in pixels; a pair (y, x) where the axes differ, as with all of these.
        stride: pixels from the field of one feature to the next.
        offset: where the middle of the first feature's field lies, in pixels; a pixel's middle is a
            whole number, so that of an even field ends in 0.5.
    """

    size: int | tuple[int, int]
    stride: int | tuple[int, int]
    offset: float | tuple[float, float]


def receptive_field(module: nn.Module) -> ReceptiveField:
    """Read the receptive field of a network's features off its layers.

    The network is traced symbolically, without running it. Read are convolutions, pooling and
    padding in two dimensions, in modules and as functions of `torch.nn.functional`; what works on
    each pixel (batch normalisation, activations, dropout, additions, products, concatenation); and
    modules that are built of these. Where branches meet, such as in residual blocks, the field is
    the smallest that holds theirs. Pixels beyond the image count: at the border a field hangs over.

    Args:
        module: from images (N, C, H, W) to features (N, D, h, w); its parameters do not matter.

    Returns:
        Size, stride and offset. Each layer with kernel K, dilation d, stride t and padding p makes
        them r + (K - 1) d j, t j, and s + ((K - 1) d / 2 - p) j, out of r, j, s = 1, 1, 0 for the
        image.

    Raises:
        TypeError: for anything but a module.
        ValueError: for a layer that cannot be read, such as one that sees the whole image (as batch
            normalisation in training mode does) or wraps around it; a module that cannot be traced,
            because what it does depends on its input; or branches of different strides.

    Source: the bookkeeping of FCDD (Liznerski et al., ICLR 2021), for graphs.

    Example:
        >>> from torch import nn
        >>> receptive_field(nn.Sequential(nn.Conv2d(3, 8, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2)))
        ReceptiveField(size=11, stride=4, offset=2.0)
    """
    if not isinstance(module, nn.Module):
        raise TypeError(wording(_OP, "module", "be a torch.nn.Module", type(module).__name__))
    root = nn.Sequential(module)  # a layer by itself would be traced into
    try:
        graph = fx.Tracer().trace(root)
    except Exception as error:
        must = "be traceable by torch.fx"
        raise ValueError(
            wording(_OP, "module", must, f"{type(error).__name__}: {error}")
        ) from error
    field = _read_graph(graph, root)
    y, x = field
    return ReceptiveField(
        _one_or_both(y.size, x.size),
        _one_or_both(y.stride, x.stride),
        _one_or_both(float(y.offset), float(x.offset)),
    )


def _one_or_both(y: _Number, x: _Number) -> _Number | tuple[_Number, _Number]:
    return y if y == x else (y, x)


class _Axis(NamedTuple):
    """The field along an axis; offsets are multiples of a half."""

    size: int = 1
    stride: int = 1
    offset: Fraction = Fraction(0)

    def after(self, kernel: int, stride: int, padding: int, dilation: int) -> _Axis:
        reach = (kernel - 1) * dilation
        shift = (Fraction(reach, 2) - padding) * self.stride
        return _Axis(self.size + reach * self.stride, stride * self.stride, self.offset + shift)

    @property
    def ends(self) -> tuple[Fraction, Fraction]:
        half = Fraction(self.size - 1, 2)
        return self.offset - half, self.offset + half


_Field = tuple[_Axis, _Axis]


# What leaves the field as it is.
_ALIKE_MODULES = (
    *pointwise.MODULES, *pointwise.DROPOUT_MODULES,
    nn.Identity, nn.RReLU, nn.LocalResponseNorm, nn.Softmax2d,
)  # fmt: skip
_ALIKE_FUNCTIONS = frozenset((
    *pointwise.FUNCTIONS, *pointwise.ARITHMETIC, *pointwise.SAME_MEMORY, *pointwise.DROPOUTS,
    "maximum", "minimum", "cat", "concat", "contiguous",
))  # fmt: skip


class _UnreadableError(Exception):
    """What about a layer cannot be read."""


def _pair(value: Any) -> tuple[Any, Any]:
    pair = tuple(value) if isinstance(value, tuple | list) else (value,)
    return (pair[0], pair[0]) if len(pair) == 1 else (pair[0], pair[1])


def _window(
    field: _Field, kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1
) -> _Field:
    """The field after a window that slides; `padding` may be "same" or "valid"."""
    kernels, dilations = _pair(kernel), _pair(dilation)
    strides = _pair(stride) if stride not in (None, ()) else kernels
    if padding == "same":  # an odd one goes to the end
        padding = tuple((k - 1) * d // 2 for k, d in zip(kernels, dilations, strict=True))
    paddings = _pair(0 if padding == "valid" else padding)
    rows = zip(kernels, strides, paddings, dilations, strict=True)
    y, x = (axis.after(*row) for axis, row in zip(field, rows, strict=True))
    return y, x


def _convolve(
    field: _Field,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> _Field:
    return _window(field, weight.shape[2:], stride, padding, dilation)


def _max_pool(
    field: _Field,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> _Field:
    if return_indices:
        msg = "with return_indices"
        raise _UnreadableError(msg)
    return _window(field, kernel_size, stride, padding, dilation)


def _average_pool(
    field: _Field, kernel_size: Any, stride: Any = None, padding: Any = 0, *_: Any, **__: Any
) -> _Field:
    return _window(field, kernel_size, stride, padding)


def _pad(field: _Field, pad: Any, mode: str = "constant", value: Any = None) -> _Field:
    _check_padding(mode)
    left, _, top, _ = (pad,) * 4 if isinstance(pad, int) else (*pad, 0, 0)[:4]
    return field[0].after(1, 1, top, 1), field[1].after(1, 1, left, 1)


def _check_padding(mode: str) -> None:
    if mode == "circular":  # the field would wrap around
        msg = "with circular padding"
        raise _UnreadableError(msg)


def _batch_norm(
    field: _Field,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    *_: Any,
    **__: Any,
) -> _Field:
    if training or running_mean is None:
        msg = "with the statistics of the batch, as in training mode"
        raise _UnreadableError(msg)
    return field


_SLIDING: Mapping[str, Callable[..., _Field]] = {
    "conv2d": _convolve,
    "max_pool2d": _max_pool,
    "avg_pool2d": _average_pool,
    "pad": _pad,
    "batch_norm": _batch_norm,
}


def _read_module(layer: nn.Module, field: _Field) -> _Field | None:
    """The field after a layer; None for one that is not known."""
    if isinstance(layer, _ALIKE_MODULES):
        return field
    if isinstance(layer, nn.BatchNorm2d | nn.SyncBatchNorm):
        return _batch_norm(field, layer.running_mean, layer.running_var, training=layer.training)
    if isinstance(layer, nn.Conv2d):
        _check_padding(layer.padding_mode)
        return _window(field, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    if isinstance(layer, nn.MaxPool2d):
        options = (layer.padding, layer.dilation, layer.ceil_mode, layer.return_indices)
        return _max_pool(field, layer.kernel_size, layer.stride, *options)
    if isinstance(layer, nn.AvgPool2d):
        return _window(field, layer.kernel_size, layer.stride, layer.padding)
    if isinstance(
        layer, nn.ZeroPad2d | nn.ConstantPad2d | nn.ReflectionPad2d | nn.ReplicationPad2d
    ):
        return _pad(field, layer.padding)
    return None


def _union(node: fx.Node, fields: list[_Field]) -> _Field:
    merged = []
    for axes in zip(*fields, strict=True):
        strides = sorted({axis.stride for axis in axes})
        if len(strides) > 1:
            must = "join branches of one stride"
            raise ValueError(wording(_OP, "module", must, f"{strides} at `{node.name}`"))
        low = min(axis.ends[0] for axis in axes)
        high = max(axis.ends[1] for axis in axes)
        merged.append(_Axis(int(high - low) + 1, strides[0], (low + high) / 2))
    return merged[0], merged[1]


def _read_node(
    node: fx.Node,
    inputs: list[_Field],
    layers: Mapping[str, nn.Module],
    constants: Mapping[Any, Any],
) -> _Field | None:
    """The field after a layer or function; None for one that is not known."""
    if node.op == "call_module":
        return _read_module(layers[str(node.target)], inputs[0]) if len(inputs) == 1 else None
    name = getattr(node.target, "__name__", str(node.target)).strip("_")

    def value(arg: Any) -> Any:
        return constants.get(arg, arg) if isinstance(arg, fx.Node) else arg

    rest = [value(arg) for arg in node.args[1:]]
    named = {key: value(arg) for key, arg in node.kwargs.items()}
    if name in _SLIDING and len(inputs) == 1:
        named.pop("input", None)
        return _SLIDING[name](inputs[0], *rest, **named)
    if name in ("cat", "concat"):
        dim = named.get("dim", named.get("axis", rest[0] if rest else 0))
        if dim not in (1, -3):
            msg = f"along dimension {dim}, not the channels"
            raise _UnreadableError(msg)
    if name in _ALIKE_FUNCTIONS and inputs:
        return _union(node, inputs)
    return None


def _read_graph(graph: fx.Graph, root: nn.Module) -> _Field:
    """The field of the graph's output."""
    layers = dict(root.named_modules())
    fields: dict[fx.Node, _Field] = {}
    constants: dict[fx.Node, Any] = {}

    def unreadable(node: fx.Node, why: str = "") -> ValueError:
        if node.op == "call_module":
            what = (
                f"`{str(node.target)[2:] or 'module'}` ({type(layers[str(node.target)]).__name__})"
            )
        else:
            what = f"{getattr(node.target, '__name__', node.target)} at `{node.name}`"
        must = "be made of layers whose field can be read"
        return ValueError(wording(_OP, "module", must, f"{what} {why}".rstrip()))

    for node in graph.nodes:
        inputs = [fields[other] for other in node.all_input_nodes if other in fields]
        found: _Field | None = None
        if node.op == "placeholder":
            found = (_Axis(), _Axis())
        elif node.op == "get_attr":
            constants[node] = operator.attrgetter(str(node.target))(root)
            continue
        elif node.op == "output":
            if not isinstance(node.args[0], fx.Node) or len(inputs) != 1:
                raise ValueError(wording(_OP, "module", "return one feature map", node.args[0]))
            return inputs[0]
        else:
            try:
                found = _read_node(node, inputs, layers, constants)
            except _UnreadableError as error:
                raise unreadable(node, str(error)) from None
        if found is None:
            raise unreadable(node)
        fields[node] = found
    raise AssertionError
