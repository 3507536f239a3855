"""Messages on a runway: each is `"{job_id}.{fence}"` and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from goqueue.jobs import MAX_JOB_ID

_MESSAGE = re.compile(rb"([1-9][0-9]{0,18})\.([0-9]{1,9})")


class Message(NamedTuple):
    """A message in Redis: which job, and under which fence."""

    job_id: int
    fence: int

    @property
    def key(self) -> str:
        """The text of the message in Redis."""
        return f"{self.job_id}.{self.fence}"


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


def parse(entries: Iterable[bytes]) -> tuple[list[Message], list[bytes]]:
    """The messages among runway entries, in order and without repeats, and the entries that are none."""
    messages: dict[Message, None] = {}
    garbage = []
    for entry in entries:
        match = _MESSAGE.fullmatch(entry)
        if match is None or int(match[1]) > MAX_JOB_ID:
            garbage.append(entry)
        else:
            messages[Message(int(match[1]), int(match[2]))] = None
    return list(messages), garbage
