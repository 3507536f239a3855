"""Running failed and cancelled jobs again, many at a time; `Editor.retry` runs one again, edited."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from goqueue.audit import audit_rows as audit
from goqueue.db.database import Connection, Database, retry_on_conflict
from goqueue.db.statements import atomic
from goqueue.engine.create import JobCreator
from goqueue.engine.runway.runway import Message
from goqueue.engine.transitions.retry import retry

__all__ = ["retry_jobs"]


def retry_jobs(database: Database, creator: JobCreator, ids: Sequence[int]) -> int:
    """Queue those of the jobs again that failed or were cancelled, push them, and return how many."""
    with database.autocommit() as connection:
        retried = _retry(connection, ids)
    messages = defaultdict[str, list[Message]](list)
    for job_id, fence, queue in retried:
        messages[queue].append(Message(job_id, fence))
    for queue, of_queue in messages.items():
        creator.push(queue, of_queue)
    return len(retried)


@retry_on_conflict
def _retry(connection: Connection, ids: Sequence[int]) -> list[tuple[int, int, str]]:
    with atomic(connection):
        retried = retry(connection, ids)
        audit.record_of_jobs(connection, "job.retry", [job_id for job_id, _, _ in retried])
        return retried
