"""The recorder: batches, poison outcomes, outages, and the end of a process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from goqueue import failpoints
from goqueue.config.settings import Settings
from goqueue.db.database import Connection, Database
from goqueue.dev.embedded import EmbeddedPostgres
from goqueue.engine import job_rows as job_store
from goqueue.engine.runway.runway import Message, Runway
from goqueue.engine.transitions.cancel import cancel
from goqueue.engine.transitions.record import Recorded, record
from goqueue.engine.transitions.set_status import set_status
from goqueue.jobs import AttemptOutcome, Job, JobStatus, NewJob, Outcome
from goqueue.middleware.job_message import JobMessage
from goqueue.worker.claiming.claims import ClaimedJobs
from goqueue.worker.recording import outcome_writer
from goqueue.worker.recording.recorder import Recorder
from tests.support.counted import counted
from tests.support.factories import JobFactory
from tests.support.servers.bare_runway import BareRunway
from tests.support.servers.clusters import own_postgres_in
from tests.support.waiting import wait_until


class Desk:
    """A recorder with its claimed jobs, and rows that are claimed for it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings)
        self.runway = Runway(settings)
        self.claimed_jobs = ClaimedJobs()
        self.make_job = JobFactory(self.database)
        self.claimed_jobs.worker_id = self.make_job.worker_id
        self.recorder = Recorder(settings, self.database, self.runway, self.claimed_jobs)

    def claimed(self, count: int) -> list[JobMessage]:
        """Messages of jobs that this process holds, their keys in Redis."""
        jobs = [self.make_job() for _ in range(count)]
        self.runway.submit("default", [Message(job.id, 0) for job in jobs])
        return self.make_job.messages(*jobs, claimed_jobs=self.claimed_jobs)

    def record(self, *messages: JobMessage) -> None:
        """Let the recorder take all messages as one batch, and end."""
        for message in messages:
            self.recorder.put(message)
        self.recorder.start()
        assert self.recorder.stop(10)

    def job(self, message: JobMessage) -> Job:
        """The row of a message."""
        with self.database.autocommit() as connection:
            return job_store.get(connection, message.current.id)

    def close(self) -> None:
        """Close the connections."""
        self.runway.close()
        self.database.close()


@pytest.fixture
def overrides() -> dict[str, Any]:
    """A runway that takes all messages of a test."""
    return {"runway_min": 1000}


@pytest.fixture
def desk(settings: Settings) -> Iterator[Desk]:
    """A desk whose recorder is not started yet."""
    desk = Desk(settings)
    yield desk
    desk.close()


def complete(message: JobMessage, result: str = "1") -> JobMessage:
    """Conclude a message as a success."""
    message.current.result = result
    message.conclude(JobStatus.COMPLETED, AttemptOutcome.COMPLETED)
    return message


def acknowledged(desk: Desk) -> bool:
    """Whether Redis has forgotten every message."""
    bare = BareRunway(desk.settings)
    entries = bare.redis.hlen(bare.key("messages"))
    bare.close()
    return entries == 0


def test_what_is_put_is_recorded_forgotten_and_acknowledged(desk: Desk) -> None:
    """Every outcome ends in its row; then the job leaves the claimed jobs and its message leaves Redis."""
    messages = desk.claimed(20)
    desk.recorder.start()
    for message in messages:
        desk.recorder.put(complete(message))
    assert desk.recorder.stop(10)
    assert {desk.job(message).status for message in messages} == {"completed"}
    assert desk.claimed_jobs.snapshot() == {}
    assert acknowledged(desk)


POISONS: dict[str, dict[str, Any]] = {
    "not json": {"result": "{"},
    "nul in json": {"result": '"\\u0000"'},
    "nul in text": {"error": "a\0b"},
    "surrogate": {"error": "a\ud800b"},
    "endless wait": {"delay_seconds": 1e300, "status": JobStatus.QUEUED},
    "no wait at all": {"delay_seconds": float("nan"), "status": JobStatus.QUEUED},
    "a wait in words": {"delay_seconds": "soon", "status": JobStatus.QUEUED},
    "bad follow-up": {"follow_ups": (NewJob("q", "t", "{}", priority=1000),)},
    "broken follow-up": {"follow_ups": (NewJob("q", "t", "{"),)},
}


