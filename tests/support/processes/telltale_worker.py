"""Runs every telltale job in a worker of its own; its standard error is the log of the test."""

from __future__ import annotations

from goqueue.config.settings import get_settings
from goqueue.instance import default
from goqueue.jobs import NewJob
from goqueue.observability.logging import configure_logging
from tests.support.engine import Engine
from tests.support.jobs import telltale_jobs
from tests.support.waiting import wait_until

SECRET = "hunter2-in-a-payload"


def main() -> None:
    """Create the jobs, run them to their ends, and stop."""
    configure_logging(get_settings())
    broker = default().broker
    telltale_jobs.declare()
    typed = f'{{"text": "{SECRET}"}}'
    call = f'{{"args": ["{SECRET}"], "kwargs": {{}}}}'
    jobs = [
        NewJob("default", name, call if broker.job_types[name].style == "call" else typed, max_retries=1)
        for name in sorted(broker.job_types)
    ]
    jobs += [
        NewJob("default", "unknown", typed),
        NewJob("default", "changed", f'{{"secret": {typed}}}'),
        NewJob("default", "raises", f'{{"text": {{"{SECRET}": 1}}}}'),
    ]
    # Nobody takes the one of an unknown type.
    unfinished = "SELECT 1 FROM jobs WHERE finished_at IS NULL AND type <> 'unknown'"
    with Engine(broker) as engine:
        default().creator.many(jobs)
        wait_until(lambda: engine.rows(unfinished) == [], 30, "all jobs to end")
        ends = engine.rows("SELECT status, count(*) FROM jobs GROUP BY 1 ORDER BY 1")
    broker.close()
    print(ends, flush=True)  # noqa: T201  (what the test reads)


if __name__ == "__main__":
    main()
