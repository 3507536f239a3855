"""Why is it not running? Ask about a job that waits for its time, for an older job of its key, for a resume.

python -m examples.explain
"""

from __future__ import annotations

from typing import Any

import httpx

from examples import api, job_in, wait_until

QUEUE = "examples"


def main() -> None:
    """Ask, as `goqueue.explain(id)` and `goqueue explain <id>` do."""
    with api() as client:
        try:
            show_time(client)
            show_strict_order(client)
            show_pause(client)
        finally:
            client.post(f"/queues/{QUEUE}/resume")
            client.put(f"/queues/{QUEUE}", json={"fifo": False})


def show_time(client: httpx.Client) -> None:
    """A job of next hour says when its time comes."""
    job_id = create(client, 0, delay_seconds=3600)
    answer = ask(client, job_id)
    assert codes(answer)[0] == "waits_for_time"
    assert answer["expected_start_at"] == answer["reasons"][0]["evidence"]["available_at"]
    client.post(f"/jobs/{job_id}/cancel").raise_for_status()


def show_strict_order(client: httpx.Client) -> None:
    """A job of a key says which older job has to end first; the queue lists the key."""
    client.put(f"/queues/{QUEUE}", json={"fifo": True}).raise_for_status()
    older = create(client, 3, concurrency_key="tenant-7")
    job_in(client, older, "running")
    younger = create(client, 0, concurrency_key="tenant-7")
    answer = ask(client, younger)
    assert codes(answer)[0] == "key_blocked"
    assert answer["reasons"][0]["evidence"]["job_id"] == older

    (blocked,) = client.get(f"/queues/{QUEUE}/blocked-keys").raise_for_status().json()
    print(f"{blocked['key']} is blocked by job {blocked['job_id']}: {blocked['why']}")
    assert (blocked["job_id"], blocked["waiting"]) == (older, 1)
    job_in(client, younger)


def show_pause(client: httpx.Client) -> None:
    """A job of a paused queue says by whom, why and until when; afterwards it says that it has ended."""
    pause = {"reason": "the provider is down", "author": "ada", "seconds": 60}
    client.post(f"/queues/{QUEUE}/pause", json=pause).raise_for_status()
    job_id = create(client, 0)
    assert codes(ask(client, job_id))[0] == "queue_paused"
    client.post(f"/queues/{QUEUE}/resume").raise_for_status()
    job_in(client, job_id)
    wait_until("its explanation", lambda: ask(client, job_id)["status"] == "completed")


def create(client: httpx.Client, seconds: float, **members: Any) -> int:
    """Create a job that takes so long; its id."""
    job = {"queue": QUEUE, "type": "slow", "payload": {"seconds": seconds}} | members
    job_id: int = client.post("/jobs/create", json=job).raise_for_status().json()["id"]
    return job_id


def ask(client: httpx.Client, job_id: int) -> dict[str, Any]:
    """Why a job does not run; and print it."""
    answer: dict[str, Any] = client.get(f"/jobs/{job_id}/explain").raise_for_status().json()
    print(answer["summary"])
    return answer


def codes(answer: dict[str, Any]) -> list[str]:
    """The codes of its reasons."""
    return [reason["code"] for reason in answer["reasons"]]


if __name__ == "__main__":
    main()
