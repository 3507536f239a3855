"""Streams of events and of output, and requests that wait for a job, under the API's own server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from goqueue.access.keys import Keys
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.output_rows import JobOutput, OutputPiece, write_output
from goqueue.engine.queue_rows import pause, resume
from tests.api.conftest import NOOP
from tests.support.factories import JobFactory, set_status
from tests.support.http.api_server import ApiServer
from tests.support.http.event_source import EventSource
from tests.support.http.slow_clients import ask
from tests.support.shared_database import emptied_database, module_settings
from tests.support.waiting import wait_until

settings = module_settings
database = emptied_database

Listen = Callable[..., EventSource]


@pytest.fixture(scope="module")
def server(settings: Settings) -> Iterator[ApiServer]:
    """The API over the database of this module."""
    server = ApiServer(settings)
    yield server
    server.stop()


@pytest.fixture
def listen(server: ApiServer) -> Iterator[Listen]:
    """Opens streams, and closes them at the end of the test."""
    with contextlib.ExitStack() as stack:

        def listen(path: str = "/events", **options: Any) -> EventSource:
            return stack.enter_context(EventSource(server.port, path, **options))

        yield listen


def create(server: ApiServer, **members: Any) -> int:
    """Create a no-op job; its id."""
    status, document = server.ask("POST", "/jobs/create", NOOP | members)
    assert status == 201, document
    return int(document["id"])


def test_a_stream_tells_what_changes(server: ApiServer, listen: Listen, database: Database) -> None:
    """Whoever listens hears of each change, with its kind, its job and a place to go on from."""
    source = listen()
    assert source.status == 200
    assert source.headers["Content-Type"].startswith("text/event-stream")
    job_id = create(server)
    set_status(database, job_id, "completed")
    wait_until(lambda: len(source.events) == 2)
    assert source.kinds == ["job.created", "job.completed"]
    created = source.events[0]
    assert created.data["event"] == "job.created"
    assert created.data["job_id"] == job_id
    assert (created.data["queue"], created.data["type"]) == (NOOP["queue"], "noop")
    assert created.data["data"]["status"] == "queued"
    assert created.id != source.events[1].id


def test_a_stream_is_of_what_was_asked_for(server: ApiServer, listen: Listen, database: Database) -> None:
    """Kinds, queue, type, job and tag choose, together."""
    create(server)
    first = create(server, tags=["blue"])
    sources = {
        "ends": listen(event=["job.completed", "job.failed"]),
        "jobs": listen(event="job.*"),
        "queue": listen(queue="other"),
        "type": listen(type="noop", event="job.completed"),
        "job": listen(job_id=first),
        "tag": listen(tag="blue"),
        "none": listen(tag="green"),
        "all": listen(),
    }
    second = create(server)
    for job_id in (first, second):
        set_status(database, job_id, "completed")
    with database.autocommit() as connection:
        connection.exec_driver_sql("INSERT INTO queues (name) VALUES ('other') ON CONFLICT DO NOTHING")
        pause(connection, "other")
        resume(connection, "other")
    wait_until(lambda: len(sources["all"].events) == 5)
    told = {
        "ends": [first, second],
        "jobs": [second, first, second],
        "queue": [None, None],
        "type": [first, second],
        "job": [first],
        "tag": [first],
        "none": [],
        "all": [second, first, second, None, None],
    }
    wait_until(lambda: {name: source.jobs for name, source in sources.items()} == told)


def test_a_restricted_key_hears_of_what_exists_for_it(
    server: ApiServer, listen: Listen, database: Database
) -> None:
    """Events of other queues and types, and of workers, are not told to it; without the scope, nothing is."""
    keys = Keys(database)
    own = keys.create("own", "events:read", queues=["noop"]).text
    other = keys.create("other", "events:read", queues=["elsewhere"]).text
    typed = keys.create("typed", "events:read", types=["noop"]).text
    neither = keys.create("neither", "jobs:create").text
    sources = [listen(headers={"Authorization": f"Bearer {text}"}) for text in (own, other, typed)]
    everything = listen()
    assert listen(headers={"Authorization": f"Bearer {neither}"}).status == 403
    job_id = create(server)
    with database.autocommit() as connection:
        connection.exec_driver_sql("INSERT INTO queues (name) VALUES ('noop') ON CONFLICT DO NOTHING")
        connection.exec_driver_sql("UPDATE queues SET concurrency = 5 WHERE name = 'noop'")
        connection.exec_driver_sql(
            "INSERT INTO workers (hostname, pid, queues, threads) VALUES ('a', 1, '{noop}', 1)"
        )
    wait_until(lambda: len(everything.events) == 3)
    wait_until(lambda: sources[0].kinds == ["job.created", "queue.changed"])
    assert sources[1].events == []
    assert sources[2].jobs == [job_id]


def test_the_stream_of_a_key_that_is_revoked_ends(
    server: ApiServer, listen: Listen, database: Database
) -> None:
    """A key opens nothing two seconds after it was revoked, and keeps nothing open either."""
    keys = Keys(database)
    made = keys.create("reader", "events:read")
    source = listen(headers={"Authorization": f"Bearer {made.text}"})
    other = listen()
    create(server)
    wait_until(lambda: len(source.events) == 1)
    keys.revoke(made.key.id)
    wait_until(lambda: source.is_over)
    assert not other.is_over


def test_many_streams_hold_no_thread(server: ApiServer) -> None:
    """Hundreds of streams of a server with two threads are open; it answers others, and each stream hears."""
    clients = 300
    asked = b"GET /events?event=job.created HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with contextlib.ExitStack() as stack:
        streams = [
            stack.enter_context(contextlib.closing(socket.create_connection(("127.0.0.1", server.port), 60)))
            for _ in range(clients)
        ]
        for stream in streams:
            stream.sendall(asked)
        heard = [b""] * clients
        for number, stream in enumerate(streams):
            while b": listening" not in heard[number]:
                heard[number] += stream.recv(65536)
        jobs = [create(server) for _ in range(3)]
        for number, stream in enumerate(streams):
            while heard[number].count(b"data: ") < len(jobs):
                heard[number] += stream.recv(65536)
        last = f'"job_id":{jobs[-1]},'.encode()
        assert all(text.count(last) == 1 and text.count(b"data: ") == len(jobs) for text in heard)


def test_a_wait_is_answered_when_the_job_has_ended(server: ApiServer, database: Database) -> None:
    """The request waits as long as the job does, and is answered with what it came to."""
    job_id = create(server)
    answers: list[Any] = []
    path = f"/jobs/{job_id}/wait?timeout=30"
    # More than the server has threads.
    waiting = [threading.Thread(target=lambda: answers.append(server.ask("GET", path))) for _ in range(6)]
    for thread in waiting:
        thread.start()
    assert server.ask("GET", f"/jobs/{job_id}")[1]["status"] == "queued"
    assert answers == []
    set_status(database, job_id, "completed")
    for thread in waiting:
        thread.join(30)
    assert [(status, document["status"]) for status, document in answers] == [(200, "completed")] * 6


def test_the_output_of_a_job_is_a_stream(server: ApiServer, listen: Listen, database: Database) -> None:
    """All of it so far, then what comes, then its end; and from a place on when a client comes back."""
    job_id = create(server)

    def say(chunk: int, text: str | None) -> None:
        with database.autocommit() as connection:
            write_output(connection, [JobOutput(job_id, 1, [OutputPiece(chunk, text)])])

    say(1, "Hello")
    source = listen(f"/jobs/{job_id}/stream")
    wait_until(lambda: len(source.events) == 1)
    say(2, ", world")
    wait_until(lambda: len(source.events) == 2)
    say(3, None)
    set_status(database, job_id, "completed")
    wait_until(lambda: source.is_over)
    assert [(event.kind, event.id, event.data) for event in source.events] == [
        ("chunk", "1.1", {"fence": 1, "chunk": 1, "text": "Hello"}),
        ("chunk", "1.2", {"fence": 1, "chunk": 2, "text": ", world"}),
        ("chunk", "1.3", {"fence": 1, "chunk": 3, "text": None}),
        ("end", "end", {"status": "completed"}),
    ]
    again = listen(f"/jobs/{job_id}/stream", last_event_id="1.2")
    wait_until(lambda: again.is_over)
    assert [event.id for event in again.events] == ["1.3", "end"]
    assert ask(server.port, "GET", f"/jobs/{job_id}/stream", Last_Event_ID="end")[0] == 204
    assert listen(f"/jobs/{job_id}/stream", last_event_id="there").status == 400
    assert listen("/jobs/999999999/stream").status == 404


def test_output_is_withheld_from_keys_that_may_not_read_contents(
    server: ApiServer, listen: Listen, database: Database
) -> None:
    """It is what a job holds: it takes payloads:read, and a restricted key sees its own jobs alone."""
    keys = Keys(database)
    job_id = create(server)
    path = f"/jobs/{job_id}/stream"
    for scope, queues, status in (
        ("viewer", None, 403),
        ("payloads:read", ["elsewhere"], 404),
        ("payloads:read", ["noop"], 200),
    ):
        text = keys.create("reader", scope, queues=queues).text
        assert listen(path, headers={"Authorization": f"Bearer {text}"}).status == status


def test_a_stream_goes_on_over_a_restart_without_a_gap_or_a_repeat(
    server: ApiServer, make_job: JobFactory
) -> None:
    """A client that comes back with the id of its last event gets what followed it, each once."""
    with contextlib.ExitStack() as stack:

        def listen(last_event_id: str | None = None, **query: str) -> EventSource:
            source = EventSource(
                server.port, last_event_id=last_event_id, headers=None, event="job.created", **query
            )
            return stack.enter_context(source)

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
