"""Read the depth of a queue and the health of the service, as Prometheus and a load balancer do.

python -m examples.monitoring
"""

from __future__ import annotations

import time

import httpx

from examples import api, job_in

QUEUE = "letters"


def main() -> None:
    """Let three jobs wait in a paused queue, see them in the metrics, and let them go."""
    with api() as client:
        for check in ("/health", "/health/live", "/health/ready"):
            print(check, client.get(check).raise_for_status().json())

        client.post(f"/queues/{QUEUE}/pause", json={"reason": "to see a depth"}).raise_for_status()
        before = depth(client)
        jobs = [create(client) for _ in range(3)]
        waiting = depth(client)
        print(f"{waiting:g} jobs wait in {QUEUE}")
        assert waiting == before + 3, "each waiting job counts once, whichever process answers"

        client.post(f"/queues/{QUEUE}/resume").raise_for_status()
        for job_id in jobs:
            job_in(client, job_id)
        print(f"{depth(client):g} jobs wait after the queue was resumed")


def depth(client: httpx.Client) -> float:
    """How many jobs of the queue could start now. Scrapes within a second are answered together."""
    time.sleep(1.1)
    name = f'queue_depth{{queue="{QUEUE}"}} '
    text = client.get("/metrics").raise_for_status().text
    values = [line.removeprefix(name) for line in text.splitlines() if line.startswith(name)]
    return float(values[0]) if values else 0.0


def create(client: httpx.Client) -> int:
    """Create a job; its id."""
    answer = client.post("/jobs/create", json={"queue": QUEUE, "payload": {"to": "carol"}})
    return int(answer.raise_for_status().json()["id"])


if __name__ == "__main__":
    main()
