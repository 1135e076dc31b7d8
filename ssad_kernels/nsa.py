# SPDX-License-Identifier: Apache-2.0
"""Patches of NSA, FPI and PII: their parameters, and which pixels they cover.

Schlüter, Tan, Hou and Kainz, "Natural Synthetic Anomalies for Self-Supervised Anomaly Detection and
Localization", ECCV 2022; Tan et al., "Detecting Outliers with Foreign Patch Interpolation", MELBA
2022; Tan et al., "Detecting Outliers with Poisson Image Interpolation", MICCAI 2021.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ssad_kernels import _backend, reference
from ssad_kernels._errors import check_device, check_dtype, check_shape, check_tensor, wording
from ssad_kernels._op import define_op


class NsaParams(NamedTuple):
    """What is pasted where, for a batch of N images and at most P patches each.

    Boxes are ``(y, x, h, w)`` in pixels. All fields of a patch that is not applied are zero.

    Attributes:
        source_index: (N,) int64, the image that all patches of a sample are cut from.
        source_box: (N, P, 4) int64, in the source.
        target_box: (N, P, 4) int64, in the target; its size is that after resizing.
        ellipse: (N, P, E, 5) float64, E ellipses whose union is the patch's shape, E = 0 for
            rectangles: centre y, x, semi-axis y, x in the target patch's pixels, angle in degrees.
        apply: (N, P) bool.
        factor: (N,) float64, the weight of the source for interpolation.
        status: (N,) int8: APPLIED, GATED, or NO_PLACE if no patch is applied; see `Status`.
    """

    source_index: Tensor
    source_box: Tensor
    target_box: Tensor
    ellipse: Tensor
    apply: Tensor
    factor: Tensor
    status: Tensor


# Name, dtype and trailing shape of the fields that `nsa_regions` looks at.
_ROWS: tuple[tuple[str, torch.dtype, tuple[int | str, ...]], ...] = (
    ("source_index", torch.int64, ()),
    ("source_box", torch.int64, ("P", 4)),
    ("target_box", torch.int64, ("P", 4)),
    ("ellipse", torch.float64, ("P", "E", 5)),
    ("apply", torch.bool, ("P",)),
)


def nsa_regions(
    params: NsaParams,
    height: int,
    width: int,
    *,
    source_masks: Tensor | None = None,
    target_masks: Tensor | None = None,
    side: int | None = None,
    paste: Literal["blend", "label"] = "blend",
    is_reference: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Which pixels are to be labelled and which are to be blended.

    A patch is labelled in its shape P (a rectangle, or ellipses in it) where the source's object
    mask M_s or the target's M_d shows an object. M_s is the mask in the source's box, resized
    bilinearly to the patch's size and taken where it is above one half; M_d is the mask in the
    target's box, and all labels of earlier patches. Blended is what is labelled and what neither
    mask shows, without the outermost pixels of the box: of a rectangle always the full inside.
    Without object masks everything is an object.

    A patch with less than 50 pixels to blend is left out, and one whose boxes are not within the
    images.

    Args:
        params: N samples of P patches, see `NsaParams`; `sample_nsa` draws them.
        height: of the images, 1...16777215.
        width: likewise.
        source_masks: (M, 1, height, width) bool, where the sources show an object.
        target_masks: (N, 1, height, width) bool, likewise; both masks or none.
        side: of the masks returned, in pixels; a larger patch is left out. Default: the larger one
            of ``height`` and ``width``; `largest_patch` says what a law needs.
        paste: which masks to return: "blend", to be blended without a seam; or "label", what is
            labelled, to be mixed or copied.
        is_reference: do as the released code: a patch's labels replace those of earlier patches in
            its box, M_d stays as it is, and the second rotated coordinate of an ellipse is a sum.

    Returns:
        The label region (N, 1, height, width) bool, the union of the patches' label masks; and the
        masks to paste (N, P, side, side) bool, each from its patch's top-left corner, or None for
        rectangles that are pasted whole: all that are blended, and all without object masks.

    Raises:
        TypeError: for a dtype or kind that is not listed above.
        ValueError: for a wrong shape, device or size, or one mask without the other.

    Gradient: none. Determinism: identical on every device, without host synchronisation.

    Example:
        >>> import torch
        >>> box = torch.tensor([[[2, 3, 10, 9]]])
        >>> none, one = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.float64)
        >>> round_ones = torch.zeros(1, 1, 0, 5, dtype=torch.float64)
        >>> yes = torch.ones(1, 1, dtype=torch.bool)
        >>> params = NsaParams(none, box, box, round_ones, yes, one, none.to(torch.int8))
        >>> region, blend = nsa_regions(params, 16, 16)
        >>> int(region.sum()), blend is None
        (90, True)
    """
    op = "nsa_regions"
    if not isinstance(params, tuple) or len(params) != len(NsaParams._fields):
        raise TypeError(wording(op, "params", "be NsaParams", type(params).__name__))
    for name, value in zip(NsaParams._fields, params, strict=True):
        check_tensor(op, name, value)
    check_mask_kinds(op, source_masks, target_masks)
    if paste not in ("blend", "label"):
        raise ValueError(wording(op, "paste", "be blend or label", repr(paste)))
    region, masks = _nsa_regions(
        *params[:5],
        height,
        width,
        max(height, width) if side is None else side,
        source_masks,
        target_masks,
        is_reference,
        paste == "label",
    )
    return region, masks if masks.shape[2] else None


