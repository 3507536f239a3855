"""What the workers count, a batch at a time: one write a series and batch costs less than one a job."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from goqueue.jobs import AttemptOutcome, ClaimedJob, JobStatus, Outcome
from goqueue.middleware.job_message import CurrentJob, JobMessage
from goqueue.observability import metrics


def count_begins(jobs: Iterable[CurrentJob]) -> None:
    """Count how long jobs had waited when their handlers began."""
    waits: dict[str, list[float]] = {}
    for job in jobs:
        waits.setdefault(job.claimed.queue, []).append(job.wait_seconds)
    _count_waits(waits)


def _count_waits(waits: Mapping[str, Sequence[float]]) -> None:
    for queue, seconds_waited in waits.items():
        metrics.JOB_WAIT.labels(queue).observe_all(seconds_waited)


def count_outcomes(
    batch: Sequence[JobMessage], recorded: Collection[tuple[int, int]], seconds: float
) -> None:
    """Count what was recorded of a batch of ended attempts, which took so long to record."""
    metrics.RECORDER_BATCH_SIZE.observe(len(batch))
    metrics.RECORDER_DURATION.observe(seconds)
    runs: dict[str, list[float]] = {}
    waits: dict[str, list[float]] = {}
    ended: dict[tuple[str, JobStatus], int] = {}
    for message in batch:
        outcome, current = message.outcome, message.current
        if current.started and not current.is_noted:
            # Those that ran for longer were counted while they did.
            waited = current.claimed.wait_seconds + current.started - current.times.claimed_at
            waits.setdefault(current.claimed.queue, []).append(waited)
        if outcome is None or (outcome.job_id, outcome.fence) not in recorded:
            continue
        queue = current.claimed.queue
        runs.setdefault(queue, []).append(outcome.run_seconds)
        ended[queue, outcome.status] = ended.get((queue, outcome.status), 0) + 1
        if outcome.attempt_outcome is AttemptOutcome.FAILED:
            _count_failure(current.claimed, outcome)
    _count_waits(waits)
    for queue, run_seconds in runs.items():
        metrics.JOB_DURATION.labels(queue).observe_all(run_seconds)
    for (queue, status), count in ended.items():
        metrics.JOBS_PROCESSED.labels(queue, status.value).inc(count)


def _count_failure(job: ClaimedJob, outcome: Outcome) -> None:
    if outcome.status is JobStatus.FAILED:
        metrics.JOBS_FAILED.labels(job.queue, job.type, _error_of(outcome)).inc()
    else:
        metrics.JOBS_RETRIED.labels(job.queue, job.type).inc()


def _error_of(outcome: Outcome) -> str:
    """The class of the exception without its module; the reason where there was none."""
    if outcome.failure_kind is not None:
        return outcome.failure_kind.exception.rpartition(".")[2]
    return outcome.reason or "failed"
