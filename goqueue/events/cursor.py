"""Cursors: the place of a reader among the events, whatever was committed in which order.

Numbers and times cannot tell it. They are given when a row is written, and a transaction that wrote early may
commit late: a reader that asks for what comes behind the last number passes over its events. So a reader
stands at a *snapshot*, PostgreSQL's own account of which transactions are seen. What is new is what the
present snapshot sees and the last one did not: nothing is passed over, nothing comes twice, and a transaction
that stays open for minutes holds up no events but its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from goqueue.errors import EventCursorError

__all__ = ["Cursor", "Snapshot"]

#: PostgreSQL's transaction ids have 64 bits.
_MAX_XID = 2**63 - 1

#: The most characters of a cursor's text, and so of a Last-Event-ID that is looked at.
TEXT_MAX = 16_384

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_NUMBER = "[0-9a-z]{1,13}"
_SNAPSHOT = rf"{_NUMBER}\.{_NUMBER}(?:\.{_NUMBER})*"
_CURSOR = re.compile(rf"({_SNAPSHOT})(?:~({_SNAPSHOT})~({_NUMBER}))?")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The transactions that a reader sees, as `pg_current_snapshot()` says them.

    Attributes:
        xmin: all transactions before this one are seen, or were rolled back.
        xmax: none from this one on is seen.
        open: those between, in ascending order, that are not seen.
    """

    xmin: int
    xmax: int
    open: tuple[int, ...] = ()

    @classmethod
    def from_postgres(cls, text: str) -> Self:
        """Read PostgreSQL's text: `10:20:14,15`."""
        xmin, xmax, still_open = text.split(":")
        return cls(int(xmin), int(xmax), tuple(map(int, filter(None, still_open.split(",")))))

    def sees(self, xid: int) -> bool:
        """Say whether it sees what a transaction has written, if that was committed."""
        return xid < self.xmax and xid not in self.open

    @property
    def text(self) -> str:
        """The text in a cursor: the first number, and the distances of the others from it."""
        numbers = (self.xmin, *(xid - self.xmin for xid in (self.xmax, *self.open)))
        return ".".join(map(_written, numbers))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what `text` wrote; any numbers of that form make a snapshot."""
        xmin, *distances = (int(part, 36) for part in text.split("."))
        xmax, *still_open = (xmin + distance for distance in distances)
        return cls(xmin, xmax, tuple(sorted(set(still_open))))


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place among the events: a reader goes on behind it.

    Attributes:
        seen: the snapshot up to which all was read.
        until: where a batch was not read to its end, the snapshot that made it.
        after_id: and the last event of it that was read.
    """

    seen: Snapshot
    until: Snapshot | None = None
    after_id: int = 0

    @property
    def text(self) -> str:
        """The text by which a reader goes on later, in another process as well."""
        if self.until is None:
            return self.seen.text
        return f"{self.seen.text}~{self.until.text}~{_written(self.after_id)}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read the text of a cursor.

        Raises:
            EventCursorError: it is none.
        """
        match = _CURSOR.fullmatch(text) if len(text) <= TEXT_MAX else None
        if match is None:
            raise EventCursorError
        seen, until, after_id = match.groups()
        cursor = cls(
            Snapshot.from_text(seen),
            None if until is None else Snapshot.from_text(until),
            0 if after_id is None else int(after_id, 36),
        )
        if max(cursor.seen.xmax, cursor.until.xmax if cursor.until else 0, cursor.after_id) > _MAX_XID:
            raise EventCursorError
        return cursor


def _written(number: int) -> str:
    digits = ""
    while number >= len(_DIGITS):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return _DIGITS[number] + digits
