"""`goqueue events`: what changes, at a terminal."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.errors import EventCursorError, EventsGoneError, InvalidJobError
from goqueue.events.feed import EventFeed
from goqueue.events.subscriptions import Subscriptions
from goqueue.jobs import JobStatus
from goqueue.ops.events_command import lines
from tests.support.factories import JobFactory, set_status
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database


def options(**given: Any) -> argparse.Namespace:
    """The options of a command line."""
    names = ("event", "queue", "type", "job", "tag", "after", "seconds")
    return argparse.Namespace(**dict.fromkeys(names) | {"json": False} | given)


@pytest.fixture
def place(database: Database) -> str:
    """A place from which on changes are written down."""
    Subscriptions(database).keep("test", 60)
    return EventFeed(database).now().text


def test_lines_say_what_happened_to_what(
    settings: Settings, database: Database, make_job: JobFactory, place: str
) -> None:
    """A line an event: when, which, of what, and the rest; control characters of names do nothing."""
    job = make_job(queue="mail\x1b[2J")
    set_status(database, job.id, JobStatus.COMPLETED)
    printed = lines(settings, options(event=["job.*"], after=place))
    created, completed = next(printed), next(printed)
    assert f"job.created  job {job.id}  queue mail" in created
    assert "\x1b" not in created
    assert '"status":"completed"' in completed
    assert "worker_id" not in completed


def test_json_lines_have_all_of_it(settings: Settings, make_job: JobFactory, place: str) -> None:
    """An archive or a script reads them, and goes on behind the last one's id."""
    first, second = make_job().id, make_job().id
    printed = lines(settings, options(json=True, after=place))
    told = [json.loads(next(printed)) for _ in range(2)]
    assert [(event["kind"], event["job_id"]) for event in told] == [
        ("job.created", first),
        ("job.created", second),
    ]
    again = lines(settings, options(json=True, after=told[0]["id"]))
    assert json.loads(next(again)) == told[1]
    assert list(lines(settings, options(seconds=1e-6))) == []


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"event": ["job.flown"]}, InvalidJobError),
        ({"after": "here"}, EventCursorError),
        ({"after": "1.1"}, EventsGoneError),
    ],
    ids=["kind", "place", "gone"],
)
def test_what_cannot_be_listened_to_is_an_error(
    settings: Settings, database: Database, given: dict[str, Any], error: type[Exception]
) -> None:
    """It is told instead of waiting for what never comes."""
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE event_capture SET forgotten_xid = greatest(forgotten_xid, 2)")
    with pytest.raises(error):
        next(lines(settings, options(**given)))
