"""Outgoing HTTP from the event loop: calls that may take a quarter of an hour and hold no thread meanwhile.

The same rules as those of `outgoing.py`: only addresses that were checked are connected to, no redirects, no
cookies, no proxies, and nothing that is raised contains a URL, a host name, a header or a body.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import httpcore
import httpx

from goqueue.actors.checked_connections import AddressRefusedError
from goqueue.actors.outgoing import (
    CallFailedError,
    HttpAnswer,
    described,
    tls_context,
    what_failed,
)
from goqueue.observability import tracing
from goqueue.observability.tracing.context import current_traceparent
from goqueue.webhooks.addresses import NUMERIC_HOST, IPAddress, allow_global, is_address

__all__ = ["call"]

CONNECT_SECONDS = 10.0
WRITE_SECONDS = 60.0

#: So long after the last byte the kernel asks whether the other side is there: middleboxes forget idle ones.
PROBE_SECONDS = 60

Allow = Callable[[IPAddress], bool] | None


async def call(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    content: bytes,
    timeout_seconds: float,
    answer_max_bytes: int,
    allow_networks: tuple[str, ...] | None,
) -> HttpAnswer:
    """Send one request and read its answer, all within `timeout_seconds`; of the body so many bytes at most.

    Raises:
        AddressRefusedError: nothing was sent; the host has an address that is not allowed.
        CallFailedError: no complete answer came: no connection, no verified TLS, no time left.
    """
    timeouts = {"connect": CONNECT_SECONDS, "write": WRITE_SECONDS, "read": None, "pool": None}
    request = httpx.Request(method, url, headers=headers, content=content, extensions={"timeout": timeouts})
    with tracing.calling(method, described(request)) as span:
        traceparent = current_traceparent()
        if traceparent is not None:
            request.headers.setdefault("traceparent", traceparent)
        try:
            async with asyncio.timeout(timeout_seconds):
                answer = await _send(request, answer_max_bytes, allow_networks)
        except (TimeoutError, httpx.TimeoutException):
            raise CallFailedError(f"no complete answer within {timeout_seconds:g} s") from None
        except httpx.TransportError as error:
            raise CallFailedError(what_failed(error)) from None
        tracing.tell_http_status(span, answer.status)
        return answer


async def _send(request: httpx.Request, most: int, allow_networks: tuple[str, ...] | None) -> HttpAnswer:
    """Send a request over a connection of its own: a kept one would outlive its loop."""
    allow = None if allow_networks is None else allow_global(allow_networks)
    async with _AsyncTransport(_tls(), _AsyncCheckedBackend(allow)) as transport:
        response = await transport.handle_async_request(request)
        try:
            return HttpAnswer(response.status_code, response.headers, await _read(response.aiter_raw(), most))
        finally:
            await response.aclose()


async def _read(chunks: AsyncIterator[bytes], most: int) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) >= most:
            break
    return bytes(body[:most])


class _AsyncCheckedBackend(httpcore.AsyncNetworkBackend):
    """Resolves once, checks every address, and connects to one of those: see `CheckedBackend`."""

    def __init__(self, allow: Allow) -> None:
        self._allow = allow
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  (the signature of httpcore)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers; each gets an equal share of the time."""
        addresses = await self._checked_addresses(host)
        options = [*(socket_options or ()), *_kept_alive()]
        for left in range(len(addresses), 0, -1):
            share = (timeout or CONNECT_SECONDS) / len(addresses)
            try:
                return await self._inner.connect_tcp(addresses[-left], port, share, local_address, options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if left == 1:
                    raise
        raise httpcore.ConnectError("the host name has no address")

    async def sleep(self, seconds: float) -> None:
        """Wait between attempts."""
        await asyncio.sleep(seconds)

    async def _checked_addresses(self, host: str) -> list[str]:
        addresses = [host] if is_address(host) else await _resolved(host)
        if self._allow and not all(self._allow(ipaddress.ip_address(address)) for address in addresses):
            raise AddressRefusedError
        return addresses


async def _resolved(host: str) -> list[str]:
    if NUMERIC_HOST.search(host):
        raise AddressRefusedError("the host is an IP address in an unusual notation")
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise httpcore.ConnectTimeout("the host name was not resolved in time") from None
    except (OSError, UnicodeError):
        raise httpcore.ConnectError("the host name was not resolved") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _kept_alive() -> list[tuple[int, int, int]]:
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    if sys.platform == "linux":
        options.append((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_SECONDS))
    return options


class _AsyncTransport(httpx.AsyncHTTPTransport):
    """httpx's transport over a pool with our network backend, which its constructor cannot be given."""

    def __init__(self, tls: ssl.SSLContext, backend: httpcore.AsyncNetworkBackend) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=1,
            max_keepalive_connections=0,
            network_backend=backend,
        )


@functools.cache
def _tls() -> ssl.SSLContext:
    """The context of this process: reading the certificates takes longer than a call."""
    return tls_context()
