"""A histogram of run times on a logarithmic axis: counts in, positions out; the template draws. Pure.

Places across are parts of a hundred, so that the drawing is as wide as there is room; heights are pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from goqueue.dashboard.charts.duration_axis import DurationAxis, Label, label_of_bucket
from goqueue.dashboard.parts.presentation import duration, number, percent
from goqueue.insight.histograms import quantile, trimmed

__all__ = [
    "HEIGHT",
    "Grid",
    "HistogramBar",
    "HistogramChart",
    "Mark",
    "Row",
    "histogram_chart",
    "round_steps",
]

#: Of the bars alone, and what is above the highest.
HEIGHT = 160
TOP = 16

#: What was counted at all can be seen.
LEAST_HEIGHT = 2.0

#: Of a bar's place, so much is bar.
_FILLED = 0.86

_STEPS = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class HistogramBar:
    """The bar of one bucket in which something is."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A line through the bars: a quantile, or the average."""

    x: float
    name: str
    title: str


@dataclass(frozen=True, slots=True)
class Grid:
    """A line across, with how many it stands for."""

    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """A bucket as the table beside it has it."""

    bucket: str
    count: int
    part: float


@dataclass(frozen=True, slots=True)
class HistogramChart:
    """A histogram as its template draws it.

    Attributes:
        words: the whole in one sentence, for who cannot see it.
    """

    bars: list[HistogramBar]
    labels: list[Label]
    marks: list[Mark]
    grid: list[Grid]
    rows: list[Row]
    words: str


def histogram_chart(counts: Sequence[int], *, mean_seconds: float) -> HistogramChart | None:
    """Draw some counts by bucket, of durations with this average; None: nothing was counted."""
    counts = trimmed(counts)
    if not counts:
        return None
    filled = [bucket for bucket, count in enumerate(counts) if count]
    axis = DurationAxis.around(filled[0], filled[-1])
    total, most = sum(counts), max(counts)
    return HistogramChart(
        bars=[_bar(axis, bucket, counts[bucket], most, total) for bucket in filled],
        labels=axis.labels(),
        marks=_marks(axis, counts, mean_seconds),
        grid=[Grid(_y(value, most), number(value)) for value in round_steps(most)],
        rows=[Row(label_of_bucket(bucket), counts[bucket], counts[bucket] / total) for bucket in filled],
        words=_words(counts, filled, total),
    )


def round_steps(most: int) -> list[int]:
    """Return two to five round numbers up to the largest."""
    power = 1
    while True:
        for step in _STEPS:
            if most <= step * power * _STEPS[-1]:
                return list(range(step * power, most + 1, step * power))
        power *= 10


def _bar(axis: DurationAxis, bucket: int, count: int, most: int, total: int) -> HistogramBar:
    width = 100 / axis.size
    y = min(_y(count, most), TOP + HEIGHT - LEAST_HEIGHT)
    return HistogramBar(
        x=round(axis.place_of_bucket(bucket) * 100 + width * (1 - _FILLED) / 2, 3),
        y=y,
        width=round(width * _FILLED, 3),
        height=round(TOP + HEIGHT - y, 1),
        title=f"{label_of_bucket(bucket)}: {number(count)} ({percent(count / total)})",
    )


def _y(count: int, most: int) -> float:
    return round(TOP + HEIGHT * (1 - count / most), 1)


def _marks(axis: DurationAxis, counts: Sequence[int], mean_seconds: float) -> list[Mark]:
    values = (("p50", quantile(counts, 0.5)), ("p95", quantile(counts, 0.95)), ("average", mean_seconds))
    return [
        Mark(round(axis.place_of(seconds) * 100, 3), name, f"{name}: {duration(seconds)}")
        for name, seconds in values
        if seconds is not None
    ]


def _words(counts: Sequence[int], filled: Sequence[int], total: int) -> str:
    top = max(filled, key=lambda bucket: counts[bucket])
    return (
        f"Histogram of {number(total)} run times, {label_of_bucket(filled[0])} up to "
        f"{label_of_bucket(filled[-1])}; most often {label_of_bucket(top)}"
    )
