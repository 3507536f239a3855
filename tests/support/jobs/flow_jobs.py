"""Job types of the chaos run that limits, rates, strict order, cancels and dependencies act on."""

from __future__ import annotations

import time

import goqueue
from tests.support.jobs.chaos_jobs import QUEUE, logged

KEYED_QUEUE = "chaos-keys"
RATED_QUEUE = "chaos-rate"
FIFO_QUEUE = "chaos-fifo"

STEP_SECONDS = 0.02


def _pass(seconds: float) -> None:
    """Let time pass in steps: an interrupt lands between two of them."""
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        time.sleep(STEP_SECONDS)


@goqueue.actor(queue=KEYED_QUEUE, min_backoff_seconds=0.2, max_backoff_seconds=1.0)
def keyed(token: str, seconds: float) -> str:
    """Hold a slot of a key for so long."""
    with logged():
        _pass(seconds)
        return token


@goqueue.actor(queue=RATED_QUEUE, min_backoff_seconds=0.2, max_backoff_seconds=1.0)
def rated(token: str, fails: bool) -> str:
    """Start, which is what counts; a retry is a start as well."""
    with logged():
        if fails and goqueue.current_job().attempt == 1:
            raise RuntimeError("the first attempt fails")
        return token


@goqueue.actor(queue=FIFO_QUEUE, min_backoff_seconds=0.2, max_backoff_seconds=1.0)
def in_order(token: str, seconds: float) -> str:
    """Take a turn in the strict order."""
    with logged():
        _pass(seconds)
        return token


@goqueue.actor(queue=QUEUE, min_backoff_seconds=0.2, max_backoff_seconds=1.0)
def telling(token: str, seconds: float) -> str:
    """Say how far it has come at each step, and leave when it is told to stop."""
    with logged():
        job = goqueue.current_job()
        for step in range(10):
            if job.cancelled:
                break
            job.progress(step / 10, f"step {step}")
            job.log(f"{token}: step {step}")
            _pass(seconds / 10)
        return token


@goqueue.actor(queue=QUEUE, max_retries=1, min_backoff_seconds=0.1, max_backoff_seconds=0.2)
def node(token: str, fails: bool) -> str:
    """A job that others wait for: it completes, or fails for good."""
    with logged():
        _pass(STEP_SECONDS)
        if fails:
            raise RuntimeError("this one fails")
        return token


@goqueue.actor(queue=QUEUE, min_backoff_seconds=0.1, max_backoff_seconds=0.2)
def alone(token: str, number: int) -> int:
    """A job of a unique key, or of a schedule: many have one token."""
    with logged():
        assert token
        _pass(0.2)
        return number
