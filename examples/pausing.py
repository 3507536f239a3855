"""Pause a queue with a reason and an end, see it in its document, and let it go on by itself.

python -m examples.pausing
"""

from __future__ import annotations

import httpx

from examples import api, job_in

QUEUE = "letters"


def main() -> None:
    """Pause twice: until a resume, and for two seconds."""
    with api() as client:
        pause(client, reason="the printer is being cleaned", author="ann")
        job_id = create(client)
        queue = client.get(f"/queues/{QUEUE}").raise_for_status().json()
        print(f"paused by {queue['paused_by']} since {queue['paused_at']}: {queue['pause_reason']}")
        assert queue["paused"]
        assert client.get(f"/jobs/{job_id}").json()["status"] == "queued"

        client.post(f"/queues/{QUEUE}/resume").raise_for_status()
        print("resumed; job", job_id, "wrote", job_in(client, job_id)["result"])

        paused = pause(client, reason="a short break", author="bob", seconds=2)
        job = job_in(client, create(client))
        print(f"paused until {paused['paused_until']}; job {job['id']} started at {job['started_at']}")
        assert job["started_at"] >= paused["paused_until"], "nothing starts before the end of a pause"
        assert not client.get(f"/queues/{QUEUE}").json()["paused"], "it goes on by itself"


def pause(client: httpx.Client, **settings: str | float) -> dict[str, str]:
    """Pause the queue; what is known of the pause."""
    answer: dict[str, str] = client.post(f"/queues/{QUEUE}/pause", json=settings).raise_for_status().json()
    return answer


def create(client: httpx.Client) -> int:
    """Create a job; its id. A paused queue takes jobs as always."""
    answer = client.post("/jobs/create", json={"queue": QUEUE, "payload": {"to": "carol"}})
    return int(answer.raise_for_status().json()["id"])


if __name__ == "__main__":
    main()
