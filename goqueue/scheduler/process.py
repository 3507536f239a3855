"""The process behind `goqueue scheduler`: waits to lead, then runs every background role in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from goqueue.bulk.service import BulkOperator
from goqueue.config.settings import Settings
from goqueue.db.database import expect_primary
from goqueue.dispatch.dispatcher import Dispatcher
from goqueue.engine.runway.runway import Runway
from goqueue.errors import GoQueueError, RedisUnavailableError
from goqueue.insight import gauge_rows as gauges
from goqueue.insight.counter import JobCounter
from goqueue.insight.payload_indexer import PayloadIndexer
from goqueue.insight.roller import Roller
from goqueue.instance import default
from goqueue.limits.breaker_service import Breakers
from goqueue.limits.pause_service import Pauses
from goqueue.observability import metrics
from goqueue.observability.monitoring_server import MonitoringPort, Probes, Problems
from goqueue.scheduler.cleaner import Cleaner
from goqueue.scheduler.expirer import Expirer
from goqueue.scheduler.horizon_watch import HorizonWatch
from goqueue.scheduler.leader import Leader, LeaderDatabase
from goqueue.scheduler.loop_watch import LoopWatch
from goqueue.scheduler.reencrypter import Reencrypter
from goqueue.scheduler.releaser import Releaser
from goqueue.scheduler.rescuer import Rescuer
from goqueue.scheduler.service import Service, run_loop
from goqueue.scheduler.watchdog import Watchdog, end_process
from goqueue.schedules.service import CronScheduler
from goqueue.webhooks.service import WebhookFeeder

log = structlog.get_logger(__name__)

#: How long the roles of a leader that steps down may take to end their round.
STEP_DOWN_SECONDS = 10.0

#: What the watch calls the loop that leads, or waits to.
LEADER_LOOP = "leader"


class SchedulerProcess:
    """Runs the background roles while it leads, and tries to lead while it does not."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._leader = Leader(settings)
        self._database = LeaderDatabase(settings, self._leader)
        # Bodies of webhooks leave out what the types that this process knows redact.
        self._database.contents.redacted = default().broker.types.redacted
        self._runway = Runway(settings)
        self._watch = LoopWatch(settings)
        self._watchdog = Watchdog(self._leader, self._watch)
        self._port = MonitoringPort(
            settings.metrics_host,
            settings.scheduler_metrics_port,
            Probes(self.not_live, self.not_ready, self._measure),
        )
        #: The dispatcher, once this process has led.
        self._dispatcher: Dispatcher | None = None

    def run(self, stopping: threading.Event) -> None:
        """Serve until `stopping` is set. A process that was stopped or that hangs is ended."""
        self._watchdog.start()
        while not stopping.is_set():
            self._turn()
            if self._leader.try_to_lead():
                self._lead(stopping)
            stopping.wait(self._settings.leader_check_seconds)
        self.close()

    def close(self) -> None:
        """Give up the leadership, and close every connection."""
        self._watchdog.stop()
        self._port.close()
        self._runway.close()
        self._database.close()
        self._leader.close()

    def _lead(self, stopping: threading.Event) -> None:
        """Run the roles until the leadership is lost or the process stops."""
        ending = threading.Event()
        threads = [
            threading.Thread(
                target=run_loop, args=(service, ending, self._watch), name=service.name, daemon=True
            )
            for service in self._services(ending)
        ]
        for thread in threads:
            thread.start()
        while not stopping.wait(self._settings.leader_check_seconds) and self._leader.try_to_lead():
            self._turn()
        ending.set()
        _join(threads)
        if not stopping.is_set() and any(thread.is_alive() for thread in threads):
            # It would go on beside the threads of the next time that this process leads.
            end_process("a round did not end when the leadership was lost")

    def not_live(self) -> Problems:
        """Tell what does not work here although its servers answer: loops that hang or fail, the dispatch."""
        dispatcher = self._dispatcher if self._leader.leads else None
        stands = [] if dispatcher is None else dispatcher.stands_still(self._watch.round_seconds)
        return [*self._watch.stuck(), *stands]

    def not_ready(self) -> Problems:
        """Tell why this process could not lead now: which servers do not answer, and which loops hang."""
        return [*self.not_live(), *_problem(self._ask_database), *_problem(self._runway.ping)]

    def _turn(self) -> None:
        """Note that the loop of the leadership turns."""
        self._watch.begin(LEADER_LOOP)
        if self._settings.scheduler_metrics_port:
            self._port.tend()

    def _ask_database(self) -> None:
        with self._leader.database.autocommit() as connection:
            expect_primary(connection)

    def _measure(self) -> None:
        """Set the gauges that are only looked at when somebody asks."""
        metrics.LEADER.set(int(self._leader.leads))
        lag_seconds = self._watch.seconds_since_step(Dispatcher.name)
        if self._dispatcher is not None:
            # Also of one queue alone: for it nothing is dispatched.
            lag_seconds = max(lag_seconds, self._dispatcher.parts.failing_seconds())
        try:
            with self._leader.database.autocommit() as connection:
                lag_seconds = max(lag_seconds, gauges.lateness_of_due(connection))
        except GoQueueError as error:
            log.debug("dispatcher_lag_not_read", error=str(error))
        metrics.DISPATCHER_LAG.set(lag_seconds if self._leader.leads else 0.0)

    def _wake_dispatcher(self) -> None:
        """Best effort: it looks by itself every moment."""
        try:
            self._runway.wake_dispatcher()
        except RedisUnavailableError as error:
            log.debug("dispatcher_not_woken", error=str(error))

    def _services(self, ending: threading.Event) -> list[Service]:
        settings, database = self._settings, self._database
        self._dispatcher = Dispatcher(settings, database, self._runway)
        return [
            self._dispatcher,
            Rescuer(settings, database, ending.wait, self._runway),
            Expirer(settings, database, ending.wait),
            Releaser(settings, database, ending.wait, self._runway),
            Pauses(settings, database, ending.wait, self._wake_dispatcher),
            Breakers(settings, database, ending.wait, self._wake_dispatcher),
            BulkOperator(settings, database, ending.wait),
            CronScheduler(settings, database, ending.wait, self._wake_dispatcher),
            HorizonWatch(settings, database, ending.wait),
            Roller(settings, database, ending.wait),
            JobCounter(settings, database, ending.wait),
            PayloadIndexer(settings, database, ending.wait),
            Reencrypter(settings, database, ending.wait),
            WebhookFeeder(settings, database, ending.wait, self._wake_dispatcher),
            Cleaner(settings, database, ending.wait),
        ]


def _join(threads: list[threading.Thread]) -> None:
    """Wait until all have ended, but not for long."""
    deadline = time.monotonic() + STEP_DOWN_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _problem(ask: Callable[[], object]) -> Problems:
    try:
        ask()
    except GoQueueError as error:
        return [str(error)]
    return []
