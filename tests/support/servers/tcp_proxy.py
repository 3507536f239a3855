"""A TCP proxy before Redis that refuses, or loses answers after the server did what was asked, on purpose."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress

HOST = "127.0.0.1"
CHUNK = 65536

#: What means that the command did nothing: a fetch that found nothing, an error.
NOTHING_DONE = (b"*-1\r\n", b"_\r\n", b"$-1\r\n", b"-")

#: Where a command begins in what a client sends.
COMMAND = re.compile(rb"(?:\A|(?<=\r\n))\*\d+\r\n\$")


class TcpProxy:
    """Passes bytes between its port and the server's; `cut`, `refuse` and `black_hole` are its faults."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server((HOST, 0))
        self._lock = threading.Lock()
        self._cuts: dict[bytes, int] = {}
        self._cut_done: dict[bytes, int] = {}
        self._refusal = b""
        self._open = threading.Event()
        self._open.set()
        self._links: set[_Link] = set()
        self._thread = threading.Thread(target=self._accept, name="tcp-proxy", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return int(self._listener.getsockname()[1])

    def cut(self, command: str, times: int = 1) -> None:
        """Lose the answers of the next so many commands of this name, and their connections with them."""
        with self._lock:
            self._cuts[command.encode()] = times

    def cuts_done(self, command: str) -> int:
        """Count the answers of this command that were lost so far."""
        with self._lock:
            return self._cut_done.get(command.encode(), 0)

    def refuse(self, error: str) -> None:
        """Answer every command with this error from now on; the server hears of none."""
        self._refusal = f"-{error}\r\n".encode()

    def lead_to(self, server_port: int) -> None:
        """Lead new connections to another server; those that are open stay where they are."""
        self._server_port = server_port

    def black_hole(self) -> None:
        """Pass nothing from now on, in neither direction; connections stay open."""
        self._open.clear()

    def heal(self) -> None:
        """Pass everything again; what was held back arrives."""
        with self._lock:
            self._cuts.clear()
        self._refusal = b""
        self._open.set()

    def close(self) -> None:
        """Close every connection and stop listening."""
        self._open.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        for link in list(self._links):
            link.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((HOST, self._server_port), timeout=2)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            link = _Link(self, client, server)
            self._links.add(link)
            link.start()

    def wanted(self, request: bytes) -> bytes | None:
        """The command of this request whose answer is to be lost, if any."""
        with self._lock:
            return next((name for name, left in self._cuts.items() if left and _names(request, name)), None)

    def refusal_of(self, request: bytes) -> bytes:
        """The answers to the commands of this request while all are refused; else empty."""
        return self._refusal * len(COMMAND.findall(request)) if self._refusal else b""

    def take_cut(self, command: bytes) -> bool:
        """Tell whether this answer is one of those to be lost."""
        with self._lock:
            left = self._cuts.get(command, 0)
            if left:
                self._cuts[command] = left - 1
                self._cut_done[command] = self._cut_done.get(command, 0) + 1
            return left > 0

    def wait_until_open(self) -> None:
        """Wait for the end of the black hole."""
        self._open.wait()

    def forget(self, link: _Link) -> None:
        """A connection is gone."""
        self._links.discard(link)


class _Link:
    """One client's connection and its connection to the server."""

    def __init__(self, proxy: TcpProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._doomed: bytes | None = None

    def start(self) -> None:
        for target in (self._pass_requests, self._pass_answers):
            threading.Thread(target=target, name="tcp-proxy-link", daemon=True).start()

    def close(self) -> None:
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _pass_requests(self) -> None:
        with suppress(OSError):
            while data := self._client.recv(CHUNK):
                self._proxy.wait_until_open()
                if refusal := self._proxy.refusal_of(data):
                    self._client.sendall(refusal)
                    continue
                self._doomed = self._proxy.wanted(data) or self._doomed
                self._server.sendall(data)
        self._end(self._client)

    def _pass_answers(self) -> None:
        with suppress(OSError):
            while data := self._server.recv(CHUNK):
                self._proxy.wait_until_open()
                doomed = self._doomed
                if doomed and not data.startswith(NOTHING_DONE) and self._proxy.take_cut(doomed):
                    break
                self._doomed = None
                self._client.sendall(data)
        self._end(self._server)

    def _end(self, own: socket.socket) -> None:
        """Both directions end together; each closes the end that only it reads."""
        self.close()
        own.close()
        self._proxy.forget(self)


def _names(request: bytes, command: bytes) -> bool:
    return b"\r\n" + command + b"\r\n" in request
