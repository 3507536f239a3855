"""The job that a handler works on, as the handler sees it: what it may know and say of the job."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

from goqueue.jobs import ClaimedJob


class Reports(Protocol):
    """Takes what handlers say about their jobs: the reporter of their process."""

    def progress(self, current: CurrentJob, fraction: float, text: str | None) -> None:
        """Note how far a job has come; never blocks."""

    def log(self, current: CurrentJob, text: str) -> None:
        """Note a line of its log; never blocks."""

    def stream(self, current: CurrentJob, text: str) -> None:
        """Note a piece of what it streams; never blocks."""


class CurrentJob:
    """The job that a handler works on: what `goqueue.current_job()` returns.

    Its methods may be called from any thread, also from one that the handler started and gave it to. What the
    engine keeps of the attempt is in `JobAttempt`, which alone is made.

    Attributes:
        id: the job's id.
        attempt: which run this is, from 1.
        fence: the number under which this worker holds the job.
        queue, type, max_retries: as the job was created.
    """

    __slots__ = (
        "_ask_parents",
        "_reports",
        "attempt",
        "cancel_requested",
        "claimed",
        "fence",
        "id",
        "knows_of_cancel",
        "report",
    )

    _ask_parents: Callable[[int], dict[int, Any]] | None
    _reports: Reports | None
    id: int
    attempt: int
    fence: int
    #: The engine's: the row; that someone wants it stopped, and that the handler knows: it asked, or was
    #: interrupted for it; what the reporter keeps of it, once it said something.
    claimed: ClaimedJob
    cancel_requested: bool
    knows_of_cancel: bool
    report: Any

    @property
    def cancelled(self) -> bool:
        """Tell whether someone wants this job stopped: the handler should tidy up and return.

        What it returns then is not kept: the job is `cancelled`. A handler that goes on is interrupted after
        `cancel_cooperation_seconds`.
        """
        if self.cancel_requested:
            self.knows_of_cancel = True
        return self.cancel_requested

    def progress(self, fraction: float, text: str | None = None) -> None:
        """Say how far the job has come; the latest counts, and can be read within half a second.

        Args:
            fraction: 0 to 1.
            text: what is being done, in a few words; at most 1,000 characters are kept.

        Raises:
            ValueError: the fraction is out of range, or not a number.
        """
        try:
            number = math.nan if isinstance(fraction, str | bytes) else float(fraction)
        except (TypeError, ValueError):
            number = math.nan
        if not 0 <= number <= 1:
            raise ValueError(f"progress: expected 0 to 1, got {fraction!r}")
        if self._reports is not None:
            self._reports.progress(self, number, text)

    def log(self, text: str) -> None:
        """Add a line to the log of this attempt, of which `attempt_log_max_bytes` are kept."""
        if self._reports is not None:
            self._reports.log(self, text)

    def stream(self, text: str) -> None:
        """Add a piece to the output of this attempt: the tokens of a model, say, as they come.

        Whoever reads along (`GET /jobs/{id}/stream`) has it within a tenth of a second, and it is kept as
        long as the job, of each attempt up to `attempt_output_max_bytes`. Pieces that follow each other are
        written together, so a call costs some microseconds, however short its piece is.
        """
        if self._reports is not None:
            self._reports.stream(self, text)

    def parent_results(self) -> dict[int, Any]:
        """Read what the jobs that this one waited for returned: id → result; anew at each call.

        A parent that did not complete (this job runs all the same by its policy), or was deleted since, is
        left out.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        return self._ask_parents(self.id) if self._ask_parents is not None else {}

    @property
    def queue(self) -> str:
        """The queue that the job was created in."""
        return self.claimed.queue

    @property
    def type(self) -> str:
        """Return the type of the job."""
        return self.claimed.type

    @property
    def max_retries(self) -> int:
        """The number of retries after the first run."""
        return self.claimed.max_retries

    def __repr__(self) -> str:
        return repr(self.claimed)
