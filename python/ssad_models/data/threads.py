# SPDX-License-Identifier: Apache-2.0
"""Threads for work that is native code and lets go of the interpreter lock."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

_LARGEST = 32 << 20  # bytes; glibc accepts no more
_KEPT = 1 << 29  # bytes


@contextmanager
def worker_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads in which torch and this library use one thread each.

    On leaving, work that has not begun is dropped and work that has is waited for.
    """
    # A thread takes the number last set anywhere unless it has asked before, so ask in this one,
    # and set it again for threads to come.
    usual = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(usual)


def reuse_freed_memory() -> None:
    """Make glibc keep freed blocks of up to 32 MiB, about 0.5 GiB of them; elsewhere do nothing.

    By default it returns blocks as large as a batch to the system, which hands them out again page
    by page, zeroed, for the next batch: about as much work as CutPaste. Larger blocks still are.
    Threads to come share one heap, since in heaps of their own there is room for 64 MiB only.
    """
    m_trim_threshold, m_mmap_threshold, m_arena_max = -1, -3, -8  # of malloc.h
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(m_mmap_threshold, _LARGEST)
        mallopt(m_trim_threshold, _KEPT)
        mallopt(m_arena_max, 1)
