# SPDX-License-Identifier: Apache-2.0
"""Poisson's equation: a launch for the masks, then three for the planes: load, solve, store."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssad_kernels.reference.poisson import all_but_the_ring
from ssad_kernels.triton import poisson_mask, poisson_plane, poisson_solvers
from ssad_kernels.triton._variants import Variant
from ssad_kernels.triton.medians import as_bytes
from ssad_kernels.triton.poisson_mask import BLOCK, COLUMNS, OPTIONS
from ssad_kernels.triton.poisson_plane import TERMS

_TILE, _DEPTH = 32, 16


@triton.jit
def _poisson_product_kernel(
    a, b, weights, out, rows, columns, depth, a_pitch, b_pitch, out_pitch, column_tiles, tiles,
    a_plane, b_plane, out_plane, is_weighted: tl.constexpr, tile: tl.constexpr, step: tl.constexpr,
):  # fmt: skip
    """A tile of a plane's product: out = a b, times weights if asked."""
    index = tl.program_id(0).to(tl.int64)
    plane = index // tiles
    number = index % tiles
    y = number // column_tiles * tile + tl.arange(0, tile)
    x = number % column_tiles * tile + tl.arange(0, tile)
    a += plane * a_plane
    b += plane * b_plane
    total = tl.zeros((tile, tile), out.dtype.element_ty)
    for start in range(0, depth, step):
        k = start + tl.arange(0, step)
        is_a = (y < rows)[:, None] & (k < depth)[None, :]
        is_b = (k < depth)[:, None] & (x < columns)[None, :]
        left = tl.load(a + y[:, None] * a_pitch + k[None, :], mask=is_a, other=0)
        right = tl.load(b + k[:, None] * b_pitch + x[None, :], mask=is_b, other=0)
        total = tl.dot(left, right, total, input_precision="ieee", out_dtype=total.dtype)
    mask = (y < rows)[:, None] & (x < columns)[None, :]
    if is_weighted:
        total *= tl.load(weights + y[:, None] * columns + x[None, :], mask=mask, other=0)
    to = out + plane * out_plane + y[:, None] * out_pitch + x[None, :]
    tl.store(to, total, mask=mask)


