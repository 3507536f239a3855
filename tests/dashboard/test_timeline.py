"""The life of a job as a list: what happened, what was waited for, and how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from goqueue.dashboard.charts.timeline import Timeline, timeline
from goqueue.engine.dependency_rows import Link
from goqueue.engine.listing.listing_rows import Attempt
from goqueue.insight.job_history_rows import Edit, JobHistory
from goqueue.jobs import Job, JobStatus, OnParentFailure

START = datetime(2026, 11, 24, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """So long after the creation."""
    return START + timedelta(seconds=seconds)


JOB = Job(
    id=17, queue="email", type="send", status=JobStatus.QUEUED, payload={}, priority=0, attempts=0,
    max_retries=3, fence=0, deaths=0, quarantined=False, available_at=START, time_limit_seconds=None,
    worker_id=None, result=None, error=None, reason=None, created_at=START, updated_at=START, started_at=None,
    finished_at=None,
)  # fmt: skip


def attempt(
    fence: int, began: float, ended: float, outcome: str = "failed", number: int | None = None
) -> Attempt:
    """One that ran from a second to another."""
    error = "ValueError: no\nmore" if outcome == "failed" else None
    return Attempt(number or fence, fence, outcome, 5, error, None, at(began), at(ended), ended - began, None)


def life_of(
    *attempts: Attempt,
    now: float = 100,
    edits: Sequence[Edit] = (),
    has_more: bool = False,
    parents: Sequence[Link] = (),
    children: Sequence[Link] = (),
    **columns: Any,
) -> Timeline:
    """The timeline of a job with these columns."""
    history = JobHistory(list(attempts), has_more, list(edits))
    return timeline(replace(JOB, **columns), history, parents=parents, children=children, now=at(now))


def told(found: Timeline) -> list[tuple[str, float, float | None]]:
    """Title, begin and length of each entry; -1 goes on."""
    return [
        (entry.title, (entry.at - START).total_seconds(), -1 if entry.is_now else entry.seconds)
        for entry in found.entries
    ]


def ended(status: str, seconds: float, **columns: Any) -> dict[str, Any]:
    """The columns of a job that has ended."""
    return {"status": JobStatus(status), "finished_at": at(seconds)} | columns


def link(job_id: int, finished: float | None, outcome: str | None = "completed") -> Link:
    """A parent."""
    status = JobStatus(outcome) if outcome else JobStatus.RUNNING
    finished_at = None if finished is None else at(finished)
    return Link(job_id, status, "q", "t", OnParentFailure.FAIL, status if outcome else None, finished_at)


def test_a_job_that_just_ran() -> None:
    """Created, ready, one attempt, the end."""
    found = life_of(
        attempt(1, 2, 5, "completed"),
        **ended("completed", 5, fence=1, attempts=1, started_at=at(2)),
    )
    assert told(found) == [
        ("Created", 0, None),
        ("Ready: waited for its turn", 0, 2),
        ("Attempt 1 completed", 2, 3),
        ("Completed", 5, None),
    ]
    assert found.seconds == 5


def test_a_job_that_is_ready() -> None:
    """It waits since its time came."""
    assert told(life_of()) == [("Created", 0, None), ("Ready: waits for its turn", 0, -1)]


def test_a_job_that_waits_for_its_time() -> None:
    """It is not ready."""
    assert told(life_of(available_at=at(500)))[1] == ("Waits for its time", 0, -1)


def test_a_start_that_has_come_splits_the_wait() -> None:
    """Until then it waited for its time, and from then on for its turn."""
    assert told(life_of(available_at=at(30)))[1:] == [
        ("Waited for its time", 0, 30),
        ("Ready: waits for its turn", 30, -1),
    ]


def test_a_job_that_backs_off() -> None:
    """What failed is an attempt with the first line of its error; the retry is to come."""
    found = life_of(attempt(1, 1, 2), fence=1, attempts=1, available_at=at(150))
    assert told(found)[1:] == [
        ("Waited to start", 0, 1),
        ("Attempt 1 failed", 1, 1),
        ("Backs off before the retry", 2, -1),
    ]
    assert found.entries[2].detail == "ValueError: no"


def test_a_snooze_is_no_failure() -> None:
    """The handler put it off."""
    found = life_of(attempt(1, 1, 2, "snoozed"), fence=1, attempts=0, available_at=at(150))
    assert told(found)[-1] == ("Put off by its handler", 2, -1)


def test_the_last_wait_is_split_and_earlier_ones_are_not() -> None:
    """Only of the last claim it is known when its time had come."""
    found = life_of(
        attempt(1, 1, 2),
        attempt(2, 20, 21),
        attempt(3, 50, 60, "completed"),
        **ended("completed", 60, fence=3, attempts=3, started_at=at(50), available_at=at(45)),
    )
    assert told(found)[3:8] == [
        ("Waited to run again", 2, 18),
        ("Attempt 2 failed", 20, 1),
        ("Backed off before the retry", 21, 24),
        ("Ready: waited for its turn", 45, 5),
        ("Attempt 3 completed", 50, 10),
    ]


def test_a_start_in_the_past_says_nothing_about_earlier_waits() -> None:
    """A client edited the start of the retry, to long ago."""
    found = life_of(attempt(1, 20, 22), fence=1, attempts=1, available_at=at(5))
    assert told(found)[1:] == [
        ("Waited to start", 0, 20),
        ("Attempt 1 failed", 20, 2),
        ("Ready: waits for its turn", 22, -1),
    ]


def test_a_job_that_was_queued_again_by_someone() -> None:
    """Its attempts are counted anew: until then it lay there."""
    found = life_of(attempt(1, 1, 2), fence=1, attempts=0, available_at=at(80))
    assert told(found)[-2:] == [
        ("Lay there until someone queued it again", 2, 78),
        ("Ready: waits for its turn", 80, -1),
    ]


def test_a_running_job() -> None:
    """The attempt that goes on is last, also after a request to stop it."""
    found = life_of(
        attempt(1, 1, 2),
        status=JobStatus.RUNNING, fence=2, attempts=2, started_at=at(40), begun_at=at(40),
        available_at=at(30), worker_id=7,
        cancel_requested_at=at(60), cancel_acknowledged_at=at(61),
    )  # fmt: skip
    assert told(found)[3:] == [
        ("Backed off before the retry", 2, 28),
        ("Ready: waited for its turn", 30, 10),
        ("Asked to stop", 60, None),
        ("Its worker knows, and stops it", 61, None),
        ("Attempt 2 runs", 40, -1),
    ]
    assert (found.entries[-1].fence, found.entries[-1].worker_id) == (2, 7)
    assert found.seconds is None


def test_a_client_that_runs_a_job_itself() -> None:
    """No worker has it, and no attempt is recorded of it."""
    running = life_of(status=JobStatus.RUNNING, fence=1, started_at=at(3))
    assert told(running)[-1] == ("Runs at a client of the REST API", 3, -1)
    done = life_of(**ended("completed", 9, fence=1, started_at=at(3)))
    assert told(done)[1:] == [
        ("Ready: waited for its turn", 0, 3),
        ("Ran at a client of the REST API", 3, 6),
        ("Completed", 9, None),
    ]


def test_a_job_that_waits_for_others() -> None:
    """The ends of its parents are marks."""
    found = life_of(status=JobStatus.BLOCKED, parents=[link(4, 20), link(5, None, None)])
    assert told(found) == [
        ("Created", 0, None),
        ("Job 4, which it waited for, is completed", 20, None),
        ("Blocked: waits for other jobs", 0, -1),
    ]
    assert found.entries[1].job_id == 4


def test_the_last_parent_ends_the_block() -> None:
    """Then it is ready."""
    found = life_of(
        attempt(1, 50, 60, "completed"),
        parents=[link(4, 20), link(5, 45)],
        **ended("completed", 60, fence=1, attempts=1, started_at=at(50), available_at=at(45)),
    )
    assert [entry for entry in told(found) if entry[2] is not None] == [
        ("Blocked: waited for other jobs", 0, 45),
        ("Ready: waited for its turn", 45, 5),
        ("Attempt 1 completed", 50, 10),
    ]


def test_parents_that_had_ended_before_are_no_events() -> None:
    """They are in the list of dependencies."""
    found = life_of(parents=[link(4, -20)])
    assert told(found) == [("Created", 0, None), ("Ready: waits for its turn", 0, -1)]


def test_a_parent_that_failed() -> None:
    """The job failed with it, without an attempt."""
    found = life_of(parents=[link(4, 20, "failed")], **ended("failed", 20, reason="parent_failed"))
    assert told(found)[1:] == [
        ("Blocked: waited for other jobs", 0, 20),
        ("Job 4, which it waited for, is failed", 20, None),
        ("Failed", 20, None),
    ]
    assert found.entries[-1].detail == "a job that it waited for did not complete"


@pytest.mark.parametrize("status", ["cancelled", "expired"])
def test_a_job_that_never_ran(status: str) -> None:
    """It waited until its end."""
    found = life_of(**ended(status, 30))
    assert told(found)[1] == ("Waited", 0, 30)
    assert told(found)[2][0].lower().startswith(status)


def test_the_end_is_told_to_the_children() -> None:
    """How many there are is said with the end."""
    found = life_of(children=[link(4, None), link(5, None)], **ended("completed", 30))
    assert found.entries[-1].detail == "told to the 2 jobs that wait for it"


def test_edits_are_marks_in_between() -> None:
    """With their version and their author."""
    found = life_of(
        attempt(1, 50, 60), fence=1, attempts=1, available_at=at(200), edits=[Edit(2, at(30), "ada")]
    )
    assert told(found)[2] == ("Edited: version 2", 30, None)
    assert found.entries[2].detail == "by ada"


def test_attempts_that_are_not_listed_are_one_span() -> None:
    """A job may have put itself off for years."""
    found = life_of(attempt(60, 50, 51, "snoozed"), has_more=True, fence=60, attempts=0, available_at=at(200))
    assert told(found)[1:3] == [
        ("Earlier attempts, which are not listed", 0, 50),
        ("Attempt 60 put itself off", 50, 1),
    ]


def test_bars_are_shares_of_the_whole() -> None:
    """They lie where the time went, and none reaches beyond the edge."""
    found = life_of(
        attempt(1, 2, 5, "completed"),
        **ended("completed", 5, fence=1, attempts=1, started_at=at(2)),
    )
    shares = [(round(entry.offset, 3), round(entry.width, 3)) for entry in found.entries]
    assert shares == [(0, 0), (0, 0.4), (0.4, 0.6), (1, 0)]


def test_what_goes_on_reaches_to_the_edge_and_is_the_same_for_a_while() -> None:
    """A poll of a job that waits is answered with the same bytes most of the time."""
    before, after = life_of(now=1000, available_at=at(100)), life_of(now=1002, available_at=at(100))
    assert before.entries[-1].offset + before.entries[-1].width == pytest.approx(1)
    assert [entry.width for entry in before.entries] == [entry.width for entry in after.entries]
    assert life_of(now=1100, available_at=at(100)).entries[1].width < before.entries[1].width


def test_keys_are_different_and_stay_the_same() -> None:
    """The browser keeps what has the same key."""
    attempts = [attempt(1, 1, 2), attempt(2, 20, 21)]
    first = life_of(*attempts, fence=2, attempts=2, available_at=at(50), edits=[Edit(2, at(30), None)])
    later = life_of(
        *attempts, attempt(3, 60, 61, "completed"), edits=[Edit(2, at(30), None)],
        **ended("completed", 61, fence=3, attempts=3, started_at=at(60), available_at=at(50)),
    )  # fmt: skip
    for found in (first, later):
        keys = [entry.key for entry in found.entries]
        assert len(set(keys)) == len(keys)
    assert {entry.key for entry in first.entries if not entry.is_now} < {entry.key for entry in later.entries}
