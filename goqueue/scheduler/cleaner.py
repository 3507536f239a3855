"""The cleaner: deletes final jobs by age, used idempotency keys, gone workers, and old partitions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from goqueue.config.settings import Settings
from goqueue.dashboard.access import session_rows as sessions
from goqueue.db.database import Connection, Database
from goqueue.engine import cleaning_rows as cleaning
from goqueue.engine import unique_rows as unique_keys
from goqueue.engine.partitions.keeper import PartitionKeeper
from goqueue.jobs import MAX_JOB_ID, JobStatus
from goqueue.scheduler.service import Counts, Pause, Service
from goqueue.schedules import tick_rows as schedule_ticks

#: The most rows of one statement: it holds locks and writes WAL no longer than a moment.
BATCH = 1000

#: Unique keys that one round looks at, where it goes on from round to round.
KEYS = 10_000


class Cleaner(Service):
    """Deletes what nobody keeps any more, in batches of at most 1,000 rows, or by whole partitions."""

    name = "cleaner"

    def __init__(self, settings: Settings, database: Database, pause: Pause) -> None:
        super().__init__(settings, database, pause)
        self._after_key = ""
        self._retention = {
            JobStatus.COMPLETED: settings.completed_retention_seconds,
            JobStatus.FAILED: settings.failed_retention_seconds,
            JobStatus.CANCELLED: settings.cancelled_retention_seconds,
            JobStatus.EXPIRED: settings.expired_retention_seconds,
        }
        self._keeper = PartitionKeeper(settings, database, self._retention)
        failed = settings.failed_retention_seconds
        self._others: dict[str, Callable[[Connection], int]] = {
            "idempotency_keys": partial(
                cleaning.delete_idempotency_keys,
                age_seconds=settings.idempotency_retention_seconds,
                limit=BATCH,
            ),
            "failure_kinds": partial(cleaning.delete_failure_kinds, age_seconds=failed, limit=BATCH),
            "bulk_operations": partial(cleaning.delete_bulk_operations, age_seconds=failed, limit=BATCH),
            "ticks": partial(schedule_ticks.forget, age_seconds=settings.tick_retention_seconds, limit=BATCH),
            "workers": partial(
                cleaning.delete_workers, age_seconds=settings.worker_retention_seconds, limit=BATCH
            ),
            "sessions": partial(sessions.forget, limit=BATCH),
        }

    def run_once(self) -> Counts:
        """Delete one batch of each kind."""
        below = self.parts.run("partitions", self._keeper.run_once, None)
        counts = {status.value: self._clean_jobs(status, below) for status in self._retention}
        counts |= {kind: self._clean(kind, delete) for kind, delete in self._others.items()}
        forgotten = self.parts.run("unique_keys", self._forget_keys, None)
        self._after_key = (forgotten and forgotten.after_key) or ""
        counts["unique_keys"] = forgotten.keys if forgotten else 0
        return counts

    def _clean_jobs(self, status: JobStatus, below: int | None) -> int:
        """Delete final jobs by rows: all of them, or those that do not go with their partition."""
        delete = partial(
            cleaning.delete_jobs,
            status=status,
            age_seconds=self._retention[status],
            limit=BATCH,
            below=MAX_JOB_ID if below is None or status not in self._keeper.statuses_of_whole else below,
        )
        return self._clean(status.value, delete)

    def _clean(self, kind: str, delete: Callable[[Connection], int]) -> int:
        def run() -> int:
            with self._database.autocommit() as connection:
                return delete(connection)

        return self.parts.run(kind, run, 0)

    def _forget_keys(self) -> unique_keys.Forgotten:
        with self._database.autocommit() as connection:
            return unique_keys.forget(connection, after_key=self._after_key, limit=KEYS)

    def pause(self, counts: Counts) -> None:
        """Go on at once while batches are full, so that a large clean-up ends; else wait."""
        if max(counts.values()) < BATCH:
            self._pause(self._settings.clean_interval_seconds)
