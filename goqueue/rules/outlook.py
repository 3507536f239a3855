"""What becomes of a queue at its present rates: it empties in some time, or it does not. Pure."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

__all__ = ["Course", "Outlook", "outlook"]

#: What ends so soon at the present rate is no backlog: jobs always wait for a moment.
_SHORT_SECONDS = 10

#: Where so small a part of what ends is won on what comes, nobody can tell when it is over.
_STEADY_PART = 0.02

#: A forecast is told in so many digits: the others change with every look.
_DIGITS = 2

#: What takes longer does not empty.
_LONGEST_SECONDS = 30 * 86_400


class Course(enum.StrEnum):
    """Where a queue goes.

    idle: nothing waits, and nothing comes or ends.
    keeps_up: jobs come and end, and none waits for more than a moment.
    empties: more ends than comes.
    grows: as much comes as ends, or more.
    stands: jobs wait, and none ends.
    closed: jobs wait, and none of them may start.
    """

    IDLE = "idle"
    KEEPS_UP = "keeps_up"
    EMPTIES = "empties"
    GROWS = "grows"
    STANDS = "stands"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Outlook:
    """The course of a queue.

    Attributes:
        seconds: until it is empty, if it empties.
    """

    course: Course
    seconds: float | None = None


def outlook(
    ready: int, *, ends_per_second: float, arrivals_per_second: float, is_closed: bool = False
) -> Outlook:
    """Where a queue goes in which so many jobs wait, at these rates."""
    if not ready:
        return Outlook(Course.KEEPS_UP if ends_per_second else Course.IDLE)
    if is_closed:
        return Outlook(Course.CLOSED)
    if not ends_per_second:
        return Outlook(Course.STANDS)
    if ready / ends_per_second < _SHORT_SECONDS:
        return Outlook(Course.KEEPS_UP)
    won = ends_per_second - arrivals_per_second
    if won <= ends_per_second * _STEADY_PART or ready / won > _LONGEST_SECONDS:
        return Outlook(Course.GROWS)
    return Outlook(Course.EMPTIES, _rounded(ready / won))


def _rounded(seconds: float) -> float:
    return float(round(seconds, _DIGITS - 1 - math.floor(math.log10(seconds))))
