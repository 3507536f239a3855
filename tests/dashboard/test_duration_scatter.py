"""The bubbles of run times over time: where they are, how large, and how many."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from goqueue.dashboard.charts.duration_scatter import (
    CIRCLES_MAX,
    COLUMNS,
    HEIGHT,
    ScatterChart,
    scatter_chart,
)
from goqueue.insight.histograms import BOUNDS
from goqueue.insight.rollup_rows import Step

SINCE = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = 3600.0


def step(seconds: float, runs: dict[int, int]) -> Step:
    """A step that began so long after the range, with these run times by bucket."""
    counts = tuple(runs.get(bucket, 0) for bucket in range(max(runs, default=-1) + 1))
    starts_at = SINCE + timedelta(seconds=seconds)
    return Step(starts_at, sum(counts), 0, 0, 0, 0, (), counts, 0.0, 0.0)


def chart(*steps: Step) -> ScatterChart:
    """The chart of an hour."""
    drawn = scatter_chart(steps, SINCE, HOUR)
    assert drawn is not None
    return drawn


def test_nothing_is_no_chart() -> None:
    """Where nothing ran nothing is drawn."""
    assert scatter_chart([], SINCE, HOUR) is None
    assert scatter_chart([step(0, {})], SINCE, HOUR) is None


def test_later_is_to_the_right_and_longer_is_above() -> None:
    """Time goes across, the run time up."""
    early, late = chart(step(0, {7: 1}), step(3000, {27: 1})).circles
    assert early.x < 2
    assert 80 < late.x < 100
    assert 0 < late.y < early.y < HEIGHT


def test_the_area_tells_how_many() -> None:
    """Four times as many jobs have twice the radius."""
    few, many = chart(step(0, {7: 25}), step(3000, {7: 100})).circles
    assert many.radius == pytest.approx(2 * few.radius)


def test_one_job_among_many_can_be_seen() -> None:
    """A bubble is never so small that nobody sees it."""
    few, _ = chart(step(0, {7: 1}), step(3000, {7: 10**6})).circles
    assert few.radius > 1.5


def test_steps_of_one_while_are_one_bubble() -> None:
    """What is in the same column and bucket is added up; its title tells when, how long, and how many."""
    (circle,) = chart(step(0, {11: 2}), step(30, {11: 3})).circles
    assert circle.title == "01 Jan 12:00 UTC, 32 ms to 45 ms: 5"


def test_what_was_counted_after_the_end_is_in_the_last_column() -> None:
    """A step that began a moment after the range was fixed is not lost."""
    (circle,) = chart(step(HOUR + 5, {11: 1})).circles
    assert circle.x < 100


def test_the_number_of_bubbles_is_bounded() -> None:
    """Where every while has every run time, whiles become longer; no job is left out."""
    full = dict.fromkeys(range(len(BOUNDS) + 1), 1)
    steps = [step(HOUR / COLUMNS * column, full) for column in range(COLUMNS)]
    drawn = chart(*steps)
    assert CIRCLES_MAX / 4 < len(drawn.circles) <= CIRCLES_MAX
    assert f"{COLUMNS * len(full):,} jobs" in drawn.words


@pytest.mark.parametrize(
    ("seconds", "first", "last"), [(HOUR, "12:00", "13:00"), (7 * 86_400.0, "01 Jan", "08 Jan")], ids=str
)
def test_times_are_written_as_the_range_needs(seconds: float, first: str, last: str) -> None:
    """A short range has times of the day below it, a long one days; the ends stay where there is no room."""
    drawn = scatter_chart([step(0, {7: 1})], SINCE, seconds)
    assert drawn is not None
    assert (drawn.times[0].text, drawn.times[-1].text) == (first, last)
    assert drawn.times[0].is_major
    assert drawn.times[-1].is_major
