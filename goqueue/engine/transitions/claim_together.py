"""Claiming for several workers at once: each takes the jobs of its own messages, in one statement.

What `claim.py` says of its statement holds for this one; workers that lease over HTTP, and ask one process at
the same moment, share it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from goqueue.db.database import retry_on_conflict
from goqueue.db.locked_rows import rows_of
from goqueue.db.statements import array, contents_of, fetch_all
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.transitions.claim import (
    CLAIMED,
    JOB_OF_MESSAGE,
    assignments,
    claimant,
    claimed_job,
    listed_as_running,
)
from goqueue.jobs import ClaimedJob

__all__ = ["claim_together"]

_MESSAGES = "unnest((SELECT %(ids)s::bigint[]), (SELECT %(fences)s::int[]), (SELECT %(holders)s::bigint[]))"

_CLAIM_TOGETHER = f"""
    WITH living AS MATERIALIZED (
        SELECT id FROM workers WHERE id = ANY (%(workers)s::bigint[]) AND stopped_at IS NULL
          AND heartbeat_at > now() - make_interval(secs => %(lease_seconds)s)
    ), chosen AS MATERIALIZED (
        SELECT job.*, message.holder
        FROM {_MESSAGES} AS message (id, fence, holder)
        CROSS JOIN LATERAL (
            {JOB_OF_MESSAGE}
        ) AS job
        WHERE message.holder IN (SELECT id FROM living)
    ), {listed_as_running("holder")}
    UPDATE jobs SET status = 'running', {assignments("(SELECT holder FROM chosen WHERE chosen.id = jobs.id)")}
    WHERE {rows_of("chosen")}
    RETURNING {CLAIMED}, worker_id
"""


@retry_on_conflict
def claim_together(
    connection: Connection,
    messages: Mapping[int, Sequence[tuple[int, int]]],
    *,
    lease_seconds: float,
    known: KnownTypes,
) -> dict[int, list[ClaimedJob]]:
    """Move the queued jobs of the (id, fence) messages of each worker to running, as `claim` does.

    All of them know the same. Those of a worker that got none are not in the answer.
    """
    wanted = sorted((*message, worker_id) for worker_id, those in messages.items() for message in those)
    parameters = {
        **claimant(0, lease_seconds, known),
        "ids": array(job_id for job_id, _, _ in wanted),
        "fences": array(fence for _, fence, _ in wanted),
        "holders": array(worker_id for _, _, worker_id in wanted),
        "workers": array(sorted(messages)),
    }
    contents = contents_of(connection)
    found = defaultdict[int, list[ClaimedJob]](list)
    for row in fetch_all(connection, _CLAIM_TOGETHER, parameters):
        found[row[-1]].append(claimed_job(row[:-1], contents))
    return dict(found)
