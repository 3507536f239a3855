"""A handler that is told "429, come back in two seconds" slows its whole queue down, and spends no attempt.

python -m examples.slow_down
"""

from __future__ import annotations

import httpx

from examples import api, job_in, wait_until

QUEUE = "busy_partner"


def main() -> None:
    """One job meets a 429; another, created meanwhile, waits with it."""
    with api() as client:
        first = create(client, asks_for_seconds=2)
        until = wait_until("the queue to be slowed down", lambda: throttled_until(client))
        print("nothing of the queue starts before", until)

        throttled = client.get(f"/jobs/{first}").json()
        print(f"job {first}: {throttled['status']}, {throttled['reason']}, {throttled['error']}")

        for job_id in (first, create(client)):
            job = job_in(client, job_id)
            print(f"job {job_id} started at {job['started_at']}, attempt {job['attempts']}")
            assert job["started_at"] >= until, "the whole queue waits"
            assert job["attempts"] == 1, "a slow-down spends no attempt"
        assert throttled_until(client) is None


def throttled_until(client: httpx.Client) -> str | None:
    """Until when the queue is slowed down."""
    until: str | None = client.get(f"/queues/{QUEUE}").raise_for_status().json()["throttled_until"]
    return until


def create(client: httpx.Client, **payload: float) -> int:
    """Create a call; its id."""
    answer = client.post("/jobs/create", json={"queue": QUEUE, "payload": payload})
    return int(answer.raise_for_status().json()["id"])


if __name__ == "__main__":
    main()
