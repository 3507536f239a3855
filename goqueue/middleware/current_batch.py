"""The batch that a handler works on, as the handler sees it."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from goqueue.middleware.current_job import CurrentJob

__all__ = ["CurrentBatch", "batch_in", "current_batch", "enter_batch"]

#: So many ids of its jobs are in each log line of a batch.
LOGGED_IDS_MAX = 20

_current: contextvars.ContextVar[CurrentBatch] = contextvars.ContextVar("goqueue_current_batch")


class CurrentBatch(Sequence[CurrentJob]):
    """The jobs that a batch handler works on, in the order of its payloads; see `goqueue.current_batch`.

    Its methods may be called from any thread, as those of its jobs.
    """

    def __init__(self, jobs: Sequence[CurrentJob]) -> None:
        self._jobs = tuple(jobs)

    @property
    def cancelled(self) -> list[int]:
        """The places of the jobs that someone wants stopped: the handler may leave them out.

        They are `cancelled` when the batch has ended, whatever the handler returns for them.
        """
        return [place for place, job in enumerate(self._jobs) if job.cancelled]

    def progress(self, fraction: float, text: str | None = None) -> None:
        """Say of each job how far the batch has come; a job by itself has a `progress`, too.

        Args:
            fraction: 0 to 1.
            text: what is being done, in a few words.

        Raises:
            ValueError: the fraction is out of range, or not a number.
        """
        for job in self._jobs:
            job.progress(fraction, text)

    def log(self, text: str) -> None:
        """Add a line to the log of each job; a job by itself has a `log`, too."""
        for job in self._jobs:
            job.log(text)

    @property
    def log_fields(self) -> Mapping[str, Any]:
        """The fields of every log line of the batch."""
        first = self._jobs[0]
        ids = [job.id for job in self._jobs[:LOGGED_IDS_MAX]]
        return {"job_ids": ids, "batch_size": len(self._jobs), "type": first.type, "queue": first.queue}

    @property
    def hidden(self) -> Sequence[str]:
        """Values of redacted fields, which no log line of the batch quotes."""
        return [value for job in self._jobs for value in job.claimed.hidden]

    @property
    def encrypted_payloads(self) -> Sequence[str]:
        """Payloads that are encrypted at rest, which no log line of the batch quotes."""
        return [payload for job in self._jobs for payload in job.claimed.encrypted_payloads]

    def __len__(self) -> int:
        return len(self._jobs)

    def __getitem__(self, place: Any) -> Any:
        return self._jobs[place]

    def __iter__(self) -> Iterator[CurrentJob]:
        return iter(self._jobs)

    def __repr__(self) -> str:
        return f"CurrentBatch({[job.id for job in self._jobs]})"


def current_batch() -> CurrentBatch:
    """The batch that the calling handler works on.

    Raises:
        LookupError: no batch is being worked on here.
    """
    batch = _current.get(None)
    if batch is None:
        raise LookupError("no batch is being worked on here")
    return batch


def batch_in(context: contextvars.Context) -> CurrentBatch | None:
    """Return the batch that a context works on, if it does."""
    return context.get(_current)


def enter_batch(batch: CurrentBatch) -> None:
    """Make this the batch of the calling context, which ends with its run."""
    _current.set(batch)
