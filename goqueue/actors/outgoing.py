"""Outgoing HTTP: one call within a total time, over connections only to addresses that were checked.

Built on httpx's transport instead of its client, because a client that is shared between jobs logs every
URL, keeps the cookies of one receiver for the next job, and reads proxies and `.netrc` from the environment.
Nothing that this module raises contains a URL, a host name, a header or a body.
"""

from __future__ import annotations

import contextlib
import email.utils
import ssl
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpcore
import httpx

from goqueue.actors.checked_connections import (
    CheckedBackend,
    Resolver,
    deadline,
    resolve_host,
)
from goqueue.errors import Discard, GoQueueError, RetryAfter
from goqueue.observability import tracing
from goqueue.observability.tracing.context import current_traceparent
from goqueue.webhooks.addresses import IPAddress, allow_global

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ANSWER_MAX_BYTES = 64 * 1024
RETRIED_STATUSES = frozenset({408, 425, 429})  # besides 5xx
# Below the 5 s after which common servers drop an idle connection: a POST that races with that drop is lost.
KEEPALIVE_SECONDS = 2.0
KEEPALIVE_CONNECTIONS = 64
DEFAULT_PORTS = {"http": 80, "https": 443}


class CallFailedError(GoQueueError):
    """The call did not succeed; whether it had an effect is unknown, and a repeat may succeed."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """The answer of a server to one call.

    Attributes:
        body: at most the first `ANSWER_MAX_BYTES` bytes, as they came.
    """

    status: int
    headers: httpx.Headers
    body: bytes


class HttpCaller:
    """Makes HTTP/1.1 calls from any number of threads over kept connections. Follows no redirects.

    Args:
        tls: verifies the certificates of https servers, against the host name of the URL.
        allow: says of an address whether it may be connected to; None allows every one.
        resolve: gives the addresses of a host name, within the time that the call has left.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        allow: Callable[[IPAddress], bool] | None = None,
        resolve: Resolver | None = None,
    ) -> None:
        self._transport = _Transport(tls, CheckedBackend(allow, resolve or resolve_host))

    def call(
        self, method: str, url: str, *, headers: Mapping[str, str], content: bytes, timeout_seconds: float
    ) -> HttpAnswer:
        """Send one request and read its answer, all within `timeout_seconds`.

        The trace that the calling code is in goes along as `traceparent`, unless the headers name one.

        Raises:
            AddressRefusedError: nothing was sent; the host has an address that is not allowed.
            CallFailedError: no complete answer came: no connection, no verified TLS, no time left.
        """
        request = httpx.Request(
            method, url, headers=headers, content=content, extensions={"timeout": _timeouts(timeout_seconds)}
        )
        with tracing.calling(method, described(request)) as span:
            traceparent = current_traceparent()
            if traceparent is not None:
                request.headers.setdefault("traceparent", traceparent)
            answer = self._send(request, timeout_seconds)
            tracing.tell_http_status(span, answer.status)
            return answer

    def _send(self, request: httpx.Request, timeout_seconds: float) -> HttpAnswer:
        try:
            with (
                deadline(timeout_seconds),
                contextlib.closing(self._transport.handle_request(request)) as response,
            ):
                return HttpAnswer(response.status_code, response.headers, _read_limited(response.iter_raw()))
        except httpx.TimeoutException:
            raise CallFailedError(f"no complete answer within {timeout_seconds:g} s") from None
        except httpx.TransportError as error:
            raise CallFailedError(what_failed(error)) from None

    def close(self) -> None:
        """Close the kept connections."""
        self._transport.close()


def expect_success(answer: HttpAnswer, *, server: str, longest_wait_seconds: float) -> None:
    """Return if the answer is a 2xx; otherwise raise what its status means for the job.

    Args:
        answer: what came.
        server: who answered, for the error text.
        longest_wait_seconds: a longer Retry-After is cut to this.

    Raises:
        RetryAfter: 408, 425, 429 or 5xx, with a wait that the server asked for (Retry-After, RFC 9110).
        CallFailedError: the same statuses without such a wait: retried after the usual backoff.
        Discard: every other status; a redirect is one of them.
    """
    if httpx.codes.is_success(answer.status):
        return
    reason = f"{server} answered {answer.status}"
    if answer.status not in RETRIED_STATUSES and not httpx.codes.is_server_error(answer.status):
        raise Discard(reason)
    wait = retry_after_seconds(answer.headers)
    if wait is None:
        raise CallFailedError(reason)
    raise RetryAfter(min(wait, longest_wait_seconds), reason)


def retry_after_seconds(headers: httpx.Headers) -> float | None:
    """The wait that a Retry-After header asks for, as seconds or as an HTTP date; None if it asks for none.

    A date is compared with the answer's own Date, which was made by the same clock.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text) or None
    until = _http_date(text)
    if until is None:
        return None
    wait = (until - (_http_date(headers.get("date", "")) or datetime.now(UTC))).total_seconds()
    return wait if wait > 0 else None


def shared_caller(allow_networks: tuple[str, ...] | None = None) -> HttpCaller:
    """Return this process's caller for global addresses and these networks; None allows every address."""
    with _callers_lock:
        if allow_networks not in _callers:
            allow = None if allow_networks is None else allow_global(allow_networks)
            _callers[allow_networks] = HttpCaller(tls_context(), allow)
        return _callers[allow_networks]


def tls_context() -> ssl.SSLContext:
    """A context that verifies certificates: by SSL_CERT_FILE or SSL_CERT_DIR if set, else by certifi."""
    return httpx.create_ssl_context()


class _Transport(httpx.HTTPTransport):
    """httpx's transport over a pool with our network backend, which its constructor cannot be given."""

    def __init__(self, tls: ssl.SSLContext, backend: httpcore.NetworkBackend) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls,
            max_connections=None,  # the worker's threads are the limit
            max_keepalive_connections=KEEPALIVE_CONNECTIONS,
            keepalive_expiry=KEEPALIVE_SECONDS,
            network_backend=backend,
        )


_callers: dict[tuple[str, ...] | None, HttpCaller] = {}
_callers_lock = threading.Lock()


def described(request: httpx.Request) -> dict[str, str | int]:
    """Describe a call for its span: without path and query, which are the payload's."""
    url = request.url
    port = url.port or DEFAULT_PORTS.get(url.scheme, 0)
    return {"http.request.method": request.method, "server.address": url.host, "server.port": port}


def _http_date(text: str) -> datetime | None:
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _timeouts(seconds: float) -> dict[str, float | None]:
    return httpx.Timeout(seconds).as_dict()


def _read_limited(chunks: Iterator[bytes]) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) >= ANSWER_MAX_BYTES:
            break
    return bytes(body[:ANSWER_MAX_BYTES])


def what_failed(error: httpx.TransportError) -> str:
    """Say why a call failed, without its URL."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "the TLS certificate of the server is not trusted or not for its name"
        cause = cause.__cause__ or cause.__context__
    return f"the call failed ({type(error).__name__})"
