"""Failed jobs in groups, as a page shows them: what it costs does not grow with the number of failed jobs.

`failures` counts every failed job; here, of each group only its newest jobs are looked at. The walk goes from
group to group along jobs_failure_idx, one descent each, and the index holds all that is counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from goqueue.contents.contents import of_job
from goqueue.contents.payload_keys import is_encrypted
from goqueue.db.fragments import begin_of
from goqueue.db.statements import FINGERPRINT, Values, contents_of, fetch_all, fetch_one
from goqueue.errors import FailureNotFoundError
from goqueue.insight.failure_rows import FINGERPRINT_PATTERN, FailureFilter, Order

__all__ = ["COUNTED_UP_TO", "GROUPS_WALKED", "ShownGroup", "ShownKind", "kind_of", "shown", "traceback_of"]

#: Of each group, so many of its newest jobs are looked at: some tenths of a millisecond.
COUNTED_UP_TO = 250

#: No more groups than this are looked at.
GROUPS_WALKED = 300

#: Of a message, as much as somebody reads; the page of the newest job has all of it.
TEXT_MAX_CHARACTERS = 2_000

_WALK = f"""
        (SELECT 1 AS steps, {FINGERPRINT} AS fingerprint FROM jobs WHERE rare_state = 'failed'
         ORDER BY {FINGERPRINT} DESC, id DESC LIMIT 1)
        UNION ALL
        SELECT walk.steps + 1, next.fingerprint FROM walk CROSS JOIN LATERAL (
            SELECT {FINGERPRINT} AS fingerprint FROM jobs
            WHERE rare_state = 'failed' AND {FINGERPRINT} < walk.fingerprint
            ORDER BY {FINGERPRINT} DESC, id DESC LIMIT 1
        ) AS next
        WHERE walk.steps < {GROUPS_WALKED}
"""

_ONE = "SELECT 1 AS steps, %(fingerprint)s AS fingerprint"

_MESSAGE = (
    "coalesce(kind.message, CASE WHEN newest.fingerprint IS NULL THEN newest.reason END, newest.error, '')"
)

# Ids are given out in the order of time: the first job of a group is the first that failed, but for retries.
_GROUPS = f"""
    WITH RECURSIVE walk AS ({{walk}}),
    grouped AS MATERIALIZED (
        SELECT walk.fingerprint, newest.count, newest.looked_at = {COUNTED_UP_TO} AS is_least,
               first.first_seen, newest.last_seen, newest.newest_id
        FROM walk
        CROSS JOIN LATERAL (
            SELECT count(*) AS looked_at, count(*) FILTER (WHERE {{conditions}}) AS count,
                   max(rare_since) FILTER (WHERE {{conditions}}) AS last_seen,
                   max(id) FILTER (WHERE {{conditions}}) AS newest_id
            FROM (SELECT id, queue, type, rare_since FROM jobs
                  WHERE rare_state = 'failed' AND {FINGERPRINT} = walk.fingerprint
                  ORDER BY {FINGERPRINT} DESC, id DESC LIMIT {COUNTED_UP_TO}) AS jobs
        ) AS newest
        CROSS JOIN LATERAL (
            SELECT rare_since AS first_seen FROM jobs
            WHERE rare_state = 'failed' AND {FINGERPRINT} = walk.fingerprint
            ORDER BY {FINGERPRINT}, id LIMIT 1
        ) AS first
        WHERE newest.count > 0
        ORDER BY {{order}}, 1 LIMIT %(limit)s
    )
    SELECT grouped.fingerprint, newest.type, kind.exception,
           {begin_of(_MESSAGE, TEXT_MAX_CHARACTERS)},
           kind.frame, grouped.count, grouped.is_least, least(grouped.first_seen, grouped.last_seen),
           grouped.last_seen, grouped.newest_id, {begin_of("newest.error", TEXT_MAX_CHARACTERS)},
           newest.reason
    FROM grouped
    JOIN jobs AS newest ON newest.id = grouped.newest_id
    LEFT JOIN failure_kinds AS kind ON kind.fingerprint = grouped.fingerprint
    ORDER BY {{order}}, 1
"""

_ORDERS: dict[Order, str] = {"last_seen": "last_seen DESC", "count": "count DESC, last_seen DESC"}

_KIND = "SELECT type, exception, message, frame FROM failure_kinds WHERE fingerprint = %(fingerprint)s"

_LAST_ATTEMPT = "SELECT traceback FROM attempts WHERE job_id = %(id)s ORDER BY fence DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class ShownGroup:
    """A group of failed jobs of one kind, as it is shown.

    Attributes:
        exception, message, frame: as of `failures.FailureGroup`; of a message, its begin.
        count: how many there are; where `is_least`, among its newest ones.
        newest_job_id, error, reason: of the newest of them.
    """

    fingerprint: str
    type: str
    exception: str | None
    message: str
    frame: str | None
    count: int
    is_least: bool
    first_seen: datetime
    last_seen: datetime
    newest_job_id: int
    error: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class ShownKind:
    """The kind that a fingerprint stands for, also when no job is failed like this any more."""

    type: str
    exception: str | None
    message: str
    frame: str | None


def shown(
    connection: Connection, wanted: FailureFilter, *, order: Order = "last_seen", limit: int
) -> list[ShownGroup]:
    """Read the groups, the latest or the largest first; with a fingerprint, the one that has it, or none."""
    sql = _GROUPS.format(
        walk=_WALK if wanted.fingerprint is None else _ONE,
        conditions=" AND ".join(wanted.conditions) or "true",
        order=_ORDERS[order],
    )
    rows = fetch_all(connection, sql, wanted.parameters | {"limit": limit})
    return [_opened(connection, ShownGroup(*row)) for row in rows]


def _opened(connection: Connection, group: ShownGroup) -> ShownGroup:
    """The group with the texts of its newest job decrypted."""
    if group.error is None or not is_encrypted(group.error):
        return group
    contents, purpose = contents_of(connection), of_job("error", group.newest_job_id)
    error, message = contents.shown(group.error, purpose), contents.shown(group.message, purpose)
    assert error is not None
    assert message is not None
    return replace(group, error=error[:TEXT_MAX_CHARACTERS], message=message[:TEXT_MAX_CHARACTERS])


def kind_of(connection: Connection, fingerprint: str) -> ShownKind:
    """Read what a fingerprint stands for.

    Raises:
        FailureNotFoundError: no job has failed like this, or none that is still known.
    """
    row: Values | None = None
    if FINGERPRINT_PATTERN.fullmatch(fingerprint):
        row = fetch_one(connection, _KIND, {"fingerprint": fingerprint})
    if row is None:
        raise FailureNotFoundError(fingerprint)
    return ShownKind(*row)


def traceback_of(connection: Connection, job_id: int) -> str | None:
    """Read the traceback of the last attempt of a job."""
    row = fetch_one(connection, _LAST_ATTEMPT, {"id": job_id})
    return None if row is None else contents_of(connection).shown(row[0], of_job("traceback", job_id))
