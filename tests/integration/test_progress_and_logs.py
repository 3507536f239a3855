"""Progress and logs of attempts: written behind them, in batches, with a cap, and readable while they run."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

import goqueue
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.engine import cleaning_rows as cleaning
from goqueue.engine import report_rows as reports
from goqueue.errors import DatabaseRefusedError, DatabaseUnavailableError, JobNotFoundError
from goqueue.instance import default
from goqueue.jobs import Job, JobStatus
from goqueue.middleware.attempt import JobAttempt
from goqueue.worker.recording import reporter as reporter_module
from goqueue.worker.recording.reporter import Reporter
from tests.support.engine import Engine, running_engine
from tests.support.factories import JobFactory, claimed_job
from tests.support.waiting import wait_until

LOG_MAX_BYTES = 1024
CALLS = 1000

runs: Counter[str] = Counter()
gate = threading.Event()


def declare() -> None:  # noqa: C901  (a list of actors, nothing is decided)
    """Declare the actors of these tests on the present broker."""

    @goqueue.actor(max_retries=0)
    def say(lines: list[str], fraction: float = 0.4, *, holds: bool = False) -> None:
        job = goqueue.current_job()
        for line in lines:
            job.log(line)
        job.progress(fraction, "half way")
        if holds:
            gate.wait(20)

    @goqueue.actor(max_retries=0)
    async def say_async(text: str) -> None:
        job = goqueue.current_job()
        job.progress(0.25)
        await asyncio.sleep(0)
        job.log(text)

    @goqueue.actor(max_retries=0)
    def say_from_threads(text: str) -> None:
        job = goqueue.current_job()
        threads = [threading.Thread(target=job.log, args=(f"{text} {n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    @goqueue.actor(max_retries=1, min_backoff_seconds=0.01)
    def say_and_fail() -> None:
        job = goqueue.current_job()
        job.log(f"attempt {job.attempt}")
        raise ValueError("wrong")

    @goqueue.actor(max_retries=0)
    def chatter() -> None:
        pause = threading.Event()
        for number in range(CALLS):
            goqueue.current_job().progress(number / CALLS)
            goqueue.current_job().log(str(number))
            pause.wait(1 / CALLS)


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Engine]:
    """An engine that all tests of this module share."""
    with running_engine(postgres, valkey, "reports", declare) as engine:
        yield engine


def create(engine: Engine, name: str, payload: dict[str, Any]) -> int:
    """Create a job of a declared type."""
    return default().create(engine.broker.actors[name], payload)


def log_of(database: Database, job_id: int, *, fence: int | None = None, after: int = 0) -> list[str]:
    """The texts of the lines of an attempt."""
    with database.autocommit() as connection:
        lines = reports.lines_of(connection, job_id, fence=fence, after=after, limit=10_000)
    assert [line.line for line in lines] == list(range(after + 1, after + 1 + len(lines)))
    return [line.text for line in lines]


def progress_of(database: Database, job_id: int) -> tuple[float | None, str | None]:
    """What the latest attempt said."""
    with database.autocommit() as connection:
        progress = reports.progress_of(connection, job_id)
    assert progress is not None
    return progress.progress, progress.message


def test_a_running_job_can_be_read(engine: Engine) -> None:
    """Progress and log are there while the handler runs."""
    gate.clear()
    database = engine.broker.database
    job_id = create(engine, "say", {"lines": ["one", "two"], "holds": True})
    wait_until(lambda: log_of(database, job_id) == ["one", "two"], what="the log")
    wait_until(lambda: progress_of(database, job_id) == (0.4, "half way"), what="the progress")
    assert engine.job(job_id).status is JobStatus.RUNNING
    gate.set()
    engine.wait_for(job_id)
    assert log_of(database, job_id, after=1) == ["two"]


def test_the_last_line_is_there_when_the_attempt_has_ended(engine: Engine) -> None:
    """What was logged is written before the outcome."""
    for number in range(20):
        job_id = create(engine, "say", {"lines": [f"line {number}"], "fraction": 1})
        engine.wait_for(job_id)
        assert log_of(engine.broker.database, job_id) == [f"line {number}"]
        assert progress_of(engine.broker.database, job_id) == (1.0, "half way")


def test_each_attempt_has_its_own_log(engine: Engine) -> None:
    """The lines of a retry do not mix with those of the run before it."""
    job_id = create(engine, "say_and_fail", {})
    engine.wait_for(job_id, JobStatus.FAILED)
    database = engine.broker.database
    assert [log_of(database, job_id, fence=fence) for fence in (1, 2)] == [["attempt 1"], ["attempt 2"]]
    assert log_of(database, job_id) == ["attempt 2"]


def test_async_handlers_report(engine: Engine) -> None:
    """A coroutine finds its own job."""
    ids = [create(engine, "say_async", {"text": f"text {number}"}) for number in range(5)]
    for number, job_id in enumerate(ids):
        engine.wait_for(job_id)
        assert log_of(engine.broker.database, job_id) == [f"text {number}"]
        assert progress_of(engine.broker.database, job_id) == (0.25, None)


def test_threads_of_a_handler_report(engine: Engine) -> None:
    """A thread that was given the job adds to its log."""
    job_id = create(engine, "say_from_threads", {"text": "line"})
    engine.wait_for(job_id)
    assert sorted(log_of(engine.broker.database, job_id)) == [f"line {number}" for number in range(4)]


def test_a_thousand_calls_a_second_cost_few_commits(engine: Engine) -> None:
    """Two thousand calls within a second or so are written in a few transactions, and none is lost."""
    counter = "SELECT pg_current_xact_id()::text::bigint"
    before = engine.rows(counter)[0][0]
    job_id = create(engine, "chatter", {})
    engine.wait_for(job_id)
    spent = engine.rows(counter)[0][0] - before
    assert log_of(engine.broker.database, job_id) == [str(number) for number in range(CALLS)]
    assert progress_of(engine.broker.database, job_id)[0] == (CALLS - 1) / CALLS
    # All of the process: heartbeats, the claim, the record.
    assert spent < CALLS / 10


@pytest.mark.parametrize("fraction", [-0.01, 1.01, float("nan"), float("inf"), -float("inf")], ids=str)
def test_a_progress_out_of_range_is_refused(fraction: float) -> None:
    """Less than nothing, more than all, and what is no number is a ValueError of the handler."""
    with pytest.raises(ValueError, match="expected 0 to 1"):
        JobAttempt(claimed_job(), "default").progress(fraction)


# The reporter alone


class Desk:
    """A reporter that writes when it is told to, and a job that reports to it."""

    def __init__(self, engine: Engine) -> None:
        self.database = engine.broker.database
        settings = engine.settings.model_copy(update={"attempt_log_max_bytes": LOG_MAX_BYTES})
        self.reporter = Reporter(settings, self.database)
        self.make_job = JobFactory(self.database)
        self.job = self.make_job("running")
        self.current = self.current_of(self.job)

    def current_of(self, job: Job) -> JobAttempt:
        """What a handler of a job would have."""
        return JobAttempt(claimed_job(id=job.id, fence=job.fence), "default", self.reporter)

    def log(self) -> list[str]:
        """What is written of the job's log."""
        return log_of(self.database, self.job.id)


