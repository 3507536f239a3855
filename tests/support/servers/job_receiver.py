"""A receiver of jobs that are sent to a URL: it answers as a test says, and keeps what it was sent."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from goqueue.dev.fakes.http_server import FakeAnswer, FakeRequest, HttpServer


class JobReceiver(HttpServer):
    """Gives its answers one after the other, and the last one from then on.

    Attributes:
        calls: what it was sent.
        answers: what is left to be answered.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[FakeRequest] = []
        self.answers: list[FakeAnswer] = [FakeAnswer()]

    def gives(self, *answers: FakeAnswer) -> None:
        """Answer like this from now on."""
        self.answers = list(answers)

    def answer(self, request: FakeRequest) -> FakeAnswer:
        """The next answer."""
        with self.lock:
            self.calls.append(request)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    @property
    def jobs(self) -> Iterable[dict[str, Any]]:
        """The jobs that it was sent."""
        return [json.loads(call.body) for call in self.calls]
