"""Two tenants share a queue: turns, one slot, a rate; all of it changed while it runs.

python -m examples.limits
"""

from __future__ import annotations

from datetime import datetime, timedelta

import httpx

from examples import api, job_in

QUEUE = "tenants"


def main() -> None:
    """Set the limits, create jobs, and look at when they started."""
    with api() as client:
        show_turns(client)
        show_rate(client)
        client.put(f"/queues/{QUEUE}", json={"fair": False, "concurrency": None, "rate": None})


def show_turns(client: httpx.Client) -> None:
    """One slot: the small tenant's job is the second to start, whatever the large one has waiting."""
    client.put(f"/queues/{QUEUE}", json={"concurrency": 1, "fair": True}).raise_for_status()
    large = [create(client, "large") for _ in range(6)]
    small = create(client, "small")
    jobs = [job_in(client, job_id) for job_id in [*large, small]]
    order = [job["concurrency_key"] for job in sorted(jobs, key=lambda job: str(job["started_at"]))]
    print("one slot, two tenants:", " ".join(order))
    assert "small" in order[:3]


def show_rate(client: httpx.Client) -> None:
    """Three starts a second, whatever the number of workers."""
    rate = {"limit": 3, "period_seconds": 1}
    client.put(f"/queues/{QUEUE}", json={"concurrency": None, "rate": rate}).raise_for_status()
    jobs = [job_in(client, job_id) for job_id in [create(client, "large") for _ in range(9)]]
    starts = sorted(datetime.fromisoformat(str(job["started_at"])) for job in jobs)
    print("three a second:", " ".join(f"{(start - starts[0]).total_seconds():.2f}" for start in starts))
    assert all(
        later - start >= timedelta(seconds=1) for start, later in zip(starts, starts[3:], strict=False)
    )


def create(client: httpx.Client, tenant: str) -> int:
    """Create a job of a tenant; its id."""
    job = {"queue": QUEUE, "payload": {"tenant": tenant}, "concurrency_key": tenant}
    job_id: int = client.post("/jobs/create", json=job).raise_for_status().json()["id"]
    return job_id


if __name__ == "__main__":
    main()
