"""Reads what GET /jobs/{id}/explain answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from falcon import testing

from goqueue.jobs import Job


def asked(client: testing.TestClient, job: Job | int) -> dict[str, Any]:
    """Ask why a job does not run."""
    job_id = job if isinstance(job, int) else job.id
    result = client.simulate_get(f"/jobs/{job_id}/explain")
    assert result.status_code == 200, result.text
    answer: dict[str, Any] = result.json
    assert answer["job_id"] == job_id
    return answer


def codes(answer: dict[str, Any]) -> list[str]:
    """The codes of its reasons, in their order."""
    return [reason["code"] for reason in answer["reasons"]]


def evidence_of(answer: dict[str, Any], code: str) -> dict[str, Any]:
    """The evidence of its first reason of this code."""
    found: dict[str, Any] = next(reason["evidence"] for reason in answer["reasons"] if reason["code"] == code)
    return found


def seconds_from(moment: str) -> float:
    """Return how many seconds in the future a moment is."""
    return (datetime.fromisoformat(moment) - datetime.now(UTC)).total_seconds()
