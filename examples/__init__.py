"""Runnable examples: one script a subject, against the stack of `GOQUEUE_ACTORS=examples.jobs goqueue dev`.

    python -m examples.schedules

Each prints what it shows, and ends with exit code 1 where something is not as it says. `EXAMPLES_API_URL`
names another API than http://127.0.0.1:8000.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import httpx

__all__ = ["api", "job_in", "wait_until"]

DEFAULT_URL = "http://127.0.0.1:8000"
POLL_SECONDS = 0.05


def api() -> httpx.Client:
    """A client of the API; requests name paths only."""
    return httpx.Client(base_url=os.environ.get("EXAMPLES_API_URL", DEFAULT_URL), trust_env=False, timeout=10)


def wait_until(what: str, condition: Callable[[], Any], timeout_seconds: float = 20) -> Any:
    """The first true value of the condition.

    Raises:
        TimeoutError: it did not come.
    """
    deadline = time.monotonic() + timeout_seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_seconds:g} s in vain for {what}")
        time.sleep(POLL_SECONDS)
    return value


def job_in(
    client: httpx.Client, job_id: int, status: str = "completed", timeout_seconds: float = 20
) -> dict[str, Any]:
    """The job, as soon as it has this status.

    Raises:
        TimeoutError: it did not get there.
    """

    def look() -> dict[str, Any] | None:
        job: dict[str, Any] = client.get(f"/jobs/{job_id}").raise_for_status().json()
        return job if job["status"] == status else None

    found: dict[str, Any] = wait_until(f"job {job_id} to be {status}", look, timeout_seconds)
    return found
