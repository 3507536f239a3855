"""Streams of events over restarts of the API, and beside many others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from tests.api.conftest import NOOP
from tests.support.factories import JobFactory
from tests.support.http.api_server import ApiServer
from tests.support.http.event_source import EventSource
from tests.support.waiting import wait_until


@pytest.fixture
def server(settings: Settings) -> Iterator[ApiServer]:
    """The API over the database of the test."""
    server = ApiServer(settings)
    yield server
    server.stop()


def create(server: ApiServer) -> int:
    """Create a no-op job; its id."""
    return int(server.ask("POST", "/jobs/create", NOOP)[1]["id"])


def test_a_stream_goes_on_over_a_restart_without_a_gap_or_a_repeat(
    server: ApiServer, make_job: JobFactory
) -> None:
    """A client that comes back with the id of its last event gets what followed it, each once."""
    with contextlib.ExitStack() as stack:

        def listen(**options: str | None) -> EventSource:
            return stack.enter_context(EventSource(server.port, event="job.created", **options))

        source = listen()
        before = [create(server) for _ in range(5)]
        wait_until(lambda: len(source.events) == 5)
        assert source.jobs == before
        server.stop()
        wait_until(lambda: source.is_over)
        missed = [make_job().id for _ in range(5)]
        server.start()
        # In the middle of what it had, and at its end.
        middle = listen(last_event_id=source.events[2].id)
        end = listen(last_event_id=source.last_event_id)
        further = [create(server) for _ in range(3)]
        wait_until(lambda: len(end.events) == 8)
        wait_until(lambda: len(middle.events) == 10)
        assert end.jobs == missed + further
        assert middle.jobs == before[3:] + missed + further
        by_query = listen(after=end.events[-2].id)
        wait_until(lambda: len(by_query.events) == 1)
        assert by_query.jobs == further[-1:]
