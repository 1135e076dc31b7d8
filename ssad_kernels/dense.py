# SPDX-License-Identifier: Apache-2.0
"""Features and scores of all windows of an image."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from ssad_kernels import _errors
from ssad_kernels.dense_grid import NotDenseError, Pair, WindowGrid
from ssad_kernels.dense_layers import DenseInterpreter
from ssad_kernels.scoring import GaussianFit, gaussian_score

Mode = Literal["auto", "windowed", "dense"]
Size = int | tuple[int, int]
_MUST = "have layers that can be evaluated on all windows at once"
_UNLIKE_IN_TRAINING = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def patch_features(
    network: nn.Module,
    images: Tensor,
    *,
    window: Size,
    stride: Size,
    mode: Mode = "auto",
    batch: int = 256,
) -> Tensor:
    """Features of every window of an image, by a network that sees one window at a time.

    Windows start at multiples of `stride` and end within the image: h = ⌊(H - window) / stride⌋ + 1
    of them fit into the height H. Unless `stride` divides H - window, up to `stride` - 1 rows at
    the bottom are in no window; pad the images to see them.

    ``mode="windowed"`` runs the network on the windows, `batch` at a time. Any network will do.
    ``mode="dense"`` runs each layer once on the whole image, at all positions that some window
    needs, and gives the same to rounding. It takes networks without padding: convolutions, max and
    average pooling, batch norm in evaluation mode, activations, sums, products and concatenations
    of branches, centre crops, and at the end global pooling or a convolution over what is left of
    the window, then linear layers. It takes none with hooks or parametrizations, which it would not
    run, nor one that changes a crop in place. ``mode="auto"`` takes the one with fewer operations,
    see `flop_ratio`; a network that cannot be evaluated densely is evaluated window by window
    without a word.

    Differentiable as the network is. Under ``torch.no_grad()`` the memory beside the result is that
    of the features of one image of several, and of `batch` windows or the maps of one image.
    Deterministic as the network is.

    Args:
        network: (B, C, window, window) -> (B, D) or (B, D, 1, 1), its batch norms and dropouts in
            evaluation mode. Its parameters are on the device of the images. For the dense mode it
            can be traced by ``torch.fx``.
        images: (N, C, H, W), of what dtype and range the network takes.
        window: Height and width of a window in pixels, or one int for both.
        stride: Pixels from one window to the next, down and across, or one int for both.
        mode: How to evaluate.
        batch: Windows in a batch of the windowed mode.

    Returns:
        (N, D, h, w) features.

    Raises:
        TypeError: `images` is not a tensor, or a size is neither an integer nor a pair of them.
        ValueError: `images` is not (N, C, H, W) with N ≥ 1 or smaller than a window; a size is
            below 1; `mode` is unknown; the network is in training mode, does not take such images,
            or gives something else; or with ``mode="dense"`` a layer cannot be evaluated for all
            windows at once: the message has its name and why.
    """
    op = "patch_features"
    features = _evaluation(op, network, images, window, stride, mode, batch)
    return _join((features(image[None]) for image in images), len(images), dim=0)


def dense_patch_scores(
    network: nn.Module,
    images: Tensor,
    fit: GaussianFit,
    *,
    window: Size,
    stride: Size,
    mode: Mode = "auto",
    batch: int = 256,
) -> Tensor:
    """Score every window of images: `patch_features`, then `gaussian_score`.

    To bring the map to the size of the images, give `receptive_field_upsample` the window for its
    kernel, the same stride, and the offset (window - 1) / 2.

    The features of one image exist at a time.

    Args:
        network: As in `patch_features`.
        images: As in `patch_features`.
        fit: One Gaussian for all windows, or one for each of L = h · w, row by row.
        window: As in `patch_features`.
        stride: As in `patch_features`.
        mode: As in `patch_features`.
        batch: As in `patch_features`.

    Returns:
        (N, 1, h, w) squared Mahalanobis distances, float32, or float64 for such features.

    Raises:
        TypeError: As in `patch_features`.
        ValueError: As in `patch_features`, or `fit` is for another number of features or windows.
    """
    op = "dense_patch_scores"
    if not isinstance(fit, GaussianFit):
        raise TypeError(_errors.wording(op, "fit", "be a GaussianFit", type(fit).__name__))
    evaluate = _evaluation(op, network, images, window, stride, mode, batch)
    scores = []
    for image in images:
        features = evaluate(image[None])
        rows = features[0].flatten(1).T
        if rows.shape[1] != fit.mean.shape[-1]:
            must = f"be of features of width {rows.shape[1]}"
            raise ValueError(_errors.wording(op, "fit", must, fit.mean.shape[-1]))
        if fit.mean.dim() == 2:
            if len(rows) != len(fit.mean):
                must = f"have one location for each of the {len(rows)} windows"
                raise ValueError(_errors.wording(op, "fit", must, len(fit.mean)))
            rows = rows[None]
        scores.append(gaussian_score(rows, fit).reshape(1, 1, *features.shape[2:]))
    return torch.cat(scores)


def flop_ratio(
    network: nn.Module, window: Size, stride: Size, size: Size, *, channels: int = 3
) -> float:
    """How many times more operations windows take one by one than all at once.

    A multiply-add counts as one operation, and so does each value of any other layer, per tap of a
    pool. Counted from the layers, without running them.

    Args:
        network: One that ``patch_features(mode="dense")`` takes.
        window: As there.
        stride: As there.
        size: Height and width of the image in pixels.
        channels: Of the image.

    Returns:
        Operations of the windowed evaluation over those of the dense one.

    Raises:
        TypeError: A size is neither an integer nor a pair of them.
        ValueError: As in `patch_features` with ``mode="dense"``.
    """
    op = "flop_ratio"
    image = torch.empty(1, channels, *_errors.check_pair(op, "size", size, int), device="meta")
    places = _places(op, window, stride)
    windowed, dense = _operations(op, _traced(op, network), image, *places)
    return windowed / dense


def _operations(
    op: str, traced: fx.GraphModule, image: Tensor, window: Pair, stride: Pair
) -> tuple[int, int]:
    """Operations for an image of which only the metadata count: windowed and dense."""
    tensors: dict[int, Tensor] = {id(p): nn.Parameter(p.to("meta")) for p in traced.parameters()}
    tensors |= {id(b): b.to("meta") for b in traced.buffers()}
    network = copy.deepcopy(traced, tensors)  # without a copy of the values
    image = image.to("meta")
    counts = []
    for part in (image[..., : window[0], : window[1]], image):
        grid = WindowGrid(stride, _count(op, part, window, stride))
        _run(op, network, grid, part, window)
        counts.append(grid.multiply_adds)
    return counts[0] * math.prod(grid.count), counts[1]


def _evaluation(
    op: str, network: nn.Module, images: Tensor, window: Size, stride: Size, mode: Mode, batch: int
) -> Callable[[Tensor], Tensor]:
    """What maps (1, C, H, W) to features (1, D, h, w)."""
    window, stride = _places(op, window, stride)
    _errors.check_tensor(op, "images", images)
    _errors.check_shape(op, "images", images, ("N", "C", "H", "W"))
    if len(images) == 0:
        raise ValueError(_errors.wording(op, "images", "have at least one image", "none"))
    if mode not in ("auto", "windowed", "dense"):
        must = "be 'auto', 'windowed' or 'dense'"
        raise ValueError(_errors.wording(op, "mode", must, repr(mode)))
    for name, layer in network.named_modules():
        # Windows of an image are no sample to learn statistics from.
        if layer.training and isinstance(layer, _UNLIKE_IN_TRAINING):
            must = "be in evaluation mode (see `eval`)"
            got = f"layer {name} ({type(layer).__name__}) in training mode"
            raise ValueError(_errors.wording(op, "network", must, got))
    if batch < 1:
        raise ValueError(_errors.wording(op, "batch", "be at least 1", batch))
    grid = WindowGrid(stride, _count(op, images, window, stride))

    def windowed(image: Tensor) -> Tensor:
        return _windowed(op, network, image, window, grid, batch)

    if mode == "windowed":
        return windowed
    try:
        traced = _traced(op, network)
        if mode == "auto":
            one_by_one, at_once = _operations(op, traced, images[:1], window, stride)
            if one_by_one <= at_once:
                return windowed
    except ValueError:
        if mode == "dense":
            raise
        return windowed
    return lambda image: _run(op, traced, grid, image, window)


def _places(op: str, window: Size, stride: Size) -> tuple[Pair, Pair]:
    windows = _errors.check_pair(op, "window", window, int)
    return windows, _errors.check_pair(op, "stride", stride, int)


def _count(op: str, images: Tensor, window: Pair, stride: Pair) -> Pair:
    for name, value in (("window", window), ("stride", stride)):
        if min(value) < 1:
            raise ValueError(_errors.wording(op, name, "be at least 1", value))
    height, width = images.shape[2:]
    if height < window[0] or width < window[1]:
        must = f"be at least as large as a window of {window[0]} x {window[1]}"
        raise ValueError(_errors.wording(op, "images", must, f"{height} x {width}"))
    return (height - window[0]) // stride[0] + 1, (width - window[1]) // stride[1] + 1


class _Proxy(fx.Proxy):
    """Records x += y as such; torch.fx would record x = x + y, though others may hold x."""


class _Tracer(fx.Tracer):
    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)


def _recorded(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda x, y: x.tracer.create_proxy("call_function", function, (x, y), {})


for _function in (operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow):
    setattr(_Proxy, f"__{_function.__name__}__", _recorded(_function))


def _traced(op: str, network: nn.Module) -> fx.GraphModule:
    for name, module in network.named_modules():
        # Hooks do not run where a layer's parameters are taken, or run while tracing; parameters
        # that are computed would become constants.
        has_hooks = any(getattr(module, hooks) for hooks in _HOOKS)
        if has_hooks or parametrize.is_parametrized(module):
            got = f"{f'layer {name}' if name else 'a network'} with "
            got += "hooks" if has_hooks else "parametrized weights"
            raise ValueError(_errors.wording(op, "network", _MUST, got))
    try:
        return fx.GraphModule(network, _Tracer().trace(network))
    except Exception as error:
        must = "be one that torch.fx can trace"
        raise ValueError(_errors.wording(op, "network", must, error)) from error


def _run(op: str, traced: fx.GraphModule, grid: WindowGrid, image: Tensor, window: Pair) -> Tensor:
    try:
        return DenseInterpreter(traced, grid).features(image, window)
    except NotDenseError as error:
        raise ValueError(_errors.wording(op, "network", _MUST, error)) from None
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        must = f"take images {tuple(image.shape)} of {image.dtype}"
        raise ValueError(_errors.wording(op, "network", must, error)) from error


def _windowed(
    op: str, network: nn.Module, image: Tensor, window: Pair, grid: WindowGrid, batch: int
) -> Tensor:
    down, across = (max(1, s) for s in grid.stride)  # 0 where there is one window
    views = image[0].unfold(1, window[0], down).unfold(2, window[1], across)
    columns = grid.count[1]
    places = torch.arange(grid.count[0] * columns, device=image.device)

    def rows(part: Tensor) -> Tensor:
        """(B, D) features of some windows."""
        patches = views[:, part // columns, part % columns].transpose(0, 1).contiguous()
        try:
            features = network(patches)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError, ValueError) as error:
            must = f"take windows {tuple(patches.shape)} of {patches.dtype}"
            raise ValueError(_errors.wording(op, "network", must, error)) from error
        if not isinstance(features, Tensor) or features.shape[2:] not in ((), (1, 1)):
            got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            must = "return (B, D) or (B, D, 1, 1)"
            raise ValueError(_errors.wording(op, "network", must, got))
        return features.flatten(1)

    parts = (rows(part).T[None] for part in places.split(batch))
    return _join(parts, len(places), dim=2).reshape(1, -1, *grid.count)


def _join(parts: Iterable[Tensor], total: int, dim: int) -> Tensor:
    """Join along a dimension; without a gradient no part outlives its copy into the result."""
    kept: list[Tensor] = []
    result, start = None, 0
    for part in parts:
        if part.shape[dim] == total:
            return part.contiguous()
        if part.requires_grad:
            kept.append(part)
            continue
        if result is None:
            result = part.new_empty(*part.shape[:dim], total, *part.shape[dim + 1 :])
        result.narrow(dim, start, part.shape[dim]).copy_(part)
        start += part.shape[dim]
    return torch.cat(kept, dim) if result is None else result
