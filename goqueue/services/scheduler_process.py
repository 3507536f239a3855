"""The process behind `goqueue scheduler`: waits to lead, then runs every background role in a thread."""

from __future__ import annotations

import threading

import structlog

from goqueue.broker.runway import Runway
from goqueue.config import Settings
from goqueue.db import Database
from goqueue.errors import RedisUnavailableError
from goqueue.services.breaker import Breakers
from goqueue.services.bulk_operator import BulkOperator
from goqueue.services.cleaner import Cleaner
from goqueue.services.cron import CronScheduler
from goqueue.services.dispatcher import Dispatcher
from goqueue.services.expirer import Expirer
from goqueue.services.leader import Leader
from goqueue.services.pauses import Pauses
from goqueue.services.releaser import Releaser
from goqueue.services.rescuer import Rescuer
from goqueue.services.service import Service, run_loop

log = structlog.get_logger(__name__)

#: How long the roles of a leader that steps down may take to end their round.
STEP_DOWN_SECONDS = 10.0


class SchedulerProcess:
    """Runs the background roles while it leads, and tries to lead while it does not."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database = Database(settings, application_name="goqueue-scheduler")
        self._runway = Runway(settings)
        self._leader = Leader(self._database)

    def run(self, stopping: threading.Event) -> None:
        """Serve until `stopping` is set."""
        while not stopping.is_set():
            if self._leader.try_to_lead():
                self._lead(stopping)
            stopping.wait(self._settings.leader_check_seconds)
        self._leader.resign()
        self._runway.close()
        self._database.close()

    def _lead(self, stopping: threading.Event) -> None:
        """Run the roles until the leadership is lost or the process stops."""
        ending = threading.Event()
        threads = [
            threading.Thread(target=run_loop, args=(service, ending), name=service.name, daemon=True)
            for service in self._services(ending)
        ]
        for thread in threads:
            thread.start()
        while not stopping.wait(self._settings.leader_check_seconds) and self._leader.try_to_lead():
            pass
        ending.set()
        for thread in threads:
            thread.join(STEP_DOWN_SECONDS)

    def _wake_dispatcher(self) -> None:
        """Best effort: it looks by itself every moment."""
        try:
            self._runway.wake_dispatcher()
        except RedisUnavailableError as error:
            log.debug("dispatcher_not_woken", error=str(error))

    def _services(self, ending: threading.Event) -> list[Service]:
        settings, database = self._settings, self._database
        return [
            Dispatcher(settings, database, self._runway),
            Rescuer(settings, database, ending.wait),
            Expirer(settings, database, ending.wait),
            Releaser(settings, database, self._runway, ending.wait),
            Pauses(settings, database, ending.wait, self._wake_dispatcher),
            Breakers(settings, database, ending.wait, self._wake_dispatcher),
            BulkOperator(settings, database, ending.wait),
            CronScheduler(settings, database, ending.wait, self._wake_dispatcher),
            Cleaner(settings, database, ending.wait),
        ]
