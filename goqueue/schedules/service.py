"""The cron scheduler: decides the ticks of schedules that are due, and creates their jobs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import structlog

from goqueue import failpoints
from goqueue.access.quota_door import QuotaDoor, open_quota_door
from goqueue.config.settings import Settings
from goqueue.db.database import Connection, Database
from goqueue.engine import create as creation
from goqueue.engine.creation_rows import CreatedNode
from goqueue.engine.graph_rows import NewNode
from goqueue.engine.transitions.cancel import cancel
from goqueue.errors import InvalidJobError, QuotaExceededError, UnavailableError
from goqueue.instance import default
from goqueue.jobs import JobStatus, NewJob, OnParentFailure
from goqueue.observability import metrics
from goqueue.scheduler.service import Counts, Pause, Service
from goqueue.schedules import schedule_rows as schedule_store
from goqueue.schedules import scheduling
from goqueue.schedules import tick_rows as tick_store
from goqueue.schedules.rules import Overlap, Schedule, TickOutcome, decide
from goqueue.schedules.tick_rows import UnfinishedJob

log = structlog.get_logger(__name__)

#: Schedules of one round.
BATCH = 200

#: A schedule whose decision failed is left alone for so long: the others go on.
FAILURE_PAUSE_SECONDS = 30.0


class CronScheduler(Service):
    """Decides ticks: one transaction a schedule, which records them and creates their jobs, or does neither.

    Any number of them may run: the row of the schedule is locked, and a tick's row can exist only once.

    Args:
        clock: the time, instead of PostgreSQL's: for tests.
    """

    name = "cron"

    def __init__(
        self,
        settings: Settings,
        database: Database,
        pause: Pause,
        wake: Callable[[], object] = bool,
        *,
        clock: Callable[[], datetime | None] = lambda: None,
    ) -> None:
        super().__init__(settings, database, pause, wake)
        self._clock = clock
        self._door = open_quota_door(settings)
        self._has_declared = False
        self._failed: dict[int, float] = {}

    def run_once(self) -> Counts:
        """Decide what is due; how many ticks came to what."""
        self._declare()
        counts = Counter({outcome.value: 0 for outcome in TickOutcome})
        for schedule_id in self._due():
            counts.update(outcome.value for outcome in self._try_to_decide(schedule_id))
        if counts[TickOutcome.FIRED.value]:
            self._wake()
        return dict(counts)

    def pause(self, counts: Counts) -> None:
        """Go on at once while much is due; else wait."""
        if sum(counts.values()) < BATCH:
            self._pause(self._settings.schedule_interval_seconds)

    def _declare(self) -> None:
        """Once: what the code of this process declares. A process without actors has nothing to say."""
        if not self._has_declared and (default().schedules or self._settings.actors):
            self._has_declared = self.parts.run("declared", self._declare_all, otherwise=False)

    def _declare_all(self) -> bool:
        scheduling.declare(self._database, default().schedules.values())
        return True

    def _due(self) -> list[int]:
        moment = time.monotonic()
        self._failed = {identity: until for identity, until in self._failed.items() if until > moment}
        with self._database.autocommit() as connection:
            return schedule_store.due(connection, self._clock(), without=self._failed, limit=BATCH)

    def _try_to_decide(self, schedule_id: int) -> list[TickOutcome]:
        try:
            return self._decide(schedule_id)
        except Exception as error:
            # One that waits for a lock must not hold up the others.
            if isinstance(error, UnavailableError) and not getattr(error, "may_be_the_statement", False):
                raise
            log.exception("schedule_failed", schedule_id=schedule_id)
            self._failed[schedule_id] = time.monotonic() + FAILURE_PAUSE_SECONDS
            return []

    def _decide(self, schedule_id: int) -> list[TickOutcome]:
        with self._database.transaction() as connection:
            locked = schedule_store.lock_due(connection, schedule_id, self._clock())
            if locked is None:
                return []
            failpoints.hit("after_schedule_lock")
            firing = _Firing(connection, locked[0], self._door)
            outcomes = self._decide_locked(connection, *locked, firing)
            failpoints.hit("before_schedule_commit")
        failpoints.hit("after_schedule_commit")
        creation.count(firing.creates)
        for outcome in outcomes:
            metrics.SCHEDULE_TICKS.labels(outcome.value).inc()
        return outcomes

    def _decide_locked(
        self, connection: Connection, schedule: Schedule, now: datetime, firing: _Firing
    ) -> list[TickOutcome]:
        assert schedule.next_at is not None
        decision = decide(
            schedule.definition, schedule.next_at, now, late_seconds=self._settings.schedule_late_seconds
        )
        times = [tick.fire.at for tick, _ in decision.ticks]
        before = tick_store.decided(connection, schedule.id, times)
        rows = [
            (tick.fire.at, *firing.outcome(outcome))
            for tick, outcome in decision.ticks
            if tick.fire.at not in before
        ]
        tick_store.record(connection, schedule.id, rows)
        schedule_store.advance(connection, schedule.id, decision.following)
        log.info("schedule_decided", schedule=schedule.definition.name, ticks=len(rows), jobs=firing.created)
        return [outcome for _, outcome, _ in rows]


class _Firing:
    """Creates the jobs of one decision, by the overlap policy.

    Attributes:
        created: the ids of new jobs.
        creates: every create, to be counted after the commit.
    """

    def __init__(self, connection: Connection, schedule: Schedule, door: QuotaDoor | None) -> None:
        self._door = door
        self._connection = connection
        self._schedule = schedule
        self.created: list[int] = []
        self.creates: list[tuple[NewJob, CreatedNode]] = []
        self._unfinished: list[UnfinishedJob] | None = None

    def outcome(self, decided: TickOutcome) -> tuple[TickOutcome, int | None]:
        """Fire, where that was decided; what it came to, and the job."""
        if decided is not TickOutcome.FIRED:
            return decided, None
        if self._unfinished is None:
            self._unfinished = self._look()
        if self._unfinished and self._schedule.definition.overlap is Overlap.SKIP:
            return TickOutcome.OVERLAPPED, None
        if not self._has_room():
            return TickOutcome.OVER_QUOTA, None
        if self._unfinished and self._schedule.definition.overlap is Overlap.CANCEL_RUNNING:
            ids = [job.id for job in self._unfinished]
            cancel(self._connection, ids)
            self._unfinished = self._look()
        return self._create(self._unfinished)

    def _has_room(self) -> bool:
        """Whether the quotas of the namespace let the job be created; a tick that they refuse is gone."""
        if self._door is None:
            return True
        try:
            self._door.admit([self._schedule.definition.job])
        except (QuotaExceededError, InvalidJobError) as error:
            log.warning("schedule_over_quota", schedule=self._schedule.definition.name, error=str(error))
            return False
        return True

    def _look(self) -> list[UnfinishedJob]:
        """What a tick may overlap with; what waits is none for one that collects: it goes there."""
        found = tick_store.unfinished_jobs(self._connection, self._schedule.id, also=self.created)
        return [job for job in found if job.status is JobStatus.RUNNING] if self._collects else found

    @property
    def _collects(self) -> bool:
        unique = self._schedule.definition.job.unique
        return unique is not None and unique.collect is not None

    def _create(self, after: list[UnfinishedJob]) -> tuple[TickOutcome, int | None]:
        """Create the job; it waits for those of earlier ticks, of which the blocked wait for each other."""
        waits_for = [job.id for job in after[:-1] if job.status is not JobStatus.BLOCKED]
        job = replace(
            self._schedule.definition.job,
            depends_on=(*waits_for, *(job.id for job in after[-1:])),
            on_parent_failure=OnParentFailure.RUN,
        )
        (created,) = creation.insert(self._connection, [NewNode(job)])
        self.creates.append((job, created))
        if created.collected:
            return TickOutcome.FIRED, created.id
        if created.deduplicated:
            return TickOutcome.OVERLAPPED, None  # by its unique key, an equal job is there
        self.created.append(created.id)
        if not self._collects:
            after.append(UnfinishedJob(created.id, created.status))
        return TickOutcome.FIRED, created.id
