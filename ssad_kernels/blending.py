# SPDX-License-Identifier: Apache-2.0
"""Poisson blending: a patch of one image continues in another without a seam.

Pérez, Gangnet and Blake, "Poisson Image Editing", SIGGRAPH 2003.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from ssad_kernels import blending_op
from ssad_kernels._errors import FLOATS, check_dtype, check_tensor, wording
from ssad_kernels._status import raise_for_status
from ssad_kernels.poisson import MAX_ITERATIONS, SOLVERS, TOLERANCES, Solver, check_stop

Region = Literal["mask", "rect"]
Gradient = Literal["source", "mixed", "average", "monochrome"]

_GRADIENTS = ("source", "mixed", "average", "monochrome")
_LEVELS = 255.0  # of grey, where white is 1


def poisson_blend_(
    target: Tensor,
    source: Tensor,
    mask: Tensor | None,
    top_left: Tensor,
    *,
    sizes: Tensor | None = None,
    source_index: Tensor | None = None,
    source_box: Tensor | None = None,
    region: Region = "mask",
    gradient: Gradient | Tensor = "source",
    source_gain: Tensor | float | None = None,
    target_gain: Tensor | float | None = None,
    solver: Solver = "auto",
    tol: float | None = None,
    compat: Literal["opencv"] | None = None,
    strict: bool = False,
    return_status: bool = False,
) -> Any:
    """Blend a patch into each image, in place: gradients of the source, values of the target.

    At every unknown pixel p, the sum over its neighbours q in the image of (u(p) - u(q) - v(p, q))
    is zero, and u is the target elsewhere. Where the unknowns touch the image's border nothing is
    asked for there (natural condition); where they are the whole image, u keeps the target's mean.
    With w the mask's value, the mean over the edge's pixels inside the mask, the guidance is
    v = w g + (1 - w) (target(p) - target(q)), with g, per channel:

    - "source", code 0: source_gain (source(p) - source(q)).
    - "mixed", 1: the larger of that and target_gain (target(p) - target(q)), the latter if equal.
    - "average", 2: the mean of both.
    - "monochrome", 3: "source" with 0.299 R + 0.587 G + 0.114 B of the source, for all channels;
      with less than three channels, with the first.

    On edges that leave the patch or the image, where the source has no pixel, v is the target's
    difference. So a patch blended onto itself changes nothing, and pixels that are not unknown keep
    their bits. The source shows as it was before the call even if it shares memory with the
    target; then it is copied.

    Args:
        target: (N, C, H, W), C = 1...4, H and W below 2²⁴, uint8 in 0...255 or float16, bfloat16,
            float32 or float64 with white = 1; any strides.
        source: (M, C, h, w) like ``target``; without ``source_index``, M >= N.
        mask: (N, mh, mw) or (N, 1, mh, mw) in the patch's pixels, from its top-left corner; what
            lies beyond the patch is ignored. bool, uint8 with 255 = inside (turn 0/1 masks into
            bool), or a float in 0...1 (clamped). Values between blend the guidance. None: the whole
            patch, 1.
        top_left: (N, 2) int64 ``(y, x)`` in the target of the patch's first pixel; what falls
            outside of the image is not blended.
        sizes: (N, 2) int64 ``(height, width)`` of the patch, from the source's corner. Default: the
            box's, or the whole source. Not larger than ``mask``.
        source_index: (N,) int64, the source of each sample; default: its own number.
        source_box: (N, 4) int64 ``(y, x, h, w)`` within the source: the patch is this box, resized
            to ``sizes`` as by ``interpolate(mode="bilinear")``, not rounded, without antialiasing.
        region: which pixels are unknown. "mask": those where the mask is above zero. "rect": the
            inside of their bounding box, whose outermost pixels keep the target.
        gradient: a name from above, or (N,) int64 codes.
        source_gain: a number, or (N,) of any float dtype; default 1.
        target_gain: likewise.
        solver: "auto" is "sine" (a direct solver of rectangles) for ``region="rect"`` or without
            mask, otherwise "multigrid"; see `poisson_solve` for that, "sor" and "jacobi".
        tol: stop when the estimated error is at most this, in grey levels (1 for uint8, 1/255 for
            floats). Default: 0.02; for float64, 1e-9 of the first correction.
        compat: "opencv" computes what ``cv2.seamlessClone`` does, oddities included, to one level:
            the patch's outermost pixels are taken from the mask, which is eroded by 3 px, its
            bounding box is solved, and the result is truncated. What then still lies beyond the
            image, where OpenCV gives up, is clipped before the erosion. uint8 only, RGB; a resized
            box is rounded first. No average, gains, region or iterative solver.
        strict: raise if a sample could not be applied; waits for the device.
        return_status: also return what became of each sample, (N,) int8, see `Status`.

    Returns:
        ``target`` itself; then the status if asked for: GATED for a code that is none; EMPTY for
        a size or a box below one pixel, or if no pixel is unknown; NO_PLACE for a patch outside of
        the image, larger than its mask, or not within a source; NOT_FINITE if a gain, or a value
        that the result depends on, is not finite; NOT_CONVERGED; or CLIPPED or APPLIED. A sample
        that is not applied keeps its bits.

    Raises:
        TypeError: for a dtype or kind that is not listed above.
        ValueError: for a shape, a device or options that do not fit, or tensors that require a
            gradient.
        RuntimeError: with ``strict``, or if the backend asked for is missing.

    Gradient: none; see `poisson_blend`. Determinism: bitwise within a backend and instruction set,
    in any batch, for any number of threads; across them within the tolerance. Numbers: float32
    arithmetic, float64 for float64 images; uint8 is rounded to nearest once and clamped.

    The reference solves to rounding whatever solver and tolerance are asked for.

    Example:
        >>> import torch
        >>> target = torch.full((1, 1, 5, 5), 100, dtype=torch.uint8)
        >>> source = torch.zeros(1, 1, 3, 3, dtype=torch.uint8)
        >>> source[0, 0, 1, 1] = 20
        >>> _ = poisson_blend_(target, source, None, torch.tensor([[1, 1]]))
        >>> target[0, 0].tolist()[2]
        [100, 100, 120, 100, 100]
    """
    op = "poisson_blend_"
    images = (("target", target), ("source", source), ("mask", mask))
    for name, value in (*images, ("source_gain", source_gain), ("target_gain", target_gain)):
        if isinstance(value, Tensor) and value.requires_grad and torch.is_grad_enabled():
            must = "not require a gradient (poisson_blend has one)"
            raise ValueError(wording(op, name, must, "True"))
    places, gains = (top_left, sizes, source_index, source_box), (source_gain, target_gain)
    status = blending_op.poisson_blend_(
        *_arguments(op, target, source, mask, places, gradient, gains, region, solver, tol, compat)
    )
    if strict:
        raise_for_status(op, status)
    return (target, status) if return_status else target


def poisson_blend(
    target: Tensor,
    source: Tensor,
    mask: Tensor | None,
    top_left: Tensor,
    *,
    sizes: Tensor | None = None,
    source_index: Tensor | None = None,
    source_box: Tensor | None = None,
    region: Region = "mask",
    gradient: Gradient | Tensor = "source",
    source_gain: Tensor | float | None = None,
    target_gain: Tensor | float | None = None,
    solver: Solver = "auto",
    tol: float | None = None,
    compat: Literal["opencv"] | None = None,
    strict: bool = False,
    return_status: bool = False,
) -> Any:
    """Like `poisson_blend_`, but the target given stays as it is, and floats have a gradient.

    Args:
        target: (N, C, H, W), see `poisson_blend_` for this and all other arguments.
        source: (M, C, h, w).
        mask: (N, mh, mw), (N, 1, mh, mw) or None.
        top_left: (N, 2) int64.
        sizes: (N, 2) int64.
        source_index: (N,) int64.
        source_box: (N, 4) int64.
        region: "mask" or "rect".
        gradient: "source", "mixed", "average", "monochrome", or (N,) int64 codes.
        source_gain: a number, or (N,).
        target_gain: a number, or (N,).
        solver: "auto", "multigrid", "sor", "jacobi" or "sine".
        tol: in grey levels.
        compat: None or "opencv".
        strict: raise if a sample could not be applied; waits for the device.
        return_status: also return what became of each sample, (N,) int8, see `Status`.

    Returns:
        New images (N, C, H, W); then the status if asked for.

    Raises:
        TypeError, ValueError, RuntimeError: as `poisson_blend_`; tensors may require a gradient.

    Gradient: with respect to ``target`` and ``source`` of a float dtype, by one more solve, to 1e-4
    (float32) or 1e-9 of its size; higher ones too. None for masks and gains, nor for which gradient
    "mixed" takes. A sample that is not applied has the gradient of a copy. Determinism: the bits of
    `poisson_blend_`; on GPUs the gradient by ``source`` sums in any order.

    Example:
        >>> import torch
        >>> target = torch.rand(2, 3, 32, 32, requires_grad=True)
        >>> mask = torch.zeros(2, 16, 16, dtype=torch.bool)
        >>> mask[:, 4:12, 4:12] = True
        >>> top_left = torch.tensor([[0, 9], [8, 8]])
        >>> out = poisson_blend(target, torch.rand(2, 3, 16, 16), mask, top_left)
        >>> out.sum().backward()
        >>> out.shape, target.grad.shape
        (torch.Size([2, 3, 32, 32]), torch.Size([2, 3, 32, 32]))
    """
    op = "poisson_blend"
    places, gains = (top_left, sizes, source_index, source_box), (source_gain, target_gain)
    out, status = blending_op.poisson_blend(
        *_arguments(op, target, source, mask, places, gradient, gains, region, solver, tol, compat)
    )
    if strict:
        raise_for_status(op, status)
    return (out, status) if return_status else out


def _arguments(
    op: str,
    target: Tensor,
    source: Tensor,
    mask: Tensor | None,
    places: tuple[Tensor | None, ...],
    gradient: str | Tensor,
    gains: tuple[Tensor | float | None, ...],
    region: str,
    solver: str,
    tol: float | None,
    compat: str | None,
) -> tuple[Any, ...]:
    """The arguments of the op: names and numbers become rows, and defaults are filled in."""
    target, source, mask = blending_op.patch_tensors(op, target, source, mask, places)
    n, device = target.shape[0] if target.dim() else 0, target.device

    name_of_gradient = gradient if isinstance(gradient, str) else "source"
    _check_names(op, region, name_of_gradient, solver, compat)
    if compat is not None:
        region = "opencv"
    if solver == "auto":
        solver = "multigrid" if region == "mask" and mask is not None else "sine"
    if tol is not None:
        check_stop(op, tol, 0.0, 1)  # before it changes its unit
    tol, rtol = stop_of(target.dtype, tol)

    if isinstance(gradient, str):
        code = _GRADIENTS.index(gradient)
        gradient = torch.full((n,), code, dtype=torch.int64, device=device)
    if not isinstance(gradient, Tensor):
        must = f"be one of {', '.join(_GRADIENTS)}, or a tensor of their numbers"
        raise TypeError(wording(op, "gradient", must, type(gradient).__name__))
    rows = [*places, gradient]
    for (name, dtype, _), gain in zip(blending_op.ROWS[5:], gains, strict=True):
        if isinstance(gain, (int, float)):
            gain = torch.full((n,), gain, dtype=dtype, device=device)
        elif gain is not None:
            check_tensor(op, name, gain)
            check_dtype(op, name, gain, FLOATS)
            gain = gain.to(dtype)
        rows.append(gain)
    # A sample that the sine transform does not serve is solved by multigrid.
    steps = MAX_ITERATIONS.get(solver, MAX_ITERATIONS["multigrid"])
    return target, source, mask, *rows, region, solver, float(tol), rtol, steps


def stop_of(dtype: torch.dtype, tol: float | None = None) -> tuple[float, float]:
    """Where to stop, absolute in the unit of images of ``dtype`` and relative; from grey levels."""
    if tol is None:
        tol, rtol = TOLERANCES[torch.float64 if dtype == torch.float64 else torch.float32]
    else:
        tol, rtol = tol / _LEVELS, 0.0
    return (tol * _LEVELS if dtype == torch.uint8 else tol), rtol


def _check_names(op: str, region: str, gradient: str, solver: str, compat: str | None) -> None:
    choices: dict[str, tuple[object, tuple[object, ...]]] = {
        "compat": (compat, (None, "opencv")),
        "region": (region, ("mask", "rect")),
        "gradient": (gradient, _GRADIENTS),
        "solver": (solver, ("auto", *SOLVERS)),
    }
    if compat == "opencv":
        if region != "mask":
            raise ValueError(wording(op, "region", "be left out with compat", region))
        choices["gradient"] = (gradient, tuple(name for name in _GRADIENTS if name != "average"))
        choices["solver"] = (solver, ("auto", "sine"))
    for name, (given, allowed) in choices.items():
        if given not in allowed:
            must = f"be one of {', '.join(map(str, allowed))}"
            must += " with compat" if compat == "opencv" else ""
            raise ValueError(wording(op, name, must, given))
