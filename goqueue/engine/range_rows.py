"""The next ranges of ready rows of a queue: where each ends, without reading what is in it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection

from goqueue.db.database import retry_on_conflict
from goqueue.db.fragments import READY_ORDER, ready_between
from goqueue.db.statements import fetch_all, text_array
from goqueue.engine.queue_rows import CLOSED
from goqueue.engine.runway.messages import Place, ReadyRange

__all__ = ["NextRanges", "next_ranges"]

# One walk of `ready_jobs` from a place on. Rows that not every worker of the queue may claim are looked for
# on the way: where there is one, the rows are told apart, and so no range is made of them.
_NEXT_ENDS = f"""
    SELECT rank::text, id, number, is_foreign FROM (
        SELECT rank, id, row_number() OVER (ORDER BY rank, id) AS number, count(*) OVER () AS total,
               bool_or(is_foreign) OVER () AS is_foreign
        FROM (
            SELECT ready_rank AS rank, job_id AS id,
                   is_special OR job_type = ANY (%(limited)s::text[])
                   OR NOT (%(known)s::text[] IS NULL OR job_type = ANY (%(known)s::text[])) AS is_foreign
            FROM ready_jobs
            WHERE {ready_between("%(queue)s", "%(rank)s::timestamptz, %(id)s")}
              AND queue_name <> ALL (ARRAY (SELECT name FROM queues WHERE {CLOSED}))
            ORDER BY {READY_ORDER} LIMIT %(count)s
        ) AS ready
    ) AS numbered
    WHERE number %% %(size)s = 0 OR number = total
    ORDER BY number
"""


@dataclass(frozen=True, slots=True)
class NextRanges:
    """The next ready rows of a queue as ranges.

    Attributes:
        ranges: in order, each behind the one before.
        is_foreign: among the rows is one that not every worker of the queue may claim.
    """

    ranges: list[ReadyRange]
    is_foreign: bool

    @property
    def jobs(self) -> int:
        """The number of rows that are in them."""
        return sum(one.jobs for one in self.ranges)


@retry_on_conflict
def next_ranges(
    connection: Connection,
    queue: str,
    behind: Place,
    *,
    count: int,
    size: int,
    known: Collection[str] | None,
    limited: Collection[str],
) -> NextRanges:
    """Read where the next `count` ready rows behind a place end, after every `size` of them.

    `known` are the types that every worker of the queue knows (None: it is not asked), `limited` those that
    have limits of their own.
    """
    parameters = {
        "queue": queue,
        "rank": behind[0],
        "id": behind[1],
        "count": count,
        "size": size,
        "known": None if known is None else text_array(tuple(sorted(known))),
        "limited": text_array(tuple(sorted(limited))),
    }
    ranges: list[ReadyRange] = []
    before, is_foreign = 0, False
    for rank, job_id, number, is_foreign in fetch_all(connection, _NEXT_ENDS, parameters):  # noqa: B007  (the last row says it as each does)
        ranges.append(ReadyRange(number - before, behind, (rank, job_id)))
        before, behind = number, (rank, job_id)
    return NextRanges(ranges, is_foreign)
