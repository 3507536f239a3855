"""GET /jobs/{id}/explain: each reason, set up for real. The limits have a module of their own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from falcon import testing

from goqueue.db.database import Database
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.transitions.cancel import cancel
from goqueue.engine.transitions.release import settle
from goqueue.engine.transitions.retry import retry
from goqueue.jobs import FINAL_STATUSES, JobStatus
from tests.support.factories import JobFactory
from tests.support.http.explanations import asked, codes, evidence_of, seconds_from
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

FAR = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def worker(make_job: JobFactory) -> int:
    """A live worker that listens to the queue of the tests."""
    return make_job.worker(queues=["default", "quarantine"], threads=8)


def execute(database: Database, sql: str, **parameters: Any) -> None:
    """Run a statement."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(sql, parameters)


def test_an_unknown_job_is_404(client: testing.TestClient) -> None:
    """There is nothing to explain about a job that does not exist."""
    assert client.simulate_get("/jobs/4711/explain").status_code == 404
    assert client.simulate_get("/jobs/0/explain").status_code == 404
    assert client.simulate_get("/jobs/x/explain").status_code == 404


@pytest.mark.parametrize("status", sorted(FINAL_STATUSES))
def test_a_finished_job_says_when(client: testing.TestClient, make_job: JobFactory, status: str) -> None:
    """A finished job has no reasons; the summary says since when it is finished, and why."""
    answer = asked(client, make_job(status, reason="because", error="broken"))
    assert answer["reasons"] == []
    assert (answer["status"], answer["ahead"], answer["expected_start_at"]) == (status, None, None)
    assert f"it is {status} since {datetime.now(UTC):%Y-}" in answer["summary"]
    assert ("because: broken" in answer["summary"]) == (status != "completed")


@pytest.mark.parametrize("queued", ["nothing", "later", "suspected", "quarantined", "admitted", "unserved"])
@pytest.mark.parametrize("status", [status for status in JobStatus if status not in FINAL_STATUSES])
def test_no_unfinished_job_is_without_a_reason(
    client: testing.TestClient, make_job: JobFactory, status: JobStatus, queued: str
) -> None:
    """Whatever an unfinished job looks like, there is a reason, and a sentence that names it."""
    columns: dict[str, dict[str, Any]] = {
        "nothing": {},
        "later": {"available_at": FAR},
        "suspected": {"quarantined": True, "suspicion": 1},
        "quarantined": {"quarantined": True, "suspicion": 2},
        "admitted": {"admitted": status is JobStatus.QUEUED},
        "unserved": {"queue": "unserved"},
    }
    make_job.worker(queues=["default"])
    answer = asked(client, make_job(status, **columns[queued]))
    assert answer["reasons"]
    assert answer["summary"].endswith(answer["reasons"][0]["message"])
    assert f"job {answer['job_id']} " in answer["summary"]


# Running


def test_a_running_job_says_where(client: testing.TestClient, make_job: JobFactory) -> None:
    """A running job says since when it runs, and on which worker."""
    job = make_job("running")
    answer = asked(client, job)
    assert codes(answer) == ["running"]
    evidence = evidence_of(answer, "running")
    assert (evidence["worker_id"], evidence["hostname"]) == (job.worker_id, "test")
    assert abs(seconds_from(evidence["since"])) < 10
    assert answer["summary"].startswith(f"job {job.id} is running: it runs since ")


def test_a_job_of_a_client_says_so(client: testing.TestClient, make_job: JobFactory) -> None:
    """A running job without a worker is held by a client of the API."""
    answer = asked(client, make_job("running", worker_id=None))
    assert codes(answer) == ["running"]
    assert "client of the REST API" in answer["summary"]


def test_a_job_that_is_asked_to_stop(
    client: testing.TestClient, make_job: JobFactory, database: Database
) -> None:
    """A running job that shall stop says when it was asked, and whether its worker knows."""
    job = make_job("running")
    with database.autocommit() as connection:
        cancel(connection, [job.id])
    answer = asked(client, job)
    assert codes(answer) == ["cancel_requested", "running"]
    assert "does not know it yet" in answer["summary"]
    execute(database, "UPDATE jobs SET cancel_acknowledged_at = now() WHERE id = %(id)s", id=job.id)
    answer = asked(client, job)
    assert evidence_of(answer, "cancel_requested")["acknowledged_at"] is not None
    assert "stops it" in answer["summary"]


