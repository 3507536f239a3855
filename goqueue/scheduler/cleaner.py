"""The cleaner: deletes final jobs by age, used idempotency keys, and workers that are long gone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import structlog

from goqueue.audit import audit_rows as audit
from goqueue.config.settings import Settings
from goqueue.dashboard.access import session_rows as sessions
from goqueue.db.database import Connection, Database
from goqueue.engine import cleaning_rows as cleaning
from goqueue.engine import place_rows
from goqueue.engine import unique_rows as unique_keys
from goqueue.engine.partitions.keeper import PartitionKeeper
from goqueue.events import retention as events
from goqueue.jobs import MAX_JOB_ID, JobStatus
from goqueue.scheduler.service import Counts, Pause, Service
from goqueue.schedules import tick_rows as schedule_ticks
from goqueue.webhooks import delivery_log_rows as deliveries
from goqueue.webhooks import subscription_rows as webhooks

#: The most rows of one statement: it holds locks and writes WAL no longer than a moment.
BATCH = 1000

#: Unique keys that one round looks at, where it goes on from round to round.
KEYS = 10_000


#: So many months of the audit log are made ahead: a scheduler may stand still for as long.
AUDIT_MONTHS_AHEAD = 3

log = structlog.get_logger(__name__)


class Cleaner(Service):
    """Deletes what nobody keeps any more, in batches of at most 1,000 rows."""

    name = "cleaner"

    def __init__(self, settings: Settings, database: Database, pause: Pause) -> None:
        super().__init__(settings, database, pause)
        self._after_key = ""
        self._after_id = 0
        self._completed_retention = settings.completed_retention_seconds
        self._retention = {
            JobStatus.FAILED: settings.failed_retention_seconds,
            JobStatus.CANCELLED: settings.cancelled_retention_seconds,
            JobStatus.EXPIRED: settings.expired_retention_seconds,
        }
        ages = {JobStatus.COMPLETED: self._completed_retention} | self._retention
        self._keeper = PartitionKeeper(settings, database, ages)
        self._below = MAX_JOB_ID
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
            "places": partial(place_rows.delete_stale, limit=BATCH),
            "sessions": partial(sessions.forget, limit=BATCH),
            "webhook_deliveries": partial(
                deliveries.clean, age_seconds=settings.webhook_retention_seconds, limit=BATCH
            ),
            "deliveries_of_deleted_webhooks": partial(deliveries.clean_deleted, limit=BATCH),
            "webhooks": webhooks.forget,
            "audit_months": partial(_keep_months, age_seconds=settings.audit_retention_seconds),
        }

    def run_once(self) -> Counts:
        """Delete one batch of each kind."""
        below = self.parts.run("partitions", self._keeper.run_once, None)
        self._below = MAX_JOB_ID if below is None else below
        counts = {"completed": self._clean("completed", self._delete_completed)}
        counts |= {status.value: self._clean_jobs(status) for status in self._retention}
        counts |= {kind: self._clean(kind, delete) for kind, delete in self._others.items()}
        forgotten = self.parts.run("unique_keys", self._forget_keys, None)
        self._after_key = (forgotten and forgotten.after_key) or ""
        counts["unique_keys"] = forgotten.keys if forgotten else 0
        counts["event_slots"] = self.parts.run("event_slots", self._turn_events, 0)
        counts["event_triggers"] = self.parts.run("event_triggers", self._stop_events, 0)
        return counts

    def _clean_jobs(self, status: JobStatus) -> int:
        """Delete final jobs of a status, but for those that go with their partition."""
        delete = partial(
            cleaning.delete_jobs,
            status=status,
            age_seconds=self._retention[status],
            limit=BATCH,
            below=self._below if status in self._keeper.statuses_of_whole else MAX_JOB_ID,
        )
        return self._clean(status.value, delete)

    def _clean(self, kind: str, delete: Callable[[Connection], int]) -> int:
        def run() -> int:
            with self._database.autocommit() as connection:
                return delete(connection)

        return self.parts.run(kind, run, 0)

    def _delete_completed(self, connection: Connection) -> int:
        """Look through the jobs, from the oldest on, for completed ones whose time is over."""
        deleted = cleaning.delete_completed(
            connection,
            age_seconds=self._completed_retention,
            limit=BATCH,
            after_id=self._after_id,
            below=self._below,
        )
        self._after_id = deleted.up_to or 0
        return deleted.jobs

    def _forget_keys(self) -> unique_keys.Forgotten:
        with self._database.autocommit() as connection:
            return unique_keys.forget(connection, after_key=self._after_key, limit=KEYS)

    def _turn_events(self) -> int:
        return int(events.turn(self._database, retention_seconds=self._settings.event_retention_seconds))

    def _stop_events(self) -> int:
        return int(events.stop_unheard(self._database))

    def pause(self, counts: Counts) -> None:
        """Go on at once while batches are full, or jobs are left to be looked through; else wait."""
        if max(counts.values()) < BATCH and not self._after_id:
            self._pause(self._settings.clean_interval_seconds)


def _keep_months(connection: Connection, *, age_seconds: float) -> int:
    """Make the months of the audit log that come next, and drop those that are too old; how many went."""
    audit.make_ahead(connection, months=AUDIT_MONTHS_AHEAD)
    dropped = audit.drop_before(connection, age_seconds=age_seconds)
    for name in dropped:
        log.info("audit_month_dropped", month=name)
    return len(dropped)
