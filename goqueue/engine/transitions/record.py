"""Recording: a worker writes how its attempts ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection

from goqueue.contents.contents import JobContents, of_job
from goqueue.db.database import retry_on_conflict
from goqueue.db.fragments import MAX_RETRIES, rank_of
from goqueue.db.locked_rows import rows_of
from goqueue.db.statements import KEYS, array, contents_of, fetch_all, key_arrays
from goqueue.engine.transitions.release import Released, settle
from goqueue.jobs import JobStatus, Outcome

__all__ = ["Recorded", "ended_instead", "record", "still_running"]

# What is not ours any more is simply not in `held`; nor is, at first, a job that others wait for: its end is
# recorded in one transaction with what follows for them (`with_dependants`), and only there.
#
# Of what completed the statement takes the row of `running_jobs` itself; for all other ends a trigger does.
# Its rank stays what it was, because indexes have it: see `goqueue/db/tables/jobs.py`.
#
# `status || ''` keeps the planner from an index of the running that a database still has while workers of the
# release before 0016 are there: after an ANALYZE that saw hardly any running row it walked all that run for
# each outcome, and a drain fell to a third of its speed.
#
# A retry that no claim could take any more (a client counted attempts meanwhile, an actor's `retry_when`
# wants more than it may have), or that would start after the deadline, ends the job: queued, it would be
# pushed and refused for ever. So does one of a job that someone wants to stop.
_RECORD = f"""
    WITH held AS MATERIALIZED (
        SELECT job.holder, o.*, CASE
            WHEN o.status <> 'queued' THEN o.status
            WHEN job.cancel_requested_at IS NOT NULL THEN 'cancelled'
            WHEN job.out_of_attempts OR job.out_of_time THEN 'failed'
            ELSE 'queued' END AS becomes,
            job.out_of_time
        FROM json_to_recordset(%(outcomes)s::json) AS o (
            id bigint, fence int, status text, outcome text, result json, error text, traceback text,
            reason text, fingerprint text, delay float, refund int, run float, begun float, schema text,
            wait float)
        CROSS JOIN LATERAL (
            SELECT coalesce(jobs.worker_id, -1) AS holder, jobs.cancel_requested_at,
                   jobs.attempts - o.refund > {MAX_RETRIES} AS out_of_attempts,
                   jobs.deadline_at <= now() + make_interval(secs => o.delay) AS out_of_time
            FROM jobs
            WHERE jobs.id = o.id AND jobs.fence = o.fence AND jobs.status || '' = 'running'
              AND jobs.has_dependants <= %(with_dependants)s
            LIMIT 1 FOR UPDATE SKIP LOCKED
        ) AS job
    ), recorded AS (
        UPDATE jobs
        SET status = o.becomes, place = CASE WHEN o.becomes <> 'completed' THEN jobs.place END,
            attempts = jobs.attempts - o.refund, worker_id = NULL,
            quarantined = jobs.quarantined AND o.outcome = 'interrupted',
            suspicion = CASE WHEN o.outcome = 'interrupted' THEN jobs.suspicion ELSE 0 END,
            result = o.result, error = o.error, updated_at = now(),
            started_at = coalesce(to_timestamp(o.begun), jobs.started_at),
            begun_at = CASE WHEN o.becomes <> 'queued' THEN jobs.begun_at END,
            reason = CASE
                WHEN o.becomes = o.status THEN o.reason
                WHEN o.becomes = 'cancelled' THEN 'cancelled'
                WHEN o.out_of_time THEN 'deadline'
                ELSE o.reason END,
            fingerprint = CASE WHEN o.becomes = 'failed' THEN o.fingerprint END,
            available_at = CASE WHEN o.becomes = 'queued'
                THEN now() + make_interval(secs => o.delay) ELSE jobs.available_at END,
            rank = CASE WHEN o.becomes = 'completed' THEN jobs.rank WHEN o.becomes = 'queued' AND o.delay <= 0
                THEN LEAST(CASE WHEN o.outcome = 'interrupted' THEN jobs.rank END,
                           {rank_of("now()", priority="jobs.priority")}) END,
            unreadable_by = CASE WHEN o.schema IS NOT NULL
                THEN array_append(jobs.unreadable_by, o.schema) END,
            unreadable_until = CASE WHEN o.schema IS NOT NULL
                THEN coalesce(jobs.unreadable_until, now() + make_interval(secs => o.wait)) END,
            finished_at = CASE WHEN o.becomes <> 'queued' THEN now() END
        FROM held AS o WHERE jobs.id = o.id AND {rows_of("held")}
        RETURNING jobs.id, jobs.fence, jobs.attempts + o.refund AS attempt, jobs.started_at,
                  o.outcome, o.error, o.traceback, o.run, o.holder
    ), unlisted AS (
        DELETE FROM running_jobs WHERE holder = ANY (ARRAY (SELECT DISTINCT holder FROM held))
          AND job_id = ANY (ARRAY (SELECT id FROM held WHERE becomes = 'completed'))
    )
    INSERT INTO attempts (job_id, fence, attempt, worker_id, outcome, error, traceback, started_at,
                          run_seconds)
    SELECT id, fence, attempt, coalesce(%(worker_id)s::bigint, NULLIF(holder, -1)), outcome, error, traceback,
           started_at, run
    FROM recorded
    RETURNING job_id, fence
