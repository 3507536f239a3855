"""Which steps of time are counted next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from goqueue.insight.rollup_steps import HOURS, MINUTES, TENS, Piece, next_piece

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    """A moment after noon."""
    return NOON + timedelta(seconds=seconds)


def test_a_step_is_counted_once_it_has_settled() -> None:
    """Ten seconds are counted five seconds after their end, and not before."""
    assert next_piece(TENS, up_to=NOON, now=after(14.9), something_at=after(1)) is None
    found = next_piece(TENS, up_to=NOON, now=after(15), something_at=after(1))
    assert found == Piece(NOON, after(10), is_last=True)


def test_a_minute_settles_for_longer() -> None:
    """Minutes are counted half a minute after their end."""
    assert next_piece(MINUTES, up_to=NOON, now=after(89), something_at=after(1)) is None
    found = next_piece(MINUTES, up_to=NOON, now=after(90), something_at=after(1))
    assert found == Piece(NOON, after(60), is_last=True)


def test_a_pause_is_caught_up_in_pieces() -> None:
    """No transaction counts more than its piece, and each says that more is due."""
    found = next_piece(TENS, up_to=NOON, now=after(600), something_at=after(31))
    assert found == Piece(after(30), after(90), is_last=False)


def test_time_in_which_nothing_ended_is_passed_over() -> None:
    """Where nothing ended for hours, one piece reaches to the end."""
    assert next_piece(TENS, up_to=NOON, now=after(3605), something_at=None) == Piece(
        after(3600), after(3600), is_last=True
    )


def test_nothing_older_than_is_kept_is_counted() -> None:
    """After a long pause counting begins at what is still kept, at a whole step."""
    found = next_piece(TENS, up_to=NOON, now=after(86_403), something_at=after(5))
    assert found is not None
    assert found.since == after(86_403 - 7200 + 7)


def test_the_first_start_looks_a_day_back() -> None:
    """Hours are kept for a month, but a first start counts no more than 26 hours."""
    found = next_piece(HOURS, up_to=None, now=NOON, something_at=NOON - timedelta(days=20))
    assert found is not None
    assert found.since == NOON - timedelta(hours=26)
