"""A TCP proxy before Redis that loses answers: it forwards a command, then closes instead of answering."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

#: Answers to a fetch that say "nothing there": losing them would lose nothing.
EMPTY_ANSWERS = (b"*0\r\n", b"*-1\r\n", b"$-1\r\n", b"_\r\n")


class RedisProxy:
    """Forwards every connection to a port of this machine, until it is told to harm one."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._cuts: dict[bytes, tuple[bytes, ...]] = {}
        self._down = False
        self.cut = 0
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.go_down()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        """The URL of database 0 through this proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    def cut_answer(self, command: bytes, *, spare: tuple[bytes, ...] = ()) -> None:
        """Lose the next answer to a request that contains these bytes; it is counted in `cut`.

        Errors are spared (such as that a script is not loaded yet: then nothing was done), and what else is
        told.
        """
        with self._lock:
            self._cuts[command] = spare

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
        with self._lock:
            if command not in self._cuts or answer.startswith(b"-") or answer in self._cuts[command]:
                return False
            del self._cuts[command]
            self.cut += 1
            return True

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
