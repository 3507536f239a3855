"""A TCP proxy before Redis that loses answers: it forwards a command, then closes instead of answering."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

#: Answers that say "nothing there": losing them would lose nothing.
EMPTY_ANSWERS = (b"*0\r\n", b"*-1\r\n", b"$-1\r\n", b"_\r\n")


class RedisProxy:
    """Forwards every connection to a port of this machine, until it is told to harm one."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._cuts: dict[bytes, int] = {}
        self._down = False
        self.cut = 0
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.go_down()

    @property
    def url(self) -> str:
        """The URL of database 0 through this proxy."""
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def cut_answers(self, command: bytes, times: int = 1) -> None:
        """Lose the next answers to requests that contain these bytes, except empty ones; `cut` counts them."""
        with self._lock:
            self._cuts[command] = times

    def go_down(self) -> None:
        """Close every connection, and each new one at once: Redis is not there, but keeps what it has."""
        with self._lock:
            self._down = True
            opened, self._open = self._open, set()
        for end in opened:
            _close(end)

    def come_back(self) -> None:
        """Forward again."""
        with self._lock:
            self._down = False

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                down = self._down
            if down:
                _close(client)
            else:
                self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self._target_port))
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open |= {client, server}
        link = _Link(client, server)
        for pump in (self._forward_requests, self._forward_answers):
            threading.Thread(target=pump, args=(link,), name="proxy-link", daemon=True).start()

    def _forward_requests(self, link: _Link) -> None:
        while request := _receive(link.client):
            with self._lock:
                # The commands of these tests fit into one segment, and their answers are awaited in turn.
                link.marked = next((command for command in self._cuts if command in request), None)
            if not _send(link.server, request):
                break
        self._end(link)

    def _forward_answers(self, link: _Link) -> None:
        while answer := _receive(link.server):
            if self._is_lost(link.marked, answer) or not _send(link.client, answer):
                break
        self._end(link)

    def _is_lost(self, command: bytes | None, answer: bytes) -> bool:
        if command is None or answer in EMPTY_ANSWERS:
            return False
        with self._lock:
            left = self._cuts.pop(command, 0)
            if left > 1:
                self._cuts[command] = left - 1
            self.cut += left > 0
            return left > 0

    def _end(self, link: _Link) -> None:
        with self._lock:
            self._open -= {link.client, link.server}
        _close(link.client)
        _close(link.server)


class _Link:
    """One forwarded connection, and the harmful command that its last request contained."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.marked: bytes | None = None


def _receive(end: socket.socket) -> bytes:
    try:
        return end.recv(65536)
    except OSError:
        return b""


def _send(end: socket.socket, data: bytes) -> bool:
    try:
        end.sendall(data)
    except OSError:
        return False
    return True


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
