"""Pushes that nobody waits for: sent on connections of their own, answered later."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import redis

from goqueue.engine.runway.messages import Message, Pushed
from goqueue.engine.runway.servers import RedisServers, translated
from goqueue.errors import RedisUnavailableError

PUSH_SCRIPT = resources.files("goqueue.engine.runway").joinpath("push.lua").read_text("utf-8")

#: What Redis calls the script.
PUSH_NAME = hashlib.sha1(PUSH_SCRIPT.encode(), usedforsecurity=False).hexdigest()

#: The most messages of one call: the script runs alone in Redis, so it must be over quickly.
PUSH_CHUNK = 1000


class PushConnection:
    """Connections of its own, one a server, on which pushes are sent, and answered in their order.

    Not thread-safe. Every method raises RedisUnavailableError when a connection is broken, or Redis refuses.
    """

    def __init__(self, servers: RedisServers, keys: Callable[[str], list[str]], default_limit: int) -> None:
        self._servers = servers
        self._keys = keys
        self._default_limit = default_limit
        self._closed = False
        self._connections: dict[redis.Redis, Any] = {}
        self._outstanding: deque[Any] = deque()

    def is_open_to(self, queue: str) -> bool:
        """Tell whether a submit to this queue can be sent without waiting for a connection."""
        server = self._servers.known(self._keys(queue)[0])
        return server is not None and server in self._connections

    def open(self, queue: str) -> None:
        """Connect to the server of a queue."""
        with translated(self._servers):
            self._connection_to(self._servers.holding(self._keys(queue)[0]))
        if self._closed:
            # Somebody gave it up meanwhile.
            self.close()

    def send(self, queue: str, messages: Sequence[Message]) -> None:
        """Send a submit of these messages."""
        if self._closed:
            # redis-py would connect again by itself.
            raise RedisUnavailableError("Redis: the connection is closed")
        with translated(self._servers):
            keys = self._keys(queue)
            connection = self._connection_to(self._servers.holding(keys[0]))
            connection.send_command(
                "EVALSHA",
                PUSH_NAME,
                len(keys),
                *keys,
                "submit",
                self._default_limit,
                "",
                "",
                *(message.key for message in messages[:PUSH_CHUNK]),
                check_health=False,
            )
        self._outstanding.append(connection)

    def has_answer(self) -> bool:
        """Tell whether the answer of the oldest unanswered push can be read without waiting."""
        with translated(self._servers):
            return bool(self._outstanding[0].can_read(timeout=0))

    def read_answer(self) -> Pushed:
        """The answer of the oldest unanswered push."""
        with translated(self._servers):
            return Pushed(*self._outstanding.popleft().read_response())

    def close(self) -> None:
        """Close it for good; what was sent may or may not have been done."""
        self._closed = True
        for connection in list(self._connections.values()):
            connection.disconnect()

    def _connection_to(self, server: redis.Redis) -> Any:
        """The connection to a server, which has been given the script."""
        if server not in self._connections:
            connection: Any = server.connection_pool.make_connection()
            connection.connect()
            connection.send_command("SCRIPT", "LOAD", PUSH_SCRIPT)
            connection.read_response()
            self._connections[server] = connection
        return self._connections[server]
