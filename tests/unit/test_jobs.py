"""The domain: states, transitions, and the retry policy."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dramatiq.common import compute_backoff
from hypothesis import given
from hypothesis import strategies as st

from goqueue.jobs import CLIENT_TRANSITIONS, FINAL_STATUSES, ClaimedJob, JobStatus, RetryPolicy


def test_every_status_is_explained() -> None:
    """Each state has its paragraph in the enum's documentation, and its transitions."""
    assert JobStatus.__doc__ is not None
    for status in JobStatus:
        assert f"\n    {status.value}: " in JobStatus.__doc__
    assert set(CLIENT_TRANSITIONS) == set(JobStatus)


def test_only_a_retry_leaves_a_final_state() -> None:
    """From a final state there is no way but back to queued; every other state has a way to an end."""
    for status, targets in CLIENT_TRANSITIONS.items():
        assert status not in targets
        if status in FINAL_STATUSES:
            assert targets <= {JobStatus.QUEUED}
        else:
            assert targets & FINAL_STATUSES


def test_every_state_but_blocked_can_be_reached_from_queued() -> None:
    """The transitions connect the states: a queued job may come to every state except blocked."""
    reached, frontier = {JobStatus.QUEUED}, [JobStatus.QUEUED]
    while frontier:
        new = CLIENT_TRANSITIONS[frontier.pop()] - reached
        reached |= new
        frontier += new
    assert reached == set(JobStatus) - {JobStatus.BLOCKED}


@given(
    retries=st.integers(0, 60),
    least=st.integers(1, 100_000),
    most=st.integers(1, 10_000_000),
)
def test_backoff_is_dramatiqs(retries: int, least: int, most: int) -> None:
    """Without jitter the wait is exactly Dramatiq's; with it, it is within Dramatiq's bounds."""
    policy = RetryPolicy(min_backoff_seconds=least / 1000, max_backoff_seconds=most / 1000, jitter=False)
    _, expected = compute_backoff(retries, factor=least, max_backoff=most, jitter=False)
    assert policy.backoff_seconds(retries) == pytest.approx(expected / 1000)
    spread = replace(policy, jitter=True).backoff_seconds(retries)
    base = least / 1000 * 2 ** min(retries, 32)
    assert min(base, most / 1000 / 2) * 0.999 <= spread <= min(base * 2, most / 1000) * 1.001


def test_a_claimed_job_shows_no_payload() -> None:
    """What Dramatiq prints of a claimed job is its id and fence."""
    job = ClaimedJob(7, 3, "q", "t", '{"secret":1}', 2, 3, False, None, None, 1_790_000_000.0)  # noqa: FBT003
    assert repr(job) == "job 7.3"
    assert job.attempt == 2
