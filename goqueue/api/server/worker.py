"""gunicorn's worker class of the API; `gunicorn -k` takes it by the name of this module and its own.

gunicorn's own `gthread` gives a thread to a connection as soon as its first byte has come: as many half
requests as there are threads, and nobody else is answered. Here a thread gets a request when it is whole.
"""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import structlog
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from goqueue.api.frame.held_requests import AnswerStream
from goqueue.api.server.answering import answer
from goqueue.api.server.connection import BodyLimit, Connection, Limits
from goqueue.api.server.held import KeptRequest, KeptStream
from goqueue.api.server.loop import ConnectionLoop
from goqueue.api.server.thread_pools import ThreadPools
from goqueue.config.settings import Settings, get_settings

log = structlog.get_logger(__name__)

#: A stopping process keeps idle connections so long: a client may be sending its next request.
LINGER_SECONDS = 2.0
#: Files of a process besides its clients' connections: PostgreSQL's, Redis's, logs, metrics.
OTHER_FILES = 256


class BufferingWorker(Worker):
    """One loop for all connections, and `threads` threads that answer whole requests.

    An application over several databases has a method `pool_of`, of a path, and so many threads for each.
    """

    @classmethod
    def check_config(cls, config: Config, _log: Logger) -> None:
        """Refuse what it cannot do.

        Raises:
            RuntimeError: TLS is asked for.
        """
        if config.is_ssl:
            raise RuntimeError("GoQueue's API speaks no TLS itself: put a proxy before it")

    def init_process(self) -> None:
        """Make the loop before gunicorn installs the handlers of signals, which wake it."""
        read_once(self.cfg)
        self._pools = ThreadPools(self.cfg.threads, self._serve_one)
        limits = limits_of(get_settings(), self.cfg)
        self._loop = ConnectionLoop(self.sockets, self.cfg, limits, self._body_limit, self._hand_over)
        super().init_process()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop, as gunicorn does, and wake the loop for it."""
        super().handle_exit(sig, frame)
        self._loop.defer(bool)

    def run(self) -> None:
        """Serve until the process is told to stop, then answer what has begun."""
        # What the imports made lives as long as the process: no collection in a large request has to walk it.
        gc.collect()
        gc.freeze()
        while self.alive and self.ppid == os.getppid():
            self.notify()
            self._loop.turn(1.0)
        self.alive = False
        self._loop.refuse_new(LINGER_SECONDS)
        latest = time.monotonic() + self.cfg.graceful_timeout
        while len(self._loop) and time.monotonic() < latest:
            self.notify()
            self._loop.turn(0.1)
        for listener in self.sockets:
            listener.close()

    def _body_limit(self, method: str, path: str, authorization: str) -> int:
        body_limit: BodyLimit | None = getattr(self.wsgi, "body_limit", None)
        if body_limit is None:
            return get_settings().batch_max_bytes
        return body_limit(method, path, authorization)

    def _hand_over(self, connection: Connection) -> None:
        """Give a whole request to a thread of the pool that its application has for the path."""
        pool_of: Callable[[str], str] | None = getattr(self.wsgi, "pool_of", None)
        request = connection.request
        self._pools.put("" if pool_of is None or request is None else pool_of(request.path), connection)

    def _serve_one(self, connection: Connection) -> None:
        kept = connection.kept
        if kept is None:
            kept = connection.kept = KeptRequest(self._loop.may_keep)
            self.nr += 1
        if self.nr >= self.max_requests:
            self.alive = False
        may_stay = self.alive and bool(self.cfg.keepalive)
        data, connection.stays, is_chunked = answer(self.wsgi, connection, self.cfg, kept, may_stay=may_stay)
        if kept.watch is not None:
            self._loop.defer(partial(self._loop.hold, connection))
        elif kept.opened is not None:
            self._open_stream(connection, kept.opened, data, is_chunked=is_chunked)
        else:
            self._send(connection, data)

    def _send(self, connection: Connection, data: bytes) -> None:
        try:
            # The kernel takes almost every answer as a whole.
            sent = connection.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            connection.is_at_end = True
            sent = len(data)
        if sent < len(data):
            connection.outgoing = memoryview(data)[sent:]
            self._loop.defer(partial(self._loop.write, connection))
        elif not connection.stays:
            self._loop.defer(partial(self._loop.end, connection))
        else:
            connection.next_request(time.monotonic())
            # In this order: the loop, which appended while we answered, looks at the stage afterwards.
            if connection.received or connection.is_at_end or not self.alive:
                self._loop.defer(partial(self._loop.resume, connection))

    def _open_stream(
        self,
        connection: Connection,
        opened: Callable[[AnswerStream], object],
        head: bytes,
        *,
        is_chunked: bool,
    ) -> None:
        stream = KeptStream(self._loop, connection, is_chunked=is_chunked)
        # The loop is told of the stream first, and of what is sent on it afterwards.
        self._loop.defer(partial(self._loop.stream, connection, stream, head))
        try:
            opened(stream)
        except Exception:
            log.exception("request_failed_outside_the_application")
            stream.end()


def read_once(config: Config) -> None:
    """Keep the values of all settings where Python finds them by itself.

    gunicorn looks each up by a method, and asks for about twenty of them with every request.
    """
    vars(config).update({name: setting.get() for name, setting in config.settings.items()})


def limits_of(settings: Settings, config: Any) -> Limits:
    """Return the limits of the settings, with no more connections than the process may open files."""
    most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.api_connections_max + OTHER_FILES
    if most < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return Limits(
        head_seconds=settings.api_head_seconds,
        body_seconds=settings.api_body_seconds,
        write_seconds=settings.api_write_seconds,
        idle_seconds=float(config.keepalive),
        connections=max(1, min(settings.api_connections_max, most - OTHER_FILES)),
        buffered_bytes=settings.api_buffer_max_bytes,
        kept=settings.api_streams_max,
    )
