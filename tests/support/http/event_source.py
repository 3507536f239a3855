"""A client of Server-Sent Events, as a browser has one: it reads by a thread, and can come back."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode

__all__ = ["EventSource", "ReceivedEvent"]


class ReceivedEvent(NamedTuple):
    """An event as it came."""

    id: str
    kind: str
    data: Any


class EventSource:
    """One connection to a stream; what has come is in `events`.

    Args:
        port: of the server.
        path: of the stream.
        last_event_id: where it goes on.
        headers: of the request, beside that.
        query: of the request; lists are several values.

    Attributes:
        status: of the answer.
        problem: the document of an answer that is none of events.
        events: what has come.
        last_event_id: where one goes on after a cut.
        is_over: the server has ended it.
    """

    def __init__(
        self,
        port: int,
        path: str = "/events",
        *,
        last_event_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        sent = dict(headers or {}) | ({} if last_event_id is None else {"Last-Event-ID": last_event_id})
        self._connection.request("GET", f"{path}?{urlencode(query, doseq=True)}", headers=sent)
        self._answer = self._connection.getresponse()
        self.status, self.headers = self._answer.status, self._answer.headers
        self.problem: Any = None
        self.events: list[ReceivedEvent] = []
        self.last_event_id = last_event_id
        self.comments = 0
        self.is_over = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        if self.status == http.HTTPStatus.OK:
            self._thread.start()
        else:
            self.problem = json.loads(self._answer.read())

    @property
    def kinds(self) -> list[str]:
        """The kinds of what has come."""
        return [event.kind for event in self.events]

    @property
    def jobs(self) -> list[int]:
        """The jobs of what has come."""
        return [event.data["job_id"] for event in self.events]

    def close(self) -> None:
        """Go away."""
        if (sock := self._connection.sock) is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(2)
        elif not self.is_over:
            # The answer has the socket by itself, because the connection ends with it.
            with contextlib.suppress(OSError):
                raw: Any = self._answer.fp
                raw.raw._sock.shutdown(2)  # noqa: SLF001  (its only name)
        if self._thread.is_alive():
            self._thread.join(10)
        self._answer.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        fields: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            for line in self._answer:
                text = line.decode().rstrip("\n")
                if text.startswith(":"):
                    self.comments += 1
                elif text:
                    name, _, value = text.partition(": ")
                    fields[name] = value
                else:
                    self._dispatch(fields)
                    fields = {}
        self.is_over = True

    def _dispatch(self, fields: dict[str, str]) -> None:
        self.last_event_id = fields.get("id", self.last_event_id)
        if "data" in fields:
            event = ReceivedEvent(fields.get("id", ""), fields.get("event", ""), json.loads(fields["data"]))
            self.events.append(event)
