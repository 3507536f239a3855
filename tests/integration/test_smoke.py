"""The fixtures work: a row goes in and comes out."""

from __future__ import annotations

import pytest

from goqueue.jobs import JobStatus
from tests.support.factories import JobFactory


@pytest.mark.parametrize("status", list(JobStatus))
def test_a_job_can_be_made_in_every_state(make_job: JobFactory, status: JobStatus) -> None:
    """The factory places a job in any state that the enum has."""
    assert make_job(status).status is status
