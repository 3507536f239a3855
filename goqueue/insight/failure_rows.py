"""Failed jobs in groups: one group a fingerprint, of the jobs that are failed now.

Counting reads one partial index, of failed jobs only (jobs_failure_idx holds all that is asked for):
where autovacuum keeps up, the rows themselves are not looked at. Large groups are counted by the scheduler.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal

import orjson
from sqlalchemy import Connection

from goqueue.contents.contents import of_job
from goqueue.contents.payload_keys import is_encrypted
from goqueue.db.statements import FINGERPRINT, contents_of, fetch_all
from goqueue.engine.listing.kept_count_rows import FRESH, GLANCED_AT, KIND_OF_FAILURE
from goqueue.errors import FailureNotFoundError
from goqueue.jobs import FailureKind

__all__ = [
    "FINGERPRINT_PATTERN",
    "FailureFilter",
    "FailureGroup",
    "Order",
    "get_group",
    "groups",
    "insert_kinds",
]

Order = Literal["last_seen", "count"]

FINGERPRINT_PATTERN = re.compile(r"[0-9a-f]{16}")

# Without a filter: from group to group along jobs_failure_idx, one descent each. A group whose count the
# scheduler keeps is counted up to a bound, to see that it is still large. Ids are given out in the order of
# time: the first job of a group is the first that failed, but for retries.
_WALKED = f"""
    WITH RECURSIVE walk AS (
        (SELECT {FINGERPRINT} AS fingerprint FROM jobs WHERE rare_state = 'failed'
         ORDER BY {FINGERPRINT}, id LIMIT 1)
        UNION ALL
        SELECT next.fingerprint FROM walk CROSS JOIN LATERAL (
            SELECT {FINGERPRINT} AS fingerprint FROM jobs
            WHERE rare_state = 'failed' AND {FINGERPRINT} > walk.fingerprint
            ORDER BY {FINGERPRINT}, id LIMIT 1
        ) AS next
    ), grouped AS MATERIALIZED (
        SELECT walk.fingerprint,
               CASE WHEN newest.count = {GLANCED_AT} THEN coalesce(kept.jobs, newest.count)
                    ELSE newest.count END AS count,
               least(first.first_seen, newest.first_seen) AS first_seen, newest.last_seen, newest.newest_id,
               newest.count = {GLANCED_AT} AND kept.jobs IS NOT NULL AS is_kept
        FROM {{walk}} AS walk
        LEFT JOIN kept_counts AS kept
          ON kept.kind = '{KIND_OF_FAILURE}' AND kept.name = walk.fingerprint AND kept.{FRESH}
        CROSS JOIN LATERAL (
            SELECT count(*) AS count, min(rare_since) AS first_seen, max(rare_since) AS last_seen,
                   max(id) AS newest_id
            FROM (SELECT id, rare_since FROM jobs
                  WHERE rare_state = 'failed' AND {FINGERPRINT} = walk.fingerprint
                  ORDER BY {FINGERPRINT} DESC, id DESC
                  LIMIT CASE WHEN kept.jobs IS NOT NULL THEN {GLANCED_AT} END) AS jobs
        ) AS newest
        CROSS JOIN LATERAL (
            SELECT rare_since AS first_seen FROM jobs
            WHERE rare_state = 'failed' AND {FINGERPRINT} = walk.fingerprint
            ORDER BY {FINGERPRINT}, id LIMIT 1
        ) AS first
        ORDER BY {{order}}, 1 LIMIT %(limit)s
    )
"""

_ONE = "(SELECT %(fingerprint)s::text AS fingerprint)"

# What is filtered is counted whole.
_FILTERED = f"""
    WITH grouped AS MATERIALIZED (
        SELECT {FINGERPRINT} AS fingerprint, count(*) AS count, min(rare_since) AS first_seen,
               max(rare_since) AS last_seen, max(id) AS newest_id, false AS is_kept
        FROM jobs WHERE rare_state = 'failed'{{conditions}}
        GROUP BY 1 ORDER BY {{order}}, 1 LIMIT %(limit)s
    )
"""

# The newest job of a group stands for it. A kind that was never written (PostgreSQL was away just then) is
# known by the error of that job; a job that failed without an exception, by its reason.
_GROUPS = """
    {grouped}
    SELECT grouped.fingerprint, newest.type, kind.exception,
           coalesce(kind.message, CASE WHEN newest.fingerprint IS NULL THEN newest.reason END,
                    newest.error, ''),
           kind.frame, grouped.count, grouped.first_seen, grouped.last_seen,
           newest.id, coalesce(newest.error, ''), newest.reason, last_attempt.traceback, grouped.is_kept
    FROM grouped
    JOIN jobs AS newest ON newest.id = grouped.newest_id
    LEFT JOIN failure_kinds AS kind ON kind.fingerprint = grouped.fingerprint
    LEFT JOIN LATERAL (
        SELECT traceback FROM attempts WHERE job_id = newest.id ORDER BY fence DESC LIMIT 1
    ) AS last_attempt ON true
    ORDER BY {order}, 1