@pytest.mark.parametrize("how", POISONS)
def test_a_poison_outcome_spoils_nobody_else(desk: Desk, how: str) -> None:
    """An outcome that PostgreSQL refuses is a failed attempt that says so; its batch-mates are recorded."""
    messages = desk.claimed(9)
    for message in messages:
        complete(message)
    poisoned = messages[4]
    assert poisoned.outcome is not None
    for name, value in POISONS[how].items():
        setattr(poisoned.outcome, name, value)
    of_queue = {"queue": "default", "status": "completed"}
    completed = counted("jobs_processed_total", **of_queue)
    refused = counted("jobs_failed_total", queue="default", type="noop", error="refused")
    desk.record(*messages)
    assert counted("jobs_processed_total", **of_queue) == completed + 8
    assert counted("jobs_failed_total", queue="default", type="noop", error="refused") == refused + 1
    for message in messages:
        if message is not poisoned:
            assert desk.job(message).status == "completed"
    job = desk.job(poisoned)
    assert (job.status, job.worker_id) == ("failed", None)
    assert (job.reason, job.finished_at is not None) == ("refused", True)
    with desk.database.autocommit() as connection:
        kinds = connection.exec_driver_sql(
            "SELECT outcome FROM attempts WHERE job_id = %(id)s", {"id": job.id}
        ).scalars()
        assert list(kinds) == ["failed"]
    assert desk.claimed_jobs.snapshot() == {}
    assert acknowledged(desk)


def test_stale_results_are_counted_and_let_go(desk: Desk) -> None:
    """A result whose job somebody else holds is counted, acknowledged, and not kept."""
    messages = [complete(message) for message in desk.claimed(3)]
    with desk.database.autocommit() as connection:
        set_status(connection, messages[1].current.id, JobStatus.CANCELLED)
    before = counted("stale_results_total")
    desk.record(*messages)
    assert counted("stale_results_total") == before + 1
    assert [desk.job(message).status for message in messages] == ["completed", "cancelled", "completed"]
    assert desk.claimed_jobs.snapshot() == {}
    assert acknowledged(desk)


def test_a_cancel_at_the_same_moment_loses_no_outcome(desk: Desk) -> None:
    """A job that completes while a request to stop it is written has completed, and is not stale."""
    (message,) = desk.claimed(1)
    before = counted("stale_results_total")
    with desk.database.transaction() as connection:
        assert cancel(connection, [message.current.id]).requested == [message.current.id]
        desk.recorder._record_batch([complete(message)])  # noqa: SLF001  (inside the transaction of another)
        assert desk.recorder.pending == 1
    desk.recorder.start()
    assert desk.recorder.stop(10)
    job = desk.job(message)
    assert (job.status, job.result, job.cancel_requested_at is not None) == ("completed", 1, True)
    assert counted("stale_results_total") == before


@pytest.mark.parametrize("dependants", [False, True])
def test_a_locked_row_delays_its_own_outcome_alone(desk: Desk, *, dependants: bool) -> None:
    """While somebody holds the lock of one row the others are recorded; it follows when the lock is gone."""
    messages = [complete(message) for message in desk.claimed(30)]
    locked = messages[11].current.id
    with desk.database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE jobs SET has_dependants = %s", (dependants,))
    desk.recorder.start()
    with desk.database.transaction() as connection:
        connection.exec_driver_sql("SELECT FROM jobs WHERE id = %s FOR UPDATE", (locked,))
        for message in messages:
            desk.recorder.put(message)
        wait_until(lambda: len(desk.claimed_jobs.snapshot()) == 1, 3, "the others to be recorded")
        assert [key[0] for key in desk.claimed_jobs.snapshot()] == [locked]
    wait_until(lambda: not desk.claimed_jobs.snapshot(), 10, "the locked one to be recorded")
    assert desk.recorder.stop(10)
    assert {desk.job(message).status for message in messages} == {"completed"}
    assert acknowledged(desk)


