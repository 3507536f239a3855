"""A small application whose requests wait and whose answers are streams, for tests of the server alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import falcon

from goqueue.api.frame.held_requests import AnswerStream, held_request


class Board:
    """What requests wait for: words that somebody says, the requests that wait, and the open streams."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.words: set[str] = set()
        self.wakes: dict[object, Callable[[], None]] = {}
        self.streams: set[AnswerStream] = set()
        self.runs = 0

    def watch(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Register a wait; what was said before wakes it as well."""
        key = object()
        with self.lock:
            self.wakes[key] = wake
            if self.words:
                wake()

        def stop() -> None:
            with self.lock:
                del self.wakes[key]

        return stop

    def say(self, word: str) -> None:
        """Say a word, and wake everybody twice, as a careless hub may."""
        with self.lock:
            self.words.add(word)
            wakes = list(self.wakes.values())
        for wake in wakes * 2:
            wake()

    def open(self, stream: AnswerStream) -> None:
        """Keep a stream until it is over."""
        with self.lock:
            self.streams.add(stream)
        stream.on_close(lambda: self.streams.discard(stream))
        stream.send(b"hello\n")


BOARD = Board()


class Wait:
    """Answers when a word was said."""

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Wait for the word that the body asks for."""
        held = held_request(request)
        word = request.get_media()["word"]
        with BOARD.lock:
            BOARD.runs += 1
        if word not in BOARD.words and held.wait(float(request.get_param("seconds") or 60), BOARD.watch):
            response.status = falcon.HTTP_418
            return
        response.media = {"said": word in BOARD.words, "again": held.is_again}


class Streams:
    """Streams what is said."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Open a stream."""
        response.content_type = "text/event-stream"
        if not held_request(request).stream(BOARD.open):
            raise falcon.HTTPServiceUnavailable

    on_head = on_get


class Words:
    """Says words to whoever waits and listens."""

    def on_put(self, request: falcon.Request, _response: falcon.Response, word: str) -> None:
        """Say a word so many times to the streams, and once to those who wait."""
        piece = word.encode() * int(request.get_param("times") or 1)
        for stream in list(BOARD.streams):
            stream.send(piece)
        BOARD.say(word)

    def on_delete(self, _request: falcon.Request, _response: falcon.Response, word: str) -> None:
        """Take a word back, and end all streams."""
        BOARD.words.discard(word)
        for stream in list(BOARD.streams):
            stream.end()


class State:
    """The numbers that tests look at."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Count what waits, what streams, and how often a request ran."""
        response.media = {"waiting": len(BOARD.wakes), "streams": len(BOARD.streams), "runs": BOARD.runs}


app: falcon.App[Any, Any] = falcon.App()
app.add_route("/wait", Wait())
app.add_route("/stream", Streams())
app.add_route("/words/{word}", Words())
app.add_route("/state", State())
