"""The load over time: jobs created, jobs ended and waits, in each stretch of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.load.record import JobRow
from bench.statistics import percentile

#: Widths of a stretch, in seconds: the first that makes few enough of them.
WIDTHS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
MOST_STRETCHES = 60

PERCENTS = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Timeline:
    """Figures for each stretch of a load.

    Attributes:
        width: seconds of one stretch.
        created, ended: jobs a second.
        open: jobs that were created and had not ended, at its end.
        waits: percent → seconds from created to started, of the jobs created in it; nan where there are none.
    """

    width: float
    created: list[float]
    ended: list[float]
    open: list[int]
    waits: dict[int, list[float]]

    @property
    def ends(self) -> list[float]:
        """The end of each stretch, in seconds since the first job."""
        return [(number + 1) * self.width for number in range(len(self.created))]


def timeline(rows: Sequence[JobRow]) -> Timeline:
    """The timeline of jobs that have all ended.

    Raises:
        ValueError: there are no jobs.
    """
    begin, end = span(rows)
    width = next((width for width in WIDTHS if (end - begin) / width <= MOST_STRETCHES), WIDTHS[-1])
    count = int((end - begin) / width) + 1
    created, ended = [0] * count, [0] * count
    waits: list[list[float]] = [[] for _ in range(count)]
    for row in rows:
        stretch = int((row.created_at - begin) / width)
        created[stretch] += 1
        if row.finished_at is not None:
            ended[int((row.finished_at - begin) / width)] += 1
        if row.first_started_at is not None:
            waits[stretch].append(row.first_started_at - row.created_at)
    return Timeline(
        width,
        [jobs / width for jobs in created],
        [jobs / width for jobs in ended],
        _still_open(created, ended),
        {percent: [_percentile(of, percent) for of in waits] for percent in PERCENTS},
    )


def span(rows: Sequence[JobRow]) -> tuple[float, float]:
    """When the first job was created, and when the last one ended.

    Raises:
        ValueError: there are no jobs.
    """
    begin = min(row.created_at for row in rows)
    return begin, max(row.finished_at or row.created_at for row in rows)


def waits_of(rows: Sequence[JobRow]) -> list[float]:
    """How long each job waited for its first start, in seconds."""
    return [row.first_started_at - row.created_at for row in rows if row.first_started_at is not None]


def _still_open(created: Sequence[int], ended: Sequence[int]) -> list[int]:
    jobs, found = 0, []
    for come, gone in zip(created, ended, strict=True):
        jobs += come - gone
        found.append(jobs)
    return found


def _percentile(samples: Sequence[float], percent: float) -> float:
    return percentile(samples, percent) if samples else math.nan
