# SPDX-License-Identifier: Apache-2.0
"""Names that come from users' files, made fit for terminals and for new files."""

from __future__ import annotations

import os
from pathlib import PurePath

_LONGEST = 120  # bytes; file systems allow 255, and endings and numbers are still to come


def printable(name: str | PurePath) -> str:
    r"""The name as valid Unicode; bytes that are none, which file systems allow, become \xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def safe_file_name(name: str) -> str:
    """A file name that stays in its folder, made of letters and digits of any script, "-_.".

    All else becomes "_" and leading dots go, so "../a b/<c>.png" gives "_a_b__c_.png".
    """
    kept = "".join(c if c.isalnum() or c in "-_." else "_" for c in printable(name))
    short = kept.lstrip(".").encode()[:_LONGEST].decode("utf-8", "ignore")
    return short or "_"


def unique_file_name(name: str, taken: set[str]) -> str:
    """`safe_file_name`, with a number at its end if it is taken already; adds it to `taken`.

    Names that differ in case alone count as equal, as on many file systems.
    """
    safe = safe_file_name(name)
    result, number = safe, 2
    while result.casefold() in taken:
        result, number = f"{safe}-{number}", number + 1
    taken.add(result.casefold())
    return result