def test_a_locked_child_delays_the_outcome_of_its_own_parent_alone(desk: Desk) -> None:
    """A foreign transaction on a job that waits holds up what releases it, and no other outcome."""
    messages = [complete(message) for message in desk.claimed(9)]
    parent_id = messages[4].current.id
    with desk.database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE jobs SET has_dependants = true WHERE id = %s", (parent_id,))
    child_id = desk.make_job("blocked").id
    with desk.database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO dependencies (job_id, parent_id, on_parent_failure) VALUES (%s, %s, 'fail')",
            (child_id, parent_id),
        )
    desk.recorder.start()
    with desk.database.transaction() as connection:
        connection.exec_driver_sql("SELECT FROM jobs WHERE id = %s FOR UPDATE", (child_id,))
        for message in messages:
            desk.recorder.put(message)
        wait_until(lambda: len(desk.claimed_jobs.snapshot()) == 1, 5, "the others to be recorded")
        wait_until(lambda: desk.recorder.pending == 1, 5, "the parent to be put off")
    wait_until(lambda: not desk.claimed_jobs.snapshot(), 10, "the parent to be recorded")
    assert desk.recorder.stop(10)
    with desk.database.autocommit() as connection:
        assert job_store.get(connection, child_id).status == "queued"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("25006", "cannot execute UPDATE in a read-only transaction"),
        ("57P01", "terminating connection due to administrator command"),
        ("57P05", "terminating connection due to idle-session timeout"),
        ("40001", "could not serialize access"),
        ("08P01", "server closed the connection"),
        ("53300", "too many connections"),
        ("53100", "could not extend file: no space left on device"),
        ("25P03", "terminating connection due to idle-in-transaction timeout"),
        ("57014", "canceling statement due to statement timeout"),
        ("XX000", "server is not available"),
        ("ZZ123", "said by a pooler"),
    ],
)
def test_no_outage_drops_an_outcome(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, code: str, text: str
) -> None:
    """Whatever PostgreSQL or a pooler says for a while, the outcomes are kept, and recorded as they were."""
    store, tries = desk.recorder._writer._store, []  # noqa: SLF001  (a fault between the recorder and PostgreSQL)

    def store_later(connection: Connection, outcomes: Sequence[Outcome]) -> Any:
        tries.append(len(outcomes))
        if len(tries) <= 20:
            raise _error_of(code, text)
        return store(connection, outcomes)

    monkeypatch.setattr(desk.recorder._writer, "_store", store_later)  # noqa: SLF001  (a fault between the recorder and PostgreSQL)
    monkeypatch.setattr(outcome_writer, "RETRY_SECONDS", 0.01)
    messages = [complete(message) for message in desk.claimed(6)]
    desk.recorder.start()
    for message in messages:
        desk.recorder.put(message)
    wait_until(lambda: not desk.claimed_jobs.snapshot(), 20, "the outcomes to be recorded")
    assert desk.recorder.stop(10)
    assert {desk.job(message).status for message in messages} == {"completed"}
    assert acknowledged(desk)


def _error_of(code: str, text: str) -> psycopg.Error:
    try:
        return psycopg.errors.lookup(code)(text)
    except KeyError:
        error = psycopg.DatabaseError(text)
        error.sqlstate = code
        return error


