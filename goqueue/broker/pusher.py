"""The pusher: pushes what was just committed without waiting for Redis's answer.

A push that waits costs a client more than a third of its INSERT. So the command is sent, and its answer read
before a later one is sent. A push whose answer says no, or whose connection broke, needs nothing more: the
dispatcher pushes every row that nobody pushed.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Sequence

import redis
import structlog

from goqueue import failpoints
from goqueue.broker.runway import Message, PushConnection, Runway
from goqueue.errors import RedisUnavailableError
from goqueue.forks import call_in_children

log = structlog.get_logger(__name__)

#: Answers that may be outstanding; one more is waited for.
OUTSTANDING_MAX = 64

#: A queue whose gate was found closed is left to the dispatcher for so long.
REFUSED_SECONDS = 0.02

#: After Redis did not take a push, none is tried for so long: clients must not pay for its outage.
OUTAGE_SECONDS = 0.5


class Pusher:
    """Sends pushes and reads their answers later. Thread-safe, and safe to use after a fork."""

    def __init__(self, runway: Runway) -> None:
        self._runway = runway
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._connection: PushConnection | None = None
        self._outstanding: deque[str] = deque()
        self._silent_until = 0.0
        self._refused_until: dict[str, float] = {}
        call_in_children(self._begin_in_child)

    def put(self, queue: str, messages: Sequence[Message]) -> None:
        """Push these; never raises, and blocks no longer than Redis's time-out, once an outage."""
        now = time.monotonic()
        if now < self._silent_until or now < self._refused_until.get(queue, 0.0):
            return
        with self._lock:
            try:
                self._read_answers(wait=len(self._outstanding) >= OUTSTANDING_MAX)
                self._send(queue, messages)
            except (redis.RedisError, RedisUnavailableError) as error:
                self._disconnect()
                self._silent_until = time.monotonic() + OUTAGE_SECONDS
                log.warning("push_postponed", queue=queue, jobs=len(messages), error=str(error))
        failpoints.hit("after_push")

    def flush(self) -> None:
        """Read the answers of all pushes so far."""
        with self._lock:
            try:
                self._read_answers(wait=True)
            except (redis.RedisError, RedisUnavailableError):
                self._disconnect()

    def _begin_in_child(self) -> None:
        """A thread that the child does not have may have held the lock."""
        self._lock = threading.Lock()

    def _send(self, queue: str, messages: Sequence[Message]) -> None:
        if self._connection is None or self._process != os.getpid():
            # A forked child shares its parent's socket: it must open its own.
            self._outstanding.clear()
            self._process = os.getpid()
            self._connection = self._runway.push_connection()
        self._connection.send(queue, messages)
        self._outstanding.append(queue)

    def _read_answers(self, *, wait: bool) -> None:
        while self._outstanding and self._connection is not None and self._process == os.getpid():
            if not wait and not self._connection.has_answer():
                return
            pushed = self._connection.read_answer()
            queue = self._outstanding.popleft()
            if pushed.added == 0:
                self._refused_until[queue] = time.monotonic() + REFUSED_SECONDS
            if pushed.closed:
                self._runway.wake_dispatcher()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._outstanding.clear()
