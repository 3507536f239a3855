"""Reasons that have nothing to do with the order: time, other jobs, and what is stopped altogether."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from goqueue.insight.explain.facts import PARENTS_MAX, Facts
from goqueue.insight.explain.needs import labels_missing, too_small, version_too_low
from goqueue.insight.explain.reasons import Reason, ReasonCode
from goqueue.insight.explain.text import count, moment, quote, span
from goqueue.jobs import AttemptOutcome, JobStatus
from goqueue.limits.settings import BreakerState

__all__ = ["kind_of_wait", "stops", "waits"]

#: A worker that listens to nothing else is told in a list of so many queues.
QUEUES_SHOWN = 50


def waits(facts: Facts) -> Iterator[Reason]:
    """Yield what the job itself waits for: its time, or other jobs; or that it never starts."""
    job = facts.job
    if job.ends_at is not None and job.ends_at <= facts.now:
        yield Reason(
            ReasonCode.EXPIRED,
            f"its time to start ended at {moment(job.ends_at)}: it never starts, and becomes expired",
            {"expires_at": job.expires_at, "deadline_at": job.deadline_at},
            waits=True,
        )
    if job.attempts > job.max_retries:
        yield Reason(
            ReasonCode.OUT_OF_ATTEMPTS,
            f"it has no attempt left: {job.attempts} of {job.max_retries + 1} are spent",
            {"attempts": job.attempts, "max_retries": job.max_retries},
            waits=True,
        )
    if job.status is JobStatus.BLOCKED:
        yield _dependencies(facts)
    if job.available_at > facts.now:
        yield _time(facts)


def _dependencies(facts: Facts) -> Reason:
    if not facts.parents:
        return Reason(
            ReasonCode.NOT_RELEASED,
            "every job that it waited for has ended, but nobody released it: the releaser of the scheduler "
            "does within some seconds",
            waits=True,
        )
    parents = ", ".join(f"{parent.id} ({parent.status or 'deleted'})" for parent in facts.parents)
    return Reason(
        ReasonCode.DEPENDENCY_PENDING,
        f"it waits for {count(len(facts.parents), 'job', bound=PARENTS_MAX)}: {parents}",
        {
            "parents": [
                {"id": parent.id, "status": parent.status, "queue": parent.queue, "type": parent.type}
                for parent in facts.parents
            ]
        },
        waits=True,
    )


def kind_of_wait(outcome: AttemptOutcome | None, *, is_last: bool, spent: bool) -> str:
    """Tell why a job's time lies in the future: `backoff`, `snooze`, or `run_at`.

    Args:
        outcome: of the last attempt that has ended.
        is_last: nothing was claimed since.
        spent: it counts: nobody has queued the job anew.
    """
    if is_last and outcome is AttemptOutcome.FAILED and spent:
        return "backoff"
    if is_last and outcome is AttemptOutcome.SNOOZED:
        return "snooze"
    return "run_at"


def _time(facts: Facts) -> Reason:
    job = facts.job
    attempt = facts.attempt if facts.collected is None else None
    evidence: dict[str, Any] = {
        "available_at": job.available_at,
        "seconds": (job.available_at - facts.now).total_seconds(),
        "kind": "run_at",
    }
    why = "it was created for then"
    if facts.collected is not None and job.available_at <= facts.collected.until:
        collected = facts.collected
        evidence |= {"kind": "collecting", "collected": collected.payloads, "collect_max": collected.most}
        why = f"it collects payloads, and has {collected.payloads:,} of at most {collected.most:,}"
    if attempt is not None:
        evidence["kind"] = kind_of_wait(
            attempt.outcome, is_last=attempt.fence == job.fence, spent=attempt.attempt == job.attempts
        )
    if attempt is not None and evidence["kind"] != "run_at":
        evidence |= {"attempt": attempt.attempt, "error": attempt.error}
        why = f"attempt {attempt.attempt} snoozed it"
        if evidence["kind"] == "backoff":
            why = f"attempt {attempt.attempt} failed ({quote(attempt.error or 'no error is known')})"
    return Reason(
        ReasonCode.WAITS_FOR_TIME,
        f"it waits until {moment(job.available_at)}, {span(evidence['seconds'])} from now: {why}",
        evidence,
        ends_at=job.available_at,
    )


def stops(facts: Facts) -> Iterator[Reason]:
    """Yield what stops the job's queue or its type altogether, and that nobody would run it."""
    if facts.queue.paused_at is not None:
        yield _paused(facts)
    if facts.queue.throttled_until is not None:
        yield Reason(
            ReasonCode.QUEUE_THROTTLED,
            f"a handler asked to slow the queue {facts.job.queue!r} down: nothing of it starts before "
            f"{moment(facts.queue.throttled_until)}, {span(_seconds_to(facts))} from now",
            {"until": facts.queue.throttled_until, "queue": facts.job.queue},
            ends_at=facts.queue.throttled_until,
        )
    if not facts.eligible.workers:
        yield _nobody(facts)
    yield from _breaker(facts)
    if facts.job.runs_alone:
        yield _quarantined(facts)
    elif facts.job.quarantined:
        yield _suspected(facts)


def _seconds_to(facts: Facts) -> float:
    assert facts.queue.throttled_until is not None
    return (facts.queue.throttled_until - facts.now).total_seconds()


