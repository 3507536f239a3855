"""Keys in strict order whose oldest unfinished job cannot start, while later ones wait. Only reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from goqueue.db.fragments import READY_OF_KEYS
from goqueue.db.statements import Values, fetch_all, fetch_one
from goqueue.insight.explain.waits import kind_of_wait
from goqueue.jobs import AttemptOutcome, JobStatus

__all__ = ["WAITING_UP_TO", "BlockedKey", "page"]

#: Jobs that wait behind a blocked one are counted up to here.
WAITING_UP_TO = 1_000

#: One page looks at no more keys than this: about 30 ms.
KEYS_MAX = 3_000

_OLDEST = (
    "concurrency_key, id, status, quarantined, available_at, started_at, created_at, updated_at, attempts, "
    "fence"
)

# A walk from key to key along jobs_unfinished_key_idx, one descent each, as `candidates.ring` does it; it
# goes on only as long as rows are asked for; so it has no ORDER BY, and nested loops keep its order. The last
# key that one page may look at comes back in any case: the next page begins behind it.
_PAGE = f"""
    WITH RECURSIVE walk AS (
        (SELECT 1 AS steps, {_OLDEST} FROM jobs
         WHERE queue = %(queue)s AND unfinished_key > %(after)s
         ORDER BY queue, unfinished_key, id LIMIT 1)
        UNION ALL
        SELECT walk.steps + 1, oldest.* FROM walk CROSS JOIN LATERAL (
            SELECT {_OLDEST} FROM jobs
            WHERE queue = %(queue)s AND unfinished_key > walk.concurrency_key
            ORDER BY queue, unfinished_key, id LIMIT 1
        ) AS oldest
        WHERE walk.steps < %(keys_max)s
    )
    SELECT walk.steps, waiting.count, {_OLDEST}, available_at > now()
    FROM walk CROSS JOIN LATERAL (
        SELECT CASE WHEN status = 'queued' AND NOT quarantined AND available_at <= now() THEN 0 ELSE (
            SELECT count(*) FROM (
                SELECT FROM ready_jobs
                WHERE queue_name = %(queue)s AND open_key = walk.concurrency_key
                  AND {READY_OF_KEYS}
                ORDER BY queue_name, open_key, ready_rank, job_id LIMIT {WAITING_UP_TO}
            ) AS ready) END::int AS count
    ) AS waiting
    WHERE waiting.count > 0 OR walk.steps = %(keys_max)s
    LIMIT %(limit)s
"""

_LAST_ATTEMPT = """
    SELECT attempt, fence, outcome FROM attempts WHERE job_id = %(id)s ORDER BY fence DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class BlockedKey:
    """A key whose oldest unfinished job has to move first.

    Attributes:
        job_id, status: that job.
        why: running, backoff, snooze, run_at, dependencies or quarantined.
        since: when it began to be like this.
        until: when its time comes, where it waits for that.
        waiting: how many jobs are ready behind it, up to `WAITING_UP_TO`.
    """

    key: str
    job_id: int
    status: JobStatus
    why: str
    since: datetime
    until: datetime | None
    waiting: int


def page(
    connection: Connection, queue: str, *, after: str, limit: int, keys_max: int = KEYS_MAX
) -> tuple[list[BlockedKey], str | None]:
    """Read the blocked keys behind `after`, and behind which key the next page begins; None: there is none.

    A page that looked at `keys_max` keys ends, however few of them are blocked.
    """
    parameters = {"queue": queue, "after": after, "limit": limit + 1, "keys_max": keys_max}
    rows = fetch_all(connection, _PAGE, parameters)
    blocked = [_blocked(connection, row) for row in rows[:limit] if row[1]]
    goes_on = len(rows) > limit or (rows and rows[-1][0] == keys_max)
    return blocked, rows[:limit][-1][2] if goes_on else None


def _blocked(connection: Connection, row: Values) -> BlockedKey:
    waiting, key, job_id, status, quarantined, available_at, started_at, created_at, updated_at = row[1:10]
    until = available_at if status == JobStatus.QUEUED and row[12] else None
    why = {JobStatus.RUNNING: "running", JobStatus.BLOCKED: "dependencies"}.get(JobStatus(status))
    why = why or ("quarantined" if quarantined else _kind(connection, job_id, row[10], row[11]))
    since = {"running": started_at or updated_at, "dependencies": created_at, "run_at": created_at}.get(why)
    return BlockedKey(key, job_id, JobStatus(status), why, since or updated_at, until, waiting)


def _kind(connection: Connection, job_id: int, attempts: int, fence: int) -> str:
    """Why its time lies in the future."""
    last = fetch_one(connection, _LAST_ATTEMPT, {"id": job_id})
    if last is None:
        return "run_at"
    return kind_of_wait(AttemptOutcome(last[2]), is_last=last[1] == fence, spent=last[0] == attempts)
