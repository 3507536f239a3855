"""What is refused of streams, and what a server answers that holds no requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from falcon import testing

from goqueue.api import event_stream, output_stream
from goqueue.api.event_stream import EventDocument
from goqueue.api.output_stream import OutputDocument
from goqueue.engine.output_rows import OutputChunk
from goqueue.events.cursor import Cursor, Snapshot
from goqueue.events.feed import EventFeed
from goqueue.events.subscriptions import Subscriptions
from tests.support.factories import JobFactory, set_status
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database


@pytest.mark.parametrize(
    ("query", "last_event_id", "status", "fields"),
    [
        ("event=job.flown", None, 400, ["event"]),
        ("event=job.created&event=x.*", None, 400, ["event"]),
        ("job_id=0", None, 400, ["job_id"]),
        ("colour=red", None, 400, ["colour"]),
        ("", "yesterday", 400, None),
        ("after=1.2.", None, 400, None),
        ("", "1.1", 410, None),
        ("after=1.1", None, 410, None),
        ("event=job.*&queue=mail&type=noop&tag=blue&job_id=7", None, 503, None),
    ],
    ids=["kind", "kinds", "job", "name", "place", "after", "gone", "after-gone", "good"],
)
def test_what_cannot_be_listened_to_is_refused(
    client: testing.TestClient, query: str, last_event_id: str | None, status: int, fields: list[str] | None
) -> None:
    """A wrong query or place is 400, a place of which events are gone 410; and this server has no streams."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    answer = client.simulate_get("/events", query_string=query, headers=headers)
    assert answer.status_code == status
    assert answer.json["detail"]
    assert (list(answer.json["fields"]) if "fields" in answer.json else None) == fields
    if status == 503:
        assert answer.headers["Retry-After"] == "1"


def test_a_wait_ends_with_its_time(
    client: testing.TestClient, create: Callable[..., dict[str, Any]], make_job: JobFactory
) -> None:
    """Of a server that holds no requests it is answered at once; so is one for a job that has ended."""
    job_id = create()["id"]
    assert client.simulate_get(f"/jobs/{job_id}/wait").json["status"] == "queued"
    set_status(make_job.database, job_id, "completed")
    assert client.simulate_get(f"/jobs/{job_id}/wait?timeout=0").json["status"] == "completed"
    assert client.simulate_get("/jobs/999999999/wait").status_code == 404
    for timeout in ("-1", "301", "nan", "x"):
        refusal = client.simulate_get(f"/jobs/{job_id}/wait?timeout={timeout}")
        assert refusal.status_code == 400
        assert list(refusal.json["fields"]) == ["timeout"]


def test_output_is_of_a_job_and_a_place(client: testing.TestClient, make_job: JobFactory) -> None:
    """No job is 404, no place 400; who comes back with the last event is told that there is no more."""
    path = f"/jobs/{make_job().id}/stream"
    assert client.simulate_get("/jobs/999999999/stream").status_code == 404
    for place in ("x", "1", "1.2.3", "99999999999.1", "9999999999.1"):
        assert client.simulate_get(path, headers={"Last-Event-ID": place}).status_code == 400
    assert client.simulate_get(path, headers={"Last-Event-ID": "end"}).status_code == 204
    assert client.simulate_get(path, headers={"Last-Event-ID": "1.2"}).status_code == 503


def test_what_is_sent_is_what_the_description_says(database: Any, make_job: JobFactory) -> None:
    """The data of an event fits the model that OpenAPI names, and no line of it breaks the format."""
    Subscriptions(database).keep("test", 60)
    feed = EventFeed(database)
    start = feed.now()
    make_job()
    [event] = feed.read(start).events
    name, kind, data = event_stream.encoded(event).decode().rstrip("\n").split("\n")
    assert (name, kind) == (f"id: {event.id}", "event: job.created")
    assert EventDocument.model_validate_json(data.removeprefix("data: ")).job_id == event.job_id
    chunk = output_stream._chunk(OutputChunk(1, 2, "two\nlines\r\n"))  # noqa: SLF001  (what is sent)
    name, kind, data = chunk.decode().rstrip("\n").split("\n")
    assert (name, kind) == ("id: 1.2", "event: chunk")
    assert OutputDocument.model_validate_json(data.removeprefix("data: ")).text == "two\nlines\r\n"
    # A silent stream tells its place, which is an event for nobody.
    assert event_stream._idle(Cursor(Snapshot(1, 2))) == b": no news\nid: 1.1\n\n"  # noqa: SLF001
