"""A whole engine in this process: its broker, a Dramatiq worker and a dispatcher."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import dramatiq
import pytest
from dramatiq.asyncio import EventLoopThread, get_event_loop_thread, set_event_loop_thread

from goqueue.config.settings import Settings, environment_of, get_settings
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.dispatch.dispatcher import Dispatcher
from goqueue.engine import job_rows as job_store
from goqueue.engine import queue_rows as queue_store
from goqueue.errors import UnavailableError
from goqueue.instance import as_default, default
from goqueue.jobs import Job, JobStatus
from goqueue.scheduler.service import run_loop
from goqueue.worker.broker import JobBroker
from tests.support.shared_database import own_settings
from tests.support.waiting import wait_until

#: Settings under which nothing takes longer than a test wants to wait.
QUICK: dict[str, Any] = {
    "worker_threads": 4,
    "fetch_block_seconds": 0.1,
    "heartbeat_seconds": 0.2,
    "lease_seconds": 2.0,
    "dispatch_idle_seconds": 0.02,
    "lost_push_seconds": 0.2,
    "min_backoff_seconds": 0.02,
    "unreadable_payload_wait_seconds": 0.3,
}


@contextmanager
def process_of(settings: Settings) -> Iterator[JobBroker]:
    """Be a process that was started with these settings: what `goqueue` exports is its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment_of(settings).items():
            if name.startswith("GOQUEUE_"):
                patch.setenv(name, value)
        get_settings.cache_clear()
        # What the test session's own process made, built-in types and all, comes back afterwards.
        with as_default(None):
            broker = default().broker
            try:
                yield broker
            finally:
                broker.close()
    get_settings.cache_clear()


class Engine:
    """Runs what was declared on the broker between `with` and its end."""

    def __init__(self, broker: JobBroker, *, dispatches: bool = True) -> None:
        self.broker = broker
        self.settings = broker.settings
        self.worker = dramatiq.Worker(
            broker, worker_timeout=20, worker_threads=broker.settings.worker_threads
        )
        self._stopping = threading.Event()
        self._outer_event_loop: EventLoopThread | None = None
        self.dispatcher = threading.Thread(target=self._dispatch, name="dispatcher") if dispatches else None

    def __enter__(self) -> Self:
        with self.broker.database.autocommit() as connection:
            queue_store.ensure(connection, self.broker.get_declared_queues())
        # Dramatiq knows one event loop a process: an engine within another one gives it back.
        self._outer_event_loop = get_event_loop_thread()
        self.worker.start()
        if self.dispatcher:
            self.dispatcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self.dispatcher:
            self.dispatcher.join()
        self.worker.stop(timeout=5000)
        set_event_loop_thread(self._outer_event_loop)

    def _dispatch(self) -> None:
        service = Dispatcher(self.settings, self.broker.database, self.broker.runway)
        run_loop(service, self._stopping)

    @contextmanager
    def with_middleware(self, *added: dramatiq.Middleware) -> Iterator[None]:
        """Have more middleware inside the block."""
        for one in added:
            self.broker.add_middleware(one)
        try:
            yield
        finally:
            for one in added:
                self.broker.middleware.remove(one)
            self.broker._hooks.clear()  # noqa: SLF001  (Dramatiq has no way to take middleware away)

    def job(self, job_id: int) -> Job:
        """The row as it is now."""
        with self.broker.database.autocommit() as connection:
            return job_store.get(connection, job_id)

    def wait_for(
        self, job_id: int, status: JobStatus | str = JobStatus.COMPLETED, *, attempts: int | None = None
    ) -> Job:
        """Wait until a job has this status (and so many attempts), and return its row."""
        seen: list[Job] = []

        def reached() -> bool:
            try:
                seen[:] = [self.job(job_id)]
            except UnavailableError:
                return False
            return seen[0].status == status and attempts in {None, seen[0].attempts}

        try:
            wait_until(reached, what=f"job {job_id} to be {status}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {seen}") from None
        return seen[0]

    def rows(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self.broker.database.autocommit() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql, parameters).fetchall()]

    def attempts(self, job_id: int) -> list[tuple[Any, ...]]:
        """The (attempt, outcome, error, traceback) of a job's attempt rows, the oldest first."""
        return self.rows(
            "SELECT attempt, outcome, error, traceback FROM attempts WHERE job_id = %(id)s ORDER BY fence",
            id=job_id,
        )


@contextmanager
def running_engine(
    postgres: EmbeddedPostgres,
    valkey: EmbeddedValkey,
    name: str,
    declare: Callable[[], object],
    **changes: Any,
) -> Iterator[Engine]:
    """Run an engine with a database of its own, for all tests of a module; `declare` says what it runs."""
    with (
        own_settings(postgres, valkey, name, **QUICK | changes) as settings,
        process_of(settings) as broker,
    ):
        declare()
        with Engine(broker) as engine:
            yield engine
