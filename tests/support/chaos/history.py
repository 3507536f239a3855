"""Collects a run's history: what clients tried, what the record and the side effects say, what was harmed."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from goqueue.db.database import Database
from goqueue.engine.create import JobCreator
from goqueue.errors import DatabaseUnavailableError
from goqueue.jobs import NewJob
from tests.support.chaos.checker import AttemptRow, Effect, Fault, History, JobRow
from tests.support.jobs.chaos_jobs import QUEUE

SAMPLE_SECONDS = 0.5

_JOBS = """
    SELECT id, payload->>'token', status, fence, extract(epoch FROM updated_at)::float, reason FROM jobs
    WHERE payload->>'token' IS NOT NULL
"""

_ATTEMPTS = """
    SELECT job_id, fence, outcome, worker_id, extract(epoch FROM started_at)::float,
           extract(epoch FROM finished_at)::float
    FROM attempts
"""


class Collector:
    """Keeps the history of a run while it goes on; a thread samples the final states.

    Args:
        effects: the side-effect log.
    """

    def __init__(self, database: Database, submitter: JobCreator, effects: Path) -> None:
        self._database = database
        self._submitter = submitter
        self._effects = effects
        self._harmed_pids: set[int] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample_on, name="sampler", daemon=True)
        self._thread.start()
        self.history = History()

    def close(self) -> None:
        """Stop sampling the record."""
        self._ended.set()
        self._thread.join(10)

    def new_token(self) -> str:
        """A name for a job that somebody is about to submit."""
        token = uuid.uuid4().hex
        self.history.attempted.add(token)
        return token

    def submit(self, type_name: str, count: int = 1, *, priority: int = 0, **payload: Any) -> list[int]:
        """Create jobs, all of one type; their ids. One statement, as a batch of a client.

        Raises:
            DatabaseUnavailableError: it is not known whether they exist; their tokens are remembered.
        """
        jobs, tokens = [], []
        for _ in range(count):
            token = self.new_token()
            text = orjson.dumps({"token": token, **payload}).decode()
            jobs.append(NewJob(queue=QUEUE, type=type_name, payload=text, priority=priority))
            tokens.append(token)
        ids = [self._submitter.one(jobs[0]).id] if count == 1 else self._submitter.many(jobs)
        self.history.acknowledged.update(zip(tokens, ids, strict=True))
        return ids

    def note_fault(self, kind: str, *, harmed_pids: Sequence[int] = ()) -> None:
        """Remember that something is being done to the stack now, and what is running."""
        self._harmed_pids.update(harmed_pids)
        try:
            rows = self._rows(
                "SELECT extract(epoch FROM clock_timestamp())::float, id FROM jobs "
                "RIGHT JOIN (VALUES (1)) AS one ON status = 'running'"
            )
        except DatabaseUnavailableError:
            return
        running = frozenset(row[1] for row in rows if row[1] is not None)
        self.history.faults.append(Fault(kind, rows[0][0], running))

    def finished(self) -> History:
        """The whole history of a run that is over."""
        self.sample()
        history = self.history
        history.jobs = self._jobs()
        history.attempts = [AttemptRow(*row) for row in self._rows(_ATTEMPTS)]
        history.effects = read_effects(self._effects)
        if history.harmed_workers is not None:
            workers = self._rows("SELECT id, pid FROM workers")
            history.harmed_workers = {row[0] for row in workers if row[1] in self._harmed_pids}
        return history

    def sample(self) -> None:
        """Look at the final states once."""
        finals = self.history.finals
        for job in self._jobs("AND finished_at IS NOT NULL"):
            before = finals.setdefault(job.id, job)
            if before != job:
                self.history.changed.append(f"job {job.id} changed after its end: {before} became {job}")
                finals[job.id] = job
        self._look_for_risen()

    def _look_for_risen(self) -> None:
        """Final jobs that are not final any more."""
        ids = list(self.history.finals)
        for row in self._rows(
            "SELECT id, status FROM jobs WHERE id = ANY(%s) AND finished_at IS NULL", (ids,)
        ):
            text = f"job {row[0]} was {self.history.finals.pop(row[0]).status} and is {row[1]} again"
            self.history.changed.append(text)

    def _sample_on(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            try:
                self.sample()
            except DatabaseUnavailableError:
                continue

    def _jobs(self, condition: str = "") -> list[JobRow]:
        return [JobRow(*row) for row in self._rows(f"{_JOBS} {condition}")]

    def _rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> Sequence[Any]:
        with self._database.autocommit() as connection:
            return connection.exec_driver_sql(sql, parameters).fetchall()


def read_effects(path: Path) -> list[Effect]:
    """The lines of a side-effect log."""
    effects = []
    for line in path.read_text().splitlines() if path.exists() else ():
        job_id, fence, attempt, pid, what, time = line.split()
        effects.append(Effect(int(job_id), int(fence), int(attempt), int(pid), what, float(time)))
    return effects
