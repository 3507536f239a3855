"""What handlers stream: live, replayable, in bounds, and gone with the job."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import goqueue
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.engine import cleaning_rows as cleaning
from goqueue.engine import output_rows
from goqueue.engine.output_rows import OutputChunk
from goqueue.errors import DatabaseUnavailableError
from goqueue.events.output_hub import OutputHub, Reader
from goqueue.instance import default
from goqueue.jobs import JobStatus
from goqueue.middleware.attempt import JobAttempt
from goqueue.worker.recording.reporter import Reporter
from tests.integration.test_event_hub import Heard
from tests.support.engine import Engine, running_engine
from tests.support.factories import JobFactory, claimed_job, set_status
from tests.support.waiting import wait_until

MAX_BYTES = 1024

gate = threading.Event()


def declare() -> None:
    """Declare the actors of these tests on the present broker."""

    @goqueue.actor(max_retries=1, min_backoff_seconds=0.01)
    def write_poem(words: list[str], *, holds: bool = False, fails: bool = False) -> None:
        job = goqueue.current_job()
        for word in words:
            job.stream(word)
        if holds:
            gate.wait(20)
        job.stream("!")
        if fails:
            raise ValueError("out of ink")


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Engine]:
    """An engine that all tests of this module share."""
    with running_engine(postgres, valkey, "output", declare) as engine:
        yield engine


def chunks_of(database: Database, job_id: int, place: tuple[int, int] = (0, 0)) -> list[OutputChunk]:
    """What a job has streamed behind a place."""
    with database.autocommit() as connection:
        return output_rows.output_behind(connection, [(job_id, place)], limit=100)[0].chunks


def text_of(database: Database, job_id: int) -> dict[int, str]:
    """All that the attempts of a job have streamed, by their fences."""
    texts: dict[int, str] = {}
    for chunk in chunks_of(database, job_id):
        texts[chunk.fence] = texts.get(chunk.fence, "") + (chunk.text or "…")
    return texts


def test_what_is_streamed_is_read_while_the_job_runs(engine: Engine) -> None:
    """Pieces are there long before the end, all of them when it has come, and few rows were written."""
    gate.clear()
    database = engine.broker.database
    words = [f"word {number} " for number in range(500)]
    actor = engine.broker.actors["write_poem"]
    job_id = default().create(actor, {"words": words, "holds": True})
    wait_until(lambda: text_of(database, job_id) == {1: "".join(words)})
    assert engine.job(job_id).status is JobStatus.RUNNING
    gate.set()
    engine.wait_for(job_id)
    assert text_of(database, job_id) == {1: "".join(words) + "!"}
    chunks = chunks_of(database, job_id)
    assert len(chunks) < 50
    assert [chunk.chunk for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert chunks_of(database, job_id, (1, len(chunks) - 1)) == chunks[-1:]


def test_each_attempt_streams_anew(engine: Engine) -> None:
    """A retry begins its output from the beginning, under its own fence."""
    actor = engine.broker.actors["write_poem"]
    job_id = default().create(actor, {"words": ["a"], "fails": True})
    engine.wait_for(job_id, JobStatus.FAILED)
    assert text_of(engine.broker.database, job_id) == {1: "a!", 2: "a!"}


class OutputDesk:
    """A reporter that writes when it is told to, and a job that streams to it."""

    def __init__(self, engine: Engine) -> None:
        self.database = engine.broker.database
        settings = engine.settings.model_copy(update={"attempt_output_max_bytes": MAX_BYTES})
        self.reporter = Reporter(settings, self.database)
        self.job = JobFactory(self.database)("running")
        self.current = JobAttempt(claimed_job(id=self.job.id, fence=self.job.fence), "default", self.reporter)

    def chunks(self) -> list[str | None]:
        """The texts of what is written."""
        return [chunk.text for chunk in chunks_of(self.database, self.job.id)]


@pytest.fixture
def desk(engine: Engine) -> OutputDesk:
    """A desk in the engine's database."""
    return OutputDesk(engine)


def test_pieces_are_written_together_and_as_they_came(desk: OutputDesk) -> None:
    """What was said between two writes is one chunk; what PostgreSQL cannot keep is replaced."""
    for piece in ("a", "\0", "", "日本", "\n"):
        desk.current.stream(piece)
    desk.reporter.flush()
    desk.current.stream("\ud800")
    desk.reporter.flush()
    desk.reporter.flush()
    assert desk.chunks() == ["a␀日本\n", "?"]


def test_output_has_a_cap(desk: OutputDesk) -> None:
    """What is beyond the cap is dropped, whole characters are kept, and a last chunk without text says so."""
    for _ in range(3):
        desk.current.stream("ü" * 300)
        desk.reporter.flush()
    assert desk.chunks() == ["ü" * 300, "ü" * 212, None]


def test_an_outage_drops_nothing_of_the_output(desk: OutputDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written is written later, once, in its order."""

    def unavailable(*_: object) -> None:
        raise DatabaseUnavailableError

    with monkeypatch.context() as patch:
        patch.setattr(output_rows, "write_output", unavailable)
        for number in range(3):
            desk.current.stream(f"{number} ")
            assert not desk.reporter.flush()
    desk.current.stream("3")
    assert desk.reporter.flush()
    assert desk.chunks() == ["0 ", "1 ", "2 ", "3"]


def test_output_goes_with_its_job(desk: OutputDesk) -> None:
    """It can be replayed until the job is deleted."""
    desk.current.stream("a")
    desk.reporter.flush()
    set_status(desk.database, desk.job.id, JobStatus.COMPLETED)
    assert desk.chunks() == ["a"]
    with desk.database.autocommit() as connection:
        cleaning.delete_final(connection, [desk.job.id])
    assert desk.chunks() == []
    desk.current.stream("late")
    assert desk.reporter.flush()
    assert desk.chunks() == []


def test_readers_hear_all_of_it_and_the_end(desk: OutputDesk) -> None:
    """Whoever comes early, late, or from a place hears the rest once, and then that it is over."""
    hub = OutputHub(
        desk.database,
        chunk=lambda chunk: f"{chunk.fence}.{chunk.chunk} {chunk.text}\n".encode(),
        end=lambda status: f"end {status}\n".encode(),
        silence=b"idle\n",
        is_good=lambda key: key != "bad",
    )
    early, other, late, bad = Heard(), Heard(), Heard(), Heard()
    for heard in (early, other):
        hub.add(Reader(desk.job.id, (0, 0), heard))
    hub.add(Reader(desk.job.id, (0, 0), bad, "bad"))
    desk.current.stream("a")
    desk.reporter.flush()
    wait_until(lambda: early.lines == other.lines == ["1.1 a"])
    wait_until(lambda: bad.is_over)
    desk.current.stream("b")
    desk.reporter.flush()
    hub.add(Reader(desk.job.id, (1, 1), late))
    wait_until(lambda: late.lines == ["1.2 b"])
    assert not early.is_over
    set_status(desk.database, desk.job.id, JobStatus.COMPLETED)
    wait_until(lambda: early.is_over and other.is_over and late.is_over)
    assert early.lines == other.lines == ["1.1 a", "1.2 b", "end completed"]
    assert late.lines == ["1.2 b", "end completed"]
    gone = Heard()
    hub.add(Reader(10**9, (0, 0), gone))
    wait_until(lambda: gone.lines == ["end None"] and gone.is_over)
