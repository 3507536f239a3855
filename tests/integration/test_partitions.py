"""What docs/scaling.md says about partitions, run."""

from __future__ import annotations

import re
from pathlib import Path

import goqueue
from goqueue.config.settings import Settings
from goqueue.engine import cleaning_rows as cleaning
from tests.support.engine import QUICK, Engine, process_of

PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
BLOCKS: list[str] = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
RECIPE = next(block for block in BLOCKS if "PARTITION BY" in block)


def test_attempts_may_be_partitioned(settings: Settings) -> None:
    """On partitions, jobs run and retry, their attempts are told, and the cleaner deletes both."""
    with process_of(settings.model_copy(update=QUICK)) as broker:

        @goqueue.actor(queue="parts", max_retries=1, jitter=False)
        def second_time(value: int) -> int:
            if goqueue.current_job().attempt == 1:
                raise ValueError(value)
            return value

        with Engine(broker) as engine:
            before = goqueue.enqueue(second_time, {"value": 0})
            engine.wait_for(before)
            with broker.database.transaction() as connection:
                connection.exec_driver_sql(RECIPE)
            jobs = [before, *(goqueue.enqueue(second_time, {"value": number}) for number in range(250))]
            for job_id in jobs:
                engine.wait_for(job_id)
                assert [row[1] for row in engine.attempts(job_id)] == ["failed", "completed"]
            partitions = engine.rows("SELECT count(DISTINCT tableoid) FROM attempts")
            with broker.database.autocommit() as connection:
                deleted = cleaning.delete_completed(connection, age_seconds=0, limit=1000).jobs
            left = engine.rows("SELECT count(*) FROM attempts")
    assert (partitions, deleted, left) == ([(3,)], len(jobs), [(0,)])