def test_a_job_of_a_silent_worker(client: testing.TestClient, make_job: JobFactory) -> None:
    """A job whose worker fell silent says that it will be taken back."""
    job = make_job("running", worker_id=make_job.worker(silent_seconds=100))
    assert codes(asked(client, job)) == ["worker_lost"]


# Its time


@pytest.mark.usefixtures("worker")
def test_it_waits_for_its_time(client: testing.TestClient, make_job: JobFactory) -> None:
    """A run-at says its time, which is when it is expected to start."""
    answer = asked(client, make_job(available_at=FAR))
    assert codes(answer) == ["waits_for_time"]
    evidence = evidence_of(answer, "waits_for_time")
    assert (evidence["kind"], evidence["available_at"]) == ("run_at", "2100-01-01T00:00:00Z")
    assert (answer["expected_start_at"], answer["ahead"]) == ("2100-01-01T00:00:00Z", None)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(("outcome", "kind"), [("failed", "backoff"), ("snoozed", "snooze")])
def test_it_waits_after_an_attempt(
    client: testing.TestClient, make_job: JobFactory, outcome: str, kind: str
) -> None:
    """A backoff says after which attempt it is, and its error; a snooze that it is one."""
    spent = int(outcome == "failed")
    job = make_job(available_at=FAR, attempts=spent, fence=1)
    make_job.attempt(job, outcome, error="ConnectionError: refused\nsecond line")
    answer = asked(client, job)
    evidence = evidence_of(answer, "waits_for_time")
    assert (evidence["kind"], evidence["attempt"]) == (kind, 1)
    assert evidence["error"] == "ConnectionError: refused\nsecond line"
    assert ("ConnectionError: refused)" in answer["summary"]) == bool(spent)


@pytest.mark.usefixtures("worker")
def test_a_replay_for_later_is_no_backoff(
    client: testing.TestClient, make_job: JobFactory, database: Database
) -> None:
    """A failed job that someone queued again for later waits for that time, not for a backoff."""
    job = make_job("failed", attempts=1, fence=1)
    make_job.attempt(job, error="broken")
    with database.autocommit() as connection:
        retry(connection, [job.id], available_at=FAR)
    assert evidence_of(asked(client, job), "waits_for_time")["kind"] == "run_at"


@pytest.mark.usefixtures("worker")
def test_its_time_is_over(client: testing.TestClient, make_job: JobFactory) -> None:
    """A job whose expiry has passed never starts, and says so first."""
    answer = asked(client, make_job(expires_at=datetime.now(UTC) - timedelta(seconds=5)))
    assert codes(answer)[0] == "expired"
    assert answer["expected_start_at"] is None


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("column", ["expires_at", "deadline_at"])
def test_an_end_that_comes_is_a_note(client: testing.TestClient, make_job: JobFactory, column: str) -> None:
    """An expiry or a deadline in the future is told last."""
    columns: dict[str, Any] = {column: FAR}
    answer = asked(client, make_job(**columns))
    assert codes(answer) == ["starting_now", "expiring"]
    assert evidence_of(answer, "expiring")[column] == "2100-01-01T00:00:00Z"


@pytest.mark.usefixtures("worker")
def test_it_has_no_attempt_left(client: testing.TestClient, make_job: JobFactory) -> None:
    """A queued job that no claim would take says so."""
    assert codes(asked(client, make_job(attempts=4, max_retries=3)))[0] == "out_of_attempts"


# Other jobs


