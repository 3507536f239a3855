"""Entries of a runway: a message names one job, a range all ready jobs of the queue between two places."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from goqueue.jobs import MAX_JOB_ID

_MESSAGE = re.compile(rb"([1-9][0-9]{0,18})\.([0-9]{1,9})")
_PLACE = rb"([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}[-+:.0-9]{2,20})/([0-9]{1,19})"
_RANGE = re.compile(rb"([1-9][0-9]{0,8}) " + _PLACE + b" " + _PLACE)

#: The place of a job in the order of its queue: its rank, as PostgreSQL writes it, and its id.
Place = tuple[str, int]


class Message(NamedTuple):
    """A message in Redis: which job, and under which fence."""

    job_id: int
    fence: int

    @property
    def key(self) -> str:
        """The text of the message in Redis."""
        return f"{self.job_id}.{self.fence}"


class ReadyRange(NamedTuple):
    """A range in Redis: the jobs of a queue that are ready when it is claimed, between two places.

    A backlog that is drained quickly is dispatched by these: one entry, one look at one index and one
    acknowledgement stand for as many jobs as it had when it was read.

    Attributes:
        jobs: the number of ready jobs that it had then.
        behind: it begins behind this place.
        last: it ends with this one.
    """

    jobs: int
    behind: Place
    last: Place

    @property
    def key(self) -> str:
        """The text of the range in Redis."""
        return f"{self.jobs} {self.behind[0]}/{self.behind[1]} {self.last[0]}/{self.last[1]}"


class Entries(NamedTuple):
    """The entries of a fetch, in order and without repeats.

    Attributes:
        messages, ranges: the first entries that are of one kind.
        rest: what comes behind them, from the first of the other kind on.
        garbage: entries that are neither.
    """

    messages: list[Message]
    ranges: list[ReadyRange]
    rest: list[Message | ReadyRange]
    garbage: list[bytes]


class Pushed(NamedTuple):
    """The counts of what a push did.

    Attributes:
        added: how many messages it added.
        again: how many of those were added again, after they were lost.
        closed: it found the runway full and closed the gate: the dispatcher has to take over.
        known: the first so many of the given messages are in Redis now; the others did not fit.
    """

    added: int
    again: int
    closed: int
    known: int


def parse(entries: Iterable[bytes]) -> Entries:
    """Read the entries of a runway."""
    found: dict[Message | ReadyRange, None] = {}
    garbage = []
    for entry in entries:
        one = _parse_message(entry) or parse_range(entry)
        if one is None:
            garbage.append(entry)
        else:
            found[one] = None
    of_a_kind = [list(those) for _, those in groupby(found, type)]
    first = of_a_kind[0] if of_a_kind else []
    return Entries(
        [one for one in first if isinstance(one, Message)],
        [one for one in first if isinstance(one, ReadyRange)],
        [one for those in of_a_kind[1:] for one in those],
        garbage,
    )


def _parse_message(entry: bytes) -> Message | None:
    match = _MESSAGE.fullmatch(entry)
    if match is None or int(match[1]) > MAX_JOB_ID:
        return None
    return Message(int(match[1]), int(match[2]))


def parse_range(entry: bytes) -> ReadyRange | None:
    """Read an entry as a range; None: it is none."""
    match = _RANGE.fullmatch(entry)
    if match is None:
        return None
    jobs, behind, behind_id, last, last_id = (text.decode() for text in match.groups())
    if not (_is_moment(behind) and _is_moment(last)) or max(int(behind_id), int(last_id)) > MAX_JOB_ID:
        return None
    return ReadyRange(int(jobs), (behind, int(behind_id)), (last, int(last_id)))


def _is_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
