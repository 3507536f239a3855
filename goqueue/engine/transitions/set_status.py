"""Setting the status: what clients do that run jobs themselves (the original contract's `PUT …/status`)."""

from __future__ import annotations

from sqlalchemy import Connection

from goqueue.db.fragments import MAX_RETRIES, rank_of
from goqueue.db.statements import (
    atomic,
    fetch_one,
)
from goqueue.engine import job_rows
from goqueue.engine import unique_rows as unique_keys
from goqueue.engine.transitions.release import settle
from goqueue.errors import IllegalTransitionError
from goqueue.jobs import CLIENT_TRANSITIONS, FINAL_STATUSES, JobStatus

__all__ = ["set_status"]

_SET_STATUS = f"""
    UPDATE jobs SET status = %(wanted)s, worker_id = NULL, admitted = false, fingerprint = NULL,
        unreadable_by = NULL, unreadable_until = NULL, updated_at = now(),
        fence = fence + CASE WHEN %(wanted)s = 'running' THEN 1 ELSE 0 END,
        started_at = CASE WHEN %(wanted)s = 'running' THEN now() ELSE started_at END,
        begun_at = CASE WHEN %(wanted)s = 'running' THEN now() WHEN %(final)s THEN begun_at END,
        available_at = CASE WHEN %(wanted)s = 'queued' THEN now() ELSE available_at END,
        rank = CASE WHEN %(wanted)s = 'queued'
            THEN {rank_of("now()")} END,
        cancel_requested_at = CASE WHEN %(wanted)s <> 'queued' THEN cancel_requested_at END,
        cancel_acknowledged_at = CASE WHEN %(wanted)s <> 'queued' THEN cancel_acknowledged_at END,
        expires_at = CASE WHEN %(wanted)s <> 'queued' OR expires_at > now() THEN expires_at END,
        deadline_at = CASE WHEN %(wanted)s <> 'queued' OR deadline_at > now() THEN deadline_at END,
        finished_at = CASE WHEN %(final)s THEN now() END
    WHERE id = %(id)s AND status = ANY(%(sources)s)
      AND (%(wanted)s <> 'queued' OR attempts <= {MAX_RETRIES})
      AND (%(wanted)s <> 'running' OR (LEAST(expires_at, deadline_at) > now()) IS NOT FALSE)
    RETURNING id
"""


def set_status(connection: Connection, job_id: int, wanted: JobStatus) -> None:
    """Move a job on behalf of a client that runs it itself, and settle what waits for one that ends.

    Raises:
        JobNotFoundError: there is no such job.
        IllegalTransitionError: the state machine forbids it from the present state.
        UniqueKeyHeldError: it shall be queued again, and another job has its unique key.
    """
    sources = [status.value for status, targets in CLIENT_TRANSITIONS.items() if wanted in targets]
    parameters = {
        "id": job_id,
        "wanted": wanted.value,
        "sources": sources,
        "final": wanted in FINAL_STATUSES,
    }
    keyed = unique_keys.keyed(connection, [job_id]) if wanted is JobStatus.QUEUED else {}
    with atomic(connection):
        if keyed and not unique_keys.take_again(connection, keyed):
            parameters["sources"] = sorted({*sources} - {"failed", "cancelled"})
        if fetch_one(connection, _SET_STATUS, parameters) is None:
            current = job_rows.get(connection, job_id).status
            if keyed and current in {JobStatus.FAILED, JobStatus.CANCELLED}:
                unique_keys.refuse(connection, job_id, keyed[job_id])
            raise IllegalTransitionError(job_id, current, wanted)
        if wanted in FINAL_STATUSES:
            settle(connection, [job_id])
