# SPDX-License-Identifier: Apache-2.0
"""Runs a traced network of patches on maps of all windows: which layers can, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from ssad_kernels import pointwise
from ssad_kernels.dense_grid import NotDenseError, WindowGrid, WindowMap, check_padding, pair, times

_CHANNELWISE = frozenset(("normalize", "softmax", "log_softmax"))


class DenseInterpreter(fx.Interpreter):
    """Runs a network that was traced on windows on maps of all windows.

    Args:
        network: The traced network.
        grid: Of the windows.
    """

    def __init__(self, network: fx.GraphModule, grid: WindowGrid) -> None:
        super().__init__(network)
        self.grid = grid
        self.extra_traceback = False  # which the message has no room for

    def features(self, images: Tensor, window: tuple[int, int]) -> Tensor:
        """(N, C, H, W) images -> features (N, D, h, w) of their windows.

        Raises:
            NotDenseError: A layer cannot be evaluated on all windows at once; says which and why.
        """
        # A copy, for the network may begin with a layer that works in place.
        result = self.run(self.grid.first(images.clone(), window))
        if not isinstance(result, WindowMap):
            msg = f"the network gives {type(result).__name__}, not a tensor"
            raise NotDenseError(msg)
        if result.size != (1, 1):
            msg = f"the network gives {times(result.size)} positions a window, not one"
            raise NotDenseError(msg)
        return result.data

    def run_node(self, n: fx.Node) -> Any:
        """Run one layer, and name it if it cannot be run."""
        try:
            return super().run_node(n)
        except (NotDenseError, TypeError) as error:  # TypeError: arguments that no rule here has
            msg = f"{_name(n)}: {error}"
            raise NotDenseError(msg) from None

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Run a layer that is a module."""
        module = self.fetch_attr(target)
        if not _has_map((args, kwargs)):
            return module(*args, **kwargs)
        x: WindowMap = (*args, *kwargs.values())[0]
        if isinstance(module, pointwise.DROPOUT_MODULES):
            return _dropout(x, cast(nn.Dropout, module).p, module.training)
        if isinstance(module, nn.Identity):
            return x
        if isinstance(module, pointwise.MODULES):
            _check_writable(x, getattr(module, "inplace", False))
            return self.grid.made(x, module(x.data))
        run = _MODULES.get(type(module))
        if run is None:
            msg = f"{type(module).__name__} is of no kind that this knows"
            raise NotDenseError(msg)
        return run(self.grid, x, module)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Run a layer that is a function."""
        if not _has_map((args, kwargs)):
            return target(*args, **kwargs)
        return self._call(target.__name__, target, args, kwargs)

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Run a layer that is a method of a tensor."""

        def method(x: Any, *rest: Any, **options: Any) -> Any:
            return getattr(x, target)(*rest, **options)

        if not _has_map((args, kwargs)):
            return method(*args, **kwargs)
        return self._call(target, method, args, kwargs)

    def _call(self, full_name: str, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        name = full_name.strip("_")
        # As in relu_, operator.iadd and relu(x, True).
        is_inplace = full_name.endswith("_") and not full_name.endswith("__")
        is_inplace |= name in ("iadd", "isub", "imul", "itruediv")
        is_inplace |= any(value is True for value in (*args, kwargs.get("inplace")))
        if name in pointwise.ARITHMETIC and not _has_map(kwargs):
            _check_writable(args[0], is_inplace)
            return _arithmetic(self.grid, function, args, kwargs)
        if name in ("cat", "concat"):
            return _cat(self.grid, *args, **kwargs)
        x, *rest = args if args else (kwargs.pop("input", None),)
        if isinstance(x, WindowMap) and not _has_map((rest, kwargs)):
            if name == "contiguous":
                return x  # as a map that is no part of another does
            if name in pointwise.SAME_MEMORY:
                made = self.grid.made(x, function(x.data, *rest, **kwargs))
                return replace(made, is_part=x.is_part)
            if name in pointwise.FUNCTIONS:
                _check_writable(x, is_inplace)
                return self.grid.made(x, function(x.data, *rest, **kwargs))
            if name in _CHANNELWISE and kwargs.get("dim", rest[-1] if rest else 1) == 1:
                return self.grid.made(x, function(x.data, *rest, **kwargs))
            if name in _FUNCTIONS:
                return _FUNCTIONS[name](self.grid, x, *rest, **kwargs)
        msg = f"{name} with such arguments is of no kind that this knows"
        raise NotDenseError(msg)


def _check_writable(x: Any, is_inplace: bool) -> None:
    if is_inplace and not (isinstance(x, WindowMap) and not x.is_part):
        msg = "changes part of a map, or a constant, in place"
        raise NotDenseError(msg)


def _dropout(
    x: WindowMap, p: float = 0.5, training: bool = True, inplace: bool = False
) -> WindowMap:
    if training and p > 0:
        msg = "dropout in training mode"
        raise NotDenseError(msg)
    return x


def _arithmetic(grid: WindowGrid, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    maps = [value for value in args if isinstance(value, WindowMap)]
    _check_alike(maps)

    def plain(value: Any) -> Any:
        if isinstance(value, WindowMap):
            return value.data
        if isinstance(value, Tensor) and value.dim():
            if maps[0].flat:
                return value[..., None, None]
            if value.shape[-2:] != (1, 1):
                msg = f"a constant of shape {tuple(value.shape)}, which varies over the window"
                raise NotDenseError(msg)
        return value

    return grid.made(maps[0], function(*map(plain, args), **kwargs))


def _cat(grid: WindowGrid, tensors: Sequence[Any], dim: int = 0) -> WindowMap:
    if dim != 1 or not all(isinstance(value, WindowMap) for value in tensors):
        msg = "joins something else than the channels of maps"
        raise NotDenseError(msg)
    _check_alike(tensors)
    return grid.made(tensors[0], torch.cat([value.data for value in tensors], dim=1), cost=0)


def _check_alike(maps: Sequence[WindowMap]) -> None:
    kinds = {(x.size, x.step, x.flat) for x in maps}
    if len(kinds) > 1:
        sizes = " and ".join(f"{x.size} positions {x.step} pixels apart" for x in maps)
        msg = f"combines maps of {sizes}"
        raise NotDenseError(msg)


def _batch_norm(grid: WindowGrid, x: WindowMap, module: Any) -> WindowMap:
    if module.training or module.running_mean is None:
        msg = "batch norm in training mode, or without running statistics"
        raise NotDenseError(msg)
    data = nn.functional.batch_norm(
        x.data, module.running_mean, module.running_var, module.weight, module.bias, eps=module.eps
    )
    return grid.made(x, data)


def _max_pool(
    grid: WindowGrid,
    x: WindowMap,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> WindowMap:
    _check_pool(padding, ceil_mode, return_indices)
    kernel = pair(kernel_size)
    return grid.pool(x, torch.maximum, kernel, pair(stride or kernel), pair(dilation))


def _average_pool(
    grid: WindowGrid,
    x: WindowMap,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> WindowMap:
    _check_pool(padding, ceil_mode, divisor_override)
    kernel = pair(kernel_size)
    return grid.average(x, kernel, pair(stride or kernel))


def _check_pool(padding: int | Sequence[int], ceil_mode: bool, other: object) -> None:
    check_padding(padding)
    if ceil_mode or other:
        msg = "pooling with ceil_mode, return_indices or divisor_override"
        raise NotDenseError(msg)


def _global_average_pool(grid: WindowGrid, x: WindowMap, output_size: Any) -> WindowMap:
    _check_global(output_size)
    return grid.average(x, x.size, (1, 1))


def _global_max_pool(grid: WindowGrid, x: WindowMap, output_size: Any) -> WindowMap:
    _check_global(output_size)
    return grid.pool(x, torch.maximum, x.size, (1, 1))


def _check_global(output_size: Any) -> None:
    if output_size not in (1, (1, 1), [1, 1]):
        msg = f"adaptive pooling to {output_size} positions, not to one"
        raise NotDenseError(msg)


def _mean(grid: WindowGrid, x: WindowMap, dim: Any, keepdim: bool = False) -> WindowMap:
    _check_spatial(x, dim)
    mean = grid.average(x, x.size, (1, 1))
    return mean if keepdim else grid.flatten(mean)


def _amax(grid: WindowGrid, x: WindowMap, dim: Any, keepdim: bool = False) -> WindowMap:
    _check_spatial(x, dim)
    largest = grid.pool(x, torch.maximum, x.size, (1, 1))
    return largest if keepdim else grid.flatten(largest)


def _check_spatial(x: WindowMap, dim: Any) -> None:
    if x.flat or not isinstance(dim, (tuple, list)) or {d % 4 for d in dim} != {2, 3}:
        msg = f"reduces dimension {dim}, not the two of positions"
        raise NotDenseError(msg)


def _flatten(grid: WindowGrid, x: WindowMap, start_dim: int = 0, end_dim: int = -1) -> WindowMap:
    if x.flat and (start_dim, end_dim) == (1, -1):
        return x
    if start_dim != 1 or end_dim not in (-1, 3):
        msg = f"flattens the dimensions {start_dim} to {end_dim}"
        raise NotDenseError(msg)
    return grid.flatten(x)


def _reshape(grid: WindowGrid, x: WindowMap, *shape: Any) -> WindowMap:
    sizes = tuple(shape[0]) if isinstance(shape[0], (tuple, list)) else shape
    windows, channels = x.shape[:2]
    if sizes not in ((windows, -1), (windows, channels), (-1, channels)):
        msg = f"reshapes to {sizes}"
        raise NotDenseError(msg)
    return x if x.flat else grid.flatten(x)


def _getitem(grid: WindowGrid, x: WindowMap, index: Any) -> WindowMap:
    index = index if isinstance(index, tuple) else (index,)
    if Ellipsis in index:
        at = index.index(Ellipsis)
        whole = (slice(None),) * (len(x.shape) + 1 - len(index))
        index = (*index[:at], *whole, *index[at + 1 :])
    index = (*index, *(slice(None),) * (len(x.shape) - len(index)))
    if index[0] == slice(None) and isinstance(index[1], slice):
        x = replace(x, data=x.data[:, index[1]], is_part=True)
        if x.flat:
            return x
        if all(isinstance(part, slice) for part in index[2:]):
            return replace(grid.crop(x, *index[2:]), is_part=True)
        if index[2:] == (0, 0):
            return grid.flatten(x)
    msg = f"takes the part {index} of a map"
    raise NotDenseError(msg)


def _getattr(grid: WindowGrid, x: WindowMap, name: str) -> Any:
    if name == "shape":
        return x.shape
    msg = f"reads the attribute {name} of a map"
    raise NotDenseError(msg)


def _size(grid: WindowGrid, x: WindowMap, dim: int | None = None) -> Any:
    return x.shape if dim is None else x.shape[dim]


_MODULES: dict[type, Callable[[WindowGrid, WindowMap, Any], WindowMap]] = {
    nn.Conv2d: lambda grid, x, m: grid.convolve(
        x, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups
    ),
    nn.Linear: lambda grid, x, m: grid.linear(x, m.weight, m.bias),
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.MaxPool2d: lambda grid, x, m: _max_pool(
        grid, x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices
    ),
    nn.AvgPool2d: lambda grid, x, m: _average_pool(
        grid, x, m.kernel_size, m.stride, m.padding, m.ceil_mode, True, m.divisor_override
    ),
    nn.AdaptiveAvgPool2d: lambda grid, x, m: _global_average_pool(grid, x, m.output_size),
    nn.AdaptiveMaxPool2d: lambda grid, x, m: _global_max_pool(grid, x, m.output_size),
    nn.Flatten: lambda grid, x, m: _flatten(grid, x, m.start_dim, m.end_dim),
}

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "conv2d": WindowGrid.convolve,
    "linear": WindowGrid.linear,
    "max_pool2d": _max_pool,
    "avg_pool2d": _average_pool,
    "adaptive_avg_pool2d": _global_average_pool,
    "adaptive_max_pool2d": _global_max_pool,
    "mean": _mean,
    "amax": _amax,
    "flatten": _flatten,
    "reshape": _reshape,
    "view": _reshape,
    "getitem": _getitem,
    "getattr": _getattr,
    "size": _size,
    **dict.fromkeys(pointwise.DROPOUTS, lambda grid, *args, **options: _dropout(*args, **options)),
}


def _has_map(values: Any) -> bool:
    found = []
    fx.node.map_aggregate(values, lambda value: found.append(isinstance(value, WindowMap)))
    return any(found)


def _name(n: fx.Node) -> str:
    """A layer's qualified name; for a function that of the module that calls it, too."""
    if n.op == "call_module":
        return f"layer {n.target}"
    function = n.target if isinstance(n.target, str) else n.target.__name__
    stack = n.meta.get("nn_module_stack")
    owner = list(stack.values())[-1][0] if stack else ""
    return f"{function.strip('_')} in {owner or 'the network'}"
