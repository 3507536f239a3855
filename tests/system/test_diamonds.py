"""Dependencies under fire: every child is released once, whoever dies."""

from __future__ import annotations

from pathlib import Path

import orjson

from goqueue.engine.graph_rows import NewNode
from goqueue.jobs import NewJob
from tests.support.jobs.chaos_jobs import QUEUE
from tests.support.processes.stack import FAST_LEASES, Stack
from tests.support.waiting import wait_until

DIAMONDS = 40
#: a → b, c → d
AFTER: list[tuple[int, ...]] = [(), (0,), (0,), (1, 2)]

WITNESS = """
    CREATE TABLE releases (job_id bigint);
    CREATE FUNCTION note_release() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO releases VALUES (NEW.id); RETURN NULL; END $$;
    CREATE TRIGGER note_release AFTER UPDATE ON jobs FOR EACH ROW
        WHEN (OLD.status = 'blocked' AND NEW.status = 'queued') EXECUTE FUNCTION note_release();
"""

EARLY = """
    SELECT child.id, parent.id FROM dependencies
    JOIN jobs AS parent ON parent.id = parent_id JOIN attempts AS child_run USING (job_id)
    JOIN jobs AS child ON child.id = job_id
    WHERE child_run.started_at < parent.finished_at OR parent_status IS DISTINCT FROM 'completed'
"""


def test_diamonds_under_sigkill_release_each_child_once(data_folder: Path) -> None:
    """Workers are killed three times under 40 diamonds: each child is released once, after its parents."""
    with Stack(data_folder, **FAST_LEASES) as stack:
        stack.collector.history.harmed_workers = set()
        with stack.database.autocommit() as connection:
            connection.exec_driver_sql(WITNESS)
        stack.scheduler()
        stack.workers(2)
        submit_diamonds(stack)
        for done in (15, 60, 110):
            wait_until(lambda: stack.count("completed") >= done, 20, f"{done} completed jobs")  # noqa: B023
            stack.kill(stack.worker_pids()[0])
            stack.worker()
        stack.wait_until_finished(40)
        report = stack.report()
        assert report.valid
        assert report.ok == DIAMONDS * len(AFTER)
        assert report.recovered >= 1
        released = "SELECT count(*), count(DISTINCT job_id) FROM releases"
        children = DIAMONDS * sum(bool(after) for after in AFTER)
        assert stack.rows(released) == [(children, children)]
        assert stack.rows(EARLY) == []
        assert stack.logged("job_was_left_blocked") == 0


def submit_diamonds(stack: Stack) -> None:
    """Create all diamonds, known to the collector."""
    history = stack.collector.history
    for _ in range(DIAMONDS):
        tokens = [stack.collector.new_token() for _ in AFTER]
        nodes = [
            NewNode(NewJob(QUEUE, "slow", orjson.dumps({"token": token, "seconds": 0.1}).decode()), after)
            for token, after in zip(tokens, AFTER, strict=True)
        ]
        created = stack.submitter.create_many(nodes)
        history.acknowledged.update(zip(tokens, [row.id for row in created], strict=True))
