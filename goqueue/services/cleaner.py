"""The cleaner: deletes final jobs by age, used idempotency keys, and workers that are long gone."""

from __future__ import annotations

from goqueue.config import Settings
from goqueue.db import Database
from goqueue.jobs import JobStatus
from goqueue.services.service import Counts, Pause
from goqueue.store import cleaning, schedule_ticks, sessions, unique_keys

#: The most rows of one statement: it holds locks and writes WAL no longer than a moment.
BATCH = 1000

#: Unique keys that one round looks at, where it goes on from round to round.
KEYS = 10_000


class Cleaner:
    """Deletes what nobody keeps any more, in batches of at most 1,000 rows."""

    name = "cleaner"

    def __init__(self, settings: Settings, database: Database, pause: Pause) -> None:
        self._settings = settings
        self._database = database
        self._pause = pause
        self._after_key = ""
        self._retention = {
            JobStatus.COMPLETED: settings.completed_retention_seconds,
            JobStatus.FAILED: settings.failed_retention_seconds,
            JobStatus.CANCELLED: settings.cancelled_retention_seconds,
            JobStatus.EXPIRED: settings.expired_retention_seconds,
        }

    def run_once(self) -> Counts:
        """One batch of each kind."""
        counts = {}
        for status, age_seconds in self._retention.items():
            with self._database.autocommit() as connection:
                counts[status.value] = cleaning.delete_jobs(
                    connection, status, age_seconds=age_seconds, limit=BATCH
                )
        with self._database.autocommit() as connection:
            counts["idempotency_keys"] = cleaning.delete_idempotency_keys(
                connection, age_seconds=self._settings.idempotency_retention_seconds, limit=BATCH
            )
            counts["failure_kinds"] = cleaning.delete_failure_kinds(
                connection, age_seconds=self._settings.failed_retention_seconds, limit=BATCH
            )
            counts["bulk_operations"] = cleaning.delete_bulk_operations(
                connection, age_seconds=self._settings.failed_retention_seconds, limit=BATCH
            )
            counts["ticks"] = schedule_ticks.forget(
                connection, age_seconds=self._settings.tick_retention_seconds, limit=BATCH
            )
            counts["workers"] = cleaning.delete_workers(
                connection, age_seconds=self._settings.worker_retention_seconds, limit=BATCH
            )
            counts["sessions"] = sessions.forget(connection, limit=BATCH)
            forgotten = unique_keys.forget(connection, after_key=self._after_key, limit=KEYS)
        self._after_key = forgotten.after_key or ""
        counts["unique_keys"] = forgotten.keys
        return counts

    def pause(self, counts: Counts) -> None:
        """Go on at once while batches are full, so that a large clean-up ends; else wait."""
        if max(counts.values()) < BATCH:
            self._pause(self._settings.clean_interval_seconds)
