"""Expiry, time limit, deadline: a job that is not worth starting any more, and one that must be over."""

from __future__ import annotations

from typing import Any

import httpx

from examples import api, job_in


def main() -> None:
    """One expires while its queue is paused, one runs out of each attempt's time, one meets its deadline."""
    with api() as client:
        print("job", expires(client), "waited in a paused queue for longer than it was worth: expired")
        job = create(client, "slow", {"seconds": 60}, time_limit_seconds=0.2, max_retries=0)
        failed = job_in(client, job, "failed")
        assert failed["error"].startswith("TimeLimitExceeded"), failed
        print("job", job, "ran into the time limit of its attempt:", failed["error"])
        job = create(client, "slow", {"seconds": 60}, deadline_seconds=1, max_retries=5)
        failed = job_in(client, job, "failed")
        assert (failed["reason"], failed["attempts"]) == ("deadline", 1), failed
        print("job", job, "was stopped by its deadline, and not retried:", failed["error"])
        refuses(client)


def expires(client: httpx.Client) -> int:
    """A job that may not start, and then need not; its id."""
    client.post("/queues/letters/pause").raise_for_status()
    try:
        request = {"queue": "letters", "payload": {"to": "yesterday"}, "ttl_seconds": 0.5}
        job_id: int = client.post("/jobs/create", json=request).raise_for_status().json()["id"]
        expired = job_in(client, job_id, "expired")
    finally:
        client.post("/queues/letters/resume").raise_for_status()
    assert (expired["reason"], expired["attempts"]) == ("expired", 0), expired
    return job_id


def refuses(client: httpx.Client) -> None:
    """A job that could never start is a mistake."""
    request = {"queue": "letters", "payload": {"to": "nobody"}, "delay_seconds": 60, "ttl_seconds": 30}
    answer = client.post("/jobs/create", json=request)
    assert answer.status_code == 400, answer.text
    print("refused:", answer.json()["fields"])


def create(client: httpx.Client, job_type: str, payload: dict[str, Any], **members: float) -> int:
    """Create a job; its id."""
    job = {"queue": "examples", "type": job_type, "payload": payload} | members
    job_id: int = client.post("/jobs/create", json=job).raise_for_status().json()["id"]
    return job_id


if __name__ == "__main__":
    main()
