"""Jobs that collect: creates of a key put their payloads to the job that waits. None is lost, none twice."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine import edit_rows
from goqueue.engine.create import JobCreator
from goqueue.engine.graph_rows import NewNode
from goqueue.engine.runway.runway import Runway
from goqueue.engine.transitions import cancel as cancel_store
from goqueue.engine.transitions import retry as retry_store
from goqueue.errors import InvalidJobError, UniqueKeyHeldError
from goqueue.jobs import CollectRule, JobStatus, NewJob, UniqueMode, UniqueRule
from tests.support.factories import JobFactory, set_status
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

WAITING = (JobStatus.QUEUED, JobStatus.BLOCKED)
PLENTY = CollectRule("mails", seconds=60.0, max_payloads=1000, max_bytes=1_000_000)


@pytest.fixture
def submitter(settings: Settings, crowd: Database) -> Iterator[JobCreator]:
    """Creates jobs."""
    runway = Runway(settings)
    yield JobCreator(settings, crowd, runway)
    runway.close()


def mail(*numbers: int, key: str = "k", bounds: CollectRule = PLENTY, **job: Any) -> NewJob:
    """A create of a digest with these payloads."""
    payload = orjson.dumps({bounds.field: [{"number": number} for number in numbers]}).decode()
    rule = UniqueRule(key, WAITING, bounds.seconds, mode=UniqueMode.COLLECT, collect=bounds)
    settings: dict[str, Any] = {"queue": "q", "type": "digest", "payload": payload, "unique": rule}
    return NewJob(**settings | job)


def collected_by_job(database: Database) -> dict[int, list[int]]:
    """The numbers of the payloads that each job has, by id."""
    with database.autocommit() as connection:
        rows = connection.exec_driver_sql("SELECT id, payload FROM jobs ORDER BY id").fetchall()
    return {job_id: [item["number"] for item in payload["mails"]] for job_id, payload in rows}


def all_collected(database: Database) -> Counter[int]:
    """How often each number is in any job."""
    return Counter(number for numbers in collected_by_job(database).values() for number in numbers)


def make_due(database: Database, job_id: int | None = None) -> None:
    """Let jobs that wait for their time start; those that somebody has locked are left for the next time."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET available_at = now(), rank = now() WHERE id = ANY (ARRAY ("
            "SELECT id FROM jobs WHERE status = 'queued' AND (%(id)s::bigint IS NULL OR id = %(id)s) "
            "FOR UPDATE SKIP LOCKED))",
            {"id": job_id},
        )


def row(database: Database, job_id: int) -> Any:
    """What a test wants to know of a job: its state, how long it waits yet, whether it has a place."""
    with database.autocommit() as connection:
        return connection.exec_driver_sql(
            "SELECT status, extract(epoch FROM available_at - created_at)::float, rank IS NOT NULL "
            f"FROM jobs WHERE id = {job_id}"
        ).one()


def test_a_waiting_job_takes_the_payloads_of_further_creates(
    database: Database, submitter: JobCreator
) -> None:
    """They stand behind each other in the order of their creates; the answer names the job that took them."""
    first = submitter.create(mail(1))
    second, third = submitter.create(mail(2)), submitter.create(mail(3, 4))
    assert (first.deduplicated, first.collected) == (False, False)
    assert [(made.job.id, made.deduplicated, made.collected) for made in (second, third)] == [
        (first.job.id, True, True)
    ] * 2
    assert third.job.payload == {"mails": [{"number": number} for number in (1, 2, 3, 4)]}
    assert collected_by_job(database) == {first.job.id: [1, 2, 3, 4]}
    assert tuple(row(database, first.job.id)) == ("queued", 60.0, False)


def _begins(database: Database, job_id: int) -> None:
    make_due(database, job_id)
    assert JobFactory(database).claim(job_id)


def _has_begun_once(database: Database, job_id: int) -> None:
    _begins(database, job_id)
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET status = 'queued', worker_id = NULL, started_at = NULL, attempts = 0, "
            "available_at = now() + interval '1 s', rank = NULL"
        )


def _time_is_over(database: Database, _job_id: int) -> None:
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE unique_keys SET until = now()")


def _is_cancelled(database: Database, job_id: int) -> None:
    with database.autocommit() as connection:
        cancel_store.cancel(connection, [job_id])


def _is_deleted(database: Database, _job_id: int) -> None:
    with database.autocommit() as connection:
        connection.exec_driver_sql("DELETE FROM jobs")


