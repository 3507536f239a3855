"""Jobs reach workers that can run them: dispatcher, admission, claims and figures go by what they know."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
import pytest

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dispatch.dispatcher import Dispatcher
from goqueue.engine import job_rows as job_store
from goqueue.engine import queue_rows as queue_store
from goqueue.engine import ready_rows as ready
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.runway.runway import Message, Runway, parse
from goqueue.engine.transitions import claim as claim_store
from goqueue.engine.transitions import give_back as give_back_store
from goqueue.engine.transitions.record import record
from goqueue.engine.transitions.retry import retry
from goqueue.engine.workers import worker_rows as worker_store
from goqueue.insight import gauge_rows as gauges
from goqueue.jobs import QUARANTINE_QUEUE, AttemptOutcome, ClaimedJob, Job, JobStatus, Outcome
from goqueue.limits import queue_setting_rows as queue_settings
from goqueue.limits.settings import QueueLimits
from tests.support.database.plans import scans_along_indexes
from tests.support.dispatching import do_everything_in_each_round, fetch
from tests.support.factories import JobFactory

OLD = KnownTypes({"noop": "noop-1", "gone": "gone-1"})
NEW = KnownTypes({"noop": "noop-2", "fresh": "fresh-1"})


@pytest.fixture(autouse=True)
def every_round_does_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done now and then is done in each round, so that one round shows it."""
    do_everything_in_each_round(monkeypatch)


@pytest.fixture
def dispatcher(settings: Settings, database: Database, runway: Runway) -> Dispatcher:
    """A dispatcher that has not looked yet."""
    return Dispatcher(settings, database, runway)


@pytest.fixture
def workers(make_job: JobFactory) -> Mapping[str, int]:
    """A live worker of each version, which serve the same queues."""
    queues = ["default", QUARANTINE_QUEUE]
    return {
        "old": make_job.worker(queues=queues, known=OLD),
        "new": make_job.worker(queues=queues, known=NEW),
    }


def fetch_suspects(runway: Runway, known: KnownTypes) -> list[int]:
    """The suspects that a worker that knows these types, and has none, would fetch, one after another."""
    found: list[int] = []
    while True:
        fetched = runway.take("default", 9, block_seconds=0.01, suspects=True, signature=known.signature)
        assert fetched.suspects or not fetched.entries
        if not fetched.entries:
            return sorted(found)
        found += [message.job_id for message in parse(fetched.entries)[0]]


def claim(database: Database, worker_id: int, job: Job, known: KnownTypes) -> list[ClaimedJob]:
    """Claim a job as a worker that knows these types."""
    with database.autocommit() as connection:
        return claim_store.claim(
            connection, [(job.id, job.fence)], worker_id=worker_id, lease_seconds=15, known=known
        )


def give_back(database: Database, worker_id: int, job: ClaimedJob, schema: str, wait: float = 60.0) -> None:
    """Record that a worker could not read the payload of a job."""
    outcome = Outcome(
        job.id,
        job.fence,
        JobStatus.QUEUED,
        AttemptOutcome.INTERRUPTED,
        error="it does not fit",
        refund=True,
        unreadable_by=schema,
        unreadable_wait_seconds=wait,
    )
    with database.autocommit() as connection:
        kept = record(connection, [outcome], worker_id=worker_id)
    assert kept.keys == {(job.id, job.fence)}


def read(database: Database, job: Job) -> Job:
    """The row as it is now."""
    with database.autocommit() as connection:
        return job_store.get(connection, job.id)


@pytest.mark.usefixtures("workers")
def test_each_job_goes_to_those_that_know_its_type(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway
) -> None:
    """What all know is on the runway, what some know on their lane, what nobody knows nowhere."""
    unknown, fresh, gone, noop = (make_job(type=name) for name in ("unknown", "fresh", "gone", "noop"))
    dispatcher.run_once()
    assert fetch(runway) == [noop.id]
    assert fetch(runway, OLD) == [gone.id]
    assert fetch(runway, NEW) == [fresh.id]
    assert unknown.id


