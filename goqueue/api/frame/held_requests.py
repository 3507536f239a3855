"""Requests that wait for something, without a thread: long polls, and answers that are streams.

A resource asks the server for it. Only `goqueue.api.server` can; under another server a long poll answers at
once with what there is, and there are no streams.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import falcon

__all__ = ["HELD_REQUEST", "AnswerStream", "HeldRequest", "Watch", "held_request"]

#: Where the server puts its own in the environment of WSGI.
HELD_REQUEST = "goqueue.held_request"

#: Registers a call that wakes the request, and returns what ends that. The server calls both on the thread of
#: all connections, so neither may block; the call that wakes may come from any thread, and more than once.
#: What has happened since the resource looked has to wake as well.
Watch = Callable[[Callable[[], None]], Callable[[], None]]


class AnswerStream(Protocol):
    """The body of an answer that goes on while its client listens. Any thread may call each method."""

    @property
    def waiting_bytes(self) -> int:
        """The bytes that the client has not taken yet."""

    def send(self, data: bytes) -> None:
        """Send a piece of the body. A client that lets too many bytes wait is cut off."""

    def end(self) -> None:
        """End the answer in order, after what was sent."""

    def on_close(self, closed: Callable[[], object]) -> None:
        """Let something be called once when the stream is over, whoever ended it; it must not block."""


class HeldRequest:
    """One request under a server that keeps none: it answers long polls at once, and has no streams.

    Attributes:
        is_again: the resource runs for this request once more, after it has waited.
        is_kept: the server was asked to keep the request, so this run's answer is none.
        request_id: the name that its first run was given.
    """

    def __init__(self) -> None:
        self.is_again = False
        self.is_kept = False
        self.request_id: str | None = None

    def wait(self, seconds: float, watch: Watch) -> bool:
        """Keep the request until `watch` wakes it, or `seconds` after it waited for the first time.

        Where this returns true, the resource has to return, and what it has answered is thrown away: later
        the request passes every middleware and the resource again. Where it returns false, the time is over,
        or the server stops or keeps too many already: the resource answers with what there is.
        """
        del seconds, watch
        return False

    def stream(self, opened: Callable[[AnswerStream], object]) -> bool:
        """Send the status and the headers of the response when the resource has returned, and no body yet.

        Args:
            opened: is called with the stream on a thread that answers requests.

        Returns:
            Whether there will be a stream; if not, the server stops or has too many.
        """
        del opened
        return False


def held_request(request: falcon.Request) -> HeldRequest:
    """Return what the server offers to a request that has to wait."""
    held: HeldRequest = request.env.setdefault(HELD_REQUEST, HeldRequest())
    return held