"""

_ORDERS: dict[Order, str] = {"last_seen": "last_seen DESC", "count": "count DESC"}

_INSERT_KINDS = """
    INSERT INTO failure_kinds (fingerprint, type, exception, message, frame)
    SELECT * FROM json_to_recordset(%(kinds)s::json)
        AS kind (fingerprint text, type text, exception text, message text, frame text)
    ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class FailureFilter:
    """A filter of the failed jobs that are grouped; what is None does not matter.

    Attributes:
        since: those that failed then or later.
    """

    queue: str | None = None
    type: str | None = None
    since: datetime | None = None
    fingerprint: str | None = None

    @property
    def conditions(self) -> list[str]:
        """The conditions on a failed job besides its fingerprint, as SQL that takes the `parameters`."""
        said = {
            "queue = %(queue)s": self.queue,
            "type = %(type)s": self.type,
            "rare_since >= %(since)s": self.since,
        }
        return [condition for condition, value in said.items() if value is not None]

    @property
    def parameters(self) -> dict[str, Any]:
        """The values of the conditions, and the fingerprint."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """A group of failed jobs of one kind.

    Attributes:
        exception: None where no exception was seen: the worker died, a parent failed, the deadline passed.
        message: normalised; the reason where no exception was seen.
        first_seen, last_seen: when the first and the last of them failed.
        sample_*: of the newest of them; the traceback is its last attempt's.
        is_estimate: the count is the scheduler's of a few seconds ago, and the times are those of its first
            and its newest jobs.
    """

    fingerprint: str
    type: str
    exception: str | None
    message: str
    frame: str | None
    count: int
    first_seen: datetime
    last_seen: datetime
    sample_job_id: int
    sample_error: str
    sample_reason: str | None
    sample_traceback: str | None
    is_estimate: bool = False


def groups(
    connection: Connection, wanted: FailureFilter, *, order: Order = "last_seen", limit: int
) -> list[FailureGroup]:
    """Read the groups, the latest or the largest first."""
    if wanted.conditions:
        of_kind = [] if wanted.fingerprint is None else [f"{FINGERPRINT} = %(fingerprint)s"]
        conditions = "".join(f" AND {condition}" for condition in (*wanted.conditions, *of_kind))
        grouped = _FILTERED.format(conditions=conditions, order=_ORDERS[order])
    else:
        grouped = _WALKED.format(walk="walk" if wanted.fingerprint is None else _ONE, order=_ORDERS[order])
    sql = _GROUPS.format(grouped=grouped, order=_ORDERS[order])
    rows = fetch_all(connection, sql, wanted.parameters | {"limit": limit})
    return [_opened(connection, FailureGroup(*row)) for row in rows]


def _opened(connection: Connection, group: FailureGroup) -> FailureGroup:
    """The group with the texts of its newest job decrypted."""
    if not is_encrypted(group.sample_error):
        return group
    contents, error = contents_of(connection), of_job("error", group.sample_job_id)
    return replace(
        group,
        message=contents.shown(group.message, error) or "",
        sample_error=contents.shown(group.sample_error, error) or "",
        sample_traceback=contents.shown(group.sample_traceback, of_job("traceback", group.sample_job_id)),
    )


def get_group(connection: Connection, fingerprint: str) -> FailureGroup:
    """Read the group of a fingerprint.

    Raises:
        FailureNotFoundError: no failed job has it; it may not even be 16 hex digits.
    """
    if not FINGERPRINT_PATTERN.fullmatch(fingerprint):
        raise FailureNotFoundError(fingerprint)
    found = groups(connection, FailureFilter(fingerprint=fingerprint), limit=1)
    if not found:
        raise FailureNotFoundError(fingerprint)
    return found[0]


def insert_kinds(connection: Connection, kinds: Iterable[FailureKind]) -> None:
    """Keep what fingerprints stand for; known ones stay as they are."""
    # Sorted: two processes that insert the same new kinds must not wait for each other in a circle.
    rows = sorted(set(kinds), key=lambda kind: kind.fingerprint)
    connection.exec_driver_sql(_INSERT_KINDS, {"kinds": orjson.dumps(rows).decode()})
