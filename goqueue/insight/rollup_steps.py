"""The steps of time that are counted: when, and how far back. Pure.

Ten seconds and minutes are counted from the rows of jobs; a minute later than its six parts, so that what was
committed late is in it. Hours are sums of minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

__all__ = ["HOURS", "MINUTES", "STEPS", "TENS", "Piece", "StepLength", "begin_of", "next_piece"]

_HOUR = 3600
_DAY = 86_400

#: What was before the first start of a roller is counted so far back.
FIRST_SECONDS = 26 * _HOUR


@dataclass(frozen=True, slots=True)
class StepLength:
    """The steps of one length.

    Attributes:
        seconds: the length.
        settle_seconds: a step is counted so long after its end.
        kept_seconds: its rows are deleted at this age; nor is anything counted that is older.
        piece_seconds: so much time is counted in one transaction.
    """

    seconds: int
    settle_seconds: int
    kept_seconds: int
    piece_seconds: int


TENS = StepLength(10, 5, 2 * _HOUR, 60)
MINUTES = StepLength(60, 30, 26 * _HOUR, 60)
HOURS = StepLength(_HOUR, 0, 31 * _DAY, _HOUR)

STEPS = (TENS, MINUTES, HOURS)


@dataclass(frozen=True, slots=True)
class Piece:
    """A span of whole steps that are counted in one transaction.

    Attributes:
        is_last: nothing more is due after it.
    """

    since: datetime
    until: datetime
    is_last: bool


def next_piece(
    length: StepLength, *, up_to: datetime | None, now: datetime, something_at: datetime | None
) -> Piece | None:
    """Return the span of steps to count next; None: none is due.

    Args:
        length: of which steps.
        up_to: until when they are counted; None: they never were.
        now: PostgreSQL's time; for steps that are sums, until when their parts are counted.
        something_at: when something ended for the first time since then; None: nothing did.
    """
    end = _floor(now - timedelta(seconds=length.settle_seconds), length.seconds)
    begin = begin_of(length, up_to=up_to, now=now)
    if begin >= end:
        return None
    if something_at is None or something_at >= end:
        return Piece(end, end, is_last=True)
    since = max(begin, _floor(something_at, length.seconds))
    until = min(end, since + timedelta(seconds=length.piece_seconds))
    return Piece(since, until, is_last=until == end)


def begin_of(length: StepLength, *, up_to: datetime | None, now: datetime) -> datetime:
    """Return the begin of the first step to count: whole, so that no step is counted by half."""
    back = length.kept_seconds if up_to else min(length.kept_seconds, FIRST_SECONDS)
    oldest = _ceiling(now - timedelta(seconds=back), length.seconds)
    return max(up_to, oldest) if up_to else oldest


def _floor(moment: datetime, seconds: int) -> datetime:
    whole = int(moment.timestamp())
    return datetime.fromtimestamp(whole - whole % seconds, tz=UTC)


def _ceiling(moment: datetime, seconds: int) -> datetime:
    floor = _floor(moment, seconds)
    return floor if floor == moment else floor + timedelta(seconds=seconds)