ENDS: dict[str, Callable[[Database, int], object]] = {
    "it runs": _begins,
    "it has begun before": _has_begun_once,
    "its time is over": _time_is_over,
    "it is cancelled": _is_cancelled,
    "it has failed": lambda database, job_id: set_status(database, job_id, JobStatus.FAILED),
    "it is deleted": _is_deleted,
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("is_batch", [False, True], ids=["one", "batch"])
def test_what_waits_no_more_takes_no_more(
    database: Database, submitter: JobCreator, end: str, is_batch: bool
) -> None:
    """A create that meets such a job makes a new one, and the next ones go to that."""
    first = submitter.create(mail(1)).job.id
    ENDS[end](database, first)
    before = collected_by_job(database)
    if is_batch:
        made = submitter.create_many([NewNode(mail(2)), NewNode(mail(3))])
        second = made[0].id
        assert [(row.id, row.collected) for row in made] == [(second, False), (second, True)]
    else:
        created = submitter.create(mail(2))
        second = created.job.id
        assert not created.collected
        assert submitter.create(mail(3)).job.id == second
    assert second != first
    assert collected_by_job(database) == before | {second: [2, 3]}


@pytest.mark.parametrize("is_batch", [False, True], ids=["one by one", "batch"])
def test_a_full_job_starts_and_the_next_one_begins(
    database: Database, submitter: JobCreator, is_batch: bool
) -> None:
    """Of seven payloads by three the first two jobs start at once, and the third waits with one."""
    bounds = replace(PLENTY, max_payloads=3)
    jobs = [mail(number, bounds=bounds) for number in range(7)]
    if is_batch:
        ids = [row.id for row in submitter.create_many([NewNode(job) for job in jobs])]
    else:
        ids = [submitter.create(job).job.id for job in jobs]
    one, two, three = dict.fromkeys(ids)
    assert ids == [one] * 3 + [two] * 3 + [three]
    assert collected_by_job(database) == {one: [0, 1, 2], two: [3, 4, 5], three: [6]}
    waits = [tuple(row(database, job_id))[1:] for job_id in (one, two, three)]
    assert [seconds < 30 for seconds, _ in waits] == [True, True, False]
    assert [has_place for _, has_place in waits] == [True, True, False]


def test_a_batch_fills_what_waits_before_it_begins_another(database: Database, submitter: JobCreator) -> None:
    """Its first payloads go to the job that is there, up to the bound, and the others to new ones."""
    bounds = replace(PLENTY, max_payloads=3)
    first = submitter.create(mail(1, bounds=bounds)).job.id
    other = submitter.create(mail(9, key="other", bounds=bounds)).job.id
    made = submitter.create_many(
        [NewNode(mail(2, bounds=bounds)), NewNode(mail(8, key="other", bounds=bounds))]
        + [NewNode(mail(number, bounds=bounds)) for number in (3, 4, 5)]
    )
    new = made[-1].id
    assert [row.id for row in made] == [first, other, first, new, new]
    assert [row.collected for row in made] == [True, True, True, False, True]
    assert collected_by_job(database) == {first: [1, 2, 3], other: [9, 8], new: [4, 5]}


def test_bytes_bound_a_list_too(database: Database, submitter: JobCreator) -> None:
    """What does not fit begins the next job, and the one before starts."""
    bounds = replace(PLENTY, max_bytes=40)
    ids = [submitter.create(mail(number, bounds=bounds)).job.id for number in (1, 2, 3)]
    assert ids[0] == ids[1] != ids[2]
    assert collected_by_job(database) == {ids[0]: [1, 2], ids[2]: [3]}
    with database.autocommit() as connection:
        sizes = connection.exec_driver_sql("SELECT max(octet_length(payload::text)) FROM jobs").scalar_one()
    assert sizes <= 40
    assert row(database, ids[0])[1] < 30
    assert row(database, ids[2])[1] == 60.0


def test_a_create_is_taken_whole_or_not_at_all(database: Database, submitter: JobCreator) -> None:
    """The payloads of one create are in one job, which its answer names."""
    bounds = replace(PLENTY, max_payloads=3)
    first = submitter.create(mail(1, 2, bounds=bounds)).job.id
    second = submitter.create(mail(3, 4, bounds=bounds)).job.id
    assert collected_by_job(database) == {first: [1, 2], second: [3, 4]}


@pytest.mark.parametrize(
    ("holder", "says"),
    [
        (mail(1, type="other"), "which is of the type other"),
        (replace(mail(1), unique=UniqueRule("k", WAITING)), "which collects no payloads"),
    ],
    ids=["another type", "another mode"],
)
def test_a_holder_that_cannot_take_a_payload_refuses_it(
    database: Database, submitter: JobCreator, holder: NewJob, says: str
) -> None:
    """A payload is never dropped: the create is refused, and says who has the key."""
    first = submitter.create(holder).job.id
    for create in (submitter.create, lambda job: submitter.create_many([NewNode(job)])):
        with pytest.raises(UniqueKeyHeldError, match=f"job {first}, {says}"):
            create(mail(2))
    assert collected_by_job(database) == {first: [1]}


def test_a_job_of_the_same_batch_that_collects_nothing_refuses_it(submitter: JobCreator) -> None:
    """As one that was there before."""
    plain = replace(mail(1), unique=UniqueRule("k", WAITING))
    with pytest.raises(InvalidJobError, match="collects nothing"):
        submitter.create_many([NewNode(plain), NewNode(mail(2))])


def test_a_blocked_job_collects_as_well(database: Database, submitter: JobCreator) -> None:
    """While it waits for another job, it takes payloads."""
    parent = submitter.create(mail(0, key="parent")).job.id
    blocked = submitter.create(mail(1, depends_on=(parent,))).job.id
    assert submitter.create(mail(2)).job.id == blocked
    assert collected_by_job(database) == {parent: [0], blocked: [1, 2]}


def test_an_edited_list_takes_further_payloads(database: Database, submitter: JobCreator) -> None:
    """An operator may take a payload out; the next one stands behind those that are left."""
    job = submitter.create(mail(1, 2)).job.id
    with database.transaction() as connection:
        assert edit_rows.edit(connection, job, edit_rows.JobEdit(payload=mail(2).payload))
    assert submitter.create(mail(3)).job.id == job
    assert collected_by_job(database) == {job: [2, 3]}


def test_what_has_collected_runs_again_beside_the_one_that_collects(
    database: Database, submitter: JobCreator
) -> None:
    """A failed job's retry by hand needs no key: the one that collects now keeps it, and takes what comes."""
    failed = submitter.create(mail(1)).job.id
    _begins(database, failed)
    set_status(database, failed, JobStatus.FAILED)
    waits = submitter.create(mail(2)).job.id
    with database.autocommit() as connection:
        assert [row[0] for row in retry_store.retry(connection, [failed])] == [failed]
    assert submitter.create(mail(3)).job.id == waits
    assert collected_by_job(database) == {failed: [1], waits: [2, 3]}


def test_names_and_texts_that_json_writes_otherwise(submitter: JobCreator) -> None:
    """Quotes, other alphabets and brackets in names and payloads are kept as they came."""
    bounds = replace(PLENTY, field='ma"ils[ü]}')
    texts = ['"', "]}", "ü€", "\\", '{"ma":[1]}']
    jobs = [
        replace(mail(bounds=bounds), payload=orjson.dumps({bounds.field: [{"text": text}]}).decode())
        for text in texts
    ]
    made = [submitter.create(job) for job in jobs]
    assert made[-1].job.payload == {bounds.field: [{"text": text} for text in texts]}


def test_many_threads_lose_nothing_and_repeat_nothing(crowd: Database, submitter: JobCreator) -> None:
    """Creates of three keys, one by one and in batches, while a worker claims what waits: each payload is in
    exactly one job, and a job that was claimed has at its end what its worker was given.
    """
    bounds = replace(PLENTY, max_payloads=7)
    make_job = JobFactory(crowd)
    assert make_job.worker_id
    stop = threading.Event()
    given_to_worker: dict[int, list[int]] = {}

    def work() -> None:
        while not stop.is_set():
            make_due(crowd)
            for claimed in make_job.claim(*collected_by_job(crowd)):
                numbers = [item["number"] for item in orjson.loads(claimed.payload)["mails"]]
                given_to_worker[claimed.id] = numbers

    def churn(thread: int) -> list[int]:
        chance = random.Random(thread)
        sent = []
        for turn in range(8):
            numbers = [thread * 1000 + turn * 10 + n for n in range(chance.choice([1, 1, 4]))]
            jobs = [mail(number, key=chance.choice("abc"), bounds=bounds) for number in numbers]
            if len(jobs) == 1:
                submitter.create(jobs[0])
            else:
                submitter.create_many([NewNode(job) for job in jobs])
            sent += numbers
        return sent

    with ThreadPoolExecutor(31) as threads:
        worker = threads.submit(work)
        try:
            sent = [number for numbers in threads.map(churn, range(30)) for number in numbers]
        finally:
            stop.set()
        worker.result()
    found = collected_by_job(crowd)
    assert all_collected(crowd) == Counter(sent)
    assert all(len(numbers) <= 7 for numbers in found.values())
    assert given_to_worker
    assert given_to_worker == {job_id: found[job_id] for job_id in given_to_worker}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "batch", "claim", "over", "fail", "retry", "cancel"]),
        st.integers(1, 6),
        st.sampled_from("ab"),
    ),
    min_size=1,
    max_size=25,
)


