# SPDX-License-Identifier: Apache-2.0
"""Threads for work that is native code and lets go of the interpreter lock."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

_KEPT = 1 << 30  # bytes


@contextmanager
def worker_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads in which torch and this library use one thread each.

    On leaving, work that has not begun is dropped and work that has is waited for. See also
    `reuse_freed_memory`, which stays in force.
    """
    reuse_freed_memory()
    # A thread takes the number last set anywhere unless it has asked before, so ask in this one.
    torch.get_num_threads()
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def reuse_freed_memory() -> None:
    """Make glibc keep freed memory, about 1 GiB, for all threads; elsewhere do nothing.

    By default it returns blocks as large as a batch to the system, which hands them out again page
    by page, zeroed, for the next batch. That takes about as long as CutPaste itself.
    """
    m_trim_threshold, m_mmap_max, m_arena_max = -1, -4, -8  # of malloc.h
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(m_trim_threshold, _KEPT)
        mallopt(m_mmap_max, 0)
        mallopt(m_arena_max, 1)
