"""Jobs that need a version of their worker never reach an older one, by whatever way they come."""

from __future__ import annotations

import pytest

from goqueue.config.labels import MAX_VERSION, with_version
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dispatch.dispatcher import Dispatcher
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.runway.runway import Runway
from goqueue.engine.transitions.claim_ranges import claim_ranges
from goqueue.engine.workers import worker_rows as worker_store
from goqueue.insight import gauge_rows
from goqueue.insight.explain.explaining import explain_job
from goqueue.jobs import QUARANTINE_QUEUE
from goqueue.limits import queue_setting_rows as queue_settings
from goqueue.limits.settings import QueueLimits
from tests.support.dispatching import claim, do_everything_in_each_round, fetch, worker_of
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings
from tests.support.waiting import wait_until

settings = module_settings
database = emptied_database

SCHEMAS = {"noop": "noop-1"}


def version(number: int, *labels: str) -> KnownTypes:
    """Workers of a version; 0: they say none."""
    return KnownTypes(SCHEMAS, labels=with_version(labels, number), slots=8)


NONE, THREE, FOUR, TEN = version(0), version(3), version(4), version(10)
NEEDS_FOUR = list(with_version((), 4))

#: What a worker of the release before, which knows labels and no versions, asks of a job that requires some.
OF_THE_RELEASE_BEFORE = "SELECT id FROM jobs WHERE id = %(id)s AND requires <@ %(labels)s::text[]"


