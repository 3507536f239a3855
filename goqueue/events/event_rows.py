"""Rows of events: what is new for a reader, and whether anything that it has not seen is gone.

All of it is asked of the server that accepts writes: a standby's snapshots do not name the transactions that
are open on the primary.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from goqueue.db.statements import array, fetch_all, fetch_one
from goqueue.events.cursor import Cursor, Snapshot

__all__ = [
    "FEW_TRANSACTIONS",
    "EventPage",
    "EventRow",
    "Standing",
    "ended_among",
    "has_far_to_go",
    "page",
    "standing",
    "tags_of",
]

# The present is the first row of a page, so that both are of one snapshot.
_STANDING = """
    SELECT pg_current_snapshot()::text, captured_since, forgotten_xid, forgotten_in FROM event_capture
"""
_COLUMNS = "id, at, kind, job_id, queue, type, status, attempt, fence, worker_id, reason, available_at, data"
_NONE = ", ".join(["NULL"] * len(_COLUMNS.split(",")))


def _page(events: str) -> str:
    return f"""
        SELECT {_NONE}, standing.* FROM ({_STANDING}) AS standing
        UNION ALL SELECT new.*, NULL, NULL, NULL, NULL FROM ({events}) AS new
    """


# Two walks along events_xid_id_idx, of each partition; together they are all that one snapshot does not see
# and another one does, because nothing else is behind the xmax of the first or among its open transactions.
_BY_TRANSACTION = _page(f"""
    SELECT * FROM (
        SELECT {_COLUMNS} FROM events
        WHERE xid >= %(xmax)s AND xid < %(until_xmax)s AND id > %(after)s
          AND xid <> ALL (%(until_open)s::bigint[])
        UNION ALL
        SELECT {_COLUMNS} FROM events
        WHERE xid = ANY (%(open)s::bigint[]) AND xid < %(until_xmax)s AND id > %(after)s
          AND xid <> ALL (%(until_open)s::bigint[])
    ) AS unseen ORDER BY id LIMIT %(limit)s
""")

# A reader that has a million events before it sorts them once, for its first page; the further ones are a
# walk along events_id_idx. `xid + 0` keeps the planner from the other index, by which it would sort them
# again.
_BY_ID = _page(f"""
    SELECT {_COLUMNS} FROM events
    WHERE id > %(after)s AND (xid + 0 >= %(xmax)s OR xid + 0 = ANY (%(open)s::bigint[]))
      AND xid + 0 < %(until_xmax)s AND xid + 0 <> ALL (%(until_open)s::bigint[])
    ORDER BY id LIMIT %(limit)s
""")

#: Of so many transactions the events are sorted again for each page: a walk by their ids does not know where
#: those of the last one lie, and would go past all that was written since.
FEW_TRANSACTIONS = 20_000

_ALL_TRANSACTIONS = Snapshot(2**63 - 1, 2**63 - 1)

# One index descent for each job, whatever the planner believes of the table.
_ENDED = """
    SELECT wanted.id FROM unnest(%(ids)s::bigint[]) AS wanted (id)
    LEFT JOIN LATERAL (SELECT finished_at FROM jobs WHERE jobs.id = wanted.id LIMIT 1) AS job ON true
    WHERE job.finished_at IS NOT NULL OR NOT EXISTS (SELECT FROM jobs WHERE jobs.id = wanted.id)
"""

_TAGS = """
    SELECT id, tags FROM jobs WHERE id = ANY (%(ids)s::bigint[]) AND tags IS NOT NULL
"""


class EventRow(NamedTuple):
    """One row of `events`."""

    id: int
    at: datetime
    kind: str
    job_id: int | None
    queue: str | None
    type: str | None
    status: str | None
    attempt: int | None
    fence: int | None
    worker_id: int | None
    reason: str | None
    available_at: datetime | None
    data: dict[str, Any] | None

    @property
    def told(self) -> dict[str, Any]:
        """The rest, beside its kind and what it is about."""
        if self.data is not None:
            return self.data
        return {
            "status": self.status,
            "attempt": self.attempt,
            "fence": self.fence,
            "worker_id": self.worker_id,
            "reason": self.reason,
            "available_at": self.available_at,
        }


class Standing(NamedTuple):
    """The present, by one snapshot.

    Attributes:
        snapshot: what is seen now.
        captured_since: the transaction from which on changes are written down.
        forgotten_xid: the last transaction of which events are gone.
        forgotten_in: what was seen when they went.
    """

    snapshot: Snapshot
    captured_since: int
    forgotten_xid: int
    forgotten_in: Snapshot

    def lacks(self, cursor: Cursor) -> bool:
        """Say whether there may have been events behind a cursor that are gone, or were never written.

        A transaction that was open at the cursor, and still was when the last events went, had none of them.
        """
        seen = cursor.seen
        return (
            not seen.sees(self.captured_since)
            or seen.xmax <= self.forgotten_xid
            or any(xid <= self.forgotten_xid and self.forgotten_in.sees(xid) for xid in seen.open)
            or self.snapshot.xmax < max(seen.xmax, cursor.until.xmax if cursor.until else 0)
        )


class EventPage(NamedTuple):
    """The next events of a reader, and the moment at which they were read."""

    standing: Standing
    rows: list[EventRow]


def standing(connection: Connection) -> Standing:
    """Read where a reader stands that begins now."""
    row = fetch_one(connection, _STANDING, {})
    assert row is not None
    return _standing(row)


def has_far_to_go(cursor: Cursor) -> bool:
    """Say whether a page has to be read along the index of the ids, which the planner has to be told."""
    return (
        cursor.until is not None
        and cursor.after_id > 0
        and cursor.until.xmax - cursor.seen.xmax > FEW_TRANSACTIONS
    )


def page(connection: Connection, cursor: Cursor, *, limit: int) -> EventPage:
    """Read the next events behind a cursor, in order.

    Where that `has_far_to_go`, in a transaction that reads along indexes (`bounded_reads`).
    """
    until = cursor.until or _ALL_TRANSACTIONS
    parameters = {
        "xmax": cursor.seen.xmax,
        "open": array(cursor.seen.open),
        "until_xmax": until.xmax,
        "until_open": array(until.open),
        "after": cursor.after_id,
        "limit": limit,
    }
    sql = _BY_ID if has_far_to_go(cursor) else _BY_TRANSACTION
    present, *rows = fetch_all(connection, sql, parameters)
    return EventPage(_standing(present[len(EventRow._fields) :]), [EventRow(*row[:-4]) for row in rows])


def ended_among(connection: Connection, job_ids: Iterable[int]) -> set[int]:
    """Read which of these jobs have ended, or are gone."""
    return {row[0] for row in fetch_all(connection, _ENDED, {"ids": array(job_ids)})}


def tags_of(connection: Connection, job_ids: Iterable[int]) -> dict[int, frozenset[str]]:
    """Read the tags of these jobs, as far as they have any."""
    rows = fetch_all(connection, _TAGS, {"ids": array(job_ids)})
    return {row[0]: frozenset(row[1]) for row in rows}


def _standing(row: tuple[Any, ...]) -> Standing:
    return Standing(Snapshot.from_postgres(row[0]), row[1], row[2], Snapshot.from_postgres(row[3]))
