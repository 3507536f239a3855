"""From facts to reasons, without a database."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.insight.explain import Explanation, Facts, Reason, ReasonCode, explained
from goqueue.insight.explain.facts import (
    AttemptFacts,
    EligibleWorkers,
    JobFacts,
    LimitFacts,
    Parent,
    Position,
    QueueFacts,
    RateFacts,
    TypeFacts,
)
from goqueue.insight.explain.text import count, quote, span
from goqueue.insight.explain.waits import kind_of_wait
from goqueue.jobs import FINAL_STATUSES, AttemptOutcome, JobStatus
from goqueue.limits.rules import TypeLimitState
from goqueue.limits.settings import Breaker, BreakerState, RateLimit, TypeLimits

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ELIGIBLE = EligibleWorkers("default", workers=1, slots=8, queues=("default",))


def job(status: JobStatus = JobStatus.QUEUED, **columns: Any) -> JobFacts:
    """A row; any column may be given."""
    values: dict[str, Any] = dict.fromkeys(JobFacts._fields) | {
        "id": 1,
        "queue": "default",
        "type": "noop",
        "status": status,
        "attempts": 0,
        "max_retries": 3,
        "fence": 0,
        "deaths": 0,
        "quarantined": False,
        "admitted": False,
        "in_order": True,
        "available_at": NOW,
        "created_at": NOW,
        "updated_at": NOW,
        "finished_at": NOW if status in FINAL_STATUSES else None,
        "rate_cost": 1,
    }
    return JobFacts(**values | columns)


def facts(**members: Any) -> Facts:
    """Facts about a job that nothing keeps; any member may be given."""
    values: dict[str, Any] = {"now": NOW, "job": job(), "eligible": ELIGIBLE, "starts_per_second": 0.0}
    return Facts(**values | members)


def codes(explanation: Explanation) -> list[str]:
    """The codes of its reasons."""
    return [reason.code.value for reason in explanation.reasons]


moments = st.integers(-100_000, 100_000).map(lambda seconds: NOW + timedelta(seconds=seconds))
maybe_moments = st.none() | moments
counts = st.integers(0, 100)


@st.composite
def any_facts(draw: st.DrawFn) -> Facts:
    """Whatever may be found about an unfinished job."""
    status = draw(st.sampled_from([status for status in JobStatus if status not in FINAL_STATUSES]))
    row = job(
        status,
        attempts=draw(st.integers(0, 4)),
        quarantined=draw(st.booleans()),
        suspicion=draw(st.integers(0, 2)),
        admitted=draw(st.booleans()),
        in_order=draw(st.booleans()),
        available_at=draw(moments),
        updated_at=draw(moments),
        started_at=draw(maybe_moments),
        expires_at=draw(maybe_moments),
        deadline_at=draw(maybe_moments),
        cancel_requested_at=draw(maybe_moments),
    )
    paused_at = draw(maybe_moments)
    outcome = draw(st.none() | st.sampled_from(AttemptOutcome))
    state = draw(st.none() | st.sampled_from(BreakerState))
    return facts(
        job=row,
        attempt=outcome
        and AttemptFacts(1, draw(counts), outcome, draw(st.sampled_from([None, "broken"])), NOW, 0),
        queue=QueueFacts(
            paused_at=paused_at,
            paused_until=draw(maybe_moments) if paused_at else None,
            throttled_until=draw(maybe_moments),
            ramp=draw(st.none() | st.floats(0, 1)),
        ),
        type=state and TypeFacts(TypeLimitState(TypeLimits(breaker=Breaker(), state=state), 1, None)),
        eligible=EligibleWorkers("default", draw(st.integers(0, 2)), draw(counts), draw(counts)),
        limits=draw(st.sampled_from([(), (LimitFacts("queue", "default", 1, 1, ()),)])),
        held=draw(counts),
        position=draw(st.none() | st.builds(Position, counts, st.just(50), st.none() | counts, counts)),
        starts_per_second=draw(st.floats(0, 1e6)),
        led=draw(st.none() | st.booleans()),
    )


@pytest.mark.parametrize(
    ("eligible", "code", "words"),
    [
        pytest.param(
            EligibleWorkers("default"),
            "no_worker",
            "no live worker listens to the queue 'default'",
            id="nobody",
        ),
        pytest.param(
            EligibleWorkers("default", ignorant=2),
            "unknown_type",
            "no live worker knows the type 'noop'; 2 workers that listen to the queue 'default' do not",
            id="nobody knows the type",
        ),
        pytest.param(
            EligibleWorkers("default", ignorant=2, outdated=1),
            "unreadable_payload",
            "no live worker can read its payload (no field order)",
            id="nobody reads the payload",
        ),
        pytest.param(
            EligibleWorkers("default", ignorant=1, unlabelled=3, labels=[(["region=eu"], 2), ([], 1)]),
            "labels_missing",
            "no worker of the queue 'default' has gpu=true; 3 workers listen to it: 2 with region=eu, "
            "1 without labels",
            id="nobody has the label",
        ),
        pytest.param(
            EligibleWorkers("default", unlabelled=2, labels=[(["gpu=true"], 1), (["region=eu"], 1)]),
            "labels_missing",
            "no worker of the queue 'default' has gpu=true, region=eu together; 2 workers listen to it: "
            "1 with gpu=true, 1 with region=eu",
            id="nobody has both labels",
        ),
        pytest.param(
            EligibleWorkers("default", unlabelled=1, small=2, most_slots=8, labels=[([], 1)]),
            "workers_too_small",
            "it takes 9 slots, and no worker of the queue 'default' with gpu=true, region=eu has so many "
            "threads; 2 workers have at most 8",
            id="those with the labels are too small",
        ),
    ],
)
def test_it_says_who_is_missing(eligible: EligibleWorkers, code: str, words: str) -> None:
    """Without a worker that can run it the first reason says what the workers of its queue lack."""
    waiting = job(
        unreadable_by=["1"],
        unreadable_until=NOW,
        error="no field order",
        requires=["gpu=true", "region=eu"],
        slots=9,
    )
    reason = explained(Facts(NOW, waiting, eligible=eligible)).reasons[0]
    assert (reason.code, reason.waits) == (code, True)
    assert words in reason.message


@given(any_facts())
def test_there_is_always_a_reason(found: Facts) -> None:
    """No unfinished job is left without a reason, whose sentence is the summary; notes never come first."""
    explanation = explained(found)
    assert explanation.reasons
    assert explanation.summary.endswith(explanation.reasons[0].message)
    assert explanation.reasons[0].code is not ReasonCode.EXPIRING
    assert explanation.as_text().startswith(explanation.summary)
    assert all(reason.message.strip() and "None" not in reason.message for reason in explanation.reasons)
    expected = explanation.expected_start_at
    if any(reason.waits for reason in explanation.reasons):
        assert expected is None


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({}, NOW),
        ({"job": job(available_at=NOW + timedelta(hours=1))}, NOW + timedelta(hours=1)),
        ({"position": Position(9, 50), "starts_per_second": 2.0}, NOW + timedelta(seconds=5)),
        ({"position": Position(9, 50)}, None),
        ({"position": Position(9, 50), "starts_per_second": 1e-9}, None),
        ({"eligible": EligibleWorkers("default")}, None),
        (
            {
                "queue": QueueFacts(paused_at=NOW, paused_until=NOW + timedelta(hours=1)),
                "position": Position(9, 50),
                "starts_per_second": 2.0,
            },
            NOW + timedelta(hours=1),
        ),
        (
            {"rates": (RateFacts("queue", "default", RateLimit(1, 60), 1, 1, 1, None, 0, 20.0),)},
            NOW + timedelta(seconds=20),
        ),
        ({"limits": (LimitFacts("queue", "default", 1, 1, ()),)}, None),
        ({"job": job(JobStatus.BLOCKED), "parents": (Parent(7, JobStatus.QUEUED, "q", "t"),)}, None),
    ],
    ids=[
        "now",
        "its time",
        "by rate",
        "stands still",
        "out of sight",
        "nobody",
        "the pause is longer",
        "rate limit",
        "limit of a queue that stands",
        "parents",
    ],
)
def test_the_expected_start(found: dict[str, Any], expected: datetime | None) -> None:
    """A start is foretold by the latest of what is known, and not at all where something has no known end."""
    assert explained(facts(**found)).expected_start_at == expected


OLD = job(available_at=NOW - timedelta(minutes=1), updated_at=NOW - timedelta(minutes=1))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({}, ["not_dispatched"]),
        ({"eligible": ELIGIBLE._replace(busy=8)}, ["workers_busy"]),
        ({"eligible": ELIGIBLE._replace(busy=8), "led": False}, ["not_dispatched", "workers_busy"]),
        ({"position": Position(3, 50)}, ["not_dispatched", "jobs_ahead"]),
        ({"position": Position(3, 50), "starts_per_second": 1.0}, ["jobs_ahead"]),
        ({"position": Position(3, 50), "starts_per_second": 1.0, "led": False}, ["jobs_ahead"]),
        ({"position": Position(3, 50), "eligible": ELIGIBLE._replace(busy=8)}, ["jobs_ahead"]),
        ({"job": job()}, ["starting_now"]),
        ({"queue": QueueFacts(paused_at=NOW)}, ["queue_paused"]),
    ],
    ids=[
        "free threads",
        "busy threads",
        "busy and leaderless",
        "a line that stands",
        "a line that moves",
        "a line that moves leaderless",
        "a line behind busy threads",
        "young",
        "stopped",
    ],
)
def test_who_is_overlooked(found: dict[str, Any], expected: list[str]) -> None:
    """Only a job that could have started long ago, by all that is known, says that it was not dispatched."""
    assert codes(explained(facts(**{"job": OLD, "led": True} | found))) == expected


def test_a_job_that_was_let_in_passes_breaker_and_limits() -> None:
    """What was decided about already is no reason any more."""
    breaker = TypeLimits(breaker=Breaker(), state=BreakerState.HALF_OPEN)
    found = facts(job=job(admitted=True), type=TypeFacts(TypeLimitState(breaker, 1, None)))
    assert codes(explained(found)) == ["starting_now"]
    assert codes(explained(replace(found, job=job()))) == ["breaker_half_open"]


@pytest.mark.parametrize(
    ("outcome", "is_last", "spent", "kind"),
    [
        (AttemptOutcome.FAILED, True, True, "backoff"),
        (AttemptOutcome.FAILED, True, False, "run_at"),
        (AttemptOutcome.FAILED, False, True, "run_at"),
        (AttemptOutcome.SNOOZED, True, False, "snooze"),
        (AttemptOutcome.INTERRUPTED, True, False, "run_at"),
        (None, False, False, "run_at"),
    ],
)
def test_why_a_time_lies_in_the_future(
    outcome: AttemptOutcome | None, kind: str, *, is_last: bool, spent: bool
) -> None:
    """A backoff follows the failed attempt that counts, a snooze the snoozed one; all else is a run-at."""
    assert kind_of_wait(outcome, is_last=is_last, spent=spent) == kind


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.42, "0.42 s"),
        (9.96, "10 s"),
        (12.4, "12 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (3600 + 59, "1 h 59 s"),
        (2 * 86_400 + 4 * 3600 + 5, "2 d 4 h"),
    ],
)
def test_spans_are_written_for_humans(seconds: float, text: str) -> None:
    """The two largest units are enough."""
    assert span(seconds) == text


def test_counts_and_quotes() -> None:
    """A count that stopped at its bound says so; of an error only the first line is quoted, cut."""
    assert count(1, "job") == "1 job"
    assert count(1_000, "job", bound=2_000) == "1,000 jobs"
    assert count(2_000, "job", bound=2_000) == "2,000 jobs or more"
    assert quote("  broken\nTraceback") == "broken"
    assert len(quote("x" * 500)) == 120
    assert quote("") == ""


def test_every_code_is_documented() -> None:
    """The table of docs/explain.md has a row for each code, and for nothing else."""
    text = (Path(__file__).parents[2] / "docs" / "explain.md").read_text()
    table = text.partition("## The reasons")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [code.value for code in ReasonCode]


def test_an_explanation_is_printed_line_by_line() -> None:
    """The summary, a line a reason, and what is known about the start."""
    reasons = (Reason(ReasonCode.JOBS_AHEAD, "2 jobs stand before it"),)
    explanation = Explanation(1, JobStatus.QUEUED, "job 1 does not run", reasons, 2, NOW, 0.5)
    assert explanation.as_text().splitlines() == [
        "job 1 does not run",
        "  1. jobs_ahead: 2 jobs stand before it",
        "  ahead: 2",
        "  expected start: 2026-11-24 12:00:00 UTC",
        "  starts of the queue: 0.5 a second",
    ]