@pytest.fixture(autouse=True)
def every_round_does_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done now and then is done in each round, so that one round shows it."""
    do_everything_in_each_round(monkeypatch)


@pytest.fixture
def dispatcher(settings: Settings, database: Database, runway: Runway) -> Dispatcher:
    """A dispatcher that has not looked yet."""
    return Dispatcher(settings, database, runway)


@pytest.mark.parametrize(
    ("requires", "known", "is_claimed"),
    [
        pytest.param(NEEDS_FOUR, NONE, False, id="no version"),
        pytest.param(NEEDS_FOUR, THREE, False, id="older"),
        pytest.param(NEEDS_FOUR, FOUR, True, id="the same"),
        pytest.param(NEEDS_FOUR, TEN, True, id="newer, with more digits"),
        pytest.param(NEEDS_FOUR, TEN.alone, True, id="newer, alone"),
        pytest.param(NEEDS_FOUR, THREE.alone, False, id="older, alone"),
        pytest.param(list(with_version((), MAX_VERSION)), version(MAX_VERSION - 1), False, id="the largest"),
        pytest.param(list(with_version(["gpu=true"], 4)), TEN, False, id="newer without the label"),
        pytest.param(list(with_version(["gpu=true"], 4)), version(3, "gpu=true"), False, id="older with it"),
        pytest.param(list(with_version(["gpu=true"], 4)), version(5, "gpu=true"), True, id="newer with it"),
        pytest.param(["gpu=true"], version(5, "gpu=true"), True, id="only the label"),
        pytest.param([], THREE, True, id="nothing"),
    ],
)
def test_every_claim_refuses_an_older_worker(
    make_job: JobFactory, database: Database, requires: list[str], known: KnownTypes, is_claimed: bool
) -> None:
    """By message and by range alike: what lies on the runway of an older worker is not its."""
    job = make_job(requires=requires)
    with database.autocommit() as connection:
        ranged = claim_ranges(
            connection,
            "default",
            [(("-infinity", 0), ("infinity", 2**62))],
            limit=9,
            worker_id=make_job.worker_id,
            lease_seconds=15,
            known=known,
        )
    assert [one.id for one in ranged] == [job.id] * is_claimed
    other = make_job(requires=requires)
    assert [one.id for one in claim(database, make_job.worker_id, other, known)] == [other.id] * is_claimed


def test_a_newer_worker_gets_what_lies_on_the_runway_of_an_older_one(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway, database: Database
) -> None:
    """It is pushed for those that can run it; an older one that has its message claims nothing."""
    older, newer = worker_of(make_job, THREE), worker_of(make_job, FOUR)
    job, plain = make_job(requires=NEEDS_FOUR), make_job()
    dispatcher.run_once()
    assert fetch(runway, THREE) == [plain.id]
    assert claim(database, older, job, THREE) == []
    found: list[int] = []

    def is_offered() -> bool:
        dispatcher.run_once()
        found.extend(fetch(runway, FOUR))
        return job.id in found

    wait_until(is_offered, what="the job to be offered to the newer worker")
    assert [one.id for one in claim(database, newer, job, FOUR)] == [job.id]


def test_what_needs_a_version_that_all_have_is_on_the_runway(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway
) -> None:
    """All workers are new enough, each in its own way: nothing is told apart."""
    worker_of(make_job, FOUR)
    worker_of(make_job, TEN)
    jobs = [make_job(requires=NEEDS_FOUR), make_job()]
    dispatcher.run_once()
    assert fetch(runway) == [job.id for job in jobs]


def test_what_nobody_is_new_enough_for_keeps_nothing_waiting(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway, database: Database, settings: Settings
) -> None:
    """Those behind it are passed on; it holds no slot of a limit, and is counted as unrunnable."""
    worker_of(make_job, THREE)
    waiting = [make_job(requires=NEEDS_FOUR) for _ in range(3)]
    plain = make_job()
    dispatcher.run_once()
    assert fetch(runway, THREE) == [plain.id]
    with database.autocommit() as connection:
        gauges = gauge_rows.read(connection, lease_seconds=settings.lease_seconds)
    assert [queue.unrunnable for queue in gauges.queues if queue.name == "default"] == [3]
    with database.transaction() as connection:
        queue_store.ensure(connection, ["default"])
        queue_settings.set_limits(connection, "default", QueueLimits(concurrency=2))
    for _ in range(3):
        dispatcher.run_once()
    with database.autocommit() as connection:
        admitted = connection.exec_driver_sql("SELECT id FROM jobs WHERE admitted").scalars().all()
    assert admitted == [plain.id]
    assert waiting


def test_explain_says_which_version_is_missing(
    make_job: JobFactory, database: Database, settings: Settings
) -> None:
    """It names the version that is needed, and the newest that there is; of a missing label the label."""
    worker_of(make_job, version(2))
    worker_of(make_job, version(3, "gpu=true"))
    found = explain_job(database, settings, make_job(requires=NEEDS_FOUR).id, lambda _: None)
    assert found.reasons[0].code == "version_too_low"
    assert "it needs version ≥ 4, the newest live worker of the queue 'default' has 3" in found.summary
    assert found.reasons[0].evidence["workers"] == 2
    labelled = make_job(requires=list(with_version(["tpu=true"], 3)))
    found = explain_job(database, settings, labelled.id, lambda _: None)
    assert found.reasons[0].code == "labels_missing"
    assert "version" not in found.summary
    worker_of(make_job, FOUR)
    found = explain_job(database, settings, make_job(requires=NEEDS_FOUR).id, lambda _: None)
    assert "version_too_low" not in [reason.code for reason in found.reasons]


def test_a_suspect_waits_for_a_newer_worker(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway
) -> None:
    """Alone, too: its threads are not asked for, its version is."""
    worker_of(make_job, THREE)
    suspect = make_job(requires=NEEDS_FOUR, quarantined=True, suspicion=2)
    dispatcher.run_once()
    assert fetch(runway, THREE, QUARANTINE_QUEUE) == []
    worker_of(make_job, FOUR)
    dispatcher.run_once()
    assert fetch(runway, FOUR, QUARANTINE_QUEUE) == [suspect.id]


def test_the_quarantine_is_served_by_one_as_new(make_job: JobFactory, database: Database) -> None:
    """A process leaves suspects to one that serves nothing else only if that one is at least as new."""
    make_job.worker(queues=[QUARANTINE_QUEUE], known=FOUR)
    with database.autocommit() as connection:
        served = [
            worker_store.is_quarantine_served(
                connection, except_worker_id=0, lease_seconds=15, labels=known.labels
            )
            for known in (NONE, THREE, FOUR, TEN)
        ]
    assert served == [True, True, True, False]


def test_a_worker_of_the_release_before_never_gets_it(make_job: JobFactory, database: Database) -> None:
    """It finds a label in what the job requires that no operator can give to a worker."""
    job = make_job(requires=NEEDS_FOUR)
    with database.autocommit() as connection:
        for labels in ([], ["version=4"], ["gpu=true", "version=10"]):
            found = connection.exec_driver_sql(OF_THE_RELEASE_BEFORE, {"id": job.id, "labels": labels})
            assert found.all() == []
