"""Connections to addresses that were checked, with one deadline for everything that happens on them.

`deadline(seconds)` opens the time of one call in this thread; every resolving, connecting, reading and
writing inside it ends when that time is over.
"""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import httpcore

from goqueue.errors import GoQueueError
from goqueue.webhooks.addresses import NUMERIC_HOST, IPAddress, is_address, look_up

if TYPE_CHECKING:
    import ssl

Resolver = Callable[[str], list[str]]

_deadline: ContextVar[float] = ContextVar("deadline")


class AddressRefusedError(GoQueueError):
    """The address is not one that may be called."""


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """The time of one call: `seconds` from now, for this thread."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def resolve_host(host: str) -> list[str]:
    """The addresses of a host name, within the time that the call has left."""
    try:
        return look_up(host, _seconds_left())
    except TimeoutError:
        raise httpcore.ConnectTimeout("the host name was not resolved in time") from None
    except (OSError, UnicodeError):
        raise httpcore.ConnectError("the host name was not resolved") from None


class CheckedBackend(httpcore.NetworkBackend):
    """Resolves once, checks every address, and connects to exactly the addresses that it checked.

    A check before the call would be undone by DNS rebinding: the name may resolve to something else at the
    connect. TLS is not affected: httpcore verifies the certificate against the host name of the URL.
    """

    def __init__(self, allow: Callable[[IPAddress], bool] | None, resolve: Resolver) -> None:
        self._allow = allow
        self._resolve = resolve
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002  (the deadline of the call is shorter)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection to the first address that answers; each gets an equal share of the time left."""
        addresses = self._checked_addresses(host)
        for tries_left in range(len(addresses), 0, -1):
            address, share = addresses[-tries_left], _seconds_left() / tries_left
            try:
                return _DeadlineStream(
                    self._inner.connect_tcp(address, port, share, local_address, socket_options)
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if tries_left == 1:
                    raise
        raise httpcore.ConnectError("the host name has no address")

    def _checked_addresses(self, host: str) -> list[str]:
        addresses = [host] if is_address(host) else self._resolve_name(host)
        if self._allow and not all(self._allow(ipaddress.ip_address(address)) for address in addresses):
            raise AddressRefusedError
        return addresses

    def _resolve_name(self, host: str) -> list[str]:
        if NUMERIC_HOST.search(host):
            raise AddressRefusedError("the host is an IP address in an unusual notation")
        return self._resolve(host)


class _DeadlineStream(httpcore.NetworkStream):
    """A stream whose every step ends at the deadline of the call that uses it, however slowly bytes come."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._inner.read(max_bytes, _seconds_left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        # httpcore gives every partial send the whole time-out again: a slow reader could stretch it.
        connection, rest = self._inner.get_extra_info("socket"), memoryview(buffer)
        try:
            while rest:
                connection.settimeout(_seconds_left())
                rest = rest[connection.send(rest) :]
        except TimeoutError:
            raise httpcore.WriteTimeout from None
        except OSError as error:
            raise httpcore.WriteError from error

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        return _DeadlineStream(self._inner.start_tls(ssl_context, server_hostname, _seconds_left()))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

    def close(self) -> None:
        self._inner.close()


def _seconds_left() -> float:
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the time of the call is over")
    return left
