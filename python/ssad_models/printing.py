# SPDX-License-Identifier: Apache-2.0
"""Tables of reports on the screen."""

from __future__ import annotations

from typing import Literal

import rich.box
import rich.table
from rich.console import Console
from rich.text import Text

from ssad_models.report import Table

_STYLES = {"below": "red", "above": "green"}


def narrow_table(title: str) -> rich.table.Table:
    """A table without columns yet, whose frame takes as little as can be of 80 columns."""
    return rich.table.Table(
        title=title, box=rich.box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False
    )


def print_table(table: Table, console: Console) -> None:
    """Print a table and its note; rows that end in a verdict have its colour."""
    shown = narrow_table(table.title)
    for i, heading in enumerate(table.headings):
        justify: Literal["left", "right"] = "right" if i else "left"
        shown.add_column(Text(heading), justify=justify, overflow="fold", no_wrap=i < 2)
    for row in table.rows:
        shown.add_row(*map(Text, row), style=_STYLES.get(row[-1], ""))
    console.print(shown)
    if table.note:
        console.print(table.note, markup=False, highlight=False)
