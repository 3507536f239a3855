"""Run times over time as bubbles: steps in, positions out; the template draws. Pure.

A bubble stands for the jobs of a while and a bucket of run times, its area for how many. Places across are
parts of a hundred; places down are pixels, the longest on top. The number of bubbles is bounded.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from goqueue.dashboard.charts.duration_axis import DurationAxis, Label, label_of_bucket
from goqueue.dashboard.parts.presentation import number
from goqueue.insight.rollup_rows import Step

__all__ = ["CIRCLES_MAX", "COLUMNS", "HEIGHT", "Circle", "ScatterChart", "scatter_chart"]

HEIGHT = 220

#: Whiles that a range is shown in.
COLUMNS = 60

CIRCLES_MAX = 1_200

_LARGEST = 8.0
_SMALLEST = 1.75

_LABELS = 4
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Circle:
    """The bubble of the jobs of a while and a bucket."""

    x: float
    y: float
    radius: float
    title: str


@dataclass(frozen=True, slots=True)
class ScatterChart:
    """The bubbles and axes as their template draws them.

    Attributes:
        durations: the labels of the axis that goes up; their place is from its top, in pixels.
        times: those of the other one.
        words: the whole in one sentence, for who cannot see it.
    """

    circles: list[Circle]
    durations: list[Label]
    times: list[Label]
    words: str


def scatter_chart(steps: Iterable[Step], since: datetime, seconds: float) -> ScatterChart | None:
    """Draw the run times of some steps of a range; None: nothing ended."""
    columns = COLUMNS
    steps = list(steps)
    cells = _cells(steps, since, seconds, columns)
    while len(cells) > CIRCLES_MAX:
        columns //= 2
        cells = _cells(steps, since, seconds, columns)
    if not cells:
        return None
    buckets = {bucket for _, bucket in cells}
    axis = DurationAxis.around(min(buckets), max(buckets))
    most = max(cells.values())
    return ScatterChart(
        circles=[
            Circle(
                x=round((column + 0.5) / columns * 100, 2),
                y=round((1 - axis.place_of_bucket(bucket + 0.5)) * HEIGHT, 1),
                radius=round(max(_SMALLEST, _LARGEST * math.sqrt(count / most)), 2),
                title=_title(since + timedelta(seconds=column * seconds / columns), bucket, count),
            )
            for (column, bucket), count in sorted(cells.items())
        ],
        durations=[
            Label(round((1 - label.place) * HEIGHT, 1), label.text, label.is_major) for label in axis.labels()
        ],
        times=_times(since, seconds),
        words=f"Run times of {number(sum(cells.values()))} jobs over time; a bubble is a while and a span",
    )


def _cells(steps: Iterable[Step], since: datetime, seconds: float, columns: int) -> Counter[tuple[int, int]]:
    """How many jobs by column and bucket. What began after the range is in its last column."""
    cells: Counter[tuple[int, int]] = Counter()
    for step in steps:
        column = int((step.starts_at - since).total_seconds() / seconds * columns)
        for bucket, count in enumerate(step.runs):
            if count:
                cells[min(column, columns - 1), bucket] += count
    return cells


def _title(at: datetime, bucket: int, count: int) -> str:
    return f"{at.astimezone(UTC):%d %b %H:%M} UTC, {label_of_bucket(bucket)}: {number(count)}"


def _times(since: datetime, seconds: float) -> list[Label]:
    written = "%H:%M" if seconds <= _DAY else "%d %b"
    return [
        Label(
            round(position / _LABELS * 100, 2),
            f"{(since + timedelta(seconds=seconds * position / _LABELS)).astimezone(UTC):{written}}",
            is_major=position % 2 == 0,
        )
        for position in range(_LABELS + 1)
    ]