def _sines(n: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The sine transform of n points, its own inverse, and the eigenvalues of its modes."""
    k = torch.arange(1, n + 1, device=like.device)
    # Whole periods taken off first, so that the angles are exact.
    angle = (k[:, None] * k % (2 * (n + 1))).double() * (math.pi / (n + 1))
    values = 4.0 * torch.sin(k.double() * (math.pi / (2 * (n + 1)))).square()
    return (angle.sin() * math.sqrt(2.0 / (n + 1))).to(like.dtype).contiguous(), values


def _solve_directly(b: Tensor, x: Tensor, h: int, w: int) -> None:
    """Sine transforms of all planes' columns and rows, a division per mode, and back."""
    (of_columns, high), (of_rows, wide) = _sines(h, b), _sines(w, b)
    weights = (1.0 / (high[:, None] + wide)).to(b.dtype)
    # Where planes have their pixels, see poisson_mask.py.
    b, x = (
        planes[:, w + 2 :].as_strided((len(planes), h, w), (planes.stride(0), w + 1, 1))
        for planes in (b, x)
    )
    one, other = b.new_empty((2, *b.shape))
    column_tiles = triton.cdiv(w, _TILE)
    tiles = triton.cdiv(h, _TILE) * column_tiles
    steps = (
        (of_columns, b, one), (one, of_rows, other), (of_columns, other, one), (one, of_rows, x),
    )  # fmt: skip
    for left, right, out in steps:
        matrices = (left, right, out)
        planes = (0 if matrix.dim() == 2 else matrix.stride(0) for matrix in matrices)
        _poisson_product_kernel[(len(b) * tiles,)](
            left, right, weights, out, h, w, left.shape[-1], *(m.stride(-2) for m in matrices),
            column_tiles, tiles, *planes, out is other, _TILE, _DEPTH,
        )  # fmt: skip


def _room(height: int, width: int, *, is_multigrid: bool) -> int:
    """Elements of the planes of all levels of a mask, at most."""
    h, w = sorted((height, width))
    room = (h + 2) * (w + 2)
    while is_multigrid and w > 1:
        h, w = max(h // 2, 1), w // 2
        room += (h + 2) * (w + 2)
    return room


def launch(
    rhs: Tensor,
    mask: Tensor | None,
    boundary: Tensor,
    solver: str,
    tol: float,
    rtol: float,
    max_iterations: int,
    solution: Tensor,
    status: Tensor,
    iterations: Tensor,
    residual: Tensor,
) -> None:
    """See `ssad_kernels.poisson_solve`."""
    n, channels, height, width = rhs.shape
    planes, pixels = n * channels, height * width
    if planes == 0:
        return
    # Without a mask all samples have the same one.
    masks = all_but_the_ring(rhs)[0] if mask is None else mask.contiguous()
    masks, mask_step = as_bytes(masks), 0 if mask is None else 1
    is_multigrid = solver == "multigrid"
    room = _room(height, width, is_multigrid=is_multigrid)
    count = masks.shape[0]
    index = torch.int32 if 2 * room < 1 << 31 else torch.int64
    table = torch.empty((count, COLUMNS.value), dtype=index, device=rhs.device)
    gaps = torch.empty((count,), dtype=torch.float64, device=rhs.device)
    # Zeros around the planes stay zeros.
    inverses, degrees = rhs.new_zeros((2, count, room))
    leaks = rhs.new_zeros((count, 2, room))
    b, x, p, q = rhs.new_zeros((4, planes, room))
    terms = rhs.new_empty((planes, TERMS.value))
    rhs, boundary = rhs.contiguous(), boundary.contiguous()
    solution.copy_(boundary)
    numbers = (pixels, channels, mask_step, room)
    limits = (max_iterations, tol, rtol)
    with torch.cuda.device_of(rhs):
        poisson_mask.MASK[(count,)](
            masks, table, inverses, degrees, leaks, gaps, height, width, room,
            is_multigrid, solver in ("sor", "jacobi"), BLOCK, **OPTIONS,
        )  # fmt: skip
        poisson_plane.LOAD[(planes,)](
            rhs, masks, boundary, inverses, table, terms, status, iterations, b, *numbers, BLOCK,
            **poisson_plane.LOAD_OPTIONS,
        )  # fmt: skip
        if is_multigrid:
            scratch = rhs.new_zeros((2, planes, room))
            poisson_solvers.MULTIGRID[(planes,)](
                b, x, p, q, *scratch, inverses, degrees, table, terms, status, iterations, *numbers,
                *limits, BLOCK, **OPTIONS,
            )  # fmt: skip
        elif solver != "sine":
            poisson_solvers.RELAX[(planes,)](
                b, x, q, inverses, degrees, gaps, table, terms, status, iterations, *numbers[1:],
                *limits, solver == "sor", BLOCK, **OPTIONS,
            )  # fmt: skip
        elif min(height, width) > 2:
            _solve_directly(b, x, *sorted((height - 2, width - 2)))
        poisson_plane.STORE[(planes,)](
            masks, inverses, degrees, table, terms, status, b, x, solution, residual, *numbers,
            BLOCK, **OPTIONS,
        )  # fmt: skip


def _products() -> list[Variant]:
    found = []
    for pointer in ("*fp32", "*fp64"):
        pointers = dict.fromkeys(("a", "b", "weights", "out"), pointer)
        constants = {"is_weighted": True, "tile": _TILE, "step": _DEPTH}
        found.append(Variant(_poisson_product_kernel, pointers, constants))
    return found


VARIANTS = (
    *poisson_mask.variants(),
    *poisson_plane.variants(),
    *poisson_solvers.variants(),
    *_products(),
)
