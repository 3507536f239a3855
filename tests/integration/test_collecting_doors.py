"""By whatever door a payload comes, it is collected, and the handler gets the list of all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import dramatiq
import pytest
from falcon import testing
from pydantic import BaseModel
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

import goqueue
from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from goqueue.errors import InvalidJobError
from goqueue.instance import GoQueue, default
from goqueue.jobs import JobStatus
from goqueue.schedules import scheduling
from goqueue.schedules.rules import Overlap
from goqueue.schedules.service import CronScheduler
from tests.support.counted import counted
from tests.support.engine import QUICK, Engine, process_of
from tests.support.factories import set_status
from tests.support.waiting import wait_until

QUEUE = "digests"


class Mail(BaseModel):
    """A payload that is collected."""

    to: str
    number: int = 0


MAIL = {"to": "ann", "number": 1}
DIGEST = goqueue.Unique(fields=("to",), mode="collect", collect_seconds=600, collect_max=4)
UNIQUE = {"fields": ["to"], "mode": "collect", "collect_seconds": 600, "collect_max": 4}


@dataclass
class Post:
    """A process with a type whose jobs collect, one whose jobs do not, and every door to them."""

    goqueue: GoQueue
    digest: dramatiq.Actor[..., Any]
    plain: dramatiq.Actor[..., Any]
    client: testing.TestClient
    delivered: list[list[Mail]]

    def rest(self, path: str, document: dict[str, Any], **headers: str) -> Any:
        """Ask the API to create something."""
        result = self.client.simulate_post(path, json=document, headers=headers)
        assert result.status_code in {200, 201}, result.text
        return result.json

    def in_session(self) -> None:
        """Create within a session of the application's own, and commit."""
        url = self.goqueue.settings.database_url.get_secret_value()
        engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
        with Session(engine) as session:
            goqueue.enqueue(self.digest, MAIL, session=session)
            session.commit()
        engine.dispose()

    def tick(self) -> None:
        """Let a schedule be due once."""
        if not self.goqueue.schedules:
            self.goqueue.cron("* * * * *", payload=MAIL, overlap=Overlap.SKIP)(self.digest)
            scheduling.declare(self.goqueue.database, self.goqueue.schedules.values())
        with self.goqueue.database.autocommit() as connection:
            connection.exec_driver_sql(
                "UPDATE schedule_ticks SET nominal_at = nominal_at - interval '1 h', "
                "decided_at = decided_at - interval '1 h'"
            )
            connection.exec_driver_sql(
                "UPDATE schedules SET due_at = now(), next_at = now() - interval '60 s'"
            )
        cron = CronScheduler(self.goqueue.settings, self.goqueue.database, threading.Event().wait)
        assert sum(cron.run_once().values())

    def run_schedule(self) -> None:
        """Run a schedule by hand."""
        document = {"cron": "@yearly", "type": "digest", "queue": QUEUE, "payload": MAIL}
        assert self.client.simulate_put("/schedules/yearly", json=document).status_code in {200, 201}
        assert self.client.simulate_post("/schedules/yearly/run").status_code in {200, 201}

    def jobs(self) -> list[tuple[int, str, Any]]:
        """Each job of the queue: its id, its state and its payloads."""
        with self.goqueue.database.autocommit() as connection:
            return [
                (row[0], row[1], row[2])
                for row in connection.exec_driver_sql(
                    f"SELECT id, status, payload -> 'mails' FROM jobs WHERE queue = '{QUEUE}' ORDER BY id"
                )
            ]


JOB = {"queue": QUEUE, "type": "digest", "payload": MAIL}
PLAIN = {"queue": QUEUE, "type": "plain", "payload": MAIL, "unique": UNIQUE}

DOORS: dict[str, Callable[[Post], object]] = {
    "a mapping": lambda post: goqueue.enqueue(post.digest, MAIL),
    "a model": lambda post: goqueue.enqueue(post.digest, Mail(**MAIL)),
    "the whole list": lambda post: goqueue.enqueue(post.digest, {"mails": [MAIL]}),
    "a session": Post.in_session,
    "a chain": lambda post: goqueue.enqueue_chain((post.digest, MAIL)),
    "actor.send": lambda post: post.digest.send(Mail(**MAIL)),
    "actor.send with a list": lambda post: post.digest.send([Mail(**MAIL)]),
    "of one job": lambda post: goqueue.enqueue(post.plain, MAIL, unique=DIGEST),
    "POST /jobs/create": lambda post: post.rest("/jobs/create", JOB),
    "POST /jobs/create with unique": lambda post: post.rest("/jobs/create", PLAIN),
    "POST /jobs": lambda post: post.rest("/jobs", JOB),
    "POST /jobs/batch": lambda post: post.rest("/jobs/batch", {"jobs": [JOB]}),
    "a tick of a schedule": Post.tick,
    "a schedule that is run by hand": Post.run_schedule,
}


