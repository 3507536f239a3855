"""Fifty dashboards that are open: what they ask the API for, from one cheap process.

`python -m bench.dashboard_visitors PORT BEGIN SECONDS ROUNDS` goes, from a moment of the monotonic clock on,
through rounds of phases of so many seconds (`PHASES`), and prints what was answered and what that took here.
"""

from __future__ import annotations

import heapq
import json
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.dashboard_requests import get
from bench.http_load import answer_length, status_of

#: As goqueue/dashboard/static/dashboard.js does.
POLL_SECONDS = 2.0
CHART_SECONDS = 5.0

COUNT = 50

TIMEOUT_SECONDS = 30.0

#: What is asked for in the phases of a round: nothing, nothing much as often as pages, or pages.
ALONE, TRIVIAL, DASHBOARDS = PHASES = ("alone", "trivial", "dashboards")

#: Nothing much.
TRIVIAL_PATH = "/health/live"

#: Which pages fifty people look at.
PAGES = {
    "/dashboard": 14,
    "/dashboard?range=24h": 4,
    "/dashboard/jobs": 8,
    "/dashboard/jobs?status=failed": 4,
    "/dashboard/queues": 8,
    "/dashboard/queues/bench": 4,
    "/dashboard/types": 2,
    "/dashboard/failures": 3,
    "/dashboard/workers": 3,
}

#: What the charts of a page are drawn from.
CHARTS = {
    page: [f"/dashboard/overview.json?chart={name}&range={length}" for name in ("throughput", "wait", "run")]
    for page, length in (("/dashboard", "15m"), ("/dashboard?range=24h", "24h"))
}


@dataclass(slots=True)
class Question:
    """Something that is asked for again and again, and the tag of its last answer.

    Attributes:
        offset: so many seconds after the begin of a phase it is asked for the first time.
    """

    path: str
    every_seconds: float
    offset: float
    cookie: str
    is_live: bool = False
    tag: str = ""


@dataclass(slots=True)
class Answer:
    """What has come of an answer."""

    question: Question
    received: bytes = b""


def phases_of(number: int) -> tuple[str, ...]:
    """The phases of a round, so that none always follows the same one."""
    start = number % len(PHASES)
    return PHASES[start:] + PHASES[:start]


def questions(cookies: Sequence[str]) -> list[Question]:
    """What the dashboards ask for."""
    found: list[Question] = []
    pages = [page for page, count in PAGES.items() for _ in range(count)]
    for place, (page, cookie) in enumerate(zip(pages, cookies, strict=True)):
        # They were opened one after the other; those of one page are not neighbours.
        offset = POLL_SECONDS * (place * 7 % COUNT) / COUNT
        found.append(Question(page, POLL_SECONDS, offset, cookie, is_live=True))
        found += [Question(chart, CHART_SECONDS, offset, cookie) for chart in CHARTS.get(page, ())]
    return found


class Visitors:
    """Asks each question when it is due, on a connection of its own: gunicorn keeps none for two seconds."""

    def __init__(self, port: int, asked: Sequence[Question]) -> None:
        self._port = port
        self._questions = asked
        self._selector = selectors.DefaultSelector()
        self.statuses = {phase: Counter[int]() for phase in PHASES}

    def stay(self, phase: str, until: float) -> None:
        """Ask until then, and wait for the answers."""
        began = time.monotonic()
        due = [(began + one.offset, number) for number, one in enumerate(self._questions)]
        heapq.heapify(due)
        while (now := time.monotonic()) < until or self._selector.get_map():
            while due[0][0] <= now < until:
                at, number = heapq.heappop(due)
                self._ask(self._questions[number], phase)
                heapq.heappush(due, (at + self._questions[number].every_seconds, number))
            wait = max(0.0, min(due[0][0], until) - time.monotonic()) if now < until else TIMEOUT_SECONDS
            for key, _ in self._selector.select(wait):
                self._receive(key, phase)

    def _ask(self, question: Question, phase: str) -> None:
        connection = socket.create_connection(("127.0.0.1", self._port))
        self._selector.register(connection, selectors.EVENT_READ, Answer(question))
        path, tag = (TRIVIAL_PATH, "") if phase == TRIVIAL else (question.path, question.tag)
        connection.sendall(get(path, is_live=question.is_live, cookie=question.cookie, tag=tag, is_last=True))

    def _receive(self, key: selectors.SelectorKey, phase: str) -> None:
        answer: Answer = key.data
        connection = key.fileobj
        assert isinstance(connection, socket.socket)
        part = connection.recv(262_144)
        answer.received += part
        end = answer_length(answer.received)
        if part and (end is None or len(answer.received) < end):
            return
        self._selector.unregister(connection)
        connection.close()
        self.statuses[phase][status_of(answer.received)] += 1
        if phase == DASHBOARDS:
            answer.question.tag = _header(answer.received, b"etag")


def _header(received: bytes, name: bytes) -> str:
    for line in received.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        if line.lower().startswith(name + b":"):
            return line.partition(b":")[2].strip().decode()
    return ""


def _cookie(port: int) -> str:
    """The session of a browser that has just come."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(get("/dashboard/login", is_live=False, is_last=True))
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65_536)
    return _header(received, b"set-cookie").partition(";")[0]


def main(arguments: Sequence[str]) -> None:
    """Go through the rounds, and print what was answered and what that took here."""
    port, rounds = int(arguments[0]), int(arguments[3])
    begin, seconds = float(arguments[1]), float(arguments[2])
    visitors = Visitors(port, questions([_cookie(port) for _ in range(COUNT)]))
    cpu = time.process_time()
    phases = [phase for number in range(rounds) for phase in phases_of(number)]
    for number, phase in enumerate(phases):
        time.sleep(max(0.0, begin + number * seconds - time.monotonic()))
        if phase != ALONE:
            visitors.stay(phase, begin + (number + 1) * seconds)
    cores = (time.process_time() - cpu) / (seconds * 2 * rounds)
    print(json.dumps({"statuses": visitors.statuses, "cores": cores}))


if __name__ == "__main__":
    main(sys.argv[1:])
