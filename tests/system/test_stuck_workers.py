"""Cancelling jobs of workers that do not answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from tests.support.processes.stack import Stack
from tests.support.waiting import wait_until

SETTINGS: dict[str, Any] = {"cancel_cooperation_seconds": 0.5, "cancel_grace_seconds": 1.0}


def test_a_worker_that_does_not_acknowledge_is_not_waited_for(data_folder: Path) -> None:
    """A stopped worker's job is cancelled after the grace period; what it says when it goes on is refused."""
    with Stack(data_folder, actors=("examples.jobs",), **SETTINGS) as stack:
        stack.scheduler()
        stack.api()
        stack.worker()
        with httpx.Client(base_url=stack.api_url, trust_env=False) as client:
            request = {"queue": "examples", "type": "slow", "payload": {"seconds": 600}}
            path = f"/jobs/{client.post('/jobs', json=request).json()['id']}"
            wait_until(lambda: client.get(path).json()["status"] == "running", 20, "the handler")
            (worker_pid,) = stack.worker_pids()
            stack.pause(worker_pid)
            asked = client.post(f"{path}/cancel").json()
            assert (asked["status"], asked["cancel_acknowledged_at"]) == ("running", None)
            wait_until(lambda: client.get(path).json()["status"] == "cancelled", 10, "the cancel")
            job = client.get(path).json()
            assert (job["reason"], job["cancel_acknowledged_at"]) == ("cancel_forced", None)
            stack.resume(worker_pid)
            wait_until(lambda: stack.logged("stale_result"), 20, "the late result")
            assert client.get(path).json() == job
            attempts = client.get(f"{path}/attempts").json()
            assert [attempt["outcome"] for attempt in attempts] == ["cancelled"]
