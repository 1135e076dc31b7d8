# SPDX-License-Identifier: Apache-2.0
"""What became of a sample."""

from __future__ import annotations

import enum

from torch import Tensor


class Status(enum.IntEnum):
    """Per-sample outcome of an augmentation, returned as int8.

    A sample that is not applied comes back bit-identical, with an all-zero mask.

    Attributes:
        APPLIED: the patch was pasted whole.
        GATED: nothing was drawn for it, with probability 1 - p; or its code says so.
        NO_PLACE: the patch or its place lies outside the image, or does not fit.
        EMPTY: the patch has no pixel.
        NOT_CONVERGED: a solver was stopped by its number of iterations.
        NOT_FINITE: an angle is not finite, or a jitter is not within ±1e6; or a value that a
            solution depends on is not finite.
        CLIPPED: applied, but the patch or its canvas reached beyond the image.
    """

    APPLIED = 0
    GATED = 1
    NO_PLACE = 2
    EMPTY = 3
    NOT_CONVERGED = 4
    NOT_FINITE = 5
    CLIPPED = 16


def is_applied(status: Tensor) -> Tensor:
    """Whether each sample was applied, clipped or whole; bool of the shape of ``status``."""
    return status % Status.CLIPPED.value == Status.APPLIED.value


def raise_for_status(op: str, status: Tensor) -> None:
    """Raise RuntimeError if a sample could not be applied; waits for the device."""
    bad = ~is_applied(status) & (status != Status.GATED.value)
    if bad.any():
        index = int(bad.nonzero()[0, 0])
        name = Status(int(status[index])).name
        msg = f"{op}: {int(bad.sum())} of {len(status)} samples not applied, first {index}: {name}"
        raise RuntimeError(msg)
