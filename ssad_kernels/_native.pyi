# SPDX-License-Identifier: Apache-2.0
# The C++ extension. Private: pointers are not checked, each function has one caller.
from collections.abc import Sequence

cpu_level: str

def cut_paste(
    images: int,
    dtype: int,
    shape: Sequence[int],
    strides: Sequence[int],
    params: Sequence[int],
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
    p: float,
    scar: bool,
    area: Sequence[float],
    aspect: Sequence[float],
    length: Sequence[int],
    side: Sequence[int],
    angle: Sequence[float],
    jitter: Sequence[float],
    other_source: bool,
    out: Sequence[int],
    /,
) -> None: ...
def philox(keys: int, n: int, stream: int, count: int, out: int, threads: int, /) -> None: ...
