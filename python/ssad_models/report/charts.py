# SPDX-License-Identifier: Apache-2.0
"""Charts as coordinates; the template turns them into SVG, and the style sheet colours them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ssad_models.evaluate import Histogram
from ssad_models.report.model import Points

# Drawn at about this size in CSS pixels, so that text in a chart is as large as text around it.
WIDTH, HEIGHT = 320, 208
LEFT, RIGHT, TOP, BOTTOM = 38, 14, 10, 38

Ticks = Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Line:
    """A line in the colour of one series, or an area under it.

    Attributes:
        series: Number of the style.
        path: SVG path data.
        area: Whether the inside is filled.
    """

    series: int
    path: str
    area: bool = False


@dataclass(frozen=True)
class Chart:
    """Everything in the coordinates of a viewBox of WIDTH x HEIGHT.

    Attributes:
        title: Its caption.
        description: What a reader who does not see it is told.
        x_label: What is across, with its unit.
        y_label: What is upwards.
        x_ticks: (position, text) below.
        y_ticks: (position, text) at the left.
        lines: What is drawn, in this order.
        reference: Path of a thin line to compare with, such as chance.
        marker: (position, text) of a vertical line, such as a threshold.
    """

    title: str
    description: str
    x_label: str
    y_label: str
    x_ticks: Ticks
    y_ticks: Ticks
    lines: Sequence[Line]
    reference: str = ""
    marker: tuple[float, str] | None = None


class _Scale:
    """From data to the coordinates of the drawing."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.x_range, self.y_range = x, y

    def x(self, value: float) -> float:
        low, high = self.x_range
        part = (value - low) / ((high - low) or 1.0)
        return round(LEFT + part * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        low, high = self.y_range
        part = (value - low) / ((high - low) or 1.0)
        return round(HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM), 1)

    def path(self, points: Points) -> str:
        return "M" + "L".join(f"{self.x(x):g} {self.y(y):g}" for x, y in points)


def _round_numbers(low: float, high: float, most: int = 5) -> list[float]:
    """Up to `most` multiples of 1, 2 or 5 times a power of ten, within the range."""
    span = (high - low) or 1.0
    unit = 10.0 ** math.floor(math.log10(span / most))
    step = next(unit * factor for factor in (1, 2, 5, 10) if span / (unit * factor) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * number for number in range(first, last + 1)]


def _text(value: float) -> str:
    """Short: 1500 as 1.5k."""
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:.6g}"


def _percent(scale: _Scale, values: Sequence[float]) -> Ticks:
    return [(scale.y(value), f"{100 * value:.0f}") for value in values]


def roc(runs: Sequence[tuple[int, Points]]) -> Chart:
    """Receiver operating characteristics, one per (series, points)."""
    scale = _Scale((0, 1), (0, 1))
    quarters = (0, 0.25, 0.5, 0.75, 1)
    return Chart(
        title="ROC curves",
        description="Detection rate over false-alarm rate; the areas are the image AUROCs above.",
        x_label="false-alarm rate, %",
        y_label="detection rate, %",
        x_ticks=[(scale.x(value), f"{100 * value:.0f}") for value in quarters],
        y_ticks=_percent(scale, quarters),
        lines=[Line(series, scale.path(points)) for series, points in runs],
        reference=scale.path([(0, 0), (1, 1)]),
    )


def ladder(kind: str, runs: Sequence[tuple[int, Points]]) -> Chart:
    """AUROC over strength of one kind, rungs evenly spaced; (series, (strength, AUROC) points)."""
    strengths = [strength for strength, _ in runs[0][1]]
    lowest = min(auroc for _, points in runs for _, auroc in points)
    bottom = 0.4 if lowest >= 0.4 else math.floor(4 * lowest) / 4
    scale = _Scale((0, max(len(strengths) - 1, 1)), (bottom, 1))
    return Chart(
        title=kind,
        description=f"Image AUROC of {kind} at strengths {strengths[0]:g} to {strengths[-1]:g}; "
        "the tables below hold the figures.",
        x_label="strength",
        y_label="AUROC, %",
        x_ticks=[(scale.x(rung), f"{strength:g}") for rung, strength in enumerate(strengths)],
        y_ticks=_percent(scale, [v for v in (0, 0.25, 0.5, 0.75, 1) if v >= bottom]),
        lines=[
            Line(series, scale.path([(rung, auroc) for rung, (_, auroc) in enumerate(points)]))
            for series, points in runs
        ],
        reference=scale.path([(0, 0.5), (len(strengths) - 1, 0.5)]),
    )


def bars(kind: str, aurocs: Sequence[tuple[int, float]]) -> Chart:
    """AUROC of one kind, a bar from chance for each (series, AUROC)."""
    lowest = min(auroc for _, auroc in aurocs)
    bottom = 0.4 if lowest >= 0.4 else math.floor(4 * lowest) / 4
    scale = _Scale((0, len(aurocs)), (bottom, 1))
    places = [(place + 0.5, series, auroc) for place, (series, auroc) in enumerate(aurocs)]
    return Chart(
        title=kind,
        description=f"Image AUROC of {kind}; the tables below hold the figures.",
        x_label="a bar for each method",
        y_label="AUROC, %",
        x_ticks=[(scale.x(x), f"{100 * auroc:.0f}") for x, _, auroc in places],
        y_ticks=_percent(scale, [v for v in (0, 0.25, 0.5, 0.75, 1) if v >= bottom]),
        lines=[Line(series, scale.path([(x, 0.5), (x, auroc)])) for x, series, auroc in places],
        reference=scale.path([(0, 0.5), (len(aurocs), 0.5)]),
    )


def curves(name: str, runs: Sequence[tuple[int, Points]]) -> Chart:
    """One logged quantity over training steps, a line per (series, points)."""
    steps, values = zip(*(point for _, points in runs for point in points), strict=True)
    low, high = min(0.0, *values), max(values)
    scale = _Scale((min(steps), max(steps)), (low, high if high > low else low + 1))
    return Chart(
        title=name,
        description=f"{name} over {max(steps):g} steps; the last value is {runs[0][1][-1][1]:.3g}.",
        x_label="step",
        y_label="",
        x_ticks=[(scale.x(v), _text(v)) for v in _round_numbers(*scale.x_range) if v % 1 == 0],
        y_ticks=[(scale.y(v), _text(v)) for v in _round_numbers(*scale.y_range)],
        lines=[Line(series, scale.path(points)) for series, points in runs],
    )


def histogram(title: str, counts: Histogram, threshold: float | None) -> Chart:
    """Scores of normal (series 0) and of anomalous images (series 1), as shares of each."""
    edges = counts.edges
    heights = [[n / max(sum(side), 1) for n in side] for side in (counts.normal, counts.anomalous)]
    scale = _Scale((edges[0], edges[-1]), (0, max(map(max, heights))))
    lines = []
    for series, side in enumerate(heights):
        steps = [
            point
            for left, right, height in zip(edges, edges[1:], side, strict=False)
            for point in ((left, height), (right, height))
        ]
        lines.append(Line(series, scale.path([(edges[0], 0), *steps, (edges[-1], 0)]), area=True))
    return Chart(
        title=title,
        description=f"Scores of {sum(counts.normal)} normal and {sum(counts.anomalous)} anomalous "
        "images; the less they overlap, the better.",
        x_label="score",
        y_label="share, %",
        x_ticks=[(scale.x(v), _text(v)) for v in _round_numbers(edges[0], edges[-1])],
        y_ticks=_percent(scale, _round_numbers(*scale.y_range, most=4)),
        lines=lines,
        marker=None if threshold is None else (scale.x(threshold), "threshold"),
    )