def test_workers_of_an_older_release_get_everything(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway
) -> None:
    """While one that does not tell what it knows serves the queue, its jobs are on the runway as before."""
    make_job.worker(queues=["default"])
    make_job.worker(queues=["default"], known=NEW)
    job = make_job(type="whatever")
    dispatcher.run_once()
    assert fetch(runway) == [job.id]


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(
            "UPDATE workers SET command = 'quiet', commanded_at = now() WHERE id = %(id)s", id="quiet"
        ),
        pytest.param("UPDATE workers SET stopped_at = now() WHERE id = %(id)s", id="stopped"),
        pytest.param(
            "UPDATE workers SET heartbeat_at = now() - interval '60 s' WHERE id = %(id)s", id="silent"
        ),
    ],
)
def test_workers_that_take_no_jobs_do_not_count(
    make_job: JobFactory,
    dispatcher: Dispatcher,
    runway: Runway,
    database: Database,
    workers: Mapping[str, int],
    ending: str,
) -> None:
    """When the old worker is quiet or gone, everything that the new one knows is on the runway again."""
    job = make_job(type="fresh")
    dispatcher.run_once()
    with database.autocommit() as connection:
        connection.exec_driver_sql(ending, {"id": workers["old"]})
    later, gone = make_job(type="fresh"), make_job(type="gone")
    dispatcher.run_once()
    assert fetch(runway) == [later.id]
    assert fetch(runway, NEW) == [job.id]
    assert gone.id


@pytest.mark.usefixtures("workers")
def test_a_job_that_was_fetched_by_the_wrong_worker_is_found_again(
    make_job: JobFactory,
    dispatcher: Dispatcher,
    runway: Runway,
    database: Database,
    workers: Mapping[str, int],
) -> None:
    """A submit pushes without knowing workers: the old one's claim is refused, and the lane gets the job."""
    job = make_job(type="fresh")
    runway.submit("default", [Message(job.id, 0)])
    assert fetch(runway) == [job.id]
    assert claim(database, workers["old"], job, OLD) == []
    runway.acknowledge("default", [Message(job.id, 0).key])
    dispatcher.run_once()
    assert fetch(runway, NEW) == [job.id]
    assert [claimed.id for claimed in claim(database, workers["new"], job, NEW)] == [job.id]


def test_a_job_is_on_the_runway_as_soon_as_a_worker_knows_its_type(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway
) -> None:
    """It waited behind the mark of earlier looks; a worker that registers lets the dispatcher look anew."""
    first = make_job.worker(queues=["default"], known=OLD)
    jobs = [make_job(type="fresh") for _ in range(3)]
    for _ in range(3):
        dispatcher.run_once()
    assert fetch(runway, OLD) == []
    make_job.worker(queues=["default"], known=NEW)
    dispatcher.run_once()
    assert fetch(runway, NEW) == [job.id for job in jobs]
    assert first


def test_two_thousand_unknown_jobs_in_front_are_passed(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway, database: Database
) -> None:
    """The runway gets those behind them, in their order, and none of these."""
    make_job.worker(queues=["default"], known=OLD)
    with database.autocommit() as connection:
        queue_store.ensure(connection, ["default"])
        connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, payload, rank) "
            "SELECT 'default', 'fresh', '{}', now() FROM generate_series(1, 2000)"
        )
    jobs = [make_job() for _ in range(3)]
    dispatcher.run_once()
    assert fetch(runway, OLD) == [job.id for job in jobs]


@pytest.mark.parametrize(
    "limits", [QueueLimits(concurrency=2), QueueLimits(fair=True)], ids=["slots", "fair"]
)
def test_a_job_that_nobody_can_run_holds_no_slot(
    make_job: JobFactory,
    dispatcher: Dispatcher,
    runway: Runway,
    database: Database,
    workers: Mapping[str, int],
    limits: QueueLimits,
) -> None:
    """In a queue with limits unknown types are not let in, and each other job goes to those who know it."""
    with database.transaction() as connection:
        queue_store.ensure(connection, ["default"])
        queue_settings.set_limits(connection, "default", limits)
    unknown = [make_job(type="unknown", concurrency_key="a") for _ in range(5)]
    fresh = make_job(type="fresh", concurrency_key="b")
    noop = make_job(type="noop", concurrency_key="c")
    for _ in range(3):
        dispatcher.run_once()
    assert fetch(runway) == [noop.id]
    assert fetch(runway, NEW) == [fresh.id]
    assert not any(read(database, job).admitted for job in unknown)
    assert workers