@pytest.mark.usefixtures("worker")
def test_it_waits_for_its_parents(
    client: testing.TestClient, make_job: JobFactory, database: Database
) -> None:
    """A blocked job names the parents that have not ended, with their states."""
    parents = [make_job(status, has_dependants=True) for status in ("completed", "running", "queued")]
    job = make_job("blocked")
    for parent in parents:
        execute(
            database,
            "INSERT INTO dependencies (job_id, parent_id) VALUES (%(id)s, %(parent)s)",
            id=job.id,
            parent=parent.id,
        )
    with database.transaction() as connection:
        settle(connection, [parents[0].id])
    answer = asked(client, job)
    assert codes(answer) == ["dependency_pending"]
    assert [
        (parent["id"], parent["status"]) for parent in evidence_of(answer, "dependency_pending")["parents"]
    ] == [(parents[1].id, "running"), (parents[2].id, "queued")]
    assert f"{parents[1].id} (running)" in answer["summary"]


@pytest.mark.usefixtures("worker")
def test_it_was_left_blocked(client: testing.TestClient, make_job: JobFactory) -> None:
    """A blocked job without an unfinished parent says that nobody released it."""
    assert codes(asked(client, make_job("blocked"))) == ["not_released"]


# Its queue


@pytest.mark.usefixtures("worker")
def test_its_queue_is_paused(client: testing.TestClient, make_job: JobFactory, database: Database) -> None:
    """A pause says by whom, why, since when and until when; the end is the expected start."""
    job = make_job()
    until = datetime.now(UTC) + timedelta(hours=1)
    with database.transaction() as connection:
        queue_store.pause(connection, "default", reason="the provider is down", author="ada", until=until)
    answer = asked(client, job)
    assert codes(answer) == ["queue_paused"]
    evidence = evidence_of(answer, "queue_paused")
    assert (evidence["by"], evidence["reason"]) == ("ada", "the provider is down")
    assert abs(seconds_from(evidence["since"])) < 10
    assert answer["expected_start_at"] == evidence["until"]
    assert "paused by ada (the provider is down) since " in answer["summary"]


@pytest.mark.usefixtures("worker")
def test_a_pause_without_an_end(client: testing.TestClient, make_job: JobFactory, database: Database) -> None:
    """Nobody knows when a job of a queue that is paused for good starts."""
    job = make_job(available_at=FAR)
    with database.transaction() as connection:
        queue_store.pause(connection, "default")
    answer = asked(client, job)
    assert codes(answer) == ["waits_for_time", "queue_paused"]
    assert answer["expected_start_at"] is None
    assert "until someone resumes it" in answer["reasons"][1]["message"]


@pytest.mark.usefixtures("worker")
def test_a_pause_that_is_over_is_none(
    client: testing.TestClient, make_job: JobFactory, database: Database
) -> None:
    """A pause whose end has come does not stop anything, also while it still stands in its row."""
    job = make_job()
    with database.transaction() as connection:
        queue_store.pause(connection, "default", seconds=0)
    assert codes(asked(client, job)) == ["starting_now"]


@pytest.mark.usefixtures("worker")
def test_its_queue_was_told_to_slow_down(
    client: testing.TestClient, make_job: JobFactory, database: Database
) -> None:
    """A slow-down says until when nothing starts."""
    job = make_job()
    with database.transaction() as connection:
        queue_store.slow_down(connection, "default", seconds=100, ramp_seconds=10)
    answer = asked(client, job)
    assert codes(answer) == ["queue_throttled"]
    assert 90 < seconds_from(answer["expected_start_at"]) <= 100


@pytest.mark.usefixtures("worker")
def test_a_slow_down_that_is_over_is_none(
    client: testing.TestClient, make_job: JobFactory, database: Database
) -> None:
    """A slow-down whose end has come does not stop anything, also while it still stands in its row."""
    job = make_job()
    execute(database, "UPDATE queues SET throttled_until = now() - interval '1 second'")
    assert codes(asked(client, job)) == ["starting_now"]


def test_nobody_listens(client: testing.TestClient, make_job: JobFactory) -> None:
    """A queue that no live worker listens to is named, and which queues have one."""
    make_job.worker(queues=["email", "quarantine"])
    make_job.worker(queues=["default"], silent_seconds=100)
    answer = asked(client, make_job())
    assert codes(answer) == ["no_worker"]
    assert evidence_of(answer, "no_worker") == {"queue": "default", "served_queues": ["email"]}
    assert answer["summary"].endswith("live workers listen to: email")


