# SPDX-License-Identifier: Apache-2.0
"""Writing the page."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from ssad_models.atomic import replacing
from ssad_models.names import printable
from ssad_models.report import charts
from ssad_models.report.model import Report
from ssad_models.report.view import View


def write_report(path: Path, report: Report) -> None:
    """Write the report as one HTML file that loads nothing from elsewhere and runs no script.

    Args:
        path: The file, replaced if it exists.
        report: What to show. Whatever it holds is escaped.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If the report holds no run.
    """
    environment = Environment(
        loader=PackageLoader("ssad_models.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(view=View(report), charts=charts)
    with replacing(path) as file:
        file.write(printable(page).encode())
