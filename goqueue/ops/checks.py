"""The checks that a process passes before it serves: every problem at once, each as one line."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

import structlog

from goqueue.access.users import check_sign_in
from goqueue.config.redaction import redact
from goqueue.db.database import Database
from goqueue.db.schema import problem_with
from goqueue.engine.partitions import layout_rows as layouts
from goqueue.engine.runway.runway import Message, ReadyRange, Runway
from goqueue.errors import (
    ConfigurationError,
    DatabaseUnavailableError,
    GoQueueError,
    RedisUnavailableError,
    StartupError,
)
from goqueue.migrations.upgrade import current_revision, head_revision
from goqueue.observability.exception_reader import ExceptionReader
from goqueue.observability.tracing.export import check_tracing
from goqueue.ops.migrate_command import names_inside

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from goqueue.config.settings import Settings

log = structlog.get_logger(__name__)

RETRY_SECONDS = 0.5

#: A queue that nobody has, for doing on it what is done to every queue: no name has a control character.
REHEARSAL = "\x7frehearsal"

#: A range that holds nothing.
NO_JOBS = ReadyRange(1, ("2000-01-01 00:00:00+00", 0), ("2000-01-01 00:00:00+00", 0))


class SchemaError(GoQueueError):
    """The schema is not the one that this release needs."""


def problems_of_all(settings: Settings) -> list[str]:
    """List what is wrong with these settings, and with the servers of every namespace that they name."""
    problems = problems_of(settings)
    for name, other in settings.of_all_namespaces().items():
        if name != settings.namespace:
            problems += [f"{name}: {line}" for line in _problems_of_servers(other)]
    with suppress(GoQueueError):  # that the database does not answer was told
        for name in names_inside(settings):
            own = problems_of_check(partial(check_database, settings.within(name)))
            problems += [f"{name}: {line}" for line in own]
    return problems


def problems_of(settings: Settings) -> list[str]:
    """List all that is wrong with these settings and the servers that they name; nothing is waited for."""
    return [
        *_problems_of_servers(settings),
        *problems_of_check(lambda: check_actors(settings)),
        *problems_of_check(lambda: check_bind(settings)),
        *problems_of_check(lambda: check_tracing(settings)),
        *problems_of_check(lambda: check_sign_in(settings)),
    ]


def _problems_of_servers(settings: Settings) -> list[str]:
    """List what is wrong with PostgreSQL and Redis; nothing is waited for."""
    return [
        *problems_of_check(lambda: check_database(settings)),
        *problems_of_check(lambda: _check_other_ways(settings)),
        *problems_of_check(lambda: _check_partitions(settings)),
        *problems_of_check(lambda: check_redis(settings)),
    ]


def check_database(settings: Settings) -> None:
    """Check that PostgreSQL answers, and that its schema is not behind this release.

    A schema that is ahead is fine: during a deployment the old release runs on it, and migrations keep that
    possible.

    Raises:
        DatabaseUnavailableError: it does not answer.
        SchemaError: the schema is behind.
        ConfigurationError: its encoding is not UTF8; or its statements go through a pooler, and nothing would
            end them, or each would be a transaction of another kind.
    """
    database = Database(settings, pool_size=1, application_name="goqueue-check")
    try:
        with database.autocommit() as connection:
            current = current_revision(connection)
            timeout = connection.exec_driver_sql("SHOW statement_timeout").scalar()
            encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
            isolation = connection.exec_driver_sql("SHOW default_transaction_isolation").scalar()
    finally:
        database.close()
    if settings.has_pooler and timeout == "0":
        raise ConfigurationError(
            ["PostgreSQL: behind a pooler, expected a statement_timeout (ALTER ROLE … SET statement_timeout)"]
        )
    if encoding != "UTF8":
        problem = f"expected a database with the encoding UTF8, which keeps every text, got {encoding}"
        raise ConfigurationError([f"PostgreSQL: {problem}"])
    if isolation != "read committed":
        # Without a pooler each session says so itself.
        problem = f"behind a pooler, expected the isolation read committed, got {isolation}"
        raise ConfigurationError([f"PostgreSQL: {problem} (ALTER ROLE … SET default_transaction_isolation)"])
    schema_problem = problem_with(current, head_revision() or "")
    if schema_problem is not None:
        raise SchemaError(schema_problem)


def _check_other_ways(settings: Settings) -> None:
    """PostgreSQL answers on the way around the pooler, and so does the read replica, where there are such."""
    if settings.has_pooler:
        check_database(settings.without_pooler())
    if settings.read_database_url is not None:
        check_database(settings.for_reading())


def _check_partitions(settings: Settings) -> None:
    """Where jobs are in partitions, one is ready for those to come; `check_database` tells of an outage."""
    database = Database(settings, pool_size=1, application_name="goqueue-check")
    layout = None
    try:
        with suppress(GoQueueError), database.autocommit() as connection:
            layout = layouts.read(connection)
    finally:
        database.close()
    if layout is not None and not layout.ids_ahead:
        problem = "jobs come into the partition without an upper bound, because no other one was made in time"
        raise ConfigurationError([f"PostgreSQL: {problem} (does the scheduler's cleaner run?)"])


def check_redis(settings: Settings) -> None:
    """Check that Redis answers, does all that GoQueue asks it for, and does not evict.

    Raises:
        RedisUnavailableError: it does not answer, or refuses what it does at other times.
        ConfigurationError: its `maxmemory-policy` is not `noeviction`; or its user is not let in, or may not
            do something that GoQueue does.
    """
    runway = Runway(settings)
    try:
        runway.ping()
        policy = runway.eviction_policy()
        if policy not in {None, "noeviction"}:
            raise ConfigurationError([f"Redis: expected the maxmemory-policy noeviction, got {policy}"])
        _rehearse(runway)
    except RedisUnavailableError as error:
        if error.needs_a_person:
            raise ConfigurationError([f"GOQUEUE_REDIS_URL: {error}"]) from None
        raise
    finally:
        runway.close()


def _rehearse(runway: Runway) -> None:
    """Do every kind of thing that is done to queues, so that a missing permission is told now."""
    messages = [Message(1, 0)]
    runway.remove(REHEARSAL)
    runway.submit(REHEARSAL, messages)
    runway.dispatch(REHEARSAL, messages, limit=1, closed=False)
    runway.push_to_front(REHEARSAL, messages)
    runway.take(REHEARSAL, 1, block_seconds=None)
    runway.put_back(REHEARSAL, messages)
    runway.take(REHEARSAL, 1, block_seconds=0.01, waits_as=1)
    runway.acknowledge(REHEARSAL, ["1.0"])
    runway.push_returned(REHEARSAL, messages, wanted=False)
    runway.is_waited_for(REHEARSAL, except_worker=1)
    runway.wait_no_more(REHEARSAL, 1)
    runway.forget_older_than(REHEARSAL, 1)
    runway.dispatch_ranges(REHEARSAL, [NO_JOBS], limit=1)
    runway.end_ranges(REHEARSAL, [NO_JOBS], [NO_JOBS])
    runway.forget_lost_ranges(REHEARSAL)
    runway.lengths([REHEARSAL])
    runway.close_gate(REHEARSAL)
    connection = runway.push_connection()
    connection.open(REHEARSAL)
    connection.close()
    runway.remove(REHEARSAL)
    # In this order: a word for the dispatcher that this takes is said again.
    runway.wait_for_wake(0.01)
    runway.wake_dispatcher()


def check_actors(settings: Settings) -> None:
    """Check that every module of `GOQUEUE_ACTORS` can be imported, and declares what Dramatiq accepts.

    Raises:
        ConfigurationError: with a line for every module that cannot.
    """
    failure: BaseException | None = None
    try:
        import_module("goqueue.actors")
    except (Exception, SystemExit) as error:  # noqa: BLE001  (a user's module may raise anything)
        failure = error
    # It stopped at the first one that failed; tell the others, too.
    problems = [line for module in settings.actors for line in _import_problem(module)]
    if failure is not None:
        problems = problems or _lines(failure)
    if problems:
        raise ConfigurationError(problems)


def check_bind(settings: Settings) -> None:
    """Check that an address that others can reach is served with keys only.

    Raises:
        ConfigurationError: there are none.
    """
    from goqueue.api.frame.security import refuse_open_bind  # noqa: PLC0415  (the API's modules are for the API)

    refuse_open_bind(settings)


def ensure_ready(
    settings: Settings,
    checks: Sequence[Callable[[Settings], None]],
    *,
    wait_seconds: float,
    stopping: threading.Event | None = None,
) -> None:
    """Check the process before it serves.

    What may pass by itself (PostgreSQL still starts, somebody still migrates) is waited for. Redis that does
    not answer is only worth a warning: GoQueue lives with that at any time.

    Args:
        settings: which servers, and what the other checks look at.
        checks: what this process needs besides the servers.
        wait_seconds: how long to wait for PostgreSQL and for its schema.
        stopping: ends the wait, as if all were well.

    Raises:
        ConfigurationError: something that waiting does not mend.
        StartupError: PostgreSQL did not become ready in time.
    """
    problems = [
        line for one in [check_tracing, *checks] for line in problems_of_check(partial(one, settings))
    ]
    problems += redis_problems(settings)
    if problems:
        raise ConfigurationError(problems)
    _wait_for_database(settings, wait_seconds, stopping or threading.Event())


def _wait_for_database(settings: Settings, wait_seconds: float, stopping: threading.Event) -> None:
    deadline = time.monotonic() + wait_seconds
    told = ""
    while True:
        try:
            check_database(settings)
        except (DatabaseUnavailableError, SchemaError) as error:
            if time.monotonic() >= deadline:
                raise StartupError(f"{error} (waited {wait_seconds:g} s)") from error
            if str(error) != told:
                told = str(error)
                log.warning("start_postponed", error=told, at_most_seconds=wait_seconds)
            if stopping.wait(RETRY_SECONDS):
                return
        else:
            return


def redis_problems(settings: Settings) -> list[str]:
    """List what waiting does not mend in Redis; that it does not answer is logged, and no problem."""
    try:
        check_redis(settings)
    except RedisUnavailableError as error:
        log.warning("redis_does_not_answer_yet", error=str(error))
    except ConfigurationError as error:
        return error.problems
    return []


def problems_of_check(check: Callable[[], None]) -> list[str]:
    """List what a check finds, a line for each problem."""
    try:
        check()
    except GoQueueError as error:
        return _lines(error)
    return []


def _lines(error: BaseException) -> list[str]:
    if isinstance(error, ConfigurationError):
        return [redact(problem) for problem in error.problems]
    if isinstance(error, GoQueueError):
        return [redact(str(error))]
    return [_one_line(error)]


def _import_problem(module: str) -> list[str]:
    if module in sys.modules:
        return []
    try:
        import_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001  (a user's module may raise anything)
        return [f"GOQUEUE_ACTORS: cannot import {module!r}: {_one_line(error)}"]
    return []


def _one_line(error: BaseException) -> str:
    return redact(" ".join(ExceptionReader(error).line.split()))