@given(steps=STEPS)
@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_each_payload_is_in_one_job(
    database: Database, submitter: JobCreator, steps: list[tuple[str, int, str]]
) -> None:
    """In any order of creates, claims, ends and retries: no payload is lost, none is in two jobs or twice."""
    with database.autocommit() as connection:
        connection.exec_driver_sql("TRUNCATE jobs, unique_keys CASCADE")
    bounds = replace(PLENTY, max_payloads=4)
    factory = JobFactory(database)
    sent = 0
    for step, size, key in steps:
        ids = list(collected_by_job(database))
        picked = ids[size % len(ids)] if ids else 0
        if step == "create":
            submitter.create(mail(sent, key=key, bounds=bounds))
            sent += 1
        elif step == "batch":
            submitter.create_many([NewNode(mail(sent + n, key=key, bounds=bounds)) for n in range(size)])
            sent += size
        elif step == "claim":
            make_due(database, picked)
            factory.claim(picked)
        elif step == "over":
            _time_is_over(database, picked)
        elif step == "fail":
            set_status(database, picked, JobStatus.FAILED)
        elif step == "cancel":
            _is_cancelled(database, picked)
        else:
            with database.autocommit() as connection:
                retry_store.retry(connection, [picked])
        assert all_collected(database) == Counter(range(sent))
        assert all(len(numbers) <= 4 for numbers in collected_by_job(database).values())
