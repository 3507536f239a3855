"""The forecast of a queue at its present rates: it empties in some time, or it does not. Pure."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

__all__ = ["Course", "Forecast", "forecast"]

#: What ends so soon at the present rate is no backlog: jobs always wait for a moment.
_SHORT_SECONDS = 10

#: Where so small a part of what ends is won on what comes, nobody can tell when it is over.
_STEADY_PART = 0.02

#: A forecast is told in so many digits: the others change with every look.
_DIGITS = 2

#: What takes longer does not empty.
_LONGEST_SECONDS = 30 * 86_400


class Course(enum.StrEnum):
    """The course that a queue takes.

    idle: nothing waits, nothing runs, and nothing ends.
    works: nothing waits, and what runs has not ended yet.
    keeps_up: jobs come and end, and none waits for more than a moment.
    empties: more ends than comes.
    grows: as much comes as ends, or more.
    stands: jobs wait, and none ends.
    paused, slowed_down: jobs wait, and none may start: somebody paused the queue, or a job slowed it down.
    breaker: those that are next are of types whose circuit breaker is not closed.
    keys: those that are next wait for older ones of their keys, in strict order, which do not move.
    """

    IDLE = "idle"
    WORKS = "works"
    KEEPS_UP = "keeps_up"
    EMPTIES = "empties"
    GROWS = "grows"
    STANDS = "stands"
    PAUSED = "paused"
    SLOWED_DOWN = "slowed_down"
    BREAKER = "breaker"
    KEYS = "keys"


@dataclass(frozen=True, slots=True)
class Forecast:
    """A forecast of the course that a queue takes.

    Attributes:
        seconds: until it is empty, if it empties.
    """

    course: Course
    seconds: float | None = None


def forecast(
    ready: int,
    *,
    ends_per_second: float,
    arrivals_per_second: float,
    running: int = 0,
    held_by: Course | None = None,
) -> Forecast:
    """Forecast the course of a queue in which so many jobs are ready, at these rates.

    `held_by` is why none of those that are next may start now: the rates are of what was before then.
    """
    if ready and held_by is not None:
        return Forecast(held_by)
    if not ends_per_second:
        return Forecast(Course.STANDS if ready else Course.WORKS if running else Course.IDLE)
    if ready / ends_per_second < _SHORT_SECONDS:
        return Forecast(Course.KEEPS_UP)
    won = ends_per_second - arrivals_per_second
    if won <= ends_per_second * _STEADY_PART or ready / won > _LONGEST_SECONDS:
        return Forecast(Course.GROWS)
    return Forecast(Course.EMPTIES, _rounded(ready / won))


def _rounded(seconds: float) -> float:
    return float(round(seconds, _DIGITS - 1 - math.floor(math.log10(seconds))))
