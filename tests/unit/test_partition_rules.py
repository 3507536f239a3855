"""How large partitions are, when one is due, and which are put together."""

from __future__ import annotations

import pytest

from goqueue.engine.partitions import rules

DAY = 86_400.0


@pytest.mark.parametrize(
    ("ids_per_second", "days", "size"),
    [(100.0, 8, 8_640_000), (0.0, 7, rules.SMALLEST), (1e6, 90, rules.LARGEST)],
    ids=["a day's jobs", "no jobs at all", "more than one takes"],
)
def test_a_partition_takes_an_eighth_of_the_retention(ids_per_second: float, days: int, size: int) -> None:
    """As many jobs as come in that time, within bounds."""
    assert rules.size_of(ids_per_second, days * DAY) == size


@pytest.mark.parametrize("last_id", [0, 1, 999_999, 1_000_000, 123_456_789])
def test_the_first_partition_ends_at_a_round_number_far_ahead(last_id: int) -> None:
    """A bound that is set beside creates lies where none comes for days."""
    upper = rules.first_upper(last_id)
    assert upper % rules.ROUND == 0
    assert rules.JUMP <= upper - last_id <= rules.JUMP + rules.ROUND


def test_another_one_is_wanted_half_a_partition_before() -> None:
    """Not sooner, so that there are no more than needed, and not later."""
    assert not rules.wants_another(500, 1000)
    assert rules.wants_another(499, 1000)


@pytest.mark.parametrize(
    ("rows", "before", "number"),
    [
        (0, [], 0),
        (10, [10_000, 10_000, 10_000], 3),
        (50_000, [100_000, 300_000, 600_000], 3),
        (50_000, [100_001, 10], 0),
        (50_000, [90_000, 500_000], 1),
    ],
    ids=["none before", "small ones", "each not much larger", "a much larger one", "up to a larger one"],
)
def test_kept_partitions_of_like_size_are_put_together(rows: int, before: list[int], number: int) -> None:
    """So their number grows with the logarithm of the rows."""
    assert rules.joined(rows, before) == number
