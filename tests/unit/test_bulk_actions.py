"""What operations over many jobs may do, and how fast they go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.bulk.actions import (
    BURST,
    STATUSES,
    STEP_MAX,
    BulkAction,
    allowance,
    due_after,
    problems_of,
    status_of,
)
from goqueue.jobs import JobStatus

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (BulkAction.RETRY, JobStatus.FAILED),
        (BulkAction.CANCEL, JobStatus.QUEUED),
        (BulkAction.SET_PRIORITY, JobStatus.QUEUED),
        (BulkAction.DELETE, None),
    ],
)
def test_each_action_has_a_status_of_its_own(action: BulkAction, expected: JobStatus | None) -> None:
    """What is not said is the usual status; what is deleted has to be said."""
    assert status_of(action, None, of_a_kind=False) is expected
    assert status_of(action, JobStatus.BLOCKED, of_a_kind=False) is JobStatus.BLOCKED
    assert status_of(action, None, of_a_kind=True) is JobStatus.FAILED


@pytest.mark.parametrize("action", list(BulkAction))
@pytest.mark.parametrize("status", list(JobStatus))
def test_only_jobs_in_a_fitting_state_are_asked_for(action: BulkAction, status: JobStatus) -> None:
    """A status that the action never changes is wrong."""
    priority = 1 if action is BulkAction.SET_PRIORITY else None
    problems = problems_of(action, status, priority=priority)
    assert problems.keys() == (set() if status in STATUSES[action] else {"filter.status"})


@pytest.mark.parametrize(
    ("action", "status", "others", "field"),
    [
        pytest.param("delete", None, {}, "filter.status", id="nothing to delete"),
        pytest.param("retry", "cancelled", {"of_a_kind": True}, "filter.status", id="cancelled of a kind"),
        pytest.param("set_priority", "queued", {}, "arguments.priority", id="no priority"),
        pytest.param("set_priority", "queued", {"priority": 101}, "arguments.priority", id="too high"),
        pytest.param("retry", "failed", {"priority": 1}, "arguments.priority", id="a priority too many"),
        pytest.param("retry", "failed", {"rate": 0}, "rate", id="no rate"),
        pytest.param("retry", "failed", {"rate": float("nan")}, "rate", id="a rate that is no number"),
        pytest.param("retry", "failed", {"rate": 1e9}, "rate", id="too fast"),
        pytest.param("retry", "failed", {"canary": 0}, "canary", id="no canary"),
        pytest.param("retry", "failed", {"canary": 1001}, "canary", id="too many canaries"),
        pytest.param("cancel", "queued", {"canary": 1}, "canary", id="a canary that cannot succeed"),
    ],
)
def test_what_is_wrong_is_named(action: str, status: str | None, others: dict[str, Any], field: str) -> None:
    """Each problem has the field that it is in."""
    wanted = None if status is None else JobStatus(status)
    assert problems_of(BulkAction(action), wanted, **others).keys() == {field}


def test_without_a_rate_steps_are_as_large_as_they_may_be() -> None:
    """No rate means: as fast as it goes."""
    assert allowance(None, START, START) == STEP_MAX
    assert due_after(None, START, START + BURST, 500) == START + BURST


def test_a_slow_rate_lets_one_job_in_at_its_time() -> None:
    """At one job a minute the second is due after a minute, and not a moment before."""
    rate = 1 / 60
    assert allowance(rate, START, START) == 1
    due = due_after(rate, START, START, 1)
    assert allowance(rate, due, due - timedelta(microseconds=1)) == 0
    assert allowance(rate, due, due) == 1


@given(
    rate=st.floats(0.1, 2000),
    pauses=st.lists(st.floats(0, 30), min_size=1, max_size=40),
)
def test_no_time_has_more_than_the_rate(rate: float, pauses: list[float]) -> None:
    """Whatever the times of the steps (long pauses too), no span has more jobs than its rate and a burst."""
    now, next_at = START, START
    steps: list[tuple[datetime, int]] = []
    for pause in pauses:
        now += timedelta(seconds=pause)
        count = allowance(rate, next_at, now)
        next_at = due_after(rate, next_at, now, count)
        steps.append((now, count))
    for index, (begin, _) in enumerate(steps):
        for end, _ in steps[index:]:
            inside = sum(count for at, count in steps if begin <= at <= end)
            assert inside <= rate * ((end - begin) + BURST).total_seconds() + 1.001


def test_a_steady_operator_keeps_the_rate() -> None:
    """Looked at every 0.2 s for a minute, an operation of 7 jobs a second has done 420, and one."""
    now, next_at, done = START, START, 0
    for _ in range(301):
        count = allowance(7, next_at, now)
        next_at = due_after(7, next_at, now, count)
        done += count
        now += timedelta(seconds=0.2)
    assert done in {420, 421}
