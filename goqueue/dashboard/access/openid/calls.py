"""Calls to the provider: few at once, each within a time, so that one that hangs stops nobody else."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import httpx
import orjson

from goqueue.actors.checked_connections import AddressRefusedError
from goqueue.actors.outgoing import CallFailedError, HttpAnswer, shared_caller
from goqueue.errors import ProviderUnavailableError

__all__ = ["ProviderCalls"]

#: Whoever comes when so many wait is told so after this.
TURN_SECONDS = 1.0


class ProviderCalls:
    """Makes calls to the provider, also for Authlib's client, whose session it is. Thread-safe.

    Args:
        timeout_seconds: how long an answer may take, from the name of the host to its last byte.
        at_once: so many threads wait for the provider at a time.
    """

    def __init__(self, timeout_seconds: float, *, at_once: int) -> None:
        self._timeout_seconds = timeout_seconds
        self._turns = threading.BoundedSemaphore(at_once)

    def get(self, url: str, *, bearer: str | None = None) -> dict[str, Any]:
        """Return the JSON object at an address.

        Raises:
            ProviderUnavailableError: nothing came in time, or something else.
        """
        headers = {"Accept": "application/json"}
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        answer = self._call("GET", url, headers, b"")
        if not httpx.codes.is_success(answer.status):
            raise ProviderUnavailableError(f"it answered {answer.status}")
        try:
            document = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            raise ProviderUnavailableError("it answered with something else than a JSON object")
        return document

    def post(
        self, url: str, *, data: Mapping[str, str], headers: Mapping[str, str], auth: Any
    ) -> httpx.Response:
        """Send a form, signed as a client of the provider; Authlib's client calls this.

        Raises:
            ProviderUnavailableError: nothing came in time.
        """
        url, signed, body = auth.prepare("POST", url, dict(headers), urlencode(data))
        answer = self._call("POST", url, signed, body.encode())
        return httpx.Response(answer.status, content=answer.body, request=httpx.Request("POST", url))

    def _call(self, method: str, url: str, headers: Mapping[str, str], content: bytes) -> HttpAnswer:
        with self._turn():
            try:
                return shared_caller().call(
                    method, url, headers=headers, content=content, timeout_seconds=self._timeout_seconds
                )
            except (CallFailedError, AddressRefusedError, httpx.InvalidURL) as error:
                raise ProviderUnavailableError(str(error)) from None

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=TURN_SECONDS):
            raise ProviderUnavailableError("too many sign-ins wait for it")
        try:
            yield
        finally:
            self._turns.release()