def test_there_is_no_worker_at_all(client: testing.TestClient, make_job: JobFactory) -> None:
    """Without any live worker, that is what is said."""
    assert "no live worker at all" in asked(client, make_job())["summary"]


# Suspects


@pytest.mark.parametrize(
    ("queues", "served_by"), [(["quarantine"], "dedicated"), (["default", "quarantine"], "idle_process")]
)
def test_it_waits_for_the_quarantine(
    client: testing.TestClient,
    make_job: JobFactory,
    queues: list[str],
    served_by: str,
) -> None:
    """A suspect of two deaths says how often its worker died, and who would run it alone."""
    make_job.worker(queues=queues)
    make_job(quarantined=True, suspicion=2)
    make_job(quarantined=True, suspicion=1)
    job = make_job(quarantined=True, suspicion=2, deaths=1, fence=2, attempts=2)
    make_job.attempt(job, "worker_died")
    make_job.attempt(job, "worker_died", fence=2)
    answer = asked(client, job)
    assert codes(answer) == ["quarantined", "jobs_ahead"]
    assert evidence_of(answer, "quarantined") == {
        "worker_deaths": 2,
        "lonely_deaths": 1,
        "max_deaths": 3,
        "served_by": served_by,
        "workers": 1,
    }
    assert answer["ahead"] == 1


def test_nobody_serves_the_quarantine(client: testing.TestClient, make_job: JobFactory) -> None:
    """A suspect that nobody would run says so first."""
    make_job.worker(queues=["default"])
    answer = asked(client, make_job(quarantined=True, suspicion=2))
    assert codes(answer) == ["no_worker", "quarantined"]
    assert evidence_of(answer, "no_worker")["queue"] == "quarantine"


def test_it_waits_for_a_process_without_a_suspect(
    client: testing.TestClient,
    make_job: JobFactory,
) -> None:
    """A suspect of one death says that it runs again beside others, where, and how many come before it."""
    make_job.worker(queues=["default"])
    make_job(quarantined=True, suspicion=1)
    make_job(quarantined=True, suspicion=2)
    make_job(queue="other", quarantined=True, suspicion=1)
    make_job()
    job = make_job(quarantined=True, suspicion=1, fence=1)
    make_job.attempt(job, "worker_died")
    answer = asked(client, job)
    assert codes(answer) == ["suspected", "jobs_ahead"]
    assert evidence_of(answer, "suspected") == {"worker_deaths": 1, "workers": 1}
    assert "runs again beside other jobs" in answer["summary"]
    assert answer["ahead"] == 1


# The order


@pytest.mark.usefixtures("worker")
def test_it_is_on_its_way(client: testing.TestClient, make_job: JobFactory) -> None:
    """A job that nothing keeps is starting now."""
    answer = asked(client, make_job())
    assert codes(answer) == ["starting_now"]
    assert (answer["ahead"], evidence_of(answer, "starting_now")["in_order"]) == (0, True)
    assert abs(seconds_from(answer["expected_start_at"])) < 10


@pytest.mark.usefixtures("worker")
def test_jobs_are_ahead_by_rank(client: testing.TestClient, make_job: JobFactory) -> None:
    """The jobs before it by rank are counted, and the measured rate says when it starts."""
    first = make_job(rank=datetime.now(UTC) - timedelta(hours=1))
    for _ in range(3):
        make_job(rank=datetime.now(UTC) - timedelta(minutes=30))
    make_job(queue="other")
    job = make_job()
    assert asked(client, first)["ahead"] == 0
    answer = asked(client, job)
    assert codes(answer) == ["jobs_ahead"]
    assert (answer["ahead"], answer["rate_per_second"], answer["expected_start_at"]) == (4, 0, None)
    for seconds in range(1, 22):
        started = datetime.now(UTC) - timedelta(seconds=2 * seconds)
        make_job("completed", started_at=started, finished_at=started + timedelta(seconds=1))
    answer = asked(client, job)
    assert answer["rate_per_second"] == pytest.approx(0.5, rel=0.1)
    assert seconds_from(answer["expected_start_at"]) == pytest.approx(10, abs=2)
    assert "4 jobs stand before it by rank" in answer["summary"]