def test_a_slot_is_given_back_when_nobody_is_left_who_can_run_its_job(
    make_job: JobFactory, dispatcher: Dispatcher, database: Database, workers: Mapping[str, int]
) -> None:
    """A job was let in and its only workers went before it started: another job gets its slot."""
    with database.transaction() as connection:
        queue_store.ensure(connection, ["default"])
        queue_settings.set_limits(connection, "default", QueueLimits(concurrency=1))
    fresh = make_job(type="fresh")
    dispatcher.run_once()
    assert read(database, fresh).admitted
    with database.autocommit() as connection:
        worker_store.stop(connection, workers["new"])
    noop = make_job(type="noop")
    for _ in range(200):
        dispatcher.run_once()
        if read(database, noop).admitted:
            break
    assert (read(database, fresh).admitted, read(database, noop).admitted) == (False, True)


@pytest.mark.usefixtures("workers")
def test_suspects_go_to_those_that_know_their_type(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway
) -> None:
    """The quarantine is routed as any queue: idle processes that do not know a suspect's type are passed."""
    unknown, fresh, noop = (
        make_job(type=name, quarantined=True, suspicion=2) for name in ("unknown", "fresh", "noop")
    )
    dispatcher.run_once()
    assert fetch(runway, queue=QUARANTINE_QUEUE) == [noop.id]
    assert fetch(runway, NEW, QUARANTINE_QUEUE) == [fresh.id]
    assert unknown.id


@pytest.mark.usefixtures("workers")
def test_suspects_beside_others_go_to_those_that_know_their_type(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway, settings: Settings
) -> None:
    """What only some know is on a lane of the suspects; what nobody knows stays a row and hides nothing."""
    unknown = [
        make_job(type="unknown", quarantined=True, suspicion=1) for _ in range(settings.runway_min + 1)
    ]
    fresh, noop = (make_job(type=name, quarantined=True, suspicion=1) for name in ("fresh", "noop"))
    dispatcher.run_once()
    assert fetch_suspects(runway, OLD) == [noop.id]
    assert fetch_suspects(runway, NEW) == [fresh.id]
    dispatcher.run_once()
    assert fetch_suspects(runway, NEW) == []
    assert unknown


@pytest.mark.usefixtures("workers")
def test_what_came_from_a_lane_goes_back_to_it(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway
) -> None:
    """Neither what was fetched and not claimed, nor what was claimed and given back, meets others."""
    fresh = make_job(type="fresh")
    dispatcher.run_once()
    fetched = runway.take("default", 9, block_seconds=0.01, signature=NEW.signature)
    assert fetched.lane == NEW.signature
    message = Message(fresh.id, fresh.fence)
    runway.put_back("default", [message], lane=fetched.lane)
    assert (fetch(runway, OLD), fetch(runway, NEW)) == ([], [fresh.id])
    later = Message(fresh.id, fresh.fence + 1)
    assert runway.push_returned("default", [later], wanted=False, lane=fetched.lane).added == 1
    assert (fetch(runway, OLD), fetch(runway, NEW)) == ([], [fresh.id])


def test_those_of_a_lane_are_waited_for_only_by_their_own(runway: Runway) -> None:
    """An idle worker that cannot run what waits elsewhere does not call it back, again and again."""
    runway.take("default", 1, block_seconds=0.01, waits_as=1, signature=OLD.signature)
    assert runway.is_waited_for("default", except_worker=2)
    assert runway.is_waited_for("default", except_worker=2, lane=OLD.signature)
    assert not runway.is_waited_for("default", except_worker=2, lane=NEW.signature)


def test_a_claim_given_back_still_waits_for_another_schema(
    make_job: JobFactory, database: Database, workers: Mapping[str, int]
) -> None:
    """Nobody read the payload meanwhile: who could not is refused as before, until the same time."""
    job = make_job(type="noop")
    (claimed,) = claim(database, workers["old"], job, OLD)
    give_back(database, workers["old"], claimed, "noop-1")
    (claimed,) = claim(database, workers["new"], read(database, job), NEW)
    with database.autocommit() as connection:
        give_back_store.give_back(connection, [(claimed.id, claimed.fence)], worker_id=workers["new"])
    job = read(database, job)
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 0)
    assert claim(database, workers["old"], job, OLD) == []
    assert len(claim(database, workers["new"], job, NEW)) == 1


