"""The pusher: pushes what was just committed without waiting for Redis's answer.

A push that waits costs a client more than a third of its INSERT. So the command is sent, and its answer read
before a later one is sent. A push whose answer says no, or whose connection broke, needs nothing more: the
dispatcher pushes every row that nobody pushed. For the same reason nobody waits for a Redis that hangs: a
connection is opened by a thread of its own, and while answers are late nothing is sent.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from goqueue import failpoints
from goqueue.engine.runway.runway import Message, PushConnection, Runway
from goqueue.errors import RedisUnavailableError

log = structlog.get_logger(__name__)

#: Answers that may be outstanding; what comes then is left to the dispatcher.
OUTSTANDING_MAX = 256

#: An answer that is outstanding for longer is not coming.
LATE_SECONDS = 0.5

#: How long a client waits for a new connection, and for another client's push.
PATIENCE_SECONDS = 0.1

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
        # The queue of each push without an answer, and when it was sent.
        self._outstanding: deque[tuple[str, float]] = deque()
        self._opening: threading.Thread | None = None
        self._waking: threading.Thread | None = None
        self._silent_until = 0.0
        self._refused_until: dict[str, float] = {}

    def put(self, queue: str, messages: Sequence[Message]) -> None:
        """Push these; never raises, and hardly waits: what cannot be sent now is left to the dispatcher."""
        now = time.monotonic()
        if now < self._silent_until or now < self._refused_until.get(queue, 0.0):
            return
        self._begin_anew_after_fork()
        if not self._lock.acquire(timeout=PATIENCE_SECONDS):
            return
        try:
            self._put(queue, messages)
        except RedisUnavailableError as error:
            self._fall_silent(error)
        finally:
            self._lock.release()
        failpoints.hit("after_push")

    def flush(self) -> None:
        """Read the answers of all pushes so far."""
        with self._lock:
            try:
                self._read_answers(wait=True)
            except RedisUnavailableError:
                self._disconnect()
        if self._waking is not None:
            self._waking.join()

    def _put(self, queue: str, messages: Sequence[Message]) -> None:
        connection = self._open_connection(queue)
        if connection is None:
            return
        self._read_answers(wait=False)
        if self._outstanding and time.monotonic() - self._outstanding[0][1] > LATE_SECONDS:
            raise RedisUnavailableError("Redis: an answer is late")
        if len(self._outstanding) < OUTSTANDING_MAX:
            connection.send(queue, messages)
            self._outstanding.append((queue, time.monotonic()))

    def _open_connection(self, queue: str) -> PushConnection | None:
        """The connection, when it leads to the queue's server; None while it is being opened."""
        if self._connection is None:
            self._connection = self._runway.push_connection()
        if self._connection.is_open_to(queue):
            return self._connection
        if self._opening is None or not self._opening.is_alive():
            self._opening = _start(self._open, self._connection, queue)
        self._opening.join(PATIENCE_SECONDS)
        if self._opening.is_alive():
            raise RedisUnavailableError("Redis: a connection takes long")
        if self._connection is None or not self._connection.is_open_to(queue):
            raise RedisUnavailableError
        return self._connection

    @staticmethod
    def _open(connection: PushConnection, queue: str) -> None:
        try:
            connection.open(queue)
        except RedisUnavailableError as error:
            log.debug("push_connection_not_opened", queue=queue, error=str(error))

    def _begin_anew_after_fork(self) -> None:
        """A forked child shares its parent's socket, and perhaps its held lock: it must open its own."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._lock = threading.Lock()
            self._connection = None
            self._opening = self._waking = None
            self._outstanding = deque()

    def _read_answers(self, *, wait: bool) -> None:
        while self._outstanding and self._connection is not None and self._process == os.getpid():
            if not wait and not self._connection.has_answer():
                return
            pushed = self._connection.read_answer()
            queue, _ = self._outstanding.popleft()
            if pushed.added == 0:
                self._refused_until[queue] = time.monotonic() + REFUSED_SECONDS
            if pushed.closed:
                self.wake_dispatcher()

    def wake_dispatcher(self) -> None:
        """Tell the dispatcher that there is something to push; never raises, and never waits."""
        if self._waking is None or not self._waking.is_alive():
            self._waking = _start(self._wake_dispatcher)

    def _wake_dispatcher(self) -> None:
        """Best effort: it looks by itself every moment."""
        try:
            self._runway.wake_dispatcher()
        except RedisUnavailableError as error:
            log.debug("dispatcher_not_woken", error=str(error))

    def _fall_silent(self, error: Exception) -> None:
        self._disconnect()
        self._silent_until = time.monotonic() + OUTAGE_SECONDS
        log.warning("push_postponed", error=str(error))

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._outstanding.clear()


def _start(target: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, name="pusher", daemon=True)
    thread.start()
    return thread
