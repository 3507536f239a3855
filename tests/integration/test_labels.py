"""Jobs that require labels, or several slots, reach workers that have them, and never another one."""

from __future__ import annotations

from typing import Any

import pytest

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dispatch.dispatcher import Dispatcher
from goqueue.engine import job_rows as job_store
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.runway.runway import Runway, parse
from goqueue.engine.transitions.record import record
from goqueue.engine.transitions.retry import retry
from goqueue.engine.workers import worker_rows as worker_store
from goqueue.jobs import MAX_SLOTS, QUARANTINE_QUEUE, AttemptOutcome, Job, JobStatus, Outcome
from goqueue.limits import queue_setting_rows as queue_settings
from goqueue.limits.settings import QueueLimits
from tests.support.dispatching import claim, do_everything_in_each_round, fetch, worker_of
from tests.support.factories import JobFactory
from tests.support.servers.bare_runway import BareRunway
from tests.support.waiting import wait_until

SCHEMAS = {"noop": "noop-1"}
PLAIN = KnownTypes(SCHEMAS, slots=8)
GPU = KnownTypes(SCHEMAS, labels=("gpu=true", "region=eu"), slots=8)
SMALL_GPU = KnownTypes(SCHEMAS, labels=("gpu=true",), slots=2)
ASYNC = KnownTypes(SCHEMAS, slots=2, async_types=("noop",), async_slots=5)

#: What the release before asks of a row that it claims; it knows neither `requires` nor `slots`.
CLAIMED_BY_THE_RELEASE_BEFORE = """
    SELECT jobs.id FROM jobs
    WHERE jobs.id = %(id)s AND jobs.fence = %(fence)s AND jobs.status = 'queued'
      AND jobs.available_at <= now() AND jobs.attempts <= jobs.max_retries
    LIMIT 1 FOR UPDATE SKIP LOCKED
"""


