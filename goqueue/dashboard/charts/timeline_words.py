"""The words by which a timeline names states, outcomes and reasons of jobs."""

from __future__ import annotations

from typing import NamedTuple

from goqueue.engine.listing.listing_rows import Attempt
from goqueue.jobs import AttemptOutcome, JobStatus

__all__ = ["ENDED_BY", "OUTCOMES", "REASONS", "Wait", "waited"]

#: How a job ended, and its tone.
ENDED_BY = {
    JobStatus.COMPLETED: ("Completed", "good"),
    JobStatus.FAILED: ("Failed", "bad"),
    JobStatus.CANCELLED: ("Cancelled", "quiet"),
    JobStatus.EXPIRED: ("Expired: its time passed before it was started", "rare"),
}

#: How an attempt ended, after its number, and its tone.
OUTCOMES = {
    AttemptOutcome.COMPLETED.value: ("completed", "good"),
    AttemptOutcome.FAILED.value: ("failed", "bad"),
    AttemptOutcome.SNOOZED.value: ("put itself off", "warn"),
    AttemptOutcome.INTERRUPTED.value: ("was interrupted: its worker stopped", "rare"),
    AttemptOutcome.WORKER_DIED.value: ("lost its worker", "bad"),
    AttemptOutcome.CANCELLED.value: ("was stopped", "quiet"),
}

#: The words of `jobs.reason`.
REASONS = {
    "failed": "no attempt is left",
    "discarded": "its handler gave it up",
    "undecryptable": "its payload cannot be decrypted",
    "deadline": "its deadline passed",
    "worker_died": "its worker processes died",
    "parent_failed": "a job that it waited for did not complete",
    "cancelled": "someone stopped it",
    "cancel_forced": "its worker did not stop it in time",
    "skipped": "a middleware refused it",
    "refused": "its outcome could not be stored",
    "retry": "it runs again",
    "throttled": "it slowed its queue down",
}


class Wait(NamedTuple):
    """The words for a wait, whole or in parts.

    Attributes:
        title: of the whole, where it is not known which part was for what.
        title_of_time: of the part until its time had come.
        title_of_present: of that part while it goes on.
    """

    title: str
    title_of_time: str
    title_of_present: str
    detail: str | None = None


_FIRST = Wait("Waited to start", "Waited for its time", "Waits for its time")
_REPLAYED = Wait(
    "Lay there until someone queued it again",
    "Lay there until someone queued it again",
    "Queued again by someone: waits for its time",
)
_AFTER = {
    AttemptOutcome.FAILED.value: Wait(
        "Waited to run again", "Backed off before the retry", "Backs off before the retry"
    ),
    AttemptOutcome.SNOOZED.value: Wait(
        "Put off by its handler", "Put off by its handler", "Put off by its handler"
    ),
}
_OTHERWISE = Wait("Waited to run again", "Waited to run again", "Waits to run again")


def waited(last: Attempt | None, number: int) -> Wait:
    """Name the wait that followed an attempt and came before the one of this number."""
    if last is None:
        return _FIRST
    ended = last.outcome in {AttemptOutcome.FAILED.value, AttemptOutcome.CANCELLED.value}
    # A death gives its attempt back: the next one has its number, also where nobody replayed the job.
    died = last.outcome == AttemptOutcome.WORKER_DIED.value
    if (ended and number <= last.attempt) or (died and number < last.attempt):
        return _REPLAYED
    return _AFTER.get(last.outcome, _OTHERWISE)
