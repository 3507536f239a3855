"""Switching partitions on, beside whatever runs."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import structlog

from goqueue.config.settings import Settings
from goqueue.db.database import Connection, Database
from goqueue.engine.partitions import layout_rows as layouts
from goqueue.engine.partitions import rules
from goqueue.engine.partitions import switch_rows as switching
from goqueue.engine.partitions.layout_rows import TABLES
from goqueue.engine.partitions.table_rows import is_alone, patiently
from goqueue.errors import DatabaseUnavailableError, PartitionsRefusedError

__all__ = ["switch_on"]

R = TypeVar("R")

log = structlog.get_logger(__name__)

#: Looking at all rows of a large table takes as long as it takes.
CHECK_SECONDS = 24 * 3600.0

#: The tables are wanted for a moment, again and again, at most so many times; between two, others work.
TRIES, REST_SECONDS = 3600, 1.0

#: A switch that has the tables ends within this.
SWITCH_SECONDS = 30.0


def switch_on(database: Database, settings: Settings, *, wait: Callable[[float], object] = time.sleep) -> int:
    """Put the jobs into partitions; the id at which new ones begin. No row is copied.

    Args:
        database: without a pooler before it: this holds a session.
        settings: say how long completed jobs are kept, and so how large a partition is.
        wait: waits so many seconds.

    Raises:
        PartitionsRefusedError: something is in the way.
        DatabaseUnavailableError: somebody held the tables all the time.
    """
    with database.connection() as session:
        if not switching.hold_switch(session):
            raise PartitionsRefusedError("somebody else switches partitions on at this moment")
        try:
            if layouts.is_partitioned(session):
                raise PartitionsRefusedError("the jobs are in partitions")
            return _Switch(database, settings, wait).run()
        finally:
            switching.release_switch(session)


def size_for(connection: Connection, settings: Settings, last_id: int) -> int:
    """Say how many ids a partition takes now."""
    if settings.partition_jobs is not None:
        return settings.partition_jobs
    pace = layouts.pace(connection, last_id)
    return rules.size_of(pace.per_second if pace else 0.0, settings.completed_retention_seconds)


class _Switch:
    """The steps of one switch."""

    def __init__(self, database: Database, settings: Settings, wait: Callable[[float], object]) -> None:
        self._database = database
        self._settings = settings
        self._wait = wait

    def run(self) -> int:
        with self._database.autocommit() as connection:
            _refuse(connection)
            last_id = layouts.last_id(connection)
            size = size_for(connection, self._settings, last_id)
        upper = rules.first_upper(last_id)
        # Of a run that was killed.
        self._often(switching.drop_bound)
        try:
            self._often(lambda connection: switching.add_bound(connection, upper))
            for table in TABLES:
                self._step(partial(switching.check_bound, table=table), CHECK_SECONDS)
                log.info("partition_bound_checked", table=table)
            held_seconds = self._often(lambda connection: _switch(connection, upper, size))
        except BaseException:
            self._take_back()
            raise
        log.info(
            "partitions_switched_on", new_jobs_from=upper, jobs_a_partition=size, held_seconds=held_seconds
        )
        return upper

    def _take_back(self) -> None:
        with self._database.autocommit() as connection:
            is_done = layouts.is_partitioned(connection)
        if not is_done:
            self._often(switching.drop_bound)

    def _often(self, run: Callable[[Connection], R]) -> R:
        """Run something that wants the tables for itself, until it has had them."""
        for tries_left in reversed(range(TRIES)):
            try:
                return self._step(run)
            except DatabaseUnavailableError as error:
                if not error.may_be_the_statement or not tries_left:
                    raise
                log.info("partitions_wait", error=str(error))
            self._wait(REST_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311  (it guards no secret)
        raise AssertionError("the last try returns or raises")

    def _step(self, run: Callable[[Connection], R], seconds: float = SWITCH_SECONDS) -> R:
        with self._database.transaction() as connection, patiently(connection, seconds):
            if not is_alone(connection):
                raise DatabaseUnavailableError("somebody else changes partitions", may_be_the_statement=True)
            return run(connection)


def _switch(connection: Connection, upper: int, size: int) -> float:
    _refuse(connection)
    return switching.switch(connection, upper=upper, size=size)


def _refuse(connection: Connection) -> None:
    if found := switching.obstacles(connection):
        raise PartitionsRefusedError("; ".join(found))
