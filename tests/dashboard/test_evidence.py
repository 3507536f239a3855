"""Whatever an explanation was concluded from can be written on a page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.dashboard.parts.evidence import facts_of
from goqueue.insight.explain import ReasonCode, explained
from goqueue.insight.explain.facts import (
    AttemptFacts,
    Blocker,
    EligibleWorkers,
    Facts,
    LimitFacts,
    Parent,
    Position,
    QueueFacts,
    RateFacts,
    SlotHolder,
    TypeFacts,
    WorkerFacts,
)
from goqueue.jobs import AttemptOutcome, JobStatus
from goqueue.limits.rules import TypeLimitState
from goqueue.limits.settings import Breaker, BreakerState, QueueLimits, RateAlgorithm, RateLimit, TypeLimits
from tests.unit.test_explanation import NOW, any_facts, facts, job

LATER, EARLIER = NOW + timedelta(hours=1), NOW - timedelta(hours=1)
RUNS: dict[str, Any] = {
    "status": JobStatus.RUNNING,
    "worker_id": 7,
    "started_at": EARLIER,
    "begun_at": EARLIER,
}
WORKER = WorkerFacts(7, "host", 1234, alive=True, heartbeat_at=NOW)


def queue_of(**columns: Any) -> Facts:
    """A job whose queue stands like this."""
    return facts(queue=QueueFacts(limits=QueueLimits(fifo=True), limited=True, **columns))


def broken(state: BreakerState) -> Facts:
    """A job whose type has a breaker in this state."""
    limited = TypeLimitState(TypeLimits(breaker=Breaker(), state=state), 1, None)
    return facts(type=TypeFacts(limited, EARLIER, "it failed", LATER))


def rated(algorithm: RateAlgorithm) -> Facts:
    """A job whose queue has spent its rate."""
    limit = RateLimit(10, 60.0, algorithm)
    return facts(rates=(RateFacts("queue", "default", limit, 1, 9, 10, 0.5, 1, 12.5),))


FAILED = AttemptFacts(1, 0, AttemptOutcome.FAILED, "ValueError: no", EARLIER, 1)

#: Of each reason, facts from which it follows.
TABLE: dict[ReasonCode, Facts] = {
    ReasonCode.RUNNING: facts(job=job(**RUNS), worker=WORKER),
    ReasonCode.CLAIMED: facts(job=job(**RUNS | {"begun_at": None}), worker=WORKER),
    ReasonCode.CANCEL_REQUESTED: facts(job=job(**RUNS, cancel_requested_at=EARLIER), worker=WORKER),
    ReasonCode.WORKER_LOST: facts(job=job(**RUNS), worker=WORKER._replace(alive=False)),
    ReasonCode.EXPIRED: facts(job=job(expires_at=EARLIER)),
    ReasonCode.OUT_OF_ATTEMPTS: facts(job=job(attempts=9)),
    ReasonCode.DEPENDENCY_PENDING: facts(
        job=job(JobStatus.BLOCKED),
        parents=(Parent(3, JobStatus.RUNNING, "q", "t"), Parent(4, None, None, None)),
    ),
    ReasonCode.NOT_RELEASED: facts(job=job(JobStatus.BLOCKED)),
    ReasonCode.WAITS_FOR_TIME: facts(job=job(available_at=LATER, attempts=1), attempt=FAILED),
    ReasonCode.QUEUE_PAUSED: queue_of(paused_at=EARLIER, paused_until=LATER, paused_by="ada"),
    ReasonCode.QUEUE_THROTTLED: queue_of(throttled_until=LATER),
    ReasonCode.NO_WORKER: facts(eligible=EligibleWorkers("default", queues=("a", "b"), quiet=2)),
    ReasonCode.UNKNOWN_TYPE: facts(eligible=EligibleWorkers("default", ignorant=2)),
    ReasonCode.UNREADABLE_PAYLOAD: facts(
        job=job(unreadable_by=["1", "2"], unreadable_until=LATER, error="no field order"),
        eligible=EligibleWorkers("default", ignorant=2, outdated=1),
    ),
    ReasonCode.LABELS_MISSING: facts(
        job=job(requires=["gpu=true"]),
        eligible=EligibleWorkers("default", unlabelled=3, labels=[(["region=eu"], 2), ([], 1)]),
    ),
    ReasonCode.VERSION_TOO_LOW: facts(
        job=job(requires=["!version=0000000004"]),
        eligible=EligibleWorkers("default", unlabelled=3, labels=[(["!version=0000000003"], 2), ([], 1)]),
    ),
    ReasonCode.WORKERS_TOO_SMALL: facts(
        job=job(requires=[], slots=9), eligible=EligibleWorkers("default", small=2, most_slots=8)
    ),
    ReasonCode.BREAKER_OPEN: broken(BreakerState.OPEN),
    ReasonCode.BREAKER_HALF_OPEN: broken(BreakerState.HALF_OPEN),
    ReasonCode.SUSPECTED: facts(job=job(quarantined=True, suspicion=1), attempt=FAILED),
    ReasonCode.QUARANTINED: facts(job=job(quarantined=True, suspicion=2), attempt=FAILED),
    ReasonCode.KEY_BLOCKED: facts(
        job=job(concurrency_key="a"),
        blocker=Blocker(2, explained(facts(job=job(id=2, available_at=LATER), attempt=FAILED))),
    ),
    ReasonCode.LIMIT_REACHED: facts(
        limits=(
            LimitFacts("key", "a", 1, 1, (SlotHolder(5, "running", EARLIER), SlotHolder(6, "let_in", None))),
        )
    ),
    ReasonCode.RATE_LIMITED: rated(RateAlgorithm.TOKEN_BUCKET),
    ReasonCode.RAMPING: facts(queue=QueueFacts(ramp=0.1, ramping_since=EARLIER, ramping_until=LATER), held=9),
    ReasonCode.NOT_DISPATCHED: facts(job=job(updated_at=EARLIER, available_at=EARLIER), led=True),
    ReasonCode.WAITING_FOR_TURN: facts(position=Position(9, 50, own=2, other_keys=3)),
    ReasonCode.JOBS_AHEAD: facts(position=Position(9, 50)),
    ReasonCode.WORKERS_BUSY: facts(eligible=EligibleWorkers("default", workers=1, slots=2, busy=2)),
    ReasonCode.STARTING_NOW: facts(),
    ReasonCode.EXPIRING: facts(job=job(expires_at=LATER)),
}


def test_the_table_has_every_code() -> None:
    """A reason that is added has its facts here, so that the page of its job is tried."""
    assert set(TABLE) == set(ReasonCode)


@pytest.mark.parametrize("code", list(ReasonCode))
def test_the_evidence_of_every_reason_can_be_written(code: ReasonCode) -> None:
    """Each piece of it is a moment, jobs or words, never the spelling of a program."""
    reasons = [reason for reason in explained(TABLE[code]).reasons if reason.code is code]
    assert reasons, "the facts lead to the reason"
    for fact in facts_of(reasons[0].evidence):
        assert fact.moment or fact.jobs or fact.text
        assert not any(word in fact.text for word in ("datetime", "None", "{", "[", "<"))


@given(any_facts())
def test_whatever_was_found_out_can_be_written(found: Facts) -> None:
    """No evidence of any job is an error of its page, nor that of a job which it blocks."""
    explanation = explained(found)
    blocked = explained(facts(job=job(concurrency_key="a"), blocker=Blocker(2, explanation)))
    for reason in (*explanation.reasons, *blocked.reasons):
        assert all(fact.name for fact in facts_of(reason.evidence))


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.datetimes(timezones=st.just(UTC)),
    st.timedeltas(),
    st.sampled_from(JobStatus),
    st.binary(),
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(min_size=1), inner) | st.sets(leaves)
)


@given(st.dictionaries(st.text(min_size=1) | st.sampled_from(["wait_seconds", "pid"]), values))
def test_evidence_of_any_shape_can_be_written(evidence: dict[str, Any]) -> None:
    """A value of a kind that no reason has yet, and however deep, is words as well."""
    for fact in facts_of(evidence):
        assert fact.moment is None or isinstance(fact.moment, datetime)
        assert isinstance(fact.text, str)


def test_the_reasons_of_the_older_job_are_told_in_sentences() -> None:
    """What keeps the job that blocks a key reads as it does on that job's own page."""
    (reason, *_) = explained(TABLE[ReasonCode.KEY_BLOCKED]).reasons
    told = {fact.name: fact for fact in facts_of(reason.evidence)}
    assert told["job"].jobs == (2,)
    assert told["reasons"].text.startswith("it waits until 2026-11-24 13:00:00 UTC")