@pytest.fixture
def desk(engine: Engine) -> Desk:
    """A desk in the engine's database."""
    return Desk(engine)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        pytest.param("a\0b", "a␀b", id="nul"),
        pytest.param("a\ud800b", "a?b", id="lone surrogate"),
        pytest.param("", "", id="nothing"),
        pytest.param("a\nb", "a\nb", id="two lines"),
        pytest.param("日本語 🎉", "日本語 🎉", id="beyond ascii"),
    ],
)
def test_any_text_can_be_kept(desk: Desk, said: str, kept: str) -> None:
    """What PostgreSQL cannot keep is replaced, in lines and beside progress."""
    desk.current.log(said)
    desk.current.progress(0, said)
    assert desk.reporter.flush()
    assert desk.log() == [kept]
    assert progress_of(desk.database, desk.job.id) == (0.0, kept)


def test_a_log_has_a_cap(desk: Desk) -> None:
    """What is beyond the cap is counted by one last line, which is kept up to date."""
    for _ in range(2):
        for _ in range(20):
            desk.current.log("x" * 99)
        desk.reporter.flush()
    *kept, notice = desk.log()
    assert sum(len(line) + 1 for line in kept) == LOG_MAX_BYTES
    cut = 40 * 99 - sum(len(line) for line in kept)
    assert (
        notice == f"… {cut} bytes in 30 lines were cut: at most 1024 bytes are kept of the log of an attempt"
    )


def test_one_huge_line_is_cut(desk: Desk) -> None:
    """Of a line that is larger than the cap its beginning is kept, in whole characters."""
    desk.current.log("ü" * 1_000_000)
    desk.reporter.flush()
    assert desk.log()[0] == "ü" * 511
    assert len(desk.log()) == 2


def test_a_long_text_beside_progress_is_cut(desk: Desk) -> None:
    """At most 1,000 characters of it are kept."""
    desk.current.progress(0.5, "x" * 5000)
    desk.reporter.flush()
    assert progress_of(desk.database, desk.job.id) == (0.5, "x" * 1000)


