"""What this process holds: jobs, from their claim until their outcome is recorded, and its lease."""

from __future__ import annotations

from goqueue.middleware.job_message import CurrentJob


class Holdings:
    """The jobs that this process claimed and has not recorded yet.

    Thread-safe without a lock: each method is one operation of a dict, which CPython does not interrupt.
    """

    def __init__(self) -> None:
        self._jobs: dict[tuple[int, int], CurrentJob] = {}
        #: The id under which this process holds its lease; 0 before it has one.
        self.worker_id = 0
        #: Another process serves nothing but the quarantine: this one leaves the suspects to it.
        self.quarantine_is_served = False

    def add(self, current: CurrentJob) -> None:
        """A job was claimed."""
        self._jobs[current.id, current.fence] = current

    def remove(self, current: CurrentJob) -> None:
        """Its outcome was recorded, or refused."""
        self._jobs.pop((current.id, current.fence), None)

    def snapshot(self) -> dict[tuple[int, int], CurrentJob]:
        """What is held now, by (id, fence)."""
        return self._jobs.copy()
