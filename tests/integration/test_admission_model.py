"""Admission beside all else that moves jobs, in any order: no limit is broken, nothing waits for ever."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from goqueue.dispatch.limited_queues import LimitedQueues
from goqueue.engine import edit_rows as edits
from goqueue.engine import new_job_rows as new_job_store
from goqueue.engine import queue_rows as queue_store
from goqueue.engine import ready_rows as ready_store
from goqueue.engine.transitions import cancel as cancel_store
from goqueue.engine.transitions import claim as claim_store
from goqueue.engine.transitions import record as record_store
from goqueue.engine.transitions.rescue import rescue
from goqueue.engine.workers import worker_rows as worker_store
from goqueue.jobs import AttemptOutcome, JobStatus, NewJob, Outcome
from goqueue.limits import queue_setting_rows as queue_settings
from goqueue.limits import type_setting_rows as type_settings
from goqueue.limits.settings import Breaker, KeyLimits, QueueLimits, RateAlgorithm, RateLimit, TypeLimits

if TYPE_CHECKING:
    from goqueue.config.settings import Settings
    from goqueue.db.database import Database
    from goqueue.engine.runway.runway import Runway

LEASE = 3600.0
QUEUES = ("p", "q")
TYPES = ("light", "heavy", "heavy", "guarded")
KEYS = (None, "a", "b", "c", "d", "e")
#: Longer than a run: whatever starts in it is in one window.
PERIOD = 3600.0

#: Of the queue q; p is limited by its types only.
LIMITS = [
    QueueLimits(concurrency=2),
    QueueLimits(concurrency=3, key_concurrency=1),
    QueueLimits(concurrency=2, fair=True),
    QueueLimits(key_concurrency=2, fair=True),
    QueueLimits(fifo=True),
    QueueLimits(fifo=True, concurrency=1),
    QueueLimits(),
]
#: Without one everything has to end, so most runs have none.
RATES = [
    None,
    None,
    None,
    None,
    RateLimit(4, PERIOD),
    RateLimit(4, PERIOD, RateAlgorithm.TOKEN_BUCKET),
]


class Row(NamedTuple):
    """What the model reads of a job."""

    id: int
    fence: int
    queue: str
    key: str | None
    type: str
    status: str
    admitted: bool
    cost: int


class AdmissionMachine(RuleBasedStateMachine):
    """Clients, workers, operators and one dispatcher, which take turns."""

    database: ClassVar[Database]
    settings: ClassVar[Settings]
    runway: ClassVar[Runway]

    def __init__(self) -> None:
        super().__init__()
        self.limits = QueueLimits()
        self.key_limit: int | None = None
        self.type_limit: int | None = None
        self.rate: RateLimit | None = None
        self.key_rate: RateLimit | None = None
        self.paused = False
        self.started: list[tuple[str | None, int]] = []
        with self.database.autocommit() as connection:
            connection.exec_driver_sql(
                "TRUNCATE jobs, attempts, queues, queue_keys, types, rate_grants, rate_buckets, workers "
                "RESTART IDENTITY CASCADE"
            )
            queue_store.ensure(connection, QUEUES)
        self.queues = LimitedQueues(self.settings, self.database, self.runway)
        self.queues.learn(QUEUES, {"p": 4, "q": 4})
        self.worker = self._register()

    @initialize(
        rate=st.sampled_from(RATES),
        key_rate=st.sampled_from(RATES),
        limits=st.sampled_from(LIMITS),
        type_limit=st.sampled_from([None, 1, 2]),
        jobs=st.lists(
            st.tuples(st.sampled_from((None, "a", "b")), st.sampled_from(TYPES)), min_size=8, max_size=16
        ),
    )
    def begin(
        self,
        rate: RateLimit | None,
        key_rate: RateLimit | None,
        limits: QueueLimits,
        type_limit: int | None,
        jobs: list[tuple[str | None, str]],
    ) -> None:
        """A backlog. Rates stay as they are: what started before one was set is not counted."""
        self.rate, self.key_rate = rate, key_rate
        self.set_queue(limits)
        self.set_type(type_limit)
        for key, kind in jobs:
            self.insert(1, "q", key, kind, 1, 0)
        self.round(2)

    def _register(self) -> int:
        with self.database.autocommit() as connection:
            return worker_store.register(connection, hostname="h", pid=1, queues=list(QUEUES), threads=4)

    def _rows(self, condition: str = "true") -> list[Row]:
        with self.database.autocommit() as connection:
            rows = connection.exec_driver_sql(
                "SELECT id, fence, queue, concurrency_key, type, status, admitted, rate_cost FROM jobs "
                f"WHERE {condition} ORDER BY id"
            ).fetchall()
        return [Row(*row) for row in rows]

    def _pick(self, number: int, condition: str) -> Row | None:
        rows = self._rows(condition)
        return rows[number % len(rows)] if rows else None

    @rule(
        count=st.integers(1, 3),
        queue=st.sampled_from([*QUEUES, "q"]),
        key=st.sampled_from(KEYS),
        kind=st.sampled_from(TYPES),
        cost=st.sampled_from([1, 1, 2, 6]),
        priority=st.integers(-1, 1),
    )
    def insert(self, count: int, queue: str, key: str | None, kind: str, cost: int, priority: int) -> None:
        """A client creates jobs."""
        for _ in range(count):
            job = NewJob(
                queue, kind, "{}", priority=priority, max_retries=20, concurrency_key=key, rate_cost=cost
            )
            with self.database.autocommit() as connection:
                new_job_store.insert(connection, job)

    @rule(count=st.integers(1, 3))
    def round(self, count: int) -> None:
        """The dispatcher works."""
        for _ in range(count):
            self.queues._rest_until.clear()  # noqa: SLF001  (a rest that is over)
            for admission in self.queues._queues.values():  # noqa: SLF001  (how far a queue is filled is told nowhere)
                admission.search.keyless_at = 0.0
            self.queues.run(Counter())

    @rule(count=st.integers(1, 4))
    def claim(self, count: int) -> None:
        """A worker claims whatever it is given, let in or not."""
        rows = self._rows("status = 'queued'")
        with self.database.autocommit() as connection:
            claimed = claim_store.claim(
                connection,
                [(row.id, row.fence) for row in sorted(rows, key=lambda row: not row.admitted)][:count],
                worker_id=self.worker,
                lease_seconds=LEASE,
            )
        by_id = {row.id: row for row in rows}
        for job in claimed:
            row = by_id[job.id]
            if row.queue == "q":
                assert not self.paused
                assert row.admitted or not self._is_governed(row)
                self.started.append((row.key, row.cost))

    def _is_governed(self, row: Row) -> bool:
        limits = self.limits
        governed = any((limits.concurrency, limits.key_concurrency, limits.fair, limits.fifo))
        return (
            governed
            or bool(self.rate or self.key_rate)
            or (row.type == "heavy" and self.type_limit is not None)
        )

    @rule(
        number=st.integers(0, 99), how=st.sampled_from(["completed", "failed", "again", "later", "snoozed"])
    )
    def record(self, number: int, how: str) -> None:
        """An attempt ends."""
        row = self._pick(number, "status = 'running'")
        if row is None:
            return
        kind, status, delay = {
            "completed": (AttemptOutcome.COMPLETED, JobStatus.COMPLETED, 0.0),
            "failed": (AttemptOutcome.FAILED, JobStatus.FAILED, 0.0),
            "again": (AttemptOutcome.FAILED, JobStatus.QUEUED, 0.0),
            "later": (AttemptOutcome.FAILED, JobStatus.QUEUED, 900.0),
            "snoozed": (AttemptOutcome.SNOOZED, JobStatus.QUEUED, 900.0),
        }[how]
        outcome = Outcome(row.id, row.fence, status, kind, refund=how == "snoozed", delay_seconds=delay)
        with self.database.autocommit() as connection:
            record_store.record(connection, [outcome], worker_id=self.worker)

    @rule()
    def make_due(self) -> None:
        """Time passes for those that wait for theirs."""
        with self.database.autocommit() as connection:
            connection.exec_driver_sql(
                "UPDATE jobs SET available_at = now() WHERE rank IS NULL AND status = 'queued'"
            )
            ready_store.make_due(connection)

    @rule(number=st.integers(0, 99))
    def cancel(self, number: int) -> None:
        """A client cancels a job that waits."""
        row = self._pick(number, "status = 'queued'")
        if row is not None:
            with self.database.autocommit() as connection:
                cancel_store.cancel(connection, [row.id])

    @rule(number=st.integers(0, 99), later=st.booleans())
    def edit(self, number: int, later: bool) -> None:
        """A client edits a job that waits."""
        row = self._pick(number, "status = 'queued'")
        if row is None:
            return
        start = datetime.now(UTC) + timedelta(hours=1) if later else None
        with self.database.transaction() as connection:
            edits.edit(
                connection,
                row.id,
                edits.JobEdit(priority=5, available_at=start),
            )

    @rule(limits=st.sampled_from(LIMITS))
    def set_queue(self, limits: QueueLimits) -> None:
        """An operator changes the limits, not the rates."""
        self.limits = limits
        values = {name: getattr(limits, name) for name in ("concurrency", "key_concurrency", "fair", "fifo")}
        with self.database.transaction() as connection:
            queue_settings.set_limits(
                connection, "q", QueueLimits(**values, rate=self.rate, key_rate=self.key_rate)
            )

    @rule(concurrency=st.sampled_from([None, 1, 2]), weight=st.integers(1, 3))
    def set_key(self, concurrency: int | None, weight: int) -> None:
        """An operator makes the key a special."""
        self.key_limit = concurrency
        with self.database.transaction() as connection:
            queue_settings.limits_of(connection, "q", lock=True)
            queue_settings.set_key(connection, "q", "a", KeyLimits(weight, concurrency))

    @rule(concurrency=st.sampled_from([None, 1, 2]))
    def set_type(self, concurrency: int | None) -> None:
        """An operator limits a type over both queues."""
        self.type_limit = concurrency
        with self.database.transaction() as connection:
            type_settings.locked(connection, "heavy")
            type_settings.set_limits(connection, "heavy", TypeLimits(concurrency))

    @rule(state=st.sampled_from(["closed", "open", "half_open"]))
    def move_breaker(self, state: str) -> None:
        """A breaker moves."""
        with self.database.transaction() as connection:
            type_settings.locked(connection, "guarded")
            type_settings.set_limits(connection, "guarded", TypeLimits(breaker=Breaker()))
            connection.exec_driver_sql(
                "UPDATE types SET breaker_state = %(state)s, breaker_changed_at = now() "
                "WHERE name = 'guarded'",
                {"state": state},
            )

    @rule()
    def pause_or_resume(self) -> None:
        """An operator stops the queue, or lets it go on."""
        self.paused = not self.paused
        with self.database.transaction() as connection:
            (queue_store.pause if self.paused else queue_store.resume)(connection, "q")

    @precondition(lambda self: self._rows("status = 'running'"))
    @rule()
    def die(self) -> None:
        """The worker process dies; its jobs are taken back, and may only run alone."""
        with self.database.autocommit() as connection:
            connection.exec_driver_sql("UPDATE workers SET stopped_at = now()")
            rescue(connection, max_deaths=100)
        self.worker = self._register()

    @invariant()
    def limits_hold(self) -> None:
        """Whoever was let in found a slot. What runs may be more, after a limit was lowered."""
        holders = self._rows("status = 'running' OR admitted")
        let_in = [row for row in holders if row.admitted]
        here = [row for row in holders if row.queue == "q"]
        for row in let_in:
            if row.type == "heavy" and self.type_limit:
                assert sum(other.type == "heavy" for other in holders) <= self.type_limit
            if row.queue != "q":
                continue
            if self.limits.concurrency:
                assert len(here) <= self.limits.concurrency
            most = self._key_limit(row.key)
            if most is not None:
                assert sum(other.key == row.key for other in here) <= most
            if self.limits.fifo and row.key is not None:
                unfinished = self._rows("queue = 'q' AND finished_at IS NULL")
                assert row.id == min(other.id for other in unfinished if other.key == row.key)

    def _key_limit(self, key: str | None) -> int | None:
        if key is None:
            return None
        if self.limits.fifo:
            return 1
        by_key = self.limits.fair or self.limits.key_concurrency or self.key_rate
        own = self.key_limit if key == "a" and by_key else None
        return own or self.limits.key_concurrency

    @invariant()
    def rates_hold(self) -> None:
        """All of a run is in one window: never more than the limit, but for one job that costs more."""
        on_the_way = [(row.key, row.cost) for row in self._rows("admitted AND queue = 'q'")]
        starts = self.started + on_the_way
        if self.rate:
            _expect_within(self.rate, [cost for _, cost in starts])
        if self.key_rate:
            for key in set(KEYS) - {None}:
                _expect_within(self.key_rate, [cost for name, cost in starts if name == key])

    def teardown(self) -> None:
        """Nothing waits for ever: once nothing holds it up, everything that its rate allows runs."""
        if self.paused:
            self.pause_or_resume()
        self.move_breaker("closed")
        for _ in range(40):
            self.make_due()
            self.round(1)
            self.claim(100)
            for row in self._rows("status = 'running'"):
                self.record(0, "completed")
                assert row
            self.limits_hold()
            self.rates_hold()
        waiting = self._rows("finished_at IS NULL")
        if self.rate is None and self.key_rate is None:
            assert waiting == []
        assert [row for row in waiting if row.queue == "p"] == []


def _expect_within(rate: RateLimit, costs: list[int]) -> None:
    # A bucket gains a little in the seconds of a run, never a whole start.
    assert sum(costs) <= rate.limit or len(costs) == 1


def test_admission_follows_the_model(database: Database, settings: Settings, runway: Runway) -> None:
    """Random runs of everything that admission meets."""
    machine: Any = type(
        "Machine", (AdmissionMachine,), {"database": database, "settings": settings, "runway": runway}
    )
    run_state_machine_as_test(
        machine,
        settings=hypothesis_settings(
            max_examples=25,
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        ),
    )
