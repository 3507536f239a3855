"""The beginning of a session with PostgreSQL: address, formats, time-outs, and what is read as what."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import quote, unquote

import psycopg
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.types.json import set_json_loads
from sqlalchemy import Engine, create_engine, event

from goqueue.config.bounds import FIRST_MOMENT, LAST_MOMENT, read_stored_json, readable
from goqueue.config.settings import Settings
from goqueue.db.server_connection import Server, ServerConnection

__all__ = ["create_engine_of"]


def create_engine_of(settings: Settings, pool_size: int, application_name: str) -> Engine:
    """Create the engine of these settings; nothing connects before the first use."""
    engine = create_engine(
        "postgresql+psycopg://",
        isolation_level="AUTOCOMMIT",
        pool_size=pool_size,
        max_overflow=0,
        # An error's text must not carry a payload into a log.
        hide_parameters=True,
        pool_timeout=settings.database_connect_timeout_seconds,
    )
    server = _server(settings, application_name)

    def connect(_dialect: object, _record: object, _arguments: object, parameters: Any) -> ServerConnection:
        return server.connect(context=parameters["context"])

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "connect", _prepare_connection)
    if settings.schema_name is not None:
        event.listen(engine, "connect", partial(_expect_schema, settings.schema_name))
    if settings.has_pooler:
        event.listen(engine, "connect", _tell_pooler)
    return engine


def _server(settings: Settings, application_name: str) -> Server:
    arguments = {
        "connect_timeout": settings.database_connect_timeout_seconds,
        "application_name": application_name,
        **_session_arguments(settings),
        # A dead link must not hold a heartbeat, or the leadership, for the quarter of an hour that Linux
        # goes on sending.
        "tcp_user_timeout": 10_000,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
    }
    return Server(
        _url_for_libpq(settings.database_url.get_secret_value()),
        arguments,
        timeout_seconds=settings.database_connect_timeout_seconds,
        answer_seconds=settings.database_statement_timeout_seconds,
        has_pooler=settings.has_pooler,
    )


def _session_arguments(settings: Settings) -> dict[str, Any]:
    """What the session is told at its start.

    A pooler refuses the options of a session that is nobody's own, and loses statements that were prepared in
    another one: there the role has the time-out (docs/scaling.md), and nothing is prepared.
    """
    if settings.has_pooler:
        return {"prepare_threshold": None, "client_encoding": "UTF8"}
    told: dict[str, Any] = _SESSION | {
        "statement_timeout": int(settings.database_statement_timeout_seconds * 1000),
        "lock_timeout": int(settings.database_lock_timeout_seconds * 1000),
        "idle_in_transaction_session_timeout": int(settings.database_idle_transaction_timeout_seconds * 1000),
    }
    if settings.schema_name is not None:
        told["search_path"] = f'"{settings.schema_name}"'
    options = " ".join(f"-c {name}={_escaped(str(value))}" for name, value in told.items())
    return {"client_encoding": "UTF8", "options": options}


def _url_for_libpq(url: str) -> str:
    """The URL with its `search_path` where libpq takes one: among the options of the session."""
    place, found, query = url.rpartition("?")
    parts = query.split("&")
    paths = [unquote(part.partition("=")[2]) for part in parts if part.startswith("search_path=")]
    if not found or not paths:
        return url
    options = [unquote(part.partition("=")[2]) for part in parts if part.startswith("options=")]
    options.append("-c search_path=" + re.sub(r"([\\\s])", r"\\\1", paths[-1]))
    others = [part for part in parts if not part.startswith(("search_path=", "options="))]
    return f"{place}?{'&'.join([*others, f'options={quote(chr(32).join(options))}'])}"


#: How what is read and written looks, whatever the server, the database or the role has as its default: times
#: in UTC, so that every time that is read back is one that Python has; and numbers with all of their digits.
#: PgBouncer keeps the first three for each of its clients, over all the sessions that it gives them.
_FORMATS = {"TimeZone": "UTC", "DateStyle": "ISO", "standard_conforming_strings": "on"}

#: Without the just-in-time compiler: every walk here is short, and compiling one took a third of a second
#: where the planner, by old statistics, thought it long. Whole tables are read where no index leads to the
#: rows alone: a session keeps the plan of a statement, and one that was made while a table was small went on
#: to read all of it, for every outcome, until the next ANALYZE. A statement of its own is a READ COMMITTED
#: transaction. Whether writing is allowed is not ours to say: a server that was made read-only stays so.
_SESSION = _FORMATS | {
    "IntervalStyle": "postgres",
    "extra_float_digits": 1,
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "jit": "off",
    "enable_seqscan": "off",
}


def _escaped(value: str) -> str:
    """A value as the start-up option of a session has it: a backslash keeps a space from ending it."""
    return value.replace(" ", "\\ ")


def _expect_schema(schema: str, connection: psycopg.Connection[Any], _record: object) -> None:
    """See that a session is in the schema of its namespace, before anything is read or written.

    A pooler that drops the options of a session, or a namespace that was deleted, leads elsewhere: to the
    jobs of others.

    Raises:
        psycopg.OperationalError: it is not; nobody gets this connection.
    """
    found = connection.execute("SELECT current_schema()").fetchone()
    if found != (schema,):
        raise psycopg.OperationalError(f"the session is not in the schema {schema} of its namespace")


def _tell_pooler(connection: psycopg.Connection[Any], _record: object) -> None:
    for name, value in _FORMATS.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))


class _ReadableMoments(Loader):
    """Reads moments as psycopg does; one that Python cannot hold or compute with, as the nearest that it can.

    psycopg raises instead (a year before 1 or after 9999, infinity), and with that the whole answer is lost:
    one row of one queue would stop whoever reads the rows of all.
    """

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        plain = psycopg.adapters.get_loader(oid, self.format)
        assert plain is not None
        self._read: Callable[[Buffer], Any] = plain(oid, context).load

    def load(self, data: Buffer) -> datetime:
        """The moment; never raises."""
        try:
            moment: datetime = self._read(data)
        except psycopg.DataError:
            text = bytes(data)
            return FIRST_MOMENT if text.endswith(b"BC") or text.startswith(b"-") else LAST_MOMENT
        # Asked here and not there, for all but a few: every job has several, and a call costs as much again.
        return moment if FIRST_MOMENT.year <= moment.year < LAST_MOMENT.year else readable(moment)


def _prepare_connection(connection: psycopg.Connection[Any], _record: object) -> None:
    set_json_loads(read_stored_json, connection)
    connection.adapters.register_loader("timestamptz", _ReadableMoments)
