# SPDX-License-Identifier: Apache-2.0
"""FPI and PII: a square of another image, mixed or blended into the same place of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ssad_kernels._errors import wording
from ssad_kernels.nsa_steps import Gradient
from ssad_kernels.transforms._base import check_range
from ssad_kernels.transforms.nsa import NSA


class FPI(NSA):
    """Foreign patch interpolation: mix a square of another image into each image.

    Tan, Hou, Batten, Qiu and Kainz, "Detecting Outliers with Foreign Patch Interpolation", MELBA
    2022. One square, cut and pasted at the same place; label f where a pixel changed. As the NSA
    paper compares with it: ``NSA(resize=None, shift=False, gradient="uniform", label="factor")``.

    Args:
        half_size: bounds of half the side, in parts of the image's side.
        core: centres lie in this part of each axis, 0.5 or, for abdomens, 0.8.
        factor: range of f, the foreign image's share.
        **options: ``bank``, ``compat``, ``p``, ``inplace``, ``return_status`` and ``stream`` of
            `NSA`, which also says how it is called; its other options but ``height`` and ``width``
            may be given too.

    Raises:
        TypeError, ValueError: as `NSA`.

    Gradient and determinism: as `NSA`.
    """

    _STREAM = "fpi"
    _LABEL_SIZE = 1
    _GRADIENT: Gradient = "uniform"

    def __init__(
        self,
        half_size: Sequence[float] = (0.05, 0.2),
        *,
        core: float = 0.5,
        factor: Sequence[float] = (0.05, 0.95),
        **options: Any,
    ) -> None:
        own: dict[str, Any] = {
            "size": "square",
            "patches": 1,
            "resize": None,
            "shift": False,
            "gradient": self._GRADIENT,
            "label": "factor",
            "tolerance": 0.0,
        }
        op = type(self).__name__
        for name in ("height", "width"):
            if name in options:
                must = "be left out, half_size holds for both sides"
                raise TypeError(wording(op, name, must, options[name]))
        bounds = check_range(op, "half_size", half_size, 0.0, 0.5)
        super().__init__(bounds, bounds, core=core, factor=factor, **(own | options))


class PII(FPI):
    """Poisson image interpolation: blend a square of another image into each image, weakened.

    Tan, Hou, Day, Simpson, Rueckert and Kainz, "Detecting Outliers with Poisson Image
    Interpolation", MICCAI 2021. As `FPI`, but on each edge between pixels the larger of the foreign
    gradient times f and the image's own times 1 - f. As the NSA paper compares with it:
    ``NSA(resize=None, shift=False, gradient="scaled", label="factor", compat="reference")``, there
    with a grey mask for f.

    Args:
        half_size, factor, **options: as in `FPI`.
        core: centres lie in this part of each axis.

    Raises:
        TypeError, ValueError: as `NSA`.

    Gradient and determinism: as `NSA`.
    """

    _STREAM = "pii"
    _GRADIENT: Gradient = "scaled"

    def __init__(
        self,
        half_size: Sequence[float] = (0.05, 0.2),
        *,
        core: float = 0.8,
        factor: Sequence[float] = (0.05, 0.95),
        **options: Any,
    ) -> None:
        super().__init__(half_size, core=core, factor=factor, **options)
