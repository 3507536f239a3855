"""A process that does nothing but decide ticks, by a clock that is a row: a scheduler of the tests."""

from __future__ import annotations

import threading
from datetime import datetime

from goqueue import failpoints
from goqueue.config.settings import load_settings
from goqueue.db.database import Database
from goqueue.errors import GoQueueError
from goqueue.schedules import service as cron
from goqueue.schedules.service import CronScheduler

CLOCK = "CREATE TABLE fake_clock (now timestamptz NOT NULL)"
POLL_SECONDS = 0.02


def main() -> None:
    """Decide until somebody kills this process."""
    settings = load_settings()
    database = Database(settings, pool_size=2, application_name="cron-test")

    def clock() -> datetime:
        with database.autocommit() as connection:
            now: datetime = connection.exec_driver_sql("SELECT now FROM fake_clock").scalar_one()
            return now

    cron.FAILURE_PAUSE_SECONDS = 0.1
    pause = threading.Event()
    scheduler = CronScheduler(settings, database, pause.wait, clock=clock)
    failpoints.configure(settings.failpoints)
    while True:
        try:
            scheduler.run_once()
        except GoQueueError as error:
            print(error, flush=True)  # noqa: T201  (its connection was cut, or a point raised)
        pause.wait(POLL_SECONDS)


if __name__ == "__main__":
    main()
