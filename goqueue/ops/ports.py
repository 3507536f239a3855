"""TCP ports of this machine: one that is free, and whether one can be listened on."""

from __future__ import annotations

import socket

from goqueue.errors import StartupError

#: What servers for one developer's machine listen on.
HOST = "127.0.0.1"


def free_port() -> int:
    """Return a TCP port of the loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def refuse_taken_port(name: str, port: int, host: str = HOST) -> None:
    """Look whether `name` could listen there.

    Raises:
        StartupError: it could not; one line that says why.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise StartupError(f"{name} cannot use port {port}: {error.strerror}") from error