def test_every_thread_is_busy(client: testing.TestClient, make_job: JobFactory) -> None:
    """The next job waits for a thread when running jobs keep all of them busy."""
    make_job.worker_id = make_job.worker(threads=2)
    for _ in range(2):
        make_job("running")
    answer = asked(client, make_job())
    assert codes(answer) == ["workers_busy"]
    assert evidence_of(answer, "workers_busy") == {"workers": 1, "threads": 2, "busy": 2}


def async_worker(make_job: JobFactory, *, threads: int, async_slots: int) -> int:
    """A live worker whose type `noop` is async, and whose type `other` is not."""
    known = KnownTypes(
        {"noop": "1", "other": "1"}, slots=threads, async_types=["noop"], async_slots=async_slots
    )
    return make_job.worker(threads=threads, known=known)


def test_every_async_slot_is_taken(client: testing.TestClient, make_job: JobFactory) -> None:
    """A job of an async type waits for an async slot: threads that are free are none of its affair."""
    make_job.worker_id = async_worker(make_job, threads=8, async_slots=3)
    make_job("running")
    make_job("running", requires=[], slots=2)
    answer = asked(client, make_job())
    assert codes(answer) == ["workers_busy"]
    assert evidence_of(answer, "workers_busy") == {"workers": 1, "async_slots": 3, "busy": 3}
    assert (
        "waits for a free async slot: 3 of the 3 async slots of 1 live worker are taken" in answer["summary"]
    )


def test_async_jobs_keep_no_thread_busy(client: testing.TestClient, make_job: JobFactory) -> None:
    """A job of a plain type does not wait for async ones: its worker's threads are free."""
    make_job.worker_id = async_worker(make_job, threads=1, async_slots=3)
    for _ in range(3):
        make_job("running")
    assert codes(asked(client, make_job(type="other"))) == ["starting_now"]


def test_too_few_async_slots(client: testing.TestClient, make_job: JobFactory) -> None:
    """A job of an async type that takes more slots than any worker has async ones is told so."""
    async_worker(make_job, threads=8, async_slots=3)
    answer = asked(client, make_job(requires=[], slots=4))
    assert codes(answer) == ["workers_too_small"]
    evidence = evidence_of(answer, "workers_too_small")
    assert evidence == {"queue": "default", "slots": 4, "workers": 1, "most_async_slots": 3}
    assert "has so many async slots; 1 worker has at most 3" in answer["summary"]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("led", [True, False], ids=["led", "leaderless"])
def test_it_was_overlooked(
    client: testing.TestClient, make_job: JobFactory, database: Database, *, led: bool
) -> None:
    """A job that is ready for long, while threads are free, says that the dispatcher is behind or missing."""
    before = datetime.now(UTC) - timedelta(minutes=1)
    job = make_job(available_at=before, rank=before, updated_at=before)
    if led:
        execute(
            database,
            "INSERT INTO leadership (holder, expires_at) VALUES ('somebody', now() + interval '1 minute') "
            "ON CONFLICT (id) DO UPDATE SET holder = EXCLUDED.holder, expires_at = EXCLUDED.expires_at",
        )
    answer = asked(client, job)
    assert codes(answer) == ["not_dispatched"]
    evidence = evidence_of(answer, "not_dispatched")
    assert (evidence["leader"], evidence["free_threads"]) == (led, 8)
    assert evidence["ready_seconds"] == pytest.approx(60, abs=10)
    assert ("no scheduler leads" in answer["summary"]) == (not led)


@pytest.mark.usefixtures("worker")
def test_a_due_job_that_nobody_made_ready(client: testing.TestClient, make_job: JobFactory) -> None:
    """A run-at whose time has come, and that no dispatcher saw, is not told to wait for its time."""
    before = datetime.now(UTC) - timedelta(minutes=1)
    answer = asked(client, make_job(available_at=before, updated_at=before))
    assert codes(answer) == ["not_dispatched"]
    assert evidence_of(answer, "not_dispatched")["in_order"] is False
