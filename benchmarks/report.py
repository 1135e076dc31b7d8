# SPDX-License-Identifier: Apache-2.0
"""Turns the JSON of pytest-benchmark into the table of results, if the tests of the ops are green.

``python benchmarks/report.py RESULTS.json --tests JUNIT.xml``
"""

from __future__ import annotations

import argparse
import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_HEADER = (
    "op",
    "shape",
    "dtype",
    "threads",
    "ours, µs per item",
    "peer",
    "peer, µs per item",
    "speed-up",
    "largest difference",
    "peak memory, MiB: ours / peer",
)


def red_tests(junit: Path) -> list[str]:
    """The reasons why no speed-up may be reported; empty if all tests passed."""
    if not junit.exists():
        return [f"{junit} does not exist: run the tests of the ops first"]
    cases = list(ET.parse(junit).iter("testcase"))
    failed = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    passed = [case for case in cases if len(case.findall("skipped")) == 0]
    return failed if failed or passed else [f"{junit} holds no test that ran"]


def read_rows(results: Path) -> list[dict[str, Any]]:
    """The rows that were measured, in the order of the run."""
    benchmarks = json.loads(results.read_text())["benchmarks"]
    return [b["extra_info"] for b in benchmarks if "speed_up" in b["extra_info"]]


def format_rows(rows: Iterable[dict[str, Any]]) -> str:
    """A markdown table, one line per operation, input and peer."""
    lines = [_line(_HEADER), _line("---" for _ in _HEADER)]
    for row in rows:
        error, memory = row["error"], row["peak_memory_mib"]
        difference = "-"
        if error:
            note = f" ({error['note']})" if error["note"] and error["value"] else ""
            difference = f"{error['value']:.2g} {error['unit']}{note}"
        low, median, high = row["speed_up"]
        cells = (
            f"`{row['op']}`",
            row["shape"],
            row["dtype"],
            str(row["environment"]["threads"]["torch"]),
            _time(row["ours_us"]),
            row["peer"],
            _time(row["peer_us"]),
            f"**{median:.2f}** ({low:.2f} to {high:.2f})",
            difference,
            f"{memory['ours']:.1f} / {memory['peer']:.1f}",
        )
        lines.append(_line(cells))
    return "\n".join(lines)


def format_targets(rows: Iterable[dict[str, Any]]) -> str:
    """One line per claim: reached or missed, and by how much."""
    lines = []
    for row in rows:
        target, speed_up = row["target"], row["speed_up"][1]
        if target:
            verdict = "reached" if speed_up >= target["minimum"] else "MISSED"
            lines.append(
                f"- {verdict}: `{row['op']}` {row['shape']} {row['dtype']}, {target['text']}: "
                f"measured {speed_up:.2f} (needed {target['minimum']:.2f})"
            )
    return "\n".join(lines)


def format_environment(row: dict[str, Any]) -> str:
    """Where the rows were measured."""
    where = row["environment"]
    dirty = " with uncommitted changes" if where["dirty"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    return (
        f"{where['date']}, commit {where['commit'][:12]}{dirty}, {where['cpu']}, C++ kernels "
        f"{where['backend']}, Python {where['python']}, {versions}."
    )


def report(rows: list[dict[str, Any]]) -> str:
    """The whole page."""
    return f"""# Benchmarks on the CPU

Made by `make bench`; one row: `pytest benchmarks -k NAME`, names from `--collect-only`.

{format_environment(rows[0])}

One thread for every library, or for each worker. Times are CPU times per item (image, sample, or
whole fit), wall times where the op says so; median and quartiles over the rounds. Each round runs
the peer and then ours; the speed-up is the median of the rounds' ratios peer / ours, with its
quartiles; below 1 we lose. Peak memory is what one call adds to the resident memory, results
included. The difference is measured before the timing.

## Targets

{format_targets(rows) or "None among these rows."}

## Rows

{format_rows(rows)}
"""


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _time(quartiles: list[float]) -> str:
    low, median, high = quartiles
    return f"{median:.4g} ({low:.4g} to {high:.4g})"


def main() -> None:
    """Print the report and write it, with its rows as JSON, to ``benchmarks/results``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="JSON of pytest-benchmark")
    parser.add_argument("--tests", type=Path, required=True, help="JUnit XML of the ops' tests")
    parser.add_argument("--name", default="cpu", help="of the files to write")
    arguments = parser.parse_args()
    if red := red_tests(arguments.tests):
        sys.exit("no speed-up is reported on red tests:\n  " + "\n  ".join(red))
    rows = read_rows(arguments.results)
    if not rows:
        sys.exit(f"{arguments.results} holds no row")
    page = report(rows)
    print(page)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{arguments.name}.md").write_text(page)
    (RESULTS / f"{arguments.name}.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