def test_an_outage_drops_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written is written later, in its order, and the latest progress wins."""
    with monkeypatch.context() as patch:
        patch.setattr(reports, "write_lines", _unavailable)
        for number in range(3):
            desk.current.log(f"line {number}")
            desk.current.progress(number / 10)
            assert not desk.reporter.flush()
    desk.current.log("line 3")
    assert desk.reporter.flush()
    assert desk.log() == [f"line {number}" for number in range(4)]
    assert progress_of(desk.database, desk.job.id) == (0.2, None)


def test_a_handler_waits_for_no_write(desk: Desk) -> None:
    """While PostgreSQL is asked, which may take as long as it likes, handlers go on."""
    with desk.reporter._writing:  # noqa: SLF001  (a write that takes long)
        desk.current.log("meanwhile")
        desk.current.progress(0.5)
    desk.reporter.flush()
    assert desk.log() == ["meanwhile"]


def test_an_outage_fills_no_memory(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound over all attempts, lines are cut as beyond the cap of one."""
    monkeypatch.setattr(reporter_module, "PENDING_MAX_BYTES", 300)
    others = [desk.current_of(desk.make_job("running")) for _ in range(5)]
    for other in others:
        other.log("x" * 100)
    assert len([other for other in others if other.report.lines]) == 2
    assert desk.reporter.flush()
    desk.current.log("room again")
    desk.reporter.flush()
    assert desk.log() == ["room again"]
    assert "were cut" in log_of(desk.database, others[-1].id)[0]


def test_what_postgresql_refuses_is_let_go(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement that fails for another reason than an outage is logged, and does not come back."""
    with monkeypatch.context() as patch:
        patch.setattr(reports, "write_lines", _refused)
        desk.current.log("lost")
        assert desk.reporter.flush()
    desk.current.log("kept")
    desk.reporter.flush()
    with desk.database.autocommit() as connection:
        lines = reports.lines_of(connection, desk.job.id, fence=None, after=0, limit=10)
    assert [line.text for line in lines] == ["kept"]


def test_a_stop_writes_what_is_pending(desk: Desk) -> None:
    """The end of the process waits for the last lines."""
    desk.reporter.start()
    desk.current.log("last words")
    assert desk.reporter.stop(10)
    assert desk.log() == ["last words"]


def test_a_deleted_job_gets_no_rows(desk: Desk) -> None:
    """A worker that reports on a job that the cleaner took leaves nothing behind."""
    with desk.database.autocommit() as connection:
        connection.exec_driver_sql("DELETE FROM jobs WHERE id = %(id)s", {"id": desk.job.id})
    desk.current.log("too late")
    desk.current.progress(1)
    assert desk.reporter.flush()
    assert rows_of(desk.database, desk.job.id) == (0, 0)


def test_logs_go_with_their_job(desk: Desk) -> None:
    """The cleaner deletes progress and lines with the job."""
    job = desk.make_job("completed")
    current = desk.current_of(job)
    current.log("kept for a week")
    current.progress(1)
    desk.reporter.flush()
    assert rows_of(desk.database, job.id) == (1, 1)
    with desk.database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET finished_at = now() - interval '1 hour' WHERE id = %(id)s", {"id": job.id}
        )
        assert cleaning.delete_completed(connection, age_seconds=1800, limit=10).jobs == 1
    assert rows_of(desk.database, job.id) == (0, 0)


def rows_of(database: Database, job_id: int) -> tuple[int, int]:
    """How many rows of progress and of lines a job has."""
    with database.autocommit() as connection:
        row = connection.exec_driver_sql(
            "SELECT (SELECT count(*) FROM attempt_progress WHERE job_id = %(id)s), "
            "(SELECT count(*) FROM attempt_logs WHERE job_id = %(id)s)",
            {"id": job_id},
        ).one()
    return row[0], row[1]


def _unavailable(*_: object) -> None:
    raise DatabaseUnavailableError


def _refused(*_: object) -> None:
    raise DatabaseRefusedError


# From Python


def test_an_application_reads_both(engine: Engine) -> None:
    """`job_progress` and `job_log` tell what the API tells."""
    job_id = create(engine, "say", {"lines": ["one", "two"]})
    engine.wait_for(job_id)
    assert goqueue.job_progress(job_id).progress == 0.4
    assert [line.text for line in goqueue.job_log(job_id, after=1)] == ["two"]
    assert goqueue.job_log(job_id, fence=7) == []
    for ask in (goqueue.job_progress, goqueue.job_log):
        with pytest.raises(JobNotFoundError):
            ask(10**12)
