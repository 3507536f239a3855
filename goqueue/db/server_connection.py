"""Connections to PostgreSQL that wait for no answer for ever, and lead to the server that accepts writes.

A time-out of the server ends a statement only where the server lives. One that hangs, or a link that swallows
what is sent, leaves its clients waiting: TCP sees nothing, because what was sent was acknowledged. So whoever
has waited for a while asks the server, on a connection of its own, whether it still works on the statement.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict

from goqueue.errors import ConfigurationError

__all__ = ["DOUBT_SECONDS", "Server", "ServerConnection"]

RV = TypeVar("RV")

#: An answer that takes longer is asked after, and again after each further time.
DOUBT_SECONDS = 5.0

#: The server's own time-out ends a statement; where it is not known that the server works on it, the client
#: waits so much longer.
MARGIN_SECONDS = 5.0

#: Whoever finds that a server does not answer tells it to those that wait for the same one.
SILENCE_GOOD_FOR_SECONDS = 5.0

# Idle, in a transaction or not: it has answered, and the answer is lost, or the statement never came. No row:
# the session is gone, or it is another server by now.
_IS_AT_WORK = "SELECT FROM pg_stat_activity WHERE pid = %s AND (state LIKE 'idle%%') IS NOT TRUE"


class Server:
    """The server that one `Database` connects to: the hosts of its URL, the last good one first. Thread-safe.

    Args:
        url: as libpq has it, also with several hosts. Without a `target_session_attrs` of its own it means
            the host that accepts writes.
        arguments: what else a connection is opened with.
        timeout_seconds: how long a connection may take, and the answer of a server that is doubted.
        answer_seconds: when the server ends a statement by itself.
        has_pooler: nobody can say which session of the server works for a connection.

    Raises:
        ConfigurationError: that is no URL of libpq's.
    """

    def __init__(
        self,
        url: str,
        arguments: Mapping[str, Any],
        *,
        timeout_seconds: int,
        answer_seconds: float,
        has_pooler: bool = False,
    ) -> None:
        try:
            self._parameters: dict[str, Any] = dict(conninfo_to_dict(url))
        except psycopg.Error as error:
            # Where libpq's text quotes the URL, it is left out: a URL has a password.
            told = str(error).strip()
            why = "" if "://" in told else f": {told}"
            raise ConfigurationError(
                [f"PostgreSQL: expected a URL of libpq's, got one that it refuses{why}"]
            ) from error
        options = [self._parameters.get("options", ""), arguments.get("options", "")]
        self._parameters.setdefault("target_session_attrs", "read-write")
        self._parameters |= arguments
        if any(options):
            self._parameters["options"] = " ".join(filter(None, options))
        self._hosts = _hosts_of(self._parameters)
        self._timeout_seconds = timeout_seconds
        self._answer_seconds = answer_seconds
        self._has_pooler = has_pooler
        self._lock = threading.Lock()
        self._silent_until: dict[tuple[str, int], float] = {}

    def connect(self, **further: Any) -> ServerConnection:
        """Open a connection to the first host that takes it.

        Raises:
            psycopg.OperationalError: none does.
        """
        connection = ServerConnection.connect(**{**self._parameters, **self._addresses(), **further})
        connection.server = self
        connection.answer_seconds = self._answer_seconds
        if self._hosts:
            self._prefer(connection.info.host, connection.info.port)
        return connection

    def works_for(self, connection: psycopg.Connection[Any]) -> bool:
        """Ask the server that a connection leads to whether it still works on what was sent on it."""
        address = (connection.info.host, connection.info.port)
        with self._lock:
            if time.monotonic() < self._silent_until.get(address, 0.0):
                return False
            try:
                return self._ask(connection)
            except psycopg.Error as error:
                if error.sqlstate is not None and error.sqlstate.startswith("53"):
                    # It has no room for one more connection, but it answers.
                    return True
                self._silent_until[address] = time.monotonic() + SILENCE_GOOD_FOR_SECONDS
                return False

    def _ask(self, connection: psycopg.Connection[Any]) -> bool:
        info = connection.info
        where: dict[str, Any] = {"host": info.host, "port": info.port, "hostaddr": info.hostaddr or None}
        asked = {**self._parameters, **where, "target_session_attrs": "any", "autocommit": True}
        with _Probe.connect(**asked) as probe:
            probe.timeout_seconds = self._timeout_seconds
            # A pooler that lets one in lives; what is behind it may be busy with others.
            return self._has_pooler or probe.execute(_IS_AT_WORK, [info.backend_pid]).rowcount > 0

    def _addresses(self) -> dict[str, str]:
        if not self._hosts:
            return {}
        hosts, ports = zip(*self._hosts, strict=True)
        return {"host": ",".join(hosts), "port": ",".join(ports)}

    def _prefer(self, host: str, port: int) -> None:
        """A host that hangs costs each new connection a time-out: it is asked after the one that was good."""
        good = (host, str(port))
        if good in self._hosts and self._hosts[0] != good:
            self._hosts = [good, *(other for other in self._hosts if other != good)]


class _Probe(psycopg.Connection[Any]):
    """A connection to a server that is doubted."""

    timeout_seconds = 3.0

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait no longer than the time-out."""
        return super().wait(gen, interval, self.timeout_seconds if timeout is None else timeout)


class ServerConnection(psycopg.Connection[Any]):
    """A connection whose every wait has an end.

    Attributes:
        server: where it leads to; None while it is being opened.
        answer_seconds: when the server ends a statement of this session by itself.
        generation: what its `Database` was at when it was opened: one of before is replaced.
    """

    server: Server | None = None
    answer_seconds = 0.0
    generation = 0

    @cached_property
    def prepared(self) -> set[bytes]:
        """The names of the statements that `PreparedStatement` has prepared in the session."""
        return set()

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for an answer, and doubt a server that takes long.

        Raises:
            psycopg.OperationalError: the server does not work on it; the connection is closed.
        """
        if timeout is not None or self.server is None:
            return super().wait(gen, interval, timeout)
        began = 0.0
        while True:
            try:
                return super().wait(gen, interval, DOUBT_SECONDS)
            except errors._WaitTimeout:  # noqa: SLF001  (its only name)
                began = began or time.monotonic() - DOUBT_SECONDS
                self._doubt(self.server, began)

    def _doubt(self, server: Server, began: float) -> None:
        in_time = time.monotonic() - began < self.answer_seconds + MARGIN_SECONDS
        if in_time and server.works_for(self):
            return
        self.pgconn.finish()
        raise psycopg.OperationalError(
            f"no answer for {time.monotonic() - began:.0f} s, and nobody works on one"
        )


def _hosts_of(parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The (host, port) pairs of a URL with several hosts; one port may stand for all. Else nothing."""
    hosts = str(parameters.get("host") or "").split(",")
    ports = str(parameters.get("port") or "5432").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    if len(hosts) == 1 or len(hosts) != len(ports) or parameters.get("hostaddr"):
        return []
    return [(host, port or "5432") for host, port in zip(hosts, ports, strict=True)]