@pytest.fixture
def post(settings: Settings, database: Database, runway: Runway) -> Iterator[Post]:
    """A process of its own, with its types declared."""
    delivered: list[list[Mail]] = []
    with process_of(settings.model_copy(update=QUICK)):

        @goqueue.actor(queue=QUEUE, unique=DIGEST)
        def digest(mails: list[Mail]) -> None:
            delivered.append(mails)

        @goqueue.actor(queue=QUEUE)
        def plain(mails: list[Mail]) -> None:
            delivered.append(mails)

        client = testing.TestClient(create_app(settings, database=database, runway=runway))
        yield Post(default(), digest, plain, client, delivered)


def collected() -> float:
    """How many payloads were counted as collected."""
    return counted("jobs_collected_total", queue=QUEUE)


@pytest.mark.parametrize("door", DOORS)
def test_every_door_collects(post: Post, door: str) -> None:
    """The first payload through a door makes a job that waits, the second comes to it, and is counted."""
    before = collected(), counted("jobs_created_total", queue=QUEUE)
    DOORS[door](post)
    ((first, status, payloads),) = post.jobs()
    assert (status, payloads) == ("queued", [MAIL])
    DOORS[door](post)
    assert post.jobs() == [(first, "queued", [MAIL, MAIL])]
    assert (collected(), counted("jobs_created_total", queue=QUEUE)) == (before[0] + 1, before[1] + 1)


def test_the_handler_gets_all_payloads_when_the_job_is_full(post: Post) -> None:
    """The fourth of at most four lets the job start; the fifth, and those of other keys, wait."""
    with Engine(post.goqueue.broker):
        for number in range(5):
            goqueue.enqueue(post.digest, Mail(to="ann", number=number))
        goqueue.enqueue(post.digest, Mail(to="bob"))
        wait_until(lambda: post.delivered, what="the first digest")
        wait_until(lambda: post.jobs()[0][1] == "completed", what="its record")
    assert post.delivered == [[Mail(to="ann", number=number) for number in range(4)]]
    assert [status for _, status, _ in post.jobs()] == ["completed", "queued", "queued"]


def test_the_handler_gets_what_is_there_when_the_time_is_over(post: Post) -> None:
    """A job that is not full starts so long after its creation; what comes then waits for the next."""
    soon = goqueue.Unique(key="soon", mode="collect", collect_seconds=0.5)
    with Engine(post.goqueue.broker):
        first = [goqueue.enqueue(post.plain, Mail(to="ann", number=n), unique=soon) for n in range(3)]
        wait_until(lambda: sum(map(len, post.delivered)) == 3, what="three mails in digests")
        second = goqueue.enqueue(post.plain, Mail(to="ann", number=3), unique=soon)
        wait_until(lambda: sum(map(len, post.delivered)) == 4, what="the fourth mail")
    assert second not in first
    assert [mail.number for mails in post.delivered for mail in mails] == [0, 1, 2, 3]


def test_the_answer_says_which_job_took_the_payload(post: Post) -> None:
    """A create that is collected is 200 with `collected` and the whole job; a batch says how many were."""
    first = post.rest("/jobs/create", JOB)
    assert first["payload"] == {"mails": [MAIL]}
    assert "collected" not in first
    second = post.rest("/jobs/create", JOB)
    assert (second["id"], second["deduplicated"], second["collected"]) == (first["id"], True, True)
    assert second["payload"] == {"mails": [MAIL, MAIL]}
    batch = post.rest("/jobs/batch", {"jobs": [JOB, JOB, JOB]})
    new = batch["ids"][-1]
    assert batch == {"ids": [first["id"], first["id"], new], "count": 3, "deduplicated": 2, "collected": 2}


