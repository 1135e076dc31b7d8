# SPDX-License-Identifier: Apache-2.0
"""One self-contained HTML page about one run or many: `write_report(path, Report(...))`."""

from ssad_models.report.gallery import Picture, gallery
from ssad_models.report.model import Report, Run, Table, read_curves
from ssad_models.report.page import write_report

__all__ = ["Picture", "Report", "Run", "Table", "gallery", "read_curves", "write_report"]