"""


_STILL_RUNNING = f"""
    SELECT wanted.id, wanted.fence
    FROM {KEYS} AS wanted (id, fence)
    CROSS JOIN LATERAL (SELECT fence, status FROM jobs WHERE jobs.id = wanted.id LIMIT 1) AS job
    WHERE job.fence = wanted.fence AND job.status = 'running'
"""


_ENDED = f"""
    SELECT wanted.id, wanted.fence, job.status
    FROM {KEYS} AS wanted (id, fence)
    CROSS JOIN LATERAL (SELECT fence, status FROM jobs WHERE jobs.id = wanted.id LIMIT 1) AS job
    WHERE job.fence = wanted.fence AND job.status IN ('failed', 'cancelled')
"""


# At the second try the locks come first, and the next statement's snapshot is younger: it sees what somebody
# else has just changed (a request to stop the job, its acknowledgement).
_LOCK_ENDING = """
    SELECT id FROM jobs WHERE id = ANY(%(ids)s::bigint[]) AND status = 'running'
    ORDER BY id FOR UPDATE SKIP LOCKED
"""


class Recorded(NamedTuple):
    """The result of recording outcomes: the (id, fence) pairs, and the jobs that were released by it."""

    keys: set[tuple[int, int]]
    released: list[Released]


@retry_on_conflict
def record(
    connection: Connection,
    outcomes: Sequence[Outcome],
    *,
    worker_id: int | None,
    with_dependants: bool = False,
) -> Recorded:
    """Write how attempts ended: running → completed, failed, cancelled or queued, and one attempt row each.

    The attempts are those of `worker_id`; None: of whoever holds each job.

    Left out are those that are no longer held (stale results) or are locked by somebody (`still_running`
    tells), and jobs that others wait for. These are recorded `with_dependants`, and settled with it: only in
    a transaction, so that nobody sees an ended parent and a child that was not told.
    """
    if with_dependants:
        ids = array(sorted({outcome.job_id for outcome in outcomes}))
        fetch_all(connection, _LOCK_ENDING, {"ids": ids})
    ordered = sorted(outcomes, key=lambda outcome: outcome.job_id)
    if any(outcome.encrypted for outcome in ordered):
        ordered = [_encrypted(contents_of(connection), outcome) for outcome in ordered]
    parameters = {
        "outcomes": f"[{','.join([_outcome_text(outcome) for outcome in ordered])}]",
        "worker_id": worker_id,
        "with_dependants": with_dependants,
    }
    keys = {(row[0], row[1]) for row in fetch_all(connection, _RECORD, parameters)}
    released = settle(connection, [job_id for job_id, _ in keys]) if with_dependants else []
    return Recorded(keys, released)


def _encrypted(contents: JobContents, outcome: Outcome) -> Outcome:
    """The outcome of an encrypted job with what it says encrypted; any other as it is."""
    if not outcome.encrypted or contents.keys is None:
        # Without keys its payload could not be read: what is said of that holds nothing of it.
        return outcome
    keys, job_id = contents.keys, outcome.job_id

    def closed(column: str, text: str | None) -> str | None:
        return None if text is None else keys.encrypt(text, of_job(column, job_id))

    return replace(
        outcome,
        result=closed("result", outcome.result),
        error=closed("error", outcome.error),
        traceback=closed("traceback", outcome.traceback),
    )


def still_running(connection: Connection, keys: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Read those of these (id, fence) that are running under that fence, whoever has locked them."""
    wanted = key_arrays(keys)
    return set(fetch_all(connection, _STILL_RUNNING, wanted)) if wanted["ids"] != "{}" else set()


def ended_instead(
    connection: Connection, keys: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], JobStatus]:
    """Read which of these (id, fence), recorded for a retry, ended instead: failed, or cancelled."""
    rows = fetch_all(connection, _ENDED, key_arrays(keys))
    return {(job_id, fence): JobStatus(status) for job_id, fence, status in rows}


def _outcome_text(outcome: Outcome) -> str:
    """An outcome as JSON; most are completions, of which there is little to say."""
    if outcome.status is not JobStatus.COMPLETED or outcome.begun is None:
        return orjson.dumps(_outcome_record(outcome)).decode()
    return (
        f'{{"id":{outcome.job_id},"fence":{outcome.fence},"status":"completed","outcome":"completed",'
        f'"delay":0,"refund":0,"run":{outcome.run_seconds!r},"begun":{outcome.begun!r},'
        f'"result":{outcome.result or "null"}}}'
    )


def _outcome_record(outcome: Outcome) -> dict[str, Any]:
    record: dict[str, Any] = {
        "id": outcome.job_id,
        "fence": outcome.fence,
        "status": outcome.status.value,
        "outcome": outcome.attempt_outcome.value,
        "delay": outcome.delay_seconds,
        "refund": int(outcome.refund),
        "run": outcome.run_seconds,
        "begun": outcome.begun,
    }
    if outcome.unreadable_by is not None:
        record |= {"schema": outcome.unreadable_by, "wait": outcome.unreadable_wait_seconds}
    if outcome.result is not None:
        record["result"] = orjson.Fragment(outcome.result)
    if outcome.error is not None:
        record |= {
            "error": outcome.error,
            "traceback": outcome.traceback,
            "reason": outcome.reason,
            "fingerprint": outcome.failure_kind and outcome.failure_kind.fingerprint,
        }
    elif outcome.reason is not None:
        record["reason"] = outcome.reason
    return record