@pytest.fixture(autouse=True)
def every_round_does_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done now and then is done in each round, so that one round shows it."""
    do_everything_in_each_round(monkeypatch)


@pytest.fixture
def dispatcher(settings: Settings, database: Database, runway: Runway) -> Dispatcher:
    """A dispatcher that has not looked yet."""
    return Dispatcher(settings, database, runway)


def read(database: Database, job_id: int) -> Job:
    """The row as it is now."""
    with database.autocommit() as connection:
        return job_store.get(connection, job_id)


def test_each_job_goes_to_those_that_have_what_it_requires(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway
) -> None:
    """What all can run is on the runway, the rest on the lanes of those that can, or nowhere."""
    for known in (PLAIN, GPU, SMALL_GPU):
        worker_of(make_job, known)
    nowhere = make_job(requires=["region=us"])
    too_large = make_job(requires=[], slots=9)
    gpu = make_job(requires=["gpu=true"])
    both = make_job(requires=["gpu=true", "region=eu"])
    heavy = make_job(requires=[], slots=4)
    heavy_gpu = make_job(requires=["gpu=true"], slots=8)
    two = make_job(requires=[], slots=2)
    plain = make_job()
    dispatcher.run_once()
    assert fetch(runway) == [two.id, plain.id]
    on_lanes: dict[str, set[int]] = {"plain": set(), "gpu": set(), "small": set()}

    def are_offered() -> bool:
        dispatcher.run_once()
        for name, known in (("plain", PLAIN), ("gpu", GPU), ("small", SMALL_GPU)):
            # What nobody claimed is pushed again, on a slow machine before all of the others are there.
            on_lanes[name] |= set(fetch(runway, known)) - {two.id, plain.id}
        return len(on_lanes["plain"]) + len(on_lanes["gpu"]) + len(on_lanes["small"]) >= 6

    wait_until(are_offered, what="what nobody took to be offered on each lane")
    assert on_lanes == {
        "plain": {heavy.id},
        "gpu": {gpu.id, both.id, heavy.id, heavy_gpu.id},
        "small": {gpu.id},
    }
    assert nowhere.id
    assert too_large.id


def test_a_job_on_the_lane_of_busy_workers_is_offered_to_the_others(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway, bare_runway: BareRunway
) -> None:
    """It stands on one lane first; nobody takes it there, and those of another lane, who can, get it."""
    others = KnownTypes(SCHEMAS, labels=("gpu=true", "region=us"), slots=8)
    for known in (PLAIN, GPU, others):
        worker_of(make_job, known)
    job = make_job(requires=["gpu=true"])
    dispatcher.run_once()
    assert fetch(runway, PLAIN) == []

    def lengths() -> list[int]:
        lanes = [bare_runway.key(f"runway:{known.signature}") for known in (GPU, others)]
        return [bare_runway.redis.llen(lane) for lane in lanes]

    assert sorted(lengths()) == [0, 1]

    def is_offered() -> bool:
        dispatcher.run_once()
        return lengths() == [1, 1]

    wait_until(is_offered, what="the job to be on the other lane, too")
    for _ in range(10):
        dispatcher.run_once()
    assert (fetch(runway, GPU), fetch(runway, others)) == ([job.id], [job.id])


def test_what_no_worker_can_run_keeps_nothing_waiting(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway, database: Database
) -> None:
    """Two thousand jobs that require what nobody has stand in front: those behind them are pushed."""
    worker_of(make_job, GPU)
    with database.autocommit() as connection:
        queue_store.ensure(connection, ["default"])
        connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, payload, rank, requires, slots, max_retries) "
            "SELECT 'default', 'noop', '{}', now(), CASE WHEN n %% 2 = 0 THEN ARRAY['tpu=true'] "
            "ELSE ARRAY[]::text[] END, CASE WHEN n %% 2 = 0 THEN 1 ELSE 100 END, -4 "
            "FROM generate_series(1, 2000) AS n"
        )
    jobs = [make_job(), make_job(requires=["gpu=true"]), make_job()]
    dispatcher.run_once()
    assert fetch(runway, GPU) == [job.id for job in jobs]


def test_a_worker_that_registers_gets_what_waited_for_its_label(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway
) -> None:
    """Its jobs waited behind the mark of earlier looks; now they are on its lane."""
    worker_of(make_job, PLAIN)
    job = make_job(requires=["gpu=true"])
    for _ in range(3):
        dispatcher.run_once()
    assert fetch(runway, PLAIN) == []
    worker_of(make_job, GPU)
    dispatcher.run_once()
    assert fetch(runway, PLAIN) == []
    assert fetch(runway, GPU) == [job.id]


@pytest.mark.parametrize(
    ("requires", "slots", "known", "is_claimed"),
    [
        pytest.param(["gpu=true"], 1, PLAIN, False, id="no label"),
        pytest.param(["gpu=true"], 1, GPU, True, id="the label"),
        pytest.param(["gpu=false"], 1, GPU, False, id="another value"),
        pytest.param(["gpu=true", "region=us"], 1, GPU, False, id="one of two"),
        pytest.param(["gpu=true", "region=eu"], 8, GPU, True, id="all, and all threads"),
        pytest.param(["gpu=true"], 3, SMALL_GPU, False, id="too small"),
        pytest.param([], 9, PLAIN, False, id="one slot too many"),
        pytest.param([], 8, PLAIN, True, id="as many as threads"),
        pytest.param([], 5, ASYNC, True, id="as many as async slots"),
        pytest.param([], 6, ASYNC, False, id="one async slot too many"),
        pytest.param([], 9, ASYNC.alone, True, id="alone, async"),
        pytest.param([], 9, PLAIN.alone, True, id="alone it has the whole process"),
        pytest.param(["gpu=true"], 1, PLAIN.alone, False, id="alone without the label"),
    ],
)
def test_the_claim_itself_refuses(
    make_job: JobFactory,
    database: Database,
    requires: list[str],
    slots: int,
    known: KnownTypes,
    is_claimed: bool,
) -> None:
    """A stale message at the wrong worker claims nothing, whoever pushed it there."""
    job = make_job(requires=requires, slots=slots)
    claimed = claim(database, make_job.worker_id, job, known)
    assert [(one.id, one.max_retries, one.slots) for one in claimed] == [(job.id, 3, slots)] * is_claimed


def test_a_worker_of_the_release_before_never_claims_what_requires_something(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway, database: Database
) -> None:
    """Whatever pushes it there: neither a new job, nor one that was retried with its attempts at zero."""
    old = make_job.worker(queues=["default"], known=PLAIN)
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE workers SET labels = NULL WHERE id = %(id)s", {"id": old})
    jobs = [
        make_job(requires=["gpu=true"]),
        make_job(requires=[], slots=2),
        make_job("failed", requires=["gpu=true"]),
    ]
    plain = make_job()
    with database.autocommit() as connection:
        retry(connection, [jobs[2].id])
        for job in [*jobs, plain]:
            found = connection.exec_driver_sql(
                CLAIMED_BY_THE_RELEASE_BEFORE, {"id": job.id, "fence": job.fence}
            ).fetchall()
            assert [row[0] for row in found] == [job.id] * (job.id == plain.id)
    dispatcher.run_once()
    assert fetch(runway, PLAIN) == [plain.id]


def test_retries_are_counted_as_of_any_job(make_job: JobFactory, database: Database) -> None:
    """A job that requires something fails after as many attempts as one that does not, and says so."""
    job = make_job(requires=["gpu=true"], max_retries=1)
    assert read(database, job.id).max_retries == 1
    for attempt in (1, 2):
        job = read(database, job.id)
        (claimed,) = claim(database, make_job.worker_id, job, GPU)
        assert (claimed.attempts, claimed.max_retries) == (attempt, 1)
        outcome = Outcome(claimed.id, claimed.fence, JobStatus.QUEUED, AttemptOutcome.FAILED, error="no")
        with database.autocommit() as connection:
            record(connection, [outcome], worker_id=make_job.worker_id)
    assert read(database, job.id).status == JobStatus.FAILED
    with database.autocommit() as connection:
        assert retry(connection, [job.id])
    job = read(database, job.id)
    assert (job.requires, job.max_retries, job.attempts) == (("gpu=true",), 1, 0)
    assert claim(database, make_job.worker_id, job, PLAIN) == []
    assert len(claim(database, make_job.worker_id, job, GPU)) == 1


@pytest.mark.parametrize(
    "limits",
    [
        QueueLimits(concurrency=2),
        QueueLimits(fair=True),
        QueueLimits(fifo=True),
    ],
    ids=["slots", "fair", "fifo"],
)
def test_what_nobody_can_run_holds_no_slot_of_a_limit(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway, database: Database, limits: QueueLimits
) -> None:
    """In a queue with limits it is not let in, and the others go to those who can run them."""
    with database.transaction() as connection:
        queue_store.ensure(connection, ["default"])
        queue_settings.set_limits(connection, "default", limits)
    for known in (PLAIN, GPU):
        worker_of(make_job, known)
    missing = [make_job(requires=["tpu=true"], concurrency_key="a") for _ in range(5)]
    large = make_job(requires=[], slots=100, concurrency_key="b")
    gpu = make_job(requires=["gpu=true"], concurrency_key="c")
    plain = make_job(concurrency_key="d")
    for _ in range(3):
        dispatcher.run_once()
    assert fetch(runway) == [plain.id]
    assert fetch(runway, GPU) == [gpu.id]
    assert not any(read(database, job.id).admitted for job in [*missing, large])


@pytest.mark.parametrize("suspicion", [1, 2], ids=["beside others", "alone"])
def test_suspects_go_to_those_that_have_what_they_require(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway, settings: Settings, suspicion: int
) -> None:
    """Many that nobody can run hide none behind them; who runs alone is asked for labels only."""
    for known in (PLAIN, SMALL_GPU):
        worker_of(make_job, known)
    suspect: dict[str, Any] = {"quarantined": True, "suspicion": suspicion}
    missing = [make_job(requires=["tpu=true"], **suspect) for _ in range(settings.runway_min + 1)]
    gpu = make_job(requires=["gpu=true"], slots=4, **suspect)
    small = make_job(requires=["gpu=true"], **suspect)
    plain = make_job(**suspect)
    dispatcher.run_once()
    queue = "default" if suspicion == 1 else QUARANTINE_QUEUE
    assert _suspects(runway, PLAIN, queue) == [plain.id]
    assert _suspects(runway, SMALL_GPU, queue) == ([small.id] if suspicion == 1 else [gpu.id, small.id])
    assert missing


def _suspects(runway: Runway, known: KnownTypes, queue: str) -> list[int]:
    if queue == QUARANTINE_QUEUE:
        return fetch(runway, known, queue)
    found: list[int] = []
    while True:
        fetched = runway.take(queue, 9, block_seconds=0.01, suspects=True, signature=known.signature)
        if not fetched.entries:
            return sorted(found)
        found += [message.job_id for message in parse(fetched.entries).messages]


def test_the_quarantine_is_served_for_whoever_has_the_labels(
    make_job: JobFactory, database: Database
) -> None:
    """A process leaves suspects to one that serves nothing else only if that one has all of its labels."""
    make_job.worker(queues=[QUARANTINE_QUEUE], known=SMALL_GPU)
    with database.autocommit() as connection:
        served = [
            worker_store.is_quarantine_served(
                connection, except_worker_id=0, lease_seconds=15, labels=known.labels
            )
            for known in (PLAIN, SMALL_GPU, GPU)
        ]
    assert served == [True, True, False]


def test_who_can_run_the_same_has_the_same_signature() -> None:
    """Labels and threads are part of it, their order is not; and nobody is larger than a job may be."""
    same = KnownTypes(SCHEMAS, labels=("region=eu", "gpu=true"), slots=8)
    assert same.signature == GPU.signature
    assert len({known.signature for known in (PLAIN, GPU, SMALL_GPU, KnownTypes(SCHEMAS))}) == 4
    assert GPU.alone.slots == MAX_SLOTS
