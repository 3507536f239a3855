"""The way from facts to the answer: the reasons that hold, in their order, and the expected start."""

from __future__ import annotations

from datetime import datetime, timedelta

from goqueue.insight.explain.admission import expiring, limits, order
from goqueue.insight.explain.facts import Facts
from goqueue.insight.explain.reasons import Explanation, Reason, ReasonCode
from goqueue.insight.explain.running import of_running
from goqueue.insight.explain.text import moment, quote, span
from goqueue.insight.explain.waits import stops, waits
from goqueue.jobs import FINAL_STATUSES, JobStatus

__all__ = ["explained"]

#: A start that lies further away than this is not foretold.
FORETOLD_DAYS = 366


def explained(facts: Facts) -> Explanation:
    """Explain from the facts why the job does not run, or what it does instead, and when it should start."""
    job = facts.job
    if job.status in FINAL_STATUSES:
        return Explanation(job.id, job.status, _of_finished(facts))
    if job.status is JobStatus.RUNNING:
        reasons = tuple(of_running(facts))
        return Explanation(job.id, job.status, _summary(facts, reasons), reasons)
    reasons = _of_waiting(facts)
    position = facts.position
    return Explanation(
        job.id,
        job.status,
        _summary(facts, reasons),
        reasons,
        ahead=None if position is None else position.ahead,
        expected_start_at=_expected_start(facts, reasons),
        rate_per_second=facts.starts_per_second,
    )


def _of_waiting(facts: Facts) -> tuple[Reason, ...]:
    reasons = [*waits(facts), *stops(facts)]
    if facts.job.status is JobStatus.QUEUED and facts.job.available_at <= facts.now:
        if not facts.job.admitted:
            reasons += limits(facts)
        # What stands still says nothing about the dispatcher.
        stopped = bool(reasons)
        reasons += [place for place in order(facts) if not stopped or place.code in _PLACES]
    return (*reasons, *expiring(facts))


_PLACES = {ReasonCode.JOBS_AHEAD, ReasonCode.WAITING_FOR_TURN}


def _summary(facts: Facts, reasons: tuple[Reason, ...]) -> str:
    job = facts.job
    does = "is running" if job.status is JobStatus.RUNNING else "does not run"
    if reasons[0].code is ReasonCode.CLAIMED:
        does = "is about to run"
    return f"job {job.id} {does}: {reasons[0].message}"


def _of_finished(facts: Facts) -> str:
    job = facts.job
    assert job.finished_at is not None
    text = f"job {job.id} has ended: it is {job.status.value} since {moment(job.finished_at)}"
    if job.started_at is not None and job.status in {JobStatus.COMPLETED, JobStatus.FAILED}:
        text += f", {span((job.finished_at - job.started_at).total_seconds())} after its last start"
    why = [part for part in (job.reason, job.error and quote(job.error)) if part]
    return f"{text} ({': '.join(why)})" if why and job.status is not JobStatus.COMPLETED else text


def _expected_start(facts: Facts, reasons: tuple[Reason, ...]) -> datetime | None:
    """The latest of the ends that are known, or what the present rate makes of those ahead."""
    if any(reason.waits for reason in reasons):
        return None
    known = [reason.ends_at for reason in reasons if reason.ends_at is not None]
    known += [
        facts.now + timedelta(seconds=rate.free_in_seconds)
        for rate in facts.rates
        if rate.free_in_seconds is not None
    ]
    ahead = facts.position.ahead if facts.position else 0
    if any(reason.code in _BY_RATE for reason in reasons):
        if not facts.starts_per_second:
            return None
        seconds = (ahead + 1) / facts.starts_per_second
        if seconds > FORETOLD_DAYS * 86_400:
            return None
        known.append(facts.now + timedelta(seconds=seconds))
    return max(known, default=None)


_BY_RATE = {
    ReasonCode.LIMIT_REACHED,
    ReasonCode.RAMPING,
    ReasonCode.WAITING_FOR_TURN,
    ReasonCode.JOBS_AHEAD,
    ReasonCode.WORKERS_BUSY,
}
