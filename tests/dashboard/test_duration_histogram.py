"""The histogram of run times: where its bars, labels and lines are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.dashboard.charts.duration_axis import LEAST_BUCKETS, DurationAxis, label_of_bucket
from goqueue.dashboard.charts.duration_histogram import (
    HEIGHT,
    LEAST_HEIGHT,
    TOP,
    HistogramChart,
    histogram_chart,
    round_steps,
)
from goqueue.insight.histograms import BOUNDS

COUNTS = st.lists(st.integers(0, 10**6), max_size=len(BOUNDS) + 1)


def chart(counts: dict[int, int], mean: float = 1.0) -> HistogramChart:
    """The chart of some buckets."""
    drawn = histogram_chart([counts.get(bucket, 0) for bucket in range(max(counts) + 1)], mean_seconds=mean)
    assert drawn is not None
    return drawn


def test_nothing_is_no_chart() -> None:
    """Where nothing was counted nothing is drawn."""
    assert histogram_chart([], mean_seconds=0.0) is None
    assert histogram_chart([0, 0], mean_seconds=0.0) is None


def test_two_populations_are_two_groups_of_bars() -> None:
    """Jobs of 10 ms and of 8 s are bars far apart, and the average points to where there is none."""
    drawn = chart({7: 100, 8: 40, 27: 30}, mean=1.5)
    quick, other, slow = drawn.bars
    assert other.x - quick.x < 6
    assert slow.x - other.x > 60
    (average,) = [mark for mark in drawn.marks if mark.name == "average"]
    assert other.x + other.width < average.x < slow.x
    assert (quick.height, slow.height) == (HEIGHT, HEIGHT * 0.3)


def test_one_job_among_many_can_be_seen() -> None:
    """A bar is never so low that nobody sees it."""
    low = chart({7: 1_000_000, 20: 1}).bars[1]
    assert low.height == LEAST_HEIGHT
    assert low.y + low.height == TOP + HEIGHT


def test_titles_and_table_tell_the_figures() -> None:
    """Each bar tells its bounds, how many and which part; the table has the same."""
    drawn = chart({0: 1, 11: 3})
    assert [bar.title for bar in drawn.bars] == ["below 1 ms: 1 (25 %)", "32 ms to 45 ms: 3 (75 %)"]
    assert [(row.bucket, row.count, row.part) for row in drawn.rows] == [
        ("below 1 ms", 1, 0.25),
        ("32 ms to 45 ms", 3, 0.75),
    ]
    assert drawn.words == (
        "Histogram of 4 run times, below 1 ms up to 32 ms to 45 ms; most often 32 ms to 45 ms"
    )


def test_the_last_bucket_is_open() -> None:
    """What is longer than the last bound is told as such."""
    assert label_of_bucket(len(BOUNDS)).endswith("or longer")
    assert chart({len(BOUNDS): 2}).bars[0].x < 100


@given(COUNTS)
def test_everything_is_on_the_drawing(counts: list[int]) -> None:
    """Whatever was counted, bars are in order, apart, and inside; so are labels and marks."""
    drawn = histogram_chart(counts, mean_seconds=3.0)
    assert (drawn is None) == (not any(counts))
    if drawn is None:
        return
    assert sum(row.count for row in drawn.rows) == sum(counts)
    ends = [0.0]
    for bar in drawn.bars:
        assert ends[-1] < bar.x
        assert TOP <= bar.y <= TOP + HEIGHT - bar.height + 0.1
        ends.append(bar.x + bar.width)
    assert ends[-1] <= 100
    assert all(0 <= mark.x <= 100 for mark in drawn.marks)
    assert len(drawn.labels) >= 1
    places = [label.place for label in drawn.labels]
    assert places == sorted(places)


@given(st.integers(0, len(BOUNDS)), st.integers(0, len(BOUNDS)))
def test_an_axis_holds_its_buckets(one: int, other: int) -> None:
    """An axis is never narrower than some buckets, and a bound is where its bucket begins."""
    axis = DurationAxis.around(min(one, other), max(one, other))
    assert axis.size >= LEAST_BUCKETS
    for bucket in range(max(1, axis.first + 1), axis.first + axis.size):
        assert axis.place_of(BOUNDS[bucket - 1]) == pytest.approx(axis.place_of_bucket(bucket))


@pytest.mark.parametrize(
    ("most", "steps"),
    [
        (1, [1]),
        (2, [1, 2]),
        (5, [1, 2, 3, 4, 5]),
        (7, [2, 4, 6]),
        (100, [20, 40, 60, 80, 100]),
        (260, [100, 200]),
    ],
    ids=str,
)
def test_lines_across_are_round(most: int, steps: list[int]) -> None:
    """Two to five lines stand for round numbers; of one job there is one."""
    assert round_steps(most) == steps