def test_an_outcome_that_nobody_accepts_costs_no_other_one(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is refused even as a refusal is let go alone: its lease gives the job back."""
    messages = [complete(message) for message in desk.claimed(9)]
    bad = messages[4].current.id

    def refuse(connection: Connection, outcomes: Sequence[Outcome], **options: Any) -> Recorded:
        if any(outcome.job_id == bad for outcome in outcomes):
            raise psycopg.errors.CheckViolation("refused")
        return record(connection, outcomes, **options)

    monkeypatch.setattr("goqueue.worker.recording.outcome_writer.record", refuse)
    desk.record(*messages)
    assert [m.current.id for m in messages if desk.job(m).status != "completed"] == [bad]
    assert desk.claimed_jobs.snapshot() == {}


def test_one_claim_that_concludes_twice_is_recorded_once(desk: Desk) -> None:
    """A job that a shutdown gave back while it concluded by itself has one attempt row, and is not stale."""
    (message,) = desk.claimed(1)
    again = JobMessage(message.current, throws=())
    again.release()
    before = counted("stale_results_total")
    desk.record(again, complete(message))
    assert desk.job(message).status == "completed"
    assert counted("stale_results_total") == before


@pytest.mark.parametrize("point", ["before_record_commit", "after_record_before_ack"])
def test_the_recorder_outlives_a_failpoint(desk: Desk, point: str) -> None:
    """An error in the middle of recording ends neither the thread nor a job's success."""
    messages = desk.claimed(30)
    desk.recorder.start()
    failpoints.configure(f"{point}:raise:0.5")
    try:
        for message in messages:
            desk.recorder.put(complete(message))
        wait_until(lambda: desk.claimed_jobs.snapshot() == {}, what="no claimed jobs")
    finally:
        failpoints.configure("")
    assert desk.recorder.stop(10)
    assert {desk.job(message).status for message in messages} == {"completed"}


def test_a_full_recorder_stops_fetching(desk: Desk, settings: Settings) -> None:
    """While as many outcomes wait as the setting allows there is no room for more."""
    small = Recorder(
        settings.model_copy(update={"recorder_pending_max": 2}), desk.database, desk.runway, desk.claimed_jobs
    )
    assert small.has_room()
    for message in desk.claimed(2):
        small.put(complete(message))
    assert not small.has_room()


def test_a_batch_is_bounded(desk: Desk, settings: Settings) -> None:
    """One commit takes at most the setting's number of outcomes; the rest follow, to the last."""
    small = Recorder(
        settings.model_copy(update={"recorder_batch_max": 4}), desk.database, desk.runway, desk.claimed_jobs
    )
    messages = desk.claimed(10)
    for message in messages:
        small.put(complete(message))
    before = [counted("recorder_batch_size_bucket", le=size) for size in ("2.0", "5.0")]
    small.start()
    assert small.stop(10)
    after = [counted("recorder_batch_size_bucket", le=size) for size in ("2.0", "5.0")]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 3], "4, 4 and 2"
    assert {desk.job(message).status for message in messages} == {"completed"}


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that the tests stop."""
    with own_postgres_in(tmp_path_factory.mktemp("own")) as server:
        yield server


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_an_outage_holds_the_outcomes_and_ends_by_itself(
    own_postgres: EmbeddedPostgres, settings: Settings, mode: Any
) -> None:
    """What concludes while PostgreSQL is away is pending, and recorded once it is back."""
    desk = Desk(settings.model_copy(update={"database_url": SecretStr(own_postgres.url)}))
    messages = desk.claimed(5)
    desk.recorder.start()
    own_postgres.stop(mode)
    for message in messages:
        desk.recorder.put(complete(message))
    wait_until(lambda: desk.recorder.pending == 0, what="the recorder to take them")
    assert len(desk.claimed_jobs.snapshot()) == 5
    own_postgres.start()
    wait_until(lambda: desk.claimed_jobs.snapshot() == {}, what="the record")
    assert {desk.job(message).status for message in messages} == {"completed"}
    assert desk.recorder.stop(10)
    desk.close()


def test_a_poison_outcome_and_an_outage_lose_nothing(
    own_postgres: EmbeddedPostgres, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL going away while a batch is taken apart costs none of its outcomes."""
    desk = Desk(settings.model_copy(update={"database_url": SecretStr(own_postgres.url)}))
    messages = [complete(message) for message in desk.claimed(5)]
    assert messages[2].outcome is not None
    messages[2].outcome.result = "{"
    store, tries = desk.recorder._writer._store, []  # noqa: SLF001  (a fault between the recorder and PostgreSQL)

    def store_with_an_outage(connection: Any, outcomes: Any) -> Any:
        tries.append(len(outcomes))
        if outcomes[0].reason == "refused" and not own_postgres_was_away:
            own_postgres_was_away.append(True)
            connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        return store(connection, outcomes)

    own_postgres_was_away: list[bool] = []
    monkeypatch.setattr(desk.recorder._writer, "_store", store_with_an_outage)  # noqa: SLF001  (a fault between the recorder and PostgreSQL)
    desk.record(*messages)
    assert own_postgres_was_away
    assert [desk.job(message).status for message in messages] == [
        "completed",
        "completed",
        "failed",
        "completed",
        "completed",
    ]
    desk.close()


def test_stopping_without_postgresql_gives_up(own_postgres: EmbeddedPostgres, settings: Settings) -> None:
    """A process that must end while PostgreSQL is away says that it could not record everything."""
    desk = Desk(settings.model_copy(update={"database_url": SecretStr(own_postgres.url)}))
    (message,) = desk.claimed(1)
    desk.recorder.start()
    own_postgres.stop()
    desk.recorder.put(complete(message))
    assert not desk.recorder.stop(0.5)
    wait_until(lambda: not desk.recorder.is_alive, what="its end")
    own_postgres.start()
    wait_until(lambda: desk.job(message).status == "running", what="the row")
    desk.close()


def test_jobs_that_nobody_waits_for_take_the_short_way(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transaction that releases children is begun only for what one statement did not record."""
    messages = [complete(message) for message in desk.claimed(5)]
    with desk.database.autocommit() as connection:
        parent_id = messages[2].current.id
        connection.exec_driver_sql("UPDATE jobs SET has_dependants = true WHERE id = %s", (parent_id,))
    careful: list[list[int]] = []

    def noted(connection: Connection, outcomes: Sequence[Outcome], **options: Any) -> Recorded:
        if options.get("with_dependants"):
            careful.append([outcome.job_id for outcome in outcomes])
        return record(connection, outcomes, **options)

    monkeypatch.setattr("goqueue.worker.recording.outcome_writer.record", noted)
    desk.record(*messages)
    assert careful == [[parent_id]]
    assert {desk.job(message).status for message in messages} == {"completed"}
