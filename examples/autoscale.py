"""How many workers does a queue need? Give it an objective, load it, and ask as an autoscaler does.

python -m examples.autoscale
"""

from __future__ import annotations

import math
from typing import Any

import httpx

from examples import api, job_in, wait_until

QUEUE = "examples"
OBJECTIVE = {"slo_wait_seconds": 2.0, "slo_objective": 0.95}


def main() -> None:
    """Ask with measured runs, with a backlog that a limit holds up, and without one."""
    with api() as client:
        try:
            show_runs(client)
            show_backlog(client)
        finally:
            none = dict.fromkeys([*OBJECTIVE, "concurrency"])
            client.put(f"/queues/{QUEUE}", json=none).raise_for_status()


def show_runs(client: httpx.Client) -> None:
    """The answer shows the objective, what was measured, and the arithmetic."""
    client.put(f"/queues/{QUEUE}", json=OBJECTIVE).raise_for_status()
    for job_id in create(client, 5, seconds=0.2):
        job_in(client, job_id)
    answer = ask(client, threads_per_worker=4)
    assert answer["objective"] == OBJECTIVE | {"is_default": False}
    assert (answer["runs"]["source"], answer["threads_per_worker"]) == ("ended", 4)
    assert math.isclose(answer["load"], answer["arrival_rate"] / answer["service_rate"])
    assert answer["workers_needed"] == math.ceil(answer["threads_needed"] / 4)
    assert answer["kept_then"] >= OBJECTIVE["slo_objective"]


def show_backlog(client: httpx.Client) -> None:
    """A backlog needs threads, but none that the queue's limit would leave idle."""
    client.put(f"/queues/{QUEUE}", json={"concurrency": 1}).raise_for_status()
    ids = create(client, 12, seconds=0.5)
    wait_until("a backlog", lambda: ask(client)["backlog"] > 5)
    held_up = ask(client)
    assert held_up["threads_for_backlog"] > 1
    assert (held_up["threads_needed"], held_up["limited_by"]) == (1, "concurrency")
    client.put(f"/queues/{QUEUE}", json={"concurrency": None}).raise_for_status()
    for job_id in ids:
        job_in(client, job_id)
    assert ask(client)["threads_for_backlog"] == 0


def create(client: httpx.Client, count: int, *, seconds: float) -> list[int]:
    """Create jobs that take so long; their ids."""
    job = {"queue": QUEUE, "type": "slow", "payload": {"seconds": seconds}}
    return [client.post("/jobs/create", json=job).raise_for_status().json()["id"] for _ in range(count)]


def ask(client: httpx.Client, **query: int) -> dict[str, Any]:
    """How many threads the queue needs; and print it."""
    answer: dict[str, Any] = client.get(f"/queues/{QUEUE}/autoscale", params=query).raise_for_status().json()
    print(
        f"backlog {answer['backlog']}, {answer['arrival_rate']:.2f} jobs/s come, a thread does "
        f"{answer['service_rate']:.2f}/s: {answer['threads_needed']} threads are needed, "
        f"{answer['threads']} are there"
    )
    return answer


if __name__ == "__main__":
    main()
