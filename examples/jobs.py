"""The job types that the examples use: `GOQUEUE_ACTORS=examples.jobs goqueue dev`."""

from __future__ import annotations

import time

from opentelemetry import propagate
from pydantic import BaseModel

import goqueue

__all__ = [
    "call_busy_partner",
    "call_partner",
    "count_words",
    "deliver",
    "flaky",
    "insert_rows",
    "make_report",
    "serve_tenant",
    "slow",
    "sum_words",
    "tell_trace",
    "tidy",
    "walk",
    "write_digest",
    "write_letter",
]

POLL_SECONDS = 0.05


@goqueue.cron("0 6 * * mon-fri", name="weekday_report", timezone="Europe/Berlin", payload={"name": "sales"})
@goqueue.actor(queue="reports")
def make_report(name: str) -> dict[str, str]:
    """Make a report; the result says which."""
    return {"report": name}


@goqueue.actor(queue="examples", max_retries=5, min_backoff_seconds=0.1)
def flaky(fail_times: int) -> dict[str, int]:
    """Fail so many times, then succeed."""
    attempt = goqueue.current_job().attempt
    if attempt <= fail_times:
        raise ConnectionError(f"the other side did not answer attempt {attempt}")
    return {"attempt": attempt}


@goqueue.actor(queue="examples")
def slow(seconds: float) -> dict[str, float]:
    """Take so long, in small steps: a cancel gets in between two of them."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, POLL_SECONDS))
    return {"seconds": seconds}


class Row(BaseModel):
    """A row to insert, which the database refuses so many times."""

    row: int
    fail_times: int = 0


@goqueue.actor(
    queue="bulk_inserts", min_backoff_seconds=0.1, batch=goqueue.Batch(size=100, wait_ms=200, bytes=1_000_000)
)
def insert_rows(rows: list[Row]) -> list[dict[str, int]]:
    """Insert many rows at once; the result says how many there were."""
    results = [{"row": row.row, "batch": len(rows)} for row in rows]
    attempts = [job.attempt for job in goqueue.current_batch()]
    refused = [n for n, row in enumerate(rows) if attempts[n] <= row.fail_times]
    if refused:
        raise goqueue.BatchFailed({n: ValueError(f"row {rows[n].row} is refused") for n in refused}, results)
    return results


class Letter(BaseModel):
    """A letter of a digest."""

    to: str


@goqueue.actor(queue="digests")
def write_digest(letters: list[Letter]) -> dict[str, list[str]]:
    """Write all letters that were collected; the result says to whom."""
    return {"written_to": [letter.to for letter in letters]}


@goqueue.actor(queue="letters")
def write_letter(to: str) -> dict[str, str]:
    """Write a letter; the result says to whom."""
    return {"to": to}


@goqueue.actor(queue="partner", max_retries=0)
def call_partner(answers: bool) -> dict[str, bool]:
    """Call a service that answers or does not."""
    if not answers:
        raise ConnectionError("the partner does not answer")
    return {"answered": True}


@goqueue.actor(queue="busy_partner", max_retries=0)
def call_busy_partner(asks_for_seconds: float = 0) -> dict[str, int]:
    """Call a service that may ask for less, as 429 with Retry-After does, at the first call."""
    starts = goqueue.current_job().fence
    if asks_for_seconds and starts == 1:
        raise goqueue.RetryAfter(asks_for_seconds, "429 Too Many Requests", scope="queue")
    return {"starts": starts}


@goqueue.actor(queue="examples")
def tidy(seconds: float) -> dict[str, float]:
    """Take so long, and look now and then whether to stop."""
    job = goqueue.current_job()
    end = time.monotonic() + seconds
    while time.monotonic() < end and not job.cancelled:
        time.sleep(POLL_SECONDS)
    return {"seconds": seconds}


@goqueue.actor(queue="examples")
def walk(steps: int) -> dict[str, int]:
    """Go so many steps, and say so."""
    job = goqueue.current_job()
    for number in range(1, steps + 1):
        time.sleep(2 * POLL_SECONDS)
        job.log(f"step {number}")
        job.progress(number / steps, f"{number} of {steps}")
    return {"steps": steps}


@goqueue.actor(queue="examples")
def recite(words: list[str]) -> dict[str, int]:
    """Say one word after the other, for whoever reads along."""
    job = goqueue.current_job()
    for word in words:
        time.sleep(2 * POLL_SECONDS)
        job.stream(f"{word} ")
    return {"words": len(words)}


@goqueue.actor(queue="examples", max_retries=5, min_backoff_seconds=0.1)
def tell_trace(fail_times: int) -> dict[str, str]:
    """Fail so many times, then say which headers a call to another service would carry."""
    if goqueue.current_job().attempt <= fail_times:
        raise ConnectionError("the other side did not answer")
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers


@goqueue.actor(queue="tenants")
def serve_tenant(tenant: str) -> dict[str, str]:
    """Work a moment for a tenant."""
    time.sleep(4 * POLL_SECONDS)
    return {"tenant": tenant}


@goqueue.actor(queue="examples", max_retries=0)
def deliver(what: str, number: int, times: int) -> dict[str, str]:
    """Fail at the first so many starts, those of replays among them."""
    if goqueue.current_job().fence <= times:
        raise LookupError(f"no address for parcel {number}, which is {what}")
    return {"delivered": what}


@goqueue.actor(queue="examples", max_retries=0)
def count_words(text: str) -> dict[str, int]:
    """Count the words of a text; an empty one is an error."""
    if not text:
        raise ValueError("there is no text")
    return {"words": len(text.split())}


@goqueue.actor(queue="examples", max_retries=0)
def sum_words() -> dict[str, int]:
    """Add up what the jobs before counted."""
    results = goqueue.current_job().parent_results()
    return {"words": sum(result["words"] for result in results.values()), "texts": len(results)}