def _paused(facts: Facts) -> Reason:
    queue = facts.queue
    assert queue.paused_at is not None
    by = f" by {queue.paused_by}" if queue.paused_by else ""
    why = f" ({quote(queue.pause_reason)})" if queue.pause_reason else ""
    until = (
        "until someone resumes it" if queue.paused_until is None else f"until {moment(queue.paused_until)}"
    )
    return Reason(
        ReasonCode.QUEUE_PAUSED,
        f"the queue {facts.job.queue!r} is paused{by}{why} since {moment(queue.paused_at)}, {until}",
        {
            "queue": facts.job.queue,
            "by": queue.paused_by,
            "reason": queue.pause_reason,
            "since": queue.paused_at,
            "until": queue.paused_until,
        },
        ends_at=queue.paused_until,
        waits=queue.paused_until is None,
    )


def _nobody(facts: Facts) -> Reason:
    """Why nobody runs it: of the workers of its queue none can, or there is none."""
    if facts.eligible.small:
        return too_small(facts)
    if facts.eligible.unlabelled:
        return version_too_low(facts) or labels_missing(facts)
    if facts.eligible.outdated:
        return _unreadable(facts)
    return _unknown_type(facts) if facts.eligible.ignorant else _no_worker(facts)


def _unknown_type(facts: Facts) -> Reason:
    job, eligible = facts.job, facts.eligible
    return Reason(
        ReasonCode.UNKNOWN_TYPE,
        f"no live worker knows the type {job.type!r}; "
        f"{count(eligible.ignorant, 'worker')} that {_listen(eligible.ignorant)} to the queue "
        f"{eligible.runway!r} {'does' if eligible.ignorant == 1 else 'do'} not: it waits for one that does",
        {"type": job.type, "queue": eligible.runway, "workers": eligible.ignorant},
        waits=True,
    )


def _unreadable(facts: Facts) -> Reason:
    job, eligible = facts.job, facts.eligible
    assert job.unreadable_until is not None
    return Reason(
        ReasonCode.UNREADABLE_PAYLOAD,
        f"no live worker can read its payload ({quote(job.error or 'no error is known')}): it waits for one "
        f"with another schema of the type {job.type!r} until {moment(job.unreadable_until)}, and then fails",
        {
            "type": job.type,
            "schemas": list(job.unreadable_by),
            "workers": eligible.outdated,
            "error": job.error,
            "until": job.unreadable_until,
        },
        waits=True,
    )


def _listen(workers: int) -> str:
    return "listens" if workers == 1 else "listen"


def _no_worker(facts: Facts) -> Reason:
    eligible = facts.eligible
    served = ", ".join(eligible.queues[:QUEUES_SHOWN])
    others = f"live workers listen to: {served}" if eligible.queues else "there is no live worker at all"
    evidence: dict[str, Any] = {"queue": eligible.runway, "served_queues": list(eligible.queues)}
    if eligible.quiet:
        others = f"{count(eligible.quiet, 'worker')} that did were told to take no more jobs"
        evidence["quiet_workers"] = eligible.quiet
    return Reason(
        ReasonCode.NO_WORKER,
        f"no live worker listens to the queue {eligible.runway!r}; {others}",
        evidence,
        waits=True,
    )


def _breaker(facts: Facts) -> Iterator[Reason]:
    limited = facts.type
    if limited is None or limited.limit_state.limits.breaker is None or facts.job.admitted:
        return
    limits, probes = limited.limit_state.limits, limited.limit_state.probes
    evidence: dict[str, Any] = {"type": facts.job.type, "since": limited.changed_at, "reason": limited.reason}
    why = f" ({quote(limited.reason)})" if limited.reason else ""
    if limits.state is BreakerState.OPEN:
        ends = limited.cooldown_ends_at
        when = "" if ends is None else f"; probes are let in from {moment(ends)}"
        yield Reason(
            ReasonCode.BREAKER_OPEN,
            f"the circuit breaker of the type {facts.job.type!r} is open{why}{when}",
            evidence | {"cooldown_ends_at": ends},
            ends_at=ends,
        )
    elif limits.state is BreakerState.HALF_OPEN:
        let_in = limited.limit_state.probes_let_in
        yield Reason(
            ReasonCode.BREAKER_HALF_OPEN,
            f"the circuit breaker of the type {facts.job.type!r} is half-open{why}: {let_in} of {probes} "
            "probes were let in, and the others wait until these complete",
            evidence | {"probes": probes, "probes_let_in": let_in},
            waits=True,
        )


def _suspected(facts: Facts) -> Reason:
    total = facts.attempt.deaths if facts.attempt else 0
    return Reason(
        ReasonCode.SUSPECTED,
        "its worker process died while it ran, and that may have been its doing: it runs again beside other "
        "jobs, before them, as soon as a worker process has a free thread and runs no other suspect",
        {"worker_deaths": total, "workers": facts.eligible.workers},
        waits=True,
    )


def _quarantined(facts: Facts) -> Reason:
    job, eligible = facts.job, facts.eligible
    total = facts.attempt.deaths if facts.attempt else 0
    served_by = None
    who = "nobody serves the quarantine now"
    if eligible.workers:
        served_by = "dedicated" if eligible.dedicated else "idle_process"
        who = "a worker process that serves nothing else takes it"
        if not eligible.dedicated:
            who = "it starts when a worker process holds no other job"
    return Reason(
        ReasonCode.QUARANTINED,
        f"it is suspected of killing its workers: {total} died under it, "
        f"{job.deaths} of {facts.max_deaths} while it ran alone; it runs next alone, and {who}",
        {
            "worker_deaths": total,
            "lonely_deaths": job.deaths,
            "max_deaths": facts.max_deaths,
            "served_by": served_by,
            "workers": eligible.workers,
        },
        waits=True,
    )