def test_an_unreadable_payload_is_tried_once_by_each_schema(
    make_job: JobFactory,
    dispatcher: Dispatcher,
    runway: Runway,
    database: Database,
    workers: Mapping[str, int],
) -> None:
    """It goes back unspent, to the other version alone; what that cannot read either waits as a row."""
    job = make_job(type="noop")
    (claimed,) = claim(database, workers["old"], job, OLD)
    give_back(database, workers["old"], claimed, "noop-1")
    job = read(database, job)
    assert (job.status, job.attempts, job.error) == (JobStatus.QUEUED, 0, "it does not fit")
    assert claim(database, workers["old"], job, OLD) == []
    dispatcher.run_once()
    assert (fetch(runway), fetch(runway, OLD), fetch(runway, NEW)) == ([], [], [job.id])
    runway.acknowledge("default", [Message(job.id, job.fence).key])
    (claimed,) = claim(database, workers["new"], job, NEW)
    assert claimed.unreadable_is_over is False
    give_back(database, workers["new"], claimed, "noop-2")
    dispatcher.run_once()
    assert (fetch(runway), fetch(runway, OLD), fetch(runway, NEW)) == ([], [], [])


def test_after_its_time_whoever_knows_the_type_tries_for_the_last_time(
    make_job: JobFactory,
    dispatcher: Dispatcher,
    runway: Runway,
    database: Database,
    workers: Mapping[str, int],
) -> None:
    """The claim says that the time is over, so that this attempt is the last; a replay begins anew."""
    job = make_job(type="noop")
    (claimed,) = claim(database, workers["old"], job, OLD)
    give_back(database, workers["old"], claimed, "noop-1", wait=0.0)
    job = read(database, job)
    dispatcher.run_once()
    assert fetch(runway) == [job.id]
    (claimed,) = claim(database, workers["old"], job, OLD)
    assert claimed.unreadable_is_over is True
    failed = Outcome(claimed.id, claimed.fence, JobStatus.FAILED, AttemptOutcome.FAILED, error="no")
    with database.autocommit() as connection:
        record(connection, [failed], worker_id=workers["old"])
        retry(connection, [job.id])
    (claimed,) = claim(database, workers["old"], read(database, job), OLD)
    assert claimed.unreadable_is_over is None


@pytest.mark.parametrize("statement", ["runway", "lanes", "newcomers"])
def test_what_is_passed_is_passed_along_the_index(
    database: Database, dispatcher: Dispatcher, workers: Mapping[str, int], statement: str
) -> None:
    """With ten thousand rows of other queues, and as many unknown ones, each look walks along one index."""
    with database.transaction() as connection:
        queue_store.ensure(connection, ["default", "other"])
        for queue, name in [("other", "noop"), ("default", "unknown"), ("default", "fresh")]:
            connection.exec_driver_sql(
                "INSERT INTO jobs (queue, type, payload, rank) SELECT %(queue)s, %(type)s, '{}', now() "
                "FROM generate_series(1, 10000)",
                {"queue": queue, "type": name},
            )
        connection.exec_driver_sql("ANALYZE jobs")
        want = {"queue": "default", "count": 64, "rank": "-infinity", "id": 0, "after": 0}
        sql, parameters = {
            "runway": (ready._NEXT_READY, {"wanted": [want | {"sorted": True, "types": ["noop"]}]}),  # noqa: SLF001  (the plan of this very statement)
            "newcomers": (ready._NEWCOMERS, {"marks": [want | {"sorted": True, "types": ["noop"]}]}),  # noqa: SLF001  (the plan of this very statement)
            "lanes": (
                ready._NEXT_OF_LANES,  # noqa: SLF001  (the plan of this very statement)
                {
                    "lanes": [
                        {"number": 0, **want, "types": NEW.types, "schemas": NEW.schemas, "others": ["fresh"]}
                    ]
                },
            ),
        }[statement]
        texts = {name: orjson.dumps(value).decode() for name, value in parameters.items()}
        read_rows, _ = scans_along_indexes(connection, sql, texts | {"limit": 100}, {"jobs"})
        # Of the newcomers' index (the ids) all rows may be walked; of the ready index only this queue's.
        assert read_rows <= (30_100 if statement == "newcomers" else 20_100)
    assert dispatcher.run_once()["pushed"] > 0
    assert workers


def test_what_nobody_can_run_is_counted(
    make_job: JobFactory, database: Database, workers: Mapping[str, int]
) -> None:
    """The gauge has unknown types and unreadable payloads, where some worker serves the queue."""
    for name in ("unknown", "unknown", "fresh", "noop"):
        make_job(type=name)
    make_job(type="unknown", queue="unserved")
    job = make_job(type="noop")
    (claimed,) = claim(database, workers["old"], job, OLD)
    give_back(database, workers["old"], claimed, "noop-1")
    with database.autocommit() as connection:
        found = gauges.read(connection, lease_seconds=15)
    counted = {queue.name: queue.unrunnable for queue in found.queues}
    assert counted == {"default": 3, "unserved": 0}