@pytest.mark.parametrize("path", ["/jobs/create", "/jobs/batch"])
def test_an_idempotency_key_adds_a_payload_once(post: Post, path: str) -> None:
    """A create that is sent again is answered as it was, and collected once."""
    post.rest("/jobs/create", JOB)
    document = JOB if path == "/jobs/create" else {"jobs": [JOB]}
    headers = {"Idempotency-Key": "once"}
    first = post.rest(path, document, **headers)
    assert post.rest(path, document, **headers) == first
    assert first["collected"]
    ((_, _, payloads),) = post.jobs()
    assert payloads == [MAIL, MAIL]


def test_a_payload_is_validated_by_itself(post: Post) -> None:
    """What is wrong is named as a field of the payload that was sent, or of its place in the list."""
    with pytest.raises(InvalidJobError) as single:
        goqueue.enqueue(post.digest, {"to": 5})
    assert single.value.fields.keys() == {"payload.to"}
    with pytest.raises(InvalidJobError) as several:
        goqueue.enqueue(post.digest, {"mails": [MAIL, {"to": 5}]})
    assert several.value.fields.keys() == {"payload.mails.1.to"}
    assert post.jobs() == []


@pytest.mark.parametrize(
    ("payload", "options", "field"),
    [
        ({"mails": []}, {}, "payload.mails"),
        ({"mails": [MAIL] * 5}, {}, "payload.mails"),
        ({"mails": [MAIL, {"to": "bob"}]}, {}, "unique.fields"),
        (MAIL, {"delay_seconds": 5}, "delay_seconds"),
        (MAIL, {"unique": goqueue.Unique(key="k", mode="collect")}, "unique.collect_seconds"),
        (MAIL, {"unique": goqueue.Unique(key="k", collect_max=5)}, "unique.collect_max"),
        (
            MAIL,
            {"unique": goqueue.Unique(key="k", mode="collect", collect_seconds=1, collect_max=1)},
            "unique.collect_max",
        ),
        (
            MAIL,
            {"unique": goqueue.Unique(key="k", mode="collect", collect_seconds=1, window_seconds=9)},
            "unique.window_seconds",
        ),
        (
            MAIL,
            {
                "unique": goqueue.Unique(
                    key="k", mode="collect", collect_seconds=1, while_=(JobStatus.RUNNING,)
                )
            },
            "unique.while",
        ),
    ],
    ids=["none", "too many", "two keys", "a start", "no time", "not its mode", "one", "a window", "states"],
)
def test_what_makes_no_sense_is_refused(
    post: Post, payload: Any, options: dict[str, Any], field: str
) -> None:
    """Each is named, and nothing is created."""
    with pytest.raises(InvalidJobError) as refused:
        goqueue.enqueue(post.digest, payload, **options)
    assert field in refused.value.fields
    assert post.jobs() == []


def test_a_tick_overlaps_only_with_what_runs(post: Post) -> None:
    """While the job of an earlier tick runs, the next one is skipped, as its schedule says."""
    post.tick()
    ((first, _, _),) = post.jobs()
    assert set_status(post.goqueue.database, first, JobStatus.RUNNING)
    post.tick()
    assert post.jobs() == [(first, "running", [MAIL])]


def test_only_a_handler_of_one_list_collects(post: Post) -> None:
    """Another type refuses the mode, where it is declared and where a create asks for it."""
    assert post.goqueue

    @goqueue.actor(queue=QUEUE)
    def single(to: str) -> None: ...

    with pytest.raises(InvalidJobError, match="takes no single list of payloads"):
        goqueue.enqueue(single, {"to": "ann"}, unique=DIGEST)
    with pytest.raises(ValueError, match="a handler with one parameter"):
        goqueue.actor(queue=QUEUE, name="declared", unique=DIGEST)(single.fn)


def test_the_explanation_says_what_was_collected(post: Post) -> None:
    """How many payloads it has, how many it takes at most, and until when."""
    job_id = goqueue.enqueue(post.digest, MAIL)
    goqueue.enqueue(post.digest, MAIL)
    (reason,) = (found for found in goqueue.explain(job_id).reasons if found.code == "waits_for_time")
    assert "it collects payloads, and has 2 of at most 4" in reason.message
    assert reason.evidence["kind"] == "collecting"
    assert (reason.evidence["collected"], reason.evidence["collect_max"]) == (2, 4)
