"""Which ranges a number of places is enough for, what is left of the last, and which are one walk."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from goqueue.engine.runway.runway import ReadyRange
from goqueue.worker.claiming import range_claimer


def in_a_row(sizes: list[int]) -> list[ReadyRange]:
    """Ranges of these sizes, each behind the one before."""
    ends = [("2026-01-01 00:00:00+00", number) for number in range(len(sizes) + 1)]
    return [ReadyRange(jobs, ends[number], ends[number + 1]) for number, jobs in enumerate(sizes)]


SIZES = st.lists(st.integers(1, 64), min_size=1, max_size=20)


@given(SIZES, st.integers(0, 1000))
def test_no_more_ranges_than_the_places_need(sizes: list[int], places: int) -> None:
    """The first ranges that hold as many jobs as there are places; all of them where they hold less."""
    ranges = in_a_row(sizes)
    chosen = range_claimer.first_of(ranges, places)
    assert chosen == ranges[: len(chosen)]
    assert sum(one.jobs for one in chosen[:-1]) < places or not chosen
    assert sum(one.jobs for one in chosen) >= places or len(chosen) == len(ranges)


@given(SIZES, st.integers(1, 1000), st.data())
def test_a_rest_is_what_was_not_claimed_of_the_last_range(
    sizes: list[int], places: int, data: st.DataObject
) -> None:
    """There is a rest only where the places ended first; its end is that of the last range."""
    chosen = range_claimer.first_of(in_a_row(sizes), places)
    total = sum(one.jobs for one in chosen)
    claimed = data.draw(st.integers(0, places))
    rest = range_claimer.rest_of(chosen, claimed, places)
    if claimed < places or claimed >= total:
        assert rest == []
    else:
        assert [(one.jobs, one.behind, one.last) for one in rest] == [
            (total - claimed, chosen[-1].behind, chosen[-1].last)
        ]


def test_ranges_that_follow_on_each_other_are_one_walk() -> None:
    """A gap between two of them begins another one: what lies in it is somebody else's."""
    first, second, third, fourth = in_a_row([5, 5, 5, 5])
    joined = range_claimer.joined([first, second, fourth])
    assert joined == [(first.behind, second.last), (fourth.behind, fourth.last)]
    assert range_claimer.joined([first, second, third, fourth]) == [(first.behind, fourth.last)]
