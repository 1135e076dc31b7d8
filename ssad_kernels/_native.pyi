# SPDX-License-Identifier: Apache-2.0
# The C++ extension. Private: pointers are not checked, each function has one caller.
from collections.abc import Sequence
from typing import Any

cpu_level: str
cuda_build: str

def cuda_runtime() -> tuple[int, int, list[int], list[int]]: ...
def cuda_median_filter(
    images: int,
    element: int,
    shape: Sequence[int],
    strides: Sequence[int],
    radius: int,
    is_square: bool,
    boxes: int,
    out: int,
    stream: int,
    /,
) -> None: ...
def cuda_difference_label(
    views: Sequence[int],
    dtype: int,
    shape: Sequence[int],
    strides: Sequence[Sequence[int]],
    kind: int,
    rows: Sequence[int],
    threshold: float,
    size: int,
    radius: int,
    out: int,
    stream: int,
    /,
) -> None: ...
def cuda_poisson_solve(
    inputs: Sequence[int],
    shape: Sequence[int],
    solver: int,
    tol: float,
    rtol: float,
    max_iterations: int,
    outputs: Sequence[int],
    scratch: int,
    stream: int,
    /,
) -> None: ...
def cuda_poisson_scratch_size(solver: int, shape: Sequence[int], /) -> int: ...
def cuda_multigrid_bytes(side: int, /) -> int: ...
def cuda_poisson_blend(
    views: Sequence[int],
    dtype: int,
    target_shape: Sequence[int],
    target_strides: Sequence[int],
    source_shape: Sequence[int],
    source_strides: Sequence[int],
    mask: int,
    mask_kind: int,
    mask_shape: Sequence[int],
    rows: Sequence[int],
    region: int,
    solver: int,
    tol: float,
    rtol: float,
    max_iterations: int,
    status: int,
    side: int,
    stream: int,
    /,
) -> None: ...
def cuda_poisson_blend_bytes(side: int, channels: int, mask_kind: int, /) -> int: ...
def cut_paste(
    source: int,
    out: int,
    dtype: int,
    shape: Sequence[int],
    strides: Sequence[int],
    params: Sequence[int],
    mask: int,
    status: int,
    threads: int,
    /,
) -> None: ...
def cut_paste_keyed(
    source: int,
    out: int,
    dtype: int,
    shape: Sequence[int],
    strides: Sequence[int],
    keys: int,
    streams: Sequence[int],
    law: Sequence[float],
    mask: int,
    status: int,
    threads: int,
    /,
) -> None: ...
def sample_cut_paste(
    keys: int,
    n: int,
    stream: int,
    height: int,
    width: int,
    law: Sequence[float],
    out: Sequence[int],
    /,
) -> None: ...
def poisson_solve(
    inputs: Sequence[int],
    dtype: int,
    shape: Sequence[int],
    solver: int,
    tol: float,
    rtol: float,
    max_iterations: int,
    outputs: Sequence[int],
    threads: int,
    /,
) -> None: ...
def poisson_blend(
    views: Sequence[int],
    dtype: int,
    target_shape: Sequence[int],
    target_strides: Sequence[int],
    source_shape: Sequence[int],
    source_strides: Sequence[int],
    mask: int,
    mask_kind: int,
    mask_shape: Sequence[int],
    rows: Sequence[int],
    region: int,
    solver: int,
    tol: float,
    rtol: float,
    max_iterations: int,
    status: int,
    threads: int,
    /,
) -> None: ...
def alpha_blend(
    views: Sequence[int],
    dtype: int,
    target_shape: Sequence[int],
    target_strides: Sequence[int],
    source_shape: Sequence[int],
    source_strides: Sequence[int],
    mask: int,
    mask_kind: int,
    mask_shape: Sequence[int],
    rows: Sequence[int],
    alpha: int,
    is_reference: bool,
    status: int,
    threads: int,
    /,
) -> None: ...
def median_filter(
    images: int,
    element: int,
    shape: Sequence[int],
    strides: Sequence[int],
    radius: int,
    is_square: bool,
    boxes: int,
    out: int,
    threads: int,
    /,
) -> None: ...
def object_mask(
    images: int,
    dtype: int,
    shape: Sequence[int],
    strides: Sequence[int],
    low: float,
    high: float,
    is_otsu: bool,
    size: int,
    out: int,
    threads: int,
    /,
) -> None: ...
def difference_label(
    views: Sequence[int],
    dtype: int,
    shape: Sequence[int],
    strides: Sequence[Sequence[int]],
    kind: int,
    rows: Sequence[int],
    threshold: float,
    size: int,
    radius: int,
    out: int,
    threads: int,
    /,
) -> None: ...
def count_above(
    addresses: Sequence[int], dtype: int, n: int, m: int, most: int, threads: int, /
) -> None: ...
def connected_components(
    masks: int, shape: Sequence[int], labels: int, counts: int, threads: int, /
) -> None: ...
def philox(keys: int, n: int, stream: int, count: int, out: int, threads: int, /) -> None: ...
def sample_nsa(
    keys: int,
    n: int,
    stream: int,
    sources: int,
    masks: Sequence[int],
    law: Sequence[float],
    axes: Sequence[int],
    side: int,
    quantiles: int,
    out: Sequence[int],
    threads: int,
    /,
) -> None: ...
def nsa_keyed(
    views: Sequence[int],
    dtype: int,
    shapes: Sequence[Sequence[int]],
    strides: Sequence[Sequence[int]],
    has_bank: bool,
    keys: int,
    streams: Sequence[int],
    law: Sequence[float],
    axes: Sequence[int],
    side: int,
    quantiles: int,
    masks: Sequence[int],
    background: tuple[bool, bool, float, float],
    how: Sequence[int],
    stop: tuple[float, float, int],
    numbers: Sequence[float],
    outputs: Sequence[int],
    threads: int,
    /,
) -> None: ...
def nsa_regions(
    params: Sequence[int],
    sizes: Sequence[int],
    masks: Sequence[int],
    is_reference: bool,
    pastes_label: bool,
    region: int,
    paste: int,
    threads: int,
    /,
) -> None: ...
def upsample(
    scores: int,
    dtype: int,
    shape: Sequence[int],
    strides: Sequence[int],
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    start: Sequence[int],
    sigma: Sequence[float],
    normalise: bool,
    is_adjoint: bool,
    out: int,
    threads: int,
    /,
) -> None: ...
def perlin_noise(
    inputs: Sequence[int],
    stream: int,
    n: int,
    size: Sequence[int],
    outputs: Sequence[int],
    threads: int,
    /,
) -> None: ...
def cell_masks(
    addresses: Sequence[int],
    sizes: Sequence[int],
    least: int,
    kind: int,
    below: int,
    threads: int,
    /,
) -> None: ...
def mask_images(
    addresses: Sequence[int],
    bytes: int,
    shape: Sequence[int],
    is_interleaved: bool,
    threads: int,
    /,
) -> None: ...
def composite(
    addresses: Sequence[int], dtype: int, shape: Sequence[int], threads: int, /
) -> None: ...
def refine_cells(
    addresses: Sequence[int], dtype: int, shape: Sequence[int], share: float, threads: int, /
) -> None: ...
def gms(
    kind: int,
    views: Sequence[int],
    dtype: int,
    shape: Sequence[int],
    strides: Sequence[Sequence[int]],
    scales: int,
    c: float,
    gradient: int,
    out: int,
    threads: int,
    /,
) -> None: ...
def ssim(
    views: Sequence[int],
    dtype: int,
    shape: Sequence[int],
    strides: Sequence[Sequence[int]],
    taps: Sequence[float],
    gradient: int,
    out: int,
    threads: int,
    /,
) -> None: ...

class _emulation:  # noqa: N801
    """A submodule, where the kernels of csrc/cuda run on the CPU (SSAD_CUDA=EMULATED)."""

    @staticmethod
    def set_order(name: str, seed: int, /) -> None: ...
    @staticmethod
    def omit_barrier(index: int, is_of_warps: bool, /) -> None: ...
    @staticmethod
    def count_traffic() -> None: ...
    @staticmethod
    def take_counts() -> dict[str, Any]: ...
