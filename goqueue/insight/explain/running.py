"""Reasons of a job that a worker has: it runs, is to stop, or lies with a worker that was lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from goqueue.insight.explain.facts import Facts
from goqueue.insight.explain.reasons import Reason, ReasonCode
from goqueue.insight.explain.text import moment, span

__all__ = ["of_running"]


def of_running(facts: Facts) -> Iterator[Reason]:
    """Yield what a running job does: run, stop on request, or lie with a lost worker."""
    job, worker = facts.job, facts.worker
    since = job.begun_at or job.started_at or job.updated_at
    evidence: dict[str, Any] = {"since": since, "worker_id": job.worker_id, "attempt": job.attempts}
    evidence["begun_at"] = job.begun_at
    if worker is not None:
        evidence |= {"hostname": worker.hostname, "pid": worker.pid, "heartbeat_at": worker.heartbeat_at}
    if job.cancel_requested_at is not None:
        yield _cancel_requested(facts)
    if worker is not None and not worker.alive:
        yield Reason(
            ReasonCode.WORKER_LOST,
            f"worker {worker.id} ({worker.hostname}, process {worker.pid}), which runs it, is silent since "
            f"{moment(worker.heartbeat_at)}: the rescuer takes the job back",
            evidence,
        )
        return
    if worker is not None and job.begun_at is None:
        yield _claimed(facts, since, evidence)
        return
    on = "held by a client of the REST API" if worker is None else _on(facts)
    yield Reason(ReasonCode.RUNNING, f"it runs since {moment(since)}, {on}", evidence)


def _claimed(facts: Facts, since: datetime, evidence: dict[str, Any]) -> Reason:
    """Workers note the begin of a job a tenth of a second later: of a younger one it is not known yet."""
    seconds = max(0.0, (facts.now - since).total_seconds())
    if facts.batch_wait_ms is not None:
        return Reason(
            ReasonCode.CLAIMED,
            f"it was claimed {span(seconds)} ago, {_on(facts)}, and waits for its batch to fill, at most "
            f"{facts.batch_wait_ms:g} ms, or began only just now",
            evidence | {"batch_wait_ms": facts.batch_wait_ms},
        )
    return Reason(
        ReasonCode.CLAIMED,
        f"it was claimed {span(seconds)} ago, {_on(facts)}, and has not begun, or only just now: a thread "
        "takes it within a quarter of a second, or it goes back for others",
        evidence,
    )


def _on(facts: Facts) -> str:
    worker = facts.worker
    assert worker is not None
    return f"on worker {worker.id} ({worker.hostname}, process {worker.pid})"


def _cancel_requested(facts: Facts) -> Reason:
    job = facts.job
    assert job.cancel_requested_at is not None
    told = "its worker does not know it yet"
    if job.cancel_acknowledged_at is not None:
        told = f"its worker knows it since {moment(job.cancel_acknowledged_at)} and stops it"
    return Reason(
        ReasonCode.CANCEL_REQUESTED,
        f"it was asked to stop at {moment(job.cancel_requested_at)}, and {told}",
        {"requested_at": job.cancel_requested_at, "acknowledged_at": job.cancel_acknowledged_at},
    )
