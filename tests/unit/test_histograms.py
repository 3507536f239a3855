"""Histograms of durations: the buckets, their sums, and their quantiles."""

from __future__ import annotations

import bisect
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.insight.histograms import BOUNDS, added, bounds_of, quantile, trimmed

durations = st.lists(st.floats(0, 200_000), max_size=50)
counts = st.lists(st.integers(0, 1000), max_size=len(BOUNDS) + 1)


def histogram(values: list[float]) -> tuple[int, ...]:
    """Durations in their buckets, numbered as PostgreSQL's width_bucket numbers them."""
    found = [0] * (len(BOUNDS) + 1)
    for value in values:
        found[bisect.bisect_right(BOUNDS, value)] += 1
    return trimmed(found)


def test_the_bounds_go_from_a_millisecond_to_about_a_day() -> None:
    """Each bound is √2 times the one before it, and the last one is more than a day."""
    assert BOUNDS[0] == 0.001
    assert 86_400 < BOUNDS[-1] < 100_000
    assert all(math.isclose(high / low, math.sqrt(2)) for low, high in itertools.pairwise(BOUNDS))


@given(durations, durations)
def test_the_sum_of_two_is_the_histogram_of_both(one: list[float], other: list[float]) -> None:
    """What was counted apart and added is what would have been counted together."""
    assert added(histogram(one), histogram(other)) == histogram(one + other)


@given(counts, counts, counts)
def test_the_order_of_adding_does_not_matter(one: list[int], two: list[int], three: list[int]) -> None:
    """Minutes may be added to hours in any order."""
    assert added(one, two) == added(two, one)
    assert added(added(one, two), three) == added(one, added(two, three)) == added(one, two, three)
    assert added() == ()


@given(durations.filter(bool), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(values: list[float], part: float) -> None:
    """It is at most one bucket's width away from the duration that so many did not exceed."""
    found = quantile(histogram(values), part)
    true = sorted(values)[max(0, math.ceil(part * len(values)) - 1)]
    low, high = bounds_of(bisect.bisect_right(BOUNDS, true))
    assert found is not None
    assert low <= found <= high * (1 + 1e-9)


@given(counts.filter(any), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_rise_with_their_part(one: list[int], part: float, other: float) -> None:
    """A larger part of the durations is never below a smaller one."""
    low, high = quantile(one, min(part, other)), quantile(one, max(part, other))
    assert low is not None
    assert high is not None
    assert low <= high * (1 + 1e-9)


@pytest.mark.parametrize("nothing", [(), (0, 0)], ids=["empty", "zeros"])
def test_nothing_has_no_quantile(nothing: tuple[int, ...]) -> None:
    """Of no durations there is no quantile."""
    assert quantile(nothing, 0.5) is None


def test_a_quantile_is_interpolated_inside_its_bucket() -> None:
    """Of a hundred in one bucket the median is in its middle."""
    low, high = bounds_of(7)
    assert quantile((0,) * 7 + (100,), 0.5) == pytest.approx((low + high) / 2)