def check_mask_kinds(op: str, source_masks: Tensor | None, target_masks: Tensor | None) -> None:
    """Check that object masks are tensors, and both given or none."""
    for name, value in (("source_masks", source_masks), ("target_masks", target_masks)):
        if value is not None:
            check_tensor(op, name, value)
    if (source_masks is None) != (target_masks is None):
        missing = "source_masks" if source_masks is None else "target_masks"
        given = "target_masks" if source_masks is None else "source_masks"
        raise ValueError(wording(op, missing, f"be given with `{given}`", None))


def check_masks(
    op: str, source_masks: Tensor | None, target_masks: Tensor | None, shape: tuple[int, int, int]
) -> None:
    """Check object masks for images of ``shape`` (N, H, W) against each other and the images."""
    n, height, width = shape
    for name, value, count in (
        ("source_masks", source_masks, "M"),
        ("target_masks", target_masks, n),
    ):
        if value is not None:
            check_dtype(op, name, value, [torch.bool])
            check_shape(op, name, value, (count, 1, height, width))
    if source_masks is not None and n > 0 and source_masks.shape[0] == 0:
        must = "hold at least one mask"
        raise ValueError(wording(op, "source_masks", must, tuple(source_masks.shape)))


def check_sides(op: str, **sides: int) -> None:
    """Check the sizes of images."""
    for name, size in sides.items():
        if not 1 <= size < 1 << 24:
            raise ValueError(wording(op, name, "be in 1...16777215", size))


def _check(*args: Any) -> None:
    op = "nsa_regions"
    *params, height, width, side, source_masks, target_masks, _, _ = args
    check_sides(op, height=height, width=width, side=side)
    apply = params[4]
    shape = {"P": apply.shape[1] if apply.dim() == 2 else "P"}
    n = apply.shape[0] if apply.dim() == 2 else "N"
    for (name, dtype, tail), value in reversed(list(zip(_ROWS, params, strict=True))):
        check_dtype(op, name, value, [dtype])
        wanted = (n, *(shape.get(size, size) if isinstance(size, str) else size for size in tail))
        check_shape(op, name, value, wanted)
        if value.device != apply.device:
            check_device(op, name, value, apply.device)
    check_masks(op, source_masks, target_masks, (apply.shape[0], height, width))
    for name, value in (("source_masks", source_masks), ("target_masks", target_masks)):
        if value is not None:
            check_device(op, name, value, apply.device)


def _allocate(*args: Any) -> tuple[Tensor, Tensor]:
    ellipse, apply, height, width, side, source_masks = args[3:9]
    n, patches = apply.shape
    side = side if reference.nsa.has_masks(ellipse, source_masks, args[-1]) else 0
    return apply.new_empty((n, 1, height, width)), apply.new_empty((n, patches, side, side))


def dense(*tensors: Tensor | None) -> tuple[list[Tensor | None], list[int]]:
    """Contiguous tensors, to be kept while C++ runs, and their addresses; 0 for None."""
    kept = [None if tensor is None else tensor.contiguous() for tensor in tensors]
    return kept, [0 if tensor is None else tensor.data_ptr() for tensor in kept]


def _cpu(*args: Any) -> None:
    *params, height, width, side, source_masks, target_masks = args[:10]
    is_reference, pastes_label, region, paste = args[10:]
    _kept, addresses = dense(*params, source_masks, target_masks)
    n, patches, count = params[3].shape[:3]
    sources = 0 if source_masks is None else source_masks.shape[0]
    _backend.native.nsa_regions(
        addresses[:5],
        (n, patches, count, height, width, side, sources),
        addresses[5:],
        is_reference,
        pastes_label,
        region.data_ptr(),
        paste.data_ptr() if paste.shape[2] else 0,
        torch.get_num_threads(),
    )


def _triton(*args: Any) -> None:
    from ssad_kernels.triton.nsa_regions import launch  # Triton is slow to import, and optional

    launch(*args)


_nsa_regions = define_op(
    "nsa_regions(Tensor source_index, Tensor source_box, Tensor target_box, Tensor ellipse, "
    "Tensor apply, int height, int width, int side, Tensor? source_masks, Tensor? target_masks, "
    "bool is_reference, bool pastes_label) -> (Tensor region, Tensor paste)",
    check=_check,
    allocate=_allocate,
    cpu=_cpu,
    triton=_triton,
    reference=reference.nsa.nsa_regions,
)
